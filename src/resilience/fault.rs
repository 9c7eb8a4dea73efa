//! Faults on purpose: what an operator asks to go wrong between Sentinel and a gateway, so that an application's own
//! behaviour can be seen before the day it matters. *Abort after forward* is the one that no test account offers: the
//! gateway acts, and the answer is lost.
//!
//! A fault is for one route, strikes by chance or a number of times, and always ends by itself: one that was forgotten
//! would be an outage of our own making. It strikes attempts, not requests, so that breaker, retries and hedges meet
//! it as they would meet the gateway's own failure.
//!
//! Refuses: faults without an end, more than [`MOST`] at once, faults that would pass for a success.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Faults at one time at most.
pub const MOST: usize = 64;

/// The longest life of a fault. Who wants more asks again, and so still knows of it.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// The longest delay.
pub const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request leaves late.
    Delay(Duration),
    /// No connection: nothing is sent.
    Refuse,
    /// The connection breaks before a byte was sent.
    AbortBefore,
    /// The request is sent, the answer is dropped: what became of it is unknown.
    AbortAfter,
    /// The request is sent; its answer gets this status.
    Status(u16),
}

impl Effect {
    /// The word in the operators' interface, labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Refuse => "refuse",
            Self::AbortBefore => "abort_before",
            Self::AbortAfter => "abort_after",
            Self::Status(_) => "status",
        }
    }
}

/// How often it strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Each attempt with this chance, above 0 and up to 1.
    Chance(f64),
    /// The next so many attempts.
    Times(u32),
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The route.
    pub route: String,
    /// Only attempts at this gateway; `None` for all of the route's.
    pub gateway: Option<String>,
    /// What goes wrong.
    pub effect: Effect,
    /// How often.
    pub rate: Rate,
    /// How long at most.
    pub lasts: Duration,
}

/// Why a fault is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The chance.
    #[error("the probability must be above 0% and at most 100%")]
    Chance,
    /// The number of times.
    #[error("the count must be at least 1")]
    Times,
    /// The end.
    #[error("a fault must end within an hour")]
    Lasts,
    /// The delay.
    #[error("a delay must be at least 1 ms and at most 5 minutes")]
    Delay,
    /// The status.
    #[error("the status must be 400 to 599: a made-up success could be taken for a payment")]
    Status,
    /// Too many.
    #[error("there are too many faults at once; take some away")]
    Full,
}

impl Spec {
    fn check(&self) -> Result<(), FaultError> {
        match self.rate {
            Rate::Chance(chance) if !(chance > 0.0 && chance <= 1.0) => return Err(FaultError::Chance),
            Rate::Times(0) => return Err(FaultError::Times),
            Rate::Chance(_) | Rate::Times(_) => {}
        }
        if self.lasts.is_zero() || self.lasts > LONGEST {
            return Err(FaultError::Lasts);
        }
        match self.effect {
            Effect::Delay(delay) if delay.is_zero() || delay > LONGEST_DELAY => Err(FaultError::Delay),
            Effect::Status(status) if !(400..=599).contains(&status) => Err(FaultError::Status),
            _ => Ok(()),
        }
    }
}

/// A fault in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Its number, unique in this process.
    pub id: u64,
    /// What was asked for; a number of times is what is left of it.
    pub spec: Spec,
    /// When it ends at the latest.
    pub until: Instant,
    /// How often it has struck.
    pub struck: u64,
}

impl Fault {
    fn over(&self, now: Instant) -> bool {
        now >= self.until || self.spec.rate == Rate::Times(0)
    }
}

/// What strikes one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strike {
    /// How late the request leaves.
    pub delay: Option<Duration>,
    /// What goes wrong then; never [`Effect::Delay`].
    pub effect: Option<Effect>,
}

/// All faults of the process. Without one a request pays for a single relaxed load.
#[derive(Debug, Default)]
pub struct Faults {
    count: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    list: Vec<Fault>,
}

impl Faults {
    /// Whether there may be any.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner: MutexGuard<'_, Inner> = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut inner);
        self.count.store(inner.list.len(), Ordering::Relaxed);
        result
    }

    /// Adds one.
    ///
    /// # Errors
    /// When it is not one that can be taken.
    pub fn add(&self, spec: Spec, now: Instant) -> Result<Fault, FaultError> {
        spec.check()?;
        self.change(|inner| {
            inner.list.retain(|fault| !fault.over(now));
            if inner.list.len() >= MOST {
                return Err(FaultError::Full);
            }
            inner.last += 1;
            let fault = Fault {
                id: inner.last,
                until: now + spec.lasts,
                spec,
                struck: 0,
            };
            inner.list.push(fault.clone());
            Ok(fault)
        })
    }

    /// Takes one away; `None` when there is none of that number.
    pub fn remove(&self, id: u64) -> Option<Fault> {
        self.change(|inner| {
            let at = inner.list.iter().position(|fault| fault.id == id)?;
            Some(inner.list.remove(at))
        })
    }

    /// Takes all away.
    pub fn clear(&self) -> Vec<Fault> {
        self.change(|inner| std::mem::take(&mut inner.list))
    }

    /// Takes away those that are over, for the log.
    pub fn sweep(&self, now: Instant) -> Vec<Fault> {
        self.change(|inner| inner.list.extract_if(.., |fault| fault.over(now)).collect())
    }

    /// Those in force, oldest first.
    pub fn list(&self, now: Instant) -> Vec<Fault> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.list.iter().filter(|fault| !fault.over(now)).cloned().collect()
    }

    /// What strikes an attempt of this route at this gateway now. Every delay that strikes is added; of the other
    /// effects the oldest fault's that strikes. `dice` gives numbers in `[0, 1)`.
    pub fn strike(&self, route: &str, gateway: &str, now: Instant, mut dice: impl FnMut() -> f64) -> Strike {
        let mut strike = Strike::default();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in inner.list.iter_mut().filter(|fault| !fault.over(now)) {
            let spec = &mut fault.spec;
            let meant = spec.route == route && spec.gateway.as_deref().is_none_or(|named| named == gateway);
            let delays = matches!(spec.effect, Effect::Delay(_));
            if !meant || (strike.effect.is_some() && !delays) {
                continue;
            }
            match &mut spec.rate {
                Rate::Chance(chance) if dice() >= *chance => continue,
                Rate::Chance(_) => {}
                Rate::Times(left) => *left -= 1,
            }
            fault.struck += 1;
            match spec.effect {
                Effect::Delay(delay) => *strike.delay.get_or_insert_default() += delay,
                effect => strike.effect = Some(effect),
            }
        }
        strike
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn spec(effect: Effect, rate: Rate) -> Spec {
        Spec {
            route: "checkout".into(),
            gateway: None,
            effect,
            rate,
            lasts: SECOND,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_strikes_as_often_as_asked_where_asked_and_ends() {
        let (faults, t0) = (Faults::default(), Instant::now());
        assert!(!faults.any());
        let fault = faults.add(spec(Effect::AbortAfter, Rate::Times(2)), t0).unwrap();
        let strike = |route, now| faults.strike(route, "stripe", now, || 0.0).effect;
        assert_eq!(strike("other", t0), None);
        assert_eq!(strike("checkout", t0), Some(Effect::AbortAfter));
        assert_eq!(strike("checkout", t0), Some(Effect::AbortAfter));
        assert_eq!(strike("checkout", t0), None, "twice was asked for");
        assert!(faults.list(t0).is_empty());
        let over = faults.sweep(t0);
        assert_eq!((over.len(), over[0].id, over[0].struck), (1, fault.id, 2));
        assert!(!faults.any());

        faults.add(spec(Effect::Refuse, Rate::Chance(1.0)), t0).unwrap();
        assert_eq!(strike("checkout", t0 + SECOND / 2), Some(Effect::Refuse));
        assert_eq!(strike("checkout", t0 + SECOND), None, "it is over, swept or not");
        assert_eq!(faults.sweep(t0 + SECOND).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn chance_gateway_and_order_decide() {
        let (faults, t0) = (Faults::default(), Instant::now());
        let add = |effect, rate, gateway: Option<&str>| {
            let gateway = gateway.map(str::to_owned);
            faults
                .add(
                    Spec {
                        gateway,
                        ..spec(effect, rate)
                    },
                    t0,
                )
                .unwrap()
        };
        let first = add(Effect::Status(503), Rate::Chance(0.5), Some("stripe"));
        add(Effect::Delay(SECOND), Rate::Chance(1.0), None);
        add(Effect::Delay(SECOND), Rate::Times(1), None);
        add(Effect::Refuse, Rate::Times(1), None);
        let lucky = faults.strike("checkout", "stripe", t0, || 0.4);
        assert_eq!(
            (lucky.delay, lucky.effect),
            (Some(2 * SECOND), Some(Effect::Status(503)))
        );
        let unlucky = faults.strike("checkout", "stripe", t0, || 0.6);
        assert_eq!(
            (unlucky.delay, unlucky.effect),
            (Some(SECOND), Some(Effect::Refuse)),
            "not used up by the first"
        );
        let elsewhere = faults.strike("checkout", "adyen", t0, || 0.0);
        assert_eq!((elsewhere.delay, elsewhere.effect), (Some(SECOND), None));
        assert_eq!(faults.remove(first.id).unwrap().struck, 1);
        assert!(faults.remove(first.id).is_none());
        assert_eq!(faults.clear().len(), 3);
        assert!(!faults.any());
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_be_forgotten_or_taken_for_a_success_is_refused() {
        let (faults, t0) = (Faults::default(), Instant::now());
        let endless = Spec {
            lasts: LONGEST + SECOND,
            ..spec(Effect::Refuse, Rate::Times(1))
        };
        for (wrong, why) in [
            (endless, FaultError::Lasts),
            (spec(Effect::Refuse, Rate::Times(0)), FaultError::Times),
            (spec(Effect::Refuse, Rate::Chance(0.0)), FaultError::Chance),
            (spec(Effect::Refuse, Rate::Chance(f64::NAN)), FaultError::Chance),
            (spec(Effect::Status(200), Rate::Times(1)), FaultError::Status),
            (spec(Effect::Delay(Duration::ZERO), Rate::Times(1)), FaultError::Delay),
        ] {
            assert_eq!(faults.add(wrong, t0), Err(why));
        }
        for _ in 0..MOST {
            faults.add(spec(Effect::Refuse, Rate::Times(1)), t0).unwrap();
        }
        assert_eq!(
            faults.add(spec(Effect::Refuse, Rate::Times(1)), t0),
            Err(FaultError::Full)
        );
        assert!(
            faults.add(spec(Effect::Refuse, Rate::Times(1)), t0 + SECOND).is_ok(),
            "those are over"
        );
    }
}
