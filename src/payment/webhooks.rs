//! Gateways' webhooks: late truth, verified, brought to the payment it is about.
//!
//! A webhook decides nothing by itself. It becomes the same kind of finding that an answer does and goes through the same
//! [`step`](super::core::step), so that replays, another order and a webhook that comes before the answer need no rules of
//! their own: the lattice of outcomes absorbs them.
//!
//! # Whose it is
//!
//! Believed is, in this order: an id that the ledger recorded for this gateway; the payment's own id, which Sentinel
//! writes into every request of its own; the application's idempotency key, where the gateway says it; the merchant's
//! order reference, only where the route makes that name one payment at a time (`order_guard`, or `key: natural`),
//! only when exactly one payment in doubt fits, and only of money that is held or taken: what came to nothing for the
//! same order may have been an earlier try. Whatever fits nothing is no business of a payment here: it is
//! acknowledged, counted, and changes nothing.
//!
//! # What it refuses
//!
//! A webhook that is not signed, forged, too old or malformed is refused, and nothing is said about why. One that is true
//! and cannot be recorded now is refused, too, with 503, so that the gateway sends it again: acknowledged is only what is
//! durable.
//!
//! # Passing on
//!
//! What was taken is passed on to the application that speaks to this very account, as it came ([`pass_on`]).

mod pass_on;

use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;
use uuid::Uuid;

use super::core::{Attempt, Finding, Ids, Key, State, What, Why};
use super::engine::{Delivered, Desk, Engine, key_hash, order_hash};
use crate::config::model::{GatewayConfig, KeyPolicy};
use crate::gateway::outcome::Outcome;
use crate::gateway::webhook::{WebhookError, WebhookFact, WebhookKeys};
use crate::gateway::{self, Leg};
use crate::ledger::LedgerError;
use crate::ledger::rows::{Filter, Payment, Scope};
use crate::telemetry::event::WebhookReceived;

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is durable, or has nothing to say; and the application took it, where it is passed on.
    Taken,
    /// It is not believed, or cannot be verified here.
    Refused(WebhookError),
    /// It could not be recorded or passed on now; the gateway has to send it again.
    Later,
}

/// What one fact came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It was brought to its payment.
    Matched,
    /// It says nothing that a payment could use.
    Silent,
    /// No payment is known that it is about.
    Unmatched,
}

impl Came {
    const fn word(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Silent => "silent",
            Self::Unmatched => "unmatched",
        }
    }
}

/// Takes a delivery of a gateway's. `now` is Unix time in seconds, against replays.
pub async fn receive(desk: &Rc<Desk>, gateway: &GatewayConfig, headers: &HeaderMap, body: &Bytes, now: i64) -> Receipt {
    let engine = desk.engine();
    let tell = |event: &str, payment: &str, result: &'static str| {
        WebhookReceived {
            metrics: engine.metrics(),
            gateway: &gateway.name,
            event,
            payment,
            result,
        }
        .emit();
    };
    let facts = match verified(desk, gateway, headers, body, now).await {
        Ok(facts) => facts,
        Err(WebhookError::ToBeVouched) => {
            tell("", "", "not_vouched");
            return Receipt::Later;
        }
        Err(error) => {
            tell("", "", word(&error));
            return Receipt::Refused(error);
        }
    };
    let mut about = Vec::new();
    for fact in &facts {
        match bring(engine, gateway, fact).await {
            Ok((payment, came)) => {
                let id = payment.map(|payment| payment.to_string()).unwrap_or_default();
                tell(&fact.event, &id, came.word());
                about.push((payment, fact));
            }
            Err(Unrecorded) => {
                tell(&fact.event, "", "later");
                return Receipt::Later;
            }
        }
    }
    match pass_on::pass_on(desk, &gateway.name, &about, headers, body).await {
        true => Receipt::Taken,
        false => Receipt::Later,
    }
}

/// The closed word of an error.
const fn word(error: &WebhookError) -> &'static str {
    match error {
        WebhookError::Unsupported => "unsupported",
        WebhookError::Unconfigured(_) => "unconfigured",
        WebhookError::Unsigned => "unsigned",
        WebhookError::Forged => "forged",
        WebhookError::Stale => "stale",
        WebhookError::Malformed(_) => "malformed",
        WebhookError::ToBeVouched => "not_vouched",
    }
}

/// Verifies a delivery, by any of the secrets that are in force. The gateway is asked where only it can tell.
async fn verified(
    desk: &Rc<Desk>,
    gateway: &GatewayConfig,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Vec<WebhookFact>, WebhookError> {
    let api = gateway::for_dialect(gateway.dialect).ok_or(WebhookError::Unsupported)?;
    let webhook = &gateway.webhook;
    let keys = |secret, vouched| WebhookKeys {
        secret,
        webhook_id: webhook.webhook_id.as_deref(),
        notification_url: webhook.notification_url.as_deref(),
        account: Some(&gateway.credentials),
        vouched,
    };
    let mut result = None;
    for secret in &webhook.secrets {
        match api.webhook(&keys(Some(secret.expose()), false), headers, body, now) {
            Err(WebhookError::Forged) => result = Some(Err(WebhookError::Forged)),
            decided => return decided,
        }
    }
    match result.unwrap_or_else(|| api.webhook(&keys(None, false), headers, body, now)) {
        Err(WebhookError::ToBeVouched) => match desk.vouched(&gateway.name, &keys(None, false), headers, body).await {
            Some(true) => api.webhook(&keys(None, true), headers, body, now),
            Some(false) => Err(WebhookError::Forged),
            None => Err(WebhookError::ToBeVouched),
        },
        decided => decided,
    }
}

/// The fact could not be recorded now.
struct Unrecorded;

impl From<LedgerError> for Unrecorded {
    fn from(error: LedgerError) -> Self {
        tracing::warn!(%error, "a webhook could not be looked up in the ledger");
        Self
    }
}

/// How a payment was found: what may be concluded from it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// By an id of the gateway's that the ledger recorded.
    Id,
    /// By the payment's own id.
    Reference,
    /// By the key of the application's own request.
    Key,
    /// By the merchant's order, which another try for it may have had as well.
    Order,
}

async fn bring(
    engine: &Engine,
    config: &GatewayConfig,
    fact: &WebhookFact,
) -> Result<(Option<Uuid>, Came), Unrecorded> {
    let gateway = config.name.as_str();
    let Some(leg) = fact.leg else {
        return Ok((None, Came::Silent));
    };
    let finding = Finding::from_webhook(&fact.observation);
    if finding.outcome == Outcome::Unknown && !finding.pending {
        return Ok((None, Came::Silent));
    }
    let Some((payment, by)) = find(engine, gateway, fact).await? else {
        return Ok((None, Came::Unmatched));
    };
    let id = payment.id;
    let Ok(state) = serde_json::from_str::<State>(&payment.folded) else {
        // Only its end is left: nothing can change it any more.
        return Ok((Some(id), Came::Silent));
    };
    let (n, mut finding) = match which(&state, gateway, leg, fact, by, id) {
        Some(n) => (n, finding),
        None => match cancelled(&state, gateway, fact, finding, by, id) {
            Some(told) => told,
            None => return Ok((Some(id), Came::Unmatched)),
        },
    };
    let pays = state.attempt(n).is_some_and(|attempt| attempt.why == Why::Pay);
    let under_way = state.attempt(n).is_some_and(Attempt::pending);
    // Where it does not say whether money is held or taken, the attempt knows: a sale takes it.
    let tells = gateway::for_dialect(config.dialect).is_none_or(|api| api.tells_holds());
    let sale = state.attempt(n).is_some_and(|attempt| attempt.leg == Leg::Charge);
    if !tells && sale && finding.outcome == Outcome::Authorised {
        finding.outcome = Outcome::Succeeded;
    }
    // That a gateway has begun is no news while its own answer is still to come; and a webhook about a payment tells of
    // effects and declines, never of what arrived.
    // Webhooks come in any order: a decline before the effect that is known of the same object is old news.
    let old = state.attempt(n).is_some_and(|attempt| attempt.known.effect());
    let old = old && pays && matches!(finding.outcome, Outcome::Declined(_));
    let decided = state.attempt(n).is_some_and(|attempt| !attempt.known.unknown());
    // What the customer completes after a decline, from the browser, is another request's: this attempt's end is told.
    let over = state.attempt(n).is_some_and(|attempt| {
        let open = state
            .gateway_of(attempt)
            .is_some_and(|planned| planned.declines_stay_open);
        open && matches!(attempt.known.outcome(), Outcome::Declined(_)) && !attempt.known.fenced()
    });
    let old = old || (over && pays);
    let nothing_new = old || (finding.outcome == Outcome::Unknown && (under_way || decided));
    if nothing_new || (pays && matches!(finding.outcome, Outcome::NotSent | Outcome::Rejected(_))) {
        return Ok((Some(id), Came::Silent));
    }
    let what = What::Observed {
        n,
        finding: Box::new(finding),
        evidence: None,
    };
    match engine.deliver(id, what).await {
        Delivered::Taken(_) => Ok((Some(id), Came::Matched)),
        Delivered::Unknown => Ok((Some(id), Came::Unmatched)),
        Delivered::Refused(_) | Delivered::Moved | Delivered::Elsewhere | Delivered::Unavailable => Err(Unrecorded),
    }
}

/// The payment that a fact is about.
async fn find(engine: &Engine, gateway: &str, fact: &WebhookFact) -> Result<Option<(Payment, By)>, Unrecorded> {
    let Some((payment, by)) = named(engine, gateway, fact).await? else {
        return Ok(None);
    };
    Ok(of_its_account(engine, gateway, &payment, fact)
        .await?
        .then_some((payment, by)))
}

/// Whether a fact is of the account that the payment is asked for at. What several accounts know by one reference, one of
/// them may have and the other not.
async fn of_its_account(
    engine: &Engine,
    gateway: &str,
    payment: &Payment,
    fact: &WebhookFact,
) -> Result<bool, Unrecorded> {
    let Some((credential, account)) = &fact.account else {
        return Ok(true);
    };
    let route = engine.route_of(&payment.tenant, &payment.route).await;
    let route = route.map_err(|error| {
        tracing::warn!(%error, "the account of a webhook could not be looked up");
        Unrecorded
    })?;
    let known = route.and_then(|route| Some(route.at(gateway)?.credentials.get(credential)?.to_owned()));
    Ok(known.is_none_or(|known| known == *account))
}

/// The payment that a fact names.
async fn named(engine: &Engine, gateway: &str, fact: &WebhookFact) -> Result<Option<(Payment, By)>, Unrecorded> {
    let ledger = engine.ledger();
    let said = &fact.observation;
    for id in [&said.modification_id, &said.charge_id, &said.payment_id]
        .into_iter()
        .flatten()
    {
        let scope = Scope::Gateway {
            name: gateway.to_owned(),
        };
        if let Some((payment, _)) = ledger.by_id(scope, id.clone()).await? {
            return Ok(Some((payment, By::Id)));
        }
    }
    let own = fact
        .reference
        .as_deref()
        .and_then(|reference| reference.parse::<Uuid>().ok());
    if let Some(own) = own
        && let Some(payment) = ledger.get(own).await?
    {
        return Ok(Some((payment, By::Reference)));
    }
    let pays = matches!(fact.leg, Some(Leg::Charge | Leg::Auth));
    let routes: Vec<_> = engine
        .routes()
        .into_iter()
        .filter(|route| pays && route.own().is_some_and(|own| own.config.name == gateway))
        .collect();
    if let Some(key) = &fact.key {
        for route in &routes {
            let hash = key_hash(ledger.keys(), route, key);
            if let Some(payment) = ledger.by_key(hash).await? {
                return Ok(Some((payment, By::Key)));
            }
        }
    }
    let Some(reference) = &fact.reference else {
        return Ok(None);
    };
    let guarded = |route: &&std::sync::Arc<super::engine::Route>| {
        let failover = route.failover();
        failover.order_guard || failover.key == KeyPolicy::Natural
    };
    let mut fits = Vec::new();
    for route in routes.iter().filter(guarded) {
        let filter = Filter {
            route: Some(route.name().to_owned()),
            in_doubt: true,
            order_ref_hash: Some(order_hash(ledger.keys(), route.tenant(), reference)),
            limit: 2,
            ..Filter::default()
        };
        fits.extend(ledger.list(filter).await?);
    }
    let only = match fits.len() {
        1 => fits.pop(),
        _ => None,
    };
    Ok(only.map(|payment| (payment, By::Order)))
}

/// What a cancellation says of a hold, where it is none that Sentinel asked for: somebody cancelled by hand, or the gateway
/// did. It is the same fact that other gateways tell as a state of the payment itself. Money that was taken at once is given
/// back by it, where it can be (Adyen, before the capture): like a refund by hand, that is the business of whoever did it.
fn cancelled(
    state: &State,
    gateway: &str,
    fact: &WebhookFact,
    told: Finding,
    by: By,
    payment: Uuid,
) -> Option<(u16, Finding)> {
    if !cancels(fact) {
        return None;
    }
    let n = which(state, gateway, Leg::Charge, fact, by, payment)?;
    if state.attempt(n)?.leg != Leg::Auth {
        return None;
    }
    let ids = Ids {
        modification: None,
        ..told.ids
    };
    let outcome = Outcome::Fenced;
    Some((n, Finding { outcome, ids, ..told }))
}

/// Whether a fact is that a payment was cancelled: by its id, or by its reference.
fn cancels(fact: &WebhookFact) -> bool {
    matches!(
        (fact.leg, fact.observation.outcome),
        (Some(Leg::Void), Outcome::Succeeded) | (Some(Leg::Fence), Outcome::Fenced)
    )
}

/// The attempt that a fact is about.
fn which(state: &State, gateway: &str, leg: Leg, fact: &WebhookFact, by: By, payment: Uuid) -> Option<u16> {
    let said = &fact.observation;
    let there = |attempt: &Attempt| state.gateway_of(attempt).is_some_and(|planned| planned.name == gateway);
    let same = |mine: &Option<String>, theirs: &Option<String>| mine.is_some() && mine == theirs;
    match leg {
        Leg::Charge | Leg::Auth => {
            let known = state.pays().rev().find(|(_, attempt)| {
                there(attempt)
                    && (same(&attempt.ids.payment, &said.payment_id) || same(&attempt.ids.charge, &said.charge_id))
            });
            if let Some((n, _)) = known {
                return Some(n);
            }
            let n = state.attribute(gateway, state.plan.leg())?;
            let attempt = state.attempt(n)?;
            // The application's request is the one that carried its key; an object known by another id is another object.
            let own =
                attempt.key == Key::Application || state.gateway_of(attempt).is_some_and(|planned| planned.native);
            let fits = attempt.ids.payment.is_none() && (matches!(by, By::Id | By::Reference) || own);
            let same = state.plan.amount.is_none() || state.plan.amount == said.amount;
            let effect = matches!(said.outcome, Outcome::Authorised | Outcome::Succeeded);
            let amount = match by {
                By::Id | By::Reference => true,
                By::Key => same || said.amount.is_none(),
                By::Order => same && effect,
            };
            (fits && amount).then_some(n)
        }
        Leg::Capture | Leg::Void | Leg::Refund => {
            let known = state.numbered().rev().find(|(_, attempt)| {
                there(attempt) && attempt.leg == leg && same(&attempt.ids.modification, &said.modification_id)
            });
            if let Some((n, _)) = known {
                return Some(n);
            }
            // Somebody may refund by hand, too. What has no id yet is only found by Sentinel's own reference.
            if fact.reference.as_deref() != Some(payment.to_string().as_str()) {
                return None;
            }
            let mut open = state.numbered().filter(|(_, attempt)| {
                let amount = said.amount.is_none() || attempt.amount.is_none() || attempt.amount == said.amount;
                there(attempt)
                    && attempt.leg == leg
                    && attempt.known.unknown()
                    && attempt.ids.modification.is_none()
                    && amount
            });
            match (open.next(), open.next()) {
                (Some((n, _)), None) => Some(n),
                _ => None,
            }
        }
        Leg::Fence | Leg::Lookup => matches!(by, By::Id | By::Reference)
            .then(|| state.attribute(gateway, leg))
            .flatten(),
    }
}
