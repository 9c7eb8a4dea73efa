//! The retry law: what may be sent again.
//!
//! Exactly two things: a request that provably never arrived whole, and a request by a safe method (GET, HEAD,
//! OPTIONS, TRACE: RFC 9110 9.2.1). A mesh that re-sent payout POSTs on 503 has paid people twice (istio#50506); no
//! option here can bring that back. Idempotency keys do not make a POST retryable at this level: what a key is worth is
//! the payment engine's business.

use std::time::Duration;

use tokio::time::Instant;

use super::{Budget, Deadline};
use crate::config::model;

/// First step of the backoff (Envoy's 25 ms).
pub const BACKOFF_BASE: Duration = Duration::from_millis(25);

/// Longest backoff: ten times the base, as in Envoy. A sidecar's caller is waiting.
pub const BACKOFF_CAP: Duration = Duration::from_millis(250);

/// What a method promises (RFC 9110 9.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Asks for nothing to change.
    Safe,
    /// May change something.
    Unsafe,
}

impl Method {
    /// By name, case-sensitive as methods are.
    pub fn of(name: &str) -> Self {
        match name {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" => Self::Safe,
            _ => Self::Unsafe,
        }
    }
}

/// What is known of the failed attempt's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Provably not whole at the gateway, found on a kept connection that turned out dead: nothing is overloaded, so
    /// there is nothing to wait for.
    NeverStale,
    /// Provably not whole at the gateway.
    Never,
    /// It may have arrived and been executed.
    Possible,
}

/// Why something is not retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// It may have been executed, and the method is not safe.
    MayHaveExecuted,
    /// As often as allowed.
    Attempts,
    /// The budget is spent.
    Budget,
    /// No time left.
    Deadline,
    /// Its body has been streamed and cannot be sent again. Found by the caller.
    BodyGone,
    /// The breaker opened meanwhile. Found by the caller.
    BreakerOpen,
    /// The gateway asked for a longer pause than a waiting caller is kept: the answer goes back, and says how long.
    RetryAfter,
}

impl Skip {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::MayHaveExecuted,
        Self::Attempts,
        Self::Budget,
        Self::Deadline,
        Self::BodyGone,
        Self::BreakerOpen,
        Self::RetryAfter,
    ];

    /// The word in labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MayHaveExecuted => "may_have_executed",
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::BodyGone => "body_gone",
            Self::BreakerOpen => "breaker_open",
            Self::RetryAfter => "retry_after",
        }
    }
}

/// A failed attempt, as far as the law looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The method.
    pub method: Method,
    /// What is known.
    pub arrival: Arrival,
    /// Retries made before: 0 after the first attempt.
    pub retries: u32,
    /// How long the gateway asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// Whether to send again, and after what pause. Takes from the budget only when the answer is yes.
pub fn may_retry(
    policy: &model::Retry,
    attempt: Attempt,
    budget: &Budget,
    deadline: &Deadline,
    now: Instant,
    jitter: f64,
) -> Result<Duration, Skip> {
    if attempt.arrival == Arrival::Possible && attempt.method == Method::Unsafe {
        return Err(Skip::MayHaveExecuted);
    }
    if attempt.retries >= policy.max {
        return Err(Skip::Attempts);
    }
    let pause = match attempt.arrival {
        Arrival::NeverStale if attempt.retries == 0 => Duration::ZERO,
        _ => backoff(attempt.retries, BACKOFF_BASE, BACKOFF_CAP, jitter),
    };
    if attempt.retry_after.is_some_and(|asked| asked > BACKOFF_CAP) {
        return Err(Skip::RetryAfter);
    }
    let pause = pause.max(attempt.retry_after.unwrap_or_default());
    if !deadline.allows(now, pause) {
        return Err(Skip::Deadline);
    }
    if !budget.withdraw(now) {
        return Err(Skip::Budget);
    }
    Ok(pause)
}

/// Whether an answer of this status to a request by a *safe* method is worth another attempt: the gateway's edge could
/// not serve it. When attempts run out, the last answer goes back as it is (haproxy#439).
pub const fn retryable_status(status: u16) -> bool {
    matches!(status, 421 | 425 | 502 | 503 | 504)
}

/// Full jitter: between nothing and `base` x 2^`retries`, at most `cap`. `jitter` is in `[0, 1)`.
pub fn backoff(retries: u32, base: Duration, cap: Duration, jitter: f64) -> Duration {
    base.saturating_mul(2u32.saturating_pow(retries.min(31)))
        .min(cap)
        .mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: model::Retry = model::Retry {
        budget: 0.2,
        min_per_second: 10.0,
        max: 2,
    };

    fn attempt(method: Method, arrival: Arrival, retries: u32) -> Attempt {
        Attempt {
            method,
            arrival,
            retries,
            retry_after: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_asks_for_a_pause_is_not_asked_again_within_it() {
        let (now, budget) = (Instant::now(), Budget::new(1.0, 1000.0, Instant::now()));
        let asking = |seconds| Attempt {
            retry_after: Some(Duration::from_secs(seconds)),
            ..attempt(Method::Safe, Arrival::Possible, 0)
        };
        let ask = |seconds| may_retry(&POLICY, asking(seconds), &budget, &Deadline::NEVER, now, 0.5);
        assert_eq!(ask(1), Err(Skip::RetryAfter));
        assert!(ask(0).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_post_that_may_have_arrived_is_never_sent_again() {
        let now = Instant::now();
        let budget = Budget::new(1.0, 1000.0, now);
        for retries in 0..3 {
            let a = attempt(Method::Unsafe, Arrival::Possible, retries);
            assert_eq!(
                may_retry(&POLICY, a, &budget, &Deadline::NEVER, now, 0.5),
                Err(Skip::MayHaveExecuted)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_arrived_is_retried_within_attempts_budget_and_time() {
        let now = Instant::now();
        let budget = Budget::new(0.0, 1.0, now);
        let a = |retries| attempt(Method::Unsafe, Arrival::Never, retries);
        let near = Deadline::after(now, Duration::from_millis(5));
        assert_eq!(
            may_retry(&POLICY, a(2), &budget, &Deadline::NEVER, now, 0.5),
            Err(Skip::Attempts)
        );
        assert_eq!(may_retry(&POLICY, a(0), &budget, &near, now, 0.9), Err(Skip::Deadline));
        assert_eq!(budget.remaining(now), 1, "a refusal takes nothing");
        assert_eq!(
            may_retry(&POLICY, a(1), &budget, &Deadline::NEVER, now, 0.5),
            Ok(Duration::from_millis(25)),
            "half of the second step"
        );
        assert_eq!(
            may_retry(&POLICY, a(0), &budget, &Deadline::NEVER, now, 0.5),
            Err(Skip::Budget)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_kept_connection_costs_no_pause() {
        let now = Instant::now();
        let budget = Budget::new(0.0, 5.0, now);
        let a = attempt(Method::Unsafe, Arrival::NeverStale, 0);
        assert_eq!(
            may_retry(&POLICY, a, &budget, &Deadline::NEVER, now, 0.9),
            Ok(Duration::ZERO)
        );
    }

    #[test]
    fn methods_are_safe_by_the_rfc_only() {
        for m in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert_eq!(Method::of(m), Method::Safe);
        }
        for m in ["POST", "PUT", "PATCH", "DELETE", "get", "QUERY", ""] {
            assert_eq!(Method::of(m), Method::Unsafe);
        }
    }

    proptest! {
        #[test]
        fn backoff_grows_and_stays_under_its_cap(retries in 0u32..100, jitter in 0.0..1.0f64) {
            let d = backoff(retries, BACKOFF_BASE, BACKOFF_CAP, jitter);
            prop_assert!(d <= BACKOFF_CAP);
            prop_assert!(d <= BACKOFF_BASE * 2u32.pow(retries.min(20)));
        }

        #[test]
        fn nothing_unsafe_is_retried_without_proof(
            retries in 0u32..4, max in 0u32..10, budget in 0.0..1.0f64, jitter in 0.0..1.0f64,
        ) {
            let rt = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _enter = rt.enter();
            let now = Instant::now();
            let policy = model::Retry { budget, min_per_second: 100.0, max };
            let b = Budget::new(budget, 100.0, now);
            let a = attempt(Method::Unsafe, Arrival::Possible, retries);
            prop_assert!(may_retry(&policy, a, &b, &Deadline::NEVER, now, jitter).is_err());
        }
    }
}
