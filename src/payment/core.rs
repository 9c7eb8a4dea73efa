//! The payment core: what to do next, from what is known, and nothing else.
//!
//! [`step`] is pure. It knows no clock, no socket and no database: time, answers, crashes and the ledger enter as events,
//! and what it wants done leaves as actions. The model checker, the simulation and production call this one function.
//!
//! # What the shell must do
//!
//! **The order of the actions is the law.** They are carried out one after the other, and everything behind an
//! [`Action::Persist`] waits until the ledger has acknowledged it. By this order alone:
//!
//! | rule | how |
//! |---|---|
//! | D1 | `IntentOpened` and `AttemptPlanned` stand in the `Persist` before the `Send` |
//! | D2 | `FailoverLicensed` or `Reopened` stands before the `AttemptPlanned` at another gateway, in the same `Persist` |
//! | D3 | `Winner` stands before the `AttemptPlanned` of its capture |
//! | D4 | `ObligationOpened` stands in the same `Persist` as the decision that creates it |
//! | D5 | `Failed`, and by default success, is sealed before the `Answer` |
//! | D6 | a `Send` names its [`Key`], which [`keys::derive`] computes from the payment alone |
//! | D7 | no action sends an unknown attempt again once 80 % of the gateway's key window is over |
//! | D8 | an error of `Persist` that leaves its durability open is fatal to the process; the shell aborts |
//!
//! - `Persist(records)`: append all or none, at `state.version` of *before* the step and under `state.epoch`. If another
//!   owner was there first (version or epoch differ): **drop the new state and every remaining action**, load the state
//!   again, and deliver the event that was being handled once more if it is `Observed`, `Skipped` or `FollowUp` (late
//!   truth is taken by whoever owns the payment), or serve a waiting application from what was loaded. Whoever lost a race
//!   owns nothing any more: before it drives the payment further it takes the lease again (`Recovered`), because the
//!   other one may have planned an attempt and died.
//! - `Send(send)`: encode attempt `send.n` for its gateway and exchange it on an exclusive connection, the commit byte
//!   withheld until the lease's epoch and the deadline were checked once more: a process that slept through the gateway's
//!   key window sends nothing. `Key::Application` is the application's key verbatim,
//!   `Key::Derived` goes through [`keys::derive`]. Then deliver exactly one `Observed` (built by
//!   [`Finding::from_exchange`]) or `Skipped`, also when the exchange timed out or was dropped. Before the first `Send` of
//!   a pay attempt the shell asks the breaker; an open breaker is `Skipped`, which is NotSent by construction. A request
//!   that the target cannot carry is better left out of the plan; found at encoding it is `Skipped`, too. A `Send` of leg
//!   `Fence` or `Lookup` goes through `Gateway::fence` or `Gateway::lookup` with what the state holds of attempt `of`;
//!   where the dialect returns `None`, deliver `Skipped`. A fence with [`Key::BY_ID`] names its target's object by the id
//!   in the state; every other fence claims its target's key, or names the object that the application's own request
//!   named, and never an id that was learned since.
//! - `Answer`: wake every caller that waits for this payment. `InDoubt` is never a plain failure.
//! - `AnswerFollowUp`: wake the caller of that follow-up.
//! - `Schedule`: deliver `Timer` after a pause of that class. Pauses are forgotten in a crash; `Recovered` makes up for it.
//! - `Notify`: log, count, tell.
//!
//! # Which events the shell must deliver
//!
//! `Open` or `Retry` for each request of the application that is not coalesced with one in this process, and whose sender
//! still waits (a `Retry` may begin another round of what nobody executed: [`State::reopens`]); `Deadline` and
//! `Disconnected` where they apply; `Hedge` after the hedge delay of a `gated` payment; `Recovered` whenever a payment is
//! loaded from the ledger by somebody who does not already hold it, after its lease was taken; `Expired` when a
//! [`Phase::Licensed`] payment is older than the application may ask again; `Aged` when one is older than the route lets a
//! machine try; `Observed` for webhooks, on the attempt that [`State::attribute`] names. Events of one payment are
//! handled one at a time.
//!
//! # What it refuses
//!
//! It never concludes anything from a timeout, never sends a follow-up to another gateway, never says "failed" without
//! proof, and never forgets an obligation. A broken assertion ([`invariants`]) throws the step away and holds the payment
//! for a person.

mod absorb;
mod advance;
pub mod classify;
pub mod event;
mod follow_up;
pub mod invariants;
pub mod keys;
pub mod lattice;
pub mod plan;
pub mod record;
pub mod resolution;
mod round;
pub mod state;
#[cfg(test)]
mod tests;
mod turn;

pub use classify::{Wire, classify};
pub use event::{Action, Event, Finding, FollowUpVerdict, Impossible, Notice, Pause, Resolution, Send, Verdict, What};
pub use follow_up::Books;
pub use keys::Key;
pub use lattice::Knowledge;
pub use plan::{Intent, KeyKind, Pinned, Plan, PlannedGateway, Policy, Undelivered};
pub use record::{Decision, Failure, Ground, Hold, Record};
pub use resolution::Objection;
pub use state::{Attempt, Cause, Here, Ids, Obligation, Phase, Proof, State, Why};

/// Takes one event in, and says what follows.
pub fn step(state: State, event: Event) -> (State, Vec<Action>) {
    let before = state.clone();
    let mut turn = turn::Turn::new(state, event.at);
    if turn.absorb(event.what) {
        turn.advance();
    }
    match invariants::broken(&turn.s) {
        None => turn.finish(),
        Some(rule) => {
            let mut turn = turn::Turn::new(before, event.at);
            turn.hold(Hold::Assertion { rule: rule.to_owned() });
            turn.finish()
        }
    }
}
