//! Tenants: their interface on the shared listener, and whose payments are whose.

mod guide;
mod house;
