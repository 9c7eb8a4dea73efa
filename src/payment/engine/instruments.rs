//! What is charged at another gateway than the application's own.
//!
//! Sources, in order: the merchant's instrument map in the ledger, `Sentinel-Instrument` headers of the request, metadata
//! named `sentinel_<gateway>`, then what is portable as it is: a network token, and a card number where the route allows
//! it. A token is bound to an account; a map that speaks of another account has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;

use super::{At, Engine, Route};
use crate::gateway::canonical::{Instrument, Pay, Refusal};
use crate::ledger::instruments as map;

/// Metadata keys that begin so name an instrument at the gateway whose name follows. They are for Sentinel alone.
pub(super) const METADATA: &str = "sentinel_";

/// Where a payment's instruments may come from.
pub(super) struct Sources<'a> {
    engine: &'a Engine,
    route: &'a Route,
    pay: &'a Pay,
    named: BTreeMap<String, String>,
    mapped: tokio::sync::OnceCell<Option<map::Instrument>>,
}

impl<'a> Sources<'a> {
    pub fn new(engine: &'a Arc<Engine>, route: &'a Arc<Route>, pay: &'a Pay, alternates: &[HeaderValue]) -> Self {
        let mut named = BTreeMap::new();
        for (key, value) in &pay.metadata {
            if let Some(gateway) = key.strip_prefix(METADATA) {
                named.insert(gateway.to_owned(), value.clone());
            }
        }
        for value in alternates {
            named.extend(header(value));
        }
        Self {
            engine,
            route,
            pay,
            named,
            mapped: tokio::sync::OnceCell::new(),
        }
    }

    /// The instrument at this gateway; `Ok(None)` where the payment has none at all.
    pub async fn at(&self, at: &At) -> Result<Option<Instrument>, Refusal> {
        let Some(instrument) = &self.pay.instrument else {
            return Ok(None);
        };
        if let Instrument::Token(token) = instrument
            && let Some(target) = self
                .mapped(token)
                .await
                .as_ref()
                .and_then(|mapped| mapped.at(&at.config.name, at.vault()))
        {
            return Ok(Some(Instrument::Token(joined(target))));
        }
        if let Some(token) = self.named.get(&at.config.name) {
            return Ok(Some(Instrument::Token(token.clone())));
        }
        match instrument {
            Instrument::Token(_) | Instrument::Bound(_) => Err(Refusal::NoPortableInstrument),
            Instrument::NetworkToken(token) => Ok(Some(Instrument::NetworkToken(token.clone()))),
            Instrument::Card(card) if self.route.failover().raw_cards => Ok(Some(Instrument::Card(card.clone()))),
            Instrument::Card(_) => Err(Refusal::CardDataNotAllowed),
        }
    }

    async fn mapped(&self, token: &str) -> &Option<map::Instrument> {
        let own = self.route.gateways().first().map_or("", |own| own.config.name.as_str());
        self.mapped
            .get_or_init(|| async {
                match map::get(&*self.engine.ledger, self.route.tenant(), own, token).await {
                    Ok(found) => found,
                    Err(error) => {
                        // Without the map the payment is only less portable.
                        tracing::warn!(%error, "the instrument map could not be read");
                        None
                    }
                }
            })
            .await
    }
}

/// The token as adapters take it: with its customer before it where the vault wants one.
fn joined(target: &map::Target) -> String {
    match &target.customer {
        Some(customer) => format!("{customer}/{}", target.token),
        None => target.token.clone(),
    }
}

/// `adyen=shopper-1/8415698462516992; paypal=9xy12345`: gateways by configured name, tokens as adapters take them.
fn header(value: &HeaderValue) -> Vec<(String, String)> {
    let text = value.to_str().unwrap_or_default();
    text.split([';', ','])
        .filter_map(|pair| {
            let (gateway, token) = pair.split_once('=')?;
            let (gateway, token) = (gateway.trim(), token.trim());
            (!gateway.is_empty() && !token.is_empty()).then(|| (gateway.to_owned(), token.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_tokens_by_gateway() {
        let value = HeaderValue::from_static("adyen=shopper-1/8415; paypal = 9xy ;broken;=x;y=");
        assert_eq!(
            header(&value),
            [
                ("adyen".to_owned(), "shopper-1/8415".to_owned()),
                ("paypal".to_owned(), "9xy".to_owned())
            ]
        );
    }
}
