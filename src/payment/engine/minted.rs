//! Two-step payments while the application's own gateway is away: the object that is created first, made here.
//!
//! Some applications create an object and confirm it by a request of its own (Stripe's intents). Creating moves no money.
//! While the own gateway is away (its breaker is not closed) an object is made here, under an id of the dialect's form; its
//! confirmation is then a payment like any other, at the route's other gateways, and the id stays its name for all that
//! follows. The own gateway never hears of it, so that nobody can confirm it there a second time.
//!
//! What was created at the own gateway itself is confirmed there and nowhere else. Its object would stay open there while
//! another gateway is asked, and whoever has its secret could still confirm it: it would have to be cancelled first, by the
//! very gateway that cannot be reached.
//!
//! An object made here is paid at most once: it names its payment in the ledger, whatever keys its confirmations carry. A
//! declined one is not confirmed again with another instrument; that takes a new object. Its secret is of no use in a
//! browser, so that only creations with an instrument are taken, one that another gateway can charge. Raw cards and whatever
//! forbids taking the payment elsewhere are not kept: such creations are forwarded.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::super::core::KeyKind;
use super::actor::key_reused;
use super::answer::{Told, own_error, put};
use super::entry::Handled;
use super::orders::OPEN_FOR;
use super::source::KeySource;
use super::{Desk, Engine, Route, canon, planner};
use crate::gateway::canonical::{
    Answer, Buyer, CaptureMode, Instrument, ObjectKind, Operation, Pay, Status, View, ViewIds,
};
use crate::gateway::{Head, OwnError};
use crate::ledger::LedgerError;
use crate::ledger::keys::Purpose;
use crate::ledger::rows::Waiting;
use crate::money::Amount;

const SPACE: &str = "created";

/// An object made here.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Created {
    pub id: String,
    request: String,
    fingerprint: [u8; 32],
    stands: Stands,
    amount: Amount,
    capture: CaptureMode,
    instrument: String,
    customer: Option<String>,
    reference: Option<String>,
    description: Option<String>,
    statement: Option<String>,
    metadata: IndexMap<String, String>,
    buyer: Buyer,
    return_url: Option<String>,
    live: bool,
    created: i64,
    #[serde(skip)]
    version: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stands {
    /// Neither confirmed nor cancelled.
    Open,
    /// Confirmed: what became of it is told by its payment.
    Confirmed,
    /// Cancelled, when.
    Cancelled(i64),
}

impl Created {
    /// The payment that a confirmation asks for: what was said at first, and what the confirmation adds.
    pub fn confirmed(&self, confirmation: &Pay) -> Pay {
        let mut metadata = self.metadata.clone();
        metadata.extend(confirmation.metadata.clone());
        let said = |first: &Option<String>, later: &Option<String>| later.clone().or_else(|| first.clone());
        let buyer = match confirmation.buyer == Buyer::default() {
            true => self.buyer.clone(),
            false => confirmation.buyer.clone(),
        };
        Pay {
            confirms: Some(self.id.clone()),
            amount: Some(self.amount),
            capture: match confirmation.capture {
                CaptureMode::Manual => CaptureMode::Manual,
                CaptureMode::Automatic => self.capture,
            },
            instrument: confirmation
                .instrument
                .clone()
                .or_else(|| Some(Instrument::Token(self.instrument.clone()))),
            customer: said(&self.customer, &confirmation.customer),
            reference: said(&self.reference, &confirmation.reference),
            description: said(&self.description, &confirmation.description),
            statement: said(&self.statement, &confirmation.statement),
            return_url: said(&self.return_url, &confirmation.return_url),
            metadata,
            buyer,
            ..confirmation.clone()
        }
    }

    /// What names its payment: the object itself, whatever keys its confirmations carry.
    pub fn source(&self) -> KeySource {
        KeySource::Application {
            method: "POST".to_owned(),
            key: self.id.clone(),
            path: Some("confirm".to_owned()),
        }
    }

    fn view(&self) -> View {
        let nothing = Amount {
            units: 0,
            ..self.amount
        };
        let voided_at = match self.stands {
            Stands::Cancelled(at) => Some(at),
            Stands::Open | Stands::Confirmed => None,
        };
        View {
            ids: ViewIds {
                payment: self.id.clone(),
                request: self.request.clone(),
                ..ViewIds::default()
            },
            status: match voided_at {
                Some(_) => Status::Voided,
                None => Status::Created,
            },
            amount: self.amount,
            captured: nothing,
            refunded: nothing,
            taking: None,
            kept: None,
            captures: Vec::new(),
            capture: self.capture,
            created: self.created,
            voided_at,
            instrument: Some(self.instrument.clone()),
            card: None,
            customer: self.customer.clone(),
            reference: self.reference.clone(),
            description: self.description.clone(),
            statement: self.statement.clone(),
            metadata: self.metadata.clone(),
            buyer: self.buyer.clone(),
            decline: None,
            refunds: Vec::new(),
            live: self.live,
            redirect: None,
            network_transaction_id: None,
            approval_code: None,
        }
    }

    fn shown(&self, route: &Route, operation: Operation, head: &Head, body: &[u8]) -> Handled {
        let answer = Answer::Payment(operation, Box::new(self.view()));
        let mut reply = route.dialect().render(&answer, head, body);
        put(reply.headers_mut(), "sentinel-failover", "true");
        Handled::Answered(Told::plain(reply, "created_here"))
    }
}

/// The refusal of what the object's state does not allow.
pub(super) fn wrong_state(route: &Route, head: &Head, message: &str) -> Handled {
    let error = OwnError {
        status: StatusCode::BAD_REQUEST,
        code: "payment_intent_unexpected_state",
        message: message.to_owned(),
        retry: false,
    };
    Handled::Answered(own_error(route, head, &error, "wrong_state"))
}

impl Engine {
    fn document(&self, route: &Route, id: &str) -> String {
        let dialect = route.dialect().dialect().name();
        // Its payment is named within its route, and so is it: two routes never confirm the same object.
        let (tenant, name) = (route.tenant().as_bytes(), route.name().as_bytes());
        let parts: [&[u8]; 5] = [b"created", tenant, name, dialect.as_bytes(), id.as_bytes()];
        let hash = self.ledger.keys().hash(Purpose::DocumentKey, &parts);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The object of this id, when it was made here.
    pub(super) async fn made_here(&self, route: &Route, id: &str) -> Result<Option<Created>, LedgerError> {
        if !route.dialect().creates_first() {
            return Ok(None);
        }
        let Some(document) = self.ledger.document(SPACE, self.document(route, id)).await? else {
            return Ok(None);
        };
        let created = serde_json::from_str::<Created>(&document.value)
            .map_err(|_| LedgerError::Damaged("a created object does not read".to_owned()))?;
        Ok(Some(Created {
            version: document.version,
            ..created
        }))
    }

    async fn keep(&self, route: &Route, created: &Created) -> Result<i64, LedgerError> {
        let value = serde_json::to_string(created).map_err(|_| LedgerError::Invalid("an object is JSON"))?;
        let key = self.document(route, &created.id);
        let waiting = Waiting {
            until: created.created.saturating_mul(1000).saturating_add(OPEN_FOR),
            payment: created.source().named(self.ledger.keys(), route),
        };
        self.ledger
            .put_waiting(SPACE, key, value, Some(created.version), waiting)
            .await
    }

    /// Notes that an object is confirmed, before its payment begins: from now on it cannot be cancelled. `Ok(false)` when
    /// it was cancelled.
    pub(super) async fn confirm(&self, route: &Route, mut created: Created) -> Result<bool, LedgerError> {
        loop {
            match created.stands {
                Stands::Confirmed => return Ok(true),
                Stands::Cancelled(_) => return Ok(false),
                Stands::Open => {}
            }
            created.stands = Stands::Confirmed;
            match self.keep(route, &created).await {
                Ok(_) => return Ok(true),
                Err(LedgerError::Conflict { .. }) => match self.made_here(route, &created.id).await? {
                    Some(again) => created = again,
                    None => return Ok(false),
                },
                Err(error) => return Err(error),
            }
        }
    }
}

impl Desk {
    /// Takes a creation. `None` when it is the own gateway's to make.
    pub(super) async fn create(
        self: &Rc<Self>,
        route: &Arc<Route>,
        (head, body): (&Head, &[u8]),
        pay: &Pay,
        key: Option<&str>,
        alternates: &[HeaderValue],
    ) -> Option<Handled> {
        let own = route.own().filter(|_| route.dialect().creates_first())?;
        let ledger = &self.engine.ledger;
        let named = key.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let parts: [&[u8]; 4] = [
            b"created here",
            route.tenant().as_bytes(),
            route.name().as_bytes(),
            named.as_bytes(),
        ];
        let bytes = ledger.keys().derive(&parts);
        let mut seed = [0; 16];
        seed.copy_from_slice(&bytes[..16]);
        let id = route.dialect().mint(ObjectKind::Payment, &seed);
        let fingerprint = canon::fingerprint(ledger.keys(), head, pay);
        if key.is_some()
            && let Ok(Some(known)) = self.engine.made_here(route, &id).await
        {
            return Some(match known.fingerprint == fingerprint {
                true => known.shown(route, Operation::Create, head, body),
                false => Handled::Answered(own_error(route, head, &key_reused(), "key_reused")),
            });
        }
        if own.closed() {
            return None;
        }
        self.probe(own);
        // Without an instrument it is for a browser to confirm, which speaks to its gateway alone.
        let Some(Instrument::Token(instrument)) = &pay.instrument else {
            return None;
        };
        let elsewhere = planner::plan(&self.engine, route, pay, alternates, KeyKind::Application).await;
        let amount = pay.amount.filter(|_| elsewhere.is_ok())?;
        let authorization = head.headers.get(http::header::AUTHORIZATION);
        let created = Created {
            id,
            request: route.dialect().mint(ObjectKind::RequestId, &seed),
            fingerprint,
            stands: Stands::Open,
            amount,
            capture: pay.capture,
            instrument: instrument.clone(),
            customer: pay.customer.clone(),
            reference: pay.reference.clone(),
            description: pay.description.clone(),
            statement: pay.statement.clone(),
            metadata: pay.metadata.clone(),
            buyer: pay.buyer.clone(),
            return_url: pay.return_url.clone(),
            live: authorization.is_some_and(|value| value.as_bytes().windows(6).any(|part| part == b"_live_")),
            created: self.engine.now(),
            version: 0,
        };
        match self.engine.keep(route, &created).await {
            Ok(_) => Some(created.shown(route, Operation::Create, head, body)),
            // A twin was first, or it cannot be kept: the gateway's own answer, whatever it is, is true.
            Err(error) => {
                super::persist::trouble(self, &error);
                None
            }
        }
    }

    /// Answers a look at, or a cancellation of, an object that was made here and never paid. `None` for every other.
    pub(super) async fn unpaid(
        &self,
        route: &Arc<Route>,
        (head, body): (&Head, &[u8]),
        operation: Operation,
        id: &str,
    ) -> Option<Handled> {
        let mut created = match self.engine.made_here(route, id).await {
            Ok(created) => created?,
            Err(error) => return Some(self.unrecorded(route, head, &error)),
        };
        match (operation, created.stands) {
            (Operation::Retrieve, _) => Some(created.shown(route, operation, head, body)),
            (Operation::Void, Stands::Open) => {
                created.stands = Stands::Cancelled(self.engine.now());
                match self.engine.keep(route, &created).await {
                    Ok(_) => Some(created.shown(route, operation, head, body)),
                    Err(LedgerError::Conflict { .. }) => {
                        Some(wrong_state(route, head, "The PaymentIntent is being confirmed."))
                    }
                    Err(error) => Some(self.unrecorded(route, head, &error)),
                }
            }
            _ => Some(wrong_state(
                route,
                head,
                "The PaymentIntent is in a state that does not allow this.",
            )),
        }
    }
}
