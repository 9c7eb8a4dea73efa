//! The core's news, as log lines and metrics.

use super::super::core::{Notice, Verdict};
use super::actor::Actor;
use super::answer::word;
use crate::gateway::outcome::Outcome;
use crate::telemetry::event::{FailedOver, InDoubt, ObligationChanged, Resolved};

impl Actor {
    fn name_of(&self, gateway: u8) -> &str {
        self.state
            .plan
            .gateway(gateway)
            .map_or("", |planned| planned.name.as_str())
    }

    fn gateway_of(&self, n: u16) -> &str {
        self.state
            .attempt(n)
            .map_or("", |attempt| self.name_of(attempt.gateway))
    }

    /// Void or refund, as the target's effect wants it.
    fn owed(&self, target: u16) -> &'static str {
        let taken = self.state.attempt(target).is_some_and(|attempt| {
            attempt.known.outcome() == Outcome::Succeeded || attempt.leg == crate::gateway::Leg::Charge
        });
        if taken { "refund" } else { "void" }
    }

    /// Logs and counts.
    pub(super) fn notify(&self, notice: &Notice) {
        let payment = self.payment.to_string();
        let latest = self.state.pays().next_back();
        match notice {
            Notice::InDoubt => InDoubt {
                route: self.route.metrics(),
                payment: &payment,
                gateway: latest.map_or("", |(n, _)| self.gateway_of(n)),
                evidence: self.state.phase.name(),
            }
            .emit(),
            Notice::Settled(verdict) => {
                let n = match verdict {
                    Verdict::Succeeded { n } | Verdict::Authorised { n } | Verdict::ActionRequired { n } => Some(*n),
                    Verdict::Failed { n, .. } => *n,
                    Verdict::InDoubt { .. } => None,
                };
                let outcome = n
                    .and_then(|n| self.state.attempt(n))
                    .map(|attempt| attempt.known.outcome());
                Resolved {
                    route: self.route.name(),
                    payment: &payment,
                    gateway: n.map_or("", |n| self.gateway_of(n)),
                    outcome: outcome.map_or("not_sent", word),
                }
                .emit();
            }
            Notice::FailedOver { from, to } => {
                let proven = self.state.pays().rev().find(|(_, attempt)| attempt.gateway == *from);
                FailedOver {
                    route: self.route.metrics(),
                    payment: &payment,
                    from: self.name_of(*from),
                    to: self.name_of(*to),
                    reason: proven.map_or("unknown", |(_, attempt)| match attempt.known.fenced() {
                        true => "fenced",
                        false => word(attempt.known.outcome()),
                    }),
                }
                .emit();
            }
            Notice::ObligationOpened { target } => self.obligation(*target, "opened"),
            Notice::ObligationClosed { target } => self.obligation(*target, "proven"),
            Notice::Misconfigured { n } => tracing::error!(
                payment,
                gateway = self.gateway_of(*n),
                "a gateway refused Sentinel's account or its translation: look at the credentials and settings"
            ),
            Notice::Manual(hold) => tracing::error!(payment, ?hold, "a payment waits for a person"),
        }
    }

    fn obligation(&self, target: u16, result: &'static str) {
        ObligationChanged {
            metrics: self.desk.engine().metrics(),
            payment: &self.payment.to_string(),
            gateway: self.gateway_of(target),
            leg: self.owed(target),
            result,
        }
        .emit();
    }
}
