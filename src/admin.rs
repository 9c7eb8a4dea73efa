//! The operators' HTTP interface. Every request needs a `Host` that is ours (DNS rebinding). Changing takes POST (or
//! DELETE of a fault), nothing that a browser says of another site (`Origin`, `Sec-Fetch-Site`), and the token where one
//! is configured. On loopback reading is open; elsewhere it takes the token too, but for `/live` and `/ready`, which a
//! prober without secrets asks. Connections, requests at work, heads, bodies and time are limited; what is refused says
//! so as problem+json (RFC 9457).

pub mod api;
mod faults;
mod notifications;
pub(crate) mod payments;
pub(crate) mod serve;
mod tap;

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::app::control::{BreakerCommand, Control};
use crate::app::liveness;
use crate::config::model::Listen;
use crate::gateway::prospect;
use crate::telemetry::openmetrics;

/// Serves until it is told to stop (by a value, or by the end of the sender); what was begun is then finished.
pub async fn serve(listener: TcpListener, control: Arc<Control>, stop: tokio::sync::oneshot::Receiver<()>) {
    let serving = serve::serve(listener, router(Arc::clone(&control)), stop);
    // The watch ends with the listener: by then nobody can set a fault here, and a listener that follows has its own.
    tokio::select! {
        () = serving => {}
        () = faults::watch(control) => {}
    }
}

fn router(control: Arc<Control>) -> Router {
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route(
            "/version",
            get(async || Json(json!({ "version": env!("CARGO_PKG_VERSION") }))),
        )
        .route("/config", get(config))
        .route("/routes", get(routes))
        .route("/gateways", get(gateways))
        .route("/breakers", get(breakers))
        .route(
            "/reloads",
            get(async |State(control): State<Arc<Control>>| Json(control.reloads())),
        )
        .route("/tap", get(tap::tap))
        .route("/log", get(log).post(switch_log))
        .route("/reload", post(reload))
        .route("/drain", post(drain))
        .route("/breakers/{route}/{gateway}/{command}", post(breaker))
        .route("/payments", get(payments::list))
        .route("/payments/{id}", get(payments::show))
        .route("/payments/{id}/resolve", post(payments::resolve))
        .route("/notifications", get(notifications::list))
        .route("/notifications/{route}/{id}/retry", post(notifications::retry))
        .route("/faults", get(faults::list).post(faults::add).delete(faults::clear))
        .route("/faults/{id}", delete(faults::remove));
    // Probes stand outside the limits: a busy admin listener is no reason to restart a sidecar.
    serve::limited(pages)
        .route("/live", get(live))
        .route("/ready", get(ready))
        .fallback(async || problem(StatusCode::NOT_FOUND, "there is no such page here"))
        .method_not_allowed_fallback(async || {
            problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "this page does not take that method; see Allow",
            )
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&control), guard))
        .with_state(control)
}

fn problem(status: StatusCode, detail: &str) -> Response {
    problem_with(status, detail, Value::Null)
}

/// A problem (RFC 9457) with the members of an object beside its own.
fn problem_with(status: StatusCode, detail: &str, more: Value) -> Response {
    let mut body = json!({ "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}

async fn guard(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    let mut response = match refused(&control, &request) {
        Some(refused) => refused,
        None => explained(next.run(request).await).await,
    };
    // Answers may quote what a gateway or a client wrote: no browser shall take them for a page.
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        response
            .headers_mut()
            .insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// The answer to a request that may not be asked.
fn refused(control: &Control, request: &Request) -> Option<Response> {
    let runtime = control.runtime();
    let admin = &runtime.config.admin;
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    if !is_ours(host, &admin.hosts) {
        return Some(problem(
            StatusCode::MISDIRECTED_REQUEST,
            "this host name is not the admin listener's; add it to admin.hosts if it is",
        ));
    }
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    if !reads && foreign(request.headers(), host) {
        return Some(problem(StatusCode::FORBIDDEN, "the request comes from another site"));
    }
    let loopback = runtime
        .config
        .listeners
        .admin
        .is_none_or(|address| address.ip().is_loopback());
    let open = reads && (loopback || matches!(request.uri().path(), "/live" | "/ready"));
    if let Some(token) = &admin.token
        && !open
        && !bears(request.headers(), token.expose())
    {
        return Some(problem(
            StatusCode::UNAUTHORIZED,
            "send the admin token: Authorization: Bearer ...",
        ));
    }
    None
}

/// Whether a browser says that another site makes this request. Tools send neither header.
pub(crate) fn foreign(headers: &HeaderMap, host: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let other_origin =
        text("origin").is_some_and(|origin| origin.split_once("://").is_none_or(|(_, named)| named != host));
    let other_site = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    other_origin || other_site
}

/// A refusal that axum wrote as text (a path, query or body it could not read), as problem+json.
async fn explained(response: Response) -> Response {
    let (status, kind) = (response.status(), response.headers().get(header::CONTENT_TYPE));
    let text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !text || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let detail = match Limited::new(response.into_body(), 4096).collect().await {
        Ok(detail) => detail.to_bytes(),
        Err(_) => Bytes::new(),
    };
    problem(status, &String::from_utf8_lossy(&detail))
}

pub(crate) fn is_ours(host: &str, more: &[String]) -> bool {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].contains(&name) || more.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    sent.is_some_and(|sent| sent.as_bytes().ct_eq(token.as_bytes()).into())
}

/// Alive means that every worker turns; a gateway's outage is no reason to restart anything.
async fn live(State(control): State<Arc<Control>>) -> Response {
    let stuck = control.stuck_workers(liveness::STUCK);
    if stuck.is_empty() {
        "live\n".into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, &format!("stuck workers: {stuck:?}"))
    }
}

async fn ready(State(control): State<Arc<Control>>) -> Response {
    if control.ready() {
        "ready\n".into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping")
    }
}

async fn metrics(State(control): State<Arc<Control>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (kind, text) = match accept.is_some_and(openmetrics::wanted) {
        true => (openmetrics::TYPE, openmetrics::from_text(&control.scrape())),
        false => ("text/plain; version=0.0.4; charset=utf-8", control.scrape()),
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn config(State(control): State<Arc<Control>>) -> Json<Value> {
    let runtime = control.runtime();
    // `Debug` of the model shows no secret: that is a property of its types.
    Json(json!({ "hash": runtime.config.hash, "config": format!("{:#?}", runtime.config) }))
}

async fn routes(State(control): State<Arc<Control>>) -> Json<Value> {
    let runtime = control.runtime();
    let now = Instant::now();
    let active = runtime.faults.list(now);
    let routes: Vec<Value> = runtime
        .routes
        .iter()
        .map(|route| {
            json!({
                "name": route.config.name,
                "dialect": route.config.dialect,
                "listen": route.config.listen.iter().map(Listen::url).collect::<Vec<_>>(),
                "failover": route.config.failover.mode,
                "path_prefix": route.config.path_prefix,
                "host": route.config.host,
                "gateways": route.config.gateways,
                "plan": prospect::of(&runtime.config, &route.config),
                "health": route.config.gateways.iter().filter_map(|name| Some((name.clone(), json!(route.protection.breaker(name)?.state())))).collect::<serde_json::Map<_, _>>(),
                "refused": route.metrics.plan_refusals(),
                "in_flight": route.protection.limit.in_flight(),
                "limit": route.protection.limit.limit(),
                "retry_budget_remaining": route.protection.budget.remaining(now),
                "hedge_delay_ms": route.protection.hedge.delay().map(|delay| delay.as_secs_f64() * 1e3),
                "faults": active.iter().filter(|fault| fault.spec.route == route.config.name).map(|fault| faults::shown(fault, now)).collect::<Vec<_>>(),
            })
        })
        .collect();
    Json(Value::Array(routes))
}

async fn gateways(State(control): State<Arc<Control>>) -> Json<Value> {
    let runtime = control.runtime();
    let gateways: Vec<Value> = runtime
        .config
        .gateways
        .values()
        .map(|gateway| {
            json!({
                "name": gateway.name,
                "dialect": gateway.dialect,
                "tls": gateway.endpoint.tls,
                "host": gateway.endpoint.host,
                "port": gateway.endpoint.port,
                "base_path": gateway.endpoint.base_path,
            })
        })
        .collect();
    Json(Value::Array(gateways))
}

async fn breakers(State(control): State<Arc<Control>>) -> Json<Value> {
    let runtime = control.runtime();
    let now = Instant::now();
    let breakers: Vec<Value> = runtime
        .routes
        .iter()
        .flat_map(|route| {
            let breakers = route.config.gateways.iter().filter_map(|name| Some((name, route.protection.breaker(name)?)));
            breakers.map(|(name, breaker)| json!({ "route": route.config.name, "gateway": name, "breaker": breaker.snapshot(now) }))
        })
        .collect();
    Json(Value::Array(breakers))
}

async fn log(State(control): State<Arc<Control>>) -> Json<Value> {
    let (level, access) = control.log_settings();
    Json(json!({ "level": level, "access": access }))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSwitch {
    level: Option<String>,
    access: Option<bool>,
}

/// `POST /log?level=debug&access=true`: until the next reload or restart.
async fn switch_log(State(control): State<Arc<Control>>, Query(switch): Query<LogSwitch>) -> Response {
    match control.switch_log(switch.level.as_deref(), switch.access) {
        Ok(()) => log(State(control)).await.into_response(),
        Err(error) => problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

async fn reload(State(control): State<Arc<Control>>) -> Response {
    match control.reload("admin").await {
        Ok(reload) => Json(reload).into_response(),
        Err(reload) => {
            let detail = "the configuration was rejected; the old one stays in force";
            problem_with(StatusCode::UNPROCESSABLE_ENTITY, detail, json!(reload))
        }
    }
}

async fn drain(State(control): State<Arc<Control>>) -> Response {
    control.drain();
    (StatusCode::ACCEPTED, "draining\n").into_response()
}

async fn breaker(
    State(control): State<Arc<Control>>,
    Path((route, gateway, command)): Path<(String, String, BreakerCommand)>,
) -> Response {
    match control.command_breaker(&route, &gateway, command, "admin API") {
        Some(()) => StatusCode::NO_CONTENT.into_response(),
        None => problem(StatusCode::NOT_FOUND, "there is no breaker of that route and gateway"),
    }
}
