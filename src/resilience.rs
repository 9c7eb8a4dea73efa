//! Breaker, retry budget, retry law, hedging, limits and deadline: what keeps a sick gateway from making an
//! application sick, and an application from making a gateway sicker.
//!
//! Every part is a pure state machine: `now` ([`tokio::time::Instant`]) and `jitter` (a number in `[0, 1)`) are
//! arguments, there is no socket, no clock, no metric and no log in here, and each part is proven by itself. Around
//! each stands a shell thin enough to read at a glance: one short uncontended lock, so that all workers of the process
//! share one view of a gateway. Parts answer with typed values ([`breaker::Transition`], [`limit::Shed`],
//! [`retry::Skip`]); whoever calls turns them into metrics and log lines.
//!
//! [`Protection`] bundles what one route owns and carries its state over a reload.
//!
//! Invariants: a breaker is never closed by a call from before it opened; a retry that may be a second execution is
//! never allowed here, whatever the budget; retries and hedges stay within their budgets; a queue has a bound.

pub mod breaker;
pub mod budget;
pub mod deadline;
pub mod fault;
pub mod gradient;
pub mod hedge;
pub mod limit;
pub mod protection;
pub mod retry;
mod window;

pub use breaker::Breaker;
pub use budget::Budget;
pub use deadline::Deadline;
pub use fault::Faults;
pub use hedge::Hedge;
pub use limit::Limit;
pub use protection::Protection;

/// A number in `[0, 1)` for the `jitter` arguments of this room. Not secret, not for identifiers.
pub fn jitter() -> f64 {
    fastrand::f64()
}
