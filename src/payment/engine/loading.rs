//! Payments that the ledger has: read, their lease taken, and worked on.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::super::core::State;
use super::actor::{Actor, Begin, Lost};
use super::dossier::{Dossier, NAME};
use super::persist::{Rows, trouble};
use super::{Delivered, Desk, Message};
use crate::ledger::LedgerError;

/// Loads a payment and works on it.
pub(super) async fn load(desk: Rc<Desk>, payment: Uuid, mut inbox: mpsc::Receiver<Message>) {
    let engine = Arc::clone(desk.engine());
    let delivered = match loaded(&desk, payment).await {
        Ok(Some(found)) => {
            let Found { begin, recovered } = *found;
            let mut actor = Actor::new(desk, begin, inbox);
            let alive = match recovered {
                true => actor.take(actor.recovery()).await.is_ok(),
                false => true,
            };
            if alive {
                actor.work().await;
            } else {
                actor.end();
            }
            return;
        }
        Ok(None) => Delivered::Unknown,
        Err(Lost::Moved) => Delivered::Elsewhere,
        Err(Lost::Gone | Lost::OrderTaken | Lost::IdTaken) => Delivered::Unavailable,
    };
    inbox.close();
    engine.actors.remove(&payment);
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Event(_, reply) | Message::Wake(reply) => {
                let _ = reply.send(delivered.clone());
            }
            // Their callers see the channel close, and answer that nothing is known.
            Message::Ask(_) | Message::FollowUp(_) => {}
        }
    }
}

struct Found {
    begin: Begin,
    /// Whether something is left to do, which nobody is doing.
    recovered: bool,
}

/// Reads a payment from the ledger, and takes its lease where something is left to do.
async fn loaded(desk: &Rc<Desk>, payment: Uuid) -> Result<Option<Box<Found>>, Lost> {
    let ledger = &desk.engine.ledger;
    let trouble = |error: LedgerError| {
        trouble(desk, &error);
        Lost::Gone
    };
    let Some(mut row) = ledger.get(payment).await.map_err(trouble)? else {
        return Ok(None);
    };
    if row.tombstone {
        return Ok(None);
    }
    let sealed = ledger.unseal(payment, NAME.to_owned()).await.map_err(trouble)?;
    let dossier = sealed
        .as_deref()
        .and_then(|bytes| serde_json::from_slice::<Dossier>(bytes).ok());
    let state = serde_json::from_str::<State>(&row.folded);
    let (Some(dossier), Ok(mut state)) = (dossier, state) else {
        return Ok(None);
    };
    let route = match desk.engine.route_of(&row.tenant, &row.route).await {
        Ok(route) => route,
        Err(error) => {
            tracing::warn!(%payment, %error, "a payment's tenant could not be read");
            return Err(Lost::Gone);
        }
    };
    let Some(route) = route else {
        tracing::warn!(%payment, route = row.route, "a payment's route is not in the configuration any more");
        return Err(Lost::Gone);
    };
    let mut recovered = false;
    if !state.finished() {
        let ours = row.owner == ledger.owner();
        match ledger.take_lease(payment, Rows::lease(&route)).await.map_err(trouble)? {
            Some(taken) => row = taken,
            // We have it already; what was under way is lost with the actor that had begun it.
            None if ours => {}
            None => return Err(Lost::Moved),
        }
        recovered = true;
        match serde_json::from_str::<State>(&row.folded) {
            Ok(again) => state = again,
            Err(_) => return Ok(None),
        }
    }
    let begin = Begin {
        payment,
        route,
        state,
        dossier,
        fingerprint: row.fingerprint,
        fp_version: row.fp_version,
        position: row.position,
        lease_until: Rc::new(Cell::new(row.lease_until)),
    };
    Ok(Some(Box::new(Found { begin, recovered })))
}
