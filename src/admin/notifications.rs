//! `/notifications`: webhooks that applications have not taken yet, and those that were given up.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{payments, problem};
use crate::app::control::Control;
use crate::ledger::LedgerError;
use crate::payment::announce::outbox::{Kept, Outbox};

fn shown(route: &str, kept: &Kept) -> Value {
    let entry = &kept.entry;
    json!({
        "route": route,
        "id": kept.id,
        "payment": entry.payment,
        "news": entry.news.kind.name(),
        "at": entry.at,
        "tries": entry.tries,
        "due": entry.due,
        "state": if entry.dead { "dead" } else { "waiting" },
        "last": entry.last,
    })
}

/// `GET /notifications`: oldest first, by route. Routes that notify nobody any more have none to show.
pub(super) async fn list(State(control): State<Arc<Control>>) -> Response {
    let engine = match payments::engine(&control) {
        Ok(engine) => engine,
        Err(refusal) => return *refusal,
    };
    let mut all = Vec::new();
    for route in engine.routes().iter().filter(|route| route.notify().is_some()) {
        let outbox = Outbox::of(engine.ledger().as_ref(), route.name());
        match outbox.all().await {
            Ok(entries) => all.extend(entries.iter().map(|kept| shown(route.name(), kept))),
            Err(error) => return payments::trouble(&error),
        }
    }
    Json(all).into_response()
}

/// `POST /notifications/{route}/{id}/retry`: tried again at once, however long it has been given up.
pub(super) async fn retry(State(control): State<Arc<Control>>, Path((route, id)): Path<(String, String)>) -> Response {
    let engine = match payments::engine(&control) {
        Ok(engine) => engine,
        Err(refusal) => return *refusal,
    };
    let outbox = Outbox::of(engine.ledger().as_ref(), &route);
    let again = async {
        let Some(mut kept) = outbox.get(&id).await? else {
            return Ok(None);
        };
        kept.entry.due = 0;
        kept.entry.dead = false;
        outbox.put(&kept).await?;
        Ok::<_, LedgerError>(Some(kept))
    };
    match again.await {
        Ok(Some(kept)) => Json(shown(&route, &kept)).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such notification"),
        Err(error) => payments::trouble(&error),
    }
}
