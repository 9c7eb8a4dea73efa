//! What goes into the core and what comes out.

use serde::{Deserialize, Serialize};

use super::classify::{Wire, classify};
use super::keys::Key;
use super::plan::Plan;
use super::record::{Failure, Hold, Record};
use super::state::Ids;
use crate::gateway::Leg;
use crate::gateway::outcome::{Observation, Outcome};
use crate::money::{Amount, DeclineClass};
use crate::upstream::{Evidence, Progress};

/// Something happened. Time enters here and nowhere else.
#[derive(Clone, Debug)]
pub struct Event {
    /// The ledger's clock, Unix seconds.
    pub at: i64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A request for a payment that the ledger does not know. The caller holds the body and waits.
    Open(Box<Plan>),
    /// The application asked again with the same key and the same fingerprint. The caller holds the body and waits.
    Retry,
    /// An exchange of attempt `n` ended, or a webhook spoke of it. For fences and look-ups the finding is about their
    /// target, except that `NotSent`, `Rejected` and `Unknown` only say that the question was not answered.
    Observed {
        /// Which attempt.
        n: u16,
        /// What was found.
        finding: Box<Finding>,
        /// The exchange; `None` for a webhook.
        evidence: Option<Box<Evidence>>,
    },
    /// Attempt `n` was not sent at all: an open breaker, a request the target cannot carry, missing credentials.
    Skipped {
        /// Which attempt.
        n: u16,
        /// The closed label of the reason.
        reason: &'static str,
    },
    /// The hedge delay passed while attempt `n` was in flight (`gated` mode).
    Hedge {
        /// Which attempt.
        n: u16,
    },
    /// The application's deadline passed.
    Deadline,
    /// The application closed its connection before it had its answer.
    Disconnected,
    /// A pause asked for by [`Action::Schedule`] is over.
    Timer {
        /// The attempt it was asked for.
        n: u16,
    },
    /// The application asks for a capture, void or refund.
    FollowUp {
        /// Keyed hash of its idempotency key; `None` without one.
        request: Option<String>,
        /// Capture, void or refund.
        leg: Leg,
        /// How much; `None` for all that is left.
        amount: Option<Amount>,
        /// Of a capture: whether the rest stays held, for another one.
        keeps: bool,
    },
    /// The payment was loaded from the ledger and its lease taken: after a crash, or from a replica that went silent.
    Recovered {
        /// Who drives it now.
        owner: String,
        /// The lease's fencing token.
        epoch: u64,
    },
    /// Waiting for the application to ask again is over.
    Expired,
    /// The payment is older than the route allows for a machine's efforts.
    Aged,
    /// A person resolves it.
    Resolve {
        /// Who.
        operator: String,
        /// Why, in words.
        reason: String,
        /// To what.
        resolution: Resolution,
    },
}

/// What was found about an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The outcome.
    pub outcome: Outcome,
    /// The gateway's ids.
    pub ids: Ids,
    /// The amount the gateway says it held or moved.
    pub amount: Option<Amount>,
    /// Accepted, but not yet done: the outcome is not proven.
    pub pending: bool,
    /// Of a fence only: it found its key taken by the original, did nothing and never will. The outcome is not proven.
    pub arrived: bool,
    /// The effect was there and is there no more (voided, expired; a refund that failed after it was made). Set by the
    /// core, from a fact that says so of an attempt whose effect is known; never by an adapter.
    pub gone: bool,
    /// Whether a decline was the gateway's own trouble.
    pub gateway_side: bool,
    /// Whether the failure came on a connection that had carried a request before: the gateway may have closed it idle.
    pub reused: bool,
    /// Which rule decided, for people.
    pub rule: String,
}

impl Finding {
    /// A finding that says nothing but an outcome.
    pub fn bare(outcome: Outcome, rule: &str) -> Self {
        Self {
            outcome,
            ids: Ids::default(),
            amount: None,
            pending: false,
            arrived: false,
            gone: false,
            gateway_side: false,
            reused: false,
            rule: rule.to_owned(),
        }
    }

    /// What an exchange proves: [`classify`], with what the answer says beside it.
    pub fn from_exchange(evidence: &Evidence, native: Option<&Observation>, wire: Wire) -> Self {
        let outcome = classify(evidence, native, wire);
        let reused = evidence.reused && evidence.progress != Progress::Committed;
        match native {
            Some(observation) => Self {
                outcome,
                reused,
                ..Self::from_webhook(observation)
            },
            None => Self {
                reused,
                ..Self::bare(outcome, "no_answer")
            },
        }
    }

    /// What a verified webhook says.
    pub fn from_webhook(observation: &Observation) -> Self {
        let gateway_side = observation.decline.as_ref().is_some_and(|decline| {
            decline.class == DeclineClass::RetryLater
                && matches!(decline.canonical.as_str(), "rate_limited" | "gateway_unavailable")
        });
        Self {
            outcome: match observation.outcome {
                Outcome::NotSent => Outcome::Unknown,
                outcome => outcome,
            },
            ids: Ids {
                payment: observation.payment_id.clone(),
                charge: observation.charge_id.clone(),
                modification: observation.modification_id.clone(),
            },
            amount: observation.amount,
            pending: observation.pending,
            arrived: observation.arrived,
            gone: false,
            gateway_side,
            reused: false,
            rule: observation.rule.clone(),
        }
    }
}

/// What a person resolves a payment to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "resolution", rename_all = "snake_case")]
pub enum Resolution {
    /// The payment's effect is this attempt's.
    Succeeded {
        /// Which attempt.
        n: u16,
    },
    /// No effect is left anywhere.
    Failed,
    /// The effect of this attempt was voided or refunded at its gateway, by hand. The machine goes on.
    Released {
        /// Which attempt.
        n: u16,
    },
    /// The machine goes on.
    Continue,
}

/// What the application is told of its payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Money was taken by attempt `n`.
    Succeeded {
        /// Which attempt.
        n: u16,
    },
    /// Money is held by attempt `n`, as the application asked.
    Authorised {
        /// Which attempt.
        n: u16,
    },
    /// The customer has to act at the gateway of attempt `n`.
    ActionRequired {
        /// Which attempt.
        n: u16,
    },
    /// No effect exists and none will. The answer of attempt `n` is the failure's, when there is one.
    Failed {
        /// Which attempt.
        n: Option<u16>,
        /// Why.
        why: Failure,
    },
    /// The outcome is not known. Never sealed, never a plain failure.
    InDoubt {
        /// Whether it is worth asking again at once.
        running: bool,
    },
}

impl Verdict {
    /// Whether nothing else may ever be told.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded { .. } | Self::Authorised { .. } | Self::Failed { .. }
        )
    }
}

/// What the application is told of a follow-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "follow_up", rename_all = "snake_case")]
pub enum FollowUpVerdict {
    /// Attempt `n` did it.
    Done {
        /// Which attempt.
        n: u16,
    },
    /// The gateway accepted it and does it later.
    Accepted {
        /// Which attempt.
        n: u16,
    },
    /// The owner declined or refused; its answer goes back.
    Refused {
        /// Which attempt.
        n: u16,
    },
    /// It provably never reached the owner, or the owner had no time for it; the same request may be sent again.
    NotSent {
        /// Which attempt.
        n: u16,
    },
    /// Its outcome is not known; the same request with the same key asks again.
    InDoubt {
        /// Which attempt.
        n: u16,
    },
    /// Sentinel itself refuses: nothing was sent.
    Impossible(Impossible),
}

/// Why Sentinel itself refuses a follow-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Impossible {
    /// There is nothing to act on: the payment has no effect.
    NoEffect,
    /// The payment itself is still in doubt.
    InDoubt,
    /// More than is left to capture or refund, counting what is still in doubt.
    TooMuch,
    /// The same key with another operation or amount.
    KeyReused,
    /// A void of what was captured, or a capture of what was voided.
    WrongState,
    /// A person holds the payment.
    Held,
}

/// What the shell has to do, in the order of the list. See [`super`] for the law of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make these records durable, all or none, before anything behind this action is begun.
    Persist(Vec<Record>),
    /// Send attempt `n`.
    Send(Send),
    /// Tell every caller that waits for the payment. `replay` when it was told before.
    Answer {
        /// What.
        verdict: Verdict,
        /// Whether it is the sealed answer again.
        replay: bool,
    },
    /// Tell the caller of a follow-up.
    AnswerFollowUp {
        /// Keyed hash of its key; `None` for the one without a key.
        request: Option<String>,
        /// What.
        verdict: FollowUpVerdict,
    },
    /// Deliver [`What::Timer`] for `n` after a pause of this class.
    Schedule {
        /// The attempt.
        n: u16,
        /// Which pause.
        pause: Pause,
    },
    /// Tell people and machines that wait for no answer: log, metric, dashboard, webhook to the application.
    Notify(Notice),
}

/// An attempt to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// Which attempt.
    pub n: u16,
    /// Index in the plan.
    pub gateway: u8,
    /// What the request is for.
    pub leg: Leg,
    /// The attempt it acts on or asks about; its ids and key are in the state.
    pub of: Option<u16>,
    /// Its idempotency key. A fence claims the key of its target instead, where the gateway fences by key.
    pub key: Key,
    /// How much; `None` for the whole.
    pub amount: Option<Amount>,
}

/// How long a pause is: exponential with jitter inside the class, counted by the shell for each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    /// An application waits: 200 ms to 5 s.
    Waiting,
    /// Nobody waits: 1 s to 15 min.
    Background,
}

/// News for people and machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The payment is in doubt.
    InDoubt,
    /// The payment came to its end while nobody waited.
    Settled(Verdict),
    /// Another gateway is asked.
    FailedOver {
        /// Index in the plan.
        from: u8,
        /// Index in the plan.
        to: u8,
    },
    /// A release is owed.
    ObligationOpened {
        /// Whose.
        target: u16,
    },
    /// A release is proven.
    ObligationClosed {
        /// Whose.
        target: u16,
    },
    /// A gateway refused our account or our translation: somebody has to look.
    Misconfigured {
        /// Which attempt.
        n: u16,
    },
    /// A person is needed.
    Manual(Hold),
}
