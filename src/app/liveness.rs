//! Whether every worker still turns its runtime.
//!
//! A worker beats from a task of its own runtime. A worker that is stuck, in a loop, a lock or a system call, does not
//! poll that task, and its beat grows old. That, and nothing that a stuck thread could still say, drives the service
//! manager's watchdog and `/live`. A worker that has ended is not stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

/// How often a worker beats. One wake-up a second costs nothing that can be measured.
const BEAT: Duration = Duration::from_secs(1);

/// The age from which a beat means that its worker is stuck. Long pauses of a crowded machine stay below it.
pub const STUCK: Duration = Duration::from_secs(10);

/// The mark of a worker that has ended.
const ENDED: u64 = u64::MAX;

/// The last beat of each worker.
#[derive(Debug)]
pub struct Liveness {
    began: Instant,
    /// Milliseconds from `began`.
    beats: Vec<AtomicU64>,
}

impl Liveness {
    /// For so many workers, which all count as having beaten just now: one that never starts is found out too.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            beats: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    fn since(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(ENDED - 1)
    }

    /// A worker turns.
    pub fn beat(&self, worker: usize, now: Instant) {
        self.beats[worker].store(self.since(now), Ordering::Relaxed);
    }

    /// A worker's runtime has ended, which is not being stuck.
    pub fn ended(&self, worker: usize) {
        self.beats[worker].store(ENDED, Ordering::Relaxed);
    }

    /// Beats for as long as the worker's runtime polls it.
    pub async fn keep_beating(self: Arc<Self>, worker: usize) {
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.beat(worker, Instant::now());
        }
    }

    /// The workers whose last beat is older than `limit`.
    pub fn stuck(&self, now: Instant, limit: Duration) -> Vec<usize> {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(ENDED);
        let now = self.since(now);
        let late = |beat: u64| beat != ENDED && now.saturating_sub(beat) > limit;
        let beats = self.beats.iter().map(|beat| beat.load(Ordering::Relaxed));
        beats
            .enumerate()
            .filter_map(|(worker, beat)| late(beat).then_some(worker))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stops_turning_is_stuck_and_one_that_ended_is_not() {
        let liveness = Liveness::new(2);
        let started = liveness.began;
        let limit = Duration::from_secs(5);
        assert!(liveness.stuck(started + limit, limit).is_empty());
        let late = started + limit + Duration::from_millis(1);
        assert_eq!(liveness.stuck(late, limit), [0, 1], "neither ever started");
        liveness.beat(0, late);
        assert_eq!(liveness.stuck(late, limit), [1]);
        liveness.ended(1);
        assert!(liveness.stuck(late, limit).is_empty());
        assert_eq!(liveness.stuck(late + limit * 2, limit), [0]);
    }

    #[test]
    fn a_runtime_that_blocks_does_not_beat() {
        let liveness = Liveness::new(1);
        let (block, blocked) = std::sync::mpsc::channel::<()>();
        let (turned, turns) = std::sync::mpsc::channel();
        let theirs = Arc::clone(&liveness);
        let worker = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let beating = tokio::spawn(Arc::clone(&theirs).keep_beating(0));
                tokio::time::sleep(Duration::from_secs(30)).await;
                turned.send(Instant::now()).unwrap();
                // The whole thread waits, as in a deadlock.
                let _ = blocked.recv();
                beating.abort();
            });
        });
        let turning: Instant = turns.recv().unwrap();
        assert!(liveness.stuck(turning, BEAT * 2).is_empty());
        assert_eq!(liveness.stuck(turning + STUCK * 2, STUCK), [0]);
        drop(block);
        worker.join().unwrap();
    }
}
