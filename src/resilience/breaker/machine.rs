//! The breaker's state machine: no lock, no clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Probing, RETRY_AFTER_MAX, Reason, Refused, Report, Snapshot, State, Transition, Verdict};
use crate::config::model;
use crate::resilience::window::Window;

/// Share of failed probes that reopens a breaker whose failure rate is switched off.
const PROBE_FAILURE_RATE: f64 = 0.5;

/// The open time varies by this share both ways, so that many sidecars do not probe in step.
const OPEN_JITTER: f64 = 0.2;

/// An admitted call: which generation admitted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
    probe: bool,
}

impl Ticket {
    /// Whether it holds one of the places of a half-open breaker.
    pub const fn is_probe(self) -> bool {
        self.probe
    }
}

#[derive(Clone, Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        out: u32,
        done: u32,
        failed: u32,
        slow: u32,
    },
    Forced {
        open: bool,
        note: Arc<str>,
    },
}

/// The machine behind [`Breaker`](super::Breaker).
#[derive(Clone, Debug)]
pub struct Machine {
    settings: model::Breaker,
    phase: Phase,
    reason: Option<Reason>,
    generation: u64,
    since: Instant,
    /// Times it opened in a row: the exponent of the open time.
    trips: u32,
    consecutive: u32,
    /// Calls, failures, slow calls.
    window: Window<3>,
    /// The latest moment that a `Retry-After` named.
    not_before: Option<Instant>,
}

impl Machine {
    /// A closed breaker.
    pub fn new(settings: model::Breaker, now: Instant) -> Self {
        Self {
            window: Window::new(settings.window, now),
            settings,
            phase: Phase::Closed,
            reason: None,
            generation: 0,
            since: now,
            trips: 0,
            consecutive: 0,
            not_before: None,
        }
    }

    /// The state as of the last call.
    pub const fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Forced { open: true, .. } => State::ForcedOpen,
            Phase::Forced { open: false, .. } => State::ForcedClosed,
        }
    }

    /// The present generation.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Asks to send one call.
    pub fn admit(&mut self, now: Instant, probing: Probing) -> Result<(Ticket, Option<Transition>), Refused> {
        let places = self.settings.half_open_calls.max(1);
        let refused = |state, retry_in| Err(Refused { state, retry_in });
        let mut transition = None;
        match self.phase {
            Phase::Closed | Phase::Forced { open: false, .. } => {
                return Ok((
                    Ticket {
                        generation: self.generation,
                        probe: false,
                    },
                    None,
                ));
            }
            Phase::Forced { open: true, .. } => return refused(State::ForcedOpen, self.settings.open_max),
            Phase::Open { until } if now < until => return refused(State::Open, until - now),
            // A payment waits for somebody else's probe.
            Phase::Open { .. } if probing == Probing::Avoid => return refused(State::Open, Duration::ZERO),
            Phase::HalfOpen { .. } if probing == Probing::Avoid => return refused(State::HalfOpen, Duration::ZERO),
            Phase::Open { .. } => {
                let phase = Phase::HalfOpen {
                    out: 0,
                    done: 0,
                    failed: 0,
                    slow: 0,
                };
                transition = Some(self.become_(phase, Reason::Elapsed, None, now));
            }
            Phase::HalfOpen { .. } => {}
        }
        let Phase::HalfOpen { out, done, .. } = &mut self.phase else {
            return refused(State::Open, Duration::ZERO);
        };
        if *out + *done >= places {
            return refused(State::HalfOpen, Duration::from_secs(1));
        }
        *out += 1;
        Ok((
            Ticket {
                generation: self.generation,
                probe: true,
            },
            transition,
        ))
    }

    /// Whether a probe would be admitted.
    pub fn wants_probe(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Open { until } => now >= until,
            Phase::HalfOpen { out, done, .. } => out + done < self.settings.half_open_calls.max(1),
            Phase::Closed | Phase::Forced { .. } => false,
        }
    }

    /// A call ended without saying anything.
    pub fn forget(&mut self, ticket: Ticket) {
        if let Phase::HalfOpen { out, .. } = &mut self.phase
            && ticket.probe
            && ticket.generation == self.generation
        {
            *out = out.saturating_sub(1);
        }
    }

    /// A call ended.
    pub fn report(&mut self, ticket: Ticket, report: Report, now: Instant, jitter: f64) -> Option<Transition> {
        if report.verdict == Verdict::Ignored {
            self.forget(ticket);
            return None;
        }
        if ticket.generation != self.generation {
            return None;
        }
        if let Some(wait) = report.retry_after {
            let at = now + wait.min(RETRY_AFTER_MAX);
            self.not_before = Some(self.not_before.map_or(at, |old| old.max(at)));
        }
        let slow = report.took >= self.settings.slow_after;
        match self.phase {
            Phase::Closed => self.report_closed(report.verdict, slow, now, jitter),
            Phase::HalfOpen { .. } => self.report_probe(report.verdict, slow, now, jitter),
            // An open breaker issues no tickets; a forced one is deaf.
            Phase::Open { .. } | Phase::Forced { .. } => None,
        }
    }

    fn report_closed(&mut self, verdict: Verdict, slow: bool, now: Instant, jitter: f64) -> Option<Transition> {
        let weight = if verdict == Verdict::Unknown { 2 } else { 1 };
        let failed = verdict != Verdict::Success;
        self.window.add(
            now,
            [weight, if failed { weight } else { 0 }, if slow { weight } else { 0 }],
        );
        match verdict {
            Verdict::Success => self.consecutive = 0,
            Verdict::Failure | Verdict::Unknown => self.consecutive = self.consecutive.saturating_add(weight),
            Verdict::Overloaded | Verdict::Ignored => {}
        }
        // Only bad news trips it: old successes leaving the window while good calls come in must not.
        if !failed && !slow {
            return None;
        }
        let [calls, failures, slows] = self.window.sums();
        let s = &self.settings;
        let reason = if failed && s.consecutive > 0 && self.consecutive >= s.consecutive {
            Reason::Consecutive
        } else if calls < s.min_calls.max(1) {
            return None;
        } else if failed && share(failures, calls) >= s.failure_rate {
            Reason::FailureRate
        } else if slow && share(slows, calls) >= s.slow_rate {
            Reason::SlowRate
        } else {
            return None;
        };
        // Each stretch of health as long as the longest penalty is worth one doubling.
        let healthy = now.saturating_duration_since(self.since).as_nanos();
        let forgiven = healthy / self.settings.open_max.as_nanos().max(1);
        self.trips = self.trips.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        Some(self.open(reason, now, jitter))
    }

    fn report_probe(&mut self, verdict: Verdict, was_slow: bool, now: Instant, jitter: f64) -> Option<Transition> {
        let places = self.settings.half_open_calls.max(1);
        let Phase::HalfOpen {
            out,
            done,
            failed,
            slow,
        } = &mut self.phase
        else {
            return None;
        };
        *out = out.saturating_sub(1);
        *done += 1;
        *failed += u32::from(verdict != Verdict::Success);
        *slow += u32::from(was_slow);
        let (left, failed, slow) = (places.saturating_sub(*done), *failed, *slow);
        let failure_rate = if self.settings.failure_rate > 1.0 {
            PROBE_FAILURE_RATE
        } else {
            self.settings.failure_rate
        };
        // Decided as soon as the calls still missing cannot change the answer.
        if share(failed, places) >= failure_rate || share(slow, places) >= self.settings.slow_rate {
            return Some(self.open(Reason::ProbesFailed, now, jitter));
        }
        if left == 0
            || (share(failed + left, places) < failure_rate && share(slow + left, places) < self.settings.slow_rate)
        {
            return Some(self.become_(Phase::Closed, Reason::ProbesPassed, None, now));
        }
        None
    }

    fn open(&mut self, reason: Reason, now: Instant, jitter: f64) -> Transition {
        let s = &self.settings;
        let factor = 2u32.saturating_pow(self.trips.min(31));
        let base = s.open.saturating_mul(factor).min(s.open_max.max(s.open));
        let varied = base.mul_f64(1.0 - OPEN_JITTER + 2.0 * OPEN_JITTER * jitter.clamp(0.0, 1.0));
        let until = (now + varied).max(self.not_before.unwrap_or(now));
        self.trips = self.trips.saturating_add(1);
        self.become_(Phase::Open { until }, reason, Some(until - now), now)
    }

    fn become_(&mut self, phase: Phase, reason: Reason, open_for: Option<Duration>, now: Instant) -> Transition {
        let from = self.state();
        let note = match &phase {
            Phase::Forced { note, .. } => Some(Arc::clone(note)),
            _ => None,
        };
        if !matches!(phase, Phase::HalfOpen { .. }) {
            self.not_before = None;
        }
        self.phase = phase;
        self.reason = Some(reason);
        self.generation += 1;
        self.since = now;
        self.consecutive = 0;
        self.window.clear(now);
        Transition {
            from,
            to: self.state(),
            reason,
            open_for,
            note,
        }
    }

    /// Forces it open or closed until told otherwise.
    pub fn force(&mut self, state: State, note: &str, now: Instant) -> Transition {
        let open = matches!(state, State::ForcedOpen | State::Open);
        self.become_(
            Phase::Forced {
                open,
                note: note.into(),
            },
            Reason::Operator,
            None,
            now,
        )
    }

    /// Closes it and forgets everything.
    pub fn reset(&mut self, note: &str, now: Instant) -> Transition {
        self.trips = 0;
        let mut transition = self.become_(Phase::Closed, Reason::Reset, None, now);
        transition.note = Some(note.into());
        transition
    }

    /// Takes new settings and keeps the state; a window of another length starts empty.
    pub fn update(&mut self, settings: model::Breaker, now: Instant) {
        if settings.window != self.settings.window {
            self.window = Window::new(settings.window, now);
        }
        self.settings = settings;
    }

    /// What an operator sees.
    pub fn snapshot(&mut self, now: Instant) -> Snapshot {
        self.window.advance(now);
        let [calls, failures, slow] = self.window.sums();
        Snapshot {
            state: self.state(),
            reason: self.reason,
            note: match &self.phase {
                Phase::Forced { note, .. } => Some(Arc::clone(note)),
                _ => None,
            },
            since_ms: millis(now.saturating_duration_since(self.since)),
            open_for_ms: match self.phase {
                Phase::Open { until } => Some(millis(until.saturating_duration_since(now))),
                _ => None,
            },
            generation: self.generation,
            consecutive: self.consecutive,
            calls,
            failures,
            slow,
            failure_rate: share(failures, calls),
            slow_rate: share(slow, calls),
            trips: self.trips,
        }
    }
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        0.0
    } else {
        f64::from(part) / f64::from(whole)
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
