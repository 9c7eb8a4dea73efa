//! One route's metrics, resolved once: what a request touches.
//!
//! Usual series are kept in tables and found by index; unusual ones (Sentinel's own refusals) are looked up by label.
//! Once the route is gone nothing here makes a series again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::labels::{CODE_LABELS, Kind, Method, code_index, code_name};
use super::metrics::Metrics;
use super::spans::Spans;
use super::tap::Tap;
use super::trace::TraceContext;

/// The outcome of a request that a gateway answered.
const FORWARDED: &str = "forwarded";

/// The result of an attempt that a gateway answered.
const ANSWERED: &str = "answered";

/// One route's handles.
#[derive(Debug)]
pub struct RouteMetrics {
    route: String,
    /// Weak, because the registry keeps these handles.
    all: Weak<Metrics>,
    retired: AtomicBool,
    pub(super) tap: Arc<Tap>,
    pub(super) spans: Option<Spans>,
    /// Answers of gateways, by method and status.
    forwarded: Box<[OnceLock<IntCounter>]>,
    duration: Histogram,
    /// Sentinel's own part of a request.
    pub overhead: Histogram,
    /// Requests in flight.
    pub inflight: IntGauge,
    /// Requests waiting for a place.
    pub waiting: IntGauge,
    /// Retries that the budget would allow: set when scraped.
    pub retry_budget: IntGauge,
    gateways: Mutex<BTreeMap<String, Arc<GatewayMetrics>>>,
}

impl RouteMetrics {
    pub(super) fn new(all: &Arc<Metrics>, route: &str) -> Self {
        Self {
            route: route.to_owned(),
            all: Arc::downgrade(all),
            retired: AtomicBool::new(false),
            tap: Arc::clone(&all.tap),
            spans: all.spans.clone(),
            forwarded: (0..Method::ALL.len() * CODE_LABELS).map(|_| OnceLock::new()).collect(),
            duration: all.durations.with(&[route, FORWARDED]),
            overhead: all.overhead.with(&[route]),
            inflight: all.inflight.with(&[route]),
            waiting: all.waiting.with(&[route]),
            retry_budget: all.retry_budget.with(&[route]),
            gateways: Mutex::default(),
        }
    }

    /// The route's name.
    pub fn name(&self) -> &str {
        &self.route
    }

    /// Whether somebody watches requests pass, and wants to see their paths.
    pub fn looked_at(&self) -> bool {
        self.tap.looked_at()
    }

    /// The trace of a request, with the decision whether it is kept.
    pub fn trace(&self, context: TraceContext) -> TraceContext {
        match &self.spans {
            Some(spans) => spans.decide(context),
            None => context,
        }
    }

    /// Whether spans of this trace are exported, so that a gateway may be told of one.
    pub fn exports(&self, context: &TraceContext) -> bool {
        self.spans.is_some() && context.sampled()
    }

    /// The registry, while the route lives.
    fn live(&self) -> Option<Arc<Metrics>> {
        if self.retired.load(Ordering::Relaxed) {
            None
        } else {
            self.all.upgrade()
        }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn forget_gateway(&self, gateway: &str) {
        self.gateways
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(gateway);
    }

    /// A request was answered: `outcome` is `forwarded`, or the reason why Sentinel answered itself.
    pub fn answered(&self, method: &str, status: u16, outcome: &'static str) {
        let (method, code) = (Method::of(method), code_index(status));
        let series = |all: &Metrics| {
            all.requests
                .with(&[&self.route, method.name(), code_name(code), outcome])
        };
        if outcome == FORWARDED {
            let cell = &self.forwarded[method as usize * CODE_LABELS + code];
            match cell.get() {
                Some(counter) => counter.inc(),
                None => {
                    if let Some(all) = self.live() {
                        cell.get_or_init(|| series(&all)).inc();
                    }
                }
            }
        } else if let Some(all) = self.live() {
            series(&all).inc();
        }
    }

    /// A request's answer ended.
    pub fn finished(&self, outcome: &'static str, took: Duration) {
        if outcome == FORWARDED {
            self.duration.observe(took.as_secs_f64());
        } else if let Some(all) = self.live() {
            all.durations.with(&[&self.route, outcome]).observe(took.as_secs_f64());
        }
    }

    /// A failed attempt was not repeated.
    pub fn retry_skipped(&self, reason: &'static str) {
        if let Some(all) = self.live() {
            all.retries_skipped.with(&[&self.route, reason]).inc();
        }
    }

    /// A read was late: what became of the second request, or why there was none.
    pub fn hedge(&self, result: &'static str) {
        if let Some(all) = self.live() {
            all.hedges.with(&[&self.route, result]).inc();
        }
    }

    /// An operator's fault struck an attempt.
    pub fn fault(&self, gateway: &str, effect: &'static str) {
        if let Some(all) = self.live() {
            all.faults.with(&[&self.route, gateway, effect]).inc();
        }
    }

    /// How many faults are set, as an operator sees them.
    pub fn set_faults(&self, count: i64) {
        if let Some(all) = self.live() {
            all.faults_active.with(&[&self.route]).set(count);
        }
    }

    /// A request was turned away.
    pub fn shed(&self, reason: &'static str) {
        if let Some(all) = self.live() {
            all.shed.with(&[&self.route, reason]).inc();
        }
    }

    /// A payment was answered: by which gateway, and what the application was told.
    pub fn payment(&self, gateway: &str, outcome: &'static str) {
        if let Some(all) = self.live() {
            all.payments.with(&[&self.route, gateway, outcome]).inc();
        }
    }

    /// A payment was taken elsewhere.
    pub fn failover(&self, from: &str, to: &str, reason: &'static str) {
        if let Some(all) = self.live() {
            all.failovers.with(&[&self.route, from, to, reason]).inc();
        }
    }

    /// A payment that this gateway took after another had failed was answered.
    pub fn recovered(&self, gateway: &str, took: Duration) {
        if let Some(all) = self.live() {
            all.recovery.with(&[&self.route, gateway]).observe(took.as_secs_f64());
        }
    }

    /// A payment was not taken elsewhere although its first gateway failed.
    pub fn failover_refused(&self, reason: &'static str) {
        if let Some(all) = self.live() {
            all.failovers_refused.with(&[&self.route, reason]).inc();
        }
    }

    /// A gateway was left out of a payment's plan, or put last.
    pub fn plan_refused(&self, gateway: &str, reason: &'static str) {
        if let Some(all) = self.live() {
            all.plan_refusals.with(&[&self.route, gateway, reason]).inc();
        }
    }

    /// How often each gateway of the route was, by reason.
    pub fn plan_refusals(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut refusals: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        if let Some(all) = self.live() {
            all.plan_refusals.each(|label, count| {
                if label("route").as_deref() == Some(self.name())
                    && let (Some(gateway), Some(reason)) = (label("gateway"), label("reason"))
                {
                    refusals.entry(gateway).or_default().insert(reason, count);
                }
            });
        }
        refusals
    }

    /// A payment came into doubt at this gateway.
    pub fn in_doubt(&self, gateway: &str) {
        if let Some(all) = self.live() {
            all.in_doubt_total.with(&[&self.route, gateway]).inc();
        }
    }

    /// How many payments of this route are in doubt, as the ledger counts them.
    pub fn set_in_doubt(&self, count: i64) {
        if let Some(all) = self.live() {
            all.in_doubt.with(&[&self.route]).set(count);
        }
    }

    /// How many voids and refunds of this route are owed, as the ledger counts them: right from the start of a process, too.
    pub fn set_owed(&self, count: i64) {
        if let Some(all) = self.live() {
            all.obligations_open.with(&[&self.route]).set(count);
        }
    }

    /// A finished payment was answered from the ledger.
    pub fn replayed(&self) {
        if let Some(all) = self.live() {
            all.replays.with(&[&self.route]).inc();
        }
    }

    /// The handles of this route at one gateway. Resolve once, where routes are built.
    pub fn gateway(&self, gateway: &str) -> Arc<GatewayMetrics> {
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = gateways.get(gateway) {
            return Arc::clone(known);
        }
        let made = Arc::new(GatewayMetrics::new(self.live().as_ref(), &self.route, gateway));
        if self.live().is_some() {
            gateways.insert(gateway.to_owned(), Arc::clone(&made));
        }
        made
    }
}

/// One route's handles at one gateway.
#[derive(Debug)]
pub struct GatewayMetrics {
    route: String,
    gateway: String,
    all: Weak<Metrics>,
    pub(super) tap: Option<Arc<Tap>>,
    pub(super) spans: Option<Spans>,
    /// Answered attempts, by kind.
    answered: [OnceLock<IntCounter>; Kind::ALL.len()],
    duration: Option<Histogram>,
    state: Option<IntGauge>,
}

impl GatewayMetrics {
    fn new(all: Option<&Arc<Metrics>>, route: &str, gateway: &str) -> Self {
        Self {
            route: route.to_owned(),
            gateway: gateway.to_owned(),
            all: all.map(Arc::downgrade).unwrap_or_default(),
            tap: all.map(|all| Arc::clone(&all.tap)),
            spans: all.and_then(|all| all.spans.clone()),
            answered: Default::default(),
            duration: all.map(|all| all.attempt_durations.with(&[route, gateway])),
            state: all.map(|all| all.breaker_state.with(&[route, gateway])),
        }
    }

    /// The route's name.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The gateway's name.
    pub fn name(&self) -> &str {
        &self.gateway
    }

    /// The registry, while neither route nor gateway was taken away.
    fn live(&self) -> Option<Arc<Metrics>> {
        let all = self.all.upgrade()?;
        all.has_route(&self.route).then_some(all)
    }

    /// An attempt ended: `answered`, or the phase it failed in.
    pub fn attempt(&self, kind: Kind, result: &'static str, took: Duration) {
        if let Some(duration) = &self.duration {
            duration.observe(took.as_secs_f64());
        }
        let series = |all: &Metrics| all.attempts.with(&[&self.route, &self.gateway, kind.name(), result]);
        if result == ANSWERED {
            let cell = &self.answered[kind as usize];
            match cell.get() {
                Some(counter) => counter.inc(),
                None => {
                    if let Some(all) = self.live() {
                        cell.get_or_init(|| series(&all)).inc();
                    }
                }
            }
        } else if let Some(all) = self.live() {
            series(&all).inc();
        }
    }

    /// The breaker did not let an attempt through.
    pub fn rejected(&self) {
        if let Some(all) = self.live() {
            all.breaker_rejected.with(&[&self.route, &self.gateway]).inc();
        }
    }

    /// The breaker's state: 0 closed, 1 half-open, 2 open.
    pub fn set_state(&self, level: i64) {
        if let Some(state) = &self.state {
            state.set(level);
        }
    }

    /// The breaker changed its state.
    pub fn transition(&self, from: &'static str, to: &'static str, reason: &'static str, level: i64) {
        self.set_state(level);
        if let Some(all) = self.live() {
            all.breaker_transitions
                .with(&[&self.route, &self.gateway, from, to, reason])
                .inc();
        }
    }
}
