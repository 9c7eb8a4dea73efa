//! An application that does not give up: it sends every step with one key until the answer is definite.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::shop::{ADYEN_TOKEN, PAYPAL_TOKEN, STRIPE_TOKEN, Shop, stripe_form};
use crate::support::wire::{Message, Reader};

/// The order that is paid.
pub const ORDER: &str = "order-kill";

/// What the application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Takes money.
    Sale,
    /// Holds money.
    Hold,
    /// Captures the hold.
    Capture,
    /// Releases the hold.
    Void,
    /// Gives all money back.
    Refund,
}

/// What it was told of a step, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub status: u16,
    pub id: String,
    pub gateway: String,
}

/// How far it came.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    /// Every step has its answer.
    Through,
    /// Nobody answers any more.
    Cut,
}

/// Its memory.
pub struct Application {
    pub steps: &'static [Step],
    pub told: Vec<Told>,
}

impl Application {
    pub fn new(steps: &'static [Step]) -> Self {
        Self {
            steps,
            told: Vec::new(),
        }
    }

    /// Asks for every step, those it was told of already again, as an application does that lost its memory of them.
    pub async fn run(&mut self, shop: &Shop) -> Came {
        for index in 0..self.steps.len() {
            let mut last = None;
            let begun = tokio::time::Instant::now();
            let told = loop {
                let Some(answer) = self.ask(shop, index).await else {
                    return Came::Cut;
                };
                if answer.status() == 200 {
                    break told(&answer);
                }
                assert!(
                    begun.elapsed() < Duration::from_secs(90),
                    "{:?}: no definite answer: {} {}\nbefore: {last:?}",
                    self.steps[index],
                    answer.start,
                    answer.text()
                );
                last = Some((answer.start.clone(), answer.text()));
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            match self.told.get(index) {
                Some(before) => assert_eq!(*before, told, "two answers to {:?}", self.steps[index]),
                None => self.told.push(told),
            }
        }
        Came::Through
    }

    async fn ask(&self, shop: &Shop, index: usize) -> Option<Message> {
        let paid = self.told.first().map_or("", |told| told.id.as_str());
        let (path, form) = match self.steps[index] {
            Step::Sale => (
                "/v1/payment_intents".to_owned(),
                stripe_form(ORDER, "automatic", STRIPE_TOKEN),
            ),
            Step::Hold => (
                "/v1/payment_intents".to_owned(),
                stripe_form(ORDER, "manual", STRIPE_TOKEN),
            ),
            Step::Capture => (format!("/v1/payment_intents/{paid}/capture"), String::new()),
            Step::Void => (format!("/v1/payment_intents/{paid}/cancel"), String::new()),
            Step::Refund => ("/v1/refunds".to_owned(), format!("payment_intent={paid}")),
        };
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_shop\r\nIdempotency-Key: step-{index}\r\nSentinel-Instrument: adyen={ADYEN_TOKEN}; paypal={PAYPAL_TOKEN}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let mut stream = TcpStream::connect(shop.stripe).await.ok()?;
        stream.write_all(bytes.as_bytes()).await.ok()?;
        Reader::default().message(&mut stream, false).await
    }
}

fn told(answer: &Message) -> Told {
    let body = crate::support::shop::parsed(answer);
    Told {
        status: answer.status(),
        id: body["id"].as_str().expect("an id").to_owned(),
        gateway: answer.header("sentinel-gateway").unwrap_or_default().to_owned(),
    }
}
