//! Custom gateways: what the configuration describes, spoken without code.
//!
//! A description says how each request is written (templates) and what each answer means (JSON pointers, words for states,
//! codes of declines, statuses that refuse). It makes a gateway that payments are taken *to*; applications speak one of the
//! dialects.
//!
//! What it refuses, and why:
//!
//! * It claims no fence. Whether a gateway rejects a late original is found out by certification of a dialect, never by a
//!   line of configuration: an unknown outcome is looked up where the description says how, and stays in doubt otherwise.
//! * It believes nothing without the header that the gateway's own answers have, no 5xx, and no state that is no word of
//!   the description. An answer for another amount, currency or reference is a conflict.
//! * Currencies whose decimals differ from ISO 4217's cannot be named, so that no amount is ever scaled by a guess.
//! * 3-D Secure results have no template, and a payment that carries one stays where it is.

mod observe;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};

use super::canonical::{Answer, EarlierAttempt, ObjectKind, Operation, Refusal, Request};
use super::outcome::Observation;
use super::{
    Accepted, Account, Capabilities, FenceStrength, Gateway, Head, Incoming, Leg, Outgoing, OwnError, Recognised, Reply,
};
use crate::config::model::custom::Custom as Description;
use crate::config::model::{Credentials, Dialect};

/// A gateway by its description.
#[derive(Debug)]
pub struct Custom {
    description: Arc<Description>,
    capabilities: Capabilities,
}

/// The gateway of a description. It lives as long as the process, as every dialect does: there are as many as an operator
/// has written different ones since the start.
pub fn of(description: &Arc<Description>) -> &'static Custom {
    static KNOWN: Mutex<Vec<&'static Custom>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(same) = known.iter().find(|custom| custom.description == *description) {
        return same;
    }
    let new: &'static Custom = Box::leak(Box::new(Custom::new(Arc::clone(description))));
    known.push(new);
    new
}

impl Custom {
    fn new(description: Arc<Description>) -> Self {
        let reads = description.retrieve.is_some() || description.find.is_some();
        let keys = description.idempotency.as_ref();
        let capabilities = Capabilities {
            fence: if reads { FenceStrength::F1 } else { FenceStrength::F0 },
            manual_capture: description.authorize.is_some() && description.capture.is_some(),
            partial_capture: description.partial_capture,
            multiple_captures: false,
            void: description.void.is_some(),
            partial_refund: description.partial_refund,
            asynchronous_modifications: !description.answers.accepted.is_empty(),
            server_side_card: description.card.is_some(),
            external_three_ds: false,
            network_transaction_id: description.names("network_transaction_id"),
            idempotency_hours: keys.map_or(0, |keys| keys.hours),
            idempotency_key_len: keys.map_or(0, |keys| keys.max_length),
        };
        Self {
            description,
            capabilities,
        }
    }
}

impl Gateway for Custom {
    fn dialect(&self) -> Dialect {
        Dialect::Custom
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn instruments(&self) -> &'static [Accepted] {
        match (self.description.token.is_some(), self.description.card.is_some()) {
            (true, true) => &[Accepted::Token, Accepted::Card],
            (false, true) => &[Accepted::Card],
            (true, false) => &[Accepted::Token],
            (false, false) => &[],
        }
    }

    /// Nothing: no application speaks it to Sentinel.
    fn recognise(&self, _method: &Method, _path: &str) -> Recognised {
        Recognised {
            operation: Operation::Opaque,
            object: None,
        }
    }

    fn idempotency_key(&self, _head: &Head, _body: &[u8]) -> Result<Option<String>, Refusal> {
        Ok(None)
    }

    fn parse(
        &self,
        _recognised: &Recognised,
        _head: &Head,
        _body: &[u8],
        _settings: &BTreeMap<String, String>,
    ) -> Result<Request, Refusal> {
        Err(Refusal::Operation("reading requests of a custom gateway".to_owned()))
    }

    fn encode(&self, request: &Request, account: &Account) -> Result<Outgoing, Refusal> {
        write::request(&self.description, request, account)
    }

    fn currencies(&self, _credentials: &Credentials, _settings: &BTreeMap<String, String>) -> Option<Vec<String>> {
        Some(self.description.currencies.clone())
    }

    fn observe(&self, leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
        observe::answer(&self.description, leg, request, reference, answer)
    }

    /// Nothing is claimed.
    fn fence(&self, _earlier: &EarlierAttempt, _account: &Account) -> Option<Outgoing> {
        None
    }

    fn lookup(&self, earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
        write::lookup(&self.description, earlier, account)
    }

    fn probe(&self, account: &Account) -> Option<Outgoing> {
        write::probe(&self.description, account)
    }

    fn render(&self, _answer: &Answer, head: &Head, _body: &[u8]) -> Reply {
        let error = OwnError {
            status: StatusCode::NOT_IMPLEMENTED,
            code: "custom_gateway",
            message: "Applications do not speak custom gateways to API Sentinel.".to_owned(),
            retry: false,
        };
        self.render_error(&error, head)
    }

    fn render_error(&self, error: &OwnError, _head: &Head) -> Reply {
        super::errors::render(Dialect::Custom, error, "")
    }

    fn mint(&self, kind: ObjectKind, seed: &[u8; 16]) -> String {
        let digest = Sha256::new()
            .chain_update(format!("{kind:?}"))
            .chain_update(seed)
            .finalize();
        digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The headers of a request: the description's, and the key where there is one.
fn headers(pairs: impl IntoIterator<Item = (http::HeaderName, String)>) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, text) in pairs {
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| Refusal::Account(format!("a value for the header {name}")))?;
        // Which of them holds a credential is the operator's business: none is shown.
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
