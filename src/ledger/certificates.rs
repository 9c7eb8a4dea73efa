//! Certificates: what a gateway account was seen to do (`sentinel certify`), and until when that counts.
//!
//! A fence is believed only as far as it was certified (safety.md 4.2, suite 9): without a fresh certificate its
//! strength falls. The words for strengths and checks are the gateways' room's; here they are text.

use serde::{Deserialize, Serialize};

use super::{Ledger, LedgerError};

const SPACE: &str = "certificates";

/// How long a certificate counts: 30 days, in milliseconds. Gateways change without notice.
pub const VALID_MS: i64 = 30 * 24 * 3600 * 1000;

/// What was seen of one gateway account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The configured gateway's name.
    pub gateway: String,
    /// The account it was seen at, so that another account of the same name does not inherit it.
    pub account: String,
    /// The gateway's API version.
    pub api_version: String,
    /// The fence strength that follows, e.g. `f3`.
    pub strength: String,
    /// When, Unix milliseconds on the ledger's clock.
    pub at: i64,
    /// Each assumption that was tried.
    pub checks: Vec<Check>,
}

/// One assumption that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, e.g. `tombstone_then_late_original`.
    pub name: String,
    /// Whether it held.
    pub held: bool,
    /// What was seen.
    pub seen: String,
}

/// Records a certificate in place of an earlier one.
pub async fn record(ledger: &dyn Ledger, certificate: &Certificate) -> Result<(), LedgerError> {
    let value = serde_json::to_string(certificate).map_err(|_| LedgerError::Invalid("a certificate is JSON"))?;
    ledger
        .put_document(SPACE, certificate.gateway.clone(), value, None)
        .await?;
    Ok(())
}

/// The certificate of a gateway's account that still counts. One from the future does not: a clock was wrong.
pub async fn fresh(ledger: &dyn Ledger, gateway: &str, account: &str) -> Result<Option<Certificate>, LedgerError> {
    let Some(document) = ledger.document(SPACE, gateway.to_owned()).await? else {
        return Ok(None);
    };
    let certificate: Certificate = serde_json::from_str(&document.value)
        .map_err(|error| LedgerError::Damaged(format!("certificate of {gateway}: {error}")))?;
    let age = ledger.now() - certificate.at;
    Ok((certificate.account == account && (0..VALID_MS).contains(&age)).then_some(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::keys::Keys;
    use crate::ledger::sqlite::{Options, SqliteLedger};

    #[tokio::test]
    async fn a_certificate_counts_for_its_account_and_its_time() {
        let directory = tempfile::tempdir().expect("directory");
        let options = Options {
            strict: false,
            ..Options::new(directory.path().join("ledger.db"))
        };
        let ledger = SqliteLedger::open(&options, Keys::new(&[7; 32])).expect("starts");
        assert_eq!(fresh(&ledger, "stripe", "acct_1").await, Ok(None));
        let mut certificate = Certificate {
            gateway: "stripe".to_owned(),
            account: "acct_1".to_owned(),
            api_version: "2026-10-28".to_owned(),
            strength: "f3".to_owned(),
            at: ledger.now(),
            checks: vec![Check {
                name: "replay".to_owned(),
                held: true,
                seen: "same id".to_owned(),
            }],
        };
        record(&ledger, &certificate).await.expect("records");
        assert_eq!(fresh(&ledger, "stripe", "acct_1").await, Ok(Some(certificate.clone())));
        assert_eq!(fresh(&ledger, "stripe", "acct_2").await, Ok(None), "another account");
        for wrong in [ledger.now() - VALID_MS - 1, ledger.now() + 3_600_000] {
            certificate.at = wrong;
            record(&ledger, &certificate).await.expect("records");
            assert_eq!(
                fresh(&ledger, "stripe", "acct_1").await,
                Ok(None),
                "too old, or from the future"
            );
        }
    }
}
