//! Floods of raw HTTP/2 frames: each ends in a closed connection or in a client that is made to wait, never in work
//! without bound, and another client is served meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sentinel::listen::Event;

use super::subject::Recorder;
use super::{END, Split, Subject, talk};
use crate::support::patience::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// A GET of `/` at `a`, as HPACK: three indexed fields, and a literal authority (RFC 7541 6.1, 6.2.1).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
/// The same as a POST.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .unwrap();
    stream
}

/// Sends rounds until the listener closes, at most `rounds`. Gives how many were taken, and the codes of GOAWAY frames.
fn flood(address: SocketAddr, rounds: u32, mut round: impl FnMut(u32) -> Vec<u8>) -> (u32, Vec<u32>) {
    let mut stream = connect(address);
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut codes, mut head) = (Vec::new(), [0u8; 9]);
        while reader.read_exact(&mut head).is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if reader.read_exact(&mut payload).is_err() {
                break;
            }
            if head[3] == GOAWAY {
                codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        codes
    });
    let mut sent = 0;
    while sent < rounds && stream.write_all(&round(sent)).is_ok() {
        sent += 1;
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    (sent, reading.join().unwrap())
}

fn still_serves(recorder: &Recorder) {
    let (_, answer) = talk(recorder.address(), END, Split::Whole);
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

/// RFC 9113 7: ENHANCE_YOUR_CALM.
const CALM: u32 = 11;

#[test]
fn rapid_reset_ends_the_connection_after_a_bounded_number_of_requests() {
    let recorder = Recorder::start(|_| {});
    let (sent, codes) = flood(recorder.address(), 100_000, |n| {
        let stream = 2 * n + 1;
        [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, GET),
            frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()),
        ]
        .concat()
    });
    assert!(sent < 100_000, "every reset was taken");
    // The close may overtake the GOAWAY; when it came, it says why.
    assert!(codes.is_empty() || codes.contains(&CALM), "{codes:?}");
    assert!(
        recorder.count() < 1000,
        "{} requests reached the handler",
        recorder.count()
    );
    still_serves(&recorder);
}

#[test]
fn a_flood_of_continuations_ends_the_connection() {
    let recorder = Recorder::start(|_| {});
    // A literal header without indexing, never finished.
    let (sent, codes) = flood(recorder.address(), 100_000, |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, GET),
        _ => frame(CONTINUATION, 0, 1, &[&[0, 1, b'x', 100][..], &[b'y'; 100]].concat()),
    });
    assert!(sent < 100_000, "every frame was taken, {codes:?}");
    assert_eq!(recorder.count(), 0);
    still_serves(&recorder);
}

#[test]
fn a_flood_of_empty_continuations_ends_the_connection() {
    let recorder = Recorder::start(|_| {});
    let (sent, _) = flood(recorder.address(), 200_000, |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, GET),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
    assert!(sent < 200_000, "every frame was taken");
    assert_eq!(recorder.count(), 0);
    still_serves(&recorder);
}

#[test]
fn a_flood_of_empty_data_ends_the_connection() {
    let recorder = Recorder::start(|_| {});
    let (sent, codes) = flood(recorder.address(), 200_000, |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, POST),
        _ => frame(DATA, 0, 1, &[]),
    });
    assert!(sent < 200_000, "every frame was taken, {codes:?}");
    still_serves(&recorder);
}

/// A client that asks for answers and reads none is made to wait, and then ended.
fn unread(kind: u8, payload: &'static [u8]) {
    let recorder = Recorder::start(|settings| settings.write_timeout = Duration::from_millis(200));
    let mut stream = connect(recorder.address());
    let many = frame(kind, 0, 0, payload).repeat(1000);
    let mut sent = 0;
    while sent < 2000 && stream.write_all(&many).is_ok() {
        sent += 1;
    }
    assert!(
        sent < 2000,
        "{} MB were taken without an answer being read",
        sent * many.len() / 1_000_000
    );
    recorder.told(Event::TimedOut);
    still_serves(&recorder);
}

#[test]
fn a_flood_of_pings_is_held_back() {
    unread(PING, &[0; 8]);
}

#[test]
fn a_flood_of_settings_is_held_back() {
    // SETTINGS_HEADER_TABLE_SIZE = 4096.
    unread(SETTINGS, &[0, 1, 0, 0, 0x10, 0]);
}
