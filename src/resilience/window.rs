//! Exact counts over the recent past: a ring of ten buckets.
//!
//! Counts, not a moving average: an average depends on the rate of calls and can hide a total outage of a quiet gateway
//! (linkerd2-proxy dropped its own for that reason). The oldest tenth leaves at once, so a window of 10 s
//! remembers between 9 and 10 s.

use std::time::Duration;

use tokio::time::Instant;

/// Buckets in the ring.
pub const BUCKETS: usize = 10;

/// `N` counters summed over the window.
#[derive(Clone, Debug)]
pub struct Window<const N: usize> {
    width: Duration,
    /// Where bucket `cursor` began.
    began: Instant,
    cursor: usize,
    buckets: [[u32; N]; BUCKETS],
    sums: [u32; N],
}

impl<const N: usize> Window<N> {
    /// An empty window of the given length; never shorter than ten milliseconds.
    pub fn new(length: Duration, now: Instant) -> Self {
        Self {
            width: (length / BUCKETS as u32).max(Duration::from_millis(1)),
            began: now,
            cursor: 0,
            buckets: [[0; N]; BUCKETS],
            sums: [0; N],
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self, now: Instant) {
        self.began = now;
        self.cursor = 0;
        self.buckets = [[0; N]; BUCKETS];
        self.sums = [0; N];
    }

    /// Lets what is too old leave. A `now` that lies in the past changes nothing.
    pub fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed < self.width {
            return;
        }
        let steps = elapsed.as_nanos() / self.width.as_nanos();
        if steps >= BUCKETS as u128 {
            self.clear(now);
            return;
        }
        for _ in 0..steps {
            self.cursor = (self.cursor + 1) % BUCKETS;
            for (sum, old) in self.sums.iter_mut().zip(self.buckets[self.cursor]) {
                *sum -= old;
            }
            self.buckets[self.cursor] = [0; N];
            self.began += self.width;
        }
    }

    /// Adds to the counters at `now`.
    pub fn add(&mut self, now: Instant, counts: [u32; N]) {
        self.advance(now);
        for (i, n) in counts.into_iter().enumerate() {
            // Saturating together: a sum is always exactly the sum of its buckets.
            let n = n.min(u32::MAX - self.sums[i]);
            self.buckets[self.cursor][i] += n;
            self.sums[i] += n;
        }
    }

    /// The sums as of the last [`advance`](Self::advance) or [`add`](Self::add).
    pub const fn sums(&self) -> [u32; N] {
        self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_leave_bucket_by_bucket() {
        let t0 = Instant::now();
        let mut w = Window::<2>::new(Duration::from_secs(10), t0);
        w.add(t0, [1, 0]);
        w.add(t0 + Duration::from_secs(5), [2, 1]);
        assert_eq!(w.sums(), [3, 1]);
        w.advance(t0 + Duration::from_millis(9_999));
        assert_eq!(w.sums(), [3, 1]);
        w.advance(t0 + Duration::from_secs(10));
        assert_eq!(w.sums(), [2, 1], "the first bucket is ten seconds old");
        w.advance(t0 + Duration::from_secs(15));
        assert_eq!(w.sums(), [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_silence_empties_it_at_once() {
        let t0 = Instant::now();
        let mut w = Window::<1>::new(Duration::from_secs(1), t0);
        w.add(t0, [u32::MAX]);
        w.add(t0, [5]);
        assert_eq!(w.sums(), [u32::MAX]);
        w.add(t0 + Duration::from_secs(3_600), [1]);
        assert_eq!(w.sums(), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn time_running_backwards_is_harmless() {
        let t0 = Instant::now() + Duration::from_secs(60);
        let mut w = Window::<1>::new(Duration::from_secs(10), t0);
        w.add(t0, [1]);
        w.add(t0 - Duration::from_secs(30), [1]);
        assert_eq!(w.sums(), [2]);
    }
}
