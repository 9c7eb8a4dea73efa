//! The whole binary in front of a gateway that misbehaves: what the application gets, and what the gateway is spared.

mod faults;
mod hedging;
mod outage;

use std::net::SocketAddr;

use crate::support::sentinel::{Sentinel, free_port};

/// A sidecar with one Stripe route.
pub struct Subject {
    /// The process.
    pub sentinel: Sentinel,
    /// Where applications connect.
    pub listen: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
}

impl Subject {
    /// Starts one towards `gateway`; `route` is more of the route's YAML, indented by four.
    pub fn start(gateway: SocketAddr, route: &str) -> Self {
        let (admin, listen) = (free_port(), free_port());
        let sentinel = Sentinel::start(&configuration(admin, listen, gateway, route));
        Self {
            sentinel,
            listen,
            admin,
        }
    }
}

/// The configuration of a [`Subject`].
pub fn configuration(admin: SocketAddr, listen: SocketAddr, gateway: SocketAddr, route: &str) -> String {
    format!(
        "listeners: {{ admin: '{admin}' }}
gateways:
  stripe: {{ dialect: stripe, endpoint: 'http://{gateway}', allow_private: true }}
routes:
  - name: checkout
    listen: {listen}
    dialect: stripe
    gateways: [stripe]
{route}"
    )
}
