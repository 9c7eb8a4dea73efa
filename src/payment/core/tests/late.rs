//! What comes late, and says that something ended: a refund that came back, a hold that was cancelled.

use super::*;

/// A hold of 1000 at the first gateway, as the application asked.
fn held() -> Payment {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Authorize));
    payment.hears(1, with_id(Outcome::Authorised));
    assert_eq!(payment.state.phase, Phase::Authorised { n: 1 });
    payment
}

/// Asks for a capture; answers its attempt.
fn captures(payment: &mut Payment, units: i64, keeps: bool) -> u16 {
    let currency = "EUR".to_owned().try_into().unwrap();
    payment.tell(What::FollowUp {
        request: Some(format!("capture-{units}")),
        leg: Leg::Capture,
        amount: Some(Amount { units, currency }),
        keeps,
    });
    let (n, leg) = payment.sent().unwrap();
    assert_eq!(leg, Leg::Capture);
    n
}

#[test]
fn a_hold_that_is_cancelled_by_hand_is_over() {
    let mut payment = held();
    payment.hears(1, with_id(Outcome::Fenced));
    assert_eq!(payment.state.phase, Phase::Voided { n: 1 });
    assert!(payment.state.finished());
}

#[test]
fn what_was_cancelled_and_taken_is_for_a_person_in_whatever_order_that_is_told() {
    // The payment itself is told of as cancelled and as taken.
    for intent in [Intent::Authorize, Intent::Sale] {
        for order in [
            [Outcome::Succeeded, Outcome::Fenced],
            [Outcome::Fenced, Outcome::Succeeded],
        ] {
            for answered in [true, false] {
                let mut payment = Payment::open(plan(Mode::Fence, intent));
                if answered && intent == Intent::Authorize {
                    payment.hears(1, with_id(Outcome::Authorised));
                } else {
                    payment.hears(1, bare(Outcome::Unknown));
                }
                for outcome in order {
                    payment.hears(1, with_id(outcome));
                }
                assert_eq!(payment.state.phase, Phase::Manual, "{intent:?} {order:?} {answered}");
            }
        }
    }
    // The hold is told of as cancelled, and its capture as done.
    for first in [Outcome::Succeeded, Outcome::Fenced] {
        let mut payment = held();
        let capture = captures(&mut payment, 1000, false);
        match first {
            Outcome::Succeeded => {
                payment.hears(capture, bare(Outcome::Succeeded));
                payment.hears(1, with_id(Outcome::Fenced));
            }
            _ => {
                payment.hears(1, with_id(Outcome::Fenced));
                payment.hears(capture, bare(Outcome::Succeeded));
            }
        }
        assert_eq!(payment.state.phase, Phase::Manual, "{first:?}");
    }
}

#[test]
fn a_gated_sale_that_is_told_of_as_cancelled_is_for_a_person() {
    for accepted in [true, false] {
        let mut payment = Payment::open(plan(Mode::Gated, Intent::Sale));
        payment.hears(1, with_id(Outcome::Authorised));
        let (capture, leg) = payment.sent().unwrap();
        assert_eq!(leg, Leg::Capture);
        let outcome = if accepted { Outcome::Unknown } else { Outcome::Succeeded };
        let done = Finding {
            pending: accepted,
            ..bare(outcome)
        };
        payment.hears(capture, done);
        assert_eq!(payment.state.told, Some(Verdict::Succeeded { n: 1 }), "{accepted}");
        payment.hears(1, with_id(Outcome::Fenced));
        assert_eq!(payment.state.phase, Phase::Manual, "{accepted}");
    }
}

#[test]
fn what_is_left_of_a_hold_may_end_after_a_part_was_captured() {
    let mut payment = held();
    let capture = captures(&mut payment, 400, true);
    payment.hears(capture, bare(Outcome::Succeeded));
    payment.hears(1, with_id(Outcome::Fenced));
    assert_eq!(payment.state.phase, Phase::Succeeded { n: 1 });
    assert_eq!(payment.state.books().captured, 400);
}

/// A payment whose refund of everything is attempt 2, and on its way.
fn refunding() -> Payment {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, with_id(Outcome::Succeeded));
    payment.refund("refund-1");
    assert_eq!(payment.sent(), Some((2, Leg::Refund)));
    payment
}

fn refund(outcome: Outcome) -> Finding {
    let ids = Ids {
        modification: Some("re_1".to_owned()),
        ..Ids::default()
    };
    Finding { ids, ..bare(outcome) }
}

#[test]
fn a_refund_that_comes_back_is_undone_in_whatever_order_that_is_heard_and_may_be_made_again() {
    let (made, failed) = (Outcome::Succeeded, Outcome::Rejected(Rejection::Request));
    let pending = Finding {
        pending: true,
        ..refund(Outcome::Unknown)
    };
    // Its own answer was lost, or said that it would be made later.
    let answers = [bare(Outcome::Unknown), pending];
    let orders = [[made, failed], [failed, made]].map(|order| answers.clone().map(|answer| (order, answer)));
    for (order, answer) in orders.into_iter().flatten() {
        let mut payment = refunding();
        payment.hears(2, answer);
        // Again, and in the other order.
        for outcome in order.into_iter().chain(order) {
            payment.hears(2, refund(outcome));
        }
        assert_eq!(payment.state.phase, Phase::Succeeded { n: 1 }, "{order:?}");
        assert_eq!(payment.state.books().refunded, 0, "{order:?}");
        assert!(payment.state.finished(), "{order:?}");
        payment.refund("refund-1");
        assert!(
            payment.actions.iter().any(|action| matches!(
                action,
                Action::AnswerFollowUp {
                    verdict: FollowUpVerdict::Refused { .. },
                    ..
                }
            )),
            "{order:?}: {:?}",
            payment.actions
        );
        payment.refund("refund-2");
        assert_eq!(payment.sent(), Some((3, Leg::Refund)), "{order:?}");
    }
}

#[test]
fn a_refund_that_was_sent_twice_fails_with_the_object_that_both_made_and_not_with_one_sending() {
    let mut payment = refunding();
    payment.hears(2, bare(Outcome::Unknown));
    payment.refund("refund-1");
    assert_eq!(payment.sent(), Some((2, Leg::Refund)));
    // The second sending was refused: the first may have been executed.
    payment.hears(2, bare(Outcome::Rejected(Rejection::Request)));
    assert_eq!(payment.state.books().refunding, 1000);
    let accepted = Finding {
        pending: true,
        ..refund(Outcome::Unknown)
    };
    payment.hears(2, accepted);
    payment.hears(2, refund(Outcome::Rejected(Rejection::Request)));
    assert_eq!(
        (payment.state.books().refunding, payment.state.books().refunded),
        (0, 0)
    );
}

#[test]
fn a_refund_that_is_told_of_under_another_id_contradicts() {
    let mut payment = refunding();
    payment.hears(2, refund(Outcome::Succeeded));
    payment.hears(2, bare(Outcome::Rejected(Rejection::Request)));
    assert_eq!(payment.state.phase, Phase::Manual);
}

#[test]
fn the_release_of_a_loser_that_comes_back_is_for_a_person() {
    let mut payment = Payment::open(plan(Mode::Compensate, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    assert_eq!(payment.sent(), Some((2, Leg::Charge)));
    payment.hears(2, with_id(Outcome::Succeeded));
    payment.hears(1, with_id(Outcome::Succeeded));
    let (n, leg) = payment.sent().unwrap();
    assert_eq!(leg, Leg::Refund);
    payment.hears(n, refund(Outcome::Succeeded));
    assert!(!payment.state.owes());
    payment.hears(n, refund(Outcome::Rejected(Rejection::Request)));
    assert_eq!(payment.state.phase, Phase::Manual);
}
