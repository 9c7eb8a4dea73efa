//! The shop: customers who pay by card, in Stripe's dialect, through the sidecar.
//!
//! It does what an official SDK does, and no more: one idempotency key an order, and the same key again for as long as the
//! answer is not final. What it was told last is what the books are held against.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The card at Stripe, and the same card in Adyen's vault.
const CARD: (&str, &str) = ("pm_card_visa", "shopper-1/8415698462516992");
/// One that has no money behind it, at either.
const EMPTY_CARD: (&str, &str) = ("pm_card_chargeDeclinedInsufficientFunds", "shopper-2/DECLINED00000012");
/// Every so many customers pay with the empty one.
const EMPTY_EVERY: usize = 12;

/// What the names of its orders begin with.
pub const ORDER: &str = "order-";

/// Beyond what Sentinel lets an answer take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two questions about the same order.
const PAUSE: Duration = Duration::from_millis(400);
/// How long an order is asked about before it stays open.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer that is read.
const ANSWER: usize = 1 << 20;

/// What the shop was told of an order, last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The first answer is still to come.
    Nothing,
    /// The money is taken, at this gateway.
    Paid(String),
    /// The customer's bank said no.
    Declined,
    /// Nobody has it, and nothing was sent: ask again.
    NotTaken,
    /// It may have been taken: ask again.
    InDoubt,
    /// What no shop can make sense of.
    Strange(String),
}

impl Told {
    fn is_final(&self) -> bool {
        matches!(self, Self::Paid(_) | Self::Declined | Self::Strange(_))
    }
}

/// One order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its reference, which all gateways write into their books.
    pub name: String,
    /// Its price in cents of a euro.
    pub cents: i64,
    /// What the shop was told.
    pub told: Told,
    /// The payment's id as the shop knows it.
    pub id: String,
    /// Cents that the shop was told are given back.
    pub refunded: i64,
    /// How long the customer waited for a final answer, or has waited.
    pub waited: Duration,
}

/// Orders added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Paid at Stripe.
    pub stripe: usize,
    /// Paid elsewhere.
    pub elsewhere: usize,
    /// Declined.
    pub declined: usize,
    /// Asked about again.
    pub open: usize,
}

/// The shop. Cheap to clone; all clones have the same orders.
#[derive(Clone, Debug)]
pub struct Shop {
    sentinel: SocketAddr,
    orders: Arc<Mutex<Vec<Order>>>,
}

struct Heard {
    status: StatusCode,
    gateway: String,
    not_sent: bool,
    body: Value,
}

impl Shop {
    /// A shop whose SDK has its base URL here.
    pub fn at(sentinel: SocketAddr) -> Self {
        Self {
            sentinel,
            orders: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The orders from the one with this number on.
    pub fn orders(&self, from: usize) -> Vec<Order> {
        self.lock().get(from..).map(<[Order]>::to_vec).unwrap_or_default()
    }

    /// How many orders there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The orders from the one with this number on, added up.
    pub fn tally(&self, from: usize) -> Tally {
        let mut tally = Tally::default();
        for order in self.lock().iter().skip(from) {
            match &order.told {
                Told::Paid(gateway) if gateway == "stripe" => tally.stripe += 1,
                Told::Paid(_) => tally.elsewhere += 1,
                Told::Declined => tally.declined += 1,
                Told::Nothing | Told::NotTaken | Told::InDoubt | Told::Strange(_) => tally.open += 1,
            }
        }
        tally
    }

    /// A customer comes, and does not go before the answer is final or patience ends.
    pub async fn sell(self) {
        let number = {
            let mut orders = self.lock();
            let number = orders.len();
            orders.push(Order {
                name: format!("{ORDER}{:04}", number + 1),
                // Any prices will do, if they differ.
                cents: 500 + i64::try_from(number * 1_733 % 9_500).unwrap_or(0),
                told: Told::Nothing,
                id: String::new(),
                refunded: 0,
                waited: Duration::ZERO,
            });
            number
        };
        let (stripe, adyen) = if number % EMPTY_EVERY == EMPTY_EVERY - 1 {
            EMPTY_CARD
        } else {
            CARD
        };
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let Some((name, cents)) = self.lock().get(number).map(|order| (order.name.clone(), order.cents)) else {
                return;
            };
            let form = format!(
                "amount={cents}&currency=eur&confirm=true&payment_method={stripe}&payment_method_types[0]=card\
                 &metadata[order_id]={name}"
            );
            let heard = self.post("/v1/payment_intents", &name, adyen, form).await;
            let told = heard.as_ref().map_or(Told::InDoubt, |heard| read(heard, cents));
            let is_final = told.is_final();
            if let Some(order) = self.lock().get_mut(number) {
                order.waited = begun.elapsed();
                order.told = told;
                if let Some(id) = heard.as_ref().and_then(|heard| heard.body["id"].as_str()) {
                    id.clone_into(&mut order.id);
                }
            }
            if is_final {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Gives the whole price of an order back, and tells whether the gateway took that on.
    pub async fn give_back(&self, name: &str) -> bool {
        let Some(order) = self.lock().iter().find(|order| order.name == name).cloned() else {
            return false;
        };
        let form = format!("payment_intent={}", order.id);
        let begun = Instant::now();
        // Whoever has the money may be out of reach just now, and nobody else can give it back.
        let accepted = loop {
            let heard = self
                .post("/v1/refunds", &format!("{name}-back"), CARD.1, form.clone())
                .await;
            match heard {
                Some(heard) if heard.status.is_success() => {
                    break heard.body["amount"].as_i64() == Some(order.cents)
                        && matches!(heard.body["status"].as_str(), Some("succeeded" | "pending"));
                }
                Some(heard) if heard.status.is_client_error() && heard.status != StatusCode::CONFLICT => break false,
                _ if begun.elapsed() > PATIENCE => break false,
                _ => tokio::time::sleep(PAUSE).await,
            }
        };
        if accepted && let Some(order) = self.lock().iter_mut().find(|order| order.name == name) {
            order.refunded = order.cents;
        }
        accepted
    }

    /// One request, as an SDK sends it. `None` when there is no whole answer.
    async fn post(&self, path: &str, key: &str, adyen: &str, form: String) -> Option<Heard> {
        let ask = async {
            let stream = TcpStream::connect(self.sentinel).await.ok()?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
            tokio::spawn(connection);
            let request = Request::post(path)
                .header(header::HOST, self.sentinel.to_string())
                .header(header::AUTHORIZATION, "Bearer sk_test_sandbox")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header("idempotency-key", key)
                .header("sentinel-instrument", format!("adyen={adyen}"))
                .body(Full::<Bytes>::from(form))
                .ok()?;
            let answer = sender.send_request(request).await.ok()?;
            let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let gateway = text("sentinel-gateway").unwrap_or_default().to_owned();
            let not_sent = text("sentinel-outcome") == Some("not_sent");
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER).collect().await.ok()?;
            Some(Heard {
                status,
                gateway,
                not_sent,
                body: serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
            })
        };
        tokio::time::timeout(TIMEOUT, ask).await.ok().flatten()
    }
}

/// What an answer tells a shop.
fn read(heard: &Heard, cents: i64) -> Told {
    let body = &heard.body;
    match heard.status.as_u16() {
        200 if body["status"] == "succeeded" && body["amount_received"].as_i64() == Some(cents) => {
            Told::Paid(heard.gateway.clone())
        }
        402 if body["error"]["type"] == "card_error" => Told::Declined,
        409 | 500..=599 if heard.not_sent => Told::NotTaken,
        409 | 500..=599 => Told::InDoubt,
        status => Told::Strange(format!("{status} {body}").chars().take(200).collect()),
    }
}
