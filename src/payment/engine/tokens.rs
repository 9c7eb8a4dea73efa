//! Access tokens of gateways that want one fetched first: kept until shortly before they expire, shared by all workers.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::{At, Desk};
use crate::gateway::{AccessToken, Auth};

/// A token is fetched anew this long before it expires.
const MARGIN: Duration = Duration::from_secs(60);
/// The longest that one is kept, whatever its gateway says of it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long fetching one may take: no more than a fraction of an attempt.
const FETCH: Duration = Duration::from_secs(5);

/// Tokens by tenant and gateway. A token belongs to the credentials it was fetched with; others mean another entry.
#[derive(Default)]
pub(super) struct Tokens {
    kept: DashMap<(Arc<str>, String), (AccessToken, Instant, crate::config::model::Credentials)>,
}

impl Tokens {
    fn get(&self, at: &At) -> Option<AccessToken> {
        let kept = self.kept.get(&place(at))?;
        let (token, until, credentials) = kept.value();
        (Instant::now() < *until && *credentials == at.credentials).then(|| token.clone())
    }

    fn keep(&self, at: &At, token: &AccessToken) {
        let good = kept_for(token);
        let entry = (token.clone(), Instant::now() + good, at.credentials.clone());
        self.kept.insert(place(at), entry);
    }

    /// Forgets a token that the gateway refused.
    pub fn forget(&self, at: &At) {
        self.kept.remove(&place(at));
    }
}

fn kept_for(token: &AccessToken) -> Duration {
    Duration::from_secs(token.expires_in)
        .saturating_sub(MARGIN)
        .min(LONGEST)
}

fn place(at: &At) -> (Arc<str>, String) {
    (Arc::clone(&at.tenant), at.config.name.clone())
}

impl Desk {
    /// A token for an account; `None` where none can be had. The request moves no money.
    pub async fn token(self: &Rc<Self>, at: &At) -> Option<AccessToken> {
        if let Some(token) = self.engine.tokens.get(at) {
            return Some(token);
        }
        let account = at.account(String::new(), String::new());
        let Ok(Auth::Token { request }) = at.gateway.authentication(&account) else {
            return None;
        };
        let exchanged = self
            .wire
            .exchange(&at.config, request, FETCH, false, async || true)
            .await;
        let token = at.gateway.read_token(&exchanged.answer?)?;
        self.engine.tokens.keep(at, &token);
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_a_gateways_makes_a_time_that_is_none() {
        for (said, kept) in [(0, 0), (30, 0), (32_400, 32_340), (u64::MAX, 24 * 3600)] {
            let token = AccessToken {
                value: String::new().into(),
                expires_in: said,
            };
            let good = kept_for(&token);
            assert_eq!(good, Duration::from_secs(kept));
            assert!(Instant::now().checked_add(good).is_some());
        }
    }
}
