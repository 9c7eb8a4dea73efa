//! Pauses shorter than the runtime's clock can measure.
//!
//! The runtime counts whole milliseconds, and a peer on the same network acknowledges within a tenth of one. A timer of
//! the kernel's (timerfd(2)) serves all that nap on one worker: it is set for whoever is due first, and when it rings
//! every napper looks at the clock and sleeps on or goes. Few nap at once, and none for long.
//!
//! Invariant: while anybody naps the timer is set for the first who is due, and rings at once for one who is overdue. A
//! ring is told once and may be taken by somebody else, so whoever takes it and goes sets the timer for those who stay.

use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// From this length on the runtime's own timer is good enough.
const LONG: Duration = Duration::from_millis(4);

/// One worker's short pauses.
#[derive(Debug, Default)]
pub(super) struct Naps {
    /// Made when first needed; `None` where the kernel refuses.
    timer: OnceCell<Option<AsyncFd<OwnedFd>>>,
    /// When it rings next, on the kernel's clock; `None` once that ring was taken.
    rings: Cell<Option<Duration>>,
    /// When those who nap are due.
    due: RefCell<Vec<Duration>>,
}

impl Naps {
    /// Sleeps for so long, or a little longer.
    pub(super) async fn nap(&self, length: Duration) {
        let timer = self.timer.get_or_init(timer).as_ref();
        let Some(timer) = timer.filter(|_| length < LONG) else {
            return tokio::time::sleep(length).await;
        };
        let napper = Napper::lies_down(self, timer.get_ref(), now() + length);
        loop {
            if now() >= napper.due {
                return;
            }
            if self.set(timer.get_ref()).is_err() {
                return tokio::time::sleep(length).await;
            }
            let Ok(mut rung) = timer.readable().await else {
                return tokio::time::sleep(length).await;
            };
            // Whoever reads first takes the ring; the others find nothing and look at the clock all the same.
            if rustix::io::read(timer.get_ref(), &mut [0; 8][..]).is_ok() {
                self.rings.set(None);
            }
            rung.clear_ready();
        }
    }

    /// Sets the timer for the first who is due.
    fn set(&self, timer: &OwnedFd) -> rustix::io::Result<()> {
        let first = self.due.borrow().iter().min().copied();
        match first {
            Some(first) if self.rings.get() != Some(first) => {
                self.rings.set(Some(first));
                set(timer, first)
            }
            _ => Ok(()),
        }
    }
}

/// Somebody who naps, until dropped.
#[derive(Debug)]
struct Napper<'a> {
    naps: &'a Naps,
    timer: &'a OwnedFd,
    due: Duration,
}

impl<'a> Napper<'a> {
    fn lies_down(naps: &'a Naps, timer: &'a OwnedFd, due: Duration) -> Self {
        naps.due.borrow_mut().push(due);
        Self { naps, timer, due }
    }
}

impl Drop for Napper<'_> {
    fn drop(&mut self) {
        {
            let mut due = self.naps.due.borrow_mut();
            if let Some(at) = due.iter().position(|due| *due == self.due) {
                due.swap_remove(at);
            }
        }
        if self.naps.rings.get().is_none() {
            // What the kernel has set before it sets again.
            let _ = self.naps.set(self.timer);
        }
    }
}

/// The kernel's clock. Not the runtime's: that one stands still in tests, and this timer does not.
fn now() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0))
}

#[expect(
    deprecated,
    reason = "its successor asks for an unsafe promise that the descriptor stays open: an owned one does"
)]
fn timer() -> Option<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
    AsyncFd::with_interest(timer, Interest::READABLE).ok()
}

fn set(timer: &OwnedFd, at: Duration) -> rustix::io::Result<()> {
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec {
            tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at.subsec_nanos().into(),
        },
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &once).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[tokio::test]
    async fn naps_of_any_length_end_in_their_order() {
        let naps = Rc::new(Naps::default());
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let all = [3_000, 200, 1_000, 200, 9_000, 0].map(|us| {
            let (naps, order) = (Rc::clone(&naps), Rc::clone(&order));
            async move {
                let begun = now();
                naps.nap(Duration::from_micros(us)).await;
                assert!(now() - begun >= Duration::from_micros(us), "{us} us");
                order.borrow_mut().push(us);
            }
        });
        futures_util::future::join_all(all).await;
        assert_eq!(order.borrow().len(), 6);
        assert_eq!(order.borrow().last(), Some(&9_000));
        naps.nap(Duration::from_micros(50)).await;
        assert!(naps.timer.get().is_some_and(Option::is_some), "the kernel has timers");
        assert!(naps.due.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_ring_that_somebody_takes_and_goes_is_not_lost_to_those_who_stay() {
        let naps = Naps::default();
        let stays = naps.nap(Duration::from_micros(3_000));
        let takes = async {
            let timer = naps.timer.get().and_then(Option::as_ref);
            let timer = timer.expect("the kernel has timers").get_ref();
            let taker = Napper::lies_down(&naps, timer, now());
            // It rings for the one who stays, and is read before the runtime looks: the kernel tells of it no more.
            while rustix::io::read(timer, &mut [0; 8][..]).is_err() {
                std::thread::yield_now();
            }
            naps.rings.set(None);
            drop(taker);
        };
        let both = async { tokio::join!(stays, takes) };
        let ended = tokio::time::timeout(Duration::from_secs(20), both).await;
        assert!(ended.is_ok(), "asleep for ever");
    }
}
