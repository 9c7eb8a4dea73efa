//! Names resolved so far, and in which order their addresses are tried.
//!
//! A resolver's outage is not the gateway's (envoy#2691): an answer that has grown old is used while a new one is asked
//! for in the background, and for as long as none comes. Connections rotate over the addresses; one that did not answer
//! stands behind the others for a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Failure;
use super::connect::ConnectError;
use crate::config::model::Endpoint;
use crate::telemetry::UpstreamMetrics;

/// How long an answer is used before it is asked for again. Gateways move their addresses in minutes, not seconds; an
/// address that stops answering is left at once anyway.
const TTL: Duration = Duration::from_secs(30);

/// How long an address that did not answer stands behind the others.
const SHUNNED: Duration = Duration::from_secs(30);

/// How long the resolver may take: glibc's own patience is 2 tries of 5 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who knows the addresses of a name.
pub trait Resolve {
    /// The addresses of a host.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + 'a>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + 'a>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// One worker's names.
pub(super) struct Names {
    resolver: Box<dyn Resolve>,
    known: RefCell<HashMap<(String, u16), Known>>,
}

struct Known {
    addresses: Vec<SocketAddr>,
    asked: Instant,
    asking: bool,
    /// Where the next connection begins.
    next: usize,
    shunned: Vec<(SocketAddr, Instant)>,
}

impl Names {
    pub(super) fn new(resolver: Box<dyn Resolve>) -> Rc<Self> {
        Rc::new(Self {
            resolver,
            known: RefCell::default(),
        })
    }

    /// The addresses to try, in order.
    pub(super) async fn addresses(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        metrics: Option<&Arc<UpstreamMetrics>>,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        let key = (endpoint.host.clone(), endpoint.port);
        let now = Instant::now();
        if !endpoint.addresses.is_empty() {
            let mut known = self.known.borrow_mut();
            let fixed = known.entry(key).or_insert_with(|| Known::new(Vec::new(), now));
            if fixed.addresses != endpoint.addresses {
                *fixed = Known::new(endpoint.addresses.clone(), now);
            }
            return Ok(fixed.order(now));
        }
        let ask = match self.known.borrow_mut().get_mut(&key) {
            None => None,
            Some(known) if now.duration_since(known.asked) < TTL || known.asking => return Ok(known.order(now)),
            Some(known) => {
                known.asking = true;
                Some(known.order(now))
            }
        };
        match ask {
            None => {
                let found = self.lookup(endpoint, metrics).await?;
                let mut known = Known::new(found, Instant::now());
                let order = known.order(now);
                self.known.borrow_mut().insert(key, known);
                Ok(order)
            }
            Some(stale) => {
                let (names, endpoint, metrics) = (Rc::clone(self), endpoint.clone(), metrics.map(Arc::clone));
                tokio::task::spawn_local(async move {
                    let found = names.lookup(&endpoint, metrics.as_ref()).await;
                    names.learn(&key, found, metrics.as_deref());
                });
                Ok(stale)
            }
        }
    }

    fn learn(
        &self,
        key: &(String, u16),
        found: Result<Vec<SocketAddr>, ConnectError>,
        metrics: Option<&UpstreamMetrics>,
    ) {
        let mut known = self.known.borrow_mut();
        let Some(known) = known.get_mut(key) else { return };
        known.asking = false;
        known.asked = Instant::now();
        match found {
            Ok(found) => known.addresses = found,
            Err(error) => {
                tracing::warn!(
                    host = key.0,
                    note = error.note,
                    "a gateway's known addresses are used on"
                );
                if let Some(metrics) = metrics {
                    metrics.looked_up("stale");
                }
            }
        }
    }

    /// Puts an address that did not answer behind the others.
    pub(super) fn shun(&self, endpoint: &Endpoint, address: SocketAddr) {
        let key = (endpoint.host.clone(), endpoint.port);
        if let Some(known) = self.known.borrow_mut().get_mut(&key) {
            let now = Instant::now();
            known
                .shunned
                .retain(|(other, at)| *other != address && now.duration_since(*at) < SHUNNED);
            known.shunned.push((address, now));
        }
    }

    async fn lookup(
        &self,
        endpoint: &Endpoint,
        metrics: Option<&Arc<UpstreamMetrics>>,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        let asked = self.resolver.resolve(&endpoint.host, endpoint.port);
        let found = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(found)) => allowed(endpoint, &found),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the resolver did not answer within {PATIENCE:?}")),
        };
        if let Some(metrics) = metrics {
            metrics.looked_up(if found.is_ok() { "ok" } else { "failed" });
        }
        found.map_err(|note| ConnectError {
            failure: Failure::Dns,
            note: format!("{}: {note}", endpoint.host),
        })
    }
}

impl Known {
    fn new(addresses: Vec<SocketAddr>, now: Instant) -> Self {
        Self {
            addresses,
            asked: now,
            asking: false,
            next: 0,
            shunned: Vec::new(),
        }
    }

    fn order(&mut self, now: Instant) -> Vec<SocketAddr> {
        let mut order = self.addresses.clone();
        if order.len() > 1 {
            order.rotate_left(self.next % self.addresses.len());
            self.next = self.next.wrapping_add(1);
            let shunned = |address: &SocketAddr| {
                let recent =
                    |(other, at): &(SocketAddr, Instant)| other == address && now.duration_since(*at) < SHUNNED;
                self.shunned.iter().any(recent)
            };
            order.sort_by_key(shunned);
        }
        order
    }
}

fn allowed(endpoint: &Endpoint, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    if found.is_empty() {
        return Err("has no address".to_owned());
    }
    let usable = |address: &&SocketAddr| endpoint.allow_private || is_public(address.ip());
    let allowed: Vec<SocketAddr> = found.iter().filter(usable).copied().collect();
    if allowed.is_empty() {
        return Err("resolves to private addresses only; set allow_private to connect to them".to_owned());
    }
    Ok(allowed)
}

/// Whether an address may belong to a public gateway. A name that suddenly resolves to loopback, to a private network
/// or to a cloud's metadata service is an attack or a mistake (safety.md 5.3).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                let first = v6.segments()[0];
                !(v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || first & 0xfe00 == 0xfc00
                    || first & 0xffc0 == 0xfe80)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    /// A resolver that can go away, and counts who asks.
    #[derive(Clone, Default)]
    struct Scripted {
        answer: Rc<RefCell<Option<Vec<SocketAddr>>>>,
        asked: Rc<Cell<usize>>,
    }

    impl Resolve for Scripted {
        fn resolve<'a>(
            &'a self,
            _: &'a str,
            _: u16,
        ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + 'a>> {
            self.asked.set(self.asked.get() + 1);
            let answer = self.answer.borrow().clone();
            Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::TimedOut.into()) })
        }
    }

    fn endpoint() -> Endpoint {
        let yaml = "gateways: { g: { dialect: stripe, endpoint: 'https://api.example', allow_private: true } }\n\
                    routes: [{ name: r, listen: '127.0.0.1:9', dialect: stripe, gateways: [g] }]";
        let config = crate::config::load::parse(std::path::Path::new("test.yaml"), yaml).unwrap();
        config.gateways["g"].endpoint.clone()
    }

    async fn local(test: impl Future<Output = ()>) {
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolvers_outage_changes_nothing_for_a_known_name() {
        local(async {
            let resolver = Scripted::default();
            *resolver.answer.borrow_mut() = Some(vec![address(1)]);
            let names = Names::new(Box::new(resolver.clone()));
            let endpoint = endpoint();
            assert_eq!(names.addresses(&endpoint, None).await.unwrap(), [address(1)]);
            *resolver.answer.borrow_mut() = None;
            for hours in 1..4 {
                tokio::time::advance(Duration::from_secs(3600)).await;
                assert_eq!(names.addresses(&endpoint, None).await.unwrap(), [address(1)]);
                tokio::task::yield_now().await;
                assert_eq!(resolver.asked.get(), 1 + hours, "it is asked again each time");
            }
            // The resolver is back with a new address: the next but one connection knows it.
            *resolver.answer.borrow_mut() = Some(vec![address(2)]);
            tokio::time::advance(TTL).await;
            assert_eq!(names.addresses(&endpoint, None).await.unwrap(), [address(1)]);
            tokio::task::yield_now().await;
            assert_eq!(names.addresses(&endpoint, None).await.unwrap(), [address(2)]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_was_never_resolved_fails_with_its_resolver() {
        local(async {
            let names = Names::new(Box::new(Scripted::default()));
            let error = names.addresses(&endpoint(), None).await.unwrap_err();
            assert_eq!(error.failure, Failure::Dns);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn connections_rotate_and_a_silent_address_stands_behind() {
        local(async {
            let resolver = Scripted::default();
            *resolver.answer.borrow_mut() = Some(vec![address(1), address(2), address(3)]);
            let names = Names::new(Box::new(resolver));
            let endpoint = endpoint();
            let mut firsts = Vec::new();
            for _ in 0..3 {
                firsts.push(names.addresses(&endpoint, None).await.unwrap()[0]);
            }
            assert_eq!(firsts, [address(1), address(2), address(3)]);
            names.shun(&endpoint, address(1));
            for _ in 0..6 {
                let order = names.addresses(&endpoint, None).await.unwrap();
                assert_eq!(order[2], address(1));
            }
        })
        .await;
    }

    #[test]
    fn private_and_metadata_addresses_are_not_public() {
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["54.187.174.169", "2600:1f14::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
