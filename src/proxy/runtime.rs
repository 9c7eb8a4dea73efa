//! What requests run by: one immutable snapshot of configuration and the shared state of its routes.

use std::sync::Arc;

use tokio::time::Instant;

use crate::config::model::{Config, GatewayConfig, Route};
use crate::payment::engine;
use crate::resilience::breaker::Transition;
use crate::resilience::{Breaker, Faults, Protection};
use crate::route::Table;
use crate::telemetry::event::BreakerChanged;
use crate::telemetry::{GatewayMetrics, Metrics, RouteMetrics};

/// A snapshot. Requests in flight finish under the one they began with.
#[derive(Debug)]
pub struct Runtime {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who owns a request.
    pub table: Table,
    /// Routes, by the configuration's index.
    pub routes: Vec<Arc<RouteState>>,
    /// What an operator wants to go wrong; outlives reloads.
    pub faults: Arc<Faults>,
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
    pub metrics: Arc<RouteMetrics>,
    /// Metrics at the gateway.
    pub at_gateway: Arc<GatewayMetrics>,
    /// What payments need of it, where they can be taken elsewhere.
    pub payments: Option<Arc<engine::Route>>,
}

impl Runtime {
    /// Builds a snapshot. Breakers, budgets and limits of routes that were there before keep their state.
    ///
    /// # Errors
    /// When a route names a gateway that is not there; the loader does not let that pass.
    pub fn build(config: Config, before: Option<&Self>, metrics: &Arc<Metrics>) -> Result<Self, String> {
        let now = Instant::now();
        let mut config = config;
        // An unchanged gateway keeps its identity, and with it every worker's open connections.
        if let Some(before) = before {
            for (name, gateway) in &mut config.gateways {
                if let Some(earlier) = before.config.gateways.get(name).filter(|earlier| *earlier == gateway) {
                    *gateway = Arc::clone(earlier);
                }
            }
        }
        let config = Arc::new(config);
        let faults = before.map_or_else(Arc::default, |before| Arc::clone(&before.faults));
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
                    let endpoint =
                        |config: &Config, name: &str| config.gateways.get(name).map(|gateway| gateway.endpoint.clone());
                    let moved = |name: &str| {
                        before.and_then(|before| endpoint(&before.config, name)) != endpoint(&config, name)
                    };
                    earlier.protection.carried_over(route, moved, now)
                }
                None => Protection::new(route, now),
            };
            let gateway = Arc::clone(gateway);
            let breaker = protection
                .breaker(name)
                .cloned()
                .ok_or_else(|| format!("route {} has no breaker", route.name))?;
            let metrics = metrics.route(&route.name);
            let at_gateway = metrics.gateway(name);
            at_gateway.set_state(breaker.state().gauge());
            let gateways = route.gateways.iter().filter_map(|name| {
                Some((
                    Arc::clone(config.gateways.get(name)?),
                    Arc::clone(protection.breaker(name)?),
                ))
            });
            let payments = match config.ledger {
                Some(_) => engine::Route::new(route, gateways, &metrics, &faults),
                None => None,
            };
            routes.push(Arc::new(RouteState {
                config: Arc::clone(route),
                gateway,
                protection,
                breaker,
                metrics,
                at_gateway,
                payments,
            }));
        }
        let table = Table::new(&config.routes, &config.listeners.shared);
        Ok(Self {
            config,
            table,
            routes,
            faults,
        })
    }

    /// The gateway whose webhooks come to this path; `None` where the listener is not for webhooks.
    pub fn webhooks(&self, listener: std::net::SocketAddr, path: &str) -> Option<Option<&Arc<GatewayConfig>>> {
        let ours = self
            .config
            .listeners
            .webhooks
            .iter()
            .any(|listen| listen.address == listener);
        ours.then(|| self.config.gateways.get(path.strip_prefix('/')?))
    }

    /// The routes that payments can be taken on.
    pub fn payments(&self) -> impl Iterator<Item = Arc<engine::Route>> {
        self.routes.iter().filter_map(|route| route.payments.clone())
    }
}

impl RouteState {
    /// Whether late requests of this method may be sent twice.
    pub fn hedges(&self, method: &http::Method) -> bool {
        self.config.hedge.quantile.is_some() && method == http::Method::GET
    }

    /// Tells of a change of the breaker towards its first gateway.
    pub fn transition(&self, transition: &Transition) {
        Self::tell(&self.at_gateway, transition);
    }

    /// Tells of a change of the breaker towards one of its gateways.
    pub fn transition_at(&self, gateway: &str, transition: &Transition) {
        Self::tell(&self.metrics.gateway(gateway), transition);
    }

    fn tell(at: &GatewayMetrics, transition: &Transition) {
        BreakerChanged {
            at,
            from: transition.from.name(),
            to: transition.to.name(),
            reason: transition.reason.name(),
            level: transition.to.gauge(),
            open_for: transition.open_for,
            note: transition.note.as_deref(),
        }
        .emit();
    }
}
