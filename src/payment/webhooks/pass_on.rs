//! Passing a gateway's own webhooks on to the application, byte by byte as they came, so that its signature holds.
//!
//! The gateway is told what the application answered: it repeats what was not taken, signed anew, which nobody but the
//! gateway can do. Nothing is kept here for later.
//!
//! An application hears one truth. What its gateway tells of a payment that another gateway took (the decline before it,
//! the hold that was released again) is held back, and the payment's own news come from
//! [`announce`](crate::payment::announce). While it is not decided where the payment lives, a webhook that would say so
//! waits, and is then asked for again.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use uuid::Uuid;

use super::{State, find};
use crate::gateway::outcome::Outcome;
use crate::gateway::webhook::WebhookFact;
use crate::ledger::rows::Payment;
use crate::payment::core::Verdict;
use crate::payment::engine::{Desk, Route};
use crate::telemetry::event::NotificationSent;

/// How long an application may take: the shortest patience of a gateway is five seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a webhook waits for its payment to be decided, and how often it looks.
const UNDECIDED: (Duration, u32) = (Duration::from_millis(100), 25);

/// Where a payment lives, as seen from the gateway that tells of it.
enum Lives {
    /// Here, or it is nobody's.
    Here,
    /// At another gateway, or it is another application's.
    Elsewhere,
    /// That is not known yet.
    Undecided,
}

/// Passes a delivery on; `false` when the gateway has to repeat it.
pub(super) async fn pass_on(
    desk: &Rc<Desk>,
    gateway: &str,
    about: &[(Option<Uuid>, &WebhookFact)],
    headers: &HeaderMap,
    body: &Bytes,
) -> bool {
    let engine = desk.engine();
    let own = |route: &Arc<Route>| {
        let speaks = route.own().is_some_and(|own| own.config.name == gateway);
        speaks && route.notify().is_some()
    };
    let mut routes: Vec<Arc<Route>> = engine.routes().into_iter().filter(own).collect();
    if routes.is_empty() {
        return true;
    }
    let mut payment = String::new();
    for (id, fact) in about {
        let found = match id {
            Some(id) => engine.ledger().get(*id).await.map_err(|_| ()),
            None => find(engine, gateway, fact)
                .await
                .map(|found| found.map(|(payment, _)| payment))
                .map_err(|_| ()),
        };
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(()) => return false,
        };
        payment = found.id.to_string();
        let mine = routes.iter().find(|route| route.name() == found.route).cloned();
        let says = fact.observation.outcome != Outcome::Unknown;
        let lives = match &mine {
            Some(route) if route.tenant() == found.tenant => settled(desk, gateway, found, says).await,
            _ => Lives::Elsewhere,
        };
        match (lives, mine) {
            (Lives::Here, Some(route)) => routes = vec![route],
            (Lives::Undecided, Some(route)) if !says => routes = vec![route],
            (Lives::Undecided, _) => return false,
            (Lives::Elsewhere, _) | (Lives::Here, None) => {
                for route in &routes {
                    tell(desk, route.name(), &payment, about, "held_back", "");
                }
                return true;
            }
        }
    }
    // Routes that share an address hear it once.
    let destinations: BTreeMap<String, Arc<Route>> = routes
        .into_iter()
        .filter_map(|route| Some((route.notify()?.url.clone(), route)))
        .collect();
    let headers = untouched(headers);
    let mut taken = true;
    for route in destinations.values() {
        let Some(notify) = route.notify() else { continue };
        let status = desk.pass_on(notify, headers.clone(), body.clone(), PATIENCE).await;
        let (result, detail) = match status {
            Some(status) if (200..300).contains(&status) => ("passed_on", String::new()),
            Some(status) => ("not_passed_on", format!("answered {status}")),
            None => ("not_passed_on", "no answer".to_owned()),
        };
        taken &= result == "passed_on";
        tell(desk, route.name(), &payment, about, result, &detail);
    }
    taken
}

fn tell(
    desk: &Desk,
    route: &str,
    payment: &str,
    about: &[(Option<Uuid>, &WebhookFact)],
    result: &'static str,
    detail: &str,
) {
    NotificationSent {
        metrics: desk.engine().metrics(),
        route,
        payment,
        news: about.first().map_or("", |(_, fact)| fact.event.as_str()),
        result,
        detail,
    }
    .emit();
}

/// Where a payment lives. What would say it waits a moment until it is decided.
async fn settled(desk: &Desk, gateway: &str, mut payment: Payment, says: bool) -> Lives {
    let (pause, looks) = UNDECIDED;
    for look in 0.. {
        let lives = lives(gateway, &payment);
        if !says || look == looks || !matches!(lives, Lives::Undecided) {
            return lives;
        }
        tokio::time::sleep(pause).await;
        match desk.engine().ledger().get(payment.id).await {
            Ok(Some(now)) => payment = now,
            Ok(None) | Err(_) => return Lives::Undecided,
        }
    }
    Lives::Undecided
}

fn lives(gateway: &str, payment: &Payment) -> Lives {
    let Ok(state) = serde_json::from_str::<State>(&payment.folded) else {
        // Only its end is left, and where it is.
        return if payment.gateway == gateway {
            Lives::Here
        } else {
            Lives::Elsewhere
        };
    };
    let at = |n: u16| {
        let attempt = state.attempt(n);
        let planned = attempt.and_then(|attempt| state.gateway_of(attempt));
        match planned.is_some_and(|planned| planned.name == gateway) {
            true => Lives::Here,
            false => Lives::Elsewhere,
        }
    };
    match (state.told, state.winner) {
        (None, _) => Lives::Undecided,
        (Some(_), Some(winner)) => at(winner),
        (Some(Verdict::Failed { n: Some(n), .. }), None) => at(n),
        // Nobody executed it: there is no other truth.
        (Some(_), None) => Lives::Here,
    }
}

/// The headers as they came, but for what belongs to the connection, and for what only Sentinel says.
fn untouched(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(headers.len());
    let connection: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for (name, value) in headers {
        let hop = matches!(
            name.as_str(),
            "connection"
                | "content-length"
                | "expect"
                | "host"
                | "keep-alive"
                | "proxy-authorization"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
        );
        if !hop && !name.as_str().starts_with("sentinel-") && !connection.iter().any(|named| named == name.as_str()) {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}
