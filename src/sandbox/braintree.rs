//! A simulator of Braintree's classic gateway, for the server SDKs.
//!
//! Faithful where failover depends on it: a request names no currency, its merchant account has one; a decline is 422 with a
//! transaction, a validation error 422 without; a key is kept thirty days, answers with the transaction's *current* status,
//! and is refused while its request runs (915233), for another input (915232) and after a request that made nothing
//! (915234); without a key the same amount, order and card within thirty seconds is a rejected duplicate; nonces are good
//! once; what is submitted can be voided and not refunded, what is settled the other way round; a search lags behind.
//!
//! Outcomes are chosen by the amount, as in Braintree's sandbox ([`cards`]), or by its published nonces. Any vault token is
//! a saved card; `decline_` and a code is declined with that code. The nightly batch runs by the setting `settle`, or for
//! one transaction by the sandbox's own `PUT .../settle`.
//!
//! Not simulated: GraphQL, the vault but for one-time nonces of its tokens, partial settlements. With the setting `notifies` it notifies of
//! what is settled.

mod body;
mod cards;
mod notifications;
mod transactions;

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Guide, NativeError, Request, Simulator, Turn};
use body::{Xml, answer};
use transactions::Transaction;

/// For people.
pub const GUIDE: Guide = Guide {
    port: 9083,
    credentials: &[
        ("merchant id", "sandbox"),
        ("public key", "sandbox"),
        ("private key", "sandbox"),
        (
            "accounts",
            "sandbox_usd (default), sandbox_eur, sandbox_gbp, sandbox_jpy, sandbox_inr",
        ),
    ],
    instruments: &[
        ("fake-valid-nonce, 4111111111111111", "authorized"),
        ("amount 2000.00 to 2999.99", "declined with that code"),
        ("amount 3000.00", "failed: processor network unavailable"),
        ("payment method token decline_2046", "declined, 2046"),
        ("any other payment method token", "authorized"),
    ],
};

/// Keys are kept thirty days.
const KEY_LIFE: i64 = 30 * 86_400;
/// Transactions on one page of a search.
const PAGE: usize = 50;

/// A refusal by validation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Invalid {
    code: &'static str,
    attribute: &'static str,
    message: &'static str,
}

impl Invalid {
    /// No transaction of this id: 404 and no body.
    const NOT_FOUND: Self = Self::new("404", "", "");
    /// A call or content that Braintree does not take: 403 and no body.
    const FORBIDDEN: Self = Self::new("403", "", "");

    const fn new(code: &'static str, attribute: &'static str, message: &'static str) -> Self {
        Self {
            code,
            attribute,
            message,
        }
    }
}

/// What is known of a key.
enum Key {
    /// Its request is running.
    Running,
    /// It made this transaction, or acted on it.
    Made(i64, [u8; 32], String),
    /// It made nothing.
    Failed(i64),
}

/// The simulator.
pub struct Braintree {
    merchant_id: String,
    public_key: String,
    private_key: String,
    request_keys: bool,
    check_duplicates: bool,
    /// Seconds before a transaction can be found.
    search_lag: i64,
    batch_due: bool,
    /// Whether it notifies of what is settled.
    notifies: bool,
    keys: HashMap<String, Key>,
    /// One-time nonces with the token behind each; none once it is used.
    nonces: HashMap<String, Option<String>>,
    transactions: HashMap<String, Transaction>,
    /// In the order they were made.
    order: Vec<String>,
    counter: u64,
}

impl Default for Braintree {
    fn default() -> Self {
        let sandbox = || "sandbox".to_owned();
        Self {
            merchant_id: sandbox(),
            public_key: sandbox(),
            private_key: sandbox(),
            request_keys: true,
            check_duplicates: true,
            search_lag: 1,
            batch_due: false,
            notifies: false,
            keys: HashMap::new(),
            nonces: HashMap::new(),
            transactions: HashMap::new(),
            order: Vec::new(),
            counter: super::first_id(),
        }
    }
}

/// A status without a body worth reading.
fn bare(status: StatusCode) -> Response<Bytes> {
    let mut answer = answer(status, &Xml::default());
    *answer.body_mut() = Bytes::new();
    answer
}

fn refusal(invalid: &Invalid) -> Response<Bytes> {
    match invalid.code {
        "404" => return bare(StatusCode::NOT_FOUND),
        "403" => return bare(StatusCode::FORBIDDEN),
        _ => {}
    }
    let mut xml = Xml::default();
    let one = |xml: &mut Xml| {
        xml.node("error", |xml| {
            xml.text("code", invalid.code);
            xml.typed("attribute", "symbol", |xml| xml.0.push_str(invalid.attribute));
            xml.text("message", invalid.message);
        });
    };
    let of_card = matches!(invalid.attribute, "number" | "expiration_date");
    xml.node("api-error-response", |xml| {
        xml.node("errors", |xml| {
            xml.typed("errors", "array", |_| {});
            xml.node("transaction", |xml| {
                xml.typed("errors", "array", |xml| {
                    if !of_card {
                        one(xml);
                    }
                });
                xml.node("credit-card", |xml| {
                    xml.typed("errors", "array", |xml| {
                        if of_card {
                            one(xml);
                        }
                    });
                });
            });
        });
        xml.node("params", |_| {});
        xml.text("message", invalid.message);
    });
    answer(StatusCode::UNPROCESSABLE_ENTITY, &xml)
}

impl Braintree {
    fn id(&mut self) -> String {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        self.counter += 1;
        let digest = Sha256::digest(format!("braintree sandbox {}", self.counter));
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        digest.iter().take(8).map(letter).collect()
    }

    fn shown(&self, id: &str, status: StatusCode) -> Response<Bytes> {
        let Some(transaction) = self.transactions.get(id) else {
            return bare(StatusCode::NOT_FOUND);
        };
        let mut xml = Xml::default();
        if !transaction.refused() || status == StatusCode::OK {
            transaction.write(&mut xml);
            return answer(status, &xml);
        }
        xml.node("api-error-response", |xml| {
            xml.node("errors", |xml| xml.typed("errors", "array", |_| {}));
            xml.node("params", |xml| {
                xml.node("transaction", |xml| {
                    xml.text("amount", &transaction.amount(transaction.units));
                    xml.text("type", "sale");
                });
            });
            xml.text("message", &transaction.message());
            transaction.write(xml);
        });
        answer(StatusCode::UNPROCESSABLE_ENTITY, &xml)
    }

    /// The key of a request and the hash of what it asks for.
    fn key(request: &Request) -> Option<(String, [u8; 32])> {
        let (_, body) = body::read(request)?;
        let key = body.get("api_request_key")?.as_str().filter(|key| !key.is_empty())?;
        let digest = Sha256::new()
            .chain_update(request.method.as_str())
            .chain_update(&request.path)
            .chain_update(body.to_string())
            .finalize();
        Some((key.to_owned(), digest.into()))
    }

    /// What an executed request answers under its method.
    fn success(request: &Request) -> StatusCode {
        match request.method {
            Method::POST => StatusCode::CREATED,
            _ => StatusCode::OK,
        }
    }

    fn route(&mut self, now: i64, request: &Request, turn: &mut Turn) -> Result<String, Invalid> {
        let (root, body) = body::read(request).ok_or(Invalid::FORBIDDEN)?;
        let empty = Map::new();
        let asked = match (&body, root.as_str()) {
            (Value::Object(map), "transaction" | "") => map,
            (Value::String(_) | Value::Null, "transaction") => &empty,
            _ => return Err(Invalid::FORBIDDEN),
        };
        let path = request.path.clone();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').skip(2).collect();
        let (post, put) = (request.method == Method::POST, request.method == Method::PUT);
        match segments.as_slice() {
            ["transactions"] if post => self.sale(now, asked, turn),
            ["transactions", id, "submit_for_settlement"] if put => self.submit(now, id, asked, turn),
            ["transactions", id, "void"] if put => self.void(now, id, asked, turn),
            ["transactions", id, "refund"] if post => self.refund(now, id, asked, turn),
            ["transactions", id, "reverse"] if post => self.reverse(now, id, asked, turn),
            ["transactions", id, "settle"] if put => self.settle(now, id, "settled", turn),
            ["transactions", id, "settlement_confirm"] if put => self.settle(now, id, "settlement_confirmed", turn),
            ["transactions", id, "settlement_decline"] if put => self.settle(now, id, "settlement_declined", turn),
            ["transactions", id, "settlement_pending"] if put => self.settle(now, id, "settlement_pending", turn),
            _ => Err(Invalid::NOT_FOUND),
        }
    }

    /// A one-time nonce of a saved card.
    fn nonce(&mut self, token: &str) -> Response<Bytes> {
        let nonce = format!("tokencc_{}", self.id());
        self.nonces.insert(nonce.clone(), Some(token.to_owned()));
        let mut xml = Xml::default();
        xml.node("payment-method-nonce", |xml| {
            xml.text("nonce", &nonce);
            xml.text("type", "CreditCard");
            xml.maybe("three-d-secure-info", None);
            xml.node("details", |xml| xml.text("last-two", "11"));
        });
        answer(StatusCode::CREATED, &xml)
    }

    /// Executes a request.
    fn executed(&mut self, now: i64, request: &Request) -> (Response<Bytes>, Turn) {
        let mut turn = Turn::default();
        self.pass(now, &mut turn);
        let path = request.path.clone();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').skip(2).collect();
        let get = request.method == Method::GET;
        match segments.as_slice() {
            ["transactions", "advanced_search_ids"] => return (self.search(now, request, true), turn),
            ["transactions", "advanced_search"] => return (self.search(now, request, false), turn),
            ["transactions", id] if get => return (self.shown(id, StatusCode::OK), turn),
            ["payment_methods", token, "nonces"] if !get => return (self.nonce(token), turn),
            _ => {}
        }
        let result = self.route(now, request, &mut turn);
        let answer = match &result {
            Ok(id) => self.shown(id, Self::success(request)),
            Err(invalid) => refusal(invalid),
        };
        if let Some((key, input)) = Self::key(request) {
            let known = match result {
                Ok(id) => Key::Made(now, input, id),
                Err(_) => Key::Failed(now),
            };
            self.keys.insert(key, known);
        }
        (answer, turn)
    }

    /// Searches, both steps.
    fn search(&self, now: i64, request: &Request, ids_only: bool) -> Response<Bytes> {
        let Some((root, Value::Object(criteria))) = body::read(request) else {
            return bare(StatusCode::FORBIDDEN);
        };
        if root != "search" {
            return bare(StatusCode::FORBIDDEN);
        }
        let found: Vec<&Transaction> = self
            .order
            .iter()
            .rev()
            .filter_map(|id| self.transactions.get(id))
            .filter(|transaction| now - transaction.created >= self.search_lag)
            .filter(|transaction| criteria.iter().all(|(name, wanted)| fits(transaction, name, wanted)))
            .collect();
        let mut xml = Xml::default();
        let count = |xml: &mut Xml, name: &str, count: usize| {
            xml.typed(name, "integer", |xml| xml.0.push_str(&count.to_string()));
        };
        if ids_only {
            xml.node("search-results", |xml| {
                count(xml, "page-size", PAGE);
                xml.typed("ids", "array", |xml| {
                    found.iter().for_each(|transaction| xml.text("item", &transaction.id));
                });
            });
        } else {
            xml.typed("credit-card-transactions", "collection", |xml| {
                count(xml, "current-page-number", 1);
                count(xml, "page-size", PAGE);
                count(xml, "total-items", found.len());
                found.iter().take(PAGE).for_each(|transaction| transaction.write(xml));
            });
        }
        answer(StatusCode::OK, &xml)
    }
}

/// Whether a transaction meets one criterion. One that the simulator does not know finds nothing.
fn fits(transaction: &Transaction, name: &str, wanted: &Value) -> bool {
    let listed = |value: &str| {
        wanted
            .as_array()
            .is_some_and(|items| items.iter().any(|item| item.as_str() == Some(value)))
    };
    let text = |value: &str| {
        wanted.as_object().is_some_and(|operators| {
            operators.iter().all(|(operator, operand)| {
                let operand = operand.as_str().unwrap_or_default();
                match operator.as_str() {
                    "is" => value == operand,
                    "is_not" => value != operand,
                    "starts_with" => value.starts_with(operand),
                    "ends_with" => value.ends_with(operand),
                    "contains" => value.contains(operand),
                    _ => false,
                }
            })
        })
    };
    match name {
        "order_id" => text(transaction.order_id.as_deref().unwrap_or_default()),
        "id" => text(&transaction.id),
        "payment_method_token" => text(transaction.card_token().unwrap_or_default()),
        "ids" => listed(&transaction.id),
        "status" => listed(transaction.status),
        "type" => listed(if transaction.credit { "credit" } else { "sale" }),
        "amount" => wanted
            .get("is")
            .and_then(Value::as_str)
            .is_some_and(|amount| amount == transaction.amount(transaction.units)),
        "created_at" => {
            let bound = |name: &str| {
                let time: Option<jiff::Timestamp> = wanted.get(name)?.as_str()?.parse().ok();
                time.map(jiff::Timestamp::as_second)
            };
            bound("min").is_none_or(|min| transaction.created >= min)
                && bound("max").is_none_or(|max| transaction.created <= max)
        }
        _ => false,
    }
}

impl Simulator for Braintree {
    fn gateway(&self) -> &'static str {
        "braintree"
    }

    fn admit(&mut self, now: i64, request: &Request) -> Result<(), Box<Response<Bytes>>> {
        let wanted = STANDARD.encode(format!("{}:{}", self.public_key, self.private_key));
        if request.header("authorization") != Some(format!("Basic {wanted}").as_str()) {
            return Err(Box::new(bare(StatusCode::UNAUTHORIZED)));
        }
        let version = request
            .header("x-apiversion")
            .and_then(|version| version.parse::<u32>().ok());
        if version.is_none_or(|version| version < 6) {
            return Err(Box::new(bare(StatusCode::UPGRADE_REQUIRED)));
        }
        if request.path.split('/').nth(2) != Some(self.merchant_id.as_str()) {
            return Err(Box::new(bare(StatusCode::FORBIDDEN)));
        }
        let Some((key, input)) = Self::key(request) else {
            return Ok(());
        };
        let refused = |code, message| Err(Box::new(refusal(&Invalid::new(code, "api_request_key", message))));
        if !self.request_keys {
            return refused("915231", "API request keys are not enabled.");
        }
        if key.len() > 255 {
            return refused("915230", "API request key is too long.");
        }
        match self.keys.get(&key) {
            Some(Key::Running) => return refused("915233", "A request with this key is in progress."),
            Some(Key::Made(at, first, id)) if now - at < KEY_LIFE => {
                if *first != input {
                    return refused("915232", "This key was used with another request.");
                }
                return Err(Box::new(self.shown(id, Self::success(request))));
            }
            Some(Key::Failed(at)) if now - at < KEY_LIFE => {
                return refused("915234", "This key belongs to a request that failed.");
            }
            _ => {}
        }
        self.keys.insert(key, Key::Running);
        Ok(())
    }

    fn execute(&mut self, now: i64, request: &Request) -> (Response<Bytes>, Turn) {
        let before = self.statuses();
        let (answer, mut turn) = self.executed(now, request);
        self.notify(now, &before, &mut turn);
        (answer, turn)
    }

    fn abandon(&mut self, request: &Request) {
        if let Some((key, _)) = Self::key(request)
            && matches!(self.keys.get(&key), Some(Key::Running))
        {
            self.keys.remove(&key);
        }
    }

    fn native_error(&self, error: NativeError, _request: &Request) -> Response<Bytes> {
        match error {
            NativeError::RateLimit => bare(StatusCode::TOO_MANY_REQUESTS),
            NativeError::Conflict => refusal(&Invalid::new(
                "915233",
                "api_request_key",
                "A request with this key is in progress.",
            )),
            NativeError::Internal => bare(StatusCode::INTERNAL_SERVER_ERROR),
            NativeError::Unavailable => bare(StatusCode::SERVICE_UNAVAILABLE),
            NativeError::Unauthorized => bare(StatusCode::UNAUTHORIZED),
            NativeError::Forbidden => bare(StatusCode::FORBIDDEN),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let flag = || value.parse::<bool>().map_err(|_| format!("{name} is true or false"));
        match name {
            "merchant_id" => value.clone_into(&mut self.merchant_id),
            "public_key" => value.clone_into(&mut self.public_key),
            "private_key" => value.clone_into(&mut self.private_key),
            "request_keys" => self.request_keys = flag()?,
            "check_duplicates" => self.check_duplicates = flag()?,
            "search_lag" => self.search_lag = value.parse().map_err(|_| "search_lag is in seconds".to_owned())?,
            "notifies" => self.notifies = flag()?,
            "settle" => self.batch_due = true,
            _ => {
                return Err(
                    "merchant_id, public_key, private_key, request_keys, check_duplicates, search_lag, notifies or settle"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
