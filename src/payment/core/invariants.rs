//! What must hold of every state, checked after every step, in production too.
//!
//! A violation is a defect of Sentinel's own. It must not crash the process, where a thousand other payments are in
//! flight, and it must not act: the step is thrown away and the payment waits for a person.

use super::event::Verdict;
use super::state::{Cause, Phase, State, Why};
use crate::config::model::Mode;
use crate::gateway::Leg;

/// The rule that a state breaks, if it breaks one.
pub fn broken(state: &State) -> Option<&'static str> {
    if matches!(state.phase, Phase::New | Phase::Manual) || state.closed {
        return None;
    }
    let winner = state.winner;
    if winner.is_some_and(|w| !state.attempt(w).is_some_and(|attempt| attempt.why == Why::Pay)) {
        return Some("winner_pays");
    }
    let revoked = |n: u16| state.attempt(n).is_some_and(|attempt| attempt.released);
    for attempt in &state.attempts {
        let own = attempt.why == Why::Settle || matches!(attempt.why, Why::FollowUp(_));
        if own && attempt.leg == Leg::Capture && attempt.of != winner && !attempt.of.is_some_and(revoked) {
            return Some("only_the_winner_is_captured");
        }
        if attempt
            .of
            .is_some_and(|of| state.attempt(of).is_none_or(|target| target.gateway != attempt.gateway))
        {
            return Some("modifications_stay_at_the_owner");
        }
    }
    for (n, attempt) in state.pays() {
        if attempt.known.effect() && !attempt.released && winner != Some(n) && !state.owed(n) && winner.is_some() {
            return Some("every_other_effect_is_owed");
        }
    }
    let dangerous = state.pays().filter(|(_, attempt)| !attempt.harmless()).count();
    if state.plan.mode == Mode::Fence && dangerous > 1 {
        return Some("one_live_attempt_in_fence_mode");
    }
    match state.told {
        Some(Verdict::Failed { .. }) if dangerous > 0 => return Some("told_failed_has_no_effect"),
        Some(Verdict::Succeeded { n }) if !state.abandoned => {
            if winner != Some(n) {
                return Some("told_success_is_the_winner");
            }
            let released = state
                .attempts
                .iter()
                .any(|attempt| attempt.of == Some(n) && attempt.why == Why::Release && !attempt.known.no_effect());
            let owed = state
                .obligations
                .iter()
                .any(|owed| owed.target == n && owed.proof.is_none() && owed.cause != Cause::Undelivered);
            if released || owed {
                return Some("told_success_is_not_released");
            }
        }
        _ => {}
    }
    let books = state.books();
    if books
        .held
        .is_some_and(|held| books.captured.saturating_add(books.capturing) > held)
        || (books.held.is_some() && books.refunded.saturating_add(books.refunding) > books.captured)
    {
        return Some("never_more_than_captured");
    }
    None
}
