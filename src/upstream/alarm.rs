//! Deadlines of exchanges, without a timer for each.
//!
//! Almost no exchange meets its deadline, so arming one must cost next to nothing. A timer of the runtime's costs about a
//! thousand instructions to arm and disarm, and on a worker with little to do a system call or two, because a new
//! earliest timer wakes the driver. Here a deadline is an entry in a list, and one task a worker, the sweeper, sleeps
//! until the earliest deadline it knows. Deadlines of the same length come in order, so under steady traffic the sweeper
//! wakes once in the length of a deadline, however many exchanges there are.
//!
//! Invariants: an exchange is never ended before its deadline; the sweeper never sleeps past the earliest entry.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The deadlines of one worker's exchanges.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    list: Rc<List>,
    sweeper: RefCell<Option<AbortHandle>>,
}

#[derive(Debug, Default)]
struct List {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    /// When the sweeper wakes by itself; `None` while it sleeps until it is called, or was never started.
    next: Cell<Option<Instant>>,
    earlier: Notify,
}

#[derive(Debug)]
enum Slot {
    Free,
    Armed(Instant, Waker),
    Rung,
}

/// The deadline came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

impl Alarms {
    /// Waits for a future until `at`, or for ever. Must be polled where tasks can be spawned locally.
    pub(super) fn until<F: Future>(&self, at: Option<Instant>, future: F) -> Until<'_, F> {
        Until {
            future,
            alarm: Alarm {
                alarms: self,
                at,
                slot: None,
            },
        }
    }

    fn arm(&self, at: Instant, waker: Waker) -> usize {
        let armed = Slot::Armed(at, waker);
        let slot = match self.list.free.borrow_mut().pop() {
            Some(slot) => {
                self.list.slots.borrow_mut()[slot] = armed;
                slot
            }
            None => {
                let mut slots = self.list.slots.borrow_mut();
                slots.push(armed);
                slots.len() - 1
            }
        };
        if self.list.next.get().is_none_or(|next| at < next) {
            self.list.next.set(Some(at));
            self.call_sweeper();
        }
        slot
    }

    fn call_sweeper(&self) {
        self.list.earlier.notify_one();
        let mut sweeper = self.sweeper.borrow_mut();
        if sweeper.as_ref().is_none_or(AbortHandle::is_finished) {
            *sweeper = Some(tokio::task::spawn_local(sweep(Rc::clone(&self.list))).abort_handle());
        }
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.take() {
            sweeper.abort();
        }
    }
}

async fn sweep(list: Rc<List>) {
    loop {
        let next = list.ring(Instant::now());
        list.next.set(next);
        match next {
            None => list.earlier.notified().await,
            Some(at) => {
                // Whichever comes first: the reason does not matter.
                let _ = tokio::time::timeout_at(at, list.earlier.notified()).await;
            }
        }
    }
}

impl List {
    /// Rings what is due, and says when the next is.
    fn ring(&self, now: Instant) -> Option<Instant> {
        let (mut next, mut due) = (None::<Instant>, Vec::new());
        for slot in &mut *self.slots.borrow_mut() {
            match slot {
                Slot::Armed(at, _) if *at > now => next = Some(next.map_or(*at, |next| next.min(*at))),
                Slot::Armed(..) => due.push(std::mem::replace(slot, Slot::Rung)),
                Slot::Free | Slot::Rung => {}
            }
        }
        // No borrow is held while foreign code runs.
        for slot in due {
            if let Slot::Armed(_, waker) = slot {
                waker.wake();
            }
        }
        next
    }
}

/// One deadline. Disarmed when dropped.
#[derive(Debug)]
struct Alarm<'a> {
    alarms: &'a Alarms,
    at: Option<Instant>,
    slot: Option<usize>,
}

impl Alarm<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Elapsed> {
        let Some(at) = self.at else { return Poll::Pending };
        let Some(slot) = self.slot else {
            self.slot = Some(self.alarms.arm(at, cx.waker().clone()));
            return Poll::Pending;
        };
        match &mut self.alarms.list.slots.borrow_mut()[slot] {
            Slot::Armed(_, waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Slot::Free | Slot::Rung => Poll::Ready(Elapsed),
        }
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let old = std::mem::replace(&mut self.alarms.list.slots.borrow_mut()[slot], Slot::Free);
            self.alarms.list.free.borrow_mut().push(slot);
            drop(old);
        }
    }
}

pin_project! {
    /// A future with a deadline.
    #[derive(Debug)]
    pub(super) struct Until<'a, F> {
        #[pin]
        future: F,
        alarm: Alarm<'a>,
    }
}

impl<F: Future> Future for Until<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.alarm.poll(cx).map(Err)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    async fn ends_after(alarms: &Alarms, length: Duration) -> Duration {
        let began = Instant::now();
        let ended = alarms.until(Some(began + length), std::future::pending::<()>()).await;
        assert_eq!(ended, Err(Elapsed));
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_of_any_length_are_met_in_any_order() {
        LocalSet::new()
            .run_until(async {
                let alarms = Rc::new(Alarms::default());
                let all = [500, 20, 300, 20, 7_000, 0, 1].map(|ms| {
                    let alarms = Rc::clone(&alarms);
                    tokio::task::spawn_local(async move { (ms, ends_after(&alarms, ms * MS).await) })
                });
                for task in all {
                    let (ms, took) = task.await.unwrap();
                    assert!(took >= ms * MS && took <= (ms + 2) * MS, "{ms} ms took {took:?}");
                }
                assert!(
                    ends_after(&alarms, 40 * MS).await <= 42 * MS,
                    "after the sweeper found nothing to do"
                );
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_leaves_nothing_behind() {
        LocalSet::new()
            .run_until(async {
                let alarms = Alarms::default();
                for _ in 0..100 {
                    let at = Instant::now() + 30_000 * MS;
                    assert_eq!(alarms.until(Some(at), tokio::time::sleep(MS)).await, Ok(()));
                }
                assert_eq!(alarms.list.slots.borrow().len(), 1);
                assert_eq!(alarms.list.free.borrow().len(), 1);
                assert_eq!(alarms.until(None, tokio::time::sleep(MS)).await, Ok(()));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_sweeper_wakes_once_in_the_length_of_a_deadline() {
        LocalSet::new()
            .run_until(async {
                let alarms = Alarms::default();
                let start = Instant::now();
                let mut targets = std::collections::BTreeSet::new();
                for _ in 0..1_000 {
                    let at = Instant::now() + 100 * MS;
                    let _ = alarms.until(Some(at), tokio::time::sleep(MS)).await;
                    targets.insert(alarms.list.next.get());
                }
                let spans = start.elapsed().as_millis() / 100;
                assert!(
                    targets.len() as u128 <= spans + 2,
                    "{} targets in {spans} spans",
                    targets.len()
                );
            })
            .await;
    }
}
