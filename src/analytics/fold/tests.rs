//! What is billed of a payment, and how durations are bucketed.

use std::sync::Arc;

use uuid::Uuid;

use super::{Fold, LineKind, bucket};
use crate::config::model::{Dialect, Mode};
use crate::gateway::outcome::Outcome;
use crate::gateway::{FenceStrength, Leg, for_dialect};
use crate::ledger::rows::{Event, Payment, Position};
use crate::money::{Amount, Currency};
use crate::payment::core::{Decision, Finding, Intent, Key, Phase, Plan, PlannedGateway, Policy, Record, Why};

fn row() -> Payment {
    Payment {
        id: Uuid::nil(),
        tenant: "local".to_owned(),
        route: "checkout".to_owned(),
        key_hash: [0; 32],
        fingerprint: [0; 32],
        fp_version: 1,
        amount: None,
        currency: None,
        order_ref_hash: None,
        holds_order: false,
        first_gateway: "stripe".to_owned(),
        gateway: "adyen".to_owned(),
        state: "succeeded".to_owned(),
        folded: String::new(),
        position: Position {
            version: 1,
            epoch: 1,
            seq: 1,
        },
        owner: Uuid::nil(),
        lease_until: 0,
        deadline: 0,
        created_at: 0,
        updated_at: 0,
        terminal: true,
        in_doubt: false,
        manual: false,
        obligations: 0,
        tombstone: false,
    }
}

fn planned(n: u16, gateway: u8, leg: Leg, of: Option<u16>, why: Why, units: i64) -> Record {
    let currency = Currency::parse("EUR").unwrap();
    Record::AttemptPlanned {
        n,
        gateway,
        leg,
        of,
        why,
        key: Key::Derived { nth: n },
        amount: Some(Amount { units, currency }),
        at: 0,
    }
}

fn observed(n: u16, outcome: Outcome, gone: bool) -> Record {
    let finding = Finding {
        gone,
        ..Finding::bare(outcome, "test")
    };
    Record::AttemptObserved {
        n,
        via: None,
        finding: Box::new(finding),
        evidence: None,
        at: 0,
    }
}

#[test]
fn a_refund_that_comes_back_is_billable_again() {
    let gateways = [Dialect::Stripe, Dialect::Adyen].map(|dialect| {
        let api = for_dialect(dialect).unwrap();
        PlannedGateway::new(dialect.name().to_owned(), api.capabilities(), FenceStrength::F0)
    });
    let plan = Plan {
        mode: Mode::Fence,
        intent: Intent::Sale,
        amount: None,
        gateways: gateways.into(),
        policy: Policy::default(),
    };
    let story = [
        Record::IntentOpened {
            plan: Arc::new(plan.into()),
        },
        planned(1, 0, Leg::Charge, None, Why::Pay, 1999),
        observed(1, Outcome::NotSent, false),
        planned(2, 1, Leg::Charge, None, Why::Pay, 1999),
        observed(2, Outcome::Succeeded, false),
        Record::Decision(Decision::Winner { n: 2 }),
        Record::Decision(Decision::Entered(Phase::Succeeded { n: 2 })),
        planned(3, 1, Leg::Refund, Some(2), Why::FollowUp(0), 500),
        observed(3, Outcome::Succeeded, false),
        observed(3, Outcome::Unknown, true),
        planned(4, 1, Leg::Refund, Some(2), Why::FollowUp(1), 1999),
        observed(4, Outcome::Succeeded, false),
    ];
    let event = |(seq, record): (i64, &Record)| Event {
        position: seq,
        payment: Uuid::nil(),
        seq,
        at: seq,
        kind: "record".to_owned(),
        payload: serde_json::to_string(record).unwrap(),
        hash: [0; 32],
    };
    let events: Vec<Event> = (1..).zip(&story).map(event).collect();
    let mut fold = Fold::new(&row(), &events[0]);
    assert!(events.iter().all(|event| fold.take(event)));
    let lines: Vec<(LineKind, i64)> = fold.lines.iter().map(|line| (line.kind, line.units)).collect();
    assert_eq!(
        lines,
        [
            (LineKind::Recovered, 1999),
            (LineKind::Refunded, -500),
            (LineKind::RefundReversed, 500),
            (LineKind::Refunded, -1999)
        ]
    );
    assert_eq!(fold.fact().refunded, 1999);
}

#[test]
fn a_bucket_is_never_an_eighth_away() {
    for ms in [0, 1, 15, 16, 17, 100, 999, 1850, 3000, 28_000, i64::MAX] {
        let low = bucket(ms);
        assert!(low <= ms && ms - low <= low / 8, "{ms} is in {low}");
    }
}
