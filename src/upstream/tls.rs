//! TLS towards a gateway: verified always, TLS 1.2 at least, sessions resumed, no early data (it can be replayed).
//!
//! Pins (RFC 7469) come beside the usual verification, never instead of it. They are held against the path that was
//! verified, not against what the server sent: a server may send certificates that have no part in the path.
//!
//! OCSP staples are not checked: rustls does not (safety.md 5.5).

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use sha2::{Digest as _, Sha256};

use super::Failure;
use super::connect::ConnectError;
use crate::config::model::{Endpoint, Pin, PinMode, Protocol};

/// What a gateway is trusted by.
#[derive(Clone)]
pub(super) struct Trust {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    pins: Arc<[Pin]>,
    mode: PinMode,
    until: Option<i64>,
    anchors: Arc<[TrustAnchor<'static>]>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// What an endpoint is trusted by; `None` for plaintext.
    ///
    /// # Errors
    /// When a root, the client certificate or the host's name cannot be used.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Option<Self>, ConnectError> {
        if !endpoint.tls {
            return Ok(None);
        }
        let unusable = |error: &dyn std::fmt::Display| ConnectError::new(Failure::Tls, error);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let mut roots = RootCertStore::empty();
        let builder = match &endpoint.roots {
            None => {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                builder.with_webpki_roots()
            }
            Some(own) => {
                for certificate in &own.certificates {
                    roots
                        .add(certificate.clone())
                        .map_err(|error| unusable(&format!("{}: {error}", own.path.display())))?;
                }
                builder.with_root_certificates(roots.clone())
            }
        };
        let mut config = match &endpoint.client_certificate {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.private_key.clone_key())
                .map_err(|error| unusable(&format!("{}: {error}", identity.certificate.display())))?,
        };
        config.alpn_protocols = match endpoint.protocol {
            Protocol::H1 => vec![b"http/1.1".to_vec()],
            Protocol::H2 => vec![b"h2".to_vec()],
            Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let anchors = match endpoint.pins.is_empty() {
            true => Arc::from([]),
            false => roots.roots.into(),
        };
        Ok(Some(Self {
            config: Arc::new(config),
            name: ServerName::try_from(endpoint.host.clone()).map_err(|error| unusable(&error))?,
            pins: endpoint.pins.as_slice().into(),
            mode: endpoint.pin_mode,
            until: endpoint.pins_until,
            anchors,
        }))
    }

    /// Whether a verified session may be used: it holds a pinned key, or none is asked for (any more).
    pub(super) fn accepts(&self, session: &ClientConnection) -> bool {
        let now = UnixTime::now();
        let held = || {
            session
                .peer_certificates()
                .is_some_and(|sent| self.path_has_pin(sent, now))
        };
        if self.pins.is_empty() || held() {
            return true;
        }
        let expired = self.until.is_some_and(|until| now.as_secs() as i64 >= until);
        let name = self.name.to_str();
        match (self.mode, expired) {
            (PinMode::Enforce, false) => {
                tracing::error!(%name, "no pinned key is in the gateway's verified chain: the connection is refused");
                false
            }
            (PinMode::Report, _) => {
                tracing::warn!(%name, "no pinned key is in the gateway's verified chain (pin_mode: report)");
                true
            }
            (PinMode::Enforce, true) => {
                tracing::warn!(%name, "no pinned key is in the gateway's verified chain, and pins_until is over: renew the pins");
                true
            }
        }
    }

    fn path_has_pin(&self, sent: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Some((leaf, intermediates)) = sent.split_first() else {
            return false;
        };
        let Ok(leaf) = webpki::EndEntityCert::try_from(leaf) else {
            return false;
        };
        let algorithms = self.config.crypto_provider().signature_verification_algorithms.all;
        let has_pin = |path: &webpki::VerifiedPath<'_>| {
            let anchor = webpki::spki_for_anchor(path.anchor());
            let middle = path
                .intermediate_certificates()
                .map(|cert| cert.subject_public_key_info());
            let keys = middle.chain([path.end_entity().subject_public_key_info(), anchor]);
            match keys.into_iter().any(|key| self.pins.contains(&pin(&key))) {
                true => Ok(()),
                false => Err(webpki::Error::UnknownIssuer),
            }
        };
        leaf.verify_for_usage(
            algorithms,
            &self.anchors,
            intermediates,
            now,
            webpki::KeyUsage::server_auth(),
            None,
            Some(&has_pin),
        )
        .is_ok()
    }
}

fn pin(key: &SubjectPublicKeyInfoDer<'_>) -> Pin {
    Pin(Sha256::digest(key.as_ref()).into())
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
