//! The state of one payment: the fold of its records, and what this process alone knows.
//!
//! It is written as JSON with every change, and leaves out what says nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::Verdict;
use super::keys::Key;
use super::lattice::Knowledge;
use super::plan::{Intent, Pinned, Plan, PlannedGateway};
use super::record::{Decision, Failure, Ground, Hold, Record};
use crate::config::model::Mode;
use crate::gateway::Leg;
use crate::gateway::outcome::Outcome;
use crate::money::Amount;

/// One payment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    /// Records folded: the ledger appends only to the version that the records were made from.
    pub version: u64,
    /// The lease's fencing token.
    pub epoch: u64,
    /// Where the payment stands.
    pub phase: Phase,
    /// The application was told "in doubt" and nobody waits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parked: bool,
    /// The application went without its answer and the effect is to be released.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandoned: bool,
    /// A person closed it; nothing moves any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// What was decided when it was opened.
    pub plan: Arc<Pinned>,
    /// Attempts; attempt `n` is at index `n - 1`.
    pub attempts: Vec<Attempt>,
    /// How many of the attempts belong to earlier rounds: nobody executed them, and the application asked again.
    #[serde(default)]
    pub earlier: u16,
    /// Releases owed and discharged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<Obligation>,
    /// The attempt whose effect is the payment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<u16>,
    /// What the application was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Verdict>,
    /// What the application asked for later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<FollowUp>,
    /// What this process alone knows; nothing of it survives a crash.
    #[serde(skip)]
    pub here: Here,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Not opened.
    New,
    /// Attempt `n` is under way (in `gated` mode an earlier one may be, too).
    Trying {
        /// The latest attempt.
        n: u16,
    },
    /// Nothing moves until a late execution of attempt `of` is made impossible.
    Fencing {
        /// Which attempt.
        of: u16,
    },
    /// Nothing moves until something is known of attempt `of`.
    InDoubt {
        /// Which attempt.
        of: u16,
    },
    /// No effect exists and none will; the next gateway may be asked as soon as the application brings the body again.
    Licensed,
    /// The customer acts at the winner's gateway.
    ActionRequired {
        /// The winner.
        n: u16,
    },
    /// The winner holds money, as the application asked.
    Authorised {
        /// The winner.
        n: u16,
    },
    /// The winner is recorded, and Sentinel captures it.
    Capturing {
        /// The winner.
        n: u16,
    },
    /// The winner's effect is being released, because its capture failed or nobody took the answer.
    Revoking {
        /// The winner.
        n: u16,
    },
    /// The winner took money.
    Succeeded {
        /// The winner.
        n: u16,
    },
    /// The winner's hold was released at the application's request.
    Voided {
        /// The winner.
        n: u16,
    },
    /// No effect exists and none will.
    Failed {
        /// The attempt whose answer is the failure's.
        n: Option<u16>,
        /// Why.
        why: Failure,
    },
    /// A person is needed.
    Manual,
}

impl Phase {
    /// Whether the payment itself has come to its end (obligations may still be open).
    pub fn settled(self) -> bool {
        matches!(
            self,
            Self::Authorised { .. } | Self::Succeeded { .. } | Self::Voided { .. } | Self::Failed { .. }
        )
    }

    /// The word in labels, logs and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Trying { .. } => "trying",
            Self::Fencing { .. } => "fencing",
            Self::InDoubt { .. } => "in_doubt",
            Self::Licensed => "licensed",
            Self::ActionRequired { .. } => "action_required",
            Self::Authorised { .. } => "authorised",
            Self::Capturing { .. } => "capturing",
            Self::Revoking { .. } => "revoking",
            Self::Succeeded { .. } => "succeeded",
            Self::Voided { .. } => "voided",
            Self::Failed { .. } => "failed",
            Self::Manual => "manual",
        }
    }
}

/// The gateway's ids of what an attempt made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ids {
    /// The payment object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<String>,
    /// The execution (charge, capture, authorisation), where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charge: Option<String>,
    /// The refund or modification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modification: Option<String>,
}

impl Ids {
    fn learn(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.payment, &other.payment),
            (&mut self.charge, &other.charge),
            (&mut self.modification, &other.modification),
        ] {
            if mine.is_none() {
                mine.clone_from(theirs);
            }
        }
    }
}

/// One request to a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// Index in the plan.
    pub gateway: u8,
    /// What it is for.
    pub leg: Leg,
    /// The attempt it acts on or asks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u16>,
    /// On whose behalf.
    pub why: Why,
    /// Its idempotency key.
    pub key: Key,
    /// How much it asks for, and once known how much the gateway says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// What is known of it.
    pub known: Knowledge,
    /// Whether anything was heard of it, be it that nothing is known.
    pub observed: bool,
    /// Accepted by the gateway, to be done later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// How often it was sent with the same key.
    pub sends: u16,
    /// The gateway's ids.
    pub ids: Ids,
    /// Whether its decline was the gateway's own trouble.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gateway_side: bool,
    /// Whether it failed on a reused connection, unsent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    /// Whether its effect is proven released (voided or refunded), or, of a refund, undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// When it was planned, Unix seconds.
    pub at: i64,
}

impl Attempt {
    /// No live effect exists and none will come.
    pub fn harmless(&self) -> bool {
        self.released || self.known.no_effect()
    }

    /// Concluded: the fence, look-up or modification was done.
    pub fn over(&self) -> bool {
        self.known.outcome() == Outcome::Succeeded
    }

    /// A refund that came back: its money is with the merchant again.
    pub fn undone(&self) -> bool {
        self.leg == Leg::Refund && self.released
    }

    /// Planned, and nothing heard yet.
    pub fn pending(&self) -> bool {
        !self.observed && self.known.unknown()
    }
}

/// On whose behalf an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// To take the payment.
    Pay,
    /// To capture the winner of a `gated` sale.
    Settle,
    /// To learn what became of another attempt, or to make it impossible.
    Resolve,
    /// To discharge an obligation.
    Release,
    /// For the application's follow-up of this index.
    FollowUp(u16),
}

/// A release that is owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Obligation {
    /// Whose effect is to be released.
    pub target: u16,
    /// Why.
    pub cause: Cause,
    /// How it was discharged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// Why a release is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Another gateway was asked while this attempt's outcome was unknown.
    Doubt,
    /// Another attempt is the winner.
    Loser,
    /// The winner's capture failed.
    CaptureFailed,
    /// The application went without its answer.
    Undelivered,
}

/// How a release was discharged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// There is nothing to release and never will be.
    NoEffect,
    /// Voided or refunded.
    Released,
    /// It is the winner: there is nothing to release any more.
    Won,
    /// A person vouches for it.
    Vouched,
}

/// A follow-up that the application asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FollowUp {
    /// Keyed hash of its key.
    pub request: Option<String>,
    /// Capture, void or refund.
    pub leg: Leg,
    /// How much, when it was said.
    pub amount: Option<Amount>,
    /// Of a capture: whether the rest stays held, for another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps: bool,
}

/// What one process knows and a crash forgets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Here {
    /// The application's request body is at hand, so that another gateway can be asked.
    pub body: bool,
    /// An application waits for the answer.
    pub caller: bool,
    /// Attempts being exchanged.
    pub in_flight: Vec<u16>,
    /// Attempts whose pause is not over.
    pub waiting: Vec<u16>,
    /// Attempts that were last asked about by a fence; the next question is a look-up, and the other way round.
    pub fenced_last: Vec<u16>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: 0,
            epoch: 0,
            phase: Phase::New,
            parked: false,
            abandoned: false,
            closed: false,
            plan: Arc::new(Pinned::from(Plan {
                mode: Mode::Off,
                intent: Intent::Sale,
                amount: None,
                gateways: Vec::new(),
                policy: super::plan::Policy::default(),
            })),
            attempts: Vec::new(),
            earlier: 0,
            obligations: Vec::new(),
            winner: None,
            told: None,
            follow_ups: Vec::new(),
            here: Here::default(),
        }
    }
}

impl State {
    /// The state that these records, in the order of the ledger, add up to.
    pub fn replay<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut state = Self::default();
        for record in records {
            state.fold(record);
        }
        state
    }

    /// Attempt `n`.
    pub fn attempt(&self, n: u16) -> Option<&Attempt> {
        self.attempts.get(usize::from(n).checked_sub(1)?)
    }

    pub(super) fn attempt_mut(&mut self, n: u16) -> Option<&mut Attempt> {
        self.attempts.get_mut(usize::from(n).checked_sub(1)?)
    }

    /// Attempts with their numbers.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (u16, &Attempt)> {
        self.attempts
            .iter()
            .enumerate()
            .map(|(index, attempt)| (u16::try_from(index + 1).unwrap_or(u16::MAX), attempt))
    }

    /// Attempts to take the payment, with their numbers.
    pub fn pays(&self) -> impl DoubleEndedIterator<Item = (u16, &Attempt)> {
        self.numbered().filter(|(_, attempt)| attempt.why == Why::Pay)
    }

    /// The gateway of an attempt.
    pub fn gateway_of(&self, attempt: &Attempt) -> Option<&PlannedGateway> {
        self.plan.gateway(attempt.gateway)
    }

    /// The attempt that a webhook or another late truth is about: the latest with that gateway and leg which is not
    /// proven unsent, or refused before execution.
    pub fn attribute(&self, gateway: &str, leg: Leg) -> Option<u16> {
        self.numbered()
            .rev()
            .find(|(_, attempt)| {
                attempt.leg == leg
                    && self.gateway_of(attempt).is_some_and(|planned| planned.name == gateway)
                    && !matches!(attempt.known.outcome(), Outcome::NotSent | Outcome::Rejected(_))
            })
            .map(|(n, _)| n)
    }

    /// Whether an obligation for this attempt is open.
    pub fn owed(&self, target: u16) -> bool {
        self.obligations
            .iter()
            .any(|owed| owed.target == target && owed.proof.is_none())
    }

    /// Whether any obligation is open.
    pub fn owes(&self) -> bool {
        self.obligations.iter().any(|owed| owed.proof.is_none())
    }

    /// Whether the ledger may forget the payment once its retention is over: settled, nothing owed, no follow-up in doubt.
    pub fn finished(&self) -> bool {
        self.closed || (self.phase.settled() && !self.owes() && !self.numbered().any(|(_, a)| self.open_follow_up(a)))
    }

    /// Whether an attempt belongs to a follow-up that is not decided.
    pub fn open_follow_up(&self, attempt: &Attempt) -> bool {
        matches!(attempt.why, Why::FollowUp(_)) && attempt.known.unknown()
    }

    /// Takes one record in. Never fails: the ledger is the truth, and what it holds happened.
    pub fn fold(&mut self, record: &Record) {
        self.version += 1;
        match record {
            Record::IntentOpened { plan } => self.plan = Arc::clone(plan),
            Record::AttemptPlanned {
                gateway,
                leg,
                of,
                why,
                key,
                amount,
                at,
                ..
            } => {
                self.attempts.push(Attempt {
                    gateway: *gateway,
                    leg: *leg,
                    of: *of,
                    why: *why,
                    key: *key,
                    amount: *amount,
                    known: Knowledge::NOTHING,
                    observed: false,
                    accepted: false,
                    sends: 1,
                    ids: Ids::default(),
                    gateway_side: false,
                    reused: false,
                    released: false,
                    at: *at,
                });
                if *why == Why::Pay {
                    self.phase = Phase::Trying { n: self.last() };
                }
            }
            Record::AttemptResent { n, .. } => {
                if let Some(attempt) = self.attempt_mut(*n) {
                    attempt.sends += 1;
                }
            }
            Record::AttemptObserved { n, finding, .. } => {
                let Some(attempt) = self.attempt_mut(*n) else { return };
                attempt.observed = true;
                attempt.known = attempt.known.join(finding.outcome.into());
                attempt.accepted = attempt.accepted || finding.pending;
                attempt.released = attempt.released || finding.gone;
                attempt.ids.learn(&finding.ids);
                attempt.gateway_side = finding.gateway_side;
                attempt.reused = finding.reused;
                if attempt.amount.is_none() {
                    attempt.amount = finding.amount;
                }
                // A void that was done, or a refund of the whole, ends the live effect of its target.
                let (leg, why, of) = (attempt.leg, attempt.why, attempt.of);
                let done = attempt.known.outcome() == Outcome::Succeeded;
                let ends = leg == Leg::Void || (leg == Leg::Refund && why == Why::Release);
                if let Some(target) = of.filter(|_| done && ends).and_then(|of| self.attempt_mut(of)) {
                    target.released = true;
                }
            }
            Record::Decision(decision) => self.decide(decision),
            Record::ObligationOpened { target, cause } => {
                self.obligations.push(Obligation {
                    target: *target,
                    cause: *cause,
                    proof: None,
                });
            }
            Record::ObligationClosed { target, proof } => {
                for owed in &mut self.obligations {
                    if owed.target == *target && owed.proof.is_none() {
                        owed.proof = Some(*proof);
                    }
                }
            }
            Record::ResponseSealed { verdict } => self.told = Some(*verdict),
            Record::FollowUpOpened {
                request,
                leg,
                amount,
                keeps,
            } => {
                self.follow_ups.push(FollowUp {
                    request: request.clone(),
                    leg: *leg,
                    amount: *amount,
                    keeps: *keeps,
                });
            }
            Record::Abandoned => self.abandoned = true,
            Record::LeaseTaken { epoch, .. } => self.epoch = *epoch,
            Record::ManualHold { .. } => {
                self.phase = Phase::Manual;
                self.closed = false;
            }
            Record::ManualResolved { resolution, .. } => self.resolve(*resolution),
        }
    }

    fn decide(&mut self, decision: &Decision) {
        match decision {
            Decision::FailoverLicensed { .. } => {}
            Decision::Winner { n } => self.winner = Some(*n),
            Decision::WinnerRevoked { .. } => self.winner = None,
            Decision::Failed { n, why } => self.phase = Phase::Failed { n: *n, why: *why },
            Decision::Parked => self.parked = true,
            Decision::Resumed => self.parked = false,
            Decision::Reopened { .. } => {
                self.told = None;
                self.parked = false;
                self.earlier = self.last();
            }
            Decision::Entered(phase) => self.phase = *phase,
        }
    }

    /// The first attempt to take the payment that may have an effect, now or later.
    pub fn dangerous(&self) -> Option<u16> {
        self.pays().find(|(_, attempt)| !attempt.harmless()).map(|(n, _)| n)
    }

    /// The number of the latest attempt; 0 when there is none.
    pub fn last(&self) -> u16 {
        u16::try_from(self.attempts.len()).unwrap_or(u16::MAX)
    }

    /// The ground on which mode and key let another gateway be asked beside an unknown attempt.
    pub(super) fn beside_unknown(&self) -> Option<Ground> {
        match self.plan.mode {
            Mode::Gated => Some(Ground::Gated),
            Mode::Compensate => Some(Ground::Compensate),
            Mode::Off | Mode::Fence => None,
        }
    }

    /// The hold, when a person is needed for what is known of an attempt.
    pub(super) fn conflict(&self) -> Option<Hold> {
        self.numbered()
            .find(|(_, attempt)| attempt.known.conflict())
            .map(|(n, _)| Hold::Conflict { n })
    }
}
