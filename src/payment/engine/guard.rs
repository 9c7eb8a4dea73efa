//! Orders that a gateway takes one payment for (Razorpay's), held as a guard across gateways.
//!
//! Such a gateway's applications have no idempotency keys: they may ask for an order again and again, with another card
//! each time, because the gateway pays it once. That is no guard any more once the payment went to another gateway, which
//! knows nothing of the order. So an order whose payment is elsewhere, or may get there, is not asked for again, not even
//! by a request that could only be forwarded. While its payment is the gateway's own, other requests are the gateway's to
//! judge.

use std::sync::Arc;

use super::super::core::{Phase, State};
use super::opening::over;
use super::source::KeySource;
use super::{Desk, Route};
use crate::gateway::canonical::Order;
use crate::ledger::LedgerError;

/// What is known of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is under way for it.
    Free,
    /// Its payment is the gateway's own, by the request of this fingerprint.
    Own([u8; 32]),
    /// Its payment is elsewhere, or may get there.
    Away([u8; 32]),
}

impl Desk {
    /// What is known of the order that a request pays, and the order itself where it was opened here.
    pub(super) async fn of_order(
        &self,
        route: &Arc<Route>,
        order: Option<&str>,
    ) -> Result<(Standing, Option<Order>), LedgerError> {
        let Some(order) = order else {
            return Ok((Standing::Free, None));
        };
        let standing = self.standing(route, &KeySource::Order(order.to_owned())).await?;
        Ok((standing, self.opened_here(route, order).await?))
    }

    /// Looks an order up. `Err` when the ledger does not say: then nothing may be sent for it.
    async fn standing(&self, route: &Arc<Route>, source: &KeySource) -> Result<Standing, LedgerError> {
        for generation in 0.. {
            let hash = source.hash(self.engine.ledger.keys(), route, uuid::Uuid::nil(), generation);
            let Some(found) = self.engine.ledger.by_key(hash).await? else {
                break;
            };
            if over(source, &found, route, self.engine.ledger.now()) {
                continue;
            }
            let own = serde_json::from_str::<State>(&found.folded).is_ok_and(|state| {
                let moving = matches!(
                    state.phase,
                    Phase::Trying { .. } | Phase::Fencing { .. } | Phase::Licensed
                );
                let own = |attempt| state.gateway_of(attempt).is_some_and(|planned| planned.native);
                !moving && state.pays().all(|(_, attempt)| own(attempt))
            });
            return Ok(match own {
                true => Standing::Own(found.fingerprint),
                false => Standing::Away(found.fingerprint),
            });
        }
        Ok(Standing::Free)
    }
}
