//! A certificate authority for one test, and servers that use it.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority and a certificate for `localhost` and 127.0.0.1, on disk and ready for use.
pub struct Authority {
    /// The authority's certificate, PEM.
    pub ca: std::path::PathBuf,
    /// The pin (RFC 7469) of the certificate that servers show.
    pub leaf_pin: String,
    /// The pin of the authority.
    pub root_pin: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    root: CertificateDer<'static>,
}

fn pin(key: &rcgen::KeyPair) -> String {
    use base64::Engine as _;
    use rcgen::PublicKeyData as _;
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(key.subject_public_key_info());
    format!("sha256/{}", base64::engine::general_purpose::STANDARD.encode(digest))
}

impl Authority {
    /// Makes one in `dir`.
    pub fn new(dir: &Path) -> Self {
        let ca_key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test authority");
        let certificate = params.self_signed(&ca_key).expect("an authority");
        let root_pin = pin(&ca_key);
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().expect("a key");
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("parameters")
            .signed_by(&key, &issuer)
            .expect("a certificate");
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, certificate.pem()).expect("the authority is written");
        let leaf_pin = pin(&key);
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
        Self {
            ca,
            leaf_pin,
            root_pin,
            root: certificate.der().clone(),
            issuer,
            chain: vec![leaf.der().clone()],
            key,
        }
    }

    /// A server configuration with the given protocols in ALPN.
    pub fn server(&self, alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("a certificate");
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// A server that demands a client certificate of this authority.
    pub fn demanding(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).expect("a root");
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .expect("a verifier");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("a certificate");
        Arc::new(config)
    }

    /// A certificate for a client, and its key, as files beside the authority's.
    pub fn identity(&self, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let cert_file = self.ca.with_file_name(format!("{name}.pem"));
        let key_file = self.ca.with_file_name(format!("{name}.key"));
        std::fs::write(&cert_file, certificate.pem()).expect("the certificate is written");
        std::fs::write(&key_file, key.serialize_pem()).expect("the key is written");
        (cert_file, key_file)
    }
}
