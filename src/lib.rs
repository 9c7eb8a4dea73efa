//! API Sentinel: a sidecar that keeps a merchant's payments flowing, and never charges twice.
//!
//! # The life of a request
//!
//! 1. [`listen`] accepts a connection on loopback, guards the raw HTTP head, and lets hyper parse it.
//! 2. [`route`] says which route and which operation it is: a payment operation, or opaque.
//! 3. [`proxy`] admits it (limits, breaker) and either streams it through [`upstream`], or hands a
//!    payment operation to [`payment`].
//! 4. [`payment`] records what it is about to do in the [`ledger`], sends it through [`upstream`], turns the
//!    evidence into an outcome through the [`gateway`] dialects, and fails over only with proof.
//! 5. The answer goes back in the dialect that the application speaks.
//!
//! Folders are rooms with one purpose; they use only rooms below them in the order of the list in
//! `tests/e2e/architecture.rs`, which enforces it.

pub mod config;
pub mod gateway;
pub mod ledger;
pub mod listen;
pub mod money;
pub mod payment;
pub mod proxy;
pub mod reload;
pub mod resilience;
pub mod route;
pub mod sandbox;
pub mod telemetry;
pub mod upstream;
