//! Failover itself.
//!
//! [`core`] decides and does nothing else; the engine around it carries out what it decides, and
//! [`recovery`] looks after what nobody else does, [`housekeeping`] removes what nobody wants any more. [`webhooks`] bring what gateways tell by themselves, and
//! [`timeline`] tells people, and [`announce`] tells applications what nobody else would.

pub mod announce;
pub mod certify;
pub mod core;
pub mod engine;
pub mod housekeeping;
pub mod recovery;
pub mod timeline;
pub mod webhooks;
