//! Failover itself.
