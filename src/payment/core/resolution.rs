//! What a person says of a payment that a machine cannot bring to its end.
//!
//! A person has seen the gateways' own books, and may know what no request of ours can ask. So it is taken as the truth
//! wherever nothing is proven, and refused wherever it contradicts what is: "failed" is not said of a payment whose effect
//! is known to be live, and "succeeded" not of an attempt that provably had none. Two proofs that contradict each other
//! are what a person is for. Whatever is proven later against a person's word brings the payment back to a person.

#[cfg(test)]
mod tests;

use super::event::{Resolution, Verdict};
use super::keys::Key;
use super::plan::Intent;
use super::record::{Decision, Failure, Hold, Record};
use super::state::{Phase, Proof, State, Why};
use super::turn::Turn;
use crate::gateway::Leg;
use crate::gateway::outcome::Outcome;

/// Why a resolution is refused. Nothing was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Objection {
    /// There is no payment.
    #[error("the payment was never opened")]
    NotOpen,
    /// A person closed it.
    #[error("a person has resolved it already")]
    Closed,
    /// The machine came to the end by itself.
    #[error("its outcome is proven, nothing is owed: there is nothing to resolve")]
    Finished,
    /// Not one of its attempts to pay.
    #[error("attempt {n} is none of its attempts to take the payment")]
    NoSuchAttempt {
        /// The number given.
        n: u16,
    },
    /// Its answer may come at any moment.
    #[error("attempt {n} is under way: wait for its outcome")]
    UnderWay {
        /// Which.
        n: u16,
    },
    /// Evidence says that there was no effect, or that it is gone.
    #[error("attempt {n} provably has no effect")]
    NoEffect {
        /// Which.
        n: u16,
    },
    /// Evidence says that money is held or was taken.
    #[error("attempt {n} provably has a live effect: void or refund it at its gateway, and resolve it as released")]
    Effect {
        /// Which.
        n: u16,
    },
    /// Money is held at most, not taken.
    #[error("attempt {n} asked for a hold only, and nothing has captured it")]
    NotCaptured {
        /// Which.
        n: u16,
    },
    /// A void, refund or fence was sent that may yet end it.
    #[error("a void, refund or fence of attempt {n} was sent and may have ended it, or may yet")]
    MayEnd {
        /// Which.
        n: u16,
    },
    /// The payment's one effect is recorded already.
    #[error("the payment's effect is recorded as that of attempt {w}")]
    Winner {
        /// Whose it is.
        w: u16,
    },
    /// The application believes that nothing was taken.
    #[error(
        "the application was told that it failed: void or refund attempt {n} at its gateway, and resolve it as released"
    )]
    ToldFailed {
        /// Which.
        n: u16,
    },
    /// The machine cannot go on.
    #[error("two proofs about attempt {n} contradict each other, and asking again cannot settle it")]
    Contradiction {
        /// Which.
        n: u16,
    },
    /// The machine is at work.
    #[error("nobody holds it: Sentinel is at work on it by itself")]
    NotHeld,
}

impl State {
    /// Why a person's word would be refused now; `None` when it would be taken.
    pub fn objection(&self, resolution: Resolution) -> Option<Objection> {
        if self.phase == Phase::New {
            return Some(Objection::NotOpen);
        }
        if self.closed {
            return Some(Objection::Closed);
        }
        if self.finished() {
            return Some(Objection::Finished);
        }
        if let Some(n) = self.moving(resolution) {
            return Some(Objection::UnderWay { n });
        }
        match resolution {
            Resolution::Succeeded { n } => self.against_success(n),
            Resolution::Failed => self.effect_beside(None).map(|n| Objection::Effect { n }),
            Resolution::Released { n } => match self.attempt(n).filter(|attempt| attempt.why == Why::Pay) {
                None => Some(Objection::NoSuchAttempt { n }),
                Some(attempt) if attempt.known.conflict() => Some(Objection::Contradiction { n }),
                Some(attempt) if attempt.harmless() => Some(Objection::NoEffect { n }),
                Some(_) => None,
            },
            Resolution::Continue if self.phase != Phase::Manual => Some(Objection::NotHeld),
            Resolution::Continue => self
                .numbered()
                .find(|(_, attempt)| attempt.known.conflict())
                .map(|(n, _)| Objection::Contradiction { n }),
        }
    }

    /// An exchange under way that may change what a person has seen. Questions do not; a fence by the object's id may.
    fn moving(&self, resolution: Resolution) -> Option<u16> {
        let resolves = resolution != Resolution::Continue;
        self.numbered()
            .find(|&(n, attempt)| {
                let flies = self.here.in_flight.contains(&n);
                let moves = match attempt.leg {
                    Leg::Lookup => false,
                    Leg::Fence => attempt.key == Key::BY_ID,
                    Leg::Charge | Leg::Auth | Leg::Capture | Leg::Void | Leg::Refund => true,
                };
                resolves && moves && (flies || (attempt.why == Why::Pay && attempt.pending()))
            })
            .map(|(n, _)| n)
    }

    fn against_success(&self, n: u16) -> Option<Objection> {
        let Some(attempt) = self.attempt(n).filter(|attempt| attempt.why == Why::Pay) else {
            return Some(Objection::NoSuchAttempt { n });
        };
        if attempt.harmless() {
            return Some(Objection::NoEffect { n });
        }
        if matches!(self.told, Some(Verdict::Failed { .. })) {
            return Some(Objection::ToldFailed { n });
        }
        // A fence that is still on its way ends a hold that it finds; money that was taken it leaves alone.
        let threatened = attempt.leg == Leg::Auth && self.winner.is_none() && self.fence_loose(n);
        if self.ended(n) || threatened {
            return Some(Objection::MayEnd { n });
        }
        if let Some(n) = self.effect_beside(Some(n)) {
            return Some(Objection::Effect { n });
        }
        if let Some(w) = self.winner.filter(|w| *w != n) {
            return Some(Objection::Winner { w });
        }
        let captured = self.numbered().any(|(_, other)| {
            other.of == Some(n) && other.leg == Leg::Capture && !other.known.no_effect() && other.why == Why::Settle
        });
        // What was asked for as a hold is money taken only if something captured it, whatever is known of the hold.
        let held = attempt.leg == Leg::Auth && attempt.known.outcome() != Outcome::Succeeded;
        (held && self.plan.intent == Intent::Sale && !captured).then_some(Objection::NotCaptured { n })
    }

    /// A live effect that is proven, of another attempt than this one.
    fn effect_beside(&self, n: Option<u16>) -> Option<u16> {
        self.pays()
            .find(|(other, attempt)| Some(*other) != n && attempt.known.effect() && !attempt.released)
            .map(|(other, _)| other)
    }

    /// Whether anything that ends an effect was ever sent against `target` and is not proven to have done nothing.
    pub(super) fn ended(&self, target: u16) -> bool {
        self.attempts.iter().any(|attempt| {
            attempt.of == Some(target)
                && (attempt.leg == Leg::Void || (attempt.leg == Leg::Refund && attempt.why == Why::Release))
                && !attempt.known.no_effect()
        })
    }

    /// Whether a fence against `target` is not concluded: it may yet end what it finds. A concluded one vouches for the
    /// others: what it could not end they cannot end either, if they are of its kind or only claim the key.
    pub(super) fn fence_loose(&self, target: u16) -> bool {
        let fences = || {
            let attempts = self.attempts.iter();
            attempts.filter(|attempt| attempt.of == Some(target) && attempt.leg == Leg::Fence)
        };
        let vouched = |kind| fences().any(|fence| fence.over() && (fence.key == kind || fence.key == Key::BY_ID));
        fences().any(|fence| !fence.over() && !vouched(fence.key))
    }

    /// What a person's word means for the payment as a whole.
    pub(super) fn resolve(&mut self, resolution: Resolution) {
        match resolution {
            Resolution::Succeeded { n } => {
                self.winner = Some(n);
                self.phase = match self.held(n) {
                    true => Phase::Authorised { n },
                    false => Phase::Succeeded { n },
                };
                self.closed = true;
            }
            Resolution::Failed => {
                self.phase = Phase::Failed {
                    n: None,
                    why: Failure::Operator,
                };
                self.closed = true;
            }
            Resolution::Released { n } => {
                if let Some(attempt) = self.attempt_mut(n) {
                    attempt.released = true;
                }
                if self.phase == Phase::Manual {
                    self.go_on();
                }
            }
            Resolution::Continue => self.go_on(),
        }
    }

    /// The next step finds the right phase again from what is known.
    fn go_on(&mut self) {
        let of = self.pays().next_back().map_or(0, |(n, _)| n);
        self.phase = Phase::InDoubt { of };
    }

    /// Whether success means that money is held for the application's own capture.
    fn held(&self, n: u16) -> bool {
        self.plan.intent == Intent::Authorize && self.attempt(n).is_some_and(|attempt| attempt.leg == Leg::Auth)
    }
}

impl Turn {
    /// Takes a person's word. `false` when nothing is to be decided after it.
    pub(super) fn resolve(&mut self, operator: String, reason: String, resolution: Resolution) -> bool {
        if self.s.objection(resolution).is_some() {
            return false;
        }
        match resolution {
            Resolution::Succeeded { n } if self.s.winner.is_none() => self.decide(Decision::Winner { n }),
            Resolution::Failed => {
                if let Some(n) = self.s.winner {
                    self.decide(Decision::WinnerRevoked { n });
                }
            }
            _ => {}
        }
        self.record(Record::ManualResolved {
            operator,
            reason,
            resolution,
        });
        let verdict = match resolution {
            Resolution::Succeeded { n } if self.s.held(n) => Verdict::Authorised { n },
            Resolution::Succeeded { n } => Verdict::Succeeded { n },
            Resolution::Failed => Verdict::Failed {
                n: None,
                why: Failure::Operator,
            },
            Resolution::Released { .. } | Resolution::Continue => return true,
        };
        // Nobody drives a closed payment: whoever closes it vouches for what it owed.
        let owed: Vec<u16> = self
            .s
            .obligations
            .iter()
            .filter(|owed| owed.proof.is_none())
            .map(|owed| owed.target)
            .collect();
        for target in owed {
            let proof = match self.s.winner == Some(target) {
                true => Proof::Won,
                false => Proof::Vouched,
            };
            self.discharge(target, proof);
        }
        self.seal(verdict);
        false
    }

    /// What became known against the word that closed the payment; a person has to look again.
    pub(super) fn disproved(&self) -> Option<Hold> {
        if let Some(n) = self.s.effect_beside(self.s.winner) {
            return Some(Hold::Unexplained { n });
        }
        let n = self.s.winner?;
        let none = self.s.attempt(n).is_some_and(|attempt| attempt.known.no_effect());
        none.then_some(Hold::Conflict { n })
    }
}
