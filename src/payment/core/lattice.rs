//! The information order on what is known of one attempt (safety.md 2.2).
//!
//! Answers, look-ups, webhooks and a second replica's findings arrive in any order and more than once. What is known is
//! therefore an element of a join semilattice and every finding is joined into it: the order of arrival cannot matter,
//! and a proof is never forgotten.
//!
//! [`Outcome::Fenced`] is kept apart from the rest, as a flag: it says that no execution can follow any more, which is
//! true beside "never arrived" or "declined", and contradicts only a live effect. Were it one more point of a flat
//! order, an action that the customer was asked for and "never arrived" would meet in it and license a failover.

use serde::{Deserialize, Serialize};

use crate::gateway::outcome::{DeclineClass, Outcome, Rejection};

/// What is known of one attempt.
///
/// ```text
///                       Conflict
///   NotSent  Rejected  Declined    Authorised -> Succeeded      x  { fenced, not fenced }
///                          \        /
///                         ActionRequired
///   everything above Unknown; fenced with Authorised or Succeeded is Conflict
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Knowledge {
    /// Never [`Outcome::Fenced`].
    seen: Outcome,
    /// Whether a later execution is proven impossible.
    fenced: bool,
}

impl Default for Knowledge {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl From<Outcome> for Knowledge {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Fenced => Self {
                seen: Outcome::Unknown,
                fenced: true,
            },
            // Not a decline at all: the table of declines says "find out first".
            Outcome::Declined(DeclineClass::Ambiguous) => Self::NOTHING,
            // One top, not two.
            Outcome::Conflict => Self {
                seen: Outcome::Conflict,
                fenced: true,
            },
            seen => Self { seen, fenced: false },
        }
    }
}

impl Knowledge {
    /// Nothing is known: the request may have been executed, or may yet be.
    pub const NOTHING: Self = Self {
        seen: Outcome::Unknown,
        fenced: false,
    };

    /// Both together. Associative, commutative and idempotent.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let seen = join(self.seen, other.seen);
        let fenced = self.fenced || other.fenced;
        let contradiction = fenced && matches!(seen, Outcome::Authorised | Outcome::Succeeded);
        if seen == Outcome::Conflict || contradiction {
            return Self {
                seen: Outcome::Conflict,
                fenced: true,
            };
        }
        Self { seen, fenced }
    }

    /// The outcome as one word.
    pub fn outcome(self) -> Outcome {
        match (self.seen, self.fenced) {
            (Outcome::Unknown | Outcome::ActionRequired, true) => Outcome::Fenced,
            (seen, _) => seen,
        }
    }

    /// Whether a later execution is proven impossible by a fence.
    pub fn fenced(self) -> bool {
        self.fenced
    }

    /// No effect exists, and none will ever come from this attempt.
    pub fn no_effect(self) -> bool {
        matches!(
            self.outcome(),
            Outcome::NotSent | Outcome::Rejected(_) | Outcome::Declined(_) | Outcome::Fenced
        )
    }

    /// Money is held or was taken.
    pub fn effect(self) -> bool {
        matches!(self.seen, Outcome::Authorised | Outcome::Succeeded)
    }

    /// Nothing is proven either way.
    pub fn unknown(self) -> bool {
        self.outcome() == Outcome::Unknown
    }

    /// Two proofs contradict each other.
    pub fn conflict(self) -> bool {
        self.seen == Outcome::Conflict
    }
}

/// The join of everything but fences.
fn join(a: Outcome, b: Outcome) -> Outcome {
    use Outcome::{ActionRequired, Authorised, Conflict, Declined, Rejected, Succeeded, Unknown};
    match (a, b) {
        (a, b) if a == b => a,
        (Unknown, x) | (x, Unknown) => x,
        (Authorised, Succeeded) | (Succeeded, Authorised) => Succeeded,
        (ActionRequired, x @ (Authorised | Succeeded | Declined(_)))
        | (x @ (Authorised | Succeeded | Declined(_)), ActionRequired) => x,
        // Two tellings of one refusal may name it differently; the stricter binds.
        (Declined(x), Declined(y)) => Declined(if strictness(x) >= strictness(y) { x } else { y }),
        (Rejected(x), Rejected(y)) => Rejected(if blame(x) >= blame(y) { x } else { y }),
        _ => Conflict,
    }
}

/// How little a decline allows.
const fn strictness(class: DeclineClass) -> u8 {
    match class {
        DeclineClass::Soft => 0,
        DeclineClass::RetryLater => 1,
        DeclineClass::Config => 2,
        DeclineClass::Hard => 3,
        DeclineClass::Fraud => 4,
        DeclineClass::Ambiguous => 5,
    }
}

/// How little a refusal allows.
const fn blame(rejection: Rejection) -> u8 {
    match rejection {
        Rejection::Transient => 0,
        Rejection::Account => 1,
        Rejection::Request => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Outcome; 16] = [
        Outcome::NotSent,
        Outcome::Rejected(Rejection::Transient),
        Outcome::Rejected(Rejection::Request),
        Outcome::Rejected(Rejection::Account),
        Outcome::Declined(DeclineClass::Soft),
        Outcome::Declined(DeclineClass::RetryLater),
        Outcome::Declined(DeclineClass::Config),
        Outcome::Declined(DeclineClass::Hard),
        Outcome::Declined(DeclineClass::Fraud),
        Outcome::Declined(DeclineClass::Ambiguous),
        Outcome::Fenced,
        Outcome::ActionRequired,
        Outcome::Authorised,
        Outcome::Succeeded,
        Outcome::Unknown,
        Outcome::Conflict,
    ];

    /// Every element that joins of outcomes can reach.
    fn elements() -> Vec<Knowledge> {
        let mut all: Vec<Knowledge> = Vec::new();
        for a in ALL {
            for b in ALL {
                let k = Knowledge::from(a).join(b.into());
                if !all.contains(&k) {
                    all.push(k);
                }
            }
        }
        all
    }

    #[test]
    fn join_is_a_semilattice_over_every_element() {
        let all = elements();
        for &a in &all {
            assert_eq!(a.join(a), a);
            assert_eq!(a.join(Knowledge::NOTHING), a);
            for &b in &all {
                assert_eq!(a.join(b), b.join(a));
                for &c in &all {
                    assert_eq!(a.join(b).join(c), a.join(b.join(c)), "{a:?} {b:?} {c:?}");
                }
            }
        }
    }

    #[test]
    fn no_proof_of_no_effect_survives_beside_a_proof_of_effect() {
        for a in ALL {
            for b in [Outcome::Authorised, Outcome::Succeeded] {
                let (a, b) = (Knowledge::from(a), Knowledge::from(b));
                if a.no_effect() {
                    assert!(a.join(b).conflict(), "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn an_action_asked_for_and_never_arrived_is_a_conflict_even_when_fenced() {
        let fenced = Knowledge::from(Outcome::ActionRequired).join(Outcome::Fenced.into());
        assert_eq!(fenced.outcome(), Outcome::Fenced);
        assert!(fenced.join(Outcome::NotSent.into()).conflict());
    }

    #[test]
    fn a_fence_beside_a_refusal_keeps_the_refusal() {
        let both = Knowledge::from(Outcome::Declined(DeclineClass::Soft)).join(Outcome::Fenced.into());
        assert_eq!(both.outcome(), Outcome::Declined(DeclineClass::Soft));
        assert!(both.fenced() && both.no_effect());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn findings_in_any_order_and_any_number_give_the_same(
            seed in proptest::collection::vec(0usize..ALL.len(), 1..8),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 8..24),
        ) {
            let straight = seed.iter().fold(Knowledge::NOTHING, |k, &i| k.join(ALL[i].into()));
            let shuffled = order.iter().map(|ix| *ix.get(&seed)).chain(seed.iter().rev().copied())
                .fold(Knowledge::NOTHING, |k, i| k.join(ALL[i].into()));
            prop_assert_eq!(straight, shuffled);
        }
    }
}
