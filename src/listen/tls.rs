//! TLS towards the application, for SDKs that refuse plain HTTP.
//!
//! TLS 1.3, and 1.2 with ECDHE and AEAD suites only; no early data, because a replayed charge is a charge. The certificate
//! can be replaced while connections run: new handshakes use the new one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::arrival::Socket;
use crate::config::model::Identity;

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing usable.
    #[error("{path}: {cause}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause; never any content.
        cause: String,
    },
    /// The certificate and the key cannot be used together.
    #[error("{path}: the certificate and its key cannot be used: {source}", path = .path.display())]
    Pair {
        /// The certificate file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
}

/// The TLS side of a listener. Shared by all workers.
#[derive(Debug)]
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// Shows the given certificate.
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub fn new(identity: &Identity) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            config: ArcSwap::from_pointee(of_identity(identity)?),
        }))
    }

    /// Loads a certificate chain and its key, both PEM.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let config = build(certificate, key)?;
        Ok(Arc::new(Self {
            config: ArcSwap::from_pointee(config),
        }))
    }

    /// Shows the certificate of `other` from the next handshake on.
    pub fn replace(&self, other: &Self) {
        self.config.store(other.config.load_full());
    }

    /// The handshake of one connection.
    pub(super) async fn accept(&self, stream: Socket) -> std::io::Result<TlsStream<Socket>> {
        TlsAcceptor::from(self.config.load_full()).accept(stream).await
    }
}

fn of_identity(identity: &Identity) -> Result<ServerConfig, TlsError> {
    server_config(
        &identity.certificate,
        identity.chain.clone(),
        identity.private_key.clone_key(),
    )
}

fn build(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let file = |path: &Path, cause: rustls::pki_types::pem::Error| TlsError::File {
        path: path.to_owned(),
        cause: match cause {
            rustls::pki_types::pem::Error::Io(error) => error.to_string(),
            rustls::pki_types::pem::Error::NoItemsFound => "holds no PEM block of the kind wanted".to_owned(),
            _ => "is not valid PEM".to_owned(),
        },
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|cause| file(certificate, cause))?;
    if chain.is_empty() {
        return Err(file(certificate, rustls::pki_types::pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|cause| file(key, cause))?;
    server_config(certificate, chain, key)
}

fn server_config(
    certificate: &Path,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let pair = |source| TlsError::Pair {
        path: certificate.to_owned(),
        source,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}
