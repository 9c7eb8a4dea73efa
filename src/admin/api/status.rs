//! How this Sentinel is doing, for status pages. It needs no key, so it tells no tenant's business.

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::Reply;
use super::call::{Call, json};
use super::problem::Problem;
use crate::config::model::Dialect;
use crate::resilience::breaker::State;

/// How something is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should.
    Operational,
    /// With trouble: some gateways are down, or being tried again.
    Degraded,
    /// Not at all.
    Outage,
}

/// A gateway's state.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GatewayStatus {
    /// Its configured name.
    name: String,
    /// Its API.
    dialect: String,
    /// How it is doing, by what its breakers saw.
    status: Health,
}

/// How this Sentinel is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    /// The whole.
    status: Health,
    /// The version that runs.
    version: &'static str,
    /// Whether payments can be recorded.
    ledger: Health,
    /// The gateways that are configured.
    gateways: Vec<GatewayStatus>,
    /// The gateways that a profile may name.
    supported: Vec<String>,
}

/// Shows it.
pub async fn status(call: Call) -> Result<Reply, Problem> {
    let runtime = call.api().runtime();
    let mut supported: Vec<String> = Dialect::SIX.iter().map(|dialect| dialect.name().to_owned()).collect();
    supported.extend(
        runtime
            .config
            .gateways
            .keys()
            .filter(|name| !Dialect::SIX.iter().any(|six| six.name() == *name))
            .cloned(),
    );
    let gateways: Vec<GatewayStatus> = runtime
        .config
        .gateways
        .values()
        .map(|gateway| {
            let breakers = runtime
                .routes
                .iter()
                .filter_map(|route| route.protection.breaker(&gateway.name));
            let worst = breakers.map(|breaker| health(breaker.state())).max();
            GatewayStatus {
                name: gateway.name.clone(),
                dialect: gateway.dialect.name().to_owned(),
                status: worst.unwrap_or(Health::Operational),
            }
        })
        .collect();
    let health = call.api().ledger().health();
    let ledger = match (health.fatal, health.full) {
        (true, _) => Health::Outage,
        (_, true) => Health::Degraded,
        _ => Health::Operational,
    };
    let down = gateways
        .iter()
        .filter(|gateway| gateway.status == Health::Outage)
        .count();
    let whole = match () {
        () if ledger == Health::Outage || (down > 0 && down == gateways.len()) => Health::Outage,
        () if ledger == Health::Degraded || gateways.iter().any(|one| one.status != Health::Operational) => {
            Health::Degraded
        }
        () => Health::Operational,
    };
    let status = Status {
        status: whole,
        version: env!("CARGO_PKG_VERSION"),
        ledger,
        gateways,
        supported,
    };
    json(StatusCode::OK, &status)
}

fn health(state: State) -> Health {
    match state {
        State::Closed | State::ForcedClosed => Health::Operational,
        State::HalfOpen => Health::Degraded,
        State::Open | State::ForcedOpen => Health::Outage,
    }
}
