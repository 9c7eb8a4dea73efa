//! Certificates: what a gateway account was seen to do (`sentinel certify`), and until when that counts.
//!
//! A fence is believed only as far as it was certified (safety.md 4.2, suite 9): without a fresh certificate its strength
//! falls. A certificate is a file of its own beside the ledger, because the ledger belongs to the process that runs, and
//! whoever certifies is another one. It is authenticated with the ledger's key, and bound to the account, place and API
//! version that the configuration names: one that was altered, copied from elsewhere, made for another account or has
//! grown old does not count.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::gateway::FenceStrength;
use crate::ledger::keys::Keys;

/// How long a certificate counts: 30 days, in milliseconds. Gateways change without notice.
pub const VALID_MS: i64 = 30 * 24 * 3600 * 1000;
/// How far the clocks of two processes of one machine may be apart, in milliseconds.
const AHEAD_MS: i64 = 60_000;
/// The largest file that is read.
const SIZE: u64 = 256 * 1024;

/// What a certificate is about: all of it has to be the same as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The configured gateway's name.
    pub gateway: String,
    /// Its dialect.
    pub dialect: String,
    /// Its address.
    pub endpoint: String,
    /// Keyed hash of its account, so that another account of the same name does not inherit it.
    pub account: String,
    /// The version of its API.
    pub api_version: String,
}

/// What was seen of one gateway account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// What it is about.
    pub subject: Subject,
    /// What was asked: the subject itself, or a test account that answers for it.
    pub tested: Subject,
    /// The fence strength that follows.
    pub strength: FenceStrength,
    /// When, Unix milliseconds.
    pub at: i64,
    /// Sentinel's version.
    pub sentinel: String,
    /// Each assumption that was tried.
    pub checks: Vec<Check>,
}

/// One assumption that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name, e.g. `late_original`.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// The fence strength that rests on it.
    pub needed_for: FenceStrength,
    /// What was seen.
    pub seen: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    certificate: Certificate,
    mac: String,
}

/// Why there is no certificate that counts.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// None was ever made.
    #[error("there is none")]
    None,
    /// The file cannot be read.
    #[error("{0}")]
    Io(io::Error),
    /// It was altered, or made with another ledger's key.
    #[error("it was not made with this ledger's key, or was altered since")]
    Forged,
    /// The configuration has changed: another account, place or version.
    #[error("it is about another account, address or API version")]
    Other,
    /// More than 30 days old, or from the future: a clock was wrong.
    #[error("it is older than 30 days")]
    Old,
}

/// Where certificates are kept, and by which key they are known.
#[derive(Debug)]
pub struct Certificates<'a> {
    /// Their directory.
    pub directory: &'a Path,
    /// The ledger's keys.
    pub keys: &'a Keys,
}

impl Certificates<'_> {
    /// An account's name as certificates hold it.
    pub fn account(&self, dialect: &str, account: &str) -> String {
        let hash = self
            .keys
            .derive(&[b"certified account", dialect.as_bytes(), account.as_bytes()]);
        hex(&hash[..16])
    }

    fn file(&self, gateway: &str) -> PathBuf {
        // A hash, because a configured name may hold what a path must not.
        let hash = self.keys.derive(&[b"certificate file", gateway.as_bytes()]);
        self.directory.join(format!("{}.json", hex(&hash[..8])))
    }

    fn mac(&self, certificate: &Certificate) -> io::Result<[u8; 32]> {
        let text = serde_json::to_vec(certificate)?;
        Ok(self.keys.derive(&[b"certificate", &text]))
    }

    /// Keeps a certificate in place of an earlier one; answers where. Either the old one is there or the new one, whole.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn record(&self, certificate: &Certificate) -> io::Result<PathBuf> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.directory)?;
        let signed = Signed {
            certificate: certificate.clone(),
            mac: hex(&self.mac(certificate)?),
        };
        let file = self.file(&certificate.subject.gateway);
        let fresh = file.with_extension(format!("{}.new", std::process::id()));
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        out.write_all(&serde_json::to_vec_pretty(&signed)?)?;
        out.sync_all()?;
        std::fs::rename(&fresh, &file)?;
        Ok(file)
    }

    /// The certificate that counts for a gateway as it is configured, at this moment of Unix time in milliseconds.
    ///
    /// # Errors
    /// Why none does.
    pub fn fresh(&self, subject: &Subject, now: i64) -> Result<Certificate, Missing> {
        let text = match read(&self.file(&subject.gateway)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Missing::None),
            Err(error) => return Err(Missing::Io(error)),
            Ok(text) => text,
        };
        let signed: Signed = serde_json::from_str(&text).map_err(|_| Missing::Forged)?;
        let mac = self.mac(&signed.certificate).map_err(Missing::Io)?;
        if !bool::from(hex(&mac).as_bytes().ct_eq(signed.mac.as_bytes())) {
            return Err(Missing::Forged);
        }
        if signed.certificate.subject != *subject {
            return Err(Missing::Other);
        }
        let age = now.saturating_sub(signed.certificate.at);
        if !(-AHEAD_MS..VALID_MS).contains(&age) {
            return Err(Missing::Old);
        }
        Ok(signed.certificate)
    }
}

fn read(file: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)?.take(SIZE).read_to_string(&mut text)?;
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(account: &str) -> Subject {
        Subject {
            gateway: "stripe".to_owned(),
            dialect: "stripe".to_owned(),
            endpoint: "https://api.stripe.com:443".to_owned(),
            account: account.to_owned(),
            api_version: "2026-10-28.endive".to_owned(),
        }
    }

    fn certificate(at: i64) -> Certificate {
        Certificate {
            subject: subject("a"),
            tested: subject("b"),
            strength: FenceStrength::F3,
            at,
            sentinel: "1.0.0".to_owned(),
            checks: vec![Check {
                name: "replay".to_owned(),
                holds: true,
                needed_for: FenceStrength::F2,
                seen: "the same payment".to_owned(),
            }],
        }
    }

    #[test]
    fn a_certificate_counts_for_its_subject_its_time_and_its_ledger() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("ledger.db.certificates");
        let (keys, other_keys) = (Keys::new(&[7; 32]), Keys::new(&[8; 32]));
        let kept = Certificates {
            directory: &place,
            keys: &keys,
        };
        assert!(matches!(kept.fresh(&subject("a"), 0), Err(Missing::None)));
        let made = certificate(1_000);
        let file = kept.record(&made).expect("is kept");
        assert_eq!(kept.fresh(&subject("a"), 1_000).expect("counts"), made);
        assert_eq!(kept.fresh(&subject("a"), VALID_MS).expect("counts"), made);
        assert!(matches!(kept.fresh(&subject("a"), 1_000 + VALID_MS), Err(Missing::Old)));
        assert!(matches!(kept.fresh(&subject("a"), 1_000 - 120_000), Err(Missing::Old)));
        assert!(matches!(kept.fresh(&subject("c"), 1_000), Err(Missing::Other)));
        let elsewhere = Subject {
            endpoint: "http://127.0.0.1:1".to_owned(),
            ..subject("a")
        };
        assert!(matches!(kept.fresh(&elsewhere, 1_000), Err(Missing::Other)));

        // Whoever has no key cannot make one, nor change one.
        let text = std::fs::read_to_string(&file).expect("reads");
        for forged in [
            text.replace("\"F3\"", "\"F2\""),
            text.replace("1000,", "2000,"),
            text.replace("true", "false"),
            text.replace("\"mac\": \"", "\"mac\": \"0"),
            "{}".to_owned(),
            String::new(),
        ] {
            assert_ne!(forged, text);
            std::fs::write(&file, forged).expect("writes");
            assert!(matches!(kept.fresh(&subject("a"), 1_000), Err(Missing::Forged)));
        }
        let foreign = Certificates {
            directory: &place,
            keys: &other_keys,
        };
        let theirs = foreign.record(&made).expect("is kept");
        std::fs::copy(theirs, &file).expect("copies");
        assert!(matches!(kept.fresh(&subject("a"), 1_000), Err(Missing::Forged)));
    }
}
