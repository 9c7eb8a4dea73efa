//! Who tries too often. In memory: a restart forgives, which is why the locks are short.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::AccountError;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Registrations from one address: 10, and one more every six minutes.
    Register,
    /// Log-ins from one address: 30, and one more every ten seconds.
    Login,
    /// Refreshes from one address: 60, and one more every second.
    Refresh,
}

impl Kind {
    /// How many at once, and how many milliseconds until one more.
    const fn rate(self) -> (i64, i64) {
        match self {
            Self::Register => (10, 360_000),
            Self::Login => (30, 10_000),
            Self::Refresh => (60, 1_000),
        }
    }
}

/// Wrong passwords in a row before the account is locked.
const FAILURES: u32 = 5;
/// The first lock. Doubled with every further failure, up to [`LONGEST_LOCK`].
const LOCK: i64 = 60_000;
const LONGEST_LOCK: i64 = 15 * 60_000;
/// Entries kept; beyond, those that are over are forgotten, and then the oldest.
const ENTRIES: usize = 50_000;

#[derive(Debug, Default)]
struct State {
    /// When the bucket of a client will be full again (the generic cell rate algorithm).
    buckets: HashMap<(Kind, String), i64>,
    locks: HashMap<String, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: i64,
    until: i64,
}

/// Counts attempts.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<State>);

impl Limiter {
    /// Nobody has tried anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts an attempt, or says when the next one is allowed.
    pub fn take(&self, kind: Kind, client: &str, now: i64) -> Result<(), AccountError> {
        let (burst, each) = kind.rate();
        let mut state = self.lock();
        if state.buckets.len() >= ENTRIES {
            state.buckets.retain(|_, full_at| *full_at > now);
        }
        if state.buckets.len() >= ENTRIES {
            state.buckets.clear();
        }
        let full_at = state.buckets.entry((kind, client.to_owned())).or_insert(now);
        let next = (*full_at).max(now) + each;
        if next - now > burst * each {
            let wait = u64::try_from(next - now - burst * each).unwrap_or(0);
            return Err(AccountError::TooMany {
                retry_in: Duration::from_millis(wait),
            });
        }
        *full_at = next;
        Ok(())
    }

    /// Refuses while an account is locked.
    pub fn locked(&self, account: &str, now: i64) -> Result<(), AccountError> {
        match self.lock().locks.get(account) {
            Some(failures) if failures.until > now => Err(AccountError::TooMany {
                retry_in: Duration::from_millis(u64::try_from(failures.until - now).unwrap_or(0)),
            }),
            _ => Ok(()),
        }
    }

    /// Counts a wrong password; `true` when it locked the account.
    pub fn failed(&self, account: &str, now: i64) -> bool {
        let mut state = self.lock();
        if state.locks.len() >= ENTRIES {
            state.locks.retain(|_, failures| failures.last + LONGEST_LOCK > now);
        }
        if state.locks.len() >= ENTRIES {
            state.locks.clear();
        }
        let failures = state.locks.entry(account.to_owned()).or_insert(Failures {
            count: 0,
            last: now,
            until: 0,
        });
        if failures.last + 2 * LONGEST_LOCK < now {
            failures.count = 0;
        }
        failures.count += 1;
        failures.last = now;
        let beyond = failures.count.saturating_sub(FAILURES);
        if failures.count < FAILURES {
            return false;
        }
        failures.until = now + (LOCK << beyond.min(8)).min(LONGEST_LOCK);
        true
    }

    /// The right password came.
    pub fn succeeded(&self, account: &str) {
        self.lock().locks.remove(account);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
