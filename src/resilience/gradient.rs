//! An adaptive limit of requests in flight, after Netflix's Gradient2.
//!
//! Compares the present latency with its own long average: while they agree the limit grows by a small queue's worth,
//! when latency rises it shrinks in proportion. Off by default: it is only meaningful where this sidecar makes most of
//! the load that the gateway's latency depends on.

use std::time::Duration;

use tokio::time::Instant;

/// Samples to an update.
const SAMPLES: u32 = 50;
/// The longest time to an update.
const PERIOD: Duration = Duration::from_secs(1);
/// Weight of a new limit against the old one.
const SMOOTHING: f64 = 0.2;
/// Updates over which the long average forgets (Gradient2's long window).
const LONG: f64 = 600.0;
/// Requests that may queue at the gateway without meaning overload.
const QUEUE: f64 = 4.0;
/// Latency may exceed its long average by this factor before the limit shrinks.
const TOLERANCE: f64 = 1.5;
/// The least limit: below it the gateway could never show that it recovered.
const MIN: f64 = 4.0;
/// Limits of many sidecars move apart by this share, so that they do not swing in step.
const JITTER: f64 = 0.02;

/// The machine; `max` is the configured limit and is never exceeded.
#[derive(Clone, Debug)]
pub struct Gradient {
    max: f64,
    limit: f64,
    long: f64,
    sum: f64,
    count: u32,
    peak: usize,
    began: Instant,
}

impl Gradient {
    /// Begins at the configured limit: adapting may only protect, not surprise.
    pub fn new(max: usize, now: Instant) -> Self {
        let max = (max as f64).max(1.0);
        Self {
            max,
            limit: max,
            long: 0.0,
            sum: 0.0,
            count: 0,
            peak: 0,
            began: now,
        }
    }

    /// One call ended after `took` with `in_flight` others. The new limit, when it changed.
    pub fn sample(&mut self, took: Duration, in_flight: usize, now: Instant, jitter: f64) -> Option<usize> {
        self.sum += took.as_secs_f64();
        self.count += 1;
        self.peak = self.peak.max(in_flight);
        if self.count < SAMPLES && now.saturating_duration_since(self.began) < PERIOD {
            return None;
        }
        let short = self.sum / f64::from(self.count);
        let peak = self.peak as f64;
        (self.sum, self.count, self.peak, self.began) = (0.0, 0, 0, now);
        self.long = if self.long == 0.0 {
            short
        } else {
            self.long + (short - self.long) / LONG
        };
        if short <= 0.0 {
            return None;
        }
        // A long outage must not become the new normal: come down fast once latency is good again.
        if self.long / short > 2.0 {
            self.long *= 0.9;
        }
        let gradient = (TOLERANCE * self.long / short).clamp(0.5, 1.0);
        // An idle route proves nothing about a larger limit.
        if gradient >= 1.0 && peak < self.limit / 2.0 {
            return None;
        }
        let target = self.limit * gradient + QUEUE;
        let next = self.limit * (1.0 - SMOOTHING) + target * SMOOTHING;
        let next = next * (1.0 + JITTER * (jitter.clamp(0.0, 1.0) - 0.5));
        let old = self.limit as usize;
        self.limit = next.clamp(MIN.min(self.max), self.max);
        let new = self.limit as usize;
        (new != old).then_some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn drive(g: &mut Gradient, took: Duration, in_flight: usize, rounds: u32, now: Instant) -> usize {
        for _ in 0..rounds * SAMPLES {
            g.sample(took, in_flight, now, 0.5);
        }
        g.limit as usize
    }

    #[tokio::test(start_paused = true)]
    async fn it_shrinks_when_latency_rises_and_comes_back() {
        let now = Instant::now();
        let mut g = Gradient::new(200, now);
        assert_eq!(drive(&mut g, 20 * MS, 150, 20, now), 200);
        let slow = drive(&mut g, 200 * MS, 200, 30, now);
        assert!(slow < 40, "{slow}");
        assert!(slow >= 4);
        let healed = drive(&mut g, 20 * MS, 200, 400, now);
        assert_eq!(healed, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn it_never_leaves_its_bounds() {
        let now = Instant::now();
        let mut g = Gradient::new(3, now);
        assert_eq!(drive(&mut g, MS, 3, 10, now), 3);
        assert_eq!(drive(&mut g, 1000 * MS, 3, 50, now), 3, "already at the least");
    }
}
