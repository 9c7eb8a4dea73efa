//! `/payments`: what the ledger has of payments, told for people, and the one thing that a person can say of one.
//!
//! A resolution needs a name and a reason, both of which the ledger keeps for good, and goes through the payment core,
//! which refuses what evidence contradicts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{problem, problem_with};
use crate::app::control::Control;
use crate::ledger::LedgerError;
use crate::ledger::rows::{Filter, Payment};
use crate::payment::core::{Resolution, What};
use crate::payment::engine::{Delivered, Engine};
use crate::payment::timeline::{Found, Summary, Timeline, named};
use crate::telemetry::scrub::{Format, scrub};

/// Payments in one answer, at most.
const MOST: usize = 1000;
/// Characters of a name and of a reason, at most.
const NAME: usize = 100;
const REASON: usize = 1000;

/// What a list is of, as in a query; everything is a conjunction.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    state: Option<String>,
    gateway: Option<String>,
    route: Option<String>,
    currency: Option<String>,
    /// Unix milliseconds.
    from: Option<i64>,
    /// Unix milliseconds.
    to: Option<i64>,
    in_doubt: bool,
    owing: bool,
    manual: bool,
    moved: bool,
    text: Option<String>,
    before: Option<Uuid>,
    limit: Option<usize>,
}

impl Wanted {
    fn filter(self) -> Filter {
        Filter {
            tenant: None,
            state: self.state,
            gateway: self.gateway,
            route: self.route,
            currency: self.currency.map(|code| code.to_ascii_uppercase()),
            order_ref_hash: None,
            created_from: self.from,
            created_to: self.to,
            in_doubt: self.in_doubt,
            owing: self.owing,
            manual: self.manual,
            moved: self.moved,
            text: self.text,
            before: self.before,
            limit: self.limit.unwrap_or(0).min(MOST),
        }
    }
}

pub(super) fn engine(control: &Control) -> Result<&Arc<Engine>, Box<Response>> {
    control.engine().ok_or_else(|| {
        Box::new(problem(
            StatusCode::NOT_FOUND,
            "the configuration has no ledger, so that no payment is recorded",
        ))
    })
}

pub(super) fn trouble(error: &LedgerError) -> Response {
    let status = match error {
        LedgerError::Busy | LedgerError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, &error.to_string())
}

/// `GET /payments`
pub(super) async fn list(State(control): State<Arc<Control>>, Query(wanted): Query<Wanted>) -> Response {
    let engine = match engine(&control) {
        Ok(engine) => engine,
        Err(refusal) => return *refusal,
    };
    match engine.ledger().list(wanted.filter()).await {
        Ok(payments) => Json(payments.iter().map(Summary::of).collect::<Vec<_>>()).into_response(),
        Err(error) => trouble(&error),
    }
}

/// `GET /payments/{id}`: by its id or the beginning of it, or by any id that the application or a gateway knows.
pub(super) async fn show(State(control): State<Arc<Control>>, Path(name): Path<String>) -> Response {
    let engine = match engine(&control) {
        Ok(engine) => engine,
        Err(refusal) => return *refusal,
    };
    let payment = match find(engine, &name).await {
        Ok(payment) => payment,
        Err(refusal) => return *refusal,
    };
    match Found::read(engine.ledger().as_ref(), payment).await {
        Ok(found) => Json(Timeline::of(&found)).into_response(),
        Err(error) => trouble(&error),
    }
}

async fn find(engine: &Engine, name: &str) -> Result<Payment, Box<Response>> {
    let found = engine.ledger().list(named(name)).await;
    let mut found = found.map_err(|error| Box::new(trouble(&error)))?;
    match (found.pop(), found.len()) {
        (Some(payment), 0) => Ok(payment),
        (None, _) => Err(Box::new(problem(
            StatusCode::NOT_FOUND,
            "the ledger knows no payment by that name; it takes a payment's id, eight characters of its beginning, or an id \
             that the application or a gateway gave",
        ))),
        (Some(last), _) => {
            found.push(last);
            let ids: Vec<Uuid> = found.iter().map(|payment| payment.id).collect();
            let detail = "several payments have that name; use the id of one";
            Err(Box::new(problem_with(
                StatusCode::CONFLICT,
                detail,
                json!({ "payments": ids }),
            )))
        }
    }
}

/// What a person says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    resolution: Word,
    /// For `succeeded` and `released`.
    attempt: Option<u16>,
    /// Who says so.
    operator: String,
    /// What it rests on.
    reason: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Succeeded,
    Failed,
    Released,
    Continue,
}

impl Said {
    /// From the choice of a form: a resolution, and the attempt that it names behind a colon.
    pub(crate) fn chosen(choice: &str, operator: String, reason: String) -> Result<Self, String> {
        let (word, attempt) = match choice.split_once(':') {
            Some((word, n)) => (word, Some(n.parse().map_err(|_| "an attempt is a number".to_owned())?)),
            None => (choice, None),
        };
        let resolution = serde_json::from_value(Value::String(word.to_owned()))
            .map_err(|_| "there is no such resolution".to_owned())?;
        Ok(Self {
            resolution,
            attempt,
            operator,
            reason,
        })
    }

    fn meant(self) -> Result<What, String> {
        let resolution = match (self.resolution, self.attempt) {
            (Word::Succeeded, Some(n)) => Resolution::Succeeded { n },
            (Word::Released, Some(n)) => Resolution::Released { n },
            (Word::Succeeded | Word::Released, None) => return Err("name the attempt: `attempt`".into()),
            (Word::Failed, None) => Resolution::Failed,
            (Word::Continue, None) => Resolution::Continue,
            (Word::Failed | Word::Continue, Some(_)) => {
                return Err("only `succeeded` and `released` name an attempt".into());
            }
        };
        Ok(What::Resolve {
            operator: words("operator", &self.operator, NAME)?,
            reason: words("reason", &self.reason, REASON)?,
            resolution,
        })
    }
}

/// Text that is kept for good: some, not too much, printable, and without anything that the ledger must not hold.
fn words(field: &str, text: &str, most: usize) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!(
            "`{field}` must not be empty: the ledger keeps who said it and why"
        ));
    }
    if text.chars().count() > most {
        return Err(format!("`{field}` may have {most} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("`{field}` may have no control characters"));
    }
    match scrub(text.as_bytes(), Format::Text) {
        std::borrow::Cow::Borrowed(_) => Ok(text.to_owned()),
        std::borrow::Cow::Owned(_) => Err(format!(
            "`{field}` holds what looks like a card number or a key, which the ledger must not keep"
        )),
    }
}

/// `POST /payments/{id}/resolve`
pub(super) async fn resolve(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    Json(said): Json<Said>,
) -> Response {
    let engine = match engine(&control) {
        Ok(engine) => engine,
        Err(refusal) => return *refusal,
    };
    // A resolution is of one payment, not of whatever a beginning finds.
    let Ok(id) = name.parse::<Uuid>() else {
        return problem(StatusCode::BAD_REQUEST, "name the payment by its whole id");
    };
    match take(engine, id, said).await {
        Ok(()) => show(State(Arc::clone(&control)), Path(name)).await,
        Err((status @ StatusCode::CONFLICT, why)) => problem_with(status, &why, json!({ "payment": id })),
        Err((status, why)) => problem(status, &why),
    }
}

/// Takes a person's word on a payment to the payment core.
///
/// # Errors
/// Why it was not taken; nothing was recorded then.
pub(crate) async fn take(engine: &Engine, id: Uuid, said: Said) -> Result<(), (StatusCode, String)> {
    let what = said
        .meant()
        .map_err(|wrong| (StatusCode::UNPROCESSABLE_ENTITY, wrong))?;
    tracing::warn!(payment = %id, ?what, "an operator resolves a payment");
    let refused = |why: &str| Err((StatusCode::CONFLICT, format!("nothing was recorded: {why}")));
    match engine.deliver(id, what).await {
        Delivered::Taken(_) => Ok(()),
        Delivered::Refused(objection) => refused(&objection.to_string()),
        Delivered::Moved => refused("it changed at this very moment: look at it again"),
        Delivered::Elsewhere => refused("another process works on it: ask that one, or wait until its lease is over"),
        Delivered::Unknown => Err((
            StatusCode::NOT_FOUND,
            "the ledger has no such payment, or only its end is left".to_owned(),
        )),
        Delivered::Unavailable => Err((
            StatusCode::SERVICE_UNAVAILABLE,
            "the ledger, or the route that the payment came by, cannot be used now; nothing was recorded".to_owned(),
        )),
    }
}
