//! The tenants' HTTP interface, under `/api/v1` on the shared listeners.
//!
//! A worker that meets a request for it only reads the body, within a limit, and hands both to the operators' runtime
//! ([`Door`]): whatever the interface has to compute or to read never holds up a payment on the way.
//!
//! [`routes`] is the one place where an endpoint is declared: method and path, whom it is for, what it takes and answers.
//! Routing, authentication, limits, the OpenAPI document and the page at `/api/v1/docs` are made of that declaration.
//!
//! # What it refuses
//!
//! - Bodies that are larger than the endpoint's limit, of another media type than it takes, or without the documented shape.
//! - Requests that a browser says come from another site, and host names on a loopback listener that are not loopback's
//!   own or configured (DNS rebinding). There are no cookies here: a token is sent, or nothing is allowed.
//! - It tells no value back in an error: what was sent may be a password.

pub mod audit;
pub mod call;
pub mod credentials;
pub mod customers;
pub mod docs;
mod door;
pub mod endpoint;
pub mod figures;
pub mod instruments;
pub mod keys;
pub mod openapi;
pub mod problem;
pub mod routes;
mod shape;
pub mod statements;
pub mod status;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, Uri, header};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::account::{Accounts, Caller};
use crate::analytics::Analytics;
use crate::ledger::Ledger;
use crate::payment::engine::Engine;
use crate::proxy::runtime::Runtime;
use crate::telemetry::event::ApiAnswered;
use call::Call;
pub use door::Door;
use endpoint::{Endpoint, Found, Needs};
use problem::{Code, Problem};

/// Where it begins.
pub const PREFIX: &str = "/api/v1";

/// Requests at work; more are turned away at once. Each may wait for the ledger or for a password to be checked.
const AT_WORK: usize = 64;
/// The whole of one request, but for a body that streams.
const REQUEST: Duration = Duration::from_secs(30);

/// An answer.
pub type Reply = Response<Body>;

/// A request as the door hands it over.
#[derive(Debug)]
pub struct Arrived {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Its head.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
    /// The client.
    pub from: IpAddr,
    /// The listener that it came to.
    pub listener: SocketAddr,
    /// Whether it came by TLS.
    pub tls: bool,
    /// The host that it named.
    pub host: String,
}

/// The interface.
pub struct Api {
    runtime: Arc<ArcSwap<Runtime>>,
    engine: Arc<Engine>,
    accounts: Arc<Accounts>,
    analytics: Option<Arc<Analytics>>,
    endpoints: Vec<Endpoint>,
    document: Bytes,
    page: Bytes,
    places: Semaphore,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("endpoints", &self.endpoints.len())
            .finish_non_exhaustive()
    }
}

impl Api {
    /// The interface to an engine's ledger; with the figures, where they can be had.
    pub fn new(
        runtime: Arc<ArcSwap<Runtime>>,
        engine: Arc<Engine>,
        accounts: Arc<Accounts>,
        analytics: Option<Arc<Analytics>>,
    ) -> Self {
        let endpoints = routes::endpoints();
        let document = openapi::document(&endpoints);
        Self {
            page: docs::page(&endpoints).into(),
            document: document.to_string().into(),
            runtime,
            engine,
            accounts,
            analytics,
            endpoints,
            places: Semaphore::new(AT_WORK),
        }
    }

    /// The accounts.
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// The figures: a read model over the ledger.
    pub fn analytics(&self) -> Option<&Arc<Analytics>> {
        self.analytics.as_ref()
    }

    /// The snapshot in force.
    pub fn runtime(&self) -> Arc<Runtime> {
        self.runtime.load_full()
    }

    /// The payment engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The ledger.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        self.accounts.ledger()
    }

    /// The OpenAPI document, as JSON.
    pub fn document(&self) -> &Bytes {
        &self.document
    }

    /// The documentation, as HTML.
    pub fn page(&self) -> &Bytes {
        &self.page
    }

    /// How large a body may be that is sent here; what is not taken at all has none.
    fn limit(&self, method: &Method, path: &str) -> usize {
        match endpoint::find(&self.endpoints, method, path) {
            Found::Endpoint(endpoint, _) => endpoint.limit(),
            _ => 0,
        }
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, arrived: Arrived) -> Reply {
        let started = Instant::now();
        let id = problem::request_id();
        let endpoint = match endpoint::find(&self.endpoints, &arrived.method, arrived.uri.path()) {
            Found::Endpoint(endpoint, _) => endpoint.name(),
            _ => "none",
        };
        let outcome = match self.places.try_acquire() {
            Err(_) => Err(Problem::new(
                Code::Busy,
                "too many requests are being answered; try again",
            )),
            Ok(_place) => match tokio::time::timeout(REQUEST, self.work(arrived, &id)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Problem::new(Code::Unavailable, "the answer took too long")),
            },
        };
        let mut reply = match outcome {
            Ok(reply) => reply,
            Err(problem) => problem.reply(&id),
        };
        protect(reply.headers_mut(), &id);
        ApiAnswered {
            metrics: self.engine.metrics(),
            endpoint,
            status: reply.status().as_u16(),
            took: started.elapsed(),
            request_id: &id,
        }
        .emit();
        reply
    }

    async fn work(self: &Arc<Self>, arrived: Arrived, id: &str) -> Result<Reply, Problem> {
        self.guard(&arrived)?;
        let (endpoint, parameters) = match endpoint::find(&self.endpoints, &arrived.method, arrived.uri.path()) {
            Found::Endpoint(endpoint, parameters) => (endpoint, parameters),
            Found::OtherMethods(allow) => {
                let mut reply = Problem::new(Code::MethodNotAllowed, format!("this takes {allow}")).reply(id);
                if let Ok(allow) = HeaderValue::from_str(&allow) {
                    reply.headers_mut().insert(header::ALLOW, allow);
                }
                return Ok(reply);
            }
            Found::Nothing => {
                return Err(Problem::new(Code::NotFound, "there is nothing here; see /api/v1/docs"));
            }
        };
        let caller = match endpoint.needs() {
            Needs::Nothing => None,
            needs => Some(self.caller(&arrived.headers, needs).await?),
        };
        endpoint.check(&arrived.headers, &arrived.body)?;
        let call = Call::new(Arc::clone(self), caller, parameters, arrived);
        endpoint.run(call).await
    }

    /// What browsers may be tricked into is refused before anything is looked at.
    fn guard(&self, arrived: &Arrived) -> Result<(), Problem> {
        let runtime = self.runtime.load();
        let hosts = &runtime.config.accounts.hosts;
        if arrived.listener.ip().is_loopback() && !super::is_ours(&arrived.host, hosts) {
            return Err(Problem::new(
                Code::Misdirected,
                "this host name is not the listener's; add it to accounts.hosts if it is",
            ));
        }
        let reads = arrived.method == Method::GET || arrived.method == Method::HEAD;
        if !reads && super::foreign(&arrived.headers, &arrived.host) {
            return Err(Problem::new(Code::OtherSite, "the request comes from another site"));
        }
        Ok(())
    }

    /// Who sends this, by its `Authorization`.
    ///
    /// # Errors
    /// When it is nobody, or may not do this.
    pub async fn caller(&self, headers: &HeaderMap, needs: Needs) -> Result<Caller, Problem> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (value, more) = (values.next(), values.next());
        let token = value
            .filter(|_| more.is_none())
            .and_then(|value| value.to_str().ok())
            .and_then(bearer)
            .ok_or_else(|| {
                Problem::new(
                    Code::Unauthorized,
                    "send Authorization: Bearer and a token or an API key",
                )
            })?;
        // Sessions are verified without the ledger; only what has the form of a key is looked up there.
        let caller = match token.starts_with("sk_") {
            true => self.accounts.key(token).await?,
            false => self.accounts.session(token)?,
        };
        match needs {
            Needs::Nothing => Ok(caller),
            Needs::Session if caller.is_session() => Ok(caller),
            Needs::Session => Err(Problem::new(
                Code::Forbidden,
                "this takes the token of a session; log in, or use the one that registering answered",
            )),
            Needs::Scope(scope) if caller.may(scope) => Ok(caller),
            Needs::Scope(_) => Err(Problem::new(Code::Forbidden, "the API key has not the scope for this")),
        }
    }
}

/// The credential of a bearer: the scheme's name has no case (RFC 9110 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// What every answer says to whoever shows it: it is no page, nobody keeps it, and nothing is fetched for it.
fn protect(headers: &mut HeaderMap, id: &str) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(problem::REQUEST_ID, id);
    }
}
