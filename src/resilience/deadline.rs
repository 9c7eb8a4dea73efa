//! The one deadline of a request: it contains queueing, retries, backoff, hedges and failover.
//!
//! The outer deadline always includes the inner work (Envoy's and gRPC's rule); an inner timeout can only be shorter.
//! Arithmetic only: whoever waits uses [`Deadline::at`] or [`Deadline::within`].

use std::time::Duration;

use tokio::time::Instant;

/// The header by which an application may shorten its request's deadline: whole milliseconds from now.
pub const HEADER: &str = "sentinel-deadline";

/// When a request must be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Option<Instant>,
}

impl Deadline {
    /// Never: for transfers without a total limit.
    pub const NEVER: Self = Self { at: None };

    /// `total` after `now`; zero means never, as in the configuration.
    pub fn after(now: Instant, total: Duration) -> Self {
        Self {
            at: if total.is_zero() { None } else { now.checked_add(total) },
        }
    }

    /// The moment, when there is one.
    pub const fn at(&self) -> Option<Instant> {
        self.at
    }

    /// What is left; `None` without a deadline, zero when it is over.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(now))
    }

    /// Whether it is over.
    pub fn expired(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now >= at)
    }

    /// Whether something that takes `needed` can still end in time.
    pub fn allows(&self, now: Instant, needed: Duration) -> bool {
        self.remaining(now).is_none_or(|left| needed < left)
    }

    /// `timeout`, or what is left where that is less: for an inner step. A zero timeout means none of its own.
    pub fn within(&self, now: Instant, timeout: Duration) -> Option<Duration> {
        match (self.remaining(now), timeout.is_zero()) {
            (Some(left), true) => Some(left),
            (Some(left), false) => Some(left.min(timeout)),
            (None, true) => None,
            (None, false) => Some(timeout),
        }
    }

    /// A deadline at the earlier of this one and `total` after `now` (zero for no other).
    #[must_use]
    pub fn shortened(&self, now: Instant, total: Duration) -> Self {
        let other = Self::after(now, total);
        Self {
            at: match (self.at, other.at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

/// Reads the value of [`HEADER`]. `None` for anything but 1 to 9 digits that are not zero: a header nobody understands
/// changes nothing.
pub fn parse_header(value: &str) -> Option<Duration> {
    let value = value.trim();
    if value.is_empty() || value.len() > 9 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    value.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_inner_step_never_outlives_the_whole() {
        let now = Instant::now();
        let d = Deadline::after(now, 10 * S);
        assert_eq!(d.within(now, 3 * S), Some(3 * S));
        assert_eq!(d.within(now + 8 * S, 3 * S), Some(2 * S));
        assert_eq!(d.within(now + 11 * S, 3 * S), Some(Duration::ZERO));
        assert_eq!(d.within(now, Duration::ZERO), Some(10 * S));
        assert!(d.allows(now, 9 * S) && !d.allows(now, 10 * S));
        assert!(!d.expired(now + 9 * S) && d.expired(now + 10 * S));
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_deadline_and_an_application_can_only_shorten() {
        let now = Instant::now();
        let never = Deadline::after(now, Duration::ZERO);
        assert_eq!(never, Deadline::NEVER);
        assert!(never.allows(now, Duration::MAX) && !never.expired(now));
        assert_eq!(never.within(now, S), Some(S));
        assert_eq!(never.shortened(now, S).remaining(now), Some(S));
        assert_eq!(Deadline::after(now, S).shortened(now, 5 * S).remaining(now), Some(S));
        assert_eq!(Deadline::after(now, 5 * S).shortened(now, S).remaining(now), Some(S));
        assert_eq!(
            Deadline::after(now, 5 * S)
                .shortened(now, Duration::ZERO)
                .remaining(now),
            Some(5 * S)
        );
    }

    #[test]
    fn a_header_is_whole_milliseconds_or_nothing() {
        assert_eq!(parse_header(" 1500 "), Some(Duration::from_millis(1500)));
        for bad in ["", "0", "-1", "1.5", "2s", "1234567890", "१"] {
            assert_eq!(parse_header(bad), None, "{bad:?}");
        }
    }
}
