//! What is held of a sale.

use super::*;

/// A sale at gateways that can only be asked what became of it.
fn sale() -> Payment {
    let mut plan = plan(Mode::Fence, Intent::Sale);
    for gateway in &mut plan.gateways {
        gateway.fence = FenceStrength::F1;
    }
    Payment::open(plan)
}

#[test]
fn a_sale_of_which_money_is_held_is_not_told_as_paid() {
    for asked in [false, true] {
        let mut payment = sale();
        if asked {
            payment.hears(1, bare(Outcome::Unknown));
            assert_eq!(payment.sent(), Some((2, Leg::Lookup)));
            payment.hears(2, with_id(Outcome::Authorised));
        } else {
            payment.hears(1, with_id(Outcome::Authorised));
        }
        assert_eq!((payment.state.told, payment.state.winner), (None, None));
        assert_eq!(payment.state.books().captured, 0);
        // It is taken after all.
        payment.hears(1, with_id(Outcome::Succeeded));
        assert_eq!(payment.state.told, Some(Verdict::Succeeded { n: 1 }));
    }
}

#[test]
fn a_sale_of_which_money_was_held_and_returned_was_not_made() {
    let mut payment = sale();
    payment.hears(1, with_id(Outcome::Authorised));
    payment.hears(1, with_id(Outcome::Fenced));
    assert_eq!(payment.state.attempt(1).unwrap().known.outcome(), Outcome::Fenced);
    assert_eq!(payment.sent(), Some((3, Leg::Charge)), "the next gateway is asked");
}
