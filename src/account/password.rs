//! Passwords: argon2id, with the parameters that OWASP recommends (19 MiB, two passes, one lane), on threads of their own.
//!
//! A check costs some tens of milliseconds and 19 MiB on purpose, so a flood of log-ins would be an outage of its own
//! making: no more than two are computed at once, and no more than sixteen wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::AccountError;

const AT_ONCE: usize = 2;
const WAITING: usize = 16;

/// Hashes and checks passwords.
pub(super) struct Passwords {
    places: Arc<Semaphore>,
    inside: Arc<AtomicUsize>,
    /// What a password is checked against where there is no account, so that it takes as long.
    nobody: Arc<str>,
}

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

impl Passwords {
    pub fn new() -> Result<Self, AccountError> {
        let nobody = hash("a password that nobody has")?;
        Ok(Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            inside: Arc::new(AtomicUsize::new(0)),
            nobody: nobody.into(),
        })
    }

    /// The PHC string of a password.
    pub async fn hash(&self, password: String) -> Result<String, AccountError> {
        let password = Zeroizing::new(password);
        self.compute(move || hash(&password)).await?
    }

    /// Whether a password is the one that was hashed. `None` is nobody's: `false`, after the same work.
    pub async fn verify(&self, hash: Option<String>, password: String) -> Result<bool, AccountError> {
        let password = Zeroizing::new(password);
        let nobody = Arc::clone(&self.nobody);
        self.compute(move || {
            let known = hash.is_some();
            let text = hash.as_deref().unwrap_or(&nobody);
            let parsed =
                PasswordHash::new(text).map_err(|_| AccountError::Internal("a password's hash cannot be read"))?;
            Ok(hasher().verify_password(password.as_bytes(), &parsed).is_ok() && known)
        })
        .await?
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AccountError> {
        // Counted before waiting: whoever comes when the queue is full is told at once.
        let place = Inside::enter(&self.inside)?;
        let permit = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| AccountError::Internal("passwords are no longer checked"))?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop((permit, place));
            done
        })
        .await
        .map_err(|_| AccountError::Internal("a password could not be checked"))
    }
}

fn hash(password: &str) -> Result<String, AccountError> {
    hasher()
        .hash_password(password.as_bytes())
        .map(|hash: PasswordHash| hash.to_string())
        .map_err(|_| AccountError::Internal("a password could not be hashed"))
}

struct Inside(Arc<AtomicUsize>);

impl Inside {
    fn enter(count: &Arc<AtomicUsize>) -> Result<Self, AccountError> {
        let entered = Self(Arc::clone(count));
        if count.fetch_add(1, SeqCst) >= AT_ONCE + WAITING {
            return Err(AccountError::Busy);
        }
        Ok(entered)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
