//! A simulator of whatever a custom gateway's description describes.
//!
//! It reads requests by the description's own templates and answers by its pointers and words, so that a description can be
//! tried before its gateway is: what it cannot express is not sent, and what it does not find is refused. It cannot tell
//! whether the description is *true*; only the gateway's own sandbox can.
//!
//! A token `decline_` and a code is declined with that code; any other, and any card, is approved. A key is kept as long as
//! the description says, and answers with the stored answer.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::books::{Effect, Kind};
use super::{NativeError, Request, Simulator, Turn};
use crate::config::model::custom::{
    Amounts, Call, Custom as Description, Modification, Piece, Refusal, State, Template, Tree, Variable,
};

/// One payment.
#[derive(Clone, Debug)]
struct Payment {
    id: String,
    word: String,
    amount: Value,
    currency: String,
    reference: String,
    order: Option<String>,
    held: i64,
    captured: i64,
    refunded: i64,
    decline: Option<String>,
    key: Option<String>,
}

/// The simulator.
pub struct Custom {
    name: &'static str,
    description: Arc<Description>,
    payments: HashMap<String, Payment>,
    /// In the order they were made.
    order: Vec<String>,
    /// Answers by key, with their time; none while the request runs.
    keys: HashMap<String, Option<(i64, Response<Bytes>)>>,
    counter: u64,
}

/// What a request says, by variable.
type Said = HashMap<String, Value>;

impl Custom {
    /// A simulator of a description, under the gateway's configured name.
    pub fn new(name: &str, description: Arc<Description>) -> Self {
        Self {
            // Books name gateways for as long as the process lives.
            name: Box::leak(name.to_owned().into_boxed_str()),
            description,
            payments: HashMap::new(),
            order: Vec::new(),
            keys: HashMap::new(),
            counter: super::first_id(),
        }
    }

    fn id(&mut self) -> String {
        self.counter += 1;
        let digest = Sha256::digest(format!("{} sandbox {}", self.name, self.counter));
        let hex: String = digest.iter().take(13).map(|byte| format!("{byte:02x}")).collect();
        format!("pay_{hex}")
    }

    /// The call that a request is, and what it says.
    fn recognised(&self, request: &Request) -> Option<(&'static str, Said)> {
        let body: Value = match request.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&request.body).ok()?,
        };
        let target = match request.query.is_empty() {
            true => request.path.clone(),
            false => format!("{}?{}", request.path, request.query),
        };
        self.description.calls().find_map(|(name, call)| {
            let mut said = Said::new();
            let fits = call.method == request.method
                && path(&call.path, &target, &mut said)
                && self.headers(request, &mut said)
                && self.body(call, &body, &mut said);
            fits.then_some((name, said))
        })
    }

    /// Every header of the description is there, as its template says. What stands for a credential may be anything.
    fn headers(&self, request: &Request, said: &mut Said) -> bool {
        self.description.headers.iter().all(|(name, template)| {
            let told = request.header(name.as_str());
            told.is_some_and(|told| text(template, told, said)) || (told.is_none() && optional(template))
        })
    }

    fn body(&self, call: &Call, body: &Value, said: &mut Said) -> bool {
        match &call.body {
            None => true,
            Some(tree) => self.tree(tree, body, said),
        }
    }

    fn tree(&self, tree: &Tree, value: &Value, said: &mut Said) -> bool {
        match (tree, value) {
            (Tree::Plain(plain), value) => plain == value,
            (Tree::Text(template), value) => match (template.alone(), value) {
                (Some(Variable::Known("instrument")), value) => {
                    let kinds = [
                        &self.description.token,
                        &self.description.card,
                        &self.description.network_token,
                    ];
                    kinds.into_iter().flatten().any(|kind| {
                        let mut inner = Said::new();
                        let fits = self.tree(kind, value, &mut inner);
                        if fits {
                            said.extend(inner);
                        }
                        fits
                    })
                }
                (Some(variable), value) => {
                    note(variable, value.clone(), said);
                    true
                }
                (None, Value::String(told)) => text(template, told, said),
                (None, _) => false,
            },
            (Tree::List(items), Value::Array(values)) => {
                items.len() >= values.len()
                    && items
                        .iter()
                        .zip(values)
                        .all(|(item, value)| self.tree(item, value, said))
            }
            (Tree::Object(members), Value::Object(values)) => {
                let known = values
                    .keys()
                    .all(|name| members.iter().any(|(member, _)| member == name));
                known
                    && members.iter().all(|(name, member)| match values.get(name) {
                        Some(value) => self.tree(member, value, said),
                        None => optional_tree(member),
                    })
            }
            _ => false,
        }
    }

    /// The first word for a state, after a sale or not.
    fn word(&self, state: State, sale: bool) -> Option<String> {
        let answers = &self.description.answers;
        let in_states = |states: &std::collections::BTreeMap<String, State>| {
            states
                .iter()
                .find(|(_, known)| **known == state)
                .map(|(word, _)| word.clone())
        };
        match sale {
            true => in_states(&answers.sale_states).or_else(|| in_states(&answers.states)),
            false => in_states(&answers.states),
        }
    }

    /// Units of an amount on the wire, by the currency's ISO decimals.
    fn units(&self, amount: &Value, exponent: u32) -> Option<i64> {
        match (self.description.amounts, amount) {
            (Amounts::Minor, Value::Number(number)) => number.as_i64().filter(|units| *units > 0),
            (Amounts::Decimal, Value::String(text)) => {
                let (whole, part) = text.split_once('.').unwrap_or((text, ""));
                let padded = format!("{whole}{part:0<width$}", width = exponent as usize);
                (part.len() <= exponent as usize).then(|| padded.parse().ok()).flatten()
            }
            _ => None,
        }
        .filter(|units| *units > 0)
    }

    fn shown(&self, payment: &Payment) -> Value {
        let answers = &self.description.answers;
        let mut body = json!({});
        let mut put = |pointer: &str, value: Value| set(&mut body, pointer, value);
        put(&answers.id, payment.id.clone().into());
        put(&answers.status, payment.word.clone().into());
        put(&answers.amount, payment.amount.clone());
        put(&answers.currency, payment.currency.clone().into());
        if let Some(pointer) = &answers.reference {
            put(pointer, payment.reference.clone().into());
        }
        if let (Some(pointer), Some(code)) = (&answers.decline_code, &payment.decline) {
            put(pointer, code.clone().into());
        }
        body
    }

    fn answer(&self, status: u16, body: &Value) -> Response<Bytes> {
        let mut answer = Response::new(body.to_string().into());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let headers = answer.headers_mut();
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
        headers.insert(
            self.description.answers.native_header.clone(),
            http::HeaderValue::from_static("sandbox"),
        );
        answer
    }

    /// The first status that refuses in this way, or what servers say where the description names none.
    fn refusal(&self, refusal: Refusal) -> Response<Bytes> {
        let statuses = self.description.refusals.iter();
        let mut found = statuses
            .filter(|(_, known)| **known == refusal)
            .map(|(status, _)| *status);
        let status = found.next_back().unwrap_or(500);
        self.answer(status, &json!({"error": "refused by the sandbox"}))
    }

    fn pay(&mut self, sale: bool, said: &Said, key: Option<String>, turn: &mut Turn) -> Response<Bytes> {
        let told = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        let currency = told("currency")
            .or_else(|| told("currency_lower"))
            .unwrap_or_default()
            .to_ascii_uppercase();
        let exponent = exponent(&currency);
        let units = said.get("amount").and_then(|amount| self.units(amount, exponent));
        let known = self.description.currencies.contains(&currency);
        let (Some(units), true) = (units, known) else {
            return self.refusal(Refusal::Request);
        };
        let decline = told("token").and_then(|token| token.strip_prefix("decline_").map(str::to_owned));
        let state = match (&decline, sale) {
            (Some(_), _) => State::Declined,
            (None, true) => State::Succeeded,
            (None, false) => State::Authorised,
        };
        let Some(word) = self.word(state, sale) else {
            return self.refusal(Refusal::Request);
        };
        let payment = Payment {
            id: self.id(),
            word,
            amount: said.get("amount").cloned().unwrap_or_default(),
            currency,
            reference: told("reference").unwrap_or_default(),
            order: told("order"),
            held: if decline.is_none() && !sale { units } else { 0 },
            captured: if decline.is_none() && sale { units } else { 0 },
            refunded: 0,
            decline,
            key,
        };
        if payment.decline.is_none() {
            turn.effects.push(effect(&payment, Kind::Auth, &payment.id, units));
            if sale {
                turn.effects.push(effect(&payment, Kind::Capture, &payment.id, units));
            }
        }
        let body = self.shown(&payment);
        self.order.push(payment.id.clone());
        self.payments.insert(payment.id.clone(), payment);
        let status = self.description.answers.statuses.iter().find(|status| **status == 201);
        self.answer(
            status
                .or(self.description.answers.statuses.first())
                .copied()
                .unwrap_or(200),
            &body,
        )
    }

    fn modify(&mut self, what: &str, said: &Said, turn: &mut Turn) -> Response<Bytes> {
        let id = said.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let action = self.id().replace("pay_", "act_");
        let Some(mut payment) = self.payments.get(&id).cloned() else {
            return self.refusal(Refusal::Request);
        };
        let exponent = exponent(&payment.currency);
        let asked = said.get("amount").map(|amount| self.units(amount, exponent));
        let (kind, left) = match what {
            "capture" => (Kind::Capture, payment.held),
            "void" => (Kind::Void, payment.held),
            _ => (Kind::Refund, payment.captured - payment.refunded),
        };
        let units = match asked {
            Some(None) => return self.refusal(Refusal::Request),
            Some(Some(units)) if what != "void" => units,
            _ => left,
        };
        if units <= 0 || units > left {
            return self.refusal(Refusal::Request);
        }
        let rest = payment.held - units;
        match kind {
            Kind::Capture => {
                payment.captured = units;
                payment.held = 0;
            }
            Kind::Void => payment.held = 0,
            _ => payment.refunded += units,
        }
        let state = match kind {
            Kind::Void => State::Voided,
            _ => State::Succeeded,
        };
        payment.word = self.word(state, false).unwrap_or(payment.word);
        turn.effects.push(effect(&payment, kind, &action, units));
        if kind == Kind::Capture && rest > 0 {
            turn.effects.push(effect(&payment, Kind::Void, &action, rest));
        }
        self.payments.insert(id, payment);
        let answers = &self.description.answers;
        let status = answers
            .accepted
            .first()
            .or(answers.done.first())
            .copied()
            .unwrap_or(200);
        let mut body = json!({});
        if let Some(pointer) = &answers.modification_id {
            set(&mut body, pointer, action.into());
        }
        if let Some(pointer) = &answers.modification_status {
            let words = &answers.modification_states;
            let find = |wanted| words.iter().find(|(_, known)| **known == wanted);
            let word = find(Modification::Accepted).or_else(|| find(Modification::Done));
            set(&mut body, pointer, word.map_or("", |(word, _)| word).into());
        }
        self.answer(status, &body)
    }

    fn read(&self, said: &Said) -> Response<Bytes> {
        let id = said.get("id").and_then(Value::as_str).unwrap_or_default();
        match self.payments.get(id) {
            Some(payment) => self.answer(200, &self.shown(payment)),
            None => self.answer(404, &json!({})),
        }
    }

    fn find(&self, said: &Said) -> Response<Bytes> {
        let reference = said.get("reference").and_then(Value::as_str).unwrap_or_default();
        let payments = self.order.iter().filter_map(|id| self.payments.get(id));
        let found = payments.filter(|payment| payment.reference == reference);
        let list: Value = found.map(|payment| self.shown(payment)).collect();
        let mut body = json!({});
        match self.description.answers.list.as_str() {
            "" => body = list,
            pointer => set(&mut body, pointer, list),
        }
        self.answer(200, &body)
    }

    fn key(&self, request: &Request) -> Option<String> {
        let keys = self.description.idempotency.as_ref()?;
        let key = request.header(keys.header.as_str())?;
        Some(format!("{} {} {key}", request.method, request.path))
    }
}

/// ISO 4217's decimals, as far as they are not two.
fn exponent(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV"
        | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

fn effect(payment: &Payment, kind: Kind, id: &str, units: i64) -> Effect {
    Effect {
        kind,
        payment: payment.id.clone(),
        id: id.to_owned(),
        units,
        exponent: u8::try_from(exponent(&payment.currency)).unwrap_or(2),
        currency: payment.currency.clone(),
        key: payment.key.clone(),
        reference: Some(payment.reference.clone()),
        order: payment.order.clone(),
        instrument: None,
    }
}

fn note(variable: &Variable, value: Value, said: &mut Said) {
    let name = match variable {
        Variable::Known(name) => (*name).to_owned(),
        Variable::Credential(name) => format!("credential.{name}"),
    };
    said.insert(name, value);
}

/// Whether a text is what a template says, and which values stand in it.
fn text(template: &Template, told: &str, said: &mut Said) -> bool {
    let mut rest = told;
    let mut pieces = template.0.iter().peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Text(text) => match rest.strip_prefix(text.as_str()) {
                Some(after) => rest = after,
                None => return false,
            },
            Piece::Value(variable) => {
                let end = match pieces.peek() {
                    Some(Piece::Text(next)) => match rest.find(next.as_str()) {
                        Some(at) => at,
                        None => return false,
                    },
                    _ => rest.len(),
                };
                let (value, after) = rest.split_at(end);
                if value.is_empty() {
                    return false;
                }
                note(variable, value.into(), said);
                rest = after;
            }
        }
    }
    rest.is_empty()
}

/// The same of a path, whose values are percent-encoded and hold no slash.
fn path(template: &Template, target: &str, said: &mut Said) -> bool {
    let mut found = Said::new();
    if !text(template, target, &mut found) {
        return false;
    }
    for (name, value) in found {
        let raw = value.as_str().unwrap_or_default();
        if raw.contains(['/', '?', '&']) {
            return false;
        }
        let decoded = percent_encoding::percent_decode_str(raw)
            .decode_utf8_lossy()
            .into_owned();
        said.insert(name, decoded.into());
    }
    true
}

/// Whether a template may be missing altogether: it stands for something that a payment need not have.
fn optional(template: &Template) -> bool {
    const ALWAYS: [&str; 7] = [
        "amount",
        "currency",
        "currency_lower",
        "reference",
        "instrument",
        "id",
        "token",
    ];
    template.variables().any(|variable| match variable {
        Variable::Known(name) => !ALWAYS.contains(name),
        Variable::Credential(_) => false,
    })
}

fn optional_tree(tree: &Tree) -> bool {
    match tree {
        Tree::Text(template) => optional(template),
        Tree::Object(members) => !members.is_empty() && members.iter().all(|(_, member)| optional_tree(member)),
        Tree::Plain(_) | Tree::List(_) => false,
    }
}

/// Puts a value where a pointer points, making objects on the way.
fn set(body: &mut Value, pointer: &str, value: Value) {
    let mut place = body;
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[name.as_str()];
    }
    *place = value;
}

impl Simulator for Custom {
    fn gateway(&self) -> &'static str {
        self.name
    }

    fn admit(&mut self, now: i64, request: &Request) -> Result<(), Box<Response<Bytes>>> {
        let Some(key) = self.key(request) else { return Ok(()) };
        let hours = self.description.idempotency.as_ref().map_or(0, |keys| keys.hours);
        match self.keys.get(&key) {
            Some(None) => return Err(Box::new(self.answer(429, &json!({"error": "this key is in use"})))),
            Some(Some((at, answer))) if now - at < i64::from(hours) * 3600 => return Err(Box::new(answer.clone())),
            _ => {}
        }
        self.keys.insert(key, None);
        Ok(())
    }

    fn execute(&mut self, now: i64, request: &Request) -> (Response<Bytes>, Turn) {
        let mut turn = Turn::default();
        let key = self.key(request);
        let header = self.description.idempotency.as_ref().map(|keys| keys.header.clone());
        let plain = header.and_then(|name| request.header(name.as_str()).map(str::to_owned));
        let answer = match self.recognised(request) {
            Some(("sale", said)) => self.pay(true, &said, plain, &mut turn),
            Some(("authorize", said)) => self.pay(false, &said, plain, &mut turn),
            Some((what @ ("capture" | "void" | "refund"), said)) => self.modify(what, &said, &mut turn),
            Some(("retrieve", said)) => self.read(&said),
            Some(("find", said)) => self.find(&said),
            Some(_) => self.answer(200, &json!({})),
            None => self.refusal(Refusal::Request),
        };
        if let Some(key) = key {
            // What made nothing leaves its key free.
            match turn.effects.is_empty() && answer.status().is_client_error() {
                true => self.keys.remove(&key),
                false => self.keys.insert(key, Some((now, answer.clone()))),
            };
        }
        (answer, turn)
    }

    fn abandon(&mut self, request: &Request) {
        if let Some(key) = self.key(request)
            && self.keys.get(&key).is_some_and(Option::is_none)
        {
            self.keys.remove(&key);
        }
    }

    fn native_error(&self, error: NativeError, _request: &Request) -> Response<Bytes> {
        let status = match error {
            NativeError::RateLimit => return self.refusal(Refusal::Transient),
            NativeError::Unauthorized | NativeError::Forbidden => return self.refusal(Refusal::Account),
            NativeError::Conflict => 409,
            NativeError::Internal => 500,
            NativeError::Unavailable => 503,
        };
        self.answer(status, &json!({"error": "by the script"}))
    }

    fn set(&mut self, _name: &str, _value: &str) -> Result<(), String> {
        Err("a custom gateway's simulator has no settings: it is its description".to_owned())
    }
}
