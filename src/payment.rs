//! Failover itself.
//!
//! [`core`] decides and does nothing else; the engine around it carries out what it decides.

pub mod core;
pub mod engine;
