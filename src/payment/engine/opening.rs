//! Payments that begin: recorded with their first attempt before its first byte (safety.md D1).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::core::{self, Action, Event, Phase, Plan, Record, State, What, step};
use super::actor::{Actor, Begin, Prepared, key_reused, order_taken, unavailable};
use super::answer::own_error;
use super::dossier::Dossier;
use super::entry::Ask;
use super::flight::Ground;
use super::persist::{Rows, trouble};
use super::source::KeySource;
use super::{Desk, Message, Route, canon};
use crate::gateway::OwnError;
use crate::ledger::rows::{Opened, Payment};
use crate::ledger::{Constraint, LedgerError};
use crate::telemetry::event::LedgerCommitted;

/// A payment that is to be opened.
pub(super) struct Opening {
    pub route: Arc<Route>,
    pub ask: Ask,
    pub plan: Plan,
    pub source: KeySource,
    /// Keyed hash of its order reference.
    pub order: Option<[u8; 32]>,
}

/// Opens a payment and works on it.
pub(super) async fn open(desk: Rc<Desk>, payment: Uuid, opening: Opening, inbox: mpsc::Receiver<Message>) {
    let engine = Arc::clone(desk.engine());
    match opened(desk, payment, opening, inbox).await {
        Some(mut actor) => actor.work().await,
        None => {
            engine.actors.remove(&payment);
        }
    }
}

/// Opens the payment in the ledger. `None` when the caller was answered or handed over, and there is nothing to work on.
async fn opened(desk: Rc<Desk>, payment: Uuid, opening: Opening, inbox: mpsc::Receiver<Message>) -> Option<Actor> {
    let Opening {
        route,
        ask,
        plan,
        source,
        order,
    } = opening;
    let engine = Arc::clone(desk.engine());
    let seed = engine.seed(payment);
    let at = engine.now();
    let material = Arc::clone(&ask.material);
    let refuse = |ask: Ask, error: OwnError, outcome: &'static str| {
        let told = own_error(&route, &ask.material.head, &error, outcome);
        let _ = ask.reply.send(told);
    };
    let dossier = Dossier::new(
        route.dialect(),
        &seed,
        &material.head,
        &material.pay,
        material.key.as_ref(),
        at,
    );
    let Some(dossier) = dossier else {
        refuse(ask, unavailable("amount_unknown"), "amount_unknown");
        return None;
    };
    let native_open = route
        .own()
        .is_some_and(|own| plan.gateways.first().is_some_and(|first| first.name == own.config.name));
    let (mut state, mut actions) = step(
        State::default(),
        Event {
            at,
            what: What::Open(Box::new(plan)),
        },
    );
    // A breaker that is open refuses the first attempt before the ledger is asked, so that opening the payment, skipping
    // the attempt and licensing the next one are one write.
    let mut permit = None;
    let lease_until = Rc::new(Cell::new(0));
    if native_open
        && let Some(Action::Send(send)) = actions.last().cloned()
        && let Some(at_first) = state
            .plan
            .gateway(send.gateway)
            .and_then(|planned| route.at(&planned.name))
    {
        match desk.admit(at_first, send.leg) {
            Ok(admitted) => permit = Some(admitted),
            Err(reason) => {
                let what = What::Skipped { n: send.n, reason };
                let (skipped, then) = step(state.clone(), Event { at, what });
                actions.pop();
                actions = joined(actions, then);
                state = skipped;
            }
        }
    }
    let records = match actions.first() {
        Some(Action::Persist(records)) => records.clone(),
        _ => return None,
    };
    let deadline = i64::try_from(route.failover().deadline.as_millis()).unwrap_or(i64::MAX);
    let (mut generation, mut prepared) = (0, Prepared::default());
    let position = loop {
        let key_hash = source.hash(engine.ledger.keys(), &route, payment, generation);
        let rows = Rows {
            engine: &engine,
            route: &route,
            payment,
            state: &state,
            records: &records,
            dossier: &dossier,
            changed: true,
        };
        let row = rows.open(
            key_hash,
            ask.fingerprint,
            order,
            engine.ledger.now().saturating_add(deadline),
        );
        let begun = Instant::now();
        let opening = engine.ledger.open(row);
        // The writer is at work. What is to be sent when it is done is made ready meanwhile.
        if prepared.flight.is_none() {
            let send = actions.iter().find_map(|action| match action {
                Action::Send(send) => Some(send),
                _ => None,
            });
            let ground = Ground {
                desk: &desk,
                route: &route,
                payment,
                state: &state,
                dossier: &dossier,
                material: Some(&material),
                lease: Some(&lease_until),
            };
            prepared.flight = send.map(|send| (send.n, ground.prepare(send, permit.take())));
        }
        match opening.await {
            Ok(Opened::New(position)) => {
                let (metrics, took) = (&*engine.metrics, begun.elapsed());
                LedgerCommitted { metrics, took }.emit();
                break position;
            }
            Ok(Opened::Existing(found)) => {
                if source.kind() == core::KeyKind::Natural && over(&source, &found, &route, engine.ledger.now()) {
                    generation += 1;
                    continue;
                }
                engine.send(found.id, Message::Ask(ask)).await;
                return None;
            }
            Ok(Opened::OrderTaken(_)) => {
                let told = order_taken(&route, &material.head);
                let _ = ask.reply.send(told);
                return None;
            }
            Err(error) => {
                trouble(&desk, &error);
                let code = match error {
                    LedgerError::Taken(Constraint::Attempt) => {
                        refuse(ask, key_reused(), "key_reused");
                        return None;
                    }
                    LedgerError::Full => "ledger_full",
                    _ => "ledger_unavailable",
                };
                refuse(ask, unavailable(code), code);
                return None;
            }
        }
    };
    lease_until.set(engine.ledger.now().saturating_add(Rows::lease(&route)));
    let begin = Begin {
        payment,
        lease_until,
        route,
        state,
        dossier,
        fingerprint: ask.fingerprint,
        fp_version: canon::VERSION,
        position,
    };
    let mut actor = Actor::new(desk, begin, inbox);
    actor.noticed(&records);
    actor.begin(ask, actions.split_off(1), prepared).await;
    Some(actor)
}

/// Whether an order may be paid anew: it was declined for good, or its window is over.
pub(super) fn over(source: &KeySource, found: &Payment, route: &Route, now: i64) -> bool {
    let failed = found.state
        == (Phase::Failed {
            n: None,
            why: core::Failure::Declined,
        })
        .name();
    let window = i64::try_from(route.failover().natural_window.as_millis()).unwrap_or(i64::MAX);
    let aged = source.ages() && found.terminal && now.saturating_sub(found.created_at) > window;
    (failed && found.terminal) || aged
}

/// Two lists of actions as one step: what both make durable is made durable together, before anything else.
fn joined(first: Vec<Action>, then: Vec<Action>) -> Vec<Action> {
    let mut records: Vec<Record> = Vec::new();
    let mut rest = Vec::new();
    for action in first.into_iter().chain(then) {
        match action {
            Action::Persist(more) => records.extend(more),
            other => rest.push(other),
        }
    }
    rest.insert(0, Action::Persist(records));
    rest
}
