//! The application's own dialect, as far as these suites need it: how a payment is asked for and followed up, and what the
//! answers say.

mod requests;

use std::time::Duration;

use sentinel::sandbox::fault::{Fault, Match, Rule};
use serde_json::{Value, json};

use crate::support::shop::{Shop, parsed};
use crate::support::wire::Message;
pub use requests::Ask;

/// What an application waits before it asks again. This is part of what it does, and waits for nothing.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Whose application it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    Stripe,
    Adyen,
    Paypal,
    Braintree,
    Square,
    Razorpay,
}

/// What a payment is over, and who starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// 19.99 EUR, the customer is there.
    Euros,
    /// 19.99 INR by the merchant alone: the only kind that Razorpay takes for others.
    Rupees,
}

impl Over {
    /// Its currency.
    pub fn currency(self) -> &'static str {
        match self {
            Self::Euros => "EUR",
            Self::Rupees => "INR",
        }
    }
}

/// How a payment is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// By the issuer; another gateway may be asked.
    Softly,
    /// By the issuer; nobody else may be asked.
    ForGood,
    /// By the gateway itself.
    AsWrong,
    /// It calls itself failed, and may yet succeed.
    NotForGood,
}

/// What an application does.
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

/// What an application was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It was done.
    Taken,
    /// Nothing was taken and nothing will be.
    Nothing,
    /// Nobody knows yet.
    Doubt,
}

impl Own {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Adyen => "adyen",
            Self::Paypal => "paypal",
            Self::Braintree => "braintree",
            Self::Square => "square",
            Self::Razorpay => "razorpay",
        }
    }

    /// The request that takes a payment, whoever writes it.
    pub fn first(self) -> Match {
        let path = match self {
            Self::Stripe => "/v1/payment_intents",
            Self::Adyen => "/v71/payments",
            Self::Paypal => "/v2/checkout/orders",
            Self::Braintree => "/merchants/sandbox/transactions",
            Self::Square => "/v2/payments",
            Self::Razorpay => "/v1/payments/create/recurring",
        };
        Match::path("POST", path)
    }

    /// Whether it tells in the end what became of an attempt, or ends it. Razorpay's payments have no key, nothing ends one,
    /// and that none is found proves nothing.
    pub fn decides(self) -> bool {
        self != Self::Razorpay
    }

    /// A rule that hits nothing but this order's request, as far as anything is known of what it hits.
    pub fn only(self, rule: &Rule, order: &str) -> Rule {
        let mut rule = rule.clone();
        if !rule.fault.early() && rule.matcher == self.first() {
            rule.matcher.contains = Some(order.to_owned());
        }
        rule
    }

    /// What its answer to a sale could say that is not so: of the amount, the currency, the reference and the id.
    pub fn lies(self) -> Vec<(&'static str, Fault)> {
        let patch = |pointer: &str, value: Value| Fault::Patch {
            pointer: pointer.to_owned(),
            value,
        };
        let replace = |from: &str, to: &str| Fault::Replace {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let (amount, currency) = ("another amount", "another currency");
        let (reference, id) = ("another reference", "an id that it made up");
        match self {
            Self::Stripe => vec![
                (amount, patch("/amount", 1.into())),
                (currency, patch("/currency", "usd".into())),
                (reference, patch("/metadata/order_id", "somebody-else".into())),
                (id, patch("/id", "pi_reused".into())),
            ],
            Self::Adyen => vec![
                (amount, patch("/amount/value", 1.into())),
                (currency, patch("/amount/currency", "USD".into())),
                (reference, patch("/merchantReference", "somebody-else".into())),
                (id, patch("/pspReference", "REUSED0000000001".into())),
            ],
            Self::Paypal => {
                let capture = "/purchase_units/0/payments/captures/0/amount";
                vec![
                    (amount, patch(&format!("{capture}/value"), "0.01".into())),
                    (currency, patch(&format!("{capture}/currency_code"), "USD".into())),
                    (reference, patch("/purchase_units/0/invoice_id", "somebody-else".into())),
                    (id, patch("/id", "REUSED000000000A1".into())),
                ]
            }
            Self::Braintree => vec![
                (amount, replace("<amount>19.99</amount>", "<amount>1.99</amount>")),
                (currency, replace(">EUR<", ">USD<")),
                (reference, replace("<order-id>", "<order-id>somebody-else-")),
                (id, replace("<id>", "<id>reused")),
            ],
            Self::Square => vec![
                (amount, patch("/payment/amount_money/amount", 1.into())),
                (currency, patch("/payment/amount_money/currency", "USD".into())),
                (reference, patch("/payment/reference_id", "somebody-else".into())),
                (id, patch("/payment/id", "REUSED".into())),
            ],
            // It answers a charge by an id alone: nothing in the answer says that the id is another's.
            Self::Razorpay => Vec::new(),
        }
    }

    /// What its request is misread for, so that it is refused.
    pub fn refusals(self) -> Vec<(Refused, Fault)> {
        let (card, soft, hard) = match self {
            Self::Stripe => (
                "pm_card_visa",
                "pm_card_visa_chargeDeclined",
                "pm_card_visa_chargeDeclinedLostCard",
            ),
            Self::Adyen => ("8415698462516992", "DECLINED00000002", "DECLINED00000006"),
            Self::Paypal => ("8kk845", "DECLINE-0500", "DECLINE-5120"),
            Self::Braintree => ("tok_4111", "decline_2046", "decline_2005"),
            Self::Square => (
                "ccof:customer-card-id-ok",
                "ccof:customer-card-id-declined",
                "ccof:customer-card-id-rejected-expiration",
            ),
            // Nothing else declines a mandate there.
            Self::Razorpay => ("token_1Aa00000000001", "token_Declined000001", ""),
        };
        let (amount, negative) = match self {
            Self::Paypal | Self::Braintree => ("19.99", "-19.99"),
            _ => ("1999", "-1999"),
        };
        let misread = |from: &str, to: &str| Fault::Misread {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let mut refusals = vec![
            (Refused::Softly, misread(card, soft)),
            (Refused::ForGood, misread(card, hard)),
            (Refused::AsWrong, misread(amount, negative)),
        ];
        refusals.retain(|(refused, _)| *refused != Refused::ForGood || !hard.is_empty());
        if self == Self::Razorpay {
            refusals.push((Refused::NotForGood, misread(card, "token_TimedOut000001")));
        }
        refusals
    }

    /// The look-up that finds a payment by its reference, answered as if there were none yet.
    pub fn overlooks(self) -> Option<(Match, Fault)> {
        let emptied = |pointer: &str| Fault::Patch {
            pointer: pointer.to_owned(),
            value: json!([]),
        };
        match self {
            Self::Stripe => Some((Match::path("GET", "/v1/payment_intents*"), emptied("/data"))),
            Self::Square => Some((Match::path("GET", "/v2/payments"), emptied("/payments"))),
            Self::Razorpay => Some((Match::path("GET", "/v1/orders*"), emptied("/items"))),
            Self::Braintree => Some((
                Match::path("POST", "/merchants/sandbox/transactions/advanced_search_ids"),
                Fault::Misread {
                    from: "</order-id>".to_owned(),
                    to: "<is>nobody</is></order-id>".to_owned(),
                },
            )),
            // They search by no reference.
            Self::Adyen | Self::Paypal => None,
        }
    }

    /// The credential that its application fetches first, where it fetches one.
    pub async fn token(self, shop: &Shop) -> String {
        match self {
            Self::Paypal => shop.paypal_token().await,
            _ => String::new(),
        }
    }

    /// Opens an order under a name, and tells how the books will call it. Only Razorpay has orders of its own.
    pub async fn open(self, shop: &Shop, name: &str) -> String {
        if self != Self::Razorpay {
            return name.to_owned();
        }
        let body = json!({"amount": 1999, "currency": "INR", "receipt": name, "payment": {"capture": "automatic",
            "capture_options": {"automatic_expiry_period": 12, "manual_expiry_period": 7200}}});
        let opened = shop.razorpay_send("POST", "/v1/orders", "", &body).await;
        assert_eq!(opened.status(), 200, "{}", opened.text());
        parsed(&opened)["id"].as_str().expect("an order").to_owned()
    }

    /// Pays 19.99 once.
    pub async fn pay(self, shop: &Shop, token: &str, key: &str, order: &str, over: Over) -> Message {
        let paid = Paid {
            order,
            over,
            token,
            id: "",
        };
        self.ask(shop, Step::Sale, key, &paid).send().await
    }

    /// What an answer to a payment says. One that says nothing clear is a failure of the test. `None` where more has to
    /// be asked and nobody answers any more.
    pub async fn says(self, shop: &Shop, answer: &Message) -> Option<Result<Says, String>> {
        let outcome = answer.header("sentinel-outcome").unwrap_or_default();
        if outcome.starts_with("unknown") {
            return Some(Ok(Says::Doubt));
        }
        let mut status = String::new();
        if self == Self::Razorpay && answer.status() == 200 {
            // A mandate's charge is begun; what became of it is read.
            let id = self.id(Step::Sale, answer).unwrap_or_default();
            let shown = Ask::show(shop, &id).attempt().await?;
            let shown = serde_json::from_slice(&shown.body).unwrap_or_default();
            status = text(&shown, "/status");
        }
        Some(self.meaning(answer, status))
    }

    fn meaning(self, answer: &Message, shown: String) -> Result<Says, String> {
        if !matches!(answer.status(), 200 | 201) {
            return match answer.status() {
                400..=499 | 502 | 503 => Ok(Says::Nothing),
                _ => Err(format!(
                    "neither definite nor in doubt: {} {}",
                    answer.start,
                    answer.text()
                )),
            };
        }
        let status = match self {
            Self::Braintree => element(answer, "status"),
            Self::Razorpay => shown,
            Self::Adyen => text(&parsed(answer), "/resultCode"),
            Self::Square => text(&parsed(answer), "/payment/status"),
            Self::Stripe => text(&parsed(answer), "/status"),
            // An order is completed although its capture was declined.
            Self::Paypal => match text(&parsed(answer), "/purchase_units/0/payments/captures/0/status").as_str() {
                "DECLINED" => "FAILED".to_owned(),
                _ => text(&parsed(answer), "/status"),
            },
        };
        match status.as_str() {
            "succeeded" | "requires_capture" | "COMPLETED" | "APPROVED" | "Authorised" | "captured" | "refunded" => {
                Ok(Says::Taken)
            }
            "submitted_for_settlement" | "authorized" if self == Self::Braintree => Ok(Says::Taken),
            "Refused" | "Error" | "Cancelled" | "VOIDED" | "FAILED" | "CANCELED" | "voided" => Ok(Says::Nothing),
            // Razorpay's `failed` is not final, and says nothing yet.
            // Nothing is taken before the customer has acted.
            "requires_action" => Ok(Says::Doubt),
            "Received" | "Pending" | "PENDING" | "created" | "authorized" | "failed" | "" => Ok(Says::Doubt),
            _ => Err(format!("an answer of no known kind: {}", answer.text())),
        }
    }

    /// The id by which the next step names the payment.
    pub fn id(self, step: Step, answer: &Message) -> Option<String> {
        if self == Self::Braintree {
            return Some(element(answer, "id")).filter(|id| !id.is_empty());
        }
        let body = serde_json::from_slice::<Value>(&answer.body).ok()?;
        let of = "/purchase_units/0/payments";
        let pointer = match (self, step) {
            (Self::Stripe, _) => "/id".to_owned(),
            (Self::Adyen, _) => "/pspReference".to_owned(),
            (Self::Paypal, Step::Sale) => format!("{of}/captures/0/id"),
            (Self::Paypal, Step::Hold) => format!("{of}/authorizations/0/id"),
            (Self::Paypal, _) => "/id".to_owned(),
            (Self::Square, Step::Refund) => "/refund/id".to_owned(),
            (Self::Square, _) => "/payment/id".to_owned(),
            (Self::Razorpay, Step::Sale | Step::Hold) => "/razorpay_payment_id".to_owned(),
            (Self::Razorpay, _) => "/id".to_owned(),
            (Self::Braintree, _) => return None,
        };
        Some(text(&body, &pointer)).filter(|id| !id.is_empty())
    }
}

/// Which payment a request is about.
pub struct Paid<'a> {
    /// The order, as [`Own::open`] named it.
    pub order: &'a str,
    pub over: Over,
    /// What [`Own::token`] fetched.
    pub token: &'a str,
    /// The payment's id, for what follows it.
    pub id: &'a str,
}

fn text(body: &Value, pointer: &str) -> String {
    let found = body.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

/// The text of the first element of this name.
fn element(answer: &Message, name: &str) -> String {
    let text = answer.text();
    let from = text.find(&format!("<{name}>")).map(|at| at + name.len() + 2);
    let text = from.map_or("", |from| &text[from..]);
    text.split('<').next().unwrap_or_default().to_owned()
}
