//! A tenant, and what it must look like at the door.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{AccountError, read};
use crate::ledger::Ledger;

/// The shortest password taken, in characters (NIST SP 800-63B asks for 8 at least, and for length over rules).
pub const SHORTEST_PASSWORD: usize = 12;
/// The longest password taken, in bytes: hashing is linear in it.
const LONGEST_PASSWORD: usize = 256;
/// The longest e-mail address (RFC 5321, 4.5.3.1.3, less the angle brackets).
const LONGEST_EMAIL: usize = 254;
const LONGEST_COMPANY: usize = 200;

/// The space of the ledger that tenants stand in.
pub(super) const SPACE: &str = "tenants";

/// A tenant; `None` where there is none.
pub async fn load(ledger: &dyn Ledger, id: &str) -> Result<Option<Tenant>, AccountError> {
    match ledger.document(SPACE, id.to_owned()).await? {
        Some(document) => read(&document.value).map(Some),
        None => Ok(None),
    }
}

/// A registered customer of this Sentinel.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// `tn_` and random letters.
    pub id: String,
    /// As normalised by [`Email`].
    pub email: String,
    /// As given.
    pub company_name: String,
    /// argon2id, PHC format.
    pub password_hash: String,
    /// The gateways it chose.
    #[serde(default)]
    pub profile: Profile,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub password_changed_at: i64,
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenant")
            .field("id", &self.id)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// The gateways a tenant chose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Profile {
    /// Where its payments go first.
    pub primary_gateway: Option<String>,
    /// Where they go when that one fails.
    pub secondary_gateway: Option<String>,
}

impl Profile {
    pub(super) fn check(&self, known: impl Fn(&str) -> bool) -> Result<(), AccountError> {
        for (field, gateway) in [
            ("primaryGateway", &self.primary_gateway),
            ("secondaryGateway", &self.secondary_gateway),
        ] {
            if let Some(gateway) = gateway
                && !known(gateway)
            {
                return Err(AccountError::invalid(
                    field,
                    "must be a gateway that this Sentinel has: GET /api/v1/status names them",
                ));
            }
        }
        if self.primary_gateway.is_none() && self.secondary_gateway.is_some() {
            return Err(AccountError::invalid(
                "primaryGateway",
                "is needed beside a secondary one",
            ));
        }
        if self.primary_gateway.is_some() && self.primary_gateway == self.secondary_gateway {
            return Err(AccountError::invalid(
                "secondaryGateway",
                "must be another gateway than the primary one",
            ));
        }
        Ok(())
    }
}

/// An e-mail address, normalised: trimmed, domain and local part in lower case, so that one mailbox is one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Reads an address. What a mail server would take is its business; this refuses what cannot be one, and everything
    /// that could break a line of a log or a header.
    pub fn parse(text: &str) -> Result<Self, AccountError> {
        let wrong = || AccountError::invalid("email", "must be an e-mail address");
        let text = text.trim().to_lowercase();
        let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
        let visible = text
            .chars()
            .all(|c| !c.is_control() && !c.is_whitespace() && !"<>()[],;:\\\"".contains(c));
        let labels = domain
            .split('.')
            .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
        let dots = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
        let once = !local.contains('@');
        if local.is_empty()
            || text.len() > LONGEST_EMAIL
            || !visible
            || !labels
            || !dots
            || !once
            || !domain.contains('.')
        {
            return Err(wrong());
        }
        Ok(Self(text))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a registration says.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Registration {
    /// The address to log in with.
    #[schemars(email, length(max = 254))]
    pub email: String,
    /// The password: 12 characters or more, and none of the first that anybody would guess.
    #[schemars(length(min = 12, max = 256))]
    pub password: String,
    /// The company.
    #[schemars(length(min = 1, max = 200))]
    pub company_name: String,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registration([REDACTED])")
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

impl Registration {
    /// The address, the company and the password, when each is what it must be.
    pub(super) fn checked(mut self) -> Result<(Email, String, String), AccountError> {
        let email = Email::parse(&self.email)?;
        let company = self.company_name.trim().to_owned();
        if company.is_empty() || company.chars().count() > LONGEST_COMPANY || company.chars().any(char::is_control) {
            return Err(AccountError::invalid(
                "companyName",
                "must be 1 to 200 characters without control characters",
            ));
        }
        check_password("password", &self.password, email.as_str(), &company)?;
        Ok((email, company, std::mem::take(&mut self.password)))
    }
}

/// Whether a password may be chosen.
pub(super) fn check_password(
    field: &'static str,
    password: &str,
    email: &str,
    company: &str,
) -> Result<(), AccountError> {
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(AccountError::invalid(field, "must have 12 characters or more"));
    }
    if password.len() > LONGEST_PASSWORD {
        return Err(AccountError::invalid(field, "must have 256 bytes or fewer"));
    }
    let lower = password.to_lowercase();
    let mut letters = lower.chars();
    let first = letters.next();
    if letters.all(|letter| Some(letter) == first)
        || lower == email
        || lower == company.to_lowercase()
        || "01234567890123456789".contains(&lower)
        || "abcdefghijklmnopqrstuvwxyz".contains(&lower)
        || lower.starts_with("passwordpassword")
    {
        return Err(AccountError::invalid(
            field,
            "is one of the first that anybody would guess",
        ));
    }
    Ok(())
}
