//! What one route owns of this room, built from its configuration and carried over a reload.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Breaker, Budget, Hedge, Limit};
use crate::config::model;

/// A route's breakers (one a gateway), budget, hedging and limit. Shared by all workers.
#[derive(Debug)]
pub struct Protection {
    breakers: BTreeMap<String, Arc<Breaker>>,
    /// The retry budget; hedges draw on it too.
    pub budget: Arc<Budget>,
    /// Hedged reads.
    pub hedge: Arc<Hedge>,
    /// Requests in flight.
    pub limit: Arc<Limit>,
}

impl Protection {
    /// Everything closed, full and empty.
    pub fn new(route: &model::Route, now: Instant) -> Self {
        let breakers = route
            .gateways
            .iter()
            .map(|g| (g.clone(), Breaker::new(route.breaker.clone(), now)));
        Self {
            breakers: breakers.collect(),
            budget: Arc::new(Budget::new(route.retry.budget, route.retry.min_per_second, now)),
            hedge: Arc::new(Hedge::new(route.hedge.clone(), now)),
            limit: Limit::new(&route.limits, now),
        }
    }

    /// The protection of the same route under a new configuration: state is kept, settings are taken over, also by
    /// requests in flight under the old one. A gateway that left loses its breaker, a new one gets a closed one.
    ///
    /// `moved` says of a gateway that its address changed: what was learnt about the old one is then forgotten.
    #[must_use]
    pub fn carried_over(&self, route: &model::Route, moved: impl Fn(&str) -> bool, now: Instant) -> Self {
        let breakers = route.gateways.iter().map(|gateway| {
            let breaker = match self.breakers.get(gateway) {
                Some(kept) if !moved(gateway) => {
                    kept.update(route.breaker.clone(), now);
                    Arc::clone(kept)
                }
                _ => Breaker::new(route.breaker.clone(), now),
            };
            (gateway.clone(), breaker)
        });
        let breakers = breakers.collect();
        self.budget.update(route.retry.budget, route.retry.min_per_second, now);
        self.hedge.update(route.hedge.clone(), now);
        self.limit.update(&route.limits, now);
        Self {
            breakers,
            budget: Arc::clone(&self.budget),
            hedge: Arc::clone(&self.hedge),
            limit: Arc::clone(&self.limit),
        }
    }

    /// The breaker towards a gateway of this route.
    pub fn breaker(&self, gateway: &str) -> Option<&Arc<Breaker>> {
        self.breakers.get(gateway)
    }

    /// All breakers by gateway.
    pub fn breakers(&self) -> impl Iterator<Item = (&str, &Arc<Breaker>)> {
        self.breakers
            .iter()
            .map(|(gateway, breaker)| (gateway.as_str(), breaker))
    }
}
