//! Payments through the real binary: taken by the own gateway, taken elsewhere, replayed, refused, in doubt.

mod braintree;
mod dialects;
mod failover;
mod faults;
mod follow_ups;
mod operators;
mod razorpay;
mod square;
mod struck;
