//! Files that a configuration names: secrets, certificates, keys. What is read is remembered, so that a change of a
//! file is a change of the configuration. No error text repeats any content.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::Reader;
use crate::config::model::{Identity, Roots};
use crate::config::raw;

/// The largest file that is read, in bytes: the public roots of a whole system have a few hundred kilobytes.
const MAX: u64 = 1 << 20;

impl Reader<'_> {
    /// A secret from a file, without the line end that editors leave behind it.
    pub(super) fn secret_file(&mut self, path: &str, file: &Path) -> String {
        let content = self.content(path, file).unwrap_or_default();
        match String::from_utf8(content) {
            Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
            Err(_) => {
                self.problem(path, format!("{} is not UTF-8 text", file.display()));
                String::new()
            }
        }
    }

    /// Root certificates.
    pub(super) fn roots(&mut self, path: &str, file: &str) -> Option<Roots> {
        let certificates = self.certificates(path, Path::new(file))?;
        let mut store = rustls::RootCertStore::empty();
        let (_, unusable) = store.add_parsable_certificates(certificates.iter().cloned());
        if unusable > 0 {
            self.problem(
                path,
                format!("{file} holds {unusable} certificate(s) that cannot be a root"),
            );
            return None;
        }
        Some(Roots {
            path: PathBuf::from(file),
            certificates,
        })
    }

    /// A certificate chain and its key.
    pub(super) fn identity(&mut self, path: &str, files: raw::Identity) -> Option<Identity> {
        let (certificate, key) = (PathBuf::from(files.cert), PathBuf::from(files.key));
        let chain = self.certificates(path, &certificate);
        let content = self.content(path, &key)?;
        let private_key = match PrivateKeyDer::from_pem_slice(&content) {
            Ok(private_key) => private_key,
            Err(_) => {
                self.problem(path, format!("{} holds no private key in PEM", key.display()));
                return None;
            }
        };
        let chain = chain?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        if let Err(error) = rustls::sign::CertifiedKey::from_der(chain.clone(), private_key.clone_key(), &provider) {
            self.problem(
                path,
                format!(
                    "{} and {} do not fit together: {error}",
                    certificate.display(),
                    key.display()
                ),
            );
            return None;
        }
        Some(Identity {
            certificate,
            key,
            chain,
            private_key,
        })
    }

    fn certificates(&mut self, path: &str, file: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let content = self.content(path, file)?;
        match CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if !certificates.is_empty() => Some(certificates),
            _ => {
                self.problem(path, format!("{} holds no certificate in PEM", file.display()));
                None
            }
        }
    }

    fn content(&mut self, path: &str, file: &Path) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        let read = std::fs::File::open(file).and_then(|open| open.take(MAX + 1).read_to_end(&mut content));
        if let Err(error) = read {
            self.problem(path, format!("{} cannot be read: {error}", file.display()));
            return None;
        }
        if content.len() as u64 > MAX {
            self.problem(path, format!("{} is larger than {MAX} bytes", file.display()));
            return None;
        }
        self.read.push((file.to_owned(), Sha256::digest(&content).into()));
        Some(content)
    }
}
