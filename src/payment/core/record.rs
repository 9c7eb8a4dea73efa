//! The records of a payment (safety.md 2.4): append-only, and all that survives a crash.
//!
//! A [`State`](super::State) is nothing but the fold of its records ([`State::fold`](super::State::fold)). No record holds
//! card data, a secret, a request body or an application's key.

use serde::{Deserialize, Serialize};

use super::event::{Finding, Resolution, Verdict};
use super::keys::Key;
use super::plan::Pinned;
use super::state::{Cause, Phase, Proof, Why};
use crate::gateway::Leg;
use crate::money::Amount;
use crate::upstream::Evidence;

/// One durable fact about a payment. The shell stamps each with the ledger's clock and chains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The payment exists. Identity (tenant, key hash, fingerprint, order reference) stands in the ledger's row.
    IntentOpened {
        /// What was decided.
        plan: std::sync::Arc<Pinned>,
    },
    /// Attempt `n` may be sent from now on (D1).
    AttemptPlanned {
        /// Attempts count from 1.
        n: u16,
        /// Index in the plan.
        gateway: u8,
        /// What the request is for.
        leg: Leg,
        /// The attempt that it acts on or asks about.
        of: Option<u16>,
        /// On whose behalf.
        why: Why,
        /// Its idempotency key.
        key: Key,
        /// How much; `None` when the whole or unknown.
        amount: Option<Amount>,
        /// Unix seconds.
        at: i64,
    },
    /// Attempt `n` may be sent once more with the same key. From now on "not sent" and "rejected" prove nothing about it.
    AttemptResent {
        /// Which.
        n: u16,
        /// Unix seconds.
        at: i64,
    },
    /// Something became known of attempt `n`.
    AttemptObserved {
        /// Which.
        n: u16,
        /// The fence or look-up that found it; `None` for its own answer or a webhook.
        via: Option<u16>,
        /// What.
        finding: Box<Finding>,
        /// The exchange it rests on; `None` for a webhook, and for what a crash left behind.
        evidence: Option<Box<Evidence>>,
        /// Unix seconds.
        at: i64,
    },
    /// A decision.
    Decision(Decision),
    /// The payment owes the release of attempt `target` (D4: same transaction as the decision that creates it).
    ObligationOpened {
        /// Whose effect, if it has one, is to be voided or refunded.
        target: u16,
        /// Why.
        cause: Cause,
    },
    /// The obligation is discharged.
    ObligationClosed {
        /// Whose.
        target: u16,
        /// By what proof.
        proof: Proof,
    },
    /// What the application is told, for good unless it has to act first. The shell seals the rendered answer beside it.
    ResponseSealed {
        /// What.
        verdict: Verdict,
    },
    /// The application asked for a follow-up.
    FollowUpOpened {
        /// Keyed hash of the application's idempotency key for it; `None` without a key.
        request: Option<String>,
        /// Capture, void or refund.
        leg: Leg,
        /// How much, when it was said.
        amount: Option<Amount>,
        /// Of a capture: whether the rest stays held, for another one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keeps: bool,
    },
    /// The application went without its answer, and the route voids undelivered payments.
    Abandoned,
    /// Another owner drives the payment from now on.
    LeaseTaken {
        /// Who.
        owner: String,
        /// The fencing token of the lease.
        epoch: u64,
    },
    /// Nothing moves until a person resolves it.
    ManualHold {
        /// Why.
        reason: Hold,
    },
    /// A person resolved it.
    ManualResolved {
        /// Who.
        operator: String,
        /// Why, in words.
        reason: String,
        /// To what.
        resolution: Resolution,
    },
}

impl Record {
    /// Reads a record from its JSON. Those that every payment has are read in one pass: what says which record it is stands
    /// first, and need not be looked for in a copy of the whole.
    ///
    /// # Errors
    /// When it is none that this program knows.
    pub fn read(json: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Opened {
            plan: std::sync::Arc<Pinned>,
        }
        #[derive(Deserialize)]
        struct Planned {
            n: u16,
            gateway: u8,
            leg: Leg,
            of: Option<u16>,
            why: Why,
            key: Key,
            amount: Option<Amount>,
            at: i64,
        }
        #[derive(Deserialize)]
        struct Observed {
            n: u16,
            via: Option<u16>,
            finding: Box<Finding>,
            evidence: Option<Box<Evidence>>,
            at: i64,
        }
        let name = json
            .strip_prefix(r#"{"record":""#)
            .and_then(|rest| rest.split('"').next());
        Ok(match name {
            Some("intent_opened") => {
                let Opened { plan } = serde_json::from_str(json)?;
                Self::IntentOpened { plan }
            }
            Some("attempt_planned") => {
                let read: Planned = serde_json::from_str(json)?;
                Self::AttemptPlanned {
                    n: read.n,
                    gateway: read.gateway,
                    leg: read.leg,
                    of: read.of,
                    why: read.why,
                    key: read.key,
                    amount: read.amount,
                    at: read.at,
                }
            }
            Some("attempt_observed") => {
                let read: Observed = serde_json::from_str(json)?;
                Self::AttemptObserved {
                    n: read.n,
                    via: read.via,
                    finding: read.finding,
                    evidence: read.evidence,
                    at: read.at,
                }
            }
            _ => serde_json::from_str(json)?,
        })
    }
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Another gateway may be asked (D2).
    FailoverLicensed {
        /// The attempts that the licence speaks of: all made so far.
        after: Vec<u16>,
        /// On what ground.
        ground: Ground,
    },
    /// The payment's one effect is this attempt's (D3).
    Winner {
        /// Which.
        n: u16,
    },
    /// The winner's effect is proven gone.
    WinnerRevoked {
        /// Which.
        n: u16,
    },
    /// No effect exists, and none will.
    Failed {
        /// The attempt whose answer is the failure's; `None` when no gateway executed or refused anything.
        n: Option<u16>,
        /// Why.
        why: Failure,
    },
    /// The application's deadline passed without an outcome.
    Parked,
    /// The application asked again, and waits.
    Resumed,
    /// Nobody executed the payment and the application was told so; it asks again, and every gateway that is left open may
    /// be asked (D2).
    Reopened {
        /// The attempts that the licence speaks of: all made so far.
        after: Vec<u16>,
    },
    /// Any other move.
    Entered(Phase),
}

/// On what ground another gateway may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// Every earlier attempt is proven without effect.
    Proof,
    /// Nothing is captured before one winner is recorded.
    Gated,
    /// The route accepts that the loser is voided or refunded later.
    Compensate,
}

/// Why a payment failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// A gateway declined.
    Declined,
    /// A gateway refused the request.
    Rejected,
    /// No gateway executed it.
    NotExecuted,
    /// The winner's capture failed and the hold was released.
    Revoked,
    /// The application went without its answer, and the effect was released.
    Abandoned,
    /// A person said so, on evidence.
    Operator,
}

/// Why a payment waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum Hold {
    /// Two proofs about one attempt contradict each other.
    Conflict {
        /// Which attempt.
        n: u16,
    },
    /// It is older than the route allows for a machine's efforts.
    Aged,
    /// A capture that the gateway had accepted failed after the application was told of success.
    CaptureFailed {
        /// Which attempt.
        n: u16,
    },
    /// An effect of a payment that the application believes failed, or of a gateway that was never to be used.
    Unexplained {
        /// Which attempt.
        n: u16,
    },
    /// Sentinel's own assertion failed: a defect, and never a reason to crash with other payments in flight.
    Assertion {
        /// Which.
        rule: String,
    },
}
