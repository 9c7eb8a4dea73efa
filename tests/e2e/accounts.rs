//! Tenants: their interface on the shared listener, and whose payments are whose.

mod doors;
mod fees;
mod guide;
mod house;
mod instruments;
mod tenancy;
mod walls;
