//! Who looks at the dashboard.
//!
//! A session is 256 random bits in a cookie that no script can read and no other site can have sent (`HttpOnly`,
//! `SameSite=Strict`); only its SHA-256 is kept. What changes something also carries the session's own token in its form, so
//! that even a page that could make a browser post here could do nothing.
//!
//! Sessions are held in memory and written to the ledger, sealed, so that nobody is logged out by a restart; without a
//! ledger they end with the process.
//!
//! A tenant's session stands on one of the tenants' interface: it ends with it, and with a change of the password. An
//! operator's stands on the admin token, and ends with a restart under another one. Where there is none, whoever sits at this machine is an operator, as at the
//! admin listener, but has to say so, and only when the browser speaks to a loopback name without a proxy between: a
//! dashboard that was published by mistake gives nothing away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::account::api_key::Mode;
use crate::account::tenant::Tenant;
use crate::account::{AccountError, Accounts, Caller, token};
use crate::ledger::Ledger;

/// The space of sessions in the ledger.
const SPACE: &str = "dashboard-sessions";

/// The cookie's name.
pub(super) const COOKIE: &str = "sentinel_session";
/// A working day.
const LONGEST: i64 = 12 * 3_600_000;
/// Whoever left the desk is logged out.
const IDLE: i64 = 2 * 3_600_000;
/// How late the ledger may be about when somebody was seen.
const NOTED: i64 = 10 * 60_000;
/// Sessions at once; the oldest ends for a new one.
const MOST: usize = 1000;

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Unix milliseconds, as all times here.
    begun: i64,
    seen: i64,
    /// What the ledger has as `seen`.
    noted: i64,
    /// The tokens of the tenant's session.
    tokens: Option<Arc<tokio::sync::Mutex<token::Session>>>,
}

/// A session as the ledger has it.
#[derive(Serialize, Deserialize)]
struct Written {
    who: Who,
    mode: Mode,
    csrf: String,
    begun: i64,
    seen: i64,
    /// The tenant's access and refresh token.
    tokens: Option<(String, i64, String)>,
    /// A digest of the admin token that an operator's session stands on.
    stands_on: String,
}

/// Everybody who is logged in.
pub(super) struct Sessions {
    open: Mutex<HashMap<[u8; 32], Session>>,
    ledger: Option<Arc<dyn Ledger>>,
    stands_on: String,
    /// When this began: a clock that only goes forward.
    epoch: (i64, Instant),
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
    /// The sessions that the ledger has, as far as they are good under this admin token.
    pub async fn load(ledger: Option<Arc<dyn Ledger>>, admin_token: Option<&str>) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sessions = Self {
            open: Mutex::default(),
            ledger,
            stands_on: admin_token.map_or_else(String::new, |token| hex(&digest(token))),
            epoch: (i64::try_from(unix.as_millis()).unwrap_or(i64::MAX), Instant::now()),
        };
        if let Some(ledger) = &sessions.ledger {
            let found = ledger.documents(SPACE, String::new(), None, MOST).await;
            let found = found.unwrap_or_else(|error| {
                tracing::warn!(%error, "whoever was logged in to the dashboard has to log in again");
                Vec::new()
            });
            for document in found {
                if !sessions.restore(&document.key, &document.value) {
                    sessions.erase(&document.key).await;
                }
            }
        }
        sessions
    }

    /// Takes a written session up again; whether it is good.
    fn restore(&self, key: &str, value: &str) -> bool {
        let Some((key, written)) = unhex(key).zip(serde_json::from_str::<Written>(value).ok()) else {
            return false;
        };
        let session = Session {
            who: written.who,
            mode: written.mode,
            csrf: written.csrf,
            begun: written.begun,
            seen: written.seen,
            noted: written.seen,
            tokens: written.tokens.map(|(access, expires_in, refresh)| {
                Arc::new(tokio::sync::Mutex::new(token::Session {
                    access,
                    expires_in,
                    refresh,
                }))
            }),
        };
        let stands = session.who != Who::Operator || written.stands_on == self.stands_on;
        let good = stands && session.alive(self.now());
        if good {
            self.lock().insert(key, session);
        }
        good
    }

    fn now(&self) -> i64 {
        self.epoch.0 + i64::try_from(self.epoch.1.elapsed().as_millis()).unwrap_or(0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a session to the ledger as it is now. What cannot be written is lost at a restart, and nothing else.
    async fn write(&self, key: &[u8; 32]) {
        let Some(ledger) = &self.ledger else { return };
        let (mut written, tokens) = {
            let mut open = self.lock();
            let Some(session) = open.get_mut(key) else { return };
            session.noted = session.seen;
            let written = Written {
                who: session.who.clone(),
                mode: session.mode,
                csrf: session.csrf.clone(),
                begun: session.begun,
                seen: session.seen,
                tokens: None,
                stands_on: self.stands_on.clone(),
            };
            (written, session.tokens.clone())
        };
        if let Some(tokens) = tokens {
            let tokens = tokens.lock().await;
            written.tokens = Some((tokens.access.clone(), tokens.expires_in, tokens.refresh.clone()));
        }
        let Ok(value) = serde_json::to_string(&written) else {
            return;
        };
        if let Err(error) = ledger.put_document(SPACE, hex(key), value, None).await {
            tracing::debug!(%error, "a session of the dashboard was not written");
        }
    }

    async fn erase(&self, key: &str) {
        let Some(ledger) = &self.ledger else { return };
        if let Err(error) = ledger.delete_document(SPACE, key.to_owned()).await {
            tracing::warn!(%error, "a session of the dashboard was not erased");
        }
    }

    /// Opens a session; answers the cookie's value.
    pub async fn open(&self, who: Who, tokens: Option<token::Session>) -> Result<String, AccountError> {
        let (cookie, csrf) = (random()?, random()?);
        let now = self.now();
        let session = Session {
            who,
            mode: Mode::Live,
            csrf,
            begun: now,
            seen: now,
            noted: now,
            tokens: tokens.map(|tokens| Arc::new(tokio::sync::Mutex::new(tokens))),
        };
        let key = digest(&cookie);
        let over = {
            let mut open = self.lock();
            let mut over: Vec<[u8; 32]> = open
                .iter()
                .filter(|(_, session)| !session.alive(now))
                .map(|(key, _)| *key)
                .collect();
            if open.len() - over.len() >= MOST {
                over.extend(open.iter().min_by_key(|(_, session)| session.seen).map(|(key, _)| *key));
            }
            for key in &over {
                open.remove(key);
            }
            open.insert(key, session);
            over
        };
        for key in over {
            self.erase(&hex(&key)).await;
        }
        self.write(&key).await;
        Ok(cookie)
    }

    /// Who sends this cookie.
    pub async fn viewer(&self, headers: &HeaderMap, accounts: Option<&Arc<Accounts>>, from: IpAddr) -> Option<Viewer> {
        let key = digest(&cookie(headers)?);
        let now = self.now();
        let (who, mode, csrf, tokens, late) = {
            let mut open = self.lock();
            let session = open.get_mut(&key).filter(|session| session.alive(now))?;
            session.seen = now;
            (
                session.who.clone(),
                session.mode,
                session.csrf.clone(),
                session.tokens.clone(),
                now - session.noted >= NOTED,
            )
        };
        let mut renewed = false;
        let caller = match (tokens, accounts) {
            (None, _) => None,
            (Some(tokens), Some(accounts)) => {
                // One request at a time renews them: a refresh token is good once.
                let mut tokens = tokens.lock().await;
                match accounts.session(&tokens.access) {
                    Ok(caller) => Some(caller),
                    Err(_) => match accounts.refresh(&tokens.refresh, from).await {
                        Ok(next) => {
                            *tokens = next;
                            renewed = true;
                            accounts.session(&tokens.access).ok()
                        }
                        Err(error) => {
                            if matches!(error, AccountError::Unauthorised(_)) {
                                drop(tokens);
                                self.end(&key).await;
                            }
                            return None;
                        }
                    },
                }
            }
            (Some(_), None) => return None,
        };
        if renewed || late {
            self.write(&key).await;
        }
        Some(Viewer {
            who,
            mode,
            csrf,
            caller,
            key,
        })
    }

    /// Shows a tenant's other books from now on.
    pub async fn look_at(&self, viewer: &Viewer, mode: Mode) {
        if let Some(session) = self.lock().get_mut(&viewer.key) {
            session.mode = mode;
        }
        self.write(&viewer.key).await;
    }

    /// New tokens of a tenant's session: its password was changed.
    pub async fn renew(&self, viewer: &Viewer, renewed: token::Session) {
        if let Some(session) = self.lock().get_mut(&viewer.key) {
            session.tokens = Some(Arc::new(tokio::sync::Mutex::new(renewed)));
        }
        self.write(&viewer.key).await;
    }

    /// Ends a session.
    pub async fn close(&self, viewer: &Viewer) {
        self.end(&viewer.key).await;
    }

    async fn end(&self, key: &[u8; 32]) {
        self.lock().remove(key);
        self.erase(&hex(key)).await;
    }
}

impl Session {
    fn alive(&self, now: i64) -> bool {
        now - self.begun < LONGEST && now - self.seen < IDLE
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
    let age = if value.is_empty() { 0 } else { LONGEST / 1000 };
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

fn random() -> Result<String, AccountError> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AccountError::Internal("the system gives no random bytes"))?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let sessions = Sessions::load(None, None).await;
        let cookie = sessions.open(Who::Operator, None).await.unwrap();
        let sent = headers(&[&format!("other=1; {COOKIE}={cookie}")]);
        let viewer = sessions.viewer(&sent, None, HERE).await.expect("somebody");
        assert!(viewer.operates() && viewer.wrote(&viewer.csrf.clone()) && !viewer.wrote(""));
        for _ in 0..7 {
            tokio::time::advance(Duration::from_secs(100 * 60)).await;
            assert!(sessions.viewer(&sent, None, HERE).await.is_some());
        }
        tokio::time::advance(Duration::from_secs(100 * 60)).await;
        assert!(sessions.viewer(&sent, None, HERE).await.is_none(), "the day is over");
        let cookie = sessions.open(Who::Operator, None).await.unwrap();
        let sent = headers(&[&format!("{COOKIE}={cookie}")]);
        tokio::time::advance(Duration::from_millis(IDLE.unsigned_abs())).await;
        assert!(sessions.viewer(&sent, None, HERE).await.is_none(), "nobody was there");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_session_outlives_a_restart_but_not_another_admin_token() {
        use crate::ledger::keys::Keys;
        use crate::ledger::sqlite::{Options, SqliteLedger};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let ledger = || -> Arc<dyn Ledger> {
            let options = Options {
                strict: false,
                ..Options::new(&path)
            };
            Arc::new(SqliteLedger::open(&options, Keys::new(&[7; 32])).unwrap())
        };
        let sessions = Sessions::load(Some(ledger()), Some("token")).await;
        let cookie = sessions.open(Who::Operator, None).await.unwrap();
        let ended = sessions.open(Who::Operator, None).await.unwrap();
        let sent = |cookie: &str| headers(&[&format!("{COOKIE}={cookie}")]);
        let viewer = sessions.viewer(&sent(&ended), None, HERE).await.unwrap();
        sessions.close(&viewer).await;
        let before = sessions.viewer(&sent(&cookie), None, HERE).await.unwrap();
        drop(sessions);
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(cookie.len()).any(|window| window == cookie.as_bytes()));
        let sessions = Sessions::load(Some(ledger()), Some("token")).await;
        let after = sessions.viewer(&sent(&cookie), None, HERE).await.expect("still there");
        assert_eq!((after.who, after.csrf), (before.who, before.csrf));
        assert!(
            sessions.viewer(&sent(&ended), None, HERE).await.is_none(),
            "it was ended"
        );
        drop(sessions);
        let sessions = Sessions::load(Some(ledger()), Some("another")).await;
        assert!(sessions.viewer(&sent(&cookie), None, HERE).await.is_none());
    }

    #[tokio::test]
    async fn two_cookies_are_nobody() {
        let sessions = Sessions::load(None, None).await;
        let cookie = sessions.open(Who::Operator, None).await.unwrap();
        let twice = headers(&[&format!("{COOKIE}={cookie}"), &format!("{COOKIE}=planted")]);
        assert!(sessions.viewer(&twice, None, HERE).await.is_none());
        assert!(sessions.viewer(&headers(&[]), None, HERE).await.is_none());
    }
}
