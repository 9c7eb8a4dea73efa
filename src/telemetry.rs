//! Metrics, logs and traces: what an operator sees.
//!
//! One typed event ([`event`]) emits its log line and its metric, so that the two cannot disagree. Metrics are resolved
//! once a route ([`RouteMetrics`]); logs leave through a bounded queue that never holds up a request ([`log`]) and a
//! scrubber that nothing can be logged around ([`scrub`]); trace context (W3C) is read and passed on ([`trace`]). The same
//! events feed whoever watches requests pass ([`tap`]) and, where configured, a collector of spans ([`spans`], [`otlp`]).
//!
//! Usable by every room. Refuses labels and log fields that hold a path's query, a body, a header's value or an
//! idempotency key in the clear.

pub mod event;
pub mod families;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod openmetrics;
pub mod otlp;
mod process;
pub mod route;
pub mod scrub;
pub mod spans;
pub mod tap;
pub mod trace;
mod upstream;

pub use log::Logging;
pub use metrics::Metrics;
pub use route::{GatewayMetrics, RouteMetrics};
pub use upstream::UpstreamMetrics;
