//! Transactions: how they are made, and what can be done to them in which status.

use serde_json::{Map, Value};

use super::body::Xml;
use super::cards::{self, Verdict};
use super::{Braintree, Invalid};
use crate::sandbox::Turn;
use crate::sandbox::books::{Effect, Kind};

/// A hold that nobody submits lapses after thirty days.
const HOLD_LIFE: i64 = 30 * 86_400;
/// The window of the check for duplicates, in seconds.
const DUPLICATE_WINDOW: i64 = 30;

/// What was charged.
#[derive(Clone, Debug, Default, PartialEq)]
struct Card {
    token: Option<String>,
    brand: &'static str,
    last4: String,
    month: String,
    year: String,
    cvv: Option<&'static str>,
}

/// One transaction.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub id: String,
    pub credit: bool,
    pub status: &'static str,
    pub created: i64,
    pub order_id: Option<String>,
    account: &'static str,
    currency: &'static str,
    exponent: u32,
    pub units: i64,
    held: i64,
    captured: i64,
    refunded: i64,
    code: Option<u32>,
    rejection: Option<&'static str>,
    refund_of: Option<String>,
    refunds: Vec<String>,
    history: Vec<(i64, &'static str, i64)>,
    card: Card,
    asked: Map<String, Value>,
    key: Option<String>,
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A decimal amount in units, or the code that refuses it.
fn units(amount: Option<&Value>, exponent: u32) -> Result<i64, Invalid> {
    let amount = match amount {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(Invalid::new("81502", "amount", "Amount is required.")),
    };
    let format = || Invalid::new("81503", "amount", "Amount is an invalid format.");
    if amount.starts_with('-') {
        return Err(Invalid::new("81501", "amount", "Amount cannot be negative."));
    }
    let (whole, part) = amount.split_once('.').unwrap_or((&amount, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > exponent as usize {
        return Err(format());
    }
    if whole.len() > 10 {
        return Err(Invalid::new("81528", "amount", "Amount is too large."));
    }
    let padded = format!("{whole}{part:0<width$}", width = exponent as usize);
    match padded.parse().map_err(|_| format())? {
        0 => Err(Invalid::new("81531", "amount", "Amount must be greater than zero.")),
        units => Ok(units),
    }
}

/// What stands behind the merchant's order, when it is a UUID: the reference of whoever sent it.
fn split(order_id: &str) -> (Option<String>, Option<String>) {
    let uuid = |text: &str| {
        text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    };
    match order_id.rsplit_once('.') {
        Some((order, reference)) if uuid(reference) => (Some(order.to_owned()), Some(reference.to_owned())),
        None if uuid(order_id) => (None, Some(order_id.to_owned())),
        _ => (Some(order_id.to_owned()), None),
    }
}

impl Transaction {
    fn turn(&mut self, now: i64, status: &'static str, amount: i64) {
        self.status = status;
        self.history.push((now, status, amount));
    }

    fn effect(&self, kind: Kind, id: &str, amount: i64, key: Option<String>) -> Effect {
        let (order, reference) = self.order_id.as_deref().map_or((None, None), split);
        Effect {
            kind,
            payment: self.id.clone(),
            id: id.to_owned(),
            units: amount,
            exponent: u8::try_from(self.exponent).unwrap_or(2),
            currency: self.currency.to_owned(),
            key,
            reference,
            order,
            instrument: Some(match &self.card.token {
                Some(token) => token.clone(),
                None => format!("{} {}", self.card.brand, self.card.last4),
            }),
        }
    }

    pub fn amount(&self, units: i64) -> String {
        match self.exponent {
            0 => units.to_string(),
            exponent => {
                let one = 10_i64.pow(exponent);
                format!("{}.{:0width$}", units / one, units % one, width = exponent as usize)
            }
        }
    }

    /// Whether the answer is a refusal (422).
    pub fn refused(&self) -> bool {
        matches!(self.status, "processor_declined" | "gateway_rejected" | "failed")
    }

    pub fn message(&self) -> String {
        match (self.rejection, self.code) {
            (Some(reason), _) => format!("Gateway Rejected: {reason}"),
            (None, code) => cards::response(code.unwrap_or(2000)).0.to_owned(),
        }
    }

    pub fn card_token(&self) -> Option<&str> {
        self.card.token.as_deref()
    }

    pub fn write(&self, xml: &mut Xml) {
        let updated = self.history.last().map_or(self.created, |(at, ..)| *at);
        xml.node("transaction", |xml| {
            xml.text("id", &self.id);
            xml.text("status", self.status);
            xml.text("type", if self.credit { "credit" } else { "sale" });
            xml.text("currency-iso-code", self.currency);
            xml.text("amount", &self.amount(self.units));
            xml.text("merchant-account-id", self.account);
            xml.maybe("sub-merchant-account-id", None);
            xml.maybe("master-merchant-account-id", None);
            xml.maybe("order-id", self.order_id.as_deref());
            xml.time("created-at", self.created);
            xml.time("updated-at", updated);
            xml.maybe("gateway-rejection-reason", self.rejection);
            let approved = self.code == Some(1000);
            xml.maybe("processor-authorization-code", approved.then_some("KQPBDL"));
            match self.code {
                Some(code) => {
                    let (words, kind) = cards::response(code);
                    xml.text("processor-response-code", &code.to_string());
                    xml.text("processor-response-text", words);
                    xml.text("processor-response-type", kind);
                }
                None => {
                    xml.text("processor-response-code", "");
                    xml.text("processor-response-text", "Unknown ()");
                }
            }
            let network = approved.then(|| format!("{:015}", self.created));
            xml.maybe("network-transaction-id", network.as_deref());
            for name in [
                "avs-error-response-code",
                "avs-postal-code-response-code",
                "avs-street-address-response-code",
            ] {
                xml.maybe(name, None);
            }
            xml.maybe("cvv-response-code", self.card.cvv);
            xml.typed("refund-ids", "array", |xml| {
                self.refunds.iter().for_each(|id| xml.text("item", id));
            });
            xml.maybe("refunded-transaction-id", self.refund_of.as_deref());
            xml.typed("partial-settlement-transaction-ids", "array", |_| {});
            xml.maybe("authorized-transaction-id", None);
            xml.typed("status-history", "array", |xml| {
                for (at, status, units) in &self.history {
                    xml.node("status-event", |xml| {
                        xml.time("timestamp", *at);
                        xml.text("status", status);
                        xml.text("amount", &self.amount(*units));
                        xml.text("user", "api");
                        xml.text("transaction-source", "api");
                    });
                }
            });
            self.write_card(xml);
            for name in ["customer", "billing", "shipping"] {
                let given = self.asked.get(name).and_then(Value::as_object);
                xml.node(name, |xml| {
                    xml.maybe("id", None);
                    for (field, value) in given.into_iter().flatten().filter(|(field, _)| *field != "id") {
                        xml.maybe(&field.replace('_', "-"), value.as_str());
                    }
                });
            }
            let custom = self.asked.get("custom_fields").and_then(Value::as_object);
            xml.node("custom-fields", |xml| {
                for (field, value) in custom.into_iter().flatten() {
                    xml.maybe(field, value.as_str());
                }
            });
            for name in ["add-ons", "discounts", "disputes"] {
                xml.typed(name, "array", |_| {});
            }
            let descriptor = self.asked.get("descriptor").and_then(Value::as_object);
            xml.node("descriptor", |xml| {
                xml.maybe("name", descriptor.and_then(|map| text(map, "name")))
            });
            xml.node("subscription", |xml| xml.maybe("billing-period-end-date", None));
            xml.node("disbursement-details", |xml| xml.maybe("disbursement-date", None));
            xml.text("payment-instrument-type", "credit_card");
            xml.text("processor-settlement-response-code", "");
            xml.text("processor-settlement-response-text", "");
            xml.maybe("three-d-secure-info", None);
        });
    }

    fn write_card(&self, xml: &mut Xml) {
        xml.node("credit-card", |xml| {
            xml.maybe("token", self.card.token.as_deref());
            xml.maybe("bin", None);
            xml.text("last-4", &self.card.last4);
            xml.text("card-type", self.card.brand);
            xml.text("expiration-month", &self.card.month);
            xml.text("expiration-year", &self.card.year);
            xml.text("customer-location", "US");
            xml.maybe("cardholder-name", None);
            xml.typed("expired", "boolean", |xml| xml.0.push_str("false"));
            xml.maybe("unique-number-identifier", None);
            for name in [
                "prepaid",
                "debit",
                "healthcare",
                "commercial",
                "payroll",
                "durbin-regulated",
            ] {
                xml.text(name, "Unknown");
            }
            xml.text("country-of-issuance", "Unknown");
        });
    }
}

impl Braintree {
    fn charged(&mut self, asked: &Map<String, Value>) -> Result<(Card, Verdict), Invalid> {
        let year = "2030".to_owned();
        if let Some(nonce) = text(asked, "payment_method_nonce") {
            if let Some(token) = self.nonces.get_mut(nonce) {
                let token = token.take().ok_or_else(|| {
                    Invalid::new(
                        "91564",
                        "payment_method_nonce",
                        "Cannot use a payment_method_nonce more than once.",
                    )
                })?;
                return Ok(stored(&token));
            }
            return match (nonce, cards::nonce(nonce)) {
                ("fake-consumed-nonce", _) => Err(Invalid::new(
                    "91564",
                    "payment_method_nonce",
                    "Cannot use a payment_method_nonce more than once.",
                )),
                ("fake-luhn-invalid-nonce", _) => {
                    Err(Invalid::new("81715", "number", "Credit card number is invalid."))
                }
                (_, Some((brand, last4, verdict))) => Ok((
                    Card {
                        token: None,
                        brand,
                        last4: last4.to_owned(),
                        month: "12".to_owned(),
                        year,
                        cvv: Some("M"),
                    },
                    verdict,
                )),
                _ => Err(Invalid::new(
                    "91565",
                    "payment_method_nonce",
                    "Unknown or expired payment_method_nonce.",
                )),
            };
        }
        if let Some(token) = text(asked, "payment_method_token") {
            if !token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                || token.len() > 36
            {
                return Err(Invalid::new(
                    "91518",
                    "payment_method_token",
                    "Payment method token is invalid.",
                ));
            }
            return Ok(stored(token));
        }
        let Some(card) = asked.get("credit_card").and_then(Value::as_object) else {
            return Err(Invalid::new("91508", "base", "Cannot determine payment method."));
        };
        let number =
            text(card, "number").ok_or_else(|| Invalid::new("81714", "number", "Credit card number is required."))?;
        if !(12..=19).contains(&number.len()) {
            return Err(Invalid::new(
                "81716",
                "number",
                "Credit card number must be 12-19 digits.",
            ));
        }
        if !cards::luhn(number) {
            return Err(Invalid::new("81715", "number", "Credit card number is invalid."));
        }
        let (month, year) = match text(card, "expiration_date").and_then(|date| date.split_once('/')) {
            Some((month, year)) => (month.to_owned(), year.to_owned()),
            None => (
                text(card, "expiration_month").unwrap_or_default().to_owned(),
                text(card, "expiration_year").unwrap_or_default().to_owned(),
            ),
        };
        if month.is_empty() || year.is_empty() {
            return Err(Invalid::new("81709", "expiration_date", "Expiration date is required."));
        }
        let cvv = text(card, "cvv").map(|cvv| match cvv {
            "200" => "N",
            "201" => "U",
            "301" => "S",
            _ => "M",
        });
        let last4 = number
            .get(number.len().saturating_sub(4)..)
            .unwrap_or_default()
            .to_owned();
        let charged = Card {
            token: None,
            brand: cards::brand(number),
            last4,
            month: format!("{month:0>2}"),
            year,
            cvv: cvv.or(Some("I")),
        };
        Ok((charged, Verdict::Approved))
    }

    pub(super) fn sale(&mut self, now: i64, asked: &Map<String, Value>, turn: &mut Turn) -> Result<String, Invalid> {
        if text(asked, "type") != Some("sale") {
            return Err(Invalid::new("91523", "type", "Transaction type is invalid."));
        }
        let (account, currency, exponent) = match text(asked, "merchant_account_id") {
            None => cards::ACCOUNTS[0],
            Some(named) => *cards::ACCOUNTS
                .iter()
                .find(|(id, ..)| *id == named)
                .ok_or_else(|| Invalid::new("91513", "merchant_account_id", "Merchant account ID is invalid."))?,
        };
        let units = units(asked.get("amount"), exponent)?;
        let order_id = text(asked, "order_id").map(str::to_owned);
        if order_id.as_deref().is_some_and(|order| order.chars().count() > 255) {
            return Err(Invalid::new(
                "91501",
                "order_id",
                "Order ID is too long (maximum is 255 characters).",
            ));
        }
        let (card, by_instrument) = self.charged(asked)?;
        let key = text(asked, "api_request_key").map(str::to_owned);
        let verdict = match by_instrument {
            Verdict::Approved if self.duplicate(now, units, order_id.as_deref(), &card, key.as_deref()) => {
                Verdict::Rejected("duplicate")
            }
            Verdict::Approved => cards::by_amount(units / 10_i64.pow(exponent)),
            other => other,
        };
        let submit = asked
            .get("options")
            .and_then(|options| options.get("submit_for_settlement"))
            .is_some_and(|submit| submit.as_bool() == Some(true) || submit.as_str() == Some("true"));
        let mut made = Transaction {
            id: self.id(),
            credit: false,
            status: "authorizing",
            created: now,
            order_id,
            account,
            currency,
            exponent,
            units,
            held: 0,
            captured: 0,
            refunded: 0,
            code: None,
            rejection: None,
            refund_of: None,
            refunds: Vec::new(),
            history: Vec::new(),
            card,
            asked: shown(asked),
            key: key.clone(),
        };
        match verdict {
            Verdict::Approved => {
                made.code = Some(1000);
                made.held = units;
                made.turn(now, "authorized", units);
                turn.effects.push(made.effect(Kind::Auth, &made.id, units, key.clone()));
                if submit {
                    made.held = 0;
                    made.captured = units;
                    made.turn(now, "submitted_for_settlement", units);
                    turn.effects.push(made.effect(Kind::Capture, &made.id, units, key));
                }
            }
            Verdict::Declined(code) => {
                made.code = Some(code);
                made.turn(now, "processor_declined", units);
            }
            Verdict::Failed => {
                made.code = Some(3000);
                made.turn(now, "failed", units);
            }
            Verdict::Rejected(reason) => {
                made.rejection = Some(reason);
                made.turn(now, "gateway_rejected", units);
            }
        }
        Ok(self.keep(made))
    }

    fn keep(&mut self, transaction: Transaction) -> String {
        let id = transaction.id.clone();
        self.order.push(id.clone());
        self.transactions.insert(id.clone(), transaction);
        id
    }

    /// Same amount, order and card within the window, the earlier one not declined; off for requests with a key.
    fn duplicate(&self, now: i64, units: i64, order_id: Option<&str>, card: &Card, key: Option<&str>) -> bool {
        self.check_duplicates
            && key.is_none()
            && self.transactions.values().any(|earlier| {
                let same = earlier.units == units && earlier.card == *card && earlier.order_id.as_deref() == order_id;
                same && !earlier.credit && !earlier.refused() && now - earlier.created < DUPLICATE_WINDOW
            })
    }

    fn there(&mut self, id: &str) -> Result<&mut Transaction, Invalid> {
        self.transactions.get_mut(id).ok_or(Invalid::NOT_FOUND)
    }

    pub(super) fn submit(
        &mut self,
        now: i64,
        id: &str,
        asked: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<String, Invalid> {
        let transaction = self.there(id)?;
        if transaction.status != "authorized" {
            return Err(Invalid::new(
                "91507",
                "base",
                "Cannot submit for settlement unless status is authorized.",
            ));
        }
        let taken = match asked.get("amount").filter(|amount| !amount.is_null() && *amount != "") {
            None => transaction.units,
            amount => units(amount, transaction.exponent)?,
        };
        if taken > transaction.held {
            return Err(Invalid::new("91522", "amount", "Settlement amount is too large."));
        }
        let key = text(asked, "api_request_key").map(str::to_owned);
        let rest = transaction.held - taken;
        transaction.held = 0;
        transaction.captured = taken;
        transaction.units = taken;
        transaction.turn(now, "submitted_for_settlement", taken);
        turn.effects
            .push(transaction.effect(Kind::Capture, id, taken, key.clone()));
        if rest > 0 {
            turn.effects.push(transaction.effect(Kind::Void, id, rest, key));
        }
        Ok(id.to_owned())
    }

    pub(super) fn void(
        &mut self,
        now: i64,
        id: &str,
        asked: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<String, Invalid> {
        let key = text(asked, "api_request_key").map(str::to_owned);
        let transaction = self.there(id)?;
        if transaction.credit || !matches!(transaction.status, "authorized" | "submitted_for_settlement") {
            return Err(Invalid::new(
                "91504",
                "base",
                "Transaction can only be voided if status is authorized or submitted_for_settlement.",
            ));
        }
        let (held, taken) = (transaction.held, transaction.captured);
        transaction.held = 0;
        transaction.refunded = taken;
        transaction.turn(now, "voided", transaction.units);
        // The books know money that was on its way as taken, so that it is given back.
        if held > 0 {
            turn.effects.push(transaction.effect(Kind::Void, id, held, key.clone()));
        }
        if taken > 0 {
            turn.effects.push(transaction.effect(Kind::Refund, id, taken, key));
        }
        Ok(id.to_owned())
    }

    pub(super) fn refund(
        &mut self,
        now: i64,
        id: &str,
        asked: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<String, Invalid> {
        let new = self.id();
        let key = text(asked, "api_request_key").map(str::to_owned);
        let transaction = self.there(id)?;
        if transaction.credit || !matches!(transaction.status, "settling" | "settled") {
            return Err(Invalid::new(
                "91506",
                "base",
                "Cannot refund a transaction unless it is settled.",
            ));
        }
        let left = transaction.captured - transaction.refunded;
        if left == 0 {
            return Err(Invalid::new(
                "91512",
                "base",
                "Transaction has already been fully refunded.",
            ));
        }
        let back = match asked.get("amount").filter(|amount| !amount.is_null() && *amount != "") {
            None => left,
            amount => units(amount, transaction.exponent)?,
        };
        if back > left {
            return Err(Invalid::new("91521", "amount", "Refund amount is too large."));
        }
        transaction.refunded += back;
        transaction.refunds.push(new.clone());
        turn.effects
            .push(transaction.effect(Kind::Refund, &new, back, key.clone()));
        let mut credit = Transaction {
            id: new,
            credit: true,
            created: now,
            order_id: text(asked, "order_id")
                .map(str::to_owned)
                .or(transaction.order_id.clone()),
            units: back,
            held: 0,
            captured: 0,
            refunded: 0,
            refund_of: Some(id.to_owned()),
            refunds: Vec::new(),
            history: Vec::new(),
            key,
            ..transaction.clone()
        };
        credit.turn(now, "submitted_for_settlement", back);
        Ok(self.keep(credit))
    }

    pub(super) fn reverse(
        &mut self,
        now: i64,
        id: &str,
        asked: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<String, Invalid> {
        match self.there(id)?.status {
            "settling" | "settled" => {
                let mut whole = asked.clone();
                whole.remove("amount");
                self.refund(now, id, &whole, turn)
            }
            _ => self.void(now, id, asked, turn),
        }
    }

    /// The sandbox's own calls for what the nightly batch does.
    pub(super) fn settle(&mut self, now: i64, id: &str, to: &'static str, turn: &mut Turn) -> Result<String, Invalid> {
        let transaction = self.there(id)?;
        if !matches!(
            transaction.status,
            "submitted_for_settlement" | "settling" | "settlement_pending"
        ) {
            return Err(Invalid::new("91507", "base", "Cannot settle this transaction."));
        }
        let units = transaction.units;
        transaction.turn(now, to, units);
        if to == "settlement_declined" && transaction.captured > transaction.refunded {
            let taken = transaction.captured - transaction.refunded;
            transaction.refunded = transaction.captured;
            turn.effects.push(transaction.effect(Kind::Refund, id, taken, None));
        }
        Ok(id.to_owned())
    }

    /// The batch, where one is due, and holds that lapse.
    pub(super) fn pass(&mut self, now: i64, turn: &mut Turn) {
        if std::mem::take(&mut self.batch_due) {
            for id in self.order.clone() {
                let Some(transaction) = self.transactions.get(&id) else {
                    continue;
                };
                let to = match transaction.units / 10_i64.pow(transaction.exponent) {
                    4001 if !transaction.credit => "settlement_declined",
                    4002 if !transaction.credit => "settlement_pending",
                    _ => "settled",
                };
                let _ = self.settle(now, &id, to, turn);
            }
        }
        for transaction in self.transactions.values_mut() {
            if transaction.held > 0 && now - transaction.created >= HOLD_LIFE {
                let held = std::mem::take(&mut transaction.held);
                transaction.turn(now, "authorization_expired", held);
                turn.effects
                    .push(transaction.effect(Kind::Void, &transaction.id, held, transaction.key.clone()));
            }
        }
    }
}

/// A saved card: any token is one. `decline_` and a code is declined with that code.
fn stored(token: &str) -> (Card, Verdict) {
    let card = Card {
        token: Some(token.to_owned()),
        brand: "Visa",
        last4: "1111".to_owned(),
        month: "12".to_owned(),
        year: "2030".to_owned(),
        cvv: Some("I"),
    };
    let code = token.strip_prefix("decline_").and_then(|code| code.parse().ok());
    (card, code.map_or(Verdict::Approved, Verdict::Declined))
}

/// What of a request its transaction shows again: nothing of a card.
fn shown(asked: &Map<String, Value>) -> Map<String, Value> {
    let kept = ["customer", "billing", "shipping", "custom_fields", "descriptor"];
    asked
        .iter()
        .filter(|(name, _)| kept.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
