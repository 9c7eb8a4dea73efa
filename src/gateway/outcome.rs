//! What is known of an attempt, and on what evidence.
//!
//! The order is one of information (safety.md 2.2): `Unknown` is the bottom; a definite outcome never changes into
//! another, except that an authorisation may become a success; two incompatible proofs are a conflict for a person.

use serde::{Deserialize, Serialize};

use crate::money::Amount;

pub use crate::money::DeclineClass;

/// What is known of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Provably not executed: the request never arrived whole.
    NotSent,
    /// Provably not executed: the gateway refused it before execution.
    Rejected(Rejection),
    /// Executed, and declined.
    Declined(DeclineClass),
    /// It can never be executed any more.
    Fenced,
    /// The customer has to act; the handle may still be completed.
    ActionRequired,
    /// Money is held.
    Authorised,
    /// Money was taken (or, for a void, refund or capture, it was done).
    Succeeded,
    /// Sent, and nothing proved.
    Unknown,
    /// Two proofs that cannot both be true.
    Conflict,
}

/// Whose refusal it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The gateway is busy or limits: another gateway may take it.
    Transient,
    /// The request is wrong: no gateway will do better.
    Request,
    /// Our account at that gateway is at fault (key, permission, configuration).
    Account,
}

/// A decline as the gateway told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The canonical name of `declines.csv`, e.g. `insufficient_funds`.
    pub canonical: String,
    /// What it allows.
    pub class: DeclineClass,
    /// The gateway's own code.
    pub raw_code: String,
    /// The gateway's own sentence, cut to 200 characters; never shown unescaped.
    pub message: String,
    /// The network's advice code, when given.
    pub advice: Option<String>,
}

/// What a complete answer proves and says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// What it proves.
    pub outcome: Outcome,
    /// The payment object's id at the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<String>,
    /// The execution's id at the gateway (charge, capture, authorisation), where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charge_id: Option<String>,
    /// The refund's or modification's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modification_id: Option<String>,
    /// The amount the gateway says it held or moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// The decline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decline: Option<Decline>,
    /// Whether this was accepted but is not yet done (Adyen's `received`, PayPal's `PENDING`). The outcome is then
    /// [`Outcome::Unknown`]: a webhook or a look-up may still prove either end, and only that lifts it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Of a fence only: its key was taken by the original, which therefore arrived. The fence did nothing and never will;
    /// what became of the original is not said (row 18 of safety.md 2.3).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arrived: bool,
    /// Seconds to wait before asking again, when the gateway said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// What may be shown of the card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<super::canonical::CardView>,
    /// Network transaction id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_transaction_id: Option<String>,
    /// The issuer's approval code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_code: Option<String>,
    /// Where the customer has to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// A short machine-readable note on which rule decided (e.g. `native_decline`, `foreign_answer`), for the ledger.
    pub rule: String,
}

/// An observation that proves nothing.
pub fn unknown(rule: &str) -> Observation {
    Observation::bare(Outcome::Unknown, rule)
}

impl Observation {
    /// An observation that says nothing but its outcome and the rule it rests on.
    pub fn bare(outcome: Outcome, rule: &str) -> Self {
        Self {
            outcome,
            payment_id: None,
            charge_id: None,
            modification_id: None,
            amount: None,
            decline: None,
            pending: false,
            arrived: false,
            retry_after: None,
            card: None,
            network_transaction_id: None,
            approval_code: None,
            redirect: None,
            rule: rule.to_owned(),
        }
    }
}
