//! The sandbox's clock: the machine's time plus an offset that tests move, so that a day can pass in no time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A clock shared by every simulator of a sandbox. Cheap to clone; all clones are one clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset: Arc<AtomicI64>,
}

impl Clock {
    /// Unix time in seconds, as the simulators see it.
    pub fn now(&self) -> i64 {
        let machine = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        machine.saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// Moves the clock by so many seconds; backwards too.
    pub fn advance(&self, seconds: i64) {
        self.offset.fetch_add(seconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_move_together() {
        let clock = Clock::default();
        let other = clock.clone();
        let before = clock.now();
        other.advance(86_400);
        assert!(clock.now() >= before + 86_400);
    }
}
