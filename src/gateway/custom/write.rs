//! Requests by template.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::headers;
use crate::config::model::Dialect;
use crate::config::model::custom::{Amounts, Call, Custom, Piece, Template, Tree, Variable};
use crate::gateway::canonical::{CaptureMode, EarlierAttempt, Initiator, Instrument, Operation, Pay, Refusal, Request};
use crate::gateway::{Account, Outgoing};
use crate::money::Amount;

/// Everything but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What templates are filled with.
struct Values<'a> {
    custom: &'a Custom,
    account: &'a Account,
    pay: Option<&'a Pay>,
    amount: Option<Amount>,
    id: Option<&'a str>,
    reference: Option<&'a str>,
    reason: Option<&'a str>,
}

impl<'a> Values<'a> {
    fn new(custom: &'a Custom, account: &'a Account) -> Self {
        Self {
            custom,
            account,
            pay: None,
            amount: None,
            id: None,
            reference: Some(account.reference.as_str()),
            reason: None,
        }
    }

    /// The value of a variable; `None` where the request has none.
    fn value(&self, variable: &Variable) -> Result<Option<Value>, Refusal> {
        let name = match variable {
            Variable::Credential(name) => {
                let value = self.account.credentials.get(name);
                let value = value.ok_or_else(|| Refusal::Account(name.clone()))?;
                return Ok(Some(value.into()));
            }
            Variable::Known(name) => *name,
        };
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Value::from);
        let pay = self.pay;
        let buyer = pay.map(|pay| &pay.buyer);
        let billing = buyer.and_then(|buyer| buyer.billing.as_ref());
        Ok(match name {
            "amount" => self.amount.map(|amount| wire(self.custom, amount)).transpose()?,
            "currency" => self.amount.map(|amount| amount.currency.code().into()),
            "currency_lower" => self.amount.map(|amount| amount.currency.lower().into()),
            "reference" => text(self.reference),
            "order" => text(pay.and_then(|pay| pay.reference.as_deref())),
            "id" => text(self.id),
            "key" => text(Some(&self.account.idempotency_key)),
            "instrument" => self.instrument()?,
            "description" => text(pay.and_then(|pay| pay.description.as_deref())),
            "statement" => text(pay.and_then(|pay| pay.statement.as_deref())),
            "reason" => text(self.reason),
            "merchant_initiated" => pay.map(|pay| (pay.initiator == Initiator::Merchant).into()),
            "buyer.name" => text(buyer.and_then(|buyer| buyer.name.as_deref())),
            "buyer.email" => text(buyer.and_then(|buyer| buyer.email.as_deref())),
            "buyer.phone" => text(buyer.and_then(|buyer| buyer.phone.as_deref())),
            "buyer.ip" => text(buyer.and_then(|buyer| buyer.ip.as_deref())),
            "billing.line1" => text(billing.and_then(|billing| billing.line1.as_deref())),
            "billing.city" => text(billing.and_then(|billing| billing.city.as_deref())),
            "billing.state" => text(billing.and_then(|billing| billing.state.as_deref())),
            "billing.postal_code" => text(billing.and_then(|billing| billing.postal_code.as_deref())),
            "billing.country" => text(billing.and_then(|billing| billing.country.as_deref())),
            "return_url" => text(pay.and_then(|pay| pay.return_url.as_deref())),
            "network_transaction_id" => text(pay.and_then(|pay| pay.network_transaction_id.as_deref())),
            name => self.of_instrument(name),
        })
    }

    fn of_instrument(&self, name: &str) -> Option<Value> {
        let instrument = self.pay?.instrument.as_ref()?;
        let customer = self.pay?.initiator == Initiator::Customer;
        let (month, year) = match instrument {
            Instrument::Card(card) => (&card.expiry_month, &card.expiry_year),
            Instrument::NetworkToken(token) => (&token.expiry_month, &token.expiry_year),
            _ => (&String::new(), &String::new()),
        };
        match name {
            "card.expiry_month_number" => return month.parse::<u16>().ok().map(Value::from),
            "card.expiry_year_number" => return year.parse::<u16>().ok().map(Value::from),
            _ => {}
        }
        let text = match (instrument, name) {
            (Instrument::Token(token), "token") => Some(token),
            (Instrument::Card(card), "card.number") => Some(&card.number),
            (Instrument::Card(card), "card.expiry_month") => Some(&card.expiry_month),
            (Instrument::Card(card), "card.expiry_year") => Some(&card.expiry_year),
            (Instrument::Card(card), "card.cvc") => card.cvc.as_ref().filter(|_| customer),
            (Instrument::Card(card), "card.holder") => card.holder.as_ref(),
            (Instrument::NetworkToken(token), "card.number") => Some(&token.number),
            (Instrument::NetworkToken(token), "card.expiry_month") => Some(&token.expiry_month),
            (Instrument::NetworkToken(token), "card.expiry_year") => Some(&token.expiry_year),
            (Instrument::NetworkToken(token), "card.cryptogram") => token.cryptogram.as_ref(),
            (Instrument::NetworkToken(token), "card.eci") => token.eci.as_ref(),
            _ => None,
        };
        text.map(|text| text.clone().into())
    }

    fn instrument(&self) -> Result<Option<Value>, Refusal> {
        let template = match self.pay.and_then(|pay| pay.instrument.as_ref()) {
            Some(Instrument::Token(token)) if !token.is_empty() => self.custom.token.as_ref(),
            Some(Instrument::Card(_)) => self.custom.card.as_ref(),
            Some(Instrument::NetworkToken(_)) => self.custom.network_token.as_ref(),
            _ => None,
        };
        self.tree(template.ok_or(Refusal::NoPortableInstrument)?)
    }

    /// A text; `None` where a value of it is not there.
    fn text(&self, template: &Template) -> Result<Option<String>, Refusal> {
        self.pieces(template, |text| text)
    }

    fn pieces(&self, template: &Template, escape: impl Fn(String) -> String) -> Result<Option<String>, Refusal> {
        let mut written = String::new();
        for piece in &template.0 {
            match piece {
                Piece::Text(text) => written.push_str(text),
                Piece::Value(variable) => match self.value(variable)? {
                    None => return Ok(None),
                    Some(Value::String(text)) => written.push_str(&escape(text)),
                    Some(value) => written.push_str(&value.to_string()),
                },
            }
        }
        Ok(Some(written))
    }

    /// JSON; a member or item whose value is not there is left out, and an object of nothing else with it.
    fn tree(&self, tree: &Tree) -> Result<Option<Value>, Refusal> {
        Ok(match tree {
            Tree::Plain(value) => Some(value.clone()),
            Tree::Text(template) => match template.alone() {
                Some(variable) => self.value(variable)?,
                None => self.text(template)?.map(Value::String),
            },
            Tree::List(items) => {
                let mut values = Vec::new();
                for item in items {
                    values.extend(self.tree(item)?);
                }
                Some(Value::Array(values))
            }
            Tree::Object(members) => {
                let mut values = Map::new();
                for (name, member) in members {
                    if let Some(value) = self.tree(member)? {
                        values.insert(name.clone(), value);
                    }
                }
                (members.is_empty() || !values.is_empty()).then_some(Value::Object(values))
            }
        })
    }

    fn call(&self, call: &Call, keyed: bool) -> Result<Outgoing, Refusal> {
        let path = self.pieces(&call.path, |text| utf8_percent_encode(&text, SEGMENT).to_string())?;
        let target = path.ok_or_else(|| Refusal::Malformed("the payment has no id".to_owned()))?;
        let mut pairs = Vec::new();
        for (name, template) in &self.custom.headers {
            if let Some(text) = self.text(template)? {
                pairs.push((name.clone(), text));
            }
        }
        if let Some(keys) = self.custom.idempotency.as_ref().filter(|_| keyed) {
            let key = &self.account.idempotency_key;
            if key.is_empty() || key.len() > keys.max_length {
                return Err(Refusal::IdempotencyKey(format!("not 1 to {} bytes", keys.max_length)));
            }
            pairs.push((keys.header.clone(), key.clone()));
        }
        let mut headers = headers(pairs)?;
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        let body = match &call.body {
            None => bytes::Bytes::new(),
            Some(tree) => {
                headers
                    .entry(CONTENT_TYPE)
                    .or_insert(HeaderValue::from_static("application/json"));
                let value = self.tree(tree)?.unwrap_or_else(|| Value::Object(Map::new()));
                value.to_string().into()
            }
        };
        Ok(Outgoing {
            method: call.method.clone(),
            target,
            headers,
            body,
        })
    }
}

fn wire(custom: &Custom, amount: Amount) -> Result<Value, Refusal> {
    Ok(match custom.amounts {
        Amounts::Minor => amount.to_minor(Dialect::Custom)?.into(),
        Amounts::Decimal => amount.to_decimal(Dialect::Custom)?.into(),
    })
}

pub(super) fn request(custom: &Custom, request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
    let values = Values::new(custom, account);
    let missing = |what: &str| Refusal::Operation(what.to_owned());
    match request {
        Request::Capture { units: Some(_), .. } | Request::Refund { units: Some(_), .. } => {
            Err(Refusal::Amount("its currency is not known".to_owned()))
        }
        Request::Pay(pay) => self::pay(pay, values),
        Request::Capture { target, amount, .. } => {
            let part = amount.is_some() && *amount != target.amount;
            if part && !custom.partial_capture {
                return Err(missing("capturing a part"));
            }
            let values = Values {
                amount: amount.or(target.amount),
                id: target.payment.as_deref(),
                ..values
            };
            values.call(custom.capture.as_ref().ok_or_else(|| missing("capturing"))?, true)
        }
        Request::Void { target, reason } => {
            let values = Values {
                amount: target.amount,
                id: target.payment.as_deref(),
                reason: reason.as_deref(),
                ..values
            };
            values.call(custom.void.as_ref().ok_or_else(|| missing("voiding"))?, true)
        }
        Request::Refund {
            target, amount, reason, ..
        } => {
            let part = amount.is_some() && *amount != target.untouched;
            if part && !custom.partial_refund {
                return Err(missing("refunding a part"));
            }
            let values = Values {
                amount: amount.or(target.amount),
                id: target.payment.as_deref(),
                reason: reason.as_deref(),
                ..values
            };
            values.call(&custom.refund, true)
        }
        Request::Retrieve { target } => {
            let values = Values {
                id: target.payment.as_deref(),
                ..values
            };
            values.call(
                custom.retrieve.as_ref().ok_or_else(|| missing("reading payments"))?,
                false,
            )
        }
        Request::RetrieveRefund { .. } => Err(missing("reading refunds")),
        Request::List(_) => Err(missing("listing payments")),
    }
}

fn pay(pay: &Pay, values: Values<'_>) -> Result<Outgoing, Refusal> {
    let custom = values.custom;
    if let Some(name) = pay.unportable.first() {
        return Err(Refusal::Parameter(name.clone()));
    }
    if pay.operation == Operation::Create {
        return Err(Refusal::Operation("a payment without execution".to_owned()));
    }
    if pay.three_ds.is_some() {
        return Err(Refusal::ThreeDs);
    }
    let amount = pay.amount.ok_or_else(|| Refusal::Amount("none is named".to_owned()))?;
    if amount.is_zero() {
        return Err(Refusal::Amount("zero".to_owned()));
    }
    if !custom.currencies.iter().any(|code| code == amount.currency.code()) {
        return Err(Refusal::Currency(amount.currency.code().to_owned()));
    }
    let merchant = pay.initiator == Initiator::Merchant;
    if merchant && !custom.names("merchant_initiated") {
        return Err(Refusal::Parameter("merchant-initiated payment".to_owned()));
    }
    let plain = matches!(pay.instrument, Some(Instrument::Card(_) | Instrument::NetworkToken(_)));
    // A card of another gateway's file is charged without its holder only on the strength of the first payment.
    if merchant && plain && (pay.network_transaction_id.is_none() || !custom.names("network_transaction_id")) {
        return Err(Refusal::Parameter("network transaction id".to_owned()));
    }
    let call = match pay.capture {
        CaptureMode::Automatic => &custom.sale,
        CaptureMode::Manual => custom
            .authorize
            .as_ref()
            .ok_or_else(|| Refusal::Operation("holding money".to_owned()))?,
    };
    let values = Values {
        pay: Some(pay),
        amount: Some(amount),
        ..values
    };
    values.call(call, true)
}

/// Reads the payment, or looks for it by Sentinel's reference.
pub(super) fn lookup(custom: &Custom, earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    let values = Values {
        amount: earlier.amount,
        id: earlier.object.as_deref(),
        reference: earlier.reference.as_deref(),
        ..Values::new(custom, account)
    };
    match (&earlier.object, &earlier.reference) {
        (Some(_), _) => values.call(custom.retrieve.as_ref()?, false).ok(),
        (None, Some(_)) => values.call(custom.find.as_ref()?, false).ok(),
        (None, None) => None,
    }
}

pub(super) fn probe(custom: &Custom, account: &Account) -> Option<Outgoing> {
    let call = custom.probe.as_ref()?;
    let harmless = matches!(call.method, Method::GET | Method::POST);
    Values::new(custom, account).call(call, false).ok().filter(|_| harmless)
}
