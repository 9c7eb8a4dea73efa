//! Faithful simulators of the gateways, with fault scripts.
