//! Single steps. Whole payments are the business of the model check (`tests/model`).

mod held;
mod late;

use super::*;
use crate::config::model::Mode;
use crate::gateway::outcome::{DeclineClass, Outcome, Rejection};
use crate::gateway::{FenceStrength, Leg};
use crate::money::Amount;

const HOUR: i64 = 3600;

fn plan(mode: Mode, intent: Intent) -> Plan {
    let gateway = |name: &str, native| PlannedGateway {
        name: name.to_owned(),
        fence: FenceStrength::F3,
        lookup: true,
        manual_capture: true,
        void: true,
        idempotency_hours: 24,
        modification_hours: 24,
        declines_stay_open: false,
        native,
    };
    Plan {
        mode,
        intent,
        amount: Some(Amount {
            units: 1000,
            currency: "EUR".to_owned().try_into().unwrap(),
        }),
        gateways: vec![gateway("first", true), gateway("second", false)],
        policy: Policy::default(),
    }
}

struct Payment {
    state: State,
    at: i64,
    actions: Vec<Action>,
}

impl Payment {
    fn open(plan: Plan) -> Self {
        let mut payment = Self {
            state: State::default(),
            at: 0,
            actions: Vec::new(),
        };
        payment.tell(What::Open(Box::new(plan)));
        payment
    }

    fn tell(&mut self, what: What) {
        let event = Event { at: self.at, what };
        (self.state, self.actions) = step(self.state.clone(), event);
    }

    fn hears(&mut self, n: u16, finding: Finding) {
        let finding = Box::new(finding);
        self.tell(What::Observed {
            n,
            finding,
            evidence: None,
        });
    }

    fn refund(&mut self, key: &str) {
        self.tell(What::FollowUp {
            request: Some(key.to_owned()),
            leg: Leg::Refund,
            amount: None,
            keeps: false,
        });
    }

    fn sent(&self) -> Option<(u16, Leg)> {
        self.actions.iter().find_map(|action| match action {
            Action::Send(send) => Some((send.n, send.leg)),
            _ => None,
        })
    }
}

fn bare(outcome: Outcome) -> Finding {
    Finding::bare(outcome, "test")
}

fn with_id(outcome: Outcome) -> Finding {
    let ids = Ids {
        payment: Some("pi_1".to_owned()),
        ..Ids::default()
    };
    Finding { ids, ..bare(outcome) }
}

#[test]
fn a_fence_that_found_its_key_taken_is_over_and_what_is_looked_up_then_wins() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    assert_eq!(payment.sent(), Some((2, Leg::Fence)));
    payment.hears(
        2,
        Finding {
            arrived: true,
            ..bare(Outcome::Unknown)
        },
    );
    payment.tell(What::Timer { n: 1 });
    assert_eq!(payment.sent(), Some((3, Leg::Lookup)));
    payment.hears(3, with_id(Outcome::Succeeded));
    assert_eq!(payment.state.told, Some(Verdict::Succeeded { n: 1 }));
}

#[test]
fn an_original_that_arrived_is_asked_for_by_its_own_key_when_the_application_brings_the_body_again() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    payment.hears(
        2,
        Finding {
            arrived: true,
            ..bare(Outcome::Unknown)
        },
    );
    payment.tell(What::Deadline);
    payment.tell(What::Retry);
    assert_eq!(payment.sent(), Some((1, Leg::Charge)));
}

#[test]
fn a_concluded_fence_is_not_planned_again_though_the_end_is_wanted() {
    for mode in [Mode::Gated, Mode::Compensate] {
        let mut payment = Payment::open(plan(mode, Intent::Sale));
        payment.hears(1, bare(Outcome::Unknown));
        // The second one takes it, and whatever became of the first has to end.
        payment.hears(
            2,
            with_id(if mode == Mode::Gated {
                Outcome::Authorised
            } else {
                Outcome::Succeeded
            }),
        );
        if mode == Mode::Gated {
            payment.hears(3, bare(Outcome::Succeeded));
        }
        assert!(payment.state.owed(1), "{mode:?}");
        let fences = |payment: &Payment| {
            let fences = payment
                .state
                .numbered()
                .filter(|(_, a)| a.leg == Leg::Fence && a.of == Some(1));
            fences.map(|(n, fence)| (n, fence.key)).collect::<Vec<_>>()
        };
        let by_key = fences(&payment)[0].0;
        let arrived = Finding {
            arrived: true,
            ..bare(Outcome::Unknown)
        };
        payment.hears(by_key, arrived);
        // It had arrived, and nothing names it yet: it is looked for as often as it takes.
        for _ in 0..5 {
            payment.tell(What::Timer { n: 1 });
            let (n, leg) = payment.sent().unwrap();
            assert_eq!(leg, Leg::Lookup, "{mode:?}");
            payment.hears(n, bare(Outcome::Unknown));
        }
        assert_eq!(fences(&payment).len(), 1, "{mode:?}");
        // Found, and still being executed: now there is something to end by its name.
        payment.tell(What::Timer { n: 1 });
        let (n, _) = payment.sent().unwrap();
        payment.hears(n, with_id(Outcome::Unknown));
        payment.tell(What::Timer { n: 1 });
        let (by_id, leg) = payment.sent().unwrap();
        assert_eq!(
            (leg, payment.state.attempt(by_id).unwrap().key),
            (Leg::Fence, Key::BY_ID),
            "{mode:?}"
        );
        payment.hears(by_id, bare(Outcome::ActionRequired));
        for _ in 0..3 {
            payment.tell(What::Timer { n: 1 });
            let (n, leg) = payment.sent().unwrap();
            assert_eq!(leg, Leg::Lookup, "{mode:?}");
            payment.hears(n, bare(Outcome::ActionRequired));
        }
        assert_eq!(fences(&payment).len(), 2, "{mode:?}");
        payment.tell(What::Timer { n: 1 });
        let (n, _) = payment.sent().unwrap();
        payment.hears(n, bare(Outcome::Fenced));
        assert!(!payment.state.owes(), "{mode:?}");
    }
}

#[test]
fn a_claimed_key_proves_nothing_once_the_gateway_may_have_forgotten_it() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    payment.at = 25 * HOUR;
    payment.hears(2, bare(Outcome::Fenced));
    assert_eq!(payment.state.attempt(1).unwrap().known, Knowledge::NOTHING);
    assert_eq!(payment.state.phase, Phase::Fencing { of: 1 });
}

#[test]
fn a_fence_by_id_is_believed_at_any_age_and_is_an_attempt_of_its_own() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    payment.hears(2, bare(Outcome::Unknown));
    payment.at = 25 * HOUR;
    payment.tell(What::Timer { n: 1 });
    payment.hears(3, with_id(Outcome::Unknown));
    payment.tell(What::Timer { n: 1 });
    assert_eq!(payment.sent(), Some((4, Leg::Fence)));
    payment.hears(4, bare(Outcome::Fenced));
    assert_eq!(payment.sent(), Some((5, Leg::Charge)));
}

#[test]
fn a_hold_told_of_after_its_object_was_cancelled_is_gone_and_no_contradiction() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Authorize));
    payment.hears(1, bare(Outcome::Unknown));
    payment.hears(2, with_id(Outcome::Fenced));
    assert_eq!(payment.sent(), Some((3, Leg::Auth)));
    payment.hears(1, with_id(Outcome::Authorised));
    assert_eq!(payment.state.phase, Phase::Trying { n: 3 });
    assert!(payment.state.attempt(1).unwrap().released);
}

#[test]
fn a_hold_behind_a_claimed_key_is_a_broken_guarantee_and_a_person_is_told() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Authorize));
    payment.hears(1, bare(Outcome::Unknown));
    payment.hears(2, bare(Outcome::Fenced));
    payment.hears(1, with_id(Outcome::Authorised));
    assert_eq!(payment.state.phase, Phase::Manual);
}

#[test]
fn where_requests_may_pass_the_ledger_by_not_sent_is_not_believed_of_the_applications_key() {
    let mut plan = plan(Mode::Fence, Intent::Sale);
    plan.policy.fence_before_secondary = true;
    let mut payment = Payment::open(plan);
    payment.hears(1, bare(Outcome::NotSent));
    assert_eq!(payment.sent(), Some((2, Leg::Fence)));
    payment.hears(2, bare(Outcome::Fenced));
    assert_eq!(payment.sent(), Some((3, Leg::Charge)));
    payment.hears(3, bare(Outcome::NotSent));
    assert_eq!(payment.state.phase.name(), "failed");
}

#[test]
fn a_release_that_was_accepted_is_looked_for_after_a_pause_and_not_at_once() {
    let mut payment = Payment::open(plan(Mode::Gated, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    payment.hears(2, bare(Outcome::Authorised));
    payment.hears(3, bare(Outcome::Succeeded));
    payment.hears(1, bare(Outcome::Authorised));
    let void = payment.sent().filter(|(_, leg)| *leg == Leg::Void).unwrap().0;
    payment.hears(
        void,
        Finding {
            pending: true,
            ..bare(Outcome::Unknown)
        },
    );
    payment.tell(What::Timer { n: void });
    // The fence that was asked for while nothing was known of the loser.
    payment.hears(4, bare(Outcome::Unknown));
    payment.tell(What::Timer { n: 1 });
    let look_up = payment
        .state
        .numbered()
        .find(|(_, a)| a.leg == Leg::Lookup && a.of == Some(1))
        .unwrap()
        .0;
    payment.hears(look_up, bare(Outcome::Authorised));
    assert_eq!(payment.sent(), None);
    assert!(payment.state.here.waiting.contains(&1));
}

#[test]
fn a_look_up_of_what_never_left_that_finds_its_second_sending_is_about_that_one() {
    let mut payment = Payment::open(plan(Mode::Gated, Intent::Sale));
    payment.hears(
        1,
        Finding {
            reused: true,
            ..bare(Outcome::NotSent)
        },
    );
    assert_eq!(payment.sent(), Some((2, Leg::Auth)));
    payment.hears(1, with_id(Outcome::Authorised));
    assert_eq!(payment.state.winner, Some(2));
}

#[test]
fn what_a_fence_was_sent_against_is_not_sent_to_the_same_gateway_again() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    assert_eq!(payment.sent(), Some((2, Leg::Fence)));
    payment.hears(
        1,
        Finding {
            reused: true,
            ..bare(Outcome::NotSent)
        },
    );
    let (n, leg) = payment.sent().unwrap();
    assert_eq!((leg, payment.state.attempt(n).unwrap().gateway), (Leg::Charge, 1));
}

#[test]
fn the_application_asks_again_for_the_attempt_that_is_open_though_a_later_one_had_no_effect() {
    let mut plan = plan(Mode::Gated, Intent::Sale);
    plan.gateways[0].fence = FenceStrength::F1;
    plan.gateways[0].lookup = false;
    let mut payment = Payment::open(plan);
    payment.hears(1, bare(Outcome::Unknown));
    assert_eq!(payment.sent(), Some((2, Leg::Auth)));
    payment.hears(2, bare(Outcome::Rejected(Rejection::Transient)));
    payment.tell(What::Deadline);
    payment.tell(What::Retry);
    assert_eq!(payment.sent(), Some((1, Leg::Auth)));
}

fn planned(payment: &Payment) -> Vec<(u8, Key)> {
    payment.state.pays().map(|(_, pay)| (pay.gateway, pay.key)).collect()
}

#[test]
fn what_nobody_executed_is_tried_again_from_the_first_gateway_on_under_the_same_keys() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, bare(Outcome::NotSent));
    payment.hears(2, bare(Outcome::Rejected(Rejection::Transient)));
    assert!(payment.state.reopens() && payment.state.finished());
    payment.tell(What::Retry);
    assert_eq!((payment.sent(), payment.state.told), (Some((3, Leg::Charge)), None));
    payment.hears(3, bare(Outcome::NotSent));
    let derived = Key::Derived { nth: 0 };
    let round = [(0, Key::Application), (1, derived)];
    assert_eq!(planned(&payment), [round, round].concat());
    payment.hears(4, with_id(Outcome::Succeeded));
    assert_eq!(payment.state.told, Some(Verdict::Succeeded { n: 4 }));
    payment.tell(What::Retry);
    assert_eq!(payment.sent(), None);
}

#[test]
fn a_fenced_gateway_stays_closed_to_later_rounds() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    payment.hears(2, bare(Outcome::Fenced));
    payment.hears(3, bare(Outcome::NotSent));
    payment.tell(What::Retry);
    assert_eq!(payment.sent(), Some((4, Leg::Charge)));
    assert_eq!(payment.state.attempt(4).unwrap().gateway, 1);
    // Fenced there, too: nothing is left to ask, and the last answer stays.
    payment.hears(4, bare(Outcome::Unknown));
    payment.hears(5, bare(Outcome::Fenced));
    assert!(matches!(
        payment.state.phase,
        Phase::Failed {
            why: Failure::NotExecuted,
            ..
        }
    ));
    assert!(!payment.state.reopens());
    payment.tell(What::Retry);
    assert_eq!(payment.sent(), None);
}

#[test]
fn no_round_begins_on_less_than_proof_or_against_anybodys_word() {
    let unknown = |payment: &mut Payment| {
        payment.hears(1, bare(Outcome::Unknown));
        payment.tell(What::Deadline);
    };
    let mut doubtful = plan(Mode::Fence, Intent::Sale);
    doubtful.gateways[0].fence = FenceStrength::F1;
    let mut payment = Payment::open(doubtful);
    unknown(&mut payment);
    assert!(!payment.state.reopens());
    for declined in [
        Outcome::Declined(DeclineClass::Hard),
        Outcome::Rejected(Rejection::Request),
    ] {
        let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
        payment.hears(1, bare(declined));
        assert!(payment.state.finished() && !payment.state.reopens());
    }
    // What a reference names and no key has no rounds: its failure frees the reference.
    for key in [KeyKind::Natural, KeyKind::None] {
        let mut plan = plan(Mode::Fence, Intent::Sale);
        plan.policy.key = key;
        let mut payment = Payment::open(plan);
        payment.hears(1, bare(Outcome::NotSent));
        payment.hears(2, bare(Outcome::NotSent));
        assert!(payment.state.finished() && !payment.state.reopens());
    }
}

#[test]
fn what_an_earlier_round_was_wrong_about_stops_the_next_one() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    payment.hears(1, bare(Outcome::Unknown));
    payment.hears(2, bare(Outcome::Fenced));
    payment.hears(3, bare(Outcome::NotSent));
    payment.tell(What::Retry);
    payment.hears(1, with_id(Outcome::Succeeded));
    assert_eq!(payment.state.phase, Phase::Manual);
}

#[test]
fn rounds_come_to_an_end() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    for _ in 0..200 {
        while let Some((n, _)) = payment.sent() {
            payment.hears(n, bare(Outcome::NotSent));
        }
        payment.tell(What::Retry);
    }
    assert_eq!((payment.sent(), payment.state.attempts.len()), (None, 64));
}

#[test]
fn what_is_written_reads_back_as_it_was() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Sale));
    let mut records = Vec::new();
    let mut written = |payment: &Payment| {
        let persisted = payment.actions.iter().find_map(|action| match action {
            Action::Persist(records) => Some(records.clone()),
            _ => None,
        });
        records.extend(persisted.unwrap_or_default());
        let json = serde_json::to_string(&payment.state).unwrap();
        let read: State = serde_json::from_str(&json).unwrap();
        let here = payment.state.here.clone();
        assert_eq!(State { here, ..read }, payment.state, "{json}");
    };
    written(&payment);
    payment.tell(What::Observed {
        n: 1,
        finding: Box::new(Finding::bare(Outcome::NotSent, "no_answer")),
        evidence: serde_json::from_str(
            r#"{"progress":"nothing","bytes_sent":0,"bytes_received":0,"reused":false,"http2":false,
                "refused_by_peer":false,"status":null,"note":"refused","took":{"secs":0,"nanos":9}}"#,
        )
        .unwrap(),
    });
    written(&payment);
    payment.hears(2, Finding::bare(Outcome::Succeeded, "paid"));
    written(&payment);
    assert!(records.len() > 6, "{records:?}");
    for record in records {
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(Record::read(&json).unwrap(), record, "{json}");
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record, "{json}");
        let spaced = json.replacen(':', ": ", 1);
        assert_eq!(Record::read(&spaced).unwrap(), record, "{spaced}");
    }
    for none in [
        "",
        "{}",
        r#"{"record":"attempt_planned"}"#,
        r#"{"record":"other","n":1}"#,
    ] {
        assert!(Record::read(none).is_err(), "{none}");
    }
}

fn follow(request: &str, leg: Leg, units: i64, keeps: bool) -> What {
    let currency = "EUR".to_owned().try_into().unwrap();
    What::FollowUp {
        request: Some(request.to_owned()),
        leg,
        amount: Some(Amount { units, currency }),
        keeps,
    }
}

fn verdict(payment: &Payment) -> FollowUpVerdict {
    let told = payment.actions.iter().find_map(|action| match action {
        Action::AnswerFollowUp { verdict, .. } => Some(*verdict),
        _ => None,
    });
    told.expect("an answer")
}

fn keys(payment: &Payment) -> Vec<Key> {
    let captures = payment
        .state
        .attempts
        .iter()
        .filter(|attempt| attempt.leg == Leg::Capture);
    captures.map(|capture| capture.key).collect()
}

#[test]
fn captures_that_keep_the_rest_have_keys_of_their_own_and_never_take_more_than_is_held() {
    let mut payment = Payment::open(plan(Mode::Fence, Intent::Authorize));
    payment.hears(1, with_id(Outcome::Authorised));
    assert_eq!(payment.state.kept(), 0, "nothing was captured, and so nothing kept");
    payment.tell(follow("a", Leg::Capture, 400, true));
    let Some((first, Leg::Capture)) = payment.sent() else {
        panic!("{:?}", payment.actions)
    };
    // In doubt it counts as taken.
    assert_eq!(payment.state.kept(), 600);
    payment.tell(follow("b", Leg::Capture, 601, true));
    assert_eq!(verdict(&payment), FollowUpVerdict::Impossible(Impossible::TooMuch));
    payment.hears(first, bare(Outcome::Succeeded));
    assert_eq!(
        (verdict(&payment), payment.state.kept()),
        (FollowUpVerdict::Done { n: first }, 600)
    );
    payment.tell(follow("c", Leg::Capture, 500, true));
    let (second, _) = payment.sent().unwrap();
    payment.hears(second, bare(Outcome::Rejected(Rejection::Request)));
    assert_eq!(payment.state.kept(), 600, "what was refused took nothing");
    payment.tell(follow("d", Leg::Capture, 500, false));
    let (third, _) = payment.sent().unwrap();
    payment.hears(third, bare(Outcome::Succeeded));
    assert_eq!(payment.state.kept(), 0, "the last one lets the rest go");
    assert_eq!(payment.state.books().captured, 900);
    let keys = keys(&payment);
    assert!(
        keys.iter()
            .all(|key| keys.iter().filter(|other| *other == key).count() == 1),
        "{keys:?}"
    );
    // The same key means the same capture, with the same rest.
    payment.tell(follow("a", Leg::Capture, 400, false));
    assert_eq!(verdict(&payment), FollowUpVerdict::Impossible(Impossible::KeyReused));
    payment.tell(follow("a", Leg::Capture, 400, true));
    assert_eq!(verdict(&payment), FollowUpVerdict::Done { n: first });
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(256))]

    #[test]
    fn whatever_is_captured_and_refunded_in_parts_the_books_hold(
        steps in proptest::collection::vec((0..3_u8, 1..1200_i64, proptest::bool::ANY, 0..5_u8), 1..24),
    ) {
        let mut payment = Payment::open(plan(Mode::Fence, Intent::Authorize));
        payment.hears(1, with_id(Outcome::Authorised));
        for (index, (leg, units, keeps, outcome)) in steps.into_iter().enumerate() {
            let leg = if leg == 0 { Leg::Refund } else { Leg::Capture };
            payment.tell(follow(&format!("{index}"), leg, units, keeps && leg == Leg::Capture));
            let Some((n, _)) = payment.sent() else { continue };
            let outcome = match outcome {
                0 => Outcome::Unknown,
                1 => Outcome::Rejected(Rejection::Request),
                2 => Outcome::NotSent,
                _ => Outcome::Succeeded,
            };
            payment.hears(n, bare(outcome));
            let books = payment.state.books();
            let held = books.held.unwrap();
            proptest::prop_assert!(books.captured + books.capturing <= held, "{books:?}");
            proptest::prop_assert!(books.refunded + books.refunding <= books.captured, "{books:?}");
            let kept = payment.state.kept();
            proptest::prop_assert!((0..=held - books.captured - books.capturing).contains(&kept), "{kept} {books:?}");
            proptest::prop_assert_eq!(invariants::broken(&payment.state), None);
        }
        let keys = keys(&payment);
        let once = |key: &Key| keys.iter().filter(|other| *other == key).count() == 1;
        proptest::prop_assert!(keys.iter().all(once), "{:?}", keys);
        // What the ledger keeps adds up to the same.
        let folded = serde_json::to_string(&payment.state).unwrap();
        let read: State = serde_json::from_str(&folded).unwrap();
        proptest::prop_assert_eq!(read.kept(), payment.state.kept());
    }
}
