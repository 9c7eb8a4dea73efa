//! The instrument map: which saved token at another gateway stands for an application's token.
//!
//! `pm_x` in Stripe's vault means nothing at Adyen; a merchant who has the same card saved at both says so here, and
//! the payment becomes portable. A token is bound to the account it was saved in: when a gateway's configuration points
//! to another account the map has no token for it, rather than a wrong one. Everything is sealed in the ledger, and
//! found by a keyed hash. What looks like a card number is refused: this is a map of tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keys::{Keys, Purpose};
use super::{Ledger, LedgerError};

mod import;

pub use import::{Import, Rejected, csv, json_lines};

const SPACE: &str = "instruments";

/// The longest token that any gateway uses, with room to spare.
const LONGEST: usize = 256;

/// One instrument of one tenant.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instrument {
    /// The configured gateway in whose vault the application's token lies.
    pub gateway: String,
    /// The token that the application sends.
    pub token: String,
    /// The tokens at other gateways, by configured name.
    pub targets: BTreeMap<String, Target>,
}

/// A token at another gateway.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The token.
    pub token: String,
    /// The account it is saved in (merchant account, merchant id, location), as the gateway's configuration names it.
    pub account: String,
    /// The customer in that gateway's vault, where the gateway wants one (Adyen's shopperReference).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
}

impl std::fmt::Debug for Instrument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instrument")
            .field("gateway", &self.gateway)
            .field("targets", &self.targets.keys())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Target([REDACTED])")
    }
}

/// Why an instrument is not taken. No text repeats a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstrumentError {
    /// It looks like a card number.
    #[error("{0} looks like a card number; this map holds tokens only")]
    CardNumber(&'static str),
    /// A field is empty, too long, or holds more than visible ASCII.
    #[error("{0} must be 1 to 256 visible ASCII characters")]
    Malformed(&'static str),
    /// It leads nowhere.
    #[error("an instrument needs at least one target at another gateway")]
    NoTarget,
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Instrument {
    /// The token to use at a gateway's account, when there is one.
    pub fn at(&self, gateway: &str, account: &str) -> Option<&Target> {
        self.targets.get(gateway).filter(|target| target.account == account)
    }

    fn check(&self) -> Result<(), InstrumentError> {
        visible("gateway", &self.gateway)?;
        check_token("token", &self.token)?;
        if self.targets.keys().all(|gateway| *gateway == self.gateway) {
            return Err(InstrumentError::NoTarget);
        }
        for (gateway, target) in &self.targets {
            visible("target gateway", gateway)?;
            check_token("target token", &target.token)?;
            visible("target account", &target.account)?;
            if let Some(customer) = &target.customer {
                check_token("target customer", customer)?;
            }
        }
        Ok(())
    }
}

/// Keeps an instrument, in place of an earlier one with the same token.
pub async fn put(ledger: &dyn Ledger, tenant: &str, instrument: &Instrument) -> Result<(), InstrumentError> {
    instrument.check()?;
    let key = key(ledger.keys(), tenant, &instrument.gateway, &instrument.token);
    let value = serde_json::to_string(instrument).map_err(|_| LedgerError::Invalid("an instrument is JSON"))?;
    ledger.put_document(SPACE, key, value, None).await?;
    Ok(())
}

/// The instrument of a token.
pub async fn get(
    ledger: &dyn Ledger,
    tenant: &str,
    gateway: &str,
    token: &str,
) -> Result<Option<Instrument>, LedgerError> {
    let document = ledger
        .document(SPACE, key(ledger.keys(), tenant, gateway, token))
        .await?;
    document.map(|document| read(&document.value)).transpose()
}

/// Forgets a token; `false` when it was not known.
pub async fn delete(ledger: &dyn Ledger, tenant: &str, gateway: &str, token: &str) -> Result<bool, LedgerError> {
    ledger
        .delete_document(SPACE, key(ledger.keys(), tenant, gateway, token))
        .await
}

/// A page of a tenant's instruments, with the mark that continues it. Their order means nothing.
pub async fn list(
    ledger: &dyn Ledger,
    tenant: &str,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<Instrument>, Option<String>), LedgerError> {
    let documents = ledger
        .documents(SPACE, tenant_prefix(ledger.keys(), tenant), after, limit)
        .await?;
    let next = documents
        .last()
        .filter(|_| documents.len() == limit)
        .map(|document| document.key.clone());
    let instruments = documents
        .iter()
        .map(|document| read(&document.value))
        .collect::<Result<_, _>>()?;
    Ok((instruments, next))
}

fn read(value: &str) -> Result<Instrument, LedgerError> {
    // The text of the error could repeat a token.
    serde_json::from_str(value).map_err(|_| LedgerError::Damaged("an instrument does not read".to_owned()))
}

fn tenant_prefix(keys: &Keys, tenant: &str) -> String {
    format!(
        "{}/",
        hex(&keys.hash(Purpose::DocumentKey, &[b"tenant", tenant.as_bytes()])[..16])
    )
}

fn key(keys: &Keys, tenant: &str, gateway: &str, token: &str) -> String {
    let hash = keys.hash(
        Purpose::DocumentKey,
        &[b"instrument", tenant.as_bytes(), gateway.as_bytes(), token.as_bytes()],
    );
    tenant_prefix(keys, tenant) + &hex(&hash)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

fn visible(field: &'static str, text: &str) -> Result<(), InstrumentError> {
    if (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(InstrumentError::Malformed(field))
    }
}

/// Whether a text can be a token, and is no card number.
///
/// # Errors
/// What is wrong with it; the text is not repeated.
pub fn check_token(field: &'static str, text: &str) -> Result<(), InstrumentError> {
    visible(field, text)?;
    if is_card_number(text) {
        Err(InstrumentError::CardNumber(field))
    } else {
        Ok(())
    }
}

/// 13 to 19 digits, with or without separators, that begin as the card networks' numbers do and pass the Luhn check.
/// Adyen's numeric tokens begin with 7 and 8, which no network uses.
fn is_card_number(text: &str) -> bool {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, '-' | '.'))
        .map_while(|c| c.to_digit(10))
        .collect();
    let all = text.chars().filter(|c| !matches!(c, '-' | '.')).count();
    if digits.len() != all || !(13..=19).contains(&all) || !(2..=6).contains(&digits[0]) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sqlite::{Options, SqliteLedger};

    pub(super) fn ledger(directory: &std::path::Path) -> SqliteLedger {
        let options = Options {
            strict: false,
            ..Options::new(directory.join("ledger.db"))
        };
        SqliteLedger::open(&options, Keys::new(&[7; 32])).expect("starts")
    }

    fn instrument(token: &str) -> Instrument {
        let target = Target {
            token: format!("8{token}"),
            account: "AcmeECOM".to_owned(),
            customer: None,
        };
        Instrument {
            gateway: "stripe".to_owned(),
            token: token.to_owned(),
            targets: BTreeMap::from([("adyen".to_owned(), target)]),
        }
    }

    #[tokio::test]
    async fn a_token_leads_to_its_targets_for_its_tenant_and_account_only() {
        let directory = tempfile::tempdir().expect("directory");
        let ledger = ledger(directory.path());
        put(&ledger, "acme", &instrument("pm_1")).await.expect("kept");
        let found = get(&ledger, "acme", "stripe", "pm_1")
            .await
            .expect("reads")
            .expect("there");
        assert_eq!(
            found.at("adyen", "AcmeECOM").map(|target| target.token.as_str()),
            Some("8pm_1")
        );
        assert_eq!(found.at("adyen", "AcmePOS"), None, "another account");
        assert_eq!(found.at("paypal", "AcmeECOM"), None);
        assert_eq!(
            get(&ledger, "other", "stripe", "pm_1").await,
            Ok(None),
            "another tenant"
        );
        assert_eq!(
            get(&ledger, "acme", "stripe-eu", "pm_1").await,
            Ok(None),
            "another vault"
        );
        assert_eq!(
            format!("{found:?}"),
            "Instrument { gateway: \"stripe\", targets: [\"adyen\"], .. }"
        );
        assert_eq!(delete(&ledger, "acme", "stripe", "pm_1").await, Ok(true));
        assert_eq!(get(&ledger, "acme", "stripe", "pm_1").await, Ok(None));
    }

    #[tokio::test]
    async fn a_tenants_instruments_are_listed_page_by_page() {
        let directory = tempfile::tempdir().expect("directory");
        let ledger = ledger(directory.path());
        for n in 0..5 {
            put(&ledger, "acme", &instrument(&format!("pm_{n}")))
                .await
                .expect("kept");
        }
        put(&ledger, "acme/2", &instrument("pm_other")).await.expect("kept");
        let (mut tokens, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = list(&ledger, "acme", after, 2).await.expect("lists");
            tokens.extend(page.into_iter().map(|instrument| instrument.token));
            after = next;
            if after.is_none() {
                break;
            }
        }
        tokens.sort();
        assert_eq!(tokens, ["pm_0", "pm_1", "pm_2", "pm_3", "pm_4"]);
    }

    #[tokio::test]
    async fn card_numbers_and_nonsense_are_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let ledger = ledger(directory.path());
        for number in [
            "4242424242424242",
            "4242-4242-4242-4242",
            "378282246310005",
            "2222400070000005",
        ] {
            let refused = put(&ledger, "acme", &instrument(number)).await;
            assert_eq!(refused, Err(InstrumentError::CardNumber("token")), "{number}");
            let mut target = instrument("pm_1");
            target.targets.get_mut("adyen").expect("there").token = number.to_owned();
            let refused = put(&ledger, "acme", &target).await;
            assert_eq!(refused, Err(InstrumentError::CardNumber("target token")));
        }
        for fine in [
            "8314442372419167",
            "4242424242424241",
            "M5N7TQ4TG5PFWR50",
            "pm_card_visa",
        ] {
            assert_eq!(put(&ledger, "acme", &instrument(fine)).await, Ok(()), "{fine}");
        }
        for bad in ["", "a b", "tok\n", "tök", &"x".repeat(257)] {
            assert_eq!(
                put(&ledger, "acme", &instrument(bad)).await,
                Err(InstrumentError::Malformed("token"))
            );
        }
        let nowhere = Instrument {
            targets: BTreeMap::new(),
            ..instrument("pm_1")
        };
        assert_eq!(put(&ledger, "acme", &nowhere).await, Err(InstrumentError::NoTarget));
    }
}
