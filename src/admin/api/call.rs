//! One request to an endpoint, and what an endpoint needs to answer it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::{Code, Problem};
use super::{Api, Arrived, Reply};
use crate::account::api_key::Mode;
use crate::account::{AccountError, By, Caller};

/// A request.
pub struct Call {
    api: Arc<Api>,
    caller: Option<Caller>,
    parameters: Vec<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    from: IpAddr,
    listener: SocketAddr,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("path", &self.uri.path())
            .finish_non_exhaustive()
    }
}

impl Call {
    pub(super) fn new(api: Arc<Api>, caller: Option<Caller>, parameters: Vec<String>, arrived: Arrived) -> Self {
        Self {
            api,
            caller,
            parameters,
            uri: arrived.uri,
            headers: arrived.headers,
            body: arrived.body,
            from: arrived.from,
            listener: arrived.listener,
        }
    }

    /// The interface: accounts, engine, configuration.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// The client's address.
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// The listener that it came to.
    pub fn listener(&self) -> SocketAddr {
        self.listener
    }

    /// The head's fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Who asks.
    ///
    /// # Errors
    /// Where the endpoint was declared to need nobody.
    pub fn caller(&self) -> Result<&Caller, Problem> {
        self.caller
            .as_ref()
            .ok_or_else(|| Problem::from(AccountError::Internal("an endpoint knows no caller")))
    }

    /// The name of the books that are asked about, as the ledger has it. A session may ask for either mode's, and is shown
    /// production's unless it does; a key has those of its own mode and no others.
    ///
    /// # Errors
    /// When a key asks for the other mode's.
    pub fn books(&self, mode: Option<Mode>) -> Result<String, Problem> {
        let caller = self.caller()?;
        match (&caller.by, mode) {
            (By::Session { .. }, mode) => Ok(Caller::books(&caller.tenant, mode.unwrap_or(Mode::Live))),
            (By::Key { mode: own, .. }, Some(asked)) if *own != asked => Err(Problem::new(
                Code::Forbidden,
                "an API key sees what was made with keys of its own mode only",
            )),
            (By::Key { .. }, _) => Ok(caller.own_books()),
        }
    }

    /// The value of the nth `{name}` of the path.
    pub fn parameter(&self, n: usize) -> &str {
        self.parameters.get(n).map_or("", String::as_str)
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The JSON body, whose fields' names and kinds were checked.
    ///
    /// # Errors
    /// When a value is out of range. The values are not told back.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            let detail = format!("a value is not one of those that are documented, at {place}");
            Problem::field("body", detail)
        })
    }

    /// The query's parameters.
    ///
    /// # Errors
    /// When one is unknown, repeated or not what it must be.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        match Query::try_from_uri(&self.uri) {
            Ok(Query(query)) => Ok(query),
            Err(_) => Err(Problem::field(
                "query",
                "has a parameter that is unknown, repeated, or not what it must be",
            )),
        }
    }
}

/// An answer in JSON.
///
/// # Errors
/// When the value cannot be written: a defect.
pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Reply, Problem> {
    let body = serde_json::to_vec(value).map_err(|_| AccountError::Internal("an answer cannot be written"))?;
    Ok(of_type(status, "application/json", body))
}

/// An answer without a body.
pub fn nothing() -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// An answer of some media type.
pub fn of_type(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// Unix milliseconds as RFC 3339.
pub fn time(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |time| time.to_string())
}

/// The problem of something that is not there, or not this tenant's: the two are not told apart.
pub fn not_found(what: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no such {what}"))
}
