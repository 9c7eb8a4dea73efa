//! Orders that Sentinel opens in a gateway's stead.
//!
//! An application of Razorpay's opens an order before every payment. While Razorpay is down it could not even begin, and
//! nothing that another gateway can do would help it. So the order is opened here: it moves nothing, and is kept in the
//! ledger with what its payment will want to know. Razorpay never hears of it: whatever pays it goes to the other gateways
//! of the route, also when Razorpay is back, and what none of them can take is refused. An order is paid once, here as there
//! ([`guard`](super::guard)).
//!
//! As with access tokens, an order is opened here only while the breaker towards the gateway is open, and each one opened so
//! lets the breaker's own probe see whether the gateway is back.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::super::core::State;
use super::actor::unavailable;
use super::answer::{Told, own_error};
use super::entry::{Asked, Handled, Unavailable};
use super::follow_up::FollowUp;
use super::persist::trouble;
use super::source::KeySource;
use super::{Desk, Message, Route};
use crate::gateway::canonical::{CaptureMode, Operation, Order};
use crate::gateway::{Head, OwnError};
use crate::ledger::LedgerError;
use crate::ledger::keys::Purpose;
use crate::ledger::rows::{Payment, Waiting};
use crate::money::Amount;

const SPACE: &str = "orders";
/// How long an object that was opened here, and that nobody pays, is kept at least, in milliseconds: as long as Razorpay
/// can be asked for an order. Stripe's intents stay open until somebody cancels them; after half a year nobody will.
pub(super) const OPEN_FOR: i64 = 180 * 24 * 3_600_000;

/// Where an order is kept: by its route, as its payment is, because what guards it is a payment of that route.
fn place(desk: &Desk, route: &Route, id: &str) -> String {
    let names = [route.tenant(), route.name(), id].map(str::as_bytes);
    let parts: [&[u8]; 4] = [b"order", names[0], names[1], names[2]];
    let hash = desk.engine.ledger.keys().hash(Purpose::DocumentKey, &parts);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The settings of the own gateway's account, with what the order says of its payment.
pub(super) fn settings(configured: &BTreeMap<String, String>, order: &Order) -> BTreeMap<String, String> {
    let mut settings = configured.clone();
    let capture = match order.capture {
        CaptureMode::Automatic => "automatic",
        CaptureMode::Manual => "manual",
    };
    settings.insert("capture".to_owned(), capture.to_owned());
    settings
}

/// The payment of an order that was opened here cannot be made.
pub(super) fn unpayable(route: &Route, head: &Head, reason: &'static str) -> Told {
    let message = "The order was opened while its gateway was down, and no other gateway can take this payment.";
    refused(route, head, reason, message.to_owned())
}

/// A payment is of another amount than its order.
pub(super) fn mismatch(route: &Route, head: &Head) -> Told {
    let message = "The amount of a payment must be its order's.".to_owned();
    refused(route, head, "order_amount_mismatch", message)
}

fn refused(route: &Route, head: &Head, code: &'static str, message: String) -> Told {
    let error = OwnError {
        status: StatusCode::BAD_REQUEST,
        code,
        message,
        retry: false,
    };
    own_error(route, head, &error, code)
}

impl Desk {
    /// Opens or shows an order; `None` for everything that is the gateway's own.
    pub(super) async fn order(self: &Rc<Self>, route: &Arc<Route>, asked: &Asked) -> Option<Handled> {
        if !route.dialect().opens_orders() {
            return None;
        }
        match (asked.recognised.operation, &asked.recognised.object) {
            (Operation::Create, None) => Some(self.open_order(route, asked).await),
            (Operation::Retrieve | Operation::List, Some(id)) => match self.opened_here(route, id).await {
                Ok(order) => self.show_order(route, asked, order?).await,
                Err(error) => Some(self.unreadable(route, asked, &error)),
            },
            _ => None,
        }
    }

    /// The order of this id, where it was opened here.
    pub(super) async fn opened_here(&self, route: &Route, id: &str) -> Result<Option<Order>, LedgerError> {
        if !route.dialect().opens_orders() {
            return Ok(None);
        }
        let document = self.engine.ledger.document(SPACE, place(self, route, id)).await?;
        let read = |document: crate::ledger::rows::Document| {
            serde_json::from_str(&document.value).map_err(|_| LedgerError::Damaged("an order does not read".to_owned()))
        };
        document.map(read).transpose()
    }

    fn unreadable(&self, route: &Route, asked: &Asked, error: &LedgerError) -> Handled {
        trouble(self, error);
        let error = unavailable("ledger_unavailable");
        Handled::Answered(own_error(route, &asked.head, &error, "ledger_unavailable"))
    }

    async fn open_order(self: &Rc<Self>, route: &Arc<Route>, asked: &Asked) -> Handled {
        let forward = |unavailable| Handled::Forward {
            unavailable,
            authorization: None,
        };
        let Some(own) = route.own().filter(|own| !own.closed()) else {
            return forward(None);
        };
        self.probe(own);
        let (seed, now) = (Uuid::new_v4().into_bytes(), self.engine.now());
        let dialect = route.dialect();
        let order = match dialect.order(&asked.head, &asked.body, &own.config.settings, &seed, now) {
            Ok(order) => order,
            Err(refusal) => {
                return forward(Some(Unavailable {
                    reason: refusal.label(),
                    refused: String::new(),
                }));
            }
        };
        let Ok(value) = serde_json::to_string(&order) else {
            return forward(None);
        };
        let place = place(self, route, &order.id);
        let ledger = &self.engine.ledger;
        let waiting = Waiting {
            until: ledger.now().saturating_add(OPEN_FOR),
            payment: KeySource::Order(order.id.clone()).named(ledger.keys(), route),
        };
        if let Err(error) = ledger.put_waiting(SPACE, place, value, Some(0), waiting).await {
            return self.unreadable(route, asked, &error);
        }
        let nothing = Amount {
            units: 0,
            ..order.amount
        };
        Handled::Answered(Told::plain(dialect.render_order(&order, 0, nothing), "order_opened"))
    }

    async fn show_order(self: &Rc<Self>, route: &Arc<Route>, asked: &Asked, order: Order) -> Option<Handled> {
        let source = KeySource::Order(order.id.clone());
        let found = match self.payments_of(route, &source).await {
            Ok(found) => found,
            Err(error) => return Some(self.unreadable(route, asked, &error)),
        };
        if asked.recognised.operation == Operation::List {
            let told = self.show_payment(route, asked, found.last()).await;
            return Some(Handled::Answered(told));
        }
        let state = found
            .last()
            .and_then(|payment| serde_json::from_str::<State>(&payment.folded).ok());
        let taken = Amount {
            units: state.map_or(0, |state| state.books().captured),
            ..order.amount
        };
        let reply = route.dialect().render_order(&order, found.len(), taken);
        Some(Handled::Answered(Told::plain(reply, "shown")))
    }

    /// The payments of an order, the declined ones before the one that holds.
    async fn payments_of(&self, route: &Arc<Route>, source: &KeySource) -> Result<Vec<Payment>, LedgerError> {
        let mut found = Vec::new();
        for generation in 0.. {
            let hash = source.hash(self.engine.ledger.keys(), route, Uuid::nil(), generation);
            match self.engine.ledger.by_key(hash).await? {
                Some(payment) => found.push(payment),
                None => break,
            }
        }
        Ok(found)
    }

    /// The payment of an order as a list of one, or of none.
    async fn show_payment(self: &Rc<Self>, route: &Arc<Route>, asked: &Asked, payment: Option<&Payment>) -> Told {
        let Some(payment) = payment else {
            let nothing = crate::gateway::canonical::Answer::List(Vec::new());
            let reply = route.dialect().render(&nothing, &asked.head, &asked.body);
            return Told::plain(reply, "shown");
        };
        let (reply, answer) = oneshot::channel();
        let look = FollowUp::look("order", asked.head.clone(), asked.body.clone(), reply);
        self.engine.send(payment.id, Message::FollowUp(Box::new(look))).await;
        match answer.await {
            Ok(told) => told,
            Err(_) => Told::lost(route, &asked.head),
        }
    }
}
