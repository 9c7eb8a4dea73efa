//! Pauses shorter than the runtime's clock can measure.
//!
//! The runtime counts whole milliseconds, and a peer on the same network acknowledges within a tenth of one. A timer of
//! the kernel's (timerfd(2)) serves all that nap on one worker: whoever is due soonest sets it, and when it rings every
//! napper looks at the clock and sleeps on or goes. Few nap at once, and none for long.

use std::cell::{Cell, OnceCell};
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
    /// When it rings next, on the kernel's clock.
    rings: Cell<Option<Duration>>,
}

impl Naps {
    /// Sleeps for so long, or a little longer.
    pub(super) async fn nap(&self, length: Duration) {
        let timer = self.timer.get_or_init(timer).as_ref();
        let Some(timer) = timer.filter(|_| length < LONG) else {
            return tokio::time::sleep(length).await;
        };
        let due = now() + length;
        loop {
            let now = now();
            if now >= due {
                return;
            }
            if self.rings.get().is_none_or(|rings| rings <= now || due < rings) {
                self.rings.set(Some(due));
                if set(timer.get_ref(), due).is_err() {
                    return tokio::time::sleep(length).await;
                }
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
    }
}
