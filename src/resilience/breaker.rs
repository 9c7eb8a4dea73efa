//! Circuit breaker of one (route, gateway).
//!
//! A sidecar talks to one address per gateway, so statistics across a fleet (Envoy's outlier detection) have nothing to
//! compare; what helps is a state machine on the gateway's own answers: consecutive failures catch a dead gateway
//! within five calls, a failure rate over a window catches a half-dead one, a slow-call rate one that only answers late.
//! The rules are resilience4j's and linkerd2-proxy's, with three of a payment's own:
//!
//! * An [`Verdict::Unknown`] outcome counts as two failures. While a breaker is closed every payment risks ending in
//!   doubt; once it is open, attempts are not sent at all and can be taken elsewhere with full safety.
//! * A customer's payment is never the probe where another call can be ([`Probing::Avoid`]).
//! * 429 degrades the rate, but is not a consecutive failure (the gateway is alive), and fails a probe (it still sheds).
//!
//! Refuses: to be closed by anything but probes of the present half-open phase, or an operator. Each permit carries
//! the breaker's generation, which changes at each transition; a report from another generation changes nothing.
//!
//! Cost: one uncontended lock to admit and one to report.

mod machine;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::model;
pub use machine::Machine;

/// The longest `Retry-After` that is believed, as linkerd and Envoy do.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything.
    Closed,
    /// Nothing, until its time is over.
    Open,
    /// A few probes, which decide.
    HalfOpen,
    /// Nothing, until an operator says otherwise.
    ForcedOpen,
    /// Everything, whatever the gateway does, until an operator says otherwise.
    ForcedClosed,
}

impl State {
    /// The word in labels, logs and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }

    /// The value of the `breaker_state` gauge: 0 closed, 1 half-open, 2 open.
    pub const fn gauge(self) -> i64 {
        match self {
            Self::Closed | Self::ForcedClosed => 0,
            Self::HalfOpen => 1,
            Self::Open | Self::ForcedOpen => 2,
        }
    }
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Too many failures in a row.
    Consecutive,
    /// Too large a share of failures.
    FailureRate,
    /// Too large a share of slow calls.
    SlowRate,
    /// The open time is over; probes may go.
    Elapsed,
    /// The probes failed, or were slow.
    ProbesFailed,
    /// The probes passed.
    ProbesPassed,
    /// An operator forced it.
    Operator,
    /// An operator reset it.
    Reset,
}

impl Reason {
    /// The word in labels, logs and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::Elapsed => "elapsed",
            Self::ProbesFailed => "probes_failed",
            Self::ProbesPassed => "probes_passed",
            Self::Operator => "operator",
            Self::Reset => "reset",
        }
    }
}

/// A change of state, for telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// How long it stays open, where it opened by itself.
    pub open_for: Option<Duration>,
    /// What the operator wrote.
    pub note: Option<Arc<str>>,
}

/// What a finished call says about the gateway's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It answered for itself: any status but 429 and 5xx. A declined card and a 401 are answers of a healthy gateway.
    Success,
    /// It did not: no connection, no TLS session, a timeout, a broken answer, a 5xx.
    Failure,
    /// 429: alive, but shedding.
    Overloaded,
    /// A payment whose outcome is unknown. Counts twice.
    Unknown,
    /// Says nothing about the gateway: the application left, or the fault was our own.
    Ignored,
}

impl Verdict {
    /// The verdict of an answer's status. 501 and 505 are about the request, not about health (as HAProxy has it).
    pub const fn of_status(status: u16) -> Self {
        match status {
            429 => Self::Overloaded,
            501 | 505 => Self::Success,
            500..=599 => Self::Failure,
            _ => Self::Success,
        }
    }
}

/// A finished call.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What it says.
    pub verdict: Verdict,
    /// How long the gateway took, up to the head of its answer.
    pub took: Duration,
    /// The answer's `Retry-After`. It never opens a breaker; it makes one that opens stay open at least that long,
    /// up to [`RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
}

impl Report {
    /// A report without `Retry-After`.
    pub const fn new(verdict: Verdict, took: Duration) -> Self {
        Self {
            verdict,
            took,
            retry_after: None,
        }
    }
}

/// Whether a call may serve as a probe of a half-open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// It may: it moves no money, or there is nothing else to probe with.
    Allowed,
    /// It may not: a payment, where the dialect has a harmless probe of its own.
    Avoid,
}

/// Not admitted: the call was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The state that refused: open, half-open (its probes are out) or forced open.
    pub state: State,
    /// When it is worth asking again: for `Retry-After`.
    pub retry_in: Duration,
}

/// What an operator sees.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// Why it is in that state; absent when it never changed.
    pub reason: Option<Reason>,
    /// What the operator who forced it wrote.
    pub note: Option<Arc<str>>,
    /// Milliseconds in this state.
    pub since_ms: u64,
    /// Milliseconds until probes may go, when open.
    pub open_for_ms: Option<u64>,
    /// The present generation: the number of transitions so far.
    pub generation: u64,
    /// Failures in a row.
    pub consecutive: u32,
    /// Calls in the window; an unknown outcome is two.
    pub calls: u32,
    /// Failed calls in the window.
    pub failures: u32,
    /// Slow calls in the window.
    pub slow: u32,
    /// `failures / calls`, 0 without calls.
    pub failure_rate: f64,
    /// `slow / calls`, 0 without calls.
    pub slow_rate: f64,
    /// Times it opened in a row; each doubles the open time.
    pub trips: u32,
}

/// A breaker shared by all workers.
#[derive(Debug)]
pub struct Breaker {
    machine: Mutex<Machine>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: model::Breaker, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(Machine::new(settings, now)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        // A panic inside leaves counts, never a half-made transition: going on is safe.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to send one call.
    pub fn admit(self: &Arc<Self>, now: Instant, probing: Probing) -> Result<Permit, Refused> {
        let (ticket, transition) = self.lock().admit(now, probing)?;
        Ok(Permit {
            breaker: Arc::clone(self),
            ticket: Some(ticket),
            transition,
        })
    }

    /// Whether a call that moves no money should be sent now to find out whether the gateway is back.
    pub fn wants_probe(&self, now: Instant) -> bool {
        self.lock().wants_probe(now)
    }

    /// The state as of now, without changing it. An open breaker whose time is over still says open.
    pub fn state(&self) -> State {
        self.lock().state()
    }

    /// Opens it until told otherwise.
    pub fn force_open(&self, note: &str, now: Instant) -> Transition {
        self.lock().force(State::ForcedOpen, note, now)
    }

    /// Closes it until told otherwise.
    pub fn force_close(&self, note: &str, now: Instant) -> Transition {
        self.lock().force(State::ForcedClosed, note, now)
    }

    /// Closes it and forgets everything; it then works by itself again.
    pub fn reset(&self, note: &str, now: Instant) -> Transition {
        self.lock().reset(note, now)
    }

    /// Takes new settings and keeps the state.
    pub fn update(&self, settings: model::Breaker, now: Instant) {
        self.lock().update(settings, now);
    }

    /// What an operator sees.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        self.lock().snapshot(now)
    }
}

/// Permission to send one call. Dropping it without a report says nothing about the gateway and gives a probe's place
/// back.
#[derive(Debug)]
#[must_use = "an unreported permit says nothing about the gateway"]
pub struct Permit {
    breaker: Arc<Breaker>,
    ticket: Option<machine::Ticket>,
    transition: Option<Transition>,
}

impl Permit {
    /// The transition that admitting caused (open to half-open), once.
    pub fn take_transition(&mut self) -> Option<Transition> {
        self.transition.take()
    }

    /// Whether this call is a probe of a half-open breaker.
    pub fn is_probe(&self) -> bool {
        self.ticket.is_some_and(machine::Ticket::is_probe)
    }

    /// Reports the end of the call.
    pub fn report(mut self, report: Report, now: Instant, jitter: f64) -> Option<Transition> {
        let ticket = self.ticket.take()?;
        self.breaker.lock().report(ticket, report, now, jitter)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && ticket.is_probe()
        {
            self.breaker.lock().forget(ticket);
        }
    }
}

#[cfg(test)]
mod tests;
