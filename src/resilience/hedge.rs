//! Hedged reads: when the first answer is late, ask once more.
//!
//! After Dean and Barroso's "The Tail at Scale" and Finagle's `BackupRequestFilter`: the second request goes after a
//! high quantile of the route's own recent latency, so that at most a few percent of reads are sent twice, and only
//! while **both** an extra-load budget and the route's retry budget allow it: a gateway that became slow everywhere
//! must not get more load. Only reads, and only to the same gateway: a hedged payment is a second charge.
//!
//! What to record: the time since the *first* request was sent, whoever answered. When the second one wins, that is a
//! lower bound of the first one's latency and never below the delay, so the quantile stays right, and hedging cannot
//! teach itself ever shorter delays.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Budget;
use crate::config::model;

/// How often the delay is computed anew (Finagle's 3 s).
pub const REFRESH: Duration = Duration::from_secs(3);

/// Samples before the quantile is believed: fewer cannot tell a 95th percentile from an accident.
pub const MIN_SAMPLES: u32 = 50;

/// Past slices that are looked at: 8 x 3 s.
const SLICES: usize = 8;

/// Latencies are kept in buckets of 1/8 of a power of two, in microseconds: 6 % off at most on average.
const STEPS: u32 = 8;
const CELLS: usize = 256;

/// What became of a hedge, or why a late read got none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hedged {
    /// The second request answered first.
    Won,
    /// The first request answered first after all.
    Lost,
    /// Both were given up: the application left or the deadline passed.
    Cancelled,
    /// Not sent: the extra-load budget is spent.
    ExtraLoad,
    /// Not sent: the retry budget is spent.
    RetryBudget,
    /// Not sent: the breaker is not closed.
    Breaker,
}

impl Hedged {
    /// Every result.
    pub const ALL: [Self; 6] = [
        Self::Won,
        Self::Lost,
        Self::Cancelled,
        Self::ExtraLoad,
        Self::RetryBudget,
        Self::Breaker,
    ];

    /// The word in labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::ExtraLoad => "extra_load",
            Self::RetryBudget => "retry_budget",
            Self::Breaker => "breaker",
        }
    }
}

/// Recent latencies: a histogram a slice, the newest at `cursor`.
#[derive(Clone, Debug)]
pub struct Latencies {
    slices: Vec<[u32; CELLS]>,
    cursor: usize,
    began: Instant,
}

impl Latencies {
    /// Nothing seen yet.
    pub fn new(now: Instant) -> Self {
        Self {
            slices: vec![[0; CELLS]; SLICES],
            cursor: 0,
            began: now,
        }
    }

    /// Whether a slice is full.
    pub fn due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= REFRESH
    }

    /// Adds one.
    pub fn record(&mut self, took: Duration) {
        let cell = &mut self.slices[self.cursor][cell(took)];
        *cell = cell.saturating_add(1);
    }

    /// Begins the next slice; the oldest is forgotten. After a silence longer than all slices everything is.
    pub fn turn(&mut self, now: Instant) {
        let steps = now.saturating_duration_since(self.began).as_nanos() / REFRESH.as_nanos();
        for _ in 0..steps.min(SLICES as u128) {
            self.cursor = (self.cursor + 1) % SLICES;
            self.slices[self.cursor] = [0; CELLS];
        }
        self.began = now;
    }

    /// The quantile over all slices: the upper edge of its bucket. `None` with too few samples.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total: u64 = self.slices.iter().flatten().map(|n| u64::from(*n)).sum();
        if total < u64::from(MIN_SAMPLES) {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for i in 0..CELLS {
            seen += self.slices.iter().map(|s| u64::from(s[i])).sum::<u64>();
            if seen >= rank {
                return Some(upper_edge(i));
            }
        }
        None
    }
}

/// Below 8 us linear, then `STEPS` buckets a power of two.
fn cell(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros())
        .unwrap_or(u64::MAX)
        .min(u64::from(u32::MAX));
    if us < u64::from(STEPS) {
        return us as usize;
    }
    let power = us.ilog2();
    let step = (us >> (power - 3)) as usize & 7;
    ((power as usize - 2) * 8 + step).min(CELLS - 1)
}

fn upper_edge(cell: usize) -> Duration {
    if cell < STEPS as usize {
        return Duration::from_micros(cell as u64 + 1);
    }
    let (power, step) = (cell / 8 + 2, (cell % 8) as u64);
    Duration::from_micros((8 + step + 1) << (power - 3))
}

/// Hedging of one route, shared by all workers.
#[derive(Debug)]
pub struct Hedge {
    latencies: Mutex<Inner>,
    extra: Budget,
    /// The delay in microseconds; 0 for "do not hedge".
    delay: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    settings: model::Hedge,
    latencies: Latencies,
}

impl Hedge {
    /// No delay until enough reads were seen.
    pub fn new(settings: model::Hedge, now: Instant) -> Self {
        Self {
            extra: Budget::new(settings.max_extra, 0.0, now),
            latencies: Mutex::new(Inner {
                settings,
                latencies: Latencies::new(now),
            }),
            delay: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait for a read before sending it again; `None` where hedging is off or not enough is known.
    pub fn delay(&self) -> Option<Duration> {
        match self.delay.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }

    /// A read ended: `since_first` is the time from sending the first request to the head of whichever answer came.
    pub fn record(&self, since_first: Duration, now: Instant) {
        self.extra.deposit(now);
        let mut inner = self.lock();
        let Some(q) = inner.settings.quantile else { return };
        inner.latencies.record(since_first);
        if inner.latencies.due(now) {
            let delay = inner.latencies.quantile(q).map(|d| d.max(inner.settings.min_delay));
            inner.latencies.turn(now);
            drop(inner);
            let us = delay.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX).max(1));
            self.delay.store(us, Ordering::Relaxed);
        }
    }

    /// Asks to send the second request now. An `Err` is the result to count.
    pub fn start(&self, retries: &Budget, now: Instant) -> Result<(), Hedged> {
        // The scarcer budget first, so that a refusal takes nothing from the other.
        if !self.extra.withdraw(now) {
            return Err(Hedged::ExtraLoad);
        }
        if !retries.withdraw(now) {
            return Err(Hedged::RetryBudget);
        }
        Ok(())
    }

    /// Takes new settings and keeps what was measured.
    pub fn update(&self, settings: model::Hedge, now: Instant) {
        self.extra.update(settings.max_extra, 0.0, now);
        let off = settings.quantile.is_none();
        self.lock().settings = settings;
        if off {
            self.delay.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn settings() -> model::Hedge {
        model::Hedge {
            quantile: Some(0.95),
            max_extra: 0.05,
            min_delay: MS,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_is_the_quantile_of_what_was_seen() {
        let t0 = Instant::now();
        let h = Hedge::new(settings(), t0);
        for i in 0..1000u32 {
            h.record(if i % 100 < 3 { 200 * MS } else { 10 * MS }, t0 + MS);
        }
        assert_eq!(h.delay(), None, "the first slice is not over");
        h.record(10 * MS, t0 + REFRESH);
        let delay = h.delay().expect("enough samples");
        assert!((10 * MS..13 * MS).contains(&delay), "{delay:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn too_few_samples_or_a_long_silence_mean_no_hedge() {
        let t0 = Instant::now();
        let h = Hedge::new(settings(), t0);
        for _ in 0..(MIN_SAMPLES - 2) {
            h.record(MS, t0);
        }
        h.record(MS, t0 + REFRESH);
        assert_eq!(h.delay(), None);
        for _ in 0..MIN_SAMPLES {
            h.record(MS, t0 + REFRESH + MS);
        }
        h.record(MS, t0 + 2 * REFRESH + MS);
        assert!(h.delay().is_some());
        h.record(MS, t0 + 2 * REFRESH + 100 * REFRESH);
        h.record(MS, t0 + 2 * REFRESH + 102 * REFRESH);
        assert_eq!(h.delay(), None, "what was known is too old");
    }

    #[tokio::test(start_paused = true)]
    async fn never_sooner_than_the_minimum_and_never_when_off() {
        let t0 = Instant::now();
        let floor = Hedge::new(
            model::Hedge {
                min_delay: 50 * MS,
                ..settings()
            },
            t0,
        );
        let off = Hedge::new(
            model::Hedge {
                quantile: None,
                ..settings()
            },
            t0,
        );
        for h in [&floor, &off] {
            for _ in 0..100 {
                h.record(MS, t0);
            }
            h.record(MS, t0 + REFRESH);
        }
        assert_eq!(floor.delay(), Some(50 * MS));
        assert_eq!(off.delay(), None);
        floor.update(
            model::Hedge {
                quantile: None,
                ..settings()
            },
            t0,
        );
        assert_eq!(floor.delay(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn both_budgets_must_allow() {
        let t0 = Instant::now();
        let h = Hedge::new(settings(), t0);
        let rich = Budget::new(0.0, 100.0, t0);
        let poor = Budget::new(0.0, 0.0, t0);
        assert_eq!(h.start(&rich, t0), Err(Hedged::ExtraLoad));
        assert_eq!(rich.remaining(t0), 100, "refused before the retry budget was touched");
        for _ in 0..40 {
            h.record(MS, t0);
        }
        assert_eq!(h.start(&poor, t0), Err(Hedged::RetryBudget));
        assert_eq!(h.start(&rich, t0), Ok(()));
        assert_eq!(h.start(&rich, t0), Err(Hedged::ExtraLoad), "5 % of 40 is two");
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_below_its_edge(us in 0u64..4_000_000_000) {
            let d = Duration::from_micros(us);
            let i = cell(d);
            prop_assert!(d < upper_edge(i), "{us} in {i} below {:?}", upper_edge(i));
            if i > 0 {
                prop_assert!(d >= upper_edge(i - 1), "{us} in {i}");
            }
        }
    }
}
