//! What requests run by: one immutable snapshot of configuration and the shared state of its routes.

use std::sync::Arc;

use prometheus::IntCounter;
use tokio::time::Instant;

use crate::config::model::{Config, GatewayConfig, Route};
use crate::resilience::breaker::{State, Transition};
use crate::resilience::{Breaker, Protection};
use crate::route::Table;
use crate::telemetry::{Metrics, RouteMetrics};

/// A snapshot. Requests in flight finish under the one they began with.
#[derive(Debug)]
pub struct Runtime {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who owns a request.
    pub table: Table,
    /// Routes, by the configuration's index.
    pub routes: Vec<Arc<RouteState>>,
}

/// One route at work.
#[derive(Debug)]
pub struct RouteState {
    /// Its configuration.
    pub config: Arc<Route>,
    /// Its gateway.
    pub gateway: Arc<GatewayConfig>,
    /// Budget, limits.
    pub protection: Protection,
    /// The breaker towards the gateway.
    pub breaker: Arc<Breaker>,
    /// Metrics.
    pub metrics: RouteMetrics,
    answered: IntCounter,
}

impl Runtime {
    /// Builds a snapshot. Breakers, budgets and limits of routes that were there before keep their state.
    ///
    /// # Errors
    /// When a route names a gateway that is not there; the loader does not let that pass.
    pub fn build(config: Config, before: Option<&Self>, metrics: &Arc<Metrics>) -> Result<Self, String> {
        let now = Instant::now();
        let config = Arc::new(config);
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let name = route
                .gateways
                .first()
                .ok_or_else(|| format!("route {} names no gateway", route.name))?;
            let gateway = config
                .gateways
                .get(name)
                .ok_or_else(|| format!("there is no gateway {name}"))?;
            let earlier = before.and_then(|before| before.routes.iter().find(|state| state.config.name == route.name));
            let protection = match earlier {
                Some(earlier) => {
                    let moved = |_: &str| earlier.gateway.endpoint != gateway.endpoint;
                    earlier.protection.carried_over(route, moved, now)
                }
                None => Protection::new(route, now),
            };
            // An unchanged gateway keeps its identity, and with it every worker's open connections.
            let gateway = match earlier {
                Some(earlier) if *earlier.gateway == **gateway => Arc::clone(&earlier.gateway),
                _ => Arc::clone(gateway),
            };
            let breaker = protection
                .breaker(name)
                .cloned()
                .ok_or_else(|| format!("route {} has no breaker", route.name))?;
            let metrics = metrics.route(&route.name);
            let answered = metrics.attempt(name, "first", "answered");
            routes.push(Arc::new(RouteState {
                config: Arc::clone(route),
                gateway,
                protection,
                breaker,
                metrics,
                answered,
            }));
        }
        let table = Table::new(&config.routes, config.listeners.shared);
        Ok(Self { config, table, routes })
    }
}

impl RouteState {
    /// Counts an attempt; the usual one without looking up its labels.
    pub fn attempt(&self, kind: &'static str, result: &'static str) {
        if (kind, result) == ("first", "answered") {
            self.answered.inc();
        } else {
            self.metrics.attempt(&self.gateway.name, kind, result).inc();
        }
    }

    /// Tells of a breaker's change.
    pub fn transition(&self, transition: &Transition) {
        let level = match transition.to {
            State::Closed | State::ForcedClosed => 0,
            State::HalfOpen => 1,
            State::Open | State::ForcedOpen => 2,
        };
        self.metrics.transition(
            &self.gateway.name,
            transition.from.name(),
            transition.to.name(),
            transition.reason.name(),
            level,
        );
    }
}
