//! What every test of the whole binary needs: the binary itself, certificates, scripted gateways, and raw clients.

pub mod frames;
pub mod gateway;
pub mod merchant;
pub mod metrics;
pub mod patience;
pub mod receiver;
pub mod sentinel;
pub mod shop;
pub mod tls;
pub mod wire;
