//! Files that a configuration names: secrets, certificates, keys. What is read is remembered, so that a change of a
//! file is a change of the configuration. Errors say what is wrong with a file, without its name and never with content.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::model::{Identity, Roots};

/// The largest file that is read, in bytes. Real configurations have a few kilobytes and the public roots of a whole
/// system a few hundred; the limit keeps a mistaken path (a device, a log) from being read into memory.
const MAX: u64 = 1 << 20;

/// The files read so far, with their contents' digests.
#[derive(Debug, Default)]
pub(super) struct Files {
    read: BTreeMap<PathBuf, [u8; 32]>,
}

/// Which file of a certificate and its key is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Certificate,
    Key,
    Both,
}

impl Files {
    /// The content of a file.
    pub(super) fn content(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        let content = read(file)?;
        self.read.insert(file.to_owned(), Sha256::digest(&content).into());
        Ok(content)
    }

    /// Text, without the line end that editors leave behind it.
    pub(super) fn text(&mut self, file: &Path) -> Result<String, String> {
        let content = self.content(file)?;
        let text = String::from_utf8(content).map_err(|_| "is not UTF-8 text".to_owned())?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Root certificates.
    pub(super) fn roots(&mut self, file: &Path) -> Result<Roots, String> {
        let certificates = self.certificates(file)?;
        let mut store = rustls::RootCertStore::empty();
        let (_, unusable) = store.add_parsable_certificates(certificates.iter().cloned());
        if unusable > 0 {
            return Err(format!("holds {unusable} certificate(s) that cannot be a root"));
        }
        Ok(Roots {
            path: file.to_owned(),
            certificates,
        })
    }

    /// A certificate chain and its key, which fit together.
    pub(super) fn identity(&mut self, certificate: &Path, key: &Path) -> Result<Identity, (Part, String)> {
        let chain = self
            .certificates(certificate)
            .map_err(|message| (Part::Certificate, message))?;
        let content = self.content(key).map_err(|message| (Part::Key, message))?;
        let private_key = PrivateKeyDer::from_pem_slice(&content)
            .map_err(|_| (Part::Key, "holds no private key in PEM".to_owned()))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        rustls::sign::CertifiedKey::from_der(chain.clone(), private_key.clone_key(), &provider)
            .map_err(|error| (Part::Both, format!("certificate and key do not fit together: {error}")))?;
        Ok(Identity {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            chain,
            private_key,
        })
    }

    fn certificates(&mut self, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let content = self.content(file)?;
        match CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err("holds no certificate in PEM".to_owned()),
        }
    }

    /// The names of the files, and the digest of a text and of all of them.
    pub(super) fn sum(self, text: &str) -> (Vec<PathBuf>, String) {
        let sum = sum(text, self.read.values().map(|digest| &digest[..]));
        (self.read.into_keys().collect(), sum)
    }
}

/// Reads a file that may be anything.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    std::fs::File::open(file)
        .and_then(|open| match open.metadata()?.is_dir() {
            true => Err(std::io::ErrorKind::IsADirectory.into()),
            false => open.take(MAX + 1).read_to_end(&mut content),
        })
        .map_err(|error| format!("cannot be read: {error}"))?;
    if content.len() as u64 > MAX {
        return Err(format!("is larger than {MAX} bytes"));
    }
    Ok(content)
}

/// What [`Files::sum`] gives, for a configuration that names these files; `None` while one of them cannot be read.
pub(super) fn sum_now(text: &str, files: &[PathBuf]) -> Option<String> {
    let digests: Option<Vec<[u8; 32]>> = files
        .iter()
        .map(|file| Some(Sha256::digest(read(file).ok()?).into()))
        .collect();
    Some(sum(text, digests?.iter().map(|digest| &digest[..])))
}

fn sum<'a>(text: &str, digests: impl Iterator<Item = &'a [u8]>) -> String {
    let mut sum = Sha256::new();
    sum.update(text.as_bytes());
    digests.for_each(|digest| sum.update(digest));
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
