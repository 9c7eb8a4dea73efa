//! How many requests are in flight, and how many may wait: early, honest 503s.
//!
//! A fixed limit by default. A sidecar sees only its own pod's share of a gateway's load, so an adaptive limit
//! ([`gradient`](super::gradient)) measures mostly other people's traffic; it is an option. A request that finds no
//! place waits in a bounded first-come-first-served queue for a bounded time; past either bound it is shed at once, so
//! that the application learns in milliseconds what it would otherwise learn after a timeout.
//!
//! The queue is tokio's semaphore, which is fair: a place given back goes to whoever waited longest, so nobody
//! overtakes. The limit can shrink below what is in flight: places given back are then withheld until it fits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::gradient::Gradient;
use super::{Deadline, jitter};
use crate::config::model;

/// Why a request was shed: the same words in metrics, logs and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shed {
    /// The route's queue is full.
    QueueFull,
    /// It waited as long as allowed.
    QueueTimeout,
    /// Its deadline would pass, or passed, while waiting.
    Deadline,
    /// The process has too many requests in flight.
    ProcessInFlight,
    /// Too many connections from applications.
    Connections,
    /// Too many bytes of payment bodies are held.
    Buffered,
    /// Sentinel is stopping.
    Draining,
}

impl Shed {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Deadline,
        Self::ProcessInFlight,
        Self::Connections,
        Self::Buffered,
        Self::Draining,
    ];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Deadline => "deadline",
            Self::ProcessInFlight => "process_in_flight",
            Self::Connections => "connections",
            Self::Buffered => "buffered",
            Self::Draining => "draining",
        }
    }
}

/// The limit of one route, or of the process, shared by all workers.
#[derive(Debug)]
pub struct Limit {
    places: Arc<Semaphore>,
    settings: Mutex<Settings>,
    /// Places that exist, taken ones included.
    size: AtomicUsize,
    /// Places to withhold as they come back.
    owed: AtomicUsize,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    queue: AtomicUsize,
    queue_timeout_ms: AtomicUsize,
}

#[derive(Debug)]
struct Settings {
    gradient: Option<Gradient>,
}

impl Limit {
    /// From a route's settings.
    pub fn new(limits: &model::Limits, now: Instant) -> Arc<Self> {
        let size = limits.in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            places: Arc::new(Semaphore::new(size)),
            settings: Mutex::new(Settings {
                gradient: limits.adaptive.then(|| Gradient::new(size, now)),
            }),
            size: AtomicUsize::new(size),
            owed: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: AtomicUsize::new(limits.queue),
            queue_timeout_ms: AtomicUsize::new(limits.queue_timeout.as_millis() as usize),
        })
    }

    /// Takes a place that is free now.
    pub fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            limit: Arc::clone(self),
            permit: Some(permit),
        })
    }

    /// Takes a place, waiting for one within the bounds. Free places cost no timer.
    pub async fn enter(self: &Arc<Self>, deadline: &Deadline) -> Result<Place, Shed> {
        if let Some(place) = self.try_enter() {
            return Ok(place);
        }
        let waiter = Waiter::join(self)?;
        let now = Instant::now();
        let timeout = Duration::from_millis(self.queue_timeout_ms.load(Ordering::Relaxed) as u64);
        let by_deadline = deadline.remaining(now).is_some_and(|left| left <= timeout);
        let wait = deadline
            .within(now, timeout.max(Duration::from_millis(1)))
            .unwrap_or(timeout);
        let taken = tokio::time::timeout(wait, Arc::clone(&self.places).acquire_owned()).await;
        drop(waiter);
        match taken {
            Ok(Ok(permit)) => {
                self.in_flight.fetch_add(1, Ordering::Relaxed);
                Ok(Place {
                    limit: Arc::clone(self),
                    permit: Some(permit),
                })
            }
            // The semaphore is never closed; were it, nothing could be admitted.
            Ok(Err(_)) => Err(Shed::Draining),
            Err(_) if by_deadline => Err(Shed::Deadline),
            Err(_) => Err(Shed::QueueTimeout),
        }
    }

    /// Requests that hold a place.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that wait for one.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The limit as it is now.
    pub fn limit(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// A call took this long at the gateway: what an adaptive limit learns from. Without one this is free of cost but
    /// for a lock, so callers look at the route's `adaptive` first.
    pub fn observe(&self, took: Duration, now: Instant) {
        let in_flight = self.in_flight();
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(gradient) = &mut settings.gradient else { return };
        if let Some(size) = gradient.sample(took, in_flight, now, jitter()) {
            self.resize(size);
        }
    }

    /// Takes new settings; whoever holds a place or waits keeps it.
    pub fn update(&self, limits: &model::Limits, now: Instant) {
        self.queue.store(limits.queue, Ordering::Relaxed);
        self.queue_timeout_ms
            .store(limits.queue_timeout.as_millis() as usize, Ordering::Relaxed);
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let size = limits.in_flight.clamp(1, Semaphore::MAX_PERMITS);
        settings.gradient = limits.adaptive.then(|| Gradient::new(size, now));
        self.resize(size);
    }

    /// Only called with `settings` locked, so resizing never races with itself.
    fn resize(&self, size: usize) {
        let old = self.size.swap(size, Ordering::Relaxed);
        if size < old {
            let gone = self.places.forget_permits(old - size);
            self.owed.fetch_add(old - size - gone, Ordering::Relaxed);
        } else {
            let mut add = size - old;
            // First call off what was still to be withheld.
            let _ = self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| {
                add = (size - old).saturating_sub(owed);
                Some(owed.saturating_sub(size - old))
            });
            self.places.add_permits(add);
        }
    }
}

/// A counted seat in the queue.
struct Waiter<'a>(&'a Limit);

impl<'a> Waiter<'a> {
    fn join(limit: &'a Limit) -> Result<Self, Shed> {
        let bound = limit.queue.load(Ordering::Relaxed);
        limit
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < bound).then_some(n + 1))
            .map(|_| Self(limit))
            .map_err(|_| Shed::QueueFull)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the requests in flight, given back when dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Place {
    limit: Arc<Limit>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limit.in_flight.fetch_sub(1, Ordering::Relaxed);
        let owes = |owed: usize| owed.checked_sub(1);
        if let Some(permit) = self.permit.take()
            && self.limit.owed.load(Ordering::Relaxed) > 0
            && self
                .limit
                .owed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, owes)
                .is_ok()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(in_flight: usize, queue: usize) -> model::Limits {
        model::Limits {
            in_flight,
            queue,
            queue_timeout: Duration::from_millis(100),
            adaptive: false,
            body: 1 << 20,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let limit = Limit::new(&limits(1, 1), Instant::now());
        let place = limit.enter(&Deadline::NEVER).await.unwrap();
        let began = Instant::now();
        let (a, b) = tokio::join!(limit.enter(&Deadline::NEVER), limit.enter(&Deadline::NEVER));
        assert_eq!(a.unwrap_err(), Shed::QueueTimeout);
        assert_eq!(b.unwrap_err(), Shed::QueueFull);
        assert_eq!(began.elapsed(), Duration::from_millis(101).min(began.elapsed()));
        assert!(began.elapsed() >= Duration::from_millis(100));
        assert_eq!((limit.in_flight(), limit.waiting()), (1, 0));
        drop(place);
        assert_eq!(limit.in_flight(), 0);
        assert!(limit.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waited_longest_goes_first() {
        let limit = Limit::new(&limits(1, 8), Instant::now());
        let place = limit.try_enter().unwrap();
        let order = std::cell::RefCell::new(Vec::new());
        let wait = |i: u32| {
            let (limit, order) = (&limit, &order);
            async move {
                let place = limit.enter(&Deadline::NEVER).await.unwrap();
                order.borrow_mut().push(i);
                drop(place);
            }
        };
        let release = async {
            tokio::task::yield_now().await;
            drop(place);
            assert!(
                limit.try_enter().is_none(),
                "the place already belongs to the first in the queue"
            );
        };
        tokio::join!(wait(1), wait(2), wait(3), release);
        assert_eq!(*order.borrow(), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_inside_the_queue_is_named_as_the_reason() {
        let limit = Limit::new(&limits(1, 8), Instant::now());
        let _place = limit.try_enter().unwrap();
        let soon = Deadline::after(Instant::now(), Duration::from_millis(20));
        assert_eq!(limit.enter(&soon).await.unwrap_err(), Shed::Deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_while_waiting_leaves_no_trace() {
        let limit = Limit::new(&limits(1, 1), Instant::now());
        let place = limit.try_enter().unwrap();
        {
            let waiting = limit.enter(&Deadline::NEVER);
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            assert_eq!(limit.waiting(), 1);
        }
        assert_eq!(limit.waiting(), 0);
        drop(place);
        assert!(limit.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn shrinking_below_what_is_in_flight_withholds_places() {
        let now = Instant::now();
        let limit = Limit::new(&limits(4, 0), now);
        let mut held: Vec<_> = (0..4).map(|_| limit.try_enter().unwrap()).collect();
        limit.update(&limits(2, 0), now);
        held.pop();
        held.pop();
        assert!(
            limit.try_enter().is_none(),
            "two are still in flight, and two is the limit"
        );
        held.pop();
        let one = limit.try_enter();
        assert!(one.is_some() && limit.try_enter().is_none());
        limit.update(&limits(3, 0), now);
        assert!(limit.try_enter().is_some());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]
        #[test]
        fn places_are_conserved(ops in proptest::collection::vec((0u8..3, 1usize..12), 1..100)) {
            let rt = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _enter = rt.enter();
            let now = Instant::now();
            let limit = Limit::new(&limits(5, 0), now);
            let mut size = 5;
            let mut held = Vec::new();
            for (op, n) in ops {
                match op {
                    0 => match limit.try_enter() {
                        Some(p) => {
                            held.push(p);
                            proptest::prop_assert!(held.len() <= size);
                        }
                        None => proptest::prop_assert!(held.len() >= size),
                    },
                    1 => drop(held.pop()),
                    _ => {
                        limit.update(&limits(n, 0), now);
                        size = n;
                    }
                }
                proptest::prop_assert_eq!(limit.in_flight(), held.len());
            }
            held.clear();
            let free = std::iter::from_fn(|| limit.try_enter()).collect::<Vec<_>>();
            proptest::prop_assert_eq!(free.len(), size);
        }
    }
}
