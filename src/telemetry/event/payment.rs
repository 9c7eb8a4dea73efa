//! What happens to payments: answered, taken elsewhere, in doubt, resolved, owed, and the ledger's trouble.

use std::time::Duration;

use super::{KeyHash, ms};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::route::RouteMetrics;
use crate::telemetry::tap::Passed;

/// A payment was answered.
#[derive(Debug)]
pub struct PaymentAnswered<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// Sentinel's id of it.
    pub payment: &'a str,
    /// The gateway that decided.
    pub gateway: &'a str,
    /// What the application was told.
    pub outcome: &'static str,
    /// The whole of it.
    pub took: Duration,
    /// Its idempotency key.
    pub key: Option<KeyHash>,
}

impl PaymentAnswered<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.route.payment(self.gateway, self.outcome);
        tracing::info!(
            route = self.route.name(),
            payment = self.payment,
            gateway = self.gateway,
            outcome = self.outcome,
            took_ms = ms(self.took),
            key = self.key.map(tracing::field::display),
            "payment answered"
        );
        self.route.tap.show(|| Passed {
            route: self.route.name().to_owned(),
            gateway: self.gateway.to_owned(),
            outcome: self.outcome,
            took_ms: Some(ms(self.took)),
            payment: self.payment.to_owned(),
            ..Passed::now("payment")
        });
    }
}

/// A payment is taken at another gateway.
#[derive(Debug)]
pub struct FailedOver<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// Sentinel's id of it.
    pub payment: &'a str,
    /// The gateway that failed.
    pub from: &'a str,
    /// The gateway that takes it.
    pub to: &'a str,
    /// What the first one's attempt proved.
    pub reason: &'static str,
}

impl FailedOver<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.route.failover(self.from, self.to, self.reason);
        tracing::warn!(
            route = self.route.name(),
            payment = self.payment,
            from = self.from,
            to = self.to,
            reason = self.reason,
            "payment taken at another gateway"
        );
        self.route.tap.show(|| Passed {
            route: self.route.name().to_owned(),
            gateway: self.to.to_owned(),
            outcome: self.reason,
            payment: self.payment.to_owned(),
            note: format!("from {}", self.from),
            ..Passed::now("failover")
        });
    }
}

/// A payment that another gateway took was answered: the sale is saved.
#[derive(Debug)]
pub struct Recovered<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// Sentinel's id of it.
    pub payment: &'a str,
    /// The gateway that took it.
    pub gateway: &'a str,
    /// From the first gateway's failure to the answer: what `Sentinel-Recovery-Time` says.
    pub took: Duration,
}

impl Recovered<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.route.recovered(self.gateway, self.took);
        tracing::info!(
            route = self.route.name(),
            payment = self.payment,
            gateway = self.gateway,
            took_ms = ms(self.took),
            "payment recovered"
        );
    }
}

/// A payment is not taken elsewhere although its first gateway failed.
#[derive(Debug)]
pub struct FailoverRefused<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// Sentinel's id of it.
    pub payment: &'a str,
    /// Why.
    pub reason: &'static str,
}

impl FailoverRefused<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.route.failover_refused(self.reason);
        tracing::warn!(
            route = self.route.name(),
            payment = self.payment,
            reason = self.reason,
            "payment not taken elsewhere"
        );
        self.route.tap.show(|| Passed {
            route: self.route.name().to_owned(),
            outcome: self.reason,
            payment: self.payment.to_owned(),
            ..Passed::now("failover_refused")
        });
    }
}

/// A gateway is no good for a payment: it is left out of its plan, or put last.
#[derive(Debug)]
pub struct PlanRefused<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// The gateway.
    pub gateway: &'a str,
    /// Why, of a closed set.
    pub reason: &'static str,
}

impl PlanRefused<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.route.plan_refused(self.gateway, self.reason);
        tracing::debug!(
            route = self.route.name(),
            gateway = self.gateway,
            reason = self.reason,
            "left out of the plan, or put last"
        );
    }
}

/// A payment came into doubt: it may or may not have been executed.
#[derive(Debug)]
pub struct InDoubt<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// Sentinel's id of it.
    pub payment: &'a str,
    /// The gateway that left it so.
    pub gateway: &'a str,
    /// What is known, for people.
    pub evidence: &'a str,
}

impl InDoubt<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.route.in_doubt(self.gateway);
        tracing::warn!(
            route = self.route.name(),
            payment = self.payment,
            gateway = self.gateway,
            evidence = self.evidence,
            "payment in doubt"
        );
        self.route.tap.show(|| Passed {
            route: self.route.name().to_owned(),
            gateway: self.gateway.to_owned(),
            payment: self.payment.to_owned(),
            note: self.evidence.to_owned(),
            ..Passed::now("in_doubt")
        });
    }
}

/// A payment in doubt was resolved by evidence.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// Its route.
    pub route: &'a str,
    /// Sentinel's id of it.
    pub payment: &'a str,
    /// The gateway whose evidence it was.
    pub gateway: &'a str,
    /// What was proven.
    pub outcome: &'static str,
}

impl Resolved<'_> {
    /// Logs.
    pub fn emit(self) {
        tracing::info!(
            route = self.route,
            payment = self.payment,
            gateway = self.gateway,
            outcome = self.outcome,
            "payment resolved"
        );
    }
}

/// A finished payment was answered from the ledger.
#[derive(Debug)]
pub struct Replayed<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// Sentinel's id of it.
    pub payment: &'a str,
    /// Its idempotency key.
    pub key: Option<KeyHash>,
}

impl Replayed<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.route.replayed();
        tracing::info!(
            route = self.route.name(),
            payment = self.payment,
            key = self.key.map(tracing::field::display),
            "payment replayed"
        );
    }
}

/// A gateway sent a webhook.
#[derive(Debug)]
pub struct WebhookReceived<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// The gateway's configured name.
    pub gateway: &'a str,
    /// The gateway's name for what happened; empty before it is believed.
    pub event: &'a str,
    /// The payment that it is about; empty when none is known.
    pub payment: &'a str,
    /// What became of it, of a closed set.
    pub result: &'static str,
}

impl WebhookReceived<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.metrics.webhooks.with(&[self.gateway, self.result]).inc();
        match self.result {
            "matched" | "silent" | "unmatched" => tracing::info!(
                gateway = self.gateway,
                event = self.event,
                payment = self.payment,
                result = self.result,
                "webhook"
            ),
            refused => tracing::warn!(
                gateway = self.gateway,
                event = self.event,
                result = refused,
                "webhook refused"
            ),
        }
    }
}

/// A webhook went to an application, or was to go.
#[derive(Debug)]
pub struct NotificationSent<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// The route whose application it is.
    pub route: &'a str,
    /// The payment; empty when none is known.
    pub payment: &'a str,
    /// What it tells.
    pub news: &'a str,
    /// What became of it, of a closed set.
    pub result: &'static str,
    /// Why it failed, for people.
    pub detail: &'a str,
}

impl NotificationSent<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.metrics.notifications.with(&[self.route, self.result]).inc();
        let (route, payment, news, result, detail) = (self.route, self.payment, self.news, self.result, self.detail);
        match result {
            "delivered" | "passed_on" | "held_back" => {
                tracing::info!(route, payment, news, result, "notification");
            }
            "dead" => tracing::error!(route, payment, news, detail, "a notification was given up"),
            failed => tracing::warn!(route, payment, news, result = failed, detail, "notification not taken"),
        }
    }
}

/// An obligation was made (`result` is `opened`) or ended.
#[derive(Debug)]
pub struct ObligationChanged<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// Sentinel's id of the payment.
    pub payment: &'a str,
    /// Where it is owed.
    pub gateway: &'a str,
    /// `void` or `refund`.
    pub leg: &'static str,
    /// `opened`, `proven` or `manual`.
    pub result: &'static str,
}

impl ObligationChanged<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        if self.result != "opened" {
            self.metrics
                .obligations
                .with(&[self.gateway, self.leg, self.result])
                .inc();
        }
        tracing::info!(
            payment = self.payment,
            gateway = self.gateway,
            leg = self.leg,
            result = self.result,
            "obligation"
        );
    }
}

/// The ledger acknowledged a durable write.
#[derive(Debug)]
pub struct LedgerCommitted<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// From handing it over to the acknowledgement.
    pub took: Duration,
}

impl LedgerCommitted<'_> {
    /// Measures. A line for each would tell nobody anything.
    pub fn emit(self) {
        self.metrics.ledger_commit.observe(self.took.as_secs_f64());
    }
}

/// What nobody came back for, and what is past its retention, was removed from the ledger.
#[derive(Debug)]
pub struct LedgerSwept<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// How many objects and payments.
    pub removed: usize,
}

impl LedgerSwept<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.metrics
            .ledger_swept
            .inc_by(u64::try_from(self.removed).unwrap_or(u64::MAX));
        tracing::info!(removed = self.removed, "ledger swept");
    }
}

/// The ledger cannot do its work.
#[derive(Debug)]
pub struct LedgerTrouble<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// What kind, of a closed set.
    pub kind: &'static str,
    /// What happened, for people.
    pub detail: &'a str,
}

impl LedgerTrouble<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.metrics.ledger_errors.with(&[self.kind]).inc();
        tracing::error!(kind = self.kind, detail = self.detail, "ledger trouble");
    }
}
