use proptest::prelude::*;

use super::*;

const S: Duration = Duration::from_secs(1);
const FAST: Duration = Duration::from_millis(10);
const MIDDLE: f64 = 0.5;

fn settings() -> model::Breaker {
    model::Breaker {
        consecutive: 5,
        failure_rate: 0.5,
        slow_rate: 0.8,
        slow_after: 5 * S,
        window: 10 * S,
        min_calls: 20,
        open: 5 * S,
        open_max: 60 * S,
        half_open_calls: 3,
    }
}

fn call(b: &Arc<Breaker>, verdict: Verdict, now: Instant) -> Option<Transition> {
    let permit = b.admit(now, Probing::Allowed).expect("admitted");
    permit.report(Report::new(verdict, FAST), now, MIDDLE)
}

fn trip(b: &Arc<Breaker>, now: Instant) -> Transition {
    (0..5)
        .find_map(|_| call(b, Verdict::Failure, now))
        .expect("five failures trip it")
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_it_and_a_success_between_does_not() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(call(&b, Verdict::Failure, t), None);
        }
        assert_eq!(call(&b, Verdict::Success, t), None);
    }
    for _ in 0..4 {
        call(&b, Verdict::Failure, t);
    }
    let transition = call(&b, Verdict::Failure, t).unwrap();
    assert_eq!(
        (transition.from, transition.to, transition.reason),
        (State::Closed, State::Open, Reason::Consecutive)
    );
    assert_eq!(transition.open_for, Some(5 * S));
    let refused = b.admit(t + S, Probing::Allowed).unwrap_err();
    assert_eq!(
        refused,
        Refused {
            state: State::Open,
            retry_in: 4 * S
        }
    );
}

#[tokio::test(start_paused = true)]
async fn unknown_payments_trip_it_twice_as_fast() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    assert_eq!(call(&b, Verdict::Unknown, t), None);
    assert_eq!(call(&b, Verdict::Unknown, t), None);
    assert_eq!(call(&b, Verdict::Unknown, t).unwrap().reason, Reason::Consecutive);
}

#[tokio::test(start_paused = true)]
async fn a_half_dead_gateway_opens_it_by_rate_once_there_are_enough_calls() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    let mut calls = 0;
    let transition = loop {
        calls += 1;
        let verdict = if calls % 2 == 1 {
            Verdict::Success
        } else {
            Verdict::Failure
        };
        if let Some(t) = call(&b, verdict, t) {
            break t;
        }
        assert!(calls < 100);
    };
    assert_eq!((calls, transition.reason), (20, Reason::FailureRate));
}

#[tokio::test(start_paused = true)]
async fn old_failures_leave_the_window() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    for _ in 0..4 {
        for _ in 0..3 {
            call(&b, Verdict::Failure, t);
        }
        call(&b, Verdict::Success, t);
    }
    let later = t + 11 * S;
    for i in 0..19 {
        assert_eq!(
            call(&b, if i % 3 == 0 { Verdict::Failure } else { Verdict::Success }, later),
            None
        );
    }
    assert_eq!(b.snapshot(later).calls, 19);
}

#[tokio::test(start_paused = true)]
async fn late_answers_open_it_even_when_they_are_good() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    let slow = || {
        b.admit(t, Probing::Allowed)
            .unwrap()
            .report(Report::new(Verdict::Success, 6 * S), t, MIDDLE)
    };
    for _ in 0..4 {
        call(&b, Verdict::Success, t);
    }
    let transition = (0..16).find_map(|_| slow()).unwrap();
    assert_eq!(transition.reason, Reason::SlowRate);
}

#[tokio::test(start_paused = true)]
async fn overload_counts_for_the_rate_but_not_in_a_row_and_fails_a_probe() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    for _ in 0..19 {
        assert_eq!(call(&b, Verdict::Overloaded, t), None);
    }
    assert_eq!(call(&b, Verdict::Overloaded, t).unwrap().reason, Reason::FailureRate);
    let t = t + 5 * S;
    assert_eq!(call(&b, Verdict::Overloaded, t), None);
    assert_eq!(call(&b, Verdict::Overloaded, t).unwrap().reason, Reason::ProbesFailed);
}

#[tokio::test(start_paused = true)]
async fn two_good_probes_of_three_close_it_and_two_bad_ones_reopen_it_for_longer() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    trip(&b, t);
    let t = t + 5 * S;
    let mut first = b.admit(t, Probing::Allowed).unwrap();
    assert_eq!(first.take_transition().unwrap().reason, Reason::Elapsed);
    let second = b.admit(t, Probing::Allowed).unwrap();
    let third = b.admit(t, Probing::Allowed).unwrap();
    assert_eq!(b.admit(t, Probing::Allowed).unwrap_err().state, State::HalfOpen);
    assert_eq!(first.report(Report::new(Verdict::Failure, FAST), t, MIDDLE), None);
    let reopened = second.report(Report::new(Verdict::Failure, FAST), t, MIDDLE).unwrap();
    assert_eq!(
        (reopened.reason, reopened.open_for),
        (Reason::ProbesFailed, Some(10 * S))
    );
    assert_eq!(
        third.report(Report::new(Verdict::Success, FAST), t, MIDDLE),
        None,
        "decided already"
    );

    let t = t + 10 * S;
    assert_eq!(call(&b, Verdict::Success, t), None);
    assert_eq!(call(&b, Verdict::Success, t).unwrap().reason, Reason::ProbesPassed);
    assert_eq!(b.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_frees_its_place() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    trip(&b, t);
    let t = t + 5 * S;
    for _ in 0..10 {
        let permit = b.admit(t, Probing::Allowed).unwrap();
        assert!(permit.is_probe());
        drop(permit);
    }
    let ignored = b.admit(t, Probing::Allowed).unwrap();
    assert_eq!(ignored.report(Report::new(Verdict::Ignored, FAST), t, MIDDLE), None);
    call(&b, Verdict::Success, t);
    assert_eq!(call(&b, Verdict::Success, t).unwrap().to, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_late_success_from_before_the_outage_closes_nothing() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    let old: Vec<_> = (0..10).map(|_| b.admit(t, Probing::Allowed).unwrap()).collect();
    trip(&b, t);
    let t = t + 5 * S;
    let probe = b.admit(t, Probing::Allowed).unwrap();
    for permit in old {
        assert_eq!(permit.report(Report::new(Verdict::Success, FAST), t, MIDDLE), None);
    }
    assert_eq!(b.state(), State::HalfOpen);
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn a_payment_is_no_probe_where_it_need_not_be() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    trip(&b, t);
    assert!(!b.wants_probe(t + 4 * S));
    let t = t + 5 * S;
    assert!(b.wants_probe(t));
    assert_eq!(b.admit(t, Probing::Avoid).unwrap_err().state, State::Open);
    call(&b, Verdict::Success, t);
    assert_eq!(b.admit(t, Probing::Avoid).unwrap_err().state, State::HalfOpen);
    call(&b, Verdict::Success, t);
    assert!(b.admit(t, Probing::Avoid).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_open_time_doubles_to_its_cap_varies_and_is_forgiven() {
    let mut t = Instant::now();
    let b = Breaker::new(settings(), t);
    let mut open = trip(&b, t).open_for.unwrap();
    let mut seen = vec![open];
    for _ in 0..6 {
        t += open;
        call(&b, Verdict::Failure, t);
        open = call(&b, Verdict::Failure, t).unwrap().open_for.unwrap();
        seen.push(open);
    }
    assert_eq!(seen, [5 * S, 10 * S, 20 * S, 40 * S, 60 * S, 60 * S, 60 * S]);
    t += open;
    call(&b, Verdict::Success, t);
    call(&b, Verdict::Success, t);
    assert_eq!(b.snapshot(t).trips, 7);
    t += 5 * 60 * S;
    let permits: Vec<_> = (0..5).map(|_| b.admit(t, Probing::Allowed).unwrap()).collect();
    let low = permits
        .into_iter()
        .find_map(|p| p.report(Report::new(Verdict::Failure, FAST), t, 0.0))
        .unwrap();
    assert_eq!(
        low.open_for,
        Some(16 * S),
        "five minutes forgave five doublings; 20 % less by jitter"
    );
}

#[tokio::test(start_paused = true)]
async fn retry_after_lengthens_the_open_time_but_is_not_believed_without_end() {
    for (said, expected) in [(30, 30), (1, 5), (86_400, 300)] {
        let t = Instant::now();
        let b = Breaker::new(settings(), t);
        let report = Report {
            retry_after: Some(said * S),
            ..Report::new(Verdict::Failure, FAST)
        };
        let transition = (0..5).find_map(|_| b.admit(t, Probing::Allowed).unwrap().report(report, t, MIDDLE));
        assert_eq!(transition.unwrap().open_for, Some(expected * S));
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_has_the_last_word() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    let forced = b.force_open("provider announced maintenance", t);
    assert_eq!(
        (forced.to, forced.note.as_deref()),
        (State::ForcedOpen, Some("provider announced maintenance"))
    );
    assert_eq!(
        b.admit(t + 3_600 * S, Probing::Allowed).unwrap_err().state,
        State::ForcedOpen
    );
    b.force_close("drill", t);
    for _ in 0..100 {
        assert_eq!(call(&b, Verdict::Failure, t), None);
    }
    assert_eq!(b.reset("drill over", t).reason, Reason::Reset);
    trip(&b, t);
    assert_eq!(b.snapshot(t + S).open_for_ms, Some(4_000));
    b.reset("", t);
    assert!(b.admit(t, Probing::Avoid).is_ok());
}

#[tokio::test(start_paused = true)]
async fn new_settings_keep_the_state() {
    let t = Instant::now();
    let b = Breaker::new(settings(), t);
    trip(&b, t);
    b.update(
        model::Breaker {
            consecutive: 1,
            window: 20 * S,
            ..settings()
        },
        t,
    );
    assert_eq!(b.state(), State::Open);
    b.reset("", t);
    assert_eq!(call(&b, Verdict::Failure, t).unwrap().reason, Reason::Consecutive);
}

#[test]
fn a_declined_card_is_a_healthy_gateway() {
    for status in [200, 201, 302, 400, 401, 402, 403, 404, 409, 422, 501, 505] {
        assert_eq!(Verdict::of_status(status), Verdict::Success, "{status}");
    }
    for status in [500, 502, 503, 504, 529, 599] {
        assert_eq!(Verdict::of_status(status), Verdict::Failure, "{status}");
    }
    assert_eq!(Verdict::of_status(429), Verdict::Overloaded);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Admit(bool),
    Report(usize, Verdict, bool),
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        Just(Verdict::Success),
        Just(Verdict::Failure),
        Just(Verdict::Overloaded),
        Just(Verdict::Unknown),
        Just(Verdict::Ignored),
    ];
    let step = prop_oneof![
        1 => (0u64..8_000).prop_map(Step::Wait),
        4 => any::<bool>().prop_map(Step::Admit),
        4 => (any::<usize>(), verdict, any::<bool>()).prop_map(|(i, v, s)| Step::Report(i, v, s)),
        1 => any::<usize>().prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens: only a permit of the present generation moves it; it closes only from half-open and only by
    /// probes; a half-open breaker never has more probes out than allowed; no rate opens it below `min_calls`; nothing
    /// passes before its time.
    #[test]
    fn its_laws_hold_under_any_history(steps in steps(), consecutive in 0u32..4, min_calls in 1u32..10) {
        let rt = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _enter = rt.enter();
        let mut now = Instant::now();
        let b = Breaker::new(model::Breaker { consecutive, min_calls, ..settings() }, now);
        let mut out: Vec<(Permit, u64)> = Vec::new();
        let mut open_until = None;
        let mut reported = 0u32;
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Admit(may_probe) => {
                    let probing = if may_probe { Probing::Allowed } else { Probing::Avoid };
                    let before = b.state();
                    if let Ok(mut permit) = b.admit(now, probing) {
                        if let Some(t) = permit.take_transition() {
                            prop_assert_eq!((t.from, t.to), (State::Open, State::HalfOpen));
                            prop_assert!(open_until.is_some_and(|u| now >= u), "admitted before its time");
                        }
                        prop_assert!(before == State::Closed || (permit.is_probe() && may_probe));
                        let generation = b.snapshot(now).generation;
                        out.push((permit, generation));
                        if b.state() == State::HalfOpen {
                            let probes = out.iter().filter(|(p, g)| p.is_probe() && *g == generation).count();
                            prop_assert!(probes <= 3, "{} probes out", probes);
                        }
                    }
                }
                Step::Report(i, verdict, slow) if !out.is_empty() => {
                    let (permit, generation) = out.swap_remove(i % out.len());
                    let before = b.snapshot(now);
                    let took = if slow { 6 * S } else { FAST };
                    let transition = permit.report(Report::new(verdict, took), now, MIDDLE);
                    if before.state == State::Closed && generation == before.generation && verdict != Verdict::Ignored {
                        reported += if verdict == Verdict::Unknown { 2 } else { 1 };
                    }
                    let Some(t) = transition else { continue };
                    prop_assert_eq!(generation, before.generation, "a report from another generation moved it");
                    prop_assert_ne!(verdict, Verdict::Ignored);
                    match t.to {
                        State::Closed => prop_assert_eq!(t.from, State::HalfOpen),
                        State::Open => {
                            if matches!(t.reason, Reason::FailureRate | Reason::SlowRate) {
                                prop_assert!(reported >= min_calls);
                            }
                            let open_for = t.open_for.unwrap();
                            prop_assert!(open_for >= 4 * S && open_for <= 72 * S);
                            open_until = Some(now + open_for);
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                    reported = 0;
                }
                Step::Drop(i) if !out.is_empty() => {
                    let before = b.state();
                    drop(out.swap_remove(i % out.len()));
                    prop_assert_eq!(b.state(), before);
                }
                Step::Report(..) | Step::Drop(_) => {}
            }
        }
    }
}
