//! The operators' HTTP interface. Every request needs a `Host` that is ours (DNS rebinding). Changing takes POST, no
//! foreign `Origin`, and the token where one is configured. On loopback reading is open; elsewhere it takes the token
//! too, but for `/live` and `/ready`, which a prober without secrets asks.

mod tap;

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::app::control::{BreakerCommand, Control};
use crate::app::liveness;
use crate::config::model::Listen;

/// Serves until it is told to stop (by a value, or by the end of the sender); what was begun is then finished.
pub async fn serve(listener: TcpListener, control: Arc<Control>, stop: tokio::sync::oneshot::Receiver<()>) {
    let stopped = async move {
        let _ = stop.await;
    };
    let serving = axum::serve(listener, router(control)).with_graceful_shutdown(stopped);
    if let Err(error) = serving.await {
        tracing::error!(%error, "the admin listener ended");
    }
}

fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
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
        .fallback(async || problem(StatusCode::NOT_FOUND, "there is no such page here"))
        .layer(middleware::from_fn_with_state(Arc::clone(&control), guard))
        .with_state(control)
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({ "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}

async fn guard(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    let runtime = control.runtime();
    let admin = &runtime.config.admin;
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    if !is_ours(host, &admin.hosts) {
        return problem(
            StatusCode::MISDIRECTED_REQUEST,
            "this host name is not the admin listener's; add it to admin.hosts if it is",
        );
    }
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    if !reads && let Some(origin) = request.headers().get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("");
        if origin.split_once("://").is_none_or(|(_, named)| named != host) {
            return problem(StatusCode::FORBIDDEN, "the request comes from another site");
        }
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
        return problem(
            StatusCode::UNAUTHORIZED,
            "send the admin token: Authorization: Bearer ...",
        );
    }
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

fn is_ours(host: &str, more: &[String]) -> bool {
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

async fn metrics(State(control): State<Arc<Control>>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        control.scrape(),
    )
        .into_response()
}

async fn config(State(control): State<Arc<Control>>) -> Json<Value> {
    let runtime = control.runtime();
    // `Debug` of the model shows no secret: that is a property of its types.
    Json(json!({ "hash": runtime.config.hash, "config": format!("{:#?}", runtime.config) }))
}

async fn routes(State(control): State<Arc<Control>>) -> Json<Value> {
    let runtime = control.runtime();
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
                "in_flight": route.protection.limit.in_flight(),
                "limit": route.protection.limit.limit(),
                "retry_budget_remaining": route.protection.budget.remaining(Instant::now()),
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
        .map(|route| json!({ "route": route.config.name, "gateway": route.gateway.name, "breaker": route.breaker.snapshot(now) }))
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
        Err(reload) => (StatusCode::UNPROCESSABLE_ENTITY, Json(reload)).into_response(),
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
