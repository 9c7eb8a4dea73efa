//! What became of a statement's fee: the record of its collection, and what a tenant pays fees with.
//!
//! A fee is asked for in *tries*. Each try is one payment of the operator's, under a key that is a function of tenant,
//! month, currency and the try's number; the number is written down before anything is asked, and rises only when the
//! payment before it is proven to have taken nothing. So no crash and no haste can make one fee two payments, and an
//! outcome that is not known keeps its try until it is.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::billing::Statement;
use super::period::Month;
use super::{Analytics, AnalyticsError};
use crate::ledger::instruments::{self, InstrumentError};
use crate::ledger::{Ledger, LedgerError};

/// The space of collections in the ledger.
const SPACE: &str = "collections";
/// The space of what tenants pay with.
const PAID_WITH: &str = "paid-with";

/// Where a try stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// It was written down; whether it was paid is not known yet.
    Pending,
    /// The money was taken.
    Paid,
    /// The instrument was declined: another one is wanted.
    Declined,
    /// No gateway executed it: it is tried again.
    Failed,
    /// Sentinel cannot ask for it at this gateway.
    Refused {
        /// Why, in one of the closed words of refused failovers.
        reason: String,
    },
}

/// The record of one fee's collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Collection {
    /// The number of the try, from 1.
    pub attempt: u32,
    /// What is asked for, in units of the statement's currency.
    pub units: i64,
    /// The operator's gateway.
    pub gateway: String,
    /// When the try began, Unix milliseconds.
    pub at: i64,
    /// Its payment, once the ledger has one.
    pub payment: Option<Uuid>,
    /// Where it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// What a tenant pays its fees with: a token of the operator's vault, never a card. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidWith {
    /// The token.
    pub token: String,
    /// The customer in the vault, where the gateway wants one.
    pub customer: Option<String>,
    /// When it was stored, Unix milliseconds.
    pub at: i64,
}

impl std::fmt::Debug for PaidWith {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PaidWith([REDACTED])")
    }
}

impl PaidWith {
    /// The token as gateways' adapters take it: with its customer before it.
    pub fn joined(&self) -> String {
        match &self.customer {
            Some(customer) => format!("{customer}/{}", self.token),
            None => self.token.clone(),
        }
    }
}

/// What is to be said of a statement's fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// The month is not closed.
    NotYet,
    /// Nothing, or less: a credit.
    Nothing,
    /// The tenant has stored nothing to pay with.
    NoInstrument,
    /// It is asked for in the next round.
    Due,
    /// There is a try.
    Tried(Collection),
}

impl Due {
    /// One word: `open`, `nothing_due`, `no_instrument`, `due`, `pending`, `paid`, `declined`, `failed` or `refused`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotYet => "open",
            Self::Nothing => "nothing_due",
            Self::NoInstrument => "no_instrument",
            Self::Due => "due",
            Self::Tried(tried) => match tried.standing {
                Standing::Pending => "pending",
                Standing::Paid => "paid",
                Standing::Declined => "declined",
                Standing::Failed => "failed",
                Standing::Refused { .. } => "refused",
            },
        }
    }
}

fn key(tenant: &str, month: Month, currency: &str) -> String {
    format!("{tenant}/{month}/{currency}")
}

fn read<T: serde::de::DeserializeOwned>(value: &str) -> Result<T, LedgerError> {
    // The text of the error could repeat a token.
    serde_json::from_str(value).map_err(|_| LedgerError::Damaged("a collection does not read".to_owned()))
}

/// Stores what a tenant pays its fees with.
///
/// # Errors
/// When it is no token, or the ledger cannot be used.
pub async fn pay_with(ledger: &dyn Ledger, tenant: &str, with: &PaidWith) -> Result<(), InstrumentError> {
    instruments::check_token("token", &with.token)?;
    if let Some(customer) = &with.customer {
        instruments::check_token("customer", customer)?;
    }
    let value = serde_json::to_string(with).map_err(|_| LedgerError::Invalid("an instrument is JSON"))?;
    ledger.put_document(PAID_WITH, tenant.to_owned(), value, None).await?;
    Ok(())
}

/// What a tenant pays its fees with.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn paid_with(ledger: &dyn Ledger, tenant: &str) -> Result<Option<PaidWith>, LedgerError> {
    let found = ledger.document(PAID_WITH, tenant.to_owned()).await?;
    found.map(|document| read(&document.value)).transpose()
}

/// Forgets what a tenant pays with; `false` when there was nothing.
///
/// # Errors
/// When the ledger cannot be used.
pub async fn pay_with_nothing(ledger: &dyn Ledger, tenant: &str) -> Result<bool, LedgerError> {
    ledger.delete_document(PAID_WITH, tenant.to_owned()).await
}

impl Analytics {
    /// The record of a fee's collection, and its version.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn collection(
        &self,
        tenant: &str,
        month: Month,
        currency: &str,
    ) -> Result<Option<(Collection, i64)>, AnalyticsError> {
        let found = self.ledger().document(SPACE, key(tenant, month, currency)).await?;
        Ok(found
            .map(|document| read(&document.value).map(|collection| (collection, document.version)))
            .transpose()?)
    }

    /// Writes the record over the version that was read; 0 for none.
    ///
    /// # Errors
    /// When somebody else wrote it meanwhile, or the ledger cannot be used.
    pub async fn record(
        &self,
        (tenant, month, currency): (&str, Month, &str),
        collection: &Collection,
        version: i64,
    ) -> Result<i64, AnalyticsError> {
        let value = serde_json::to_string(collection).map_err(|error| AnalyticsError::Store(error.to_string()))?;
        let key = key(tenant, month, currency);
        Ok(self.ledger().put_document(SPACE, key, value, Some(version)).await?)
    }

    /// What is to be said of a statement's fee.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn due(&self, statement: &Statement) -> Result<Due, AnalyticsError> {
        let Some(month) = Month::from_number(statement.month).filter(|_| statement.closed_at.is_some()) else {
            return Ok(Due::NotYet);
        };
        if let Some((tried, _)) = self.collection(&statement.tenant, month, &statement.currency).await? {
            return Ok(Due::Tried(tried));
        }
        if statement.fee <= 0 {
            return Ok(Due::Nothing);
        }
        Ok(match paid_with(&**self.ledger(), &statement.tenant).await? {
            Some(_) => Due::Due,
            None => Due::NoInstrument,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Collection, PaidWith, Standing};

    #[test]
    fn what_is_written_is_read_again() {
        for standing in [
            Standing::Pending,
            Standing::Paid,
            Standing::Refused {
                reason: "currency".to_owned(),
            },
        ] {
            let collection = Collection {
                attempt: 2,
                units: 240,
                gateway: "stripe".to_owned(),
                at: 1,
                payment: None,
                standing,
            };
            let text = serde_json::to_string(&collection).unwrap();
            assert_eq!(serde_json::from_str::<Collection>(&text).unwrap(), collection, "{text}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let with = PaidWith {
            token: "pm_secret".to_owned(),
            customer: Some("cus_1".to_owned()),
            at: 0,
        };
        assert!(!format!("{with:?}").contains("pm_"));
        assert_eq!(with.joined(), "cus_1/pm_secret");
    }
}
