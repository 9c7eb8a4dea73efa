//! From a configured endpoint to an open, verified connection. The client of a request has no say in any of it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Failure;
use super::transport::Stream;
use crate::config::model::Endpoint;

/// How long a resolved name is used before it is asked for again. Gateways move their addresses in minutes, not
/// seconds; an address that stops answering is left at once anyway.
const DNS_TTL: Duration = Duration::from_secs(30);

/// A failed connection: nothing of any request was sent.
#[derive(Debug)]
pub(super) struct ConnectError {
    pub(super) failure: Failure,
    pub(super) note: String,
}

impl ConnectError {
    fn new(failure: Failure, note: impl std::fmt::Display) -> Self {
        Self {
            failure,
            note: note.to_string(),
        }
    }
}

/// Names resolved so far. When asking fails, the last answer is used: a resolver's outage is not the gateway's.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<(String, u16), (Vec<SocketAddr>, Instant)>,
}

impl Names {
    pub(super) fn fresh(&self, host: &str, port: u16, now: Instant) -> Option<Vec<SocketAddr>> {
        let (addresses, at) = self.known.get(&(host.to_owned(), port))?;
        (now.duration_since(*at) < DNS_TTL).then(|| addresses.clone())
    }

    pub(super) fn stale(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        self.known
            .get(&(host.to_owned(), port))
            .map(|(addresses, _)| addresses.clone())
    }

    pub(super) fn learn(&mut self, host: &str, port: u16, addresses: Vec<SocketAddr>, now: Instant) {
        self.known.insert((host.to_owned(), port), (addresses, now));
    }

    /// Puts an address that did not answer behind the others.
    pub(super) fn demote(&mut self, host: &str, port: u16, failed: SocketAddr) {
        if let Some((addresses, _)) = self.known.get_mut(&(host.to_owned(), port))
            && let Some(at) = addresses.iter().position(|address| *address == failed)
        {
            addresses[at..].rotate_left(1);
        }
    }
}

/// Asks the system's resolver.
pub(super) async fn lookup(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|error| ConnectError::new(Failure::Dns, format!("{}: {error}", endpoint.host)))?;
    let all: Vec<SocketAddr> = found.collect();
    let allowed: Vec<SocketAddr> = all
        .iter()
        .copied()
        .filter(|address| endpoint.allow_private || is_public(address.ip()))
        .collect();
    match (all.is_empty(), allowed.is_empty()) {
        (true, _) => Err(ConnectError::new(
            Failure::Dns,
            format!("{} has no address", endpoint.host),
        )),
        (false, true) => Err(ConnectError::new(
            Failure::Dns,
            format!(
                "{} resolves to private addresses only; set allow_private to connect to them",
                endpoint.host
            ),
        )),
        (false, false) => Ok(allowed),
    }
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

/// Opens a connection to one address.
pub(super) async fn open(
    endpoint: &Endpoint,
    tls: Option<&Arc<rustls::ClientConfig>>,
    address: SocketAddr,
) -> Result<Stream, ConnectError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| ConnectError::new(Failure::Connect, format!("{address}: {error}")))?;
    stream
        .set_nodelay(true)
        .map_err(|error| ConnectError::new(Failure::Connect, error))?;
    let Some(tls) = tls else {
        return Ok(Stream::Plain(stream));
    };
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| ConnectError::new(Failure::Tls, error))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
        .map_err(|error| ConnectError::new(Failure::Tls, format!("{}: {error}", endpoint.host)))?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// The TLS settings of one endpoint: verified always, TLS 1.2 at least, sessions resumed, no early data (it can be
/// replayed).
///
/// # Errors
/// When a configured root is not one.
pub(super) fn tls_config(endpoint: &Endpoint) -> Result<Option<Arc<rustls::ClientConfig>>, ConnectError> {
    if !endpoint.tls {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::new(Failure::Tls, error))?;
    let mut config = match &endpoint.roots {
        None => builder.with_webpki_roots().with_no_client_auth(),
        Some(own) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in &own.certificates {
                roots
                    .add(certificate.clone())
                    .map_err(|error| ConnectError::new(Failure::Tls, format!("{}: {error}", own.path.display())))?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// Makes the cryptography library do its start-up work now. Its first use costs tens of milliseconds, which the first
/// payment should not pay.
pub fn warm_up() {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut bytes = [0u8; 32];
    if provider.secure_random.fill(&mut bytes).is_err() {
        tracing::warn!("the cryptography library has no randomness yet");
    }
    for group in provider.kx_groups.iter().take(1) {
        if group.start().is_err() {
            tracing::warn!("the cryptography library cannot make a key yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn an_address_that_failed_goes_behind_the_others() {
        let now = Instant::now();
        let address = |last: u8| SocketAddr::from(([192, 0, 2, last], 443));
        let mut names = Names::default();
        names.learn("a", 443, vec![address(1), address(2), address(3)], now);
        names.demote("a", 443, address(1));
        assert_eq!(
            names.fresh("a", 443, now),
            Some(vec![address(2), address(3), address(1)])
        );
        assert_eq!(names.fresh("a", 443, now + DNS_TTL), None);
        assert!(names.stale("a", 443).is_some());
    }
}
