//! API Sentinel: a sidecar that keeps a merchant's payments flowing, and never charges twice.
//!
//! # The life of a request
//!
//! 1. [`listen`] accepts a connection, lets hyper parse it, and [`listen::target`] refuses what two servers could read
//!    differently.
//! 2. A tenant's own request, under `/api/v1` on a shared listener, is answered by [`admin::api`]. Of any other [`route`]
//!    says whose it is: by listener, path prefix and host, never by anything that names an upstream.
//! 3. [`proxy`] finds it a place ([`resilience`]: limit, breaker, budget) and streams it through [`upstream`].
//! 4. [`upstream`] counts the bytes it hands to the transport: a failure says whether the gateway may have the request.
//! 5. The answer streams back unchanged; an answer of Sentinel's own has the shape of the gateway's errors
//!    ([`gateway::errors`]).

// A payment intent has more keys than the default depth of `json!` allows.
#![recursion_limit = "256"]

pub mod account;
pub mod admin;
pub mod analytics;
pub mod app;
pub mod arrival;
pub mod cli;
pub mod config;
pub mod dashboard;
pub mod failpoint;
pub mod gateway;
pub mod ledger;
pub mod listen;
pub mod money;
pub mod payment;
pub mod proxy;
pub mod resilience;
pub mod route;
pub mod sandbox;
pub mod telemetry;
pub mod upstream;
