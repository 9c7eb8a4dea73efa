//! Payments that provably nobody executed, and that the application asks for again.
//!
//! "Not executed" is final for the requests that were made, and says nothing about the next one: an application that sends
//! the same request under the same key again means "then do it now". A gateway would do it, too: what never reached it, or
//! what it refused before its idempotency layer, left no trace behind that key. So the same key opens another *round* of the
//! same payment, with everything that earlier rounds found out still in force.
//!
//! A round begins on proof only. Every attempt so far is known to have had no effect and to have none in future, nobody
//! owes a release, and no word of a decline, of a customer or of an operator ended the payment. What is merely not heard of
//! keeps the payment where it was.
//!
//! # Which gateways a round may ask, and under which keys
//!
//! | what the gateway saw of earlier rounds | may it be asked again |
//! |---|---|
//! | nothing: no byte, or never the last one | yes, under the very key of the earlier attempt |
//! | a request that it refused before doing anything, and said so | yes, under the very key: no gateway keeps such an answer, and one that did would only repeat it |
//! | a fence, in whatever state | no: its key may be claimed, and what a look-up finds there may be the fenced attempt's |
//!
//! Keys stay functions of the payment (D6). A fresh key for a new round would be weaker: were a proof wrong, the old key is
//! the lock that keeps the second execution out.
//!
//! A payment that a reference in the request names (and no key) has no rounds: its failure frees the reference, and the next
//! request opens a payment of its own. Both together would be two payments for one order.

use super::event::Verdict;
use super::plan::KeyKind;
use super::record::{Decision, Failure};
use super::state::{Attempt, Here, Phase, State};
use super::turn::Turn;
use crate::gateway::Leg;
use crate::gateway::outcome::{Outcome, Rejection};

/// An application that asks more often than this for what nobody can execute gets the last answer again: a payment's
/// records have to stay few.
const ATTEMPTS: usize = 64;

impl State {
    /// The attempts to take the payment of the present round, with their numbers.
    pub fn round(&self) -> impl DoubleEndedIterator<Item = (u16, &Attempt)> {
        let earlier = self.earlier;
        self.pays().filter(move |(n, _)| *n > earlier)
    }

    /// Whether the application's next request with the same key tries again.
    pub fn reopens(&self) -> bool {
        let unexecuted = Failure::NotExecuted;
        let told =
            matches!(self.told, Some(Verdict::Failed { why, .. }) if why == unexecuted || why == Failure::Rejected);
        told && matches!(self.phase, Phase::Failed { .. })
            && !self.closed
            && !self.abandoned
            && !self.owes()
            && self.winner.is_none()
            && self.plan.policy.key == KeyKind::Application
            && self.attempts.len() < ATTEMPTS
            && self.pays().all(|(_, attempt)| never_executed(attempt))
            && self.first_again().is_some()
    }

    /// The first gateway that another round may ask.
    fn first_again(&self) -> Option<u8> {
        let last = self.last();
        self.open_behind(0, last)
    }

    /// The first gateway of the plan from this index on that the first `earlier` attempts left open.
    pub(super) fn open_behind(&self, from: u8, earlier: u16) -> Option<u8> {
        let planned = u8::try_from(self.plan.gateways.len()).unwrap_or(u8::MAX);
        (from..planned).find(|gateway| self.left_open(*gateway, earlier))
    }

    /// Whether nothing of the first `earlier` attempts is left at a gateway: they never arrived, or were refused before
    /// anything was done, and nothing that could end a later attempt was ever sent after them.
    fn left_open(&self, gateway: u8, earlier: u16) -> bool {
        let mut before = self.numbered().take_while(|(n, _)| *n <= earlier);
        !before.any(|(_, attempt)| {
            let traces = match attempt.leg {
                Leg::Charge | Leg::Auth => attempt.known.outcome() == Outcome::Fenced || attempt.known.fenced(),
                Leg::Lookup => false,
                Leg::Fence | Leg::Capture | Leg::Void | Leg::Refund => true,
            };
            attempt.gateway == gateway && traces
        })
    }
}

/// Whether an attempt was, and will be, executed by nobody: for want of arriving, by refusal or by fence.
fn never_executed(attempt: &Attempt) -> bool {
    let never = matches!(
        attempt.known.outcome(),
        Outcome::NotSent | Outcome::Fenced | Outcome::Rejected(Rejection::Transient)
    );
    never && !attempt.released
}

impl Turn {
    /// The application asks again for what nobody executed.
    pub(super) fn reopen(&mut self) {
        let Some(first) = self.s.first_again() else { return };
        let in_flight = std::mem::take(&mut self.s.here.in_flight);
        self.s.here = Here {
            body: true,
            caller: true,
            in_flight,
            ..Here::default()
        };
        let after = self.s.pays().map(|(n, _)| n).collect();
        self.decide(Decision::Reopened { after });
        self.pay(first);
    }
}
