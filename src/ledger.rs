//! The durable record of payments, attempts, outcomes and obligations.
