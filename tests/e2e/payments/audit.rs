//! How many effects of one order were live at once, told from the books line by line.

use std::collections::BTreeMap;

use sentinel::gateway::{FenceStrength, Leg};
use sentinel::payment::core::{Phase, State};
use sentinel::sandbox::books::{Entry, Kind};

/// How many effects may be live at once, whatever became of them later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtOnce {
    /// One effect, be it a hold.
    One,
    /// One gateway that took money; holds beside it are released.
    OneTaken,
    /// What is owed may still be live; in the end there is one.
    OneInTheEnd,
}

/// The most effects of an order that were live at once, of those that count.
pub fn most_at_once(entries: &[Entry], order: &str, at_once: AtOnce) -> usize {
    let of_order = |name: &Option<String>| name.as_deref() == Some(order);
    let mine: Vec<(&str, &str)> = entries
        .iter()
        .filter(|entry| of_order(&entry.effect.order) || of_order(&entry.effect.reference))
        .map(|entry| (entry.gateway.as_str(), entry.effect.payment.as_str()))
        .collect();
    let mut positions: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    let mut most = 0;
    for entry in entries {
        let effect = &entry.effect;
        let position = (entry.gateway.as_str(), effect.payment.as_str());
        if !mine.contains(&position) {
            continue;
        }
        let (held, taken) = positions.entry(position).or_default();
        match effect.kind {
            Kind::Auth => *held += effect.units,
            Kind::Capture => {
                *held -= effect.units;
                *taken += effect.units;
            }
            Kind::Void => *held -= effect.units,
            Kind::Refund => *taken -= effect.units,
            Kind::RefundFailed => *taken += effect.units,
        }
        let counts = |&&(held, taken): &&(i64, i64)| match at_once {
            AtOnce::One => held > 0 || taken > 0,
            AtOnce::OneTaken => taken > 0,
            AtOnce::OneInTheEnd => false,
        };
        most = most.max(positions.values().filter(counts).count());
    }
    most
}

/// Whether nothing is under way or owed that the process can bring to its end by itself, for one payment or for all. What
/// a gateway has accepted and does later, or what it cannot be asked about, is told by its webhook.
pub fn at_rest(ledger: &rusqlite::Connection, payment: Option<&str>) -> bool {
    states(ledger, payment).iter().all(|state| {
        let ended = state.phase.settled() || matches!(state.phase, Phase::Capturing { .. });
        ended && open(state).all(|target| left_to_the_gateway(state, target))
    })
}

/// The gateways at which something is still owed.
pub fn owing(ledger: &rusqlite::Connection, payment: Option<&str>) -> Vec<String> {
    let name = |state: &State, target| Some(state.gateway_of(state.attempt(target)?)?.name.clone());
    let states = states(ledger, payment);
    let owed = states
        .iter()
        .flat_map(|state| open(state).map(move |target| (state, target)));
    owed.filter_map(|(state, target)| name(state, target)).collect()
}

fn states(ledger: &rusqlite::Connection, payment: Option<&str>) -> Vec<State> {
    let id = payment.map(|payment| payment.parse::<uuid::Uuid>().expect("a payment's id"));
    let mut statement = ledger
        .prepare("SELECT folded FROM payments WHERE ?1 IS NULL OR id = ?1")
        .expect("a statement");
    let rows = statement
        .query_map([id.as_ref().map(uuid::Uuid::as_bytes)], |row| row.get::<_, String>(0))
        .expect("rows");
    rows.map(|row| serde_json::from_str(&row.expect("a row")).expect("a state"))
        .collect()
}

fn open(state: &State) -> impl Iterator<Item = u16> {
    let open = state.obligations.iter().filter(|owed| owed.proof.is_none());
    open.map(|owed| owed.target)
}

fn left_to_the_gateway(state: &State, target: u16) -> bool {
    let Some(attempt) = state.attempt(target) else {
        return false;
    };
    let mut about = state.attempts.iter().filter(|about| about.of == Some(target));
    let accepted = about.any(|release| release.accepted && matches!(release.leg, Leg::Void | Leg::Refund));
    // Stripe can be asked by its key, PayPal by an id that was heard, Adyen not at all.
    let silent = state
        .gateway_of(attempt)
        .is_some_and(|gateway| gateway.fence < FenceStrength::F3 && !(gateway.lookup && attempt.ids.payment.is_some()));
    let unheard = silent && attempt.known.unknown();
    accepted || (unheard && state.attempts.iter().all(|attempt| !attempt.pending()))
}
