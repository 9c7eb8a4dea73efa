//! Payments through the real binary: taken by the own gateway, taken elsewhere, replayed, refused, in doubt.

mod abandoned;
mod audit;
mod braintree;
mod by_reference;
mod cards;
mod carried;
mod certified;
mod custom;
mod dialects;
mod failover;
mod faults;
mod follow_ups;
mod idempotency;
mod kill;
mod misbehaviour;
mod notifications;
mod operators;
mod own;
mod planning;
mod razorpay;
mod rounds;
mod settings;
mod square;
mod struck;
mod two_step;
mod webhooks;
