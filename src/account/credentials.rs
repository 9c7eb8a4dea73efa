//! A tenant's own credentials for its gateways: written, used and deleted, never read back by an interface.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::api_key::Mode;
use super::{AccountError, put, read};
use crate::config::load::{needed, optional};
use crate::config::model::{Credentials, Dialect};
use crate::ledger::Ledger;

const SPACE: &str = "gateway_credentials";
const LONGEST: usize = 4096;
const FIELDS: usize = 16;

/// Credentials and settings for one gateway, by the names that its configuration uses (`secret_key`, `api_key`, ...).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GatewayCredentials(pub BTreeMap<String, String>);

impl std::fmt::Debug for GatewayCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GatewayCredentials").field(&self.0.keys()).finish()
    }
}

impl Drop for GatewayCredentials {
    fn drop(&mut self) {
        self.0.values_mut().for_each(Zeroize::zeroize);
    }
}

/// What may be shown of stored credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// The gateway.
    pub gateway: String,
    /// For which keys' payments it is used.
    pub mode: Mode,
    /// The names of what is stored.
    pub fields: Vec<String>,
    /// When it was stored, Unix milliseconds.
    pub updated_at: i64,
}

impl GatewayCredentials {
    fn check(&self) -> Result<(), AccountError> {
        if self.0.is_empty() || self.0.len() > FIELDS {
            return Err(AccountError::invalid("credentials", "must name 1 to 16 fields"));
        }
        for (name, value) in &self.0 {
            let plain = !name.is_empty()
                && name.len() <= 64
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
            if !plain {
                return Err(AccountError::invalid(
                    "credentials",
                    "names are letters, digits, underscores and dots",
                ));
            }
            if value.is_empty() || value.len() > LONGEST || value.chars().any(char::is_control) {
                return Err(AccountError::invalid(
                    "credentials",
                    "a value must be 1 to 4096 bytes without control characters",
                ));
            }
        }
        Ok(())
    }

    /// Whether they are what a gateway of this dialect wants: all that are needed, and none that it does not know.
    pub fn fit(&self, dialect: Dialect) -> Result<(), AccountError> {
        self.check()?;
        let known = |name: &str| {
            // `locations.USD`: one value for each currency.
            let plain = name.split_once('.').map_or(name, |(many, _)| many);
            needed(dialect).contains(&name) || optional(dialect).contains(&plain)
        };
        let missing = needed(dialect).iter().find(|name| !self.0.contains_key(**name));
        match (missing, self.0.keys().find(|name| !known(name))) {
            (None, None) => Ok(()),
            (Some(missing), _) => Err(AccountError::invalid("credentials", format!("{missing} is missing"))),
            (_, Some(_)) => Err(AccountError::invalid(
                "credentials",
                format!("{} takes {} and no others", dialect.name(), needed(dialect).join(", ")),
            )),
        }
    }

    /// The same of a custom gateway, whose description names them.
    ///
    /// # Errors
    /// When one is missing that the description names, or one is there that it does not name.
    pub fn fit_custom(&self, named: &[String]) -> Result<(), AccountError> {
        self.check()?;
        let missing = named.iter().find(|name| !self.0.contains_key(*name));
        let unknown = self.0.keys().any(|name| !named.contains(name));
        match (missing, unknown) {
            (None, false) => Ok(()),
            (Some(missing), _) => Err(AccountError::invalid("credentials", format!("{missing} is missing"))),
            (None, true) => Err(AccountError::invalid(
                "credentials",
                format!("the gateway takes {} and no others", named.join(", ")),
            )),
        }
    }

    /// As requests are authenticated with them.
    pub fn to_credentials(&self) -> Credentials {
        Credentials::new(self.0.clone())
    }
}

fn key(tenant: &str, mode: Mode, gateway: &str) -> String {
    format!("{tenant}/{}/{gateway}", mode.label())
}

/// Stores credentials, in place of what was stored.
pub async fn store(
    ledger: &dyn Ledger,
    tenant: &str,
    mode: Mode,
    gateway: &str,
    credentials: &GatewayCredentials,
) -> Result<(), AccountError> {
    credentials.check()?;
    put(ledger, SPACE, key(tenant, mode, gateway), credentials, None).await
}

/// Credentials for a request to the gateway.
pub async fn load(
    ledger: &dyn Ledger,
    tenant: &str,
    mode: Mode,
    gateway: &str,
) -> Result<Option<GatewayCredentials>, AccountError> {
    match ledger.document(SPACE, key(tenant, mode, gateway)).await? {
        Some(document) => read(&document.value).map(Some),
        None => Ok(None),
    }
}

/// What is stored, without any value.
pub async fn list(ledger: &dyn Ledger, tenant: &str) -> Result<Vec<Stored>, AccountError> {
    let prefix = format!("{tenant}/");
    let documents = ledger.documents(SPACE, prefix.clone(), None, 1000).await?;
    documents
        .into_iter()
        .map(|document| {
            let credentials: GatewayCredentials = read(&document.value)?;
            let place = document.key.strip_prefix(&prefix).unwrap_or_default();
            let (mode, gateway) = match place.split_once('/') {
                Some(("test", gateway)) => (Mode::Test, gateway),
                Some((_, gateway)) => (Mode::Live, gateway),
                None => return Err(AccountError::Internal("a document of the ledger has no place")),
            };
            Ok(Stored {
                gateway: gateway.to_owned(),
                mode,
                fields: credentials.0.keys().cloned().collect(),
                updated_at: document.updated_at,
            })
        })
        .collect()
}

/// Deletes credentials; `false` when there were none.
pub async fn delete(ledger: &dyn Ledger, tenant: &str, mode: Mode, gateway: &str) -> Result<bool, AccountError> {
    Ok(ledger.delete_document(SPACE, key(tenant, mode, gateway)).await?)
}
