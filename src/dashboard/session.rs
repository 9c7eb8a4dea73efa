//! Who looks at the dashboard.
//!
//! A session is 256 random bits in a cookie that no script can read and no other site can have sent (`HttpOnly`,
//! `SameSite=Strict`); only its SHA-256 is kept, in memory: a restart logs everybody out. What changes something also
//! carries the session's own token in its form, so that even a page that could make a browser post here could do nothing.
//!
//! A tenant's session stands on one of the tenants' interface: it ends with it, and with a change of the password. An
//! operator's stands on the admin token. Where there is none, whoever sits at this machine is an operator, as at the
//! admin listener, but has to say so, and only when the browser speaks to a loopback name without a proxy between: a
//! dashboard that was published by mistake gives nothing away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::account::api_key::Mode;
use crate::account::tenant::Tenant;
use crate::account::{AccountError, Accounts, Caller, token};

/// The cookie's name.
pub(super) const COOKIE: &str = "sentinel_session";
/// A working day.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Whoever left the desk is logged out.
const IDLE: Duration = Duration::from_secs(2 * 3600);
/// Sessions at once; the oldest ends for a new one.
const MOST: usize = 1000;

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Runs this Sentinel.
    Operator,
    /// Has an account.
    Tenant {
        /// Its id.
        id: String,
        /// For people.
        company: String,
    },
}

struct Session {
    who: Who,
    mode: Mode,
    csrf: String,
    begun: Instant,
    seen: Instant,
    /// The tokens of the tenant's session.
    tokens: Option<Arc<tokio::sync::Mutex<token::Session>>>,
}

/// Everybody who is logged in.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<[u8; 32], Session>>,
}

/// Somebody who is logged in, for one request.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    pub who: Who,
    /// Whose payments a tenant looks at: production's or staging's.
    pub mode: Mode,
    /// The token that forms carry.
    pub csrf: String,
    /// The tenant's session.
    pub caller: Option<Caller>,
    key: [u8; 32],
}

impl Viewer {
    /// Whether it is an operator.
    pub fn operates(&self) -> bool {
        self.who == Who::Operator
    }

    /// The name under which the ledger has what this viewer may see; `None` for everything.
    pub fn books(&self) -> Option<String> {
        match &self.who {
            Who::Operator => None,
            Who::Tenant { id, .. } => Some(Caller::books(id, self.mode)),
        }
    }

    /// Whether a form carries this session's token.
    pub fn wrote(&self, csrf: &str) -> bool {
        self.csrf.as_bytes().ct_eq(csrf.as_bytes()).into()
    }
}

impl Sessions {
    /// Opens a session; answers the cookie's value.
    pub fn open(&self, who: Who, tokens: Option<token::Session>) -> Result<String, AccountError> {
        let (cookie, csrf) = (random()?, random()?);
        let now = Instant::now();
        let session = Session {
            who,
            mode: Mode::Live,
            csrf,
            begun: now,
            seen: now,
            tokens: tokens.map(|tokens| Arc::new(tokio::sync::Mutex::new(tokens))),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.alive(now));
        if open.len() >= MOST
            && let Some(oldest) = open.iter().min_by_key(|(_, session)| session.seen).map(|(key, _)| *key)
        {
            open.remove(&oldest);
        }
        open.insert(digest(&cookie), session);
        Ok(cookie)
    }

    /// Who sends this cookie.
    pub async fn viewer(&self, headers: &HeaderMap, accounts: Option<&Arc<Accounts>>, from: IpAddr) -> Option<Viewer> {
        let key = digest(&cookie(headers)?);
        let now = Instant::now();
        let (who, mode, csrf, tokens) = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let session = open.get_mut(&key).filter(|session| session.alive(now))?;
            session.seen = now;
            (
                session.who.clone(),
                session.mode,
                session.csrf.clone(),
                session.tokens.clone(),
            )
        };
        let caller = match (tokens, accounts) {
            (None, _) => None,
            (Some(tokens), Some(accounts)) => {
                // One request at a time renews them: a refresh token is good once.
                let mut tokens = tokens.lock().await;
                match accounts.session(&tokens.access) {
                    Ok(caller) => Some(caller),
                    Err(_) => match accounts.refresh(&tokens.refresh, from).await {
                        Ok(renewed) => {
                            *tokens = renewed;
                            accounts.session(&tokens.access).ok()
                        }
                        Err(error) => {
                            if matches!(error, AccountError::Unauthorised(_)) {
                                self.end(&key);
                            }
                            return None;
                        }
                    },
                }
            }
            (Some(_), None) => return None,
        };
        Some(Viewer {
            who,
            mode,
            csrf,
            caller,
            key,
        })
    }

    /// Shows a tenant's other books from now on.
    pub fn look_at(&self, viewer: &Viewer, mode: Mode) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = open.get_mut(&viewer.key) {
            session.mode = mode;
        }
    }

    /// New tokens of a tenant's session: its password was changed.
    pub fn renew(&self, viewer: &Viewer, renewed: token::Session) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = open.get_mut(&viewer.key) {
            session.tokens = Some(Arc::new(tokio::sync::Mutex::new(renewed)));
        }
    }

    /// Ends a session.
    pub fn close(&self, viewer: &Viewer) {
        self.end(&viewer.key);
    }

    fn end(&self, key: &[u8; 32]) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Session {
    fn alive(&self, now: Instant) -> bool {
        now.duration_since(self.begun) < LONGEST && now.duration_since(self.seen) < IDLE
    }
}

/// Who somebody with an account is.
pub(super) fn tenant(tenant: &Tenant) -> Who {
    Who::Tenant {
        id: tenant.id.clone(),
        company: tenant.company_name.clone(),
    }
}

/// The `Set-Cookie` of a session; an empty value ends it.
pub(super) fn set_cookie(value: &str, tls: bool) -> String {
    let age = if value.is_empty() { 0 } else { LONGEST.as_secs() };
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}")
}

/// The session's cookie, when exactly one was sent.
fn cookie(headers: &HeaderMap) -> Option<String> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value.to_owned());
    let value = found.next()?;
    found.next().is_none().then_some(value)
}

fn digest(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie.as_bytes()).into()
}

fn random() -> Result<String, AccountError> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AccountError::Internal("the system gives no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, cookie.parse().unwrap());
        }
        headers
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_nobody_uses_it_and_when_the_day_is_over() {
        let sessions = Sessions::default();
        let cookie = sessions.open(Who::Operator, None).unwrap();
        let sent = headers(&[&format!("other=1; {COOKIE}={cookie}")]);
        let viewer = sessions.viewer(&sent, None, HERE).await.expect("somebody");
        assert!(viewer.operates() && viewer.wrote(&viewer.csrf.clone()) && !viewer.wrote(""));
        for _ in 0..7 {
            tokio::time::advance(Duration::from_secs(100 * 60)).await;
            assert!(sessions.viewer(&sent, None, HERE).await.is_some());
        }
        tokio::time::advance(Duration::from_secs(100 * 60)).await;
        assert!(sessions.viewer(&sent, None, HERE).await.is_none(), "the day is over");
        let cookie = sessions.open(Who::Operator, None).unwrap();
        let sent = headers(&[&format!("{COOKIE}={cookie}")]);
        tokio::time::advance(IDLE).await;
        assert!(sessions.viewer(&sent, None, HERE).await.is_none(), "nobody was there");
    }

    #[tokio::test]
    async fn two_cookies_are_nobody() {
        let sessions = Sessions::default();
        let cookie = sessions.open(Who::Operator, None).unwrap();
        let twice = headers(&[&format!("{COOKIE}={cookie}"), &format!("{COOKIE}=planted")]);
        assert!(sessions.viewer(&twice, None, HERE).await.is_none());
        assert!(sessions.viewer(&headers(&[]), None, HERE).await.is_none());
    }
}
