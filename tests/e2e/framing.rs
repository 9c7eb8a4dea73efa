//! Message framing over raw sockets: what has one reading reaches the handler as exactly that, and what has two is
//! refused before anybody saw it.
//!
//! A case is bytes and a verdict. Each is sent whole, byte by byte, and in random pieces; the verdict must not change.
//! Behind every case stands one more request, `GET /end`: after an accepted case it must arrive as the next request,
//! which proves that both sides agree where the case ended; after a refused one it must never arrive.

mod binary;
mod cases;
mod flood;
mod http2;
mod lifecycle;
mod subject;
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::AssertUnwindSafe;

use proptest::prelude::*;

use cases::{Case, Verdict};
use subject::Recorder;

use crate::support::patience::PATIENCE;

/// What the cases run against: a listener, or later the whole binary with a recording gateway behind it.
pub trait Subject {
    /// Where to connect.
    fn address(&self) -> SocketAddr;
    /// The requests seen from a client, in order, each as `METHOD target body`, with `!` for a body that broke off.
    fn take_seen(&self, client: SocketAddr) -> Vec<String>;
}

const END: &[u8] = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A small generator for split points; its seed is printed with a failure.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// How bytes are cut into writes.
#[derive(Clone, Copy, Debug)]
enum Split {
    Whole,
    Bytes,
    Random(u64),
}

/// Sends, and gives what was answered until the connection closed.
fn talk(address: SocketAddr, bytes: &[u8], split: Split) -> (SocketAddr, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut random = Random(if let Split::Random(seed) = split { seed } else { 0 });
    let mut rest = bytes;
    while !rest.is_empty() {
        let take = match split {
            Split::Whole => rest.len(),
            Split::Bytes => 1,
            Split::Random(_) => 1 + random.below(rest.len().min(40)),
        };
        // The listener may have closed already; what it answered is what counts.
        if stream.write_all(&rest[..take]).is_err() {
            break;
        }
        rest = &rest[take..];
    }
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if let Err(error) = read {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "{error}: {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    (stream.local_addr().unwrap(), answer)
}

/// The status lines of a stream of answers, and the head of the last.
fn statuses(mut answers: &[u8]) -> (Vec<u16>, String) {
    let (mut found, mut last) = (Vec::new(), String::new());
    while let Some(end) = answers.windows(4).position(|w| w == b"\r\n\r\n") {
        last = String::from_utf8_lossy(&answers[..end]).to_lowercase();
        let status: u16 = last[9..12].parse().unwrap();
        found.push(status);
        let length = last
            .lines()
            .find_map(|line| {
                line.strip_prefix("content-length: ")
                    .map(|n| n.parse::<usize>().unwrap())
            })
            .unwrap_or(0);
        let length = if status == 100 { 0 } else { length };
        answers = &answers[(end + 4 + length).min(answers.len())..];
    }
    (found.into_iter().filter(|status| *status != 100).collect(), last)
}

fn run(subject: &dyn Subject, case: &Case, split: Split) {
    let bytes = [&case.bytes[..], END].concat();
    let (client, answer) = talk(subject.address(), &bytes, split);
    let seen = subject.take_seen(client);
    let (found, last) = statuses(&answer);
    let context = || {
        format!(
            "case {:?}, {split:?}: seen {seen:?}, answered {:?}",
            case.name,
            String::from_utf8_lossy(&answer)
        )
    };
    match &case.verdict {
        Verdict::Pass(expected) => {
            let mut expected: Vec<&str> = expected.clone();
            expected.push("GET /end ");
            assert_eq!(seen, expected, "{}", context());
            assert_eq!(found, vec![200; expected.len()], "{}", context());
        }
        Verdict::Last(expected) => {
            assert_eq!(seen, *expected, "{}", context());
            assert_eq!(found, vec![200; expected.len()], "{}", context());
        }
        Verdict::Refuse(status, code, before) => {
            assert_eq!(seen, *before, "{}", context());
            let mut expected = vec![200; before.len()];
            expected.push(*status);
            assert_eq!(found, expected, "{}", context());
            assert!(
                last.contains(&format!(
                    "proxy-status: sentinel; error=http_request_error; details=\"{code}\""
                )),
                "{}",
                context()
            );
            assert!(last.contains("connection: close"), "{}", context());
        }
        Verdict::Silent => {
            assert!(seen.is_empty() && answer.is_empty(), "{}", context());
        }
        Verdict::Broken(expected) => {
            assert_eq!(seen, *expected, "{}", context());
            assert!(seen.last().unwrap().ends_with('!'), "{}", context());
            assert_eq!(found.len(), expected.len(), "{}", context());
            assert_eq!(found.last(), Some(&400), "{}", context());
            assert!(last.contains("connection: close"), "{}", context());
        }
    }
}

#[test]
fn every_case_has_one_verdict_however_it_is_split() {
    let subject = Recorder::start(|_| {});
    let cases = cases::all();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    println!("{} cases", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "case names repeat");
    let mut failed = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let seed = index as u64;
        for split in [
            Split::Whole,
            Split::Bytes,
            Split::Random(seed + 1),
            Split::Random(seed + 1000),
        ] {
            let slow = matches!(split, Split::Bytes) && case.bytes.len() > 4000;
            if !slow && std::panic::catch_unwind(AssertUnwindSafe(|| run(&subject, case, split))).is_err() {
                failed.push((&case.name, split));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} cases: {failed:#?}",
        failed.len(),
        cases.len()
    );
}

/// One valid request of a pipeline, and how it must be seen.
fn valid() -> impl Strategy<Value = (Vec<u8>, String)> {
    let body = proptest::collection::vec(any::<u8>().prop_map(|b| b"GET /x\r\n: HTP1."[b as usize % 15]), 0..200);
    let path = "/[a-z0-9._~-]{1,20}[a-z](\\?[a-z]=[a-z\\[\\]]{0,9})?";
    (0..3u8, path, body, proptest::collection::vec(1usize..50, 1..6)).prop_map(|(kind, path, body, sizes)| {
        let text = String::from_utf8(body.clone()).unwrap();
        match kind {
            0 => (
                format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
                format!("GET {path} "),
            ),
            1 => {
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: a\r\ncontent-length:{}\r\n\r\n",
                    body.len()
                );
                ([head.as_bytes(), &body].concat(), format!("POST {path} {text}"))
            }
            _ => {
                let mut out =
                    format!("PUT {path} HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
                let (mut rest, mut sizes) = (&body[..], sizes.iter().cycle());
                while !rest.is_empty() {
                    let take = (*sizes.next().unwrap()).min(rest.len());
                    out.extend(format!("{take:x}\r\n").into_bytes());
                    out.extend(&rest[..take]);
                    out.extend(b"\r\n");
                    rest = &rest[take..];
                }
                out.extend(b"0\r\n\r\n");
                (out, format!("PUT {path} {text}"))
            }
        }
    })
}

#[test]
fn guard_and_hyper_agree_on_the_boundaries_of_every_valid_pipeline() {
    let subject = Recorder::start(|_| {});
    proptest!(ProptestConfig::with_cases(128), |(requests in proptest::collection::vec(valid(), 1..8), seed in any::<u64>())| {
        let mut bytes: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        bytes.extend(END);
        let (client, _) = talk(subject.address(), &bytes, Split::Random(seed));
        let mut expected: Vec<String> = requests.into_iter().map(|(_, seen)| seen).collect();
        expected.push("GET /end ".to_owned());
        prop_assert_eq!(subject.take_seen(client), expected);
    });
}
