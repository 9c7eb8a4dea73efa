//! Tenants: who may use this Sentinel, with which keys, and whose gateway accounts their payments use.
//!
//! Everything durable is a sealed document of the ledger: one file to back up, one key to keep. What is kept of a secret
//! is never the secret: passwords as argon2id, API keys and refresh tokens as SHA-256 of random bytes that nobody can
//! guess. A gateway's credentials must be sent to that gateway, so they are sealed, and no interface reads them back.
//!
//! # What it refuses
//!
//! - It never says whether an address has an account: a wrong password and an unknown address answer the same, after the
//!   same work, and are locked out alike. (Registration hands out a key at once and so cannot hide that an address is
//!   taken; it is limited by address and by client for that reason.)
//! - A token is only ever verified with the one algorithm it is made with, and a key id only ever names a key of ours.
//! - No tenant's document is reached by an id alone: every read and write carries the tenant it is for.

pub mod api_key;
pub mod audit;
pub mod credentials;
pub mod limiter;
pub mod password;
pub mod tenant;
pub mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ledger::keys::Purpose;
use crate::ledger::{Constraint, Ledger, LedgerError};
use api_key::{ApiKeys, IssuedKey, Mode, NewKey, Scope};
use audit::{Action, Actor};
use limiter::{Kind, Limiter};
use password::Passwords;
use tenant::{Email, Profile, Registration, Tenant};
use token::{Session, Tokens};

const TENANTS: &str = tenant::SPACE;
const EMAILS: &str = "emails";
/// What follows a tenant's id in the name of its staging books.
const TEST: &str = "/test";

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// A field is not what it must be.
    #[error("{field}: {why}")]
    Invalid {
        /// The field as the API spells it.
        field: &'static str,
        /// What it must be.
        why: String,
    },
    /// The address has an account.
    #[error("this address cannot be registered; log in instead, or use another address")]
    Taken,
    /// Wrong address, password, token or key. Deliberately one answer for all of them.
    #[error("{0}")]
    Unauthorised(&'static str),
    /// The caller is known, but not allowed to do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such thing, or it is another tenant's.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Somebody else changed it at the same time.
    #[error("it was changed at the same time; read it again and repeat")]
    Conflict,
    /// Too often.
    #[error("too many attempts; try again later")]
    TooMany {
        /// When it is worth trying again.
        retry_in: Duration,
    },
    /// More passwords are being checked than this machine should spend itself on.
    #[error("too many passwords are being checked at this moment; try again")]
    Busy,
    /// The ledger.
    #[error("the ledger refused: {0}")]
    Ledger(#[from] LedgerError),
    /// A defect, or no random bytes.
    #[error("{0}")]
    Internal(&'static str),
}

impl AccountError {
    fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }
}

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant.
    pub tenant: String,
    /// By what it was recognised.
    pub by: By,
}

/// By what a caller was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A session: everything that concerns the tenant itself.
    Session {
        /// The session's family, for logging out.
        family: String,
    },
    /// An API key, with what it may do.
    Key {
        /// The key's id.
        id: String,
        /// Live or test.
        mode: Mode,
        /// What it may do.
        scopes: Vec<Scope>,
    },
}

/// Whose books these are, and for which keys' payments: the reverse of [`Caller::books`].
pub fn tenant_of(books: &str) -> (&str, Mode) {
    match books.strip_suffix(TEST) {
        Some(tenant) => (tenant, Mode::Test),
        None => (books, Mode::Live),
    }
}

impl Caller {
    /// Whether it may do what the scope stands for. A session may do everything.
    pub fn may(&self, scope: Scope) -> bool {
        match &self.by {
            By::Session { .. } => true,
            By::Key { scopes, .. } => scopes.contains(&scope),
        }
    }

    /// Whether it is recognised by a session.
    pub fn is_session(&self) -> bool {
        matches!(self.by, By::Session { .. })
    }

    /// The name under which the ledger has the payments of a tenant's keys of one mode: the tenant's own for production,
    /// another for staging, so that no test is ever counted, shown or charged as a payment.
    pub fn books(tenant: &str, mode: Mode) -> String {
        match mode {
            Mode::Live => tenant.to_owned(),
            Mode::Test => format!("{tenant}{TEST}"),
        }
    }

    /// Whether books of this name are staging's: nothing in them costs anything.
    pub fn is_staging(books: &str) -> bool {
        books.ends_with(TEST)
    }

    /// The books that it may read unless it asks for others: those of its key, or production's.
    pub fn own_books(&self) -> String {
        match &self.by {
            By::Session { .. } => self.tenant.clone(),
            By::Key { mode, .. } => Self::books(&self.tenant, *mode),
        }
    }

    fn actor(&self) -> Actor {
        match &self.by {
            By::Session { .. } => Actor::Session,
            By::Key { id, .. } => Actor::Key { id: id.clone() },
        }
    }
}

/// What registering answers.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The tenant.
    pub tenant: Tenant,
    /// Its first API key, live, shown this once.
    pub key: IssuedKey,
    /// Its first session.
    pub session: Session,
}

/// All accounts of this Sentinel.
pub struct Accounts {
    ledger: Arc<dyn Ledger>,
    passwords: Passwords,
    tokens: Tokens,
    keys: ApiKeys,
    limiter: Limiter,
    /// One at a time claims an address and writes its tenant: a claim without a tenant is a crash's, never a twin's that is
    /// still at it. Only one process has the ledger.
    claiming: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accounts")
    }
}

impl Accounts {
    /// The accounts in this ledger. Reads or makes the keys that sign tokens.
    ///
    /// # Errors
    /// When the ledger cannot be read or written, or the system gives no random bytes.
    pub async fn open(ledger: Arc<dyn Ledger>) -> Result<Self, AccountError> {
        Ok(Self {
            passwords: Passwords::new()?,
            tokens: Tokens::open(Arc::clone(&ledger)).await?,
            keys: ApiKeys::new(Arc::clone(&ledger)),
            limiter: Limiter::new(),
            claiming: tokio::sync::Mutex::new(()),
            ledger,
        })
    }

    /// The API keys.
    pub fn keys(&self) -> &ApiKeys {
        &self.keys
    }

    /// The ledger that everything stands in.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// Makes a tenant, with a live key and a session.
    ///
    /// # Errors
    /// A field is wrong, the address is taken, too many registrations.
    pub async fn register(&self, asked: Registration, from: IpAddr) -> Result<Registered, AccountError> {
        let now = self.ledger.now();
        self.limiter.take(Kind::Register, &from.to_string(), now)?;
        let (email, company, password) = asked.checked()?;
        let password_hash = self.passwords.hash(password).await?;
        let tenant = Tenant {
            id: format!("tn_{}", random_label(20)?),
            email: email.as_str().to_owned(),
            company_name: company,
            password_hash,
            profile: Profile::default(),
            created_at: now,
            password_changed_at: now,
        };
        let claiming = self.claiming.lock().await;
        let claim = self
            .ledger
            .put_document(EMAILS, self.email_key(&email), tenant.id.clone(), Some(0))
            .await;
        match claim {
            Ok(_) => {}
            // A crash between claiming an address and writing its tenant leaves a claim without an account.
            Err(LedgerError::Taken(Constraint::Document)) if self.by_email(&email).await?.is_none() => {
                self.ledger
                    .put_document(EMAILS, self.email_key(&email), tenant.id.clone(), None)
                    .await?;
            }
            Err(LedgerError::Taken(Constraint::Document)) => return Err(AccountError::Taken),
            Err(error) => return Err(error.into()),
        }
        self.put_tenant(&tenant, Some(0)).await?;
        drop(claiming);
        self.audit(&tenant.id, Actor::Session, Action::Registered, from).await?;
        let asked = NewKey {
            name: "first key".to_owned(),
            mode: Mode::Live,
            scopes: Scope::ALL.to_vec(),
        };
        let key = self.keys.issue(&tenant.id, asked).await?;
        let session = self.tokens.begin(&tenant.id).await?;
        Ok(Registered { tenant, key, session })
    }

    /// Opens a session.
    ///
    /// # Errors
    /// [`AccountError::Unauthorised`] alike for an unknown address and a wrong password; too many attempts.
    pub async fn login(&self, email: &str, password: String, from: IpAddr) -> Result<(Tenant, Session), AccountError> {
        const WRONG: AccountError = AccountError::Unauthorised("wrong e-mail address or password");
        let now = self.ledger.now();
        self.limiter.take(Kind::Login, &from.to_string(), now)?;
        let Ok(email) = Email::parse(email) else {
            // The same work as for any other address.
            self.passwords.verify(None, password).await?;
            return Err(WRONG);
        };
        let lock = format!("{:x?}", &self.email_hash(&email)[..16]);
        self.limiter.locked(&lock, now)?;
        let tenant = self.by_email(&email).await?;
        let hash = tenant.as_ref().map(|tenant| tenant.password_hash.clone());
        let right = self.passwords.verify(hash, password).await?;
        match tenant {
            Some(tenant) if right => {
                self.limiter.succeeded(&lock);
                let session = self.tokens.begin(&tenant.id).await?;
                self.audit(&tenant.id, Actor::Session, Action::LoggedIn, from).await?;
                Ok((tenant, session))
            }
            tenant => {
                let locked_out = self.limiter.failed(&lock, now);
                if let Some(tenant) = tenant {
                    let action = if locked_out {
                        Action::LockedOut
                    } else {
                        Action::LoginFailed
                    };
                    self.audit(&tenant.id, Actor::Nobody, action, from).await?;
                }
                Err(WRONG)
            }
        }
    }

    /// A new session for a refresh token, which is used up by it. A token used twice ends its whole family: one of the
    /// two was a thief.
    pub async fn refresh(&self, token: &str, from: IpAddr) -> Result<Session, AccountError> {
        self.limiter.take(Kind::Refresh, &from.to_string(), self.ledger.now())?;
        self.tokens.refresh(token).await
    }

    /// Ends a session.
    pub async fn logout(&self, caller: &Caller, from: IpAddr) -> Result<(), AccountError> {
        let By::Session { family } = &caller.by else {
            return Err(AccountError::Forbidden(
                "an API key has no session; revoke the key instead",
            ));
        };
        self.tokens.end(family).await?;
        self.audit(&caller.tenant, Actor::Session, Action::LoggedOut, from)
            .await
    }

    /// Changes the password and ends all sessions but a new one.
    pub async fn change_password(
        &self,
        caller: &Caller,
        old: String,
        new: String,
        from: IpAddr,
    ) -> Result<Session, AccountError> {
        let now = self.ledger.now();
        let lock = format!("password of {}", caller.tenant);
        self.limiter.locked(&lock, now)?;
        let (mut tenant, version) = self.tenant_at(&caller.tenant).await?;
        if !self.passwords.verify(Some(tenant.password_hash.clone()), old).await? {
            self.limiter.failed(&lock, now);
            return Err(AccountError::Unauthorised("the present password is wrong"));
        }
        tenant::check_password("newPassword", &new, &tenant.email, &tenant.company_name)?;
        tenant.password_hash = self.passwords.hash(new).await?;
        tenant.password_changed_at = now;
        self.put_tenant(&tenant, Some(version)).await?;
        self.tokens.end_all(&caller.tenant).await?;
        self.audit(&caller.tenant, caller.actor(), Action::PasswordChanged, from)
            .await?;
        self.tokens.begin(&caller.tenant).await
    }

    /// Who bears this access token.
    pub fn session(&self, token: &str) -> Result<Caller, AccountError> {
        self.tokens.verify(token, self.ledger.now())
    }

    /// Who sends this API key.
    pub async fn key(&self, key: &str) -> Result<Caller, AccountError> {
        self.keys.verify(key).await
    }

    /// A tenant.
    pub async fn tenant(&self, id: &str) -> Result<Tenant, AccountError> {
        self.tenant_at(id).await.map(|(tenant, _)| tenant)
    }

    /// All tenants, in the order of their ids.
    pub async fn tenants(&self, after: Option<String>, limit: usize) -> Result<Vec<Tenant>, AccountError> {
        let documents = self.ledger.documents(TENANTS, String::new(), after, limit).await?;
        documents.iter().map(|document| read(&document.value)).collect()
    }

    /// Chooses the tenant's gateways. `known` says whether a name is a gateway that a payment can be taken at.
    pub async fn set_profile(
        &self,
        caller: &Caller,
        profile: Profile,
        known: impl Fn(&str) -> bool,
        from: IpAddr,
    ) -> Result<Tenant, AccountError> {
        profile.check(known)?;
        let (mut tenant, version) = self.tenant_at(&caller.tenant).await?;
        tenant.profile = profile;
        self.put_tenant(&tenant, Some(version)).await?;
        self.audit(&caller.tenant, caller.actor(), Action::ProfileChanged, from)
            .await?;
        Ok(tenant)
    }

    /// Writes a line of the audit trail.
    pub async fn audit(&self, tenant: &str, actor: Actor, action: Action, from: IpAddr) -> Result<(), AccountError> {
        audit::write(&*self.ledger, tenant, actor, action, from).await
    }

    /// The audit trail of what a caller did.
    pub async fn note(&self, caller: &Caller, action: Action, from: IpAddr) -> Result<(), AccountError> {
        self.audit(&caller.tenant, caller.actor(), action, from).await
    }

    async fn by_email(&self, email: &Email) -> Result<Option<Tenant>, AccountError> {
        let Some(claim) = self.ledger.document(EMAILS, self.email_key(email)).await? else {
            return Ok(None);
        };
        match self.tenant_at(&claim.value).await {
            Ok((tenant, _)) => Ok(Some(tenant)),
            Err(AccountError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tenant_at(&self, id: &str) -> Result<(Tenant, i64), AccountError> {
        let document = self.ledger.document(TENANTS, id.to_owned()).await?;
        let document = document.ok_or(AccountError::NotFound("tenant"))?;
        Ok((read(&document.value)?, document.version))
    }

    async fn put_tenant(&self, tenant: &Tenant, expected: Option<i64>) -> Result<(), AccountError> {
        put(&*self.ledger, TENANTS, tenant.id.clone(), tenant, expected).await
    }

    fn email_hash(&self, email: &Email) -> [u8; 32] {
        self.ledger
            .keys()
            .hash(Purpose::DocumentKey, &[b"email", email.as_str().as_bytes()])
    }

    fn email_key(&self, email: &Email) -> String {
        hex(&self.email_hash(email))
    }
}

/// Writes a document.
async fn put(
    ledger: &dyn Ledger,
    space: &'static str,
    key: String,
    value: &impl Serialize,
    expected: Option<i64>,
) -> Result<(), AccountError> {
    let value = serde_json::to_string(value).map_err(|_| AccountError::Internal("a document cannot be written"))?;
    match ledger.put_document(space, key, value, expected).await {
        Ok(_) => Ok(()),
        Err(LedgerError::Taken(Constraint::Document)) => Err(AccountError::Conflict),
        Err(error) => Err(error.into()),
    }
}

/// Reads a document's value.
fn read<T: DeserializeOwned>(value: &str) -> Result<T, AccountError> {
    serde_json::from_str(value).map_err(|_| AccountError::Internal("a document of the ledger cannot be read"))
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Random letters and digits (5 bits each), from the system's source.
fn random_label(length: usize) -> Result<String, AccountError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = vec![0_u8; length];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AccountError::Internal("the system gives no random bytes"))?;
    Ok(bytes
        .iter()
        .map(|byte| ALPHABET[usize::from(byte & 31)] as char)
        .collect())
}

/// SHA-256, in hexadecimal.
fn digest(text: &str) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests;
