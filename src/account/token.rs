//! Sessions: a short-lived access token (JWT, RFC 7519) and an opaque refresh token that is used once.
//!
//! The JWT is signed and verified with HS256 and nothing else; what a token's header says about algorithms is compared,
//! never obeyed, and its key id only looks up a key of ours. Signing keys are replaced every 30 days; the one before is
//! still good for verifying. A session that was ended is refused at once, also after a restart: the ends that an access
//! token could outlive are read from the ledger at start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{AccountError, By, Caller, digest, put, random_label, read};
use crate::ledger::Ledger;

const KEYS: &str = "token_keys";
const SESSIONS: &str = "sessions";
const ISSUER: &str = "api-sentinel";

/// How long an access token is good, in milliseconds.
pub const ACCESS: i64 = 15 * 60_000;
/// How long a refresh token is good when it is not used, in milliseconds.
pub const REFRESH: i64 = 30 * 24 * 3_600_000;
/// How long a signing key signs, in milliseconds.
const SIGNING: i64 = 30 * 24 * 3_600_000;
/// The longest token looked at: ours are a third of it.
const LONGEST: usize = 1024;

const NO_SESSION: AccountError = AccountError::Unauthorised("the token is not valid, or no longer; log in again");

/// What a log-in gives.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// The JWT.
    pub access: String,
    /// Seconds it is good for.
    pub expires_in: i64,
    /// The refresh token, good once.
    pub refresh: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session([REDACTED])")
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    /// The session's family.
    sid: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

#[derive(Clone, Serialize, Deserialize)]
struct SigningKey {
    kid: String,
    /// 32 random bytes in base64. The document is sealed.
    secret: String,
    created_at: i64,
}

/// A family of refresh tokens: one log-in and all that followed from it.
#[derive(Serialize, Deserialize)]
struct Family {
    /// Digest of the token that is good now.
    digest: String,
    expires_at: i64,
    ended_at: Option<i64>,
}

/// Makes and verifies tokens.
pub(super) struct Tokens {
    ledger: Arc<dyn Ledger>,
    /// Newest first.
    keys: RwLock<Vec<SigningKey>>,
    /// Ended families whose access tokens may still be about, with when they no longer are.
    ended: Mutex<HashMap<String, i64>>,
}

impl Tokens {
    pub async fn open(ledger: Arc<dyn Ledger>) -> Result<Self, AccountError> {
        let now = ledger.now();
        let mut ended = HashMap::new();
        let mut after = None;
        loop {
            let page = ledger.documents(SESSIONS, String::new(), after, 500).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for document in &page {
                let family: Family = read(&document.value)?;
                if let Some(at) = family.ended_at
                    && at + ACCESS > now
                {
                    ended.insert(document.key.clone(), at + ACCESS);
                }
            }
        }
        let tokens = Self {
            ledger,
            keys: RwLock::default(),
            ended: Mutex::new(ended),
        };
        tokens.rotate().await?;
        Ok(tokens)
    }

    /// Loads the signing keys, and makes a new one when the newest has signed long enough.
    async fn rotate(&self) -> Result<(), AccountError> {
        let now = self.ledger.now();
        let document = self.ledger.document(KEYS, "hs256".to_owned()).await?;
        let (mut keys, version): (Vec<SigningKey>, i64) = match &document {
            Some(document) => (read(&document.value)?, document.version),
            None => (Vec::new(), 0),
        };
        if keys.first().is_none_or(|newest| newest.created_at + SIGNING <= now) {
            let mut secret = Zeroizing::new([0_u8; 32]);
            rand::fill(&mut *secret).map_err(|_| AccountError::Internal("the system gives no random bytes"))?;
            keys.insert(
                0,
                SigningKey {
                    kid: random_label(8)?,
                    secret: STANDARD.encode(*secret),
                    created_at: now,
                },
            );
            // What the one before signed last runs out one access token's life after the change.
            keys.truncate(2);
            put(&*self.ledger, KEYS, "hs256".to_owned(), &keys, Some(version)).await?;
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// A new session.
    pub async fn begin(&self, tenant: &str) -> Result<Session, AccountError> {
        let now = self.ledger.now();
        let old = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.first().is_none_or(|newest| newest.created_at + SIGNING <= now)
        };
        if old {
            self.rotate().await?;
        }
        self.forget_expired(tenant, now).await?;
        let family = format!("{tenant}/{}", random_label(16)?);
        let secret = random_label(40)?;
        let kept = Family {
            digest: digest(&secret),
            expires_at: now + REFRESH,
            ended_at: None,
        };
        put(&*self.ledger, SESSIONS, family.clone(), &kept, Some(0)).await?;
        self.session(tenant, &family, &secret, now)
    }

    /// The next session of a family.
    pub async fn refresh(&self, token: &str) -> Result<Session, AccountError> {
        let now = self.ledger.now();
        let (family, secret) = token
            .strip_prefix("rt_")
            .filter(|rest| rest.len() < LONGEST)
            .and_then(|rest| rest.rsplit_once('/'))
            .ok_or(NO_SESSION)?;
        let (tenant, _) = family.split_once('/').ok_or(NO_SESSION)?;
        let document = self
            .ledger
            .document(SESSIONS, family.to_owned())
            .await?
            .ok_or(NO_SESSION)?;
        let mut kept: Family = read(&document.value)?;
        if kept.ended_at.is_some() || kept.expires_at <= now {
            return Err(NO_SESSION);
        }
        if !bool::from(kept.digest.as_bytes().ct_eq(digest(secret).as_bytes())) {
            // Used before, or guessed: nobody can tell the owner from the thief, so neither goes on.
            self.end(family).await?;
            return Err(NO_SESSION);
        }
        let next = random_label(40)?;
        kept.digest = digest(&next);
        kept.expires_at = now + REFRESH;
        match put(
            &*self.ledger,
            SESSIONS,
            family.to_owned(),
            &kept,
            Some(document.version),
        )
        .await
        {
            Ok(()) => self.session(tenant, family, &next, now),
            Err(AccountError::Conflict) => {
                self.end(family).await?;
                Err(NO_SESSION)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends a family. Ending what has ended is no error.
    pub async fn end(&self, family: &str) -> Result<(), AccountError> {
        let now = self.ledger.now();
        loop {
            let Some(document) = self.ledger.document(SESSIONS, family.to_owned()).await? else {
                return Ok(());
            };
            let mut kept: Family = read(&document.value)?;
            if kept.ended_at.is_none() {
                kept.ended_at = Some(now);
                match put(
                    &*self.ledger,
                    SESSIONS,
                    family.to_owned(),
                    &kept,
                    Some(document.version),
                )
                .await
                {
                    Err(AccountError::Conflict) => continue,
                    other => other?,
                }
            }
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.retain(|_, until| *until > now);
            ended.insert(family.to_owned(), now + ACCESS);
            return Ok(());
        }
    }

    /// Ends all sessions of a tenant.
    pub async fn end_all(&self, tenant: &str) -> Result<(), AccountError> {
        for document in self.families(tenant).await? {
            self.end(&document.key).await?;
        }
        Ok(())
    }

    /// Who bears an access token.
    pub fn verify(&self, token: &str, now: i64) -> Result<Caller, AccountError> {
        if token.len() > LONGEST {
            return Err(NO_SESSION);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| NO_SESSION)?;
        if header.alg != Algorithm::HS256 {
            return Err(NO_SESSION);
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys
            .iter()
            .find(|key| Some(&key.kid) == header.kid.as_ref())
            .ok_or(NO_SESSION)?;
        let secret = Zeroizing::new(STANDARD.decode(&key.secret).map_err(|_| NO_SESSION)?);
        // Times are compared below, with the ledger's clock.
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[ISSUER]);
        rules.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
        rules.validate_exp = false;
        rules.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(&secret), &rules)
            .map_err(|_| NO_SESSION)?
            .claims;
        let seconds = now / 1000;
        if claims.exp <= seconds || claims.nbf > seconds {
            return Err(NO_SESSION);
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.contains_key(&claims.sid)
            || claims
                .sid
                .split_once('/')
                .is_none_or(|(tenant, _)| tenant != claims.sub)
        {
            return Err(NO_SESSION);
        }
        Ok(Caller {
            tenant: claims.sub,
            by: By::Session { family: claims.sid },
        })
    }

    fn session(&self, tenant: &str, family: &str, secret: &str, now: i64) -> Result<Session, AccountError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let failed = || AccountError::Internal("a token could not be signed");
        let key = keys.first().ok_or_else(failed)?;
        let seconds = now / 1000;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            sub: tenant.to_owned(),
            sid: family.to_owned(),
            iat: seconds,
            nbf: seconds,
            exp: seconds + ACCESS / 1000,
        };
        let header = Header {
            kid: Some(key.kid.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let bytes = Zeroizing::new(STANDARD.decode(&key.secret).map_err(|_| failed())?);
        let access = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&bytes)).map_err(|_| failed())?;
        Ok(Session {
            access,
            expires_in: ACCESS / 1000,
            refresh: format!("rt_{family}/{secret}"),
        })
    }

    /// A token of ours with any claims.
    #[cfg(test)]
    pub fn sign_for_test(&self, claims: &serde_json::Value) -> String {
        let keys = self.keys.read().expect("not poisoned");
        let header = Header {
            kid: Some(keys[0].kid.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let secret = STANDARD.decode(&keys[0].secret).expect("base64");
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&secret)).expect("signs")
    }

    async fn families(&self, tenant: &str) -> Result<Vec<crate::ledger::rows::Document>, AccountError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .ledger
                .documents(SESSIONS, format!("{tenant}/"), after, 500)
                .await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.key.clone());
            all.extend(page);
        }
    }

    async fn forget_expired(&self, tenant: &str, now: i64) -> Result<(), AccountError> {
        for document in self.families(tenant).await? {
            let family: Family = read(&document.value)?;
            if family.expires_at <= now || family.ended_at.is_some_and(|at| at + ACCESS <= now) {
                self.ledger.delete_document(SESSIONS, document.key).await?;
            }
        }
        Ok(())
    }
}
