//! Tenants: their interface on the shared listener, and whose payments are whose.

mod doors;
mod guide;
mod house;
mod tenancy;
