//! The control port: scripts, books, log, clock and webhooks over HTTP, for tests in any language.
//!
//! | | |
//! |---|---|
//! | `GET /gateways` | names, addresses, counts |
//! | `GET`, `POST`, `DELETE /gateways/{name}/faults` | the script; a rule or a list of rules is added |
//! | `GET`, `DELETE /gateways/{name}/requests` | what it received, without secrets |
//! | `POST /gateways/{name}/settings` | `{"setting": "value"}` |
//! | `GET`, `PUT /gateways/{name}/webhooks` | notifications; `{"url": "http://..."}` says where they go |
//! | `POST /gateways/{name}/webhooks/deliver` | posts them again: `{"which": "missed"}` or `"all"` |
//! | `GET /books`, `GET /audit` | every effect, or added up |
//! | `GET`, `POST /clock` | `{"advance": seconds}` |
//! | `GET /ca.pem` | the authority to trust |
//!
//! Every answer is JSON, errors are `{"error": "..."}`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::gateway::{Gateway, Redeliver};
use super::{Books, Clock, Sandbox};
use crate::sandbox::fault::Rule;

struct Control {
    gateways: Vec<Gateway>,
    books: Books,
    clock: Clock,
    authority: Option<String>,
}

/// A request that cannot be done.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

type Answer = Result<Json<Value>, Refused>;
type Shared = State<Arc<Control>>;

/// Serves on the listener until the sandbox ends.
pub(super) fn serve(sandbox: &Sandbox, listener: TcpListener) {
    let control = Arc::new(Control {
        gateways: sandbox.gateways.clone(),
        books: sandbox.books.clone(),
        clock: sandbox.clock.clone(),
        authority: sandbox.authority.clone(),
    });
    let router = Router::new()
        .route("/gateways", get(gateways))
        .route(
            "/gateways/{name}/faults",
            get(faults).post(add_faults).delete(clear_faults),
        )
        .route("/gateways/{name}/requests", get(requests).delete(forget_requests))
        .route("/gateways/{name}/settings", post(settings))
        .route("/gateways/{name}/webhooks", get(webhooks).put(webhooks_to))
        .route("/gateways/{name}/webhooks/deliver", post(deliver))
        .route("/books", get(books))
        .route("/audit", get(audit))
        .route("/clock", get(clock).post(advance))
        .route("/ca.pem", get(authority))
        .fallback(|| async { Refused(StatusCode::NOT_FOUND, "no such path; see /gateways".to_owned()) })
        .with_state(control);
    let server = async move {
        // Accept errors are retried inside; it does not end by itself.
        let _ = axum::serve(listener, router).await;
    };
    match sandbox.gateways.first() {
        Some(gateway) => gateway.core.background(server),
        None => drop(server),
    }
}

impl Control {
    fn gateway(&self, name: &str) -> Result<&Gateway, Refused> {
        self.gateways
            .iter()
            .find(|gateway| gateway.name() == name)
            .ok_or_else(|| {
                let known: Vec<&str> = self.gateways.iter().map(Gateway::name).collect();
                Refused(
                    StatusCode::NOT_FOUND,
                    format!("no gateway {name}; there are {}", known.join(", ")),
                )
            })
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused(StatusCode::BAD_REQUEST, error.to_string()))
}

fn show(value: impl serde::Serialize) -> Answer {
    serde_json::to_value(value)
        .map(Json)
        .map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn gateways(State(control): Shared) -> Answer {
    let one = |gateway: &Gateway| {
        json!({"name": gateway.name(), "url": gateway.url(), "connections": gateway.connections(),
            "faults": gateway.faults().len(), "requests": gateway.requests().len()})
    };
    show(control.gateways.iter().map(one).collect::<Vec<_>>())
}

async fn faults(State(control): Shared, Path(name): Path<String>) -> Answer {
    show(control.gateway(&name)?.faults())
}

async fn add_faults(State(control): Shared, Path(name): Path<String>, body: Bytes) -> Answer {
    let gateway = control.gateway(&name)?;
    let value: Value = read(&body)?;
    let list = if value.is_array() { value } else { json!([value]) };
    let rules: Vec<Rule> =
        serde_json::from_value(list).map_err(|error| Refused(StatusCode::BAD_REQUEST, error.to_string()))?;
    for rule in rules {
        gateway.fault(rule);
    }
    show(gateway.faults())
}

async fn clear_faults(State(control): Shared, Path(name): Path<String>) -> Answer {
    control.gateway(&name)?.clear_faults();
    show(json!([]))
}

async fn requests(State(control): Shared, Path(name): Path<String>) -> Answer {
    let requests = control.gateway(&name)?.requests();
    show(requests.iter().map(super::Received::shown).collect::<Vec<_>>())
}

async fn forget_requests(State(control): Shared, Path(name): Path<String>) -> Answer {
    control.gateway(&name)?.forget_requests();
    show(json!([]))
}

async fn settings(State(control): Shared, Path(name): Path<String>, body: Bytes) -> Answer {
    let gateway = control.gateway(&name)?;
    let settings: Map<String, Value> = read(&body)?;
    for (name, value) in &settings {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        gateway
            .set(name, &text)
            .map_err(|possible| Refused(StatusCode::BAD_REQUEST, format!("{name}: {possible}")))?;
    }
    show(json!({"set": settings.len()}))
}

async fn webhooks(State(control): Shared, Path(name): Path<String>) -> Answer {
    show(control.gateway(&name)?.webhooks())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    url: Option<String>,
}

async fn webhooks_to(State(control): Shared, Path(name): Path<String>, body: Bytes) -> Answer {
    let to: To = read(&body)?;
    control
        .gateway(&name)?
        .webhooks_to(to.url.as_deref())
        .map_err(|why| Refused(StatusCode::BAD_REQUEST, why))?;
    show(json!({"url": to.url}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    which: Redeliver,
}

async fn deliver(State(control): Shared, Path(name): Path<String>, body: Bytes) -> Answer {
    let which: Which = read(&body)?;
    control.gateway(&name)?.deliver_webhooks(which.which);
    show(json!({}))
}

async fn books(State(control): Shared) -> Answer {
    show(control.books.entries())
}

async fn audit(State(control): Shared) -> Answer {
    let audit = control.books.audit();
    let clean = audit.clean();
    show(
        json!({"clean": clean, "positions": audit.positions, "doubled": audit.doubled, "violations": audit.violations}),
    )
}

async fn clock(State(control): Shared) -> Answer {
    show(json!({"now": control.clock.now()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance: i64,
}

async fn advance(State(control): Shared, body: Bytes) -> Answer {
    let advance: Advance = read(&body)?;
    control.clock.advance(advance.advance);
    show(json!({"now": control.clock.now()}))
}

async fn authority(State(control): Shared) -> Result<String, Refused> {
    control
        .authority
        .clone()
        .ok_or_else(|| Refused(StatusCode::NOT_FOUND, "the gateways speak plain HTTP".to_owned()))
}
