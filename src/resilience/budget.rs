//! How much extra traffic retries and hedges may make.
//!
//! A share of the traffic *completed* in the last ten seconds, plus a floor per second so that a quiet route can retry
//! at all. Completed and not current, because a budget over requests in flight shrinks just when they pile up
//! (envoy-mobile#811). The floor is a bucket that holds one second's worth: at most `min_per_second` at once.
//!
//! Invariant, for any stretch of time `t`: withdrawals <= `ratio` x (completed in `t` and the ten seconds before it) +
//! `min_per_second` x (`t` + 1 s).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::window::Window;

/// How long completed traffic earns.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The tick at which counted completions enter the window.
const TICK: Duration = Duration::from_millis(500);

/// The state machine: no lock, no clock.
#[derive(Clone, Debug)]
pub struct Machine {
    ratio: f64,
    min_per_second: f64,
    /// Completed, withdrawn from the share.
    window: Window<2>,
    floor: f64,
    filled: Instant,
}

impl Machine {
    /// A budget with a full floor.
    pub fn new(ratio: f64, min_per_second: f64, now: Instant) -> Self {
        Self {
            ratio: ratio.max(0.0),
            min_per_second: min_per_second.max(0.0),
            window: Window::new(WINDOW, now),
            floor: min_per_second.max(0.0),
            filled: now,
        }
    }

    /// `n` requests completed.
    pub fn deposit(&mut self, n: u32, now: Instant) {
        self.window.add(now, [n, 0]);
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        if passed > Duration::ZERO {
            self.floor = (self.floor + self.min_per_second * passed.as_secs_f64()).min(self.min_per_second.max(1.0));
            self.filled = now;
        }
        if self.min_per_second == 0.0 {
            self.floor = 0.0;
        }
    }

    fn share(&self) -> f64 {
        let [completed, withdrawn] = self.window.sums();
        self.ratio * f64::from(completed) - f64::from(withdrawn)
    }

    /// Takes one, if there is one: from the share first, then from the floor.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        self.window.advance(now);
        self.refill(now);
        if self.share() >= 1.0 {
            self.window.add(now, [0, 1]);
            true
        } else if self.floor >= 1.0 {
            self.floor -= 1.0;
            true
        } else {
            false
        }
    }

    /// Whole withdrawals left.
    pub fn remaining(&mut self, now: Instant) -> u32 {
        self.window.advance(now);
        self.refill(now);
        // A cast of a float saturates.
        (self.share().max(0.0).floor() + self.floor.floor()) as u32
    }

    /// Takes new settings and keeps what was counted.
    pub fn update(&mut self, ratio: f64, min_per_second: f64, now: Instant) {
        self.refill(now);
        self.ratio = ratio.max(0.0);
        self.min_per_second = min_per_second.max(0.0);
        self.floor = self.floor.min(self.min_per_second.max(1.0));
    }
}

/// A budget shared by all workers. A completion costs one atomic addition; the lock is taken twice a second, and to
/// withdraw.
#[derive(Debug)]
pub struct Budget {
    machine: Mutex<Machine>,
    completed: AtomicU32,
    origin: Instant,
    /// The tick, counted from `origin`, up to which completions have entered the window.
    tick: AtomicU64,
}

impl Budget {
    /// `ratio` of completed traffic (0 to 1) plus `min_per_second`.
    pub fn new(ratio: f64, min_per_second: f64, now: Instant) -> Self {
        Self {
            machine: Mutex::new(Machine::new(ratio, min_per_second, now)),
            completed: AtomicU32::new(0),
            origin: now,
            tick: AtomicU64::new(0),
        }
    }

    fn lock(&self, now: Instant) -> MutexGuard<'_, Machine> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let n = self.completed.swap(0, Ordering::Relaxed);
        if n > 0 {
            machine.deposit(n, now);
        }
        machine
    }

    /// One request completed, whatever its end; retries and hedges themselves do not earn.
    pub fn deposit(&self, now: Instant) {
        self.completed.fetch_add(1, Ordering::Relaxed);
        let tick = u64::try_from(now.saturating_duration_since(self.origin).as_nanos() / TICK.as_nanos());
        let tick = tick.unwrap_or(u64::MAX);
        let seen = self.tick.load(Ordering::Relaxed);
        if tick > seen
            && self
                .tick
                .compare_exchange(seen, tick, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            drop(self.lock(now));
        }
    }

    /// Takes one, if there is one.
    pub fn withdraw(&self, now: Instant) -> bool {
        self.lock(now).withdraw(now)
    }

    /// Whole withdrawals left: the `retry_budget_remaining` gauge.
    pub fn remaining(&self, now: Instant) -> u32 {
        self.lock(now).remaining(now)
    }

    /// Takes new settings and keeps what was counted.
    pub fn update(&self, ratio: f64, min_per_second: f64, now: Instant) {
        self.lock(now).update(ratio, min_per_second, now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn completed_traffic_earns_for_ten_seconds() {
        let t0 = Instant::now();
        let b = Budget::new(0.2, 0.0, t0);
        assert!(!b.withdraw(t0), "nothing earned, no floor");
        for _ in 0..10 {
            b.deposit(t0);
        }
        assert_eq!(b.remaining(t0), 2);
        assert!(b.withdraw(t0) && b.withdraw(t0) && !b.withdraw(t0));
        for _ in 0..5 {
            b.deposit(t0 + S);
        }
        assert_eq!(b.remaining(t0 + S), 1);
        assert!(!b.withdraw(t0 + 13 * S), "what was earned too long ago is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn the_floor_refills_and_never_saves_up() {
        let t0 = Instant::now();
        let b = Budget::new(0.0, 3.0, t0);
        let burst = |at: Instant| (0..100).filter(|_| b.withdraw(at)).count();
        assert_eq!(burst(t0), 3);
        assert_eq!(burst(t0), 0);
        assert_eq!(burst(t0 + S), 3);
        assert_eq!(burst(t0 + 3_600 * S), 3, "an hour of silence earns one second's worth");
    }

    #[tokio::test(start_paused = true)]
    async fn less_than_one_a_second_still_allows_one_now_and_then() {
        let t0 = Instant::now();
        let b = Budget::new(0.0, 0.25, t0);
        assert!(!b.withdraw(t0));
        assert!(b.withdraw(t0 + 4 * S));
        assert!(!b.withdraw(t0 + 5 * S));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn the_budget_is_never_exceeded(
            ratio in 0.0..0.5f64,
            min in 0.0..5.0f64,
            steps in prop::collection::vec((0u64..2_000, 0u32..20, 0u32..20), 1..200),
        ) {
            let rt = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _enter = rt.enter();
            let t0 = Instant::now();
            let budget = Budget::new(ratio, min, t0);
            let mut now = t0;
            // (when, completed, granted)
            let mut log: Vec<(Instant, u32, u32)> = Vec::new();
            for (wait, completed, wanted) in steps {
                now += Duration::from_millis(wait);
                for _ in 0..completed {
                    budget.deposit(now);
                }
                let granted = (0..wanted).filter(|_| budget.withdraw(now)).count() as u32;
                log.push((now, completed, granted));
                // Over the last ten seconds, and over all time. A completion may enter the window one tick late.
                for span in [WINDOW, Duration::from_secs(100_000)] {
                    let from = now.checked_sub(span).unwrap_or(t0).max(t0);
                    let earned_from = from.checked_sub(WINDOW + 4 * TICK).unwrap_or(t0).max(t0);
                    let granted: u32 = log.iter().filter(|l| l.0 >= from).map(|l| l.2).sum();
                    let done: u32 = log.iter().filter(|l| l.0 >= earned_from).map(|l| l.1).sum();
                    let floor = min * ((now - from).as_secs_f64() + 1.0) + 1.0;
                    prop_assert!(f64::from(granted) <= ratio * f64::from(done) + floor + 1e-6,
                        "{granted} granted, {done} completed");
                }
            }
        }
    }
}
