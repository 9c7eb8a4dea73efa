//! Looking after payments that nobody is at work on: at start, and for as long as the process lives.
//!
//! Every few seconds the ledger's unfinished payments are gone through, those that owe a void or refund first. One that
//! has no actor here is woken: the engine takes its lease where it may, and drives it by reference, without its body. One
//! that waits for its application to ask again ends when that is over; one that is older than its route lets a machine
//! try is left to a person. Nothing is concluded here, and nothing fails by time alone: a payment that ends with its
//! waiting is proven to have no effect anywhere.
//!
//! A payment that stays unfinished although it was woken (its customer has to act, a gateway is away, a person holds it) is
//! woken again after a pause that doubles, so that a thousand of them cost nothing and never starve traffic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::core::{Phase, What};
use super::engine::{Delivered, Engine, Route};
use crate::ledger::rows::Payment;

/// How often the ledger is gone through.
const EVERY: Duration = Duration::from_secs(5);
/// The first pause after a payment was woken, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(900));
/// The pause after the ledger or the workers could not be used.
const TROUBLE: Duration = Duration::from_secs(1);
/// How long an application may ask again for a payment that has no effect anywhere: no official SDK repeats longer, and no
/// gateway keeps a key much longer. In milliseconds.
const ASK_AGAIN: i64 = 24 * 3_600_000;
/// Gateways repeat a lost webhook for a day or more; what is not known then, a machine will not find out. In hours.
const A_DAY: u32 = 24;
/// What a person has of the time for which a gateway still answers to the payment's key, in hours.
const TO_ACT: u32 = 2;
/// Payments read at once.
const PAGE: usize = 200;

/// When a payment is looked at again, and the pause after that.
struct Next {
    due: Instant,
    pause: Duration,
    seen: u64,
}

/// Looks after payments until the process ends.
pub async fn run(engine: Arc<Engine>) {
    let mut known: HashMap<Uuid, Next> = HashMap::new();
    for pass in 1_u64.. {
        let pause = match look(&engine, &mut known, pass).await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::warn!(%error, "unfinished payments could not be gone through; trying again");
                TROUBLE
            }
        };
        known.retain(|_, next| next.seen == pass);
        tokio::time::sleep(pause).await;
    }
}

async fn look(engine: &Engine, known: &mut HashMap<Uuid, Next>, pass: u64) -> Result<(), crate::ledger::LedgerError> {
    let mut in_doubt: HashMap<String, i64> = HashMap::new();
    let mut owed: HashMap<String, i64> = HashMap::new();
    let mut after = None;
    loop {
        let page = engine.ledger().unfinished(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for payment in &page {
            if payment.in_doubt {
                *in_doubt.entry(payment.route.clone()).or_default() += 1;
            }
            if payment.obligations > 0 {
                *owed.entry(payment.route.clone()).or_default() += i64::from(payment.obligations);
            }
            let now = Instant::now();
            let next = known.entry(payment.id).or_insert(Next {
                due: now,
                pause: PAUSE.0,
                seen: pass,
            });
            next.seen = pass;
            if next.due > now || payment.manual || engine.is_at_work(payment.id) {
                continue;
            }
            next.due = match attend(engine, payment).await {
                Delivered::Unavailable | Delivered::Moved => Instant::now() + TROUBLE,
                Delivered::Taken(_) | Delivered::Refused(_) | Delivered::Unknown | Delivered::Elsewhere => {
                    let due = Instant::now() + next.pause;
                    next.pause = (next.pause * 2).min(PAUSE.1);
                    due
                }
            };
        }
    }
    for route in engine.routes() {
        let count = in_doubt.get(route.name()).copied().unwrap_or(0);
        route.metrics().set_in_doubt(count);
        route.metrics().set_owed(owed.get(route.name()).copied().unwrap_or(0));
    }
    Ok(())
}

/// How old a payment may become before it is given to a person. What is owed needs no key of the payment's, and nobody
/// drives it any more once a person has it: the time that keys are kept matters to a doubt alone.
fn patience(route: &Route, payment: &Payment) -> Duration {
    let doubt = payment.in_doubt && payment.obligations == 0;
    let asked = [&payment.first_gateway, &payment.gateway].into_iter().filter(|_| doubt);
    let kept = asked.filter_map(|name| route.at(name));
    let kept = kept.map(|at| at.capabilities().idempotency_hours);
    let set = route.failover().manual_after;
    set.unwrap_or_else(|| usual_patience(kept))
}

/// The same, where the route does not say, by how many hours the gateways that were asked keep a key; 0 for one that has
/// no keys.
fn usual_patience(kept: impl Iterator<Item = u32>) -> Duration {
    let shortest = kept.filter(|hours| *hours > 0).min().unwrap_or(u32::MAX);
    let hours = shortest.saturating_sub(TO_ACT).clamp(1, A_DAY);
    Duration::from_secs(3600) * hours
}

async fn attend(engine: &Engine, payment: &Payment) -> Delivered {
    let age = engine.ledger().now().saturating_sub(payment.created_at);
    if payment.state == Phase::Licensed.name() && age > ASK_AGAIN {
        return engine.deliver(payment.id, What::Expired).await;
    }
    let patience = engine.route(&payment.route).map(|route| patience(&route, payment));
    let patience = patience.and_then(|patience| i64::try_from(patience.as_millis()).ok());
    // A customer who never came back is no mystery for a person to solve.
    let waits = payment.state == "action_required";
    if !waits && patience.is_some_and(|patience| age > patience) {
        return engine.deliver(payment.id, What::Aged).await;
    }
    engine.wake(payment.id).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Gateway, adyen, braintree, paypal, razorpay, stripe};

    #[test]
    fn a_person_is_called_while_the_gateway_still_knows_the_key() {
        let hours = |gateways: &[&dyn Gateway]| {
            let kept = gateways.iter().map(|gateway| gateway.capabilities().idempotency_hours);
            usual_patience(kept).as_secs() / 3600
        };
        assert_eq!(hours(&[&stripe::Stripe]), 22);
        assert_eq!(hours(&[&stripe::Stripe, &paypal::Paypal]), 4);
        assert_eq!(hours(&[&adyen::Adyen, &stripe::Stripe]), 22);
        assert_eq!(hours(&[&adyen::Adyen]), 24);
        // Nothing is lost where there are no keys, and a custom gateway that keeps one for an hour leaves some time, too.
        assert_eq!(hours(&[&razorpay::Razorpay, &braintree::Braintree]), 24);
        assert_eq!(usual_patience([1].into_iter()).as_secs(), 3600);
        assert_eq!(hours(&[]), 24, "no doubt");
    }
}
