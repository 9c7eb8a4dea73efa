//! `/faults`: what an operator asks to go wrong, as JSON, and the watch over it. Off unless `admin.faults` says
//! otherwise; a fault that is set shows here, in `/routes`, in `sentinel_faults_active` and again and again in the log.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::problem;
use crate::app::control::Control;
use crate::config::units;
use crate::resilience::fault::{Effect, Fault, Rate, Spec};
use crate::telemetry::event::FaultChanged;

/// How long a fault lasts unless said otherwise.
const LASTS: Duration = Duration::from_secs(60);

/// How often the log tells that a fault is still there.
const REMIND: u32 = 30;

/// A fault as it is typed, for example
/// `{"route": "checkout", "effect": "abort_after", "count": 1, "expires_in": "60s"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    route: String,
    gateway: Option<String>,
    effect: Word,
    /// For `delay`: `200ms`.
    delay: Option<String>,
    /// For `status`: 400 to 599.
    status: Option<u16>,
    /// `10%` of the attempts; or
    probability: Option<String>,
    /// the next so many.
    count: Option<u32>,
    /// `60s` unless said otherwise, an hour at most.
    expires_in: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Delay,
    Refuse,
    AbortBefore,
    AbortAfter,
    Status,
}

impl Wanted {
    fn meant(self) -> Result<Spec, String> {
        let effect = match (self.effect, self.delay, self.status) {
            (Word::Delay, Some(delay), None) => {
                Effect::Delay(units::duration(&delay).map_err(|wrong| told("delay", wrong))?)
            }
            (Word::Delay, _, _) => return Err("a delay needs `delay`, as in 200ms, and no `status`".into()),
            (Word::Status, None, Some(status)) => Effect::Status(status),
            (Word::Status, _, _) => return Err("a status needs `status`, as in 503, and no `delay`".into()),
            (Word::Refuse, None, None) => Effect::Refuse,
            (Word::AbortBefore, None, None) => Effect::AbortBefore,
            (Word::AbortAfter, None, None) => Effect::AbortAfter,
            _ => return Err("only `delay` and `status` take a value".into()),
        };
        let rate = match (self.probability, self.count) {
            (Some(chance), None) => Rate::Chance(units::share(&chance).map_err(|wrong| told("probability", wrong))?),
            (None, Some(times)) => Rate::Times(times),
            _ => return Err("say how often: either `probability`, as in 10%, or `count`".into()),
        };
        let lasts = self.expires_in.as_deref().map_or(Ok(LASTS), units::duration);
        let lasts = lasts.map_err(|wrong| told("expires_in", wrong))?;
        Ok(Spec {
            route: self.route,
            gateway: self.gateway,
            effect,
            rate,
            lasts,
        })
    }
}

fn told(field: &str, wrong: units::Wrong) -> String {
    format!("`{field}` {}; {}", wrong.message, wrong.hint)
}

/// A fault for people.
pub(super) fn shown(fault: &Fault, now: Instant) -> Value {
    let spec = &fault.spec;
    let mut value = json!({
        "id": fault.id,
        "route": spec.route,
        "gateway": spec.gateway,
        "effect": spec.effect.name(),
        "struck": fault.struck,
        "expires_in_ms": u64::try_from(fault.until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX),
    });
    match spec.effect {
        Effect::Delay(delay) => value["delay_ms"] = json!(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        Effect::Status(status) => value["status"] = json!(status),
        Effect::Refuse | Effect::AbortBefore | Effect::AbortAfter => {}
    }
    match spec.rate {
        Rate::Chance(chance) => value["probability"] = json!(chance),
        Rate::Times(left) => value["count"] = json!(left),
    }
    value
}

fn tell(change: &'static str, fault: &Fault) {
    FaultChanged {
        change,
        id: fault.id,
        route: &fault.spec.route,
        effect: fault.spec.effect.name(),
        struck: fault.struck,
    }
    .emit();
}

pub(super) async fn list(State(control): State<Arc<Control>>) -> Json<Value> {
    let now = Instant::now();
    let faults = control.runtime().faults.list(now);
    Json(faults.iter().map(|fault| shown(fault, now)).collect())
}

pub(super) async fn add(State(control): State<Arc<Control>>, Json(wanted): Json<Wanted>) -> Response {
    let runtime = control.runtime();
    if !runtime.config.admin.faults {
        return problem(
            StatusCode::FORBIDDEN,
            "fault injection is off; set admin.faults: true where it is wanted",
        );
    }
    let spec = match wanted.meant() {
        Ok(spec) => spec,
        Err(why) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    let Some(route) = runtime.routes.iter().find(|route| route.config.name == spec.route) else {
        return problem(StatusCode::NOT_FOUND, "there is no such route");
    };
    if let Some(gateway) = &spec.gateway
        && !route.config.gateways.contains(gateway)
    {
        return problem(StatusCode::NOT_FOUND, "the route has no such gateway");
    }
    let now = Instant::now();
    match runtime.faults.add(spec, now) {
        Ok(fault) => {
            tell("set", &fault);
            (StatusCode::CREATED, Json(shown(&fault, now))).into_response()
        }
        Err(why) => problem(StatusCode::UNPROCESSABLE_ENTITY, &why.to_string()),
    }
}

pub(super) async fn clear(State(control): State<Arc<Control>>) -> StatusCode {
    for fault in control.runtime().faults.clear() {
        tell("removed", &fault);
    }
    StatusCode::NO_CONTENT
}

pub(super) async fn remove(State(control): State<Arc<Control>>, Path(id): Path<u64>) -> Response {
    match control.runtime().faults.remove(id) {
        Some(fault) => {
            tell("removed", &fault);
            StatusCode::NO_CONTENT.into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "there is no fault of that number"),
    }
}

/// Takes away what is over, or what a reload has forbidden, and keeps reminding of the rest.
pub(super) async fn watch(control: Arc<Control>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut ticks = 0u32;
    loop {
        tick.tick().await;
        let runtime = control.runtime();
        if !runtime.faults.any() {
            ticks = 0;
            continue;
        }
        let now = Instant::now();
        let (change, gone) = match runtime.config.admin.faults {
            true => ("over", runtime.faults.sweep(now)),
            false => ("removed", runtime.faults.clear()),
        };
        for fault in &gone {
            tell(change, fault);
        }
        ticks = (ticks + 1) % REMIND;
        if ticks == 0 {
            for fault in &runtime.faults.list(now) {
                tell("active", fault);
            }
        }
    }
}
