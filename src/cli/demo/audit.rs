//! The books of all gateways against what the shop was told, order by order.

use std::collections::BTreeMap;

use super::shop::{ORDER, Order, Told};
use crate::sandbox::books::{Audit, Position};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Payments, cents taken and cents given back, by gateway.
    pub taken: BTreeMap<String, (usize, i64, i64)>,
    /// Payments that are no order of the shop's: of somebody who looks around, and has a shop of her own.
    pub guests: usize,
    /// Everything that is not as the shop was told; nothing, when all is well.
    pub problems: Vec<String>,
}

/// Compares.
pub fn compare(orders: &[Order], books: &Audit) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_order: BTreeMap<&str, Vec<&Position>> = BTreeMap::new();
    for position in &books.positions {
        let moved = position.live() || position.captured > 0;
        if !moved {
            continue;
        }
        let Some(order) = position.order.as_deref().filter(|order| order.starts_with(ORDER)) else {
            verdict.guests += 1;
            continue;
        };
        let (count, taken, back) = verdict.taken.entry(position.gateway.clone()).or_default();
        *count += 1;
        *taken += position.captured;
        *back += position.refunded;
        by_order.entry(order).or_default().push(position);
    }
    for order in orders {
        let found = by_order.remove(order.name.as_str()).unwrap_or_default();
        if let Some(problem) = differs(order, &found) {
            verdict.problems.push(format!("{}: {problem}", order.name));
        }
    }
    for (order, found) in by_order {
        let where_ = places(&found);
        verdict
            .problems
            .push(format!("{order}: the shop knows no such order; {where_}"));
    }
    let doubled = books
        .doubled
        .iter()
        .map(|(order, times)| format!("{order}: {times} live charges"));
    verdict.problems.extend(doubled);
    verdict.problems.extend(books.violations.iter().cloned());
    verdict
}

/// What is wrong with an order, if anything is.
fn differs(order: &Order, found: &[&Position]) -> Option<String> {
    let told = match &order.told {
        Told::Paid(gateway) => {
            let as_told = |position: &&Position| {
                position.gateway == *gateway
                    && position.captured == order.cents
                    && position.refunded == order.refunded
                    && position.held == 0
                    && (position.currency.as_str(), position.exponent) == ("EUR", 2)
            };
            if found.len() == 1 && found.iter().all(as_told) {
                return None;
            }
            format!(
                "told paid at {gateway}, {} cents, {} given back",
                order.cents, order.refunded
            )
        }
        Told::Declined if found.is_empty() => return None,
        Told::NotTaken if found.is_empty() => return None,
        Told::Declined => "told declined".to_owned(),
        Told::NotTaken => "told that nobody has it".to_owned(),
        Told::Nothing => "no answer".to_owned(),
        Told::InDoubt => "still in doubt".to_owned(),
        Told::Strange(answer) => format!("an answer that is none: {answer}"),
    };
    Some(format!("{told}; {}", places(found)))
}

fn places(found: &[&Position]) -> String {
    if found.is_empty() {
        return "no money moved anywhere".to_owned();
    }
    let each = found.iter().map(|position| {
        format!(
            "{} has {} cents taken, {} held, {} given back",
            position.gateway, position.captured, position.held, position.refunded
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn order(name: &str, told: Told) -> Order {
        Order {
            name: format!("{ORDER}{name}"),
            cents: 1000,
            told,
            id: "pi_1".to_owned(),
            refunded: 0,
            waited: Duration::ZERO,
        }
    }

    fn position(gateway: &str, order: &str, captured: i64, refunded: i64) -> Position {
        Position {
            gateway: gateway.to_owned(),
            payment: format!("{gateway}-{order}"),
            reference: None,
            order: Some(format!("{ORDER}{order}")),
            key: None,
            currency: "EUR".to_owned(),
            exponent: 2,
            held: 0,
            captured,
            refunded,
            auths: 1,
        }
    }

    fn problems(orders: &[Order], positions: Vec<Position>) -> Vec<String> {
        let books = Audit {
            positions,
            ..Audit::default()
        };
        compare(orders, &books).problems
    }

    #[test]
    fn books_that_say_what_the_shop_was_told_are_well() {
        let mut back = order("c", Told::Paid("adyen".to_owned()));
        back.refunded = 1000;
        let orders = [
            order("a", Told::Paid("stripe".to_owned())),
            order("b", Told::Declined),
            back,
            order("d", Told::NotTaken),
        ];
        let positions = vec![position("stripe", "a", 1000, 0), position("adyen", "c", 1000, 1000)];
        assert_eq!(problems(&orders, positions), Vec::<String>::new());
    }

    #[test]
    fn who_looks_around_has_payments_of_her_own() {
        let guest = |order: Option<&str>| Position {
            order: order.map(str::to_owned),
            ..position("paypal", "", 5000, 0)
        };
        let books = Audit {
            positions: vec![position("stripe", "a", 1000, 0), guest(None), guest(Some("mine-1"))],
            ..Audit::default()
        };
        let verdict = compare(&[order("a", Told::Paid("stripe".to_owned()))], &books);
        assert_eq!((verdict.guests, verdict.problems), (2, Vec::new()));
    }

    #[test]
    fn every_difference_is_found() {
        let paid = || order("a", Told::Paid("stripe".to_owned()));
        let one = || position("stripe", "a", 1000, 0);
        let wrong: Vec<(Order, Vec<Position>)> = vec![
            (paid(), vec![]),
            (paid(), vec![position("stripe", "a", 999, 0)]),
            (paid(), vec![position("stripe", "a", 1000, 1)]),
            (paid(), vec![position("adyen", "a", 1000, 0)]),
            (paid(), vec![one(), position("adyen", "a", 1000, 0)]),
            // Charged twice and given back once is still not what the shop was told.
            (paid(), vec![one(), position("adyen", "a", 1000, 1000)]),
            (paid(), vec![one(), position("adyen", "z", 1000, 0)]),
            (paid(), vec![Position { held: 5, ..one() }]),
            (
                paid(),
                vec![Position {
                    currency: "USD".to_owned(),
                    ..one()
                }],
            ),
            (paid(), vec![Position { order: None, ..one() }]),
            (order("a", Told::Declined), vec![one()]),
            (order("a", Told::NotTaken), vec![one()]),
            (order("a", Told::InDoubt), vec![one()]),
            (order("a", Told::InDoubt), vec![]),
            (order("a", Told::Nothing), vec![]),
            (order("a", Told::Strange("204".to_owned())), vec![]),
        ];
        for (order, positions) in wrong {
            let shown = format!("{order:?} {positions:?}");
            assert!(!problems(&[order], positions).is_empty(), "{shown}");
        }
        let impossible = Audit {
            violations: vec!["held twice".to_owned()],
            ..Audit::default()
        };
        assert_eq!(compare(&[], &impossible).problems.len(), 1);
    }
}
