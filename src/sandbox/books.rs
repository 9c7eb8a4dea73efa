//! The books: an append-only record of every effect on money, whatever the application was told.
//!
//! They are the double-charge oracle. Books may be shared by several simulators, so that one audit sees all gateways.
//! Amounts stand in the gateway's own units with their exponent: the audit compares values, not notations, and does not
//! rest on Sentinel's currency tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// What happened to money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Money was held.
    Auth,
    /// Money was taken, by a capture of a hold or by a sale (which writes `auth` and `capture`).
    Capture,
    /// A hold, or what was left of it, was released.
    Void,
    /// Money was given back.
    Refund,
    /// A refund that had been accepted failed; the money stays taken.
    RefundFailed,
}

/// One effect, as a simulator reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What happened.
    pub kind: Kind,
    /// The payment object at the gateway that all its effects share.
    pub payment: String,
    /// The id of this effect at the gateway (charge, capture, refund).
    pub id: String,
    /// How much, in units of the gateway.
    pub units: i64,
    /// Decimal places of those units.
    pub exponent: u8,
    /// ISO 4217, upper case.
    pub currency: String,
    /// The idempotency key of the request, when it had one.
    pub key: Option<String>,
    /// Sentinel's own reference, where the request carried one.
    pub reference: Option<String>,
    /// The merchant's order reference, where the request carried one.
    pub order: Option<String>,
    /// The instrument charged: its token, or brand and last four digits. Never a number.
    pub instrument: Option<String>,
}

/// One line of the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted from 1 over the whole books.
    pub seq: u64,
    /// Unix time in seconds, on the sandbox's clock.
    pub at: i64,
    /// The simulator's name.
    pub gateway: String,
    /// What happened.
    #[serde(flatten)]
    pub effect: Effect,
}

/// One payment at one gateway, added up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The simulator's name.
    pub gateway: String,
    /// The payment object.
    pub payment: String,
    /// Sentinel's reference.
    pub reference: Option<String>,
    /// The merchant's order.
    pub order: Option<String>,
    /// The key of the first effect.
    pub key: Option<String>,
    /// ISO 4217.
    pub currency: String,
    /// Decimal places of the units below.
    pub exponent: u8,
    /// Still held: authorised, neither captured nor released.
    pub held: i64,
    /// Taken.
    pub captured: i64,
    /// Given back.
    pub refunded: i64,
    /// How often money was held: more than one is two authorisations in one payment object.
    pub auths: u32,
}

impl Position {
    /// Whether money is still held or taken.
    pub fn live(&self) -> bool {
        self.held > 0 || self.captured > self.refunded
    }
}

/// The books added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Every payment at every gateway, in order of its first effect.
    pub positions: Vec<Position>,
    /// Orders with more than one live position: double charges.
    pub doubled: BTreeMap<String, u32>,
    /// What cannot be: captured more than held, refunded more than captured, two holds in one payment.
    pub violations: Vec<String>,
}

impl Audit {
    /// Live positions of an order or Sentinel reference.
    pub fn live(&self, order: &str) -> Vec<&Position> {
        let is = |name: &Option<String>| name.as_deref() == Some(order);
        self.positions
            .iter()
            .filter(|position| position.live() && (is(&position.order) || is(&position.reference)))
            .collect()
    }

    /// Whether no order has two live effects and nothing impossible happened.
    pub fn clean(&self) -> bool {
        self.doubled.is_empty() && self.violations.is_empty()
    }
}

/// The books. Cheap to clone; all clones are the same books.
#[derive(Clone, Debug, Default)]
pub struct Books {
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Books {
    /// Writes effects down.
    pub fn record(&self, at: i64, gateway: &str, effects: Vec<Effect>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for effect in effects {
            let seq = entries.len() as u64 + 1;
            entries.push(Entry {
                seq,
                at,
                gateway: gateway.to_owned(),
                effect,
            });
        }
    }

    /// Everything so far, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds the books up.
    pub fn audit(&self) -> Audit {
        let mut positions: Vec<Position> = Vec::new();
        let mut index: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut violations = Vec::new();
        for entry in self.entries() {
            let effect = &entry.effect;
            let at = *index
                .entry((entry.gateway.clone(), effect.payment.clone()))
                .or_insert_with(|| {
                    positions.push(Position {
                        gateway: entry.gateway.clone(),
                        payment: effect.payment.clone(),
                        reference: effect.reference.clone(),
                        order: effect.order.clone(),
                        key: effect.key.clone(),
                        currency: effect.currency.clone(),
                        exponent: effect.exponent,
                        held: 0,
                        captured: 0,
                        refunded: 0,
                        auths: 0,
                    });
                    positions.len() - 1
                });
            let Some(position) = positions.get_mut(at) else {
                continue;
            };
            match effect.kind {
                Kind::Auth => {
                    position.held += effect.units;
                    position.auths += 1;
                }
                Kind::Capture => {
                    position.held -= effect.units;
                    position.captured += effect.units;
                }
                Kind::Void => position.held -= effect.units,
                Kind::Refund => position.refunded += effect.units,
                Kind::RefundFailed => position.refunded -= effect.units,
            }
            let name = format!("{} {} (entry {})", entry.gateway, effect.payment, entry.seq);
            if effect.units <= 0 {
                violations.push(format!("{name}: an effect of {} units", effect.units));
            }
            if position.held < 0 && matches!(effect.kind, Kind::Capture | Kind::Void) {
                violations.push(format!("{name}: more captured or released than held"));
            }
            if position.refunded > position.captured && effect.kind == Kind::Refund {
                violations.push(format!("{name}: more refunded than captured"));
            }
            if effect.currency != position.currency || effect.exponent != position.exponent {
                violations.push(format!("{name}: another currency than before"));
            }
            if position.auths > 1 && effect.kind == Kind::Auth {
                violations.push(format!("{name}: held twice"));
            }
        }
        let mut live: BTreeMap<String, u32> = BTreeMap::new();
        for position in positions.iter().filter(|position| position.live()) {
            if let Some(name) = position.order.clone().or_else(|| position.reference.clone()) {
                *live.entry(name).or_default() += 1;
            }
        }
        Audit {
            positions,
            doubled: live.into_iter().filter(|(_, count)| *count > 1).collect(),
            violations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(kind: Kind, payment: &str, units: i64) -> Effect {
        Effect {
            kind,
            payment: payment.to_owned(),
            id: format!("{payment}-{units}"),
            units,
            exponent: 2,
            currency: "EUR".to_owned(),
            key: None,
            reference: None,
            order: Some("order-1".to_owned()),
            instrument: None,
        }
    }

    #[test]
    fn two_live_effects_of_one_order_are_a_double_charge_until_one_is_undone() {
        let books = Books::default();
        books.record(
            1,
            "stripe",
            vec![effect(Kind::Auth, "a", 100), effect(Kind::Capture, "a", 100)],
        );
        books.record(2, "adyen", vec![effect(Kind::Auth, "b", 100)]);
        assert_eq!(books.audit().doubled.get("order-1"), Some(&2));
        assert_eq!(books.audit().live("order-1").len(), 2);
        books.record(3, "adyen", vec![effect(Kind::Void, "b", 100)]);
        assert!(books.audit().clean());
        assert_eq!(books.audit().live("order-1").len(), 1);
        books.record(4, "stripe", vec![effect(Kind::Refund, "a", 100)]);
        assert!(books.audit().live("order-1").is_empty());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let books = Books::default();
        books.record(
            1,
            "stripe",
            vec![effect(Kind::Auth, "a", 100), effect(Kind::Capture, "a", 150)],
        );
        books.record(
            1,
            "stripe",
            vec![effect(Kind::Refund, "a", 200), effect(Kind::Auth, "a", 10)],
        );
        let violations = books.audit().violations;
        assert_eq!(violations.len(), 3, "{violations:?}");
    }
}
