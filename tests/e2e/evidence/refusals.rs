//! HTTP/2's own words about what was not processed (RFC 9113 8.7), and what is none of them.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sentinel::upstream::{Evidence, Progress};

use super::client::{self, exchange, worker};
use super::gateway::frame;
use crate::support::patience::PATIENCE;
use crate::support::tls::Authority;

/// Answers the first whole request with these frames, then reads on; what the client's evidence says.
fn evidence_of(frames: Vec<u8>, close: bool) -> Evidence {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(dir.path());
    let tls = authority.server(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let gateway = std::thread::spawn(move || serve(&listener, &tls, &frames, close));
    let evidence = worker(async {
        let gateway = client::gateway(address, &authority.ca, "protocol: h2");
        let client = client::Client::new();
        let failed = exchange(&client, &gateway, "amount=1", PATIENCE, Duration::ZERO)
            .await
            .unwrap_err();
        failed.error.evidence
    });
    gateway.join().expect("the gateway");
    evidence
}

fn serve(listener: &TcpListener, tls: &Arc<ServerConfig>, frames: &[u8], close: bool) {
    use std::io::Read as _;
    let (socket, _) = listener.accept().expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(tls)).expect("a session"), socket);
    stream.write_all(&frame(4, 0, 0, &[])).expect("settings");
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    // The commit byte comes as the one frame that is DATA of one byte with END_STREAM on stream 1.
    let last = [0, 0, 1, 0, 1, 0, 0, 0, 1];
    while !bytes.windows(last.len()).any(|window| window == last) {
        let length = stream.read(&mut chunk).expect("the request");
        assert!(length > 0, "the request broke off");
        bytes.extend_from_slice(&chunk[..length]);
    }
    stream.write_all(&frame(4, 1, 0, &[])).expect("an acknowledgement");
    stream.write_all(frames).expect("frames");
    stream.flush().expect("a flush");
    if !close {
        while matches!(stream.read(&mut chunk), Ok(1..)) {}
    }
}

/// RST_STREAM with this code.
fn reset(code: u8) -> Vec<u8> {
    frame(3, 0, 1, &[0, 0, 0, code])
}

/// GOAWAY with this last stream and code.
fn farewell(last: u32, code: u32) -> Vec<u8> {
    frame(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

#[test]
fn a_refused_stream_was_not_processed() {
    let evidence = evidence_of(reset(7), false);
    assert!(evidence.refused_by_peer && evidence.http2);
    assert_eq!(evidence.progress, Progress::Committed);
}

#[test]
fn a_farewell_below_our_stream_says_that_it_was_not_processed() {
    let evidence = evidence_of(farewell(0, 0), false);
    assert!(evidence.refused_by_peer);
}

#[test]
fn a_farewell_that_includes_our_stream_says_nothing() {
    for (last, code) in [(1, 0), (1, 2), (0x7fff_ffff, 0)] {
        let evidence = evidence_of(farewell(last, code), true);
        assert!(!evidence.refused_by_peer, "{last} {code}: {evidence:?}");
        assert_eq!(evidence.progress, Progress::Committed);
    }
}

#[test]
fn any_other_reset_says_nothing() {
    // INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED.
    for code in [2, 8, 11, 13] {
        let evidence = evidence_of(reset(code), false);
        assert!(!evidence.refused_by_peer, "{code}: {evidence:?}");
        assert_eq!(evidence.progress, Progress::Committed);
    }
}
