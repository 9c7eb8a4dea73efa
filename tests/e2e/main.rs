//! The whole binary, through its front door: real sockets, real TLS, a real ledger on disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the support room is shared by every area")]

mod accounts;
mod admin;
mod architecture;
mod config;
mod contract;
mod demo;
mod deployment;
mod evidence;
mod figures;
mod forwarding;
mod framing;
mod monitoring;
mod payments;
mod reload;
mod resilience;
mod sandbox;
mod service;
mod support;
mod telemetry;
mod upstream;
mod watching;
