//! The scenarios: what must hold, and what must be caught.

use sentinel::config::model::Mode;
use sentinel::gateway::{FenceStrength, Leg};
use sentinel::payment::core::{Intent, KeyKind, Policy, Undelivered};

use super::gateway::{Facts, How};
use super::scenario::{Budget, FIXED, Scenario, Twist};

const DECLINES: &[How] = &[How::Plain, How::Soft, How::Hard];
const PLAIN: &[How] = &[How::Plain];

/// Configurations in which every rule must hold.
pub fn safe() -> Vec<Scenario> {
    let fence = |name, facts| Scenario::new(name, Mode::Fence, facts);
    let gated = |name, facts| Scenario::new(name, Mode::Gated, facts);
    let compensate = |name, facts| Scenario::new(name, Mode::Compensate, facts);
    let twice = |facts| [facts, facts];
    vec![
        fence("fence, F3 by key", twice(Facts::TOMBSTONE)),
        fence("fence, F3 by key, declines fail over", twice(Facts::TOMBSTONE)).with(|s| {
            s.how = DECLINES;
            s.policy.soft_decline = true;
        }),
        fence("fence, F3 by cancelling, hold", twice(Facts::CANCEL)).with(|s| s.intent = Intent::Authorize),
        fence("fence, F3 then F0, reused connections", [Facts::TOMBSTONE, Facts::MUTE]).with(|s| s.reused = true),
        fence("fence, F3, success told before its record", twice(Facts::TOMBSTONE)).with(|s| {
            s.twist = Some(Twist::SuccessFirst);
        }),
        fence("fence, F3, copies and webhooks", twice(Facts::CANCEL)).with(|s| {
            s.how = PLAIN;
            s.budget.copies = 1;
            s.budget.webhooks = 2;
        }),
        fence("fence, F2 not believed", twice(Facts::WEAK)).with(|s| s.budget.copies = 1),
        fence("fence, F1", twice(Facts::ASKED)),
        fence("fence, F0", twice(Facts::MUTE)),
        fence("fence, F1, key window ends", twice(Facts::ASKED)).with(|s| {
            s.how = PLAIN;
            s.clock = true;
            s.budget.retries = 2;
        }),
        fence(
            "fence, declined objects stay open",
            twice(Facts {
                stays_open: true,
                ..Facts::CANCEL
            }),
        )
        .with(|s| {
            s.how = DECLINES;
            s.policy.soft_decline = true;
            s.budget.completions = 1;
            s.conflicts = true;
        }),
        fence("fence, customer acts", twice(Facts::CANCEL)).with(|s| {
            s.how = &[How::Plain, How::Ask, How::Hard];
            s.budget.completions = 1;
            s.budget.webhooks = 2;
        }),
        fence("fence, pass-through to the first", twice(Facts::TOMBSTONE)).with(|s| {
            s.direct = true;
            s.orders = FIXED;
            s.policy.fence_before_secondary = true;
            s.conflicts = true;
        }),
        fence("fence, pass-through to the first, declines", twice(Facts::TOMBSTONE)).with(|s| {
            s.direct = true;
            s.orders = FIXED;
            s.how = &[How::Plain, How::Soft];
            s.policy.fence_before_secondary = true;
            s.policy.soft_decline = true;
            s.conflicts = true;
        }),
        fence("fence, no key, undelivered is voided", twice(Facts::TOMBSTONE)).with(|s| {
            s.policy.key = KeyKind::None;
            s.policy.undelivered = Undelivered::Void;
            s.budget.retries = 0;
            s.budget.disconnects = 1;
        }),
        fence("fence, not executed and asked again", twice(Facts::TOMBSTONE)).with(|s| {
            s.orders = FIXED;
            s.how = &[How::Plain, How::Busy];
            s.budget.retries = 3;
        }),
        fence(
            "fence, refusals are kept under their key",
            twice(Facts {
                keeps_refusals: true,
                ..Facts::CANCEL
            }),
        )
        .with(|s| {
            s.orders = FIXED;
            s.how = &[How::Plain, How::Busy];
            s.reused = true;
            s.budget.retries = 2;
            s.resolves = false;
        }),
        fence("fence, refunds asked for twice", twice(Facts::TOMBSTONE)).with(|s| {
            s.how = PLAIN;
            s.follow_ups = &[(Leg::Refund, 0), (Leg::Refund, 0)];
            s.budget.follow_ups = 3;
            s.budget.retries = 0;
        }),
        fence(
            "fence, refunded in parts",
            twice(Facts {
                unchecked: true,
                ..Facts::TOMBSTONE
            }),
        )
        .with(|s| {
            s.orders = FIXED;
            s.how = PLAIN;
            s.follow_ups = &[(Leg::Refund, 6), (Leg::Refund, 5), (Leg::Refund, 4)];
            s.budget.follow_ups = 4;
            s.budget.retries = 0;
        }),
        fence(
            "fence, refunds come back",
            twice(Facts {
                unchecked: true,
                ..Facts::TOMBSTONE
            }),
        )
        .with(|s| {
            s.orders = FIXED;
            s.how = PLAIN;
            s.follow_ups = &[(Leg::Refund, 6), (Leg::Refund, 5)];
            s.budget.follow_ups = 3;
            s.budget.retries = 0;
            s.budget.webhooks = 2;
            s.budget.returns = 1;
        }),
        fence(
            "fence, hold, captured in parts, refunded",
            twice(Facts {
                unchecked: true,
                ..Facts::CANCEL
            }),
        )
        .with(|s| {
            s.intent = Intent::Authorize;
            s.orders = FIXED;
            s.how = PLAIN;
            s.follow_ups = &[(Leg::Capture, 6), (Leg::Capture, 5), (Leg::Refund, 7)];
            s.budget.follow_ups = 4;
            s.budget.retries = 0;
        }),
        fence("fence, a gateway takes less", twice(Facts::CANCEL)).with(|s| {
            s.how = &[How::Plain, How::Less];
            s.conflicts = true;
            s.budget.persons = 1;
        }),
        fence("fence, F1, too old, a person resolves", twice(Facts::ASKED)).with(|s| {
            s.how = PLAIN;
            s.budget.aged = 1;
            s.budget.persons = 2;
        }),
        gated("gated, F2, too old, a person resolves", twice(Facts::WEAK)).with(|s| {
            s.how = PLAIN;
            s.budget.aged = 1;
            s.budget.persons = 1;
        }),
        gated("gated, F2", twice(Facts::WEAK)),
        gated("gated, F3 by key", twice(Facts::TOMBSTONE)),
        gated("gated, F3 by cancelling", twice(Facts::CANCEL)).with(|s| s.budget.copies = 1),
        gated("gated, F1, hedged", twice(Facts::ASKED)).with(|s| s.budget.hedges = 1),
        gated("gated, hold", twice(Facts::WEAK)).with(|s| s.intent = Intent::Authorize),
        gated("gated, hold, captured and voided", twice(Facts::TOMBSTONE)).with(|s| {
            s.intent = Intent::Authorize;
            s.how = PLAIN;
            s.follow_ups = &[(Leg::Capture, 0), (Leg::Void, 0)];
            s.budget.follow_ups = 2;
            s.budget.retries = 0;
        }),
        gated("gated, F2, holds expire", twice(Facts::WEAK)).with(|s| s.budget.expiries = 1),
        gated(
            "gated, done later",
            twice(Facts {
                later: true,
                ..Facts::WEAK
            }),
        )
        .with(|s| s.budget.webhooks = 2),
        compensate("compensate, F3", twice(Facts::TOMBSTONE)),
        compensate("compensate, F2", twice(Facts::WEAK)),
        compensate("compensate, F1, key window ends", twice(Facts::ASKED)).with(|s| {
            s.how = PLAIN;
            s.clock = true;
        }),
        Scenario::new("off", Mode::Off, twice(Facts::TOMBSTONE)),
    ]
}

/// An unsafe variant.
pub struct Unsafe {
    /// The scenario.
    pub scenario: Scenario,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Variants in which money goes wrong, each by one change of the environment, the shell or the configuration.
pub fn unsafe_variants() -> Vec<Unsafe> {
    let twice = |facts| [facts, facts];
    let fence = || Scenario::new("fence", Mode::Fence, twice(Facts::TOMBSTONE)).with(|s| s.orders = FIXED);
    let gated = || Scenario::new("gated", Mode::Gated, twice(Facts::TOMBSTONE)).with(|s| s.orders = FIXED);
    let compensate = || Scenario::new("compensate", Mode::Compensate, twice(Facts::WEAK)).with(|s| s.orders = FIXED);
    let mutant = |name, why, scenario: Scenario| Unsafe {
        scenario: scenario.with(|s| {
            s.name = name;
            s.strict = false;
            s.resolves = false;
        }),
        why,
    };
    let twist = |twist| move |s: &mut Scenario| s.twist = Some(twist);
    vec![
        mutant(
            "timeout is not sent",
            "a time-out proves nothing",
            fence().with(twist(Twist::TimeoutIsNotSent)),
        ),
        mutant(
            "weak cancel is believed",
            "a cancel that found nothing does not stop what is still on its way",
            fence().with(|s| {
                s.facts = twice(Facts::WEAK);
                s.believed = [FenceStrength::F3; 2];
            }),
        ),
        mutant(
            "sent before it is written, routes change",
            "two replicas send to two gateways and only one is remembered (D1)",
            fence()
                .with(twist(Twist::SendsFirst))
                .with(|s| s.orders = super::scenario::EITHER),
        ),
        mutant(
            "giving up is failed",
            "unknown is not failed",
            fence().with(twist(Twist::GiveUpIsFailed)),
        ),
        mutant(
            "fresh keys",
            "a fence on another key than the original's stops nothing (D6)",
            fence().with(twist(Twist::FreshKeys)),
        ),
        mutant(
            "pass-through beside a route to the second",
            "the second gateway is used without fencing the first",
            fence().with(|s| s.direct = true),
        ),
        mutant(
            "pass-through with a weak cancel",
            "the fence before the second gateway has to be a real one",
            fence().with(|s| {
                s.direct = true;
                s.facts = twice(Facts::WEAK);
                s.believed = [FenceStrength::F3; 2];
                s.policy.fence_before_secondary = true;
            }),
        ),
        mutant(
            "obligation closed on the first not-found",
            "a look-up that finds nothing is no proof (compensate)",
            compensate().with(twist(Twist::NotFoundIsNever)),
        ),
        mutant(
            "failed on the first not-found",
            "a look-up that finds nothing is no proof (fence, F1)",
            fence()
                .with(twist(Twist::NotFoundIsNever))
                .with(|s| s.facts = twice(Facts::ASKED))
                .with(|s| {
                    s.believed = [FenceStrength::F1; 2];
                }),
        ),
        mutant(
            "quiescence assumed at once",
            "assumption A5 with a gateway that executes later (fence, F2)",
            fence().with(|s| {
                s.facts = twice(Facts::WEAK);
                s.believed = [FenceStrength::F2; 2];
                s.policy.assume_quiescent_after = Some(0);
            }),
        ),
        mutant(
            "capture before the winner is written",
            "the capture is what makes an authorisation an effect (D3)",
            gated().with(twist(Twist::CaptureFirst)).with(|s| {
                s.how = PLAIN;
                s.unsent = false;
                s.budget = Budget {
                    hedges: 1,
                    ..Budget::default()
                };
            }),
        ),
        mutant(
            "authorisations captured at once",
            "a gateway account with automatic capture cannot be gated",
            gated().with(|s| {
                s.facts = twice(Facts {
                    captures_at_once: true,
                    ..Facts::TOMBSTONE
                });
            }),
        ),
        mutant(
            "appends without version and epoch, gated",
            "two owners record two winners",
            gated().with(twist(Twist::BlindAppend)),
        ),
        mutant(
            "appends without version and epoch, routes change",
            "two owners follow two plans",
            fence()
                .with(twist(Twist::BlindAppend))
                .with(|s| s.orders = super::scenario::EITHER),
        ),
        mutant(
            "last write lost, gated",
            "the winner is forgotten",
            gated().with(|s| s.budget.losses = 1),
        ),
        mutant(
            "last write lost, routes change",
            "the plan is forgotten and another one is made (fence)",
            fence().with(|s| {
                s.budget.losses = 1;
                s.orders = super::scenario::EITHER;
            }),
        ),
        mutant(
            "plan not pinned",
            "recovery follows the route's new order",
            fence()
                .with(twist(Twist::PlanNotPinned))
                .with(|s| s.orders = super::scenario::EITHER),
        ),
        mutant(
            "recovery assumes unsent",
            "what was planned before a crash may have been sent",
            fence().with(twist(Twist::RecoveryAssumesUnsent)),
        ),
        mutant(
            "answers before records, routes change",
            "the failure is told, forgotten, and another plan succeeds (D5)",
            fence()
                .with(twist(Twist::AnswersFirst))
                .with(|s| s.orders = super::scenario::EITHER),
        ),
        mutant(
            "a refusal at the edge is believed",
            "a CDN says refused, and the origin executed (row 6 without trust)",
            fence().with(|s| s.how = &[How::Plain, How::Lie]),
        ),
        mutant(
            "a refusal of the second sending is believed",
            "the first sending with that key may still arrive",
            fence().with(twist(Twist::ResentIsBelieved)).with(|s| {
                s.facts = twice(Facts::ASKED);
                s.believed = [FenceStrength::F1; 2];
            }),
        ),
        mutant(
            "obligations forgotten in a crash",
            "nobody releases the loser (D4)",
            compensate().with(twist(Twist::ObligationsForgotten)),
        ),
        mutant(
            "declined objects believed closed",
            "the customer completes the first while the second is charged",
            fence().with(|s| {
                s.facts = twice(Facts {
                    stays_open: true,
                    ..Facts::CANCEL
                });
                s.believed_open = false;
                s.how = DECLINES;
                s.policy.soft_decline = true;
                s.budget.completions = 1;
            }),
        ),
        mutant(
            "a refund in doubt counts for nothing",
            "the next refund is measured against what is not known to be gone",
            fence().with(twist(Twist::DoubtIsNothing)).with(|s| {
                s.facts = twice(Facts {
                    unchecked: true,
                    ..Facts::TOMBSTONE
                });
                s.how = PLAIN;
                s.follow_ups = &[(Leg::Refund, 6), (Leg::Refund, 5)];
                s.budget = Budget {
                    follow_ups: 2,
                    ..Budget::default()
                };
            }),
        ),
        mutant(
            "the amount in an answer is not read",
            "a gateway took half of it, and the application is told that it was paid",
            fence()
                .with(twist(Twist::AmountUnread))
                .with(|s| s.how = &[How::Plain, How::Less]),
        ),
        mutant(
            "a person calls failed what is still on its way",
            "the books are empty until the late original comes",
            fence().with(twist(Twist::PersonGuesses)).with(|s| {
                s.facts = twice(Facts::ASKED);
                s.believed = [FenceStrength::F1; 2];
                s.how = PLAIN;
                s.budget.persons = 1;
            }),
        ),
        mutant(
            "another round while an attempt is unknown",
            "the application asks again, and what was merely not heard of is tried anew",
            fence().with(twist(Twist::ReopensInDoubt)).with(|s| {
                s.facts = twice(Facts::ASKED);
                s.believed = [FenceStrength::F1; 2];
                s.how = PLAIN;
            }),
        ),
        mutant(
            "another round that nobody asked for",
            "the application was told that nobody executed it, and may have gone elsewhere",
            fence().with(twist(Twist::ReopensUnasked)).with(|s| {
                s.budget.retries = 0;
            }),
        ),
        mutant(
            "key window overstated",
            "a key replayed after the gateway forgot it is a new payment (D7)",
            fence().with(|s| {
                s.facts = twice(Facts::ASKED);
                s.believed = [FenceStrength::F1; 2];
                s.believed_hours = 240;
                s.clock = true;
                s.budget.retries = 2;
            }),
        ),
    ]
}

/// The deep version of a scenario: more goes wrong, as much as in safety.md 2.8.
pub fn deep(scenario: Scenario) -> Scenario {
    scenario.with(|s| {
        s.deep = true;
        s.budget = Budget {
            kills: 2,
            takes: 4,
            retries: s.budget.retries.saturating_mul(2),
            ..s.budget
        };
    })
}

/// What every simulated run may meet: everything at once.
pub fn storm(mode: Mode, facts: [Facts; 2], intent: Intent) -> Scenario {
    Scenario::new("storm", mode, facts).with(|s| {
        s.intent = intent;
        s.how = &[How::Plain, How::Plain, How::Soft, How::Hard, How::Busy, How::Ask];
        s.reused = true;
        s.clock = true;
        s.policy = Policy {
            soft_decline: true,
            ..Policy::default()
        };
        s.conflicts = facts.iter().any(|facts| facts.stays_open);
        s.resolves = false;
        s.follow_ups = match intent {
            Intent::Sale => &[(Leg::Refund, 6), (Leg::Refund, 5), (Leg::Refund, 4)],
            Intent::Authorize => &[(Leg::Capture, 7), (Leg::Refund, 5), (Leg::Void, 0)],
        };
        s.budget = Budget {
            kills: 5,
            takes: 8,
            retries: 6,
            copies: 4,
            disconnects: 2,
            hedges: 2,
            follow_ups: 3,
            expiries: 1,
            completions: 1,
            losses: 0,
            aged: 1,
            persons: 2,
            webhooks: 6,
            returns: 1,
        };
    })
}
