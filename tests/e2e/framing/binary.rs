//! The same cases through the whole binary: what reaches the gateway is one unambiguous message, or nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cases::{self, Verdict};
use super::{Split, Subject, run};
use crate::support::gateway::{Gateway, json};
use crate::support::sentinel::{Sentinel, free_port};
use crate::support::wire::Message;

struct Sidecar {
    listen: SocketAddr,
    gateway: Gateway,
    host: String,
    read: AtomicUsize,
    _sentinel: Sentinel,
}

impl Subject for Sidecar {
    fn address(&self) -> SocketAddr {
        self.listen
    }

    fn take_seen(&self, _client: SocketAddr) -> Vec<String> {
        let all = self.gateway.seen();
        let from = self.read.swap(all.len(), Ordering::SeqCst);
        all[from..].iter().map(|message| self.line(message)).collect()
    }
}

impl Sidecar {
    fn line(&self, message: &Message) -> String {
        let named = |name: &str| {
            message
                .headers
                .iter()
                .filter(|(field, _)| field.eq_ignore_ascii_case(name))
                .count()
        };
        assert!(
            named("content-length") + named("transfer-encoding") <= 1,
            "two framings: {message:?}"
        );
        assert_eq!(named("host"), 1, "{message:?}");
        assert_eq!(message.header("host"), Some(self.host.as_str()), "{message:?}");
        for gone in ["connection", "upgrade", "te", "trailer", "expect", "http2-settings"] {
            assert_eq!(named(gone), 0, "{gone} was passed on: {message:?}");
        }
        assert!(message.trailers.is_empty(), "{message:?}");
        let target = message.start.strip_suffix(" HTTP/1.1").unwrap();
        format!("{target} {}", message.text())
    }
}

#[test]
fn nothing_ambiguous_is_passed_on() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let gateway = runtime.block_on(Gateway::answering(None, |_, _| json(200, "{}")));
    let listen = free_port();
    let host = gateway.address.to_string();
    let sentinel = Sentinel::start(&format!(
        "listeners: {{ admin: {admin} }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{host}', allow_private: true }}
routes:
  - {{ name: checkout, listen: {listen}, dialect: stripe, gateways: [stripe] }}
",
        admin = free_port(),
    ));
    let sidecar = Sidecar {
        listen,
        gateway,
        host,
        read: AtomicUsize::new(0),
        _sentinel: sentinel,
    };
    let mut failed = Vec::new();
    for (index, case) in cases::all().iter().enumerate() {
        // A body that breaks off while it is streamed has already begun at the gateway; it never completes there, so
        // it is never seen, but its own answer depends on what the gateway was doing.
        if matches!(case.verdict, Verdict::Broken(_)) {
            continue;
        }
        for split in [Split::Whole, Split::Random(index as u64 + 1)] {
            let ran = std::panic::AssertUnwindSafe(|| run(&sidecar, case, split));
            if std::panic::catch_unwind(ran).is_err() {
                failed.push((case.name.clone(), split));
            }
        }
    }
    assert!(failed.is_empty(), "{} cases: {failed:#?}", failed.len());
}

#[test]
fn a_broken_body_never_completes_at_the_gateway() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let gateway = runtime.block_on(Gateway::answering(None, |_, _| json(200, "{}")));
    let listen = free_port();
    let _sentinel = Sentinel::start(&format!(
        "listeners: {{ admin: {admin} }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{host}', allow_private: true }}
routes:
  - {{ name: checkout, listen: {listen}, dialect: stripe, gateways: [stripe] }}
",
        admin = free_port(),
        host = gateway.address,
    ));
    for case in cases::all() {
        if let Verdict::Broken(expected) = &case.verdict {
            let before = gateway.seen().len();
            let (_, answer) = super::talk(listen, &[&case.bytes[..], super::END].concat(), Split::Whole);
            let whole = gateway.seen().len() - before;
            assert_eq!(
                whole,
                expected.len() - 1,
                "case {:?}: {:?}",
                case.name,
                gateway.seen().last()
            );
            let (found, _) = super::statuses(&answer);
            assert!(
                found.last().is_some_and(|status| *status >= 400),
                "case {:?}: {found:?}",
                case.name
            );
        }
    }
}
