//! Stripe as dialect and as target, without a network.
