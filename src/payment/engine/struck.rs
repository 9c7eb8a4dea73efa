//! A payment's attempt as an operator wants it to go wrong: the same faults that strike forwarded requests.
//!
//! They strike every attempt at a gateway: the charge, but also its fence, its look-up and the probe of a breaker, as an
//! outage would. What a fault makes up is never evidence: a dropped or falsified answer to a request that went out whole
//! leaves its outcome unknown, whatever the gateway really said, and only what was provably not sent is said to be.

use std::time::Duration;

use tokio::time::Instant;

use super::wire::Exchanged;
use super::{At, Desk};
use crate::gateway::Outgoing;
use crate::resilience::fault::Effect;
use crate::resilience::jitter;
use crate::telemetry::event::FaultStruck;
use crate::upstream::{Evidence, Failure, Progress, Side};

impl Desk {
    /// Sends one request once, as [`super::Wire::exchange`] does, unless a fault strikes it.
    pub(super) async fn exchange(
        &self,
        at: &At,
        outgoing: Outgoing,
        timeout: Duration,
        fresh: bool,
        gate: impl AsyncFnOnce() -> bool,
    ) -> Exchanged {
        if !at.faults.any() {
            return self.wire.exchange(&at.config, outgoing, timeout, fresh, gate).await;
        }
        let strike = at
            .faults
            .strike(at.route.name(), &at.config.name, Instant::now(), jitter);
        let mut left = timeout;
        if let Some(delay) = strike.delay {
            at.tell("delay");
            tokio::time::sleep(delay.min(timeout)).await;
            left = timeout.saturating_sub(delay);
            if left.is_zero() {
                return unsent(Failure::Deadline, "delay", timeout);
            }
        }
        match strike.effect {
            Some(effect @ Effect::Refuse) => {
                at.tell(effect.name());
                unsent(Failure::Connect, effect.name(), timeout - left)
            }
            Some(effect @ Effect::AbortBefore) => {
                at.tell(effect.name());
                unsent(Failure::Connection, effect.name(), timeout - left)
            }
            Some(effect @ (Effect::AbortAfter | Effect::Status(_))) => {
                at.tell(effect.name());
                let exchanged = self.wire.exchange(&at.config, outgoing, left, fresh, gate).await;
                lost(exchanged, effect)
            }
            Some(Effect::Delay(_)) | None => self.wire.exchange(&at.config, outgoing, left, fresh, gate).await,
        }
    }
}

impl At {
    fn tell(&self, effect: &'static str) {
        FaultStruck {
            route: &self.route,
            gateway: &self.config.name,
            effect,
        }
        .emit();
    }
}

fn unsent(failure: Failure, effect: &str, took: Duration) -> Exchanged {
    Exchanged {
        evidence: Evidence {
            took,
            ..Evidence::nothing_sent(format!("fault injected: {effect}"))
        },
        answer: None,
        failure: Some(failure),
        side: Side::Upstream,
    }
}

/// Takes the answer away. A status that was made up proves nothing either, so it comes without an answer: a body beside
/// it could be taken for a refusal of what the gateway has in truth carried out.
fn lost(exchanged: Exchanged, effect: Effect) -> Exchanged {
    if exchanged.evidence.progress != Progress::Committed {
        return exchanged;
    }
    let evidence = Evidence {
        status: match effect {
            Effect::Status(status) => Some(status),
            _ => None,
        },
        note: format!("fault injected: {}", effect.name()),
        ..exchanged.evidence
    };
    Exchanged {
        evidence,
        answer: None,
        failure: Some(Failure::Connection),
        side: Side::Upstream,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::gateway::Incoming;
    use crate::gateway::outcome::Outcome;
    use crate::payment::core::{Finding, Wire};

    const WIRE: Wire = Wire {
        atomic_body: true,
        trust_h2_refusal: false,
    };

    fn exchanged(progress: Progress) -> Exchanged {
        Exchanged {
            evidence: Evidence {
                progress,
                status: Some(200),
                ..Evidence::nothing_sent(String::new())
            },
            answer: Some(Incoming {
                status: http::StatusCode::OK,
                headers: http::HeaderMap::new(),
                body: Bytes::from_static(b"{}"),
            }),
            failure: None,
            side: Side::Upstream,
        }
    }

    #[test]
    fn what_a_fault_makes_up_proves_nothing() {
        for effect in [Effect::AbortAfter, Effect::Status(402), Effect::Status(503)] {
            let lost = lost(exchanged(Progress::Committed), effect);
            assert!(lost.answer.is_none());
            let finding = Finding::from_exchange(&lost.evidence, None, WIRE);
            assert_eq!(finding.outcome, Outcome::Unknown, "{effect:?}");
        }
        let never = lost(exchanged(Progress::Partial), Effect::AbortAfter);
        let finding = Finding::from_exchange(&never.evidence, None, WIRE);
        assert_eq!(finding.outcome, Outcome::NotSent, "it had failed by itself before");
        let refused = unsent(Failure::Connect, "refuse", Duration::ZERO);
        let finding = Finding::from_exchange(&refused.evidence, None, WIRE);
        assert_eq!(finding.outcome, Outcome::NotSent);
    }
}
