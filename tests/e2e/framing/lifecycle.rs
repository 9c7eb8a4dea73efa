//! Connections from their first byte to their last: timeouts, limits, draining, and closing on request.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sentinel::listen::bind::Bound;
use sentinel::listen::refusal::Violation;
use sentinel::listen::{Event, Stop};

use super::Subject;
use super::subject::Recorder;
use crate::support::patience::PATIENCE;
use crate::support::sentinel::free_port;

const SHORT: Duration = Duration::from_millis(60);

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A byte on its way to a connection that ends resets it; what was answered before is there all the same.
    if let Err(error) = stream.read_to_end(&mut text) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8(text).unwrap()
}

/// Reads one whole answer of the recorder; `false` where the connection ends before it.
fn answered(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"ok\n") {
        match stream.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            Ok(_) => return false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                return false;
            }
        }
    }
    true
}

/// Reads one whole answer of the recorder.
fn one(stream: &mut TcpStream) {
    assert!(answered(stream), "the connection ended");
}

/// A connection that has been used once. Where a busy machine let it wait too long before that, another one.
fn used(address: SocketAddr) -> TcpStream {
    loop {
        let mut stream = connect(address);
        if stream.write_all(GET).is_ok() && answered(&mut stream) {
            return stream;
        }
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_head_that_dribbles_is_answered_408() {
    let recorder = Recorder::start(|settings| settings.header_timeout = SHORT);
    for first in [connect as fn(SocketAddr) -> TcpStream, used] {
        let mut stream = first(recorder.address());
        // One byte at a time does not buy more time.
        stream.set_read_timeout(Some(SHORT / 10)).unwrap();
        let mut head = b"GET / HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'a'));
        while stream
            .peek(&mut [0])
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        {
            // The listener may have closed since.
            let _ = stream.write_all(&[*head.next().unwrap()]);
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let answer = to_end(&mut stream);
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("head_timeout"),
            "{answer}"
        );
    }
    recorder.told(Event::Refused(Violation::HeadTimeout));
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let recorder = Recorder::start(|settings| settings.idle_timeout = SHORT);
    let mut unused = connect(recorder.address());
    assert_eq!(to_end(&mut unused), "");
    assert_eq!(to_end(&mut used(recorder.address())), "");
}

#[test]
fn a_request_in_flight_is_not_idle() {
    // Long enough for a busy machine to write a request on a connection that was just opened.
    let recorder = Recorder::start(|settings| settings.idle_timeout = 20 * SHORT);
    let mut waiting = connect(recorder.address());
    waiting.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // Another connection lives and dies of idleness meanwhile, twice.
    for _ in 0..2 {
        assert_eq!(to_end(&mut connect(recorder.address())), "");
    }
    recorder.release();
    one(&mut waiting);
}

#[test]
fn a_bad_pipelined_head_does_not_cancel_the_request_before_it() {
    let recorder = Recorder::start(|_| {});
    let mut stream = connect(recorder.address());
    stream
        .write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET /../ HTTP/1.1\r\n")
        .unwrap();
    let mut other = connect(recorder.address());
    other.write_all(b"GET /go HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    one(&mut other);
    let answers = to_end(&mut stream);
    assert!(
        answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 400 "),
        "{answers}"
    );
}

#[test]
fn the_handler_can_close_the_connection_after_its_answer() {
    let recorder = Recorder::start(|_| {});
    let mut stream = connect(recorder.address());
    stream.write_all(b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.write_all(GET).unwrap();
    let answer = to_end(&mut stream);
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[test]
fn draining_finishes_requests_and_closes_idle_connections() {
    // On a port that nobody else listens on once it is closed.
    let bound = Bound::for_workers(free_port(), 1).unwrap().remove(0);
    let recorder = Recorder::on(bound, 1000, |_| {});
    let (mut unused, mut idle, mut busy) = (
        connect(recorder.address()),
        used(recorder.address()),
        connect(recorder.address()),
    );
    busy.write_all(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        .unwrap();
    recorder.waits();
    let mut go = connect(recorder.address());
    recorder.handle.stop(Stop::Drain);
    assert_eq!(to_end(&mut idle), "");
    assert_eq!(to_end(&mut unused), "");
    // A connection that the kernel had taken before is either served or closed, never left hanging.
    let _ = go.write_all(b"GET /go HTTP/1.1\r\nHost: a\r\n\r\n");
    busy.write_all(b"hi").unwrap();
    let mut answered = Vec::new();
    let _ = go.read_to_end(&mut answered);
    if answered.is_empty() {
        recorder.release();
    }
    let answer = to_end(&mut busy);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"),
        "{answer}"
    );
    assert!(TcpStream::connect(recorder.address()).is_err());
    recorder.join();
}

#[test]
fn one_connection_too_many_is_told_so() {
    let recorder = Recorder::with_limit(1, |_| {});
    let mut first = connect(recorder.address());
    first.write_all(GET).unwrap();
    one(&mut first);
    let answer = to_end(&mut connect(recorder.address()));
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"),
        "{answer}"
    );
    assert!(answer.contains("error=connection_limit_reached"), "{answer}");
    drop(first);
    // The place is free once the listener saw the first one leave.
    loop {
        let mut next = connect(recorder.address());
        next.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        let _ = next.read_to_end(&mut answer);
        if answer.starts_with(b"HTTP/1.1 200 ") {
            break;
        }
    }
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let recorder = Recorder::start(|settings| settings.write_timeout = SHORT);
    let mut stream = connect(recorder.address());
    // Answers pile up until both socket buffers are full; then no byte moves, and the connection is ended.
    let many = GET.repeat(1000);
    while stream.write_all(&many).is_ok() {}
    recorder.told(Event::TimedOut);
}

#[test]
fn many_clients_are_served_by_several_workers() {
    let bounds = Bound::for_workers(free_port(), 2).unwrap();
    let address = bounds[0].address();
    let recorders: Vec<Recorder> = bounds
        .into_iter()
        .map(|bound| Recorder::on(bound, 100, |_| {}))
        .collect();
    // The system throws a coin for each of them.
    for asked in 1..=10_000 {
        let mut stream = connect(address);
        stream.write_all(GET).unwrap();
        one(&mut stream);
        let counts: Vec<usize> = recorders.iter().map(Recorder::count).collect();
        assert_eq!(counts.iter().sum::<usize>(), asked);
        if counts.iter().all(|count| *count > 0) {
            return;
        }
    }
    panic!("one of them got none");
}
