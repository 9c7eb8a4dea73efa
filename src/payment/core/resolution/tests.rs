//! What is taken from a person, and what is refused.

use super::super::event::{Action, Event, Finding, What};
use super::super::plan::{Plan, PlannedGateway, Policy};
use super::super::step;
use super::*;
use crate::config::model::Mode;
use crate::gateway::FenceStrength;
use crate::gateway::outcome::DeclineClass;
use crate::money::{Amount, Currency};

fn plan(mode: Mode, intent: Intent) -> Plan {
    let gateway = |name: &str, native| PlannedGateway {
        name: name.to_owned(),
        fence: FenceStrength::F1,
        lookup: true,
        manual_capture: true,
        void: true,
        idempotency_hours: 24,
        modification_hours: 24,
        declines_stay_open: false,
        native,
    };
    let amount = Amount {
        units: 1999,
        currency: Currency::parse("EUR").expect("a currency"),
    };
    Plan {
        mode,
        intent,
        amount: Some(amount),
        gateways: vec![gateway("stripe", true), gateway("adyen", false)],
        policy: Policy::default(),
    }
}

fn after(state: State, what: What) -> State {
    step(state, Event { at: 100, what }).0
}

fn found(state: State, n: u16, outcome: Outcome) -> State {
    let finding = Box::new(Finding::bare(outcome, "test"));
    let what = What::Observed {
        n,
        finding,
        evidence: None,
    };
    after(state, what)
}

fn said(state: State, resolution: Resolution) -> (State, Vec<Action>) {
    let what = What::Resolve {
        operator: "ann".to_owned(),
        reason: "seen in the dashboard".to_owned(),
        resolution,
    };
    step(state, Event { at: 200, what })
}

fn refused(state: &State, resolution: Resolution) -> Objection {
    let objection = state.objection(resolution).expect("an objection");
    let (next, actions) = said(state.clone(), resolution);
    assert_eq!((&next, actions.len()), (state, 0), "what is refused leaves no trace");
    objection
}

fn doubtful(mode: Mode, intent: Intent) -> State {
    let opened = after(State::default(), What::Open(Box::new(plan(mode, intent))));
    let doubtful = found(opened, 1, Outcome::Unknown);
    after(doubtful, What::Deadline)
}

#[test]
fn a_doubtful_payment_is_whatever_a_person_saw_and_only_once() {
    let state = doubtful(Mode::Fence, Intent::Sale);
    assert_eq!(state.phase, Phase::InDoubt { of: 1 });
    let (taken, actions) = said(state.clone(), Resolution::Succeeded { n: 1 });
    assert_eq!((taken.phase, taken.winner), (Phase::Succeeded { n: 1 }, Some(1)));
    assert_eq!(taken.told, Some(Verdict::Succeeded { n: 1 }));
    assert!(taken.finished() && matches!(actions.first(), Some(Action::Persist(_))));
    assert_eq!(refused(&taken, Resolution::Succeeded { n: 1 }), Objection::Closed);
    let (failed, _) = said(state.clone(), Resolution::Failed);
    assert!(matches!(
        failed.told,
        Some(Verdict::Failed {
            why: Failure::Operator,
            ..
        })
    ));
    assert_eq!(
        refused(&state, Resolution::Succeeded { n: 2 }),
        Objection::NoSuchAttempt { n: 2 }
    );
    assert_eq!(refused(&state, Resolution::Continue), Objection::NotHeld);
}

#[test]
fn a_hold_that_a_person_saw_is_told_as_a_hold() {
    let (held, _) = said(doubtful(Mode::Fence, Intent::Authorize), Resolution::Succeeded { n: 1 });
    assert_eq!(held.phase, Phase::Authorised { n: 1 });
    assert_eq!(held.told, Some(Verdict::Authorised { n: 1 }));
    assert_eq!(held.books().captured, 0);
}

#[test]
fn nobody_talks_a_proof_away() {
    let state = found(doubtful(Mode::Fence, Intent::Sale), 1, Outcome::Succeeded);
    assert_eq!(refused(&state, Resolution::Failed), Objection::Finished);
    let held = after(doubtful(Mode::Fence, Intent::Sale), What::Aged);
    assert_eq!(held.phase, Phase::Manual);
    let known = found(held.clone(), 1, Outcome::Succeeded);
    assert_eq!(refused(&known, Resolution::Failed), Objection::Effect { n: 1 });
    let declined = found(held, 1, Outcome::Declined(DeclineClass::Hard));
    assert_eq!(
        refused(&declined, Resolution::Succeeded { n: 1 }),
        Objection::NoEffect { n: 1 }
    );
    let (failed, _) = said(declined, Resolution::Failed);
    assert!(failed.finished());
}

#[test]
fn a_proof_against_a_persons_word_comes_back_to_a_person() {
    let (failed, _) = said(doubtful(Mode::Fence, Intent::Sale), Resolution::Failed);
    let again = found(failed, 1, Outcome::Succeeded);
    assert_eq!((again.phase, again.closed), (Phase::Manual, false));
    assert_eq!(
        refused(&again, Resolution::Succeeded { n: 1 }),
        Objection::ToldFailed { n: 1 }
    );
    let (refunded, _) = said(again, Resolution::Released { n: 1 });
    assert!(
        matches!(refunded.phase, Phase::Failed { .. }) && refunded.finished(),
        "{refunded:?}"
    );

    let (taken, _) = said(doubtful(Mode::Fence, Intent::Sale), Resolution::Succeeded { n: 1 });
    let again = found(taken, 1, Outcome::Declined(DeclineClass::Hard));
    assert_eq!(again.phase, Phase::Manual);
}

#[test]
fn a_release_by_hand_ends_what_was_owed() {
    let opened = after(
        State::default(),
        What::Open(Box::new(plan(Mode::Compensate, Intent::Sale))),
    );
    let both = found(found(opened, 1, Outcome::Unknown), 2, Outcome::Succeeded);
    assert!(both.owed(1) && !both.finished(), "{both:?}");
    let (released, _) = said(both, Resolution::Released { n: 1 });
    assert!(!released.owes() && released.finished(), "{released:?}");
    assert_eq!(released.phase, Phase::Succeeded { n: 2 });
}

#[test]
fn a_contradiction_is_for_a_person_and_going_on_is_no_answer_to_it() {
    let state = found(doubtful(Mode::Fence, Intent::Sale), 1, Outcome::Conflict);
    assert_eq!(state.phase, Phase::Manual);
    assert_eq!(refused(&state, Resolution::Continue), Objection::Contradiction { n: 1 });
    let (failed, _) = said(state.clone(), Resolution::Failed);
    assert!(failed.finished());
    let (taken, _) = said(state, Resolution::Succeeded { n: 1 });
    assert!(taken.finished());
}

#[test]
fn going_on_after_a_hold_finds_the_phase_again() {
    let held = after(doubtful(Mode::Fence, Intent::Sale), What::Aged);
    let (goes, actions) = said(held, Resolution::Continue);
    assert_eq!(goes.phase, Phase::InDoubt { of: 1 });
    assert!(!actions.is_empty());
}

#[test]
fn while_money_may_move_nothing_is_resolved() {
    let opened = after(State::default(), What::Open(Box::new(plan(Mode::Fence, Intent::Sale))));
    assert_eq!(refused(&opened, Resolution::Failed), Objection::UnderWay { n: 1 });
}
