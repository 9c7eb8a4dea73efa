//! What a route can take where, before there is any payment: from what the gateways declare and the configuration says.
//!
//! The plan of one payment is made by writing that very payment on trial, so that its currency, amount and instrument are
//! judged by each adapter. This is what can be said without one: for people who read `sentinel check`, and for programs
//! that read `/routes`. It promises nothing that the trial could not still refuse.

use serde::Serialize;

use super::{Accepted, FenceStrength, Gateway, at, for_dialect};
use crate::config::model::{Config, GatewayConfig, Mode, Route};
use crate::money::Amount;

/// Why a gateway of a route takes none of its payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Never {
    /// The route fails nothing over.
    FailoverOff,
    /// Payments of the application's own gateway are not understood.
    NotUnderstood,
    /// Payments cannot be written for it.
    NotTranslated,
    /// The route wants holds that are captured and released by requests, and it has none.
    CannotBeGated,
}

impl Never {
    /// One clause for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::FailoverOff => "failover is off",
            Self::NotUnderstood => "payments of the first gateway are not understood",
            Self::NotTranslated => "payments cannot be translated to it",
            Self::CannotBeGated => "no hold that can be captured and released, which mode gated wants",
        }
    }
}

/// What one gateway of a route, beside the first, can take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prospect {
    /// Its configured name.
    pub gateway: String,
    /// What is charged there. Empty where nothing is.
    pub charges: Vec<Accepted>,
    /// Why nothing is.
    pub never: Option<Never>,
    /// What it cannot do with a payment that it took, in words.
    pub without: Vec<&'static str>,
    /// The only currencies that its account takes, with the amounts where there are limits; empty where neither the
    /// configuration nor the gateway says so.
    pub takes: Vec<Takes>,
}

/// A currency that an account takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Takes {
    /// Its code.
    pub currency: String,
    /// The smallest amount of the configuration.
    pub min: Option<String>,
    /// The largest.
    pub max: Option<String>,
}

impl Takes {
    fn words(&self) -> String {
        let currency = &self.currency;
        match (&self.min, &self.max) {
            (None, None) => currency.clone(),
            (Some(min), None) => format!("{currency} from {min}"),
            (None, Some(max)) => format!("{currency} up to {max}"),
            (Some(min), Some(max)) => format!("{currency} {min} to {max}"),
        }
    }
}

/// The currencies that both the gateway's account and the configuration take.
fn takes(gateway: &GatewayConfig, dialect: &dyn Gateway) -> Vec<Takes> {
    let own = dialect.currencies(&gateway.credentials, &gateway.settings);
    match (own, &gateway.takes) {
        (own, Some(configured)) => configured
            .iter()
            .filter(|(currency, _)| own.as_ref().is_none_or(|own| own.contains(currency)))
            .map(|(currency, limits)| Takes {
                currency: currency.clone(),
                min: limits.min.map(Amount::decimal),
                max: limits.max.map(Amount::decimal),
            })
            .collect(),
        (own, None) => {
            let plain = |currency| Takes {
                currency,
                min: None,
                max: None,
            };
            own.into_iter().flatten().map(plain).collect()
        }
    }
}

/// The first gateway's fence and the prospects of the others, in the order of the route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prospects {
    /// The first gateway.
    pub first: String,
    /// How surely an attempt there can be made impossible.
    pub fence: FenceStrength,
    /// Whether a strong fence is believed only with a certificate.
    pub certified_only: bool,
    /// The others.
    pub then: Vec<Prospect>,
}

/// Computes them; `None` for a route without gateways.
pub fn of(config: &Config, route: &Route) -> Option<Prospects> {
    let mut gateways = route.gateways.iter().filter_map(|name| config.gateways.get(name));
    let first = gateways.next()?;
    let understood = for_dialect(first.dialect);
    let then = gateways.map(|gateway| prospect(route, gateway, understood.is_some()));
    Some(Prospects {
        first: first.name.clone(),
        fence: understood.map_or(FenceStrength::F0, |dialect| {
            dialect.capabilities_of(&first.settings).fence
        }),
        certified_only: route.failover.require_certificate,
        then: then.collect(),
    })
}

fn prospect(route: &Route, gateway: &GatewayConfig, understood: bool) -> Prospect {
    let failover = &route.failover;
    let nothing = |never| Prospect {
        gateway: gateway.name.clone(),
        charges: Vec::new(),
        never: Some(never),
        without: Vec::new(),
        takes: Vec::new(),
    };
    if failover.mode == Mode::Off {
        return nothing(Never::FailoverOff);
    }
    if !understood {
        return nothing(Never::NotUnderstood);
    }
    let Some(dialect) = at(gateway) else {
        return nothing(Never::NotTranslated);
    };
    let capabilities = dialect.capabilities_of(&gateway.settings);
    if failover.mode == Mode::Gated && !(capabilities.manual_capture && capabilities.void) {
        return nothing(Never::CannotBeGated);
    }
    let accepted = dialect.instruments().iter().copied();
    let charges: Vec<Accepted> = accepted
        .filter(|accepted| *accepted != Accepted::Card || failover.raw_cards)
        .collect();
    let mut without = Vec::new();
    for (able, words) in [
        (capabilities.server_side_card, "no server-side card"),
        (capabilities.manual_capture, "no hold"),
        (capabilities.partial_capture, "whole captures only"),
        (capabilities.void, "no release of a hold"),
        (capabilities.external_three_ds, "no 3-D Secure of elsewhere"),
    ] {
        if !able {
            without.push(words);
        }
    }
    Prospect {
        gateway: gateway.name.clone(),
        charges,
        never: None,
        without,
        takes: takes(gateway, dialect),
    }
}

impl Prospects {
    /// `stripe (fence F3) -> adyen: card by map -> razorpay: never, payments cannot be translated to it`.
    pub fn words(&self) -> String {
        let certified = if self.certified_only && self.fence == FenceStrength::F3 {
            " once certified"
        } else {
            ""
        };
        let mut words = format!("{} (fence {:?}{certified})", self.first, self.fence);
        for prospect in &self.then {
            words.push_str(&format!(" -> {}: ", prospect.gateway));
            let mut parts: Vec<&str> = match prospect.never {
                Some(never) => vec!["never", never.words()],
                None => {
                    let charges = prospect.charges.iter().map(|accepted| accepted.words());
                    charges.chain(prospect.without.iter().copied()).collect()
                }
            };
            let takes: Vec<String> = prospect.takes.iter().map(Takes::words).collect();
            let only = format!("only {}", takes.join(" and "));
            if !takes.is_empty() {
                parts.push(&only);
            }
            words.push_str(&parts.join(", "));
        }
        words
    }
}
