//! Amounts that an application lowers before it captures.
//!
//! Square captures the whole of a payment: its applications take less by editing the amount first. Of a payment that
//! another gateway has, nothing is edited there: what it was lowered to is kept beside it in the ledger, is shown from then
//! on, and is what a capture asks the owner for. A capture that cannot read it is not made: it would take the whole.

use std::rc::Rc;

use http::StatusCode;

use super::super::core::Phase;
use super::actor::{Actor, unavailable};
use super::answer::{Told, own_error};
use super::persist::trouble;
use crate::gateway::canonical::{Answer, Operation};
use crate::gateway::{Head, Leg, OwnError};
use crate::ledger::LedgerError;
use crate::ledger::rows::{Awaited, Waiting};
use crate::money::Amount;

const SPACE: &str = "lowered";

/// Reads what the payment was lowered to. `Err` is what to answer where the ledger does not say.
pub(super) async fn recall(actor: &mut Actor, head: &Head) -> Result<(), Told> {
    let engine = Rc::clone(&actor.desk);
    let ledger = &engine.engine().ledger;
    let read = match ledger.document(SPACE, actor.payment.to_string()).await {
        Ok(None) => Ok(None),
        Ok(Some(document)) => serde_json::from_str::<Amount>(&document.value)
            .map(Some)
            .map_err(|_| LedgerError::Damaged("a lowered amount does not read".to_owned())),
        Err(error) => Err(error),
    };
    match read {
        Ok(lowered) => {
            actor.dossier.base.taking = lowered;
            Ok(())
        }
        Err(error) => Err(untold(actor, head, &error)),
    }
}

fn untold(actor: &Actor, head: &Head, error: &LedgerError) -> Told {
    trouble(&actor.desk, error);
    own_error(
        &actor.route,
        head,
        &unavailable("ledger_unavailable"),
        "ledger_unavailable",
    )
}

/// Lowers a hold to this amount.
pub(super) async fn lower(actor: &mut Actor, amount: Amount, head: &Head, body: &[u8]) -> Told {
    let refuse = |actor: &Actor, code, message: String| {
        let error = OwnError {
            status: StatusCode::BAD_REQUEST,
            code,
            message,
            retry: false,
        };
        own_error(&actor.route, head, &error, "follow_up_refused")
    };
    let books = actor.state.books();
    let held = matches!(actor.state.phase, Phase::Authorised { .. });
    if !held || books.captured > 0 || books.capturing > 0 {
        let message = "The payment is in a state that does not allow this.".to_owned();
        return refuse(actor, "wrong_state", message);
    }
    let present = actor.dossier.base.taking.unwrap_or(actor.dossier.base.amount);
    if amount.currency != present.currency || amount.is_zero() || amount.units > present.units {
        let message = "An amount can be lowered, and not to nothing.".to_owned();
        return refuse(actor, "amount_not_lowered", message);
    }
    if let Some(refusal) = actor.cannot(Leg::Capture, Some(amount)) {
        let message = format!("The payment was taken by another gateway, which cannot do this: {refusal}.");
        return refuse(actor, refusal.label(), message);
    }
    let Ok(value) = serde_json::to_string(&amount) else {
        return refuse(actor, "amount_not_lowered", "The amount cannot be kept.".to_owned());
    };
    let desk = Rc::clone(&actor.desk);
    let key = actor.payment.to_string();
    // It belongs to its payment, and goes with it.
    let waiting = Waiting {
        until: 0,
        payment: Awaited::Id(actor.payment),
    };
    let ledger = &desk.engine().ledger;
    if let Err(error) = ledger.put_waiting(SPACE, key, value, None, waiting).await {
        return untold(actor, head, &error);
    }
    actor.dossier.base.taking = Some(amount);
    let answer = Answer::Payment(Operation::Edit, Box::new(actor.present()));
    let reply = actor.route.dialect().render(&answer, head, body);
    actor.named(reply, "lowered")
}
