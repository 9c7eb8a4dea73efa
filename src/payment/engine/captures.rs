//! Which capture a refund gives back, where several were made of one hold.
//!
//! Some gateways have an object for every capture, and a refund is of one of them (PayPal's). Their applications name it;
//! others name the payment. A refund has one attempt under one key, so that one that only two captures together could cover
//! is refused: the application asks for two.

use super::super::core::{State, Why};
use super::dossier::{Dossier, asked_for};
use crate::money::Amount;

/// Out of what a refund is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct From {
    /// How much; `None` for all that is left.
    pub amount: Option<Amount>,
    /// The attempt whose capture it is; `None` where there is none, or the owner tells them not apart.
    pub capture: Option<u16>,
}

/// Why a refund cannot be made of one capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unrefundable {
    /// Only several captures together took as much.
    Several,
    /// The capture that was named took less.
    TooMuch,
}

/// The attempt of a capture that was named by its id.
pub(super) fn named(kind: &str) -> Option<u16> {
    kind.strip_prefix("capture:")?.parse().ok()
}

/// What a refund gives back, of the name and by the kind of id that it came with.
pub(super) fn refunded(
    dossier: &Dossier,
    state: &State,
    (name, kind): (&str, &str),
    asked: Option<Amount>,
) -> Result<From, Unrefundable> {
    let plain = From {
        amount: asked,
        capture: None,
    };
    // The same request again means what it meant, whatever is left by now.
    let before = state
        .follow_ups
        .iter()
        .position(|known| known.request.as_deref() == Some(name));
    if let Some(index) = before {
        let known = state.follow_ups[index].amount;
        let of = |why| matches!(why, Why::FollowUp(of) if usize::from(of) == index);
        let mut made = state.numbered().filter(|(_, attempt)| of(attempt.why));
        return Ok(From {
            amount: asked.or(known),
            capture: made.find_map(|(n, _)| dossier.notes.get(&n)?.capture),
        });
    }
    let done: Vec<_> = asked_for(state, crate::gateway::Leg::Capture)
        .filter(|(_, capture)| capture.over())
        .collect();
    if let [(only, _)] = done.as_slice() {
        // Until it is answered there may be another one.
        return Ok(From {
            capture: Some(*only),
            ..plain
        });
    }
    if done.is_empty() {
        return Ok(plain);
    }
    let units = |amount: Option<Amount>| amount.map_or(0, |amount| amount.units);
    // What is in doubt counts as given back.
    let left = |n: u16, amount| units(amount) - dossier.given_back(state, n, |_| true);
    let lefts: Vec<(u16, i64)> = done.iter().map(|(n, capture)| (*n, left(*n, capture.amount))).collect();
    let whole = |units| {
        Some(Amount {
            units,
            ..dossier.base.amount
        })
    };
    if let Some(wanted) = named(kind) {
        let left = lefts.iter().find(|(n, _)| *n == wanted).map_or(0, |(_, left)| *left);
        if left <= 0 || asked.is_some_and(|asked| asked.units > left) {
            return Err(Unrefundable::TooMuch);
        }
        return Ok(From {
            amount: asked.or(whole(left)),
            capture: Some(wanted),
        });
    }
    let own = |n: usize| done[n].1.ids.charge.as_ref();
    if (1..done.len()).all(|n| own(n).is_none() || own(n) == own(0)) {
        // The owner has one object for all of them.
        return Ok(plain);
    }
    let all: i64 = lefts.iter().map(|(_, left)| left).sum();
    let wanted = asked.map_or(all, |asked| asked.units);
    if wanted > all {
        // More than was taken: the books say so.
        return Ok(plain);
    }
    // One that is given back whole leaves the others as they are.
    let exact = lefts.iter().find(|(_, left)| *left == wanted);
    let enough = lefts.iter().find(|(_, left)| *left > wanted);
    match exact.or(enough) {
        Some((n, _)) if wanted > 0 => Ok(From {
            amount: whole(wanted),
            capture: Some(*n),
        }),
        _ => Err(Unrefundable::Several),
    }
}
