//! One payment's whole story, for people: what is known, attempt by attempt, with the evidence it rests on.
//!
//! It is told from the ledger's events alone, by folding them as the payment core does, so that whatever it says is what
//! Sentinel itself acts on. It decides nothing. The same story comes from a running sidecar and from a ledger's file; the
//! command line and every other reader print what it says and know no words of their own.
//!
//! It holds no request, card number, secret or application's idempotency key: the ledger has none of them.

mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::core::{Hold, Record, Resolution, State};
use super::engine;
use crate::gateway::outcome::Decline;
use crate::ledger::rows::{Event, Filter, Id, Payment, Scope};
use crate::ledger::{Ledger, LedgerError};
use crate::money::{Amount, Currency};

/// One payment in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: Uuid,
    /// The route that it came by.
    pub route: String,
    /// The tenant, or `local`.
    pub tenant: String,
    /// The word of its state.
    pub state: String,
    /// Whether its outcome is not proven.
    pub in_doubt: bool,
    /// Whether a person has to decide.
    pub manual: bool,
    /// Voids and refunds owed.
    pub owes: u32,
    /// Whether nothing more happens by itself.
    pub finished: bool,
    /// Whether only its key and its end are left.
    pub erased: bool,
    /// The amount in decimals, `19.99`; `None` where the request named none.
    pub amount: Option<String>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// The gateway that was tried first.
    pub first_gateway: String,
    /// The gateway that has it, or is now tried.
    pub gateway: String,
    /// When it was opened, Unix milliseconds.
    pub created_at: i64,
    /// When it last changed, Unix milliseconds.
    pub updated_at: i64,
}

/// One payment's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// What is known and what Sentinel does about it, in sentences.
    pub says: Vec<String>,
    /// What the application was told; `None` when nothing for good.
    pub told: Option<String>,
    /// How failover is made safe: `fence`, `gated`, `compensate`.
    pub mode: String,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptView>,
    /// What a person may say of it now, or why not.
    pub resolutions: Vec<ResolutionView>,
    /// Every id that leads to it.
    pub ids: Vec<IdView>,
    /// What happened, oldest first.
    pub events: Vec<EventView>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// From 1.
    pub n: u16,
    /// The configured gateway.
    pub gateway: String,
    /// What it is for: `charge`, `fence`, ...
    pub leg: String,
    /// The attempt that it acts on or asks about.
    pub of: Option<u16>,
    /// What is known of it.
    pub outcome: String,
    /// The gateway's name for a decline, and its code.
    pub decline: Option<String>,
    /// Whether its effect is the payment's.
    pub winner: bool,
    /// Whether its effect was voided or refunded; of a refund, whether it came back.
    pub released: bool,
    /// Whether its release is owed.
    pub owed: bool,
    /// How often it was sent with its key.
    pub sends: u16,
    /// The amount in decimals, with its currency.
    pub amount: Option<String>,
    /// The gateway's ids of what it made.
    pub ids: Vec<String>,
    /// When it was planned, Unix seconds.
    pub at: i64,
}

/// What a person may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolutionView {
    /// `succeeded`, `failed`, `released` or `continue`.
    pub resolution: String,
    /// The attempt it speaks of.
    pub attempt: Option<u16>,
    /// Why it would be refused; `None` when it would be taken.
    pub objection: Option<String>,
}

/// An id that leads to the payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdView {
    /// The id.
    pub id: String,
    /// What it names: `payment`, `charge`, `refund`, ...
    pub kind: String,
    /// The gateway whose id it is; `None` for one that the application knows.
    pub gateway: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// From 1.
    pub seq: i64,
    /// When it was recorded, Unix milliseconds.
    pub at: i64,
    /// Its name.
    pub kind: String,
    /// The attempt it is about.
    pub attempt: Option<u16>,
    /// What happened.
    pub text: String,
    /// The evidence it rests on, where there was an exchange.
    pub evidence: Option<String>,
    /// The record itself.
    pub record: serde_json::Value,
}

/// A payment as the ledger has it.
#[derive(Debug)]
pub struct Found {
    /// Its row.
    pub payment: Payment,
    /// Its events.
    pub events: Vec<Event>,
    /// Its ids.
    pub ids: Vec<Id>,
    /// What gateways said of declines.
    pub declines: BTreeMap<u16, Decline>,
}

impl Found {
    /// Reads all that the ledger has of a payment.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub async fn read(ledger: &dyn Ledger, payment: Payment) -> Result<Self, LedgerError> {
        let id = payment.id;
        let sealed = ledger.unseal(id, engine::DOSSIER.to_owned()).await?;
        Ok(Self {
            events: ledger.events(id).await?,
            ids: ledger.ids(id).await?,
            declines: sealed.as_deref().map(engine::declines).unwrap_or_default(),
            payment,
        })
    }
}

/// The filter that finds a payment by whatever names it: its id or its beginning, or an id of the application or a gateway.
pub fn named(text: &str) -> Filter {
    Filter {
        text: Some(text.to_owned()),
        limit: 10,
        ..Filter::default()
    }
}

impl Summary {
    /// Of a row.
    pub fn of(payment: &Payment) -> Self {
        let currency = payment.currency.as_deref().and_then(|code| Currency::parse(code).ok());
        let amount = payment
            .amount
            .zip(currency)
            .map(|(units, currency)| Amount { units, currency }.decimal());
        Self {
            id: payment.id,
            route: payment.route.clone(),
            tenant: payment.tenant.clone(),
            state: payment.state.clone(),
            in_doubt: payment.in_doubt,
            manual: payment.manual,
            owes: payment.obligations,
            finished: payment.terminal,
            erased: payment.tombstone,
            amount,
            currency: payment.currency.clone(),
            first_gateway: payment.first_gateway.clone(),
            gateway: payment.gateway.clone(),
            created_at: payment.created_at,
            updated_at: payment.updated_at,
        }
    }
}

impl Timeline {
    /// Tells it.
    pub fn of(found: &Found) -> Self {
        let mut state = State::default();
        let mut hold = None;
        let mut events = Vec::with_capacity(found.events.len());
        for event in &found.events {
            let record = serde_json::from_str::<Record>(&event.payload).ok();
            if let Some(record) = &record {
                state.fold(record);
                match record {
                    Record::ManualHold { reason } => hold = Some(reason.clone()),
                    Record::ManualResolved { .. } => hold = None,
                    _ => {}
                }
            }
            events.push(event_view(event, record.as_ref(), &state));
        }
        let summary = Summary::of(&found.payment);
        Self {
            says: match summary.erased {
                true => vec![
                    "Its retention is over: only its key, its state and the shape of its history are left.".to_owned(),
                ],
                false => words::says(&state, hold.as_ref()),
            },
            told: state.told.map(|told| words::verdict(told, &state)),
            mode: words::word(&state.plan.mode),
            attempts: attempts(&state, &found.declines),
            resolutions: resolutions(&state, summary.erased),
            ids: found.ids.iter().map(id_view).collect(),
            events,
            summary,
        }
    }
}

fn event_view(event: &Event, record: Option<&Record>, state: &State) -> EventView {
    let erased = event.payload.is_empty();
    EventView {
        seq: event.seq,
        at: event.at,
        kind: event.kind.clone(),
        attempt: record.and_then(words::attempt),
        text: match record {
            Some(record) => words::event(record, state),
            None if erased => format!("{} (erased)", event.kind.replace('_', " ")),
            None if event.kind == "lease_taken" => "another process took it over".to_owned(),
            None => event.kind.replace('_', " "),
        },
        evidence: match record {
            Some(Record::AttemptObserved {
                evidence: Some(evidence),
                ..
            }) => Some(words::evidence(evidence)),
            _ => None,
        },
        record: serde_json::from_str(&event.payload).unwrap_or(serde_json::Value::Null),
    }
}

fn id_view(id: &Id) -> IdView {
    IdView {
        id: id.id.clone(),
        kind: id.kind.clone(),
        gateway: match &id.scope {
            Scope::Gateway { name } => Some(name.clone()),
            Scope::Application { .. } => None,
        },
    }
}

fn attempts(state: &State, declines: &BTreeMap<u16, Decline>) -> Vec<AttemptView> {
    state
        .numbered()
        .map(|(n, attempt)| AttemptView {
            n,
            gateway: words::gateway(state, n).to_owned(),
            leg: words::word(&attempt.leg),
            of: attempt.of,
            outcome: words::known(attempt).to_owned(),
            decline: declines.get(&n).map(|decline| match decline.raw_code.as_str() {
                "" => decline.canonical.clone(),
                code => format!("{} ({code})", decline.canonical),
            }),
            winner: state.winner == Some(n),
            released: attempt.released,
            owed: state.owed(n),
            sends: attempt.sends,
            amount: attempt.amount.map(words::amount),
            ids: [&attempt.ids.payment, &attempt.ids.charge, &attempt.ids.modification]
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            at: attempt.at,
        })
        .collect()
}

/// What a person may say, with the reasons against the rest. Empty where nothing is left to be said.
fn resolutions(state: &State, erased: bool) -> Vec<ResolutionView> {
    if erased || state.finished() || state.attempts.is_empty() {
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut add = |resolution: Resolution| {
        let (word, attempt) = match resolution {
            Resolution::Succeeded { n } => ("succeeded", Some(n)),
            Resolution::Failed => ("failed", None),
            Resolution::Released { n } => ("released", Some(n)),
            Resolution::Continue => ("continue", None),
        };
        all.push(ResolutionView {
            resolution: word.to_owned(),
            attempt,
            objection: state.objection(resolution).map(|objection| objection.to_string()),
        });
    };
    for (n, _) in state.pays() {
        add(Resolution::Succeeded { n });
    }
    add(Resolution::Failed);
    for (n, _) in state.pays() {
        add(Resolution::Released { n });
    }
    add(Resolution::Continue);
    all
}

/// Why a person is needed, where one is.
fn held(hold: &Hold, state: &State) -> String {
    match hold {
        Hold::Conflict { n } => format!(
            "Two proofs about attempt {n} at {} contradict each other. A person has to look at that gateway's own books.",
            words::gateway(state, *n)
        ),
        Hold::Aged => {
            "Its outcome could not be found out for longer than the route's `manual_after` allows (by default a day, or until \
             two hours before the gateway forgets its key). A person has to look at the gateways' own books."
                .to_owned()
        }
        Hold::CaptureFailed { n } => format!(
            "The application was told of success, but the capture of attempt {n} at {} failed afterwards.",
            words::gateway(state, *n)
        ),
        Hold::Unexplained { n } => format!(
            "Attempt {n} at {} has an effect although the payment was told to have failed, or belongs to nobody: void or \
             refund it there.",
            words::gateway(state, *n)
        ),
        Hold::Assertion { rule } => format!(
            "An assertion of Sentinel's own failed ({rule}): a defect. Nothing moves until a person has looked at it."
        ),
    }
}
