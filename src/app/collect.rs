//! Collecting fees: the fee of a closed statement, charged to the tenant's own instrument at the operator's gateway, by
//! the payment engine.
//!
//! To the engine it is a payment as any other, on a route of its own ([`Purpose::Fees`]): written down before it is sent,
//! asked about when its outcome is unknown, never sent twice. What this adds is when to ask, and which try it is
//! ([`crate::analytics::collection`] has the rule).
//!
//! # What it refuses
//!
//! To ask again while the try before may have taken the money; to ask again by itself after a decline, before the tenant
//! stored another instrument or an operator said so.
//!
//! [`Purpose::Fees`]: crate::config::model::Purpose::Fees

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::Instant;

use crate::analytics::billing::{Rate, Statement};
use crate::analytics::collection::{Collection, Due, PaidWith, Standing, paid_with};
use crate::analytics::fold::PaymentOutcome;
use crate::analytics::period::Month;
use crate::analytics::{Analytics, AnalyticsError};
use crate::config::model::{Dialect, FEES, OPERATOR};
use crate::gateway::Head;
use crate::ledger::LedgerError;
use crate::money::{Amount, Currency};
use crate::payment::engine::{self, Asked, Engine, Handled, Route};
use crate::proxy::runtime::Runtime;

/// Where the request for a fee goes, in the dialect that the fees' route speaks.
const PATH: &str = "/v1/payment_intents";

/// Who wants a fee collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The clock.
    Round,
    /// A person, who knows of the decline.
    Operator,
}

/// Collects fees. One for the process.
pub struct Collector {
    runtime: Arc<ArcSwap<Runtime>>,
    engine: Arc<Engine>,
    analytics: Arc<Analytics>,
    /// One fee at a time: there is no hurry, and nobody asks for the same one twice at once.
    at_it: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collector")
    }
}

impl Collector {
    /// A collector of the fees in these figures.
    pub fn new(runtime: Arc<ArcSwap<Runtime>>, engine: Arc<Engine>, analytics: Arc<Analytics>) -> Self {
        Self {
            runtime,
            engine,
            analytics,
            at_it: tokio::sync::Mutex::new(()),
        }
    }

    /// The figures that the fees are in.
    pub fn analytics(&self) -> &Arc<Analytics> {
        &self.analytics
    }

    /// The gateway at which fees are collected; `None` where they are not.
    pub fn gateway(&self) -> Option<String> {
        self.runtime.load().config.accounts.collect.clone()
    }

    /// Asks for every fee that is due, and looks after those that were asked for. Whether the outcome of one is not known
    /// yet.
    ///
    /// # Errors
    /// When file or ledger cannot be used; the next round goes on.
    pub async fn round(&self) -> Result<bool, AnalyticsError> {
        let mut pending = false;
        if self.gateway().is_none() {
            return Ok(pending);
        }
        let rate = Rate(self.runtime.load().config.accounts.fee.millionths);
        for tenant in self.analytics.billed_tenants().await? {
            for statement in self.analytics.statements(&tenant, rate).await? {
                let due = self.collect(&statement, By::Round).await?;
                pending |= matches!(due, Due::Tried(tried) if tried.standing == Standing::Pending);
            }
        }
        Ok(pending)
    }

    /// Collects the fee of one statement, as far as that can be done now.
    ///
    /// # Errors
    /// When file or ledger cannot be used.
    pub async fn collect(&self, statement: &Statement, by: By) -> Result<Due, AnalyticsError> {
        let _alone = self.at_it.lock().await;
        let (Some(gateway), Some(month)) = (self.gateway(), Month::from_number(statement.month)) else {
            return self.analytics.due(statement).await;
        };
        let Some(route) = self.engine.route(FEES) else {
            return self.analytics.due(statement).await;
        };
        if statement.closed_at.is_none() || statement.fee <= 0 {
            return self.analytics.due(statement).await;
        }
        let place = (statement.tenant.as_str(), month, statement.currency.as_str());
        let ledger = self.analytics.ledger();
        let found = self.analytics.collection(place.0, place.1, place.2).await?;
        let (mut attempt, mut version) = (1, 0);
        if let Some((mut tried, at_version)) = found {
            version = self.look(&route, place, &mut tried, at_version).await?;
            attempt = match self.next(&tried, place.0, by).await? {
                Some(next) => next,
                None => return Ok(Due::Tried(tried)),
            };
        }
        let Some(with) = paid_with(&**ledger, place.0).await? else {
            return self.analytics.due(statement).await;
        };
        let mut tried = Collection {
            attempt,
            units: statement.fee,
            gateway,
            at: ledger.now(),
            payment: None,
            standing: Standing::Pending,
        };
        version = self.analytics.record(place, &tried, version).await?;
        if let Some(reason) = self.ask(&route, place, &tried, &with).await {
            tried.standing = Standing::Refused { reason };
            self.analytics.record(place, &tried, version).await?;
        } else {
            self.look(&route, place, &mut tried, version).await?;
        }
        tracing::info!(tenant = place.0, %month, currency = place.2, attempt, state = Due::Tried(tried.clone()).name(), "a fee was asked for");
        Ok(Due::Tried(tried))
    }

    /// The number of the next try; `None` while there is none to be made. A try that no payment came of is made again
    /// under its own number.
    async fn next(&self, tried: &Collection, tenant: &str, by: By) -> Result<Option<u32>, AnalyticsError> {
        let ledger = self.analytics.ledger();
        let newer = || async {
            let with = paid_with(&**ledger, tenant).await?;
            Ok::<_, LedgerError>(with.is_some_and(|with| with.at > tried.at))
        };
        Ok(match &tried.standing {
            Standing::Paid => None,
            Standing::Pending => tried.payment.is_none().then_some(tried.attempt),
            Standing::Failed => Some(tried.attempt + 1),
            Standing::Declined | Standing::Refused { .. } => {
                (by == By::Operator || newer().await?).then_some(tried.attempt + 1)
            }
        })
    }

    /// Brings the record up to what the ledger knows of the try's payment; answers its version.
    async fn look(
        &self,
        route: &Route,
        place: (&str, Month, &str),
        tried: &mut Collection,
        version: i64,
    ) -> Result<i64, AnalyticsError> {
        if tried.standing != Standing::Pending {
            return Ok(version);
        }
        let ledger = self.analytics.ledger();
        let hash = engine::key_hash(ledger.keys(), route, &name(place, tried.attempt));
        let Some(payment) = ledger.by_key(hash).await? else {
            return Ok(version);
        };
        self.analytics.caught_up().await;
        let row = self.analytics.payment(Some(OPERATOR.to_owned()), payment.id).await?;
        let outcome = row.and_then(|row| PaymentOutcome::parse(&row.outcome));
        let standing = match outcome {
            Some(PaymentOutcome::Succeeded) => Standing::Paid,
            Some(PaymentOutcome::Declined) => Standing::Declined,
            // Proven: none of its attempts took anything, or what was held is released.
            Some(PaymentOutcome::Failed | PaymentOutcome::Voided) if payment.terminal => Standing::Failed,
            _ => Standing::Pending,
        };
        let known = Collection {
            payment: Some(payment.id),
            standing,
            ..tried.clone()
        };
        if known == *tried {
            return Ok(version);
        }
        *tried = known;
        self.analytics.record(place, tried, version).await
    }

    /// Asks the engine. Answers why it cannot even be asked for; everything else is in the ledger afterwards.
    async fn ask(
        &self,
        route: &Arc<Route>,
        place: (&str, Month, &str),
        tried: &Collection,
        with: &PaidWith,
    ) -> Option<String> {
        let (tenant, month, code) = place;
        let amount = Currency::parse(code).and_then(|currency| {
            let units = tried.units;
            Amount { units, currency }.to_minor(Dialect::Stripe)
        });
        let Ok(amount) = amount else {
            return Some("amount".to_owned());
        };
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("amount", &amount.to_string())
            .append_pair("currency", &code.to_ascii_lowercase())
            .append_pair("confirm", "true")
            .append_pair("off_session", "true")
            .append_pair("payment_method_types[0]", "card")
            // What is charged stands below, under the gateway's name.
            .append_pair("payment_method", "pm_fee")
            .append_pair(&format!("metadata[sentinel_{}]", tried.gateway), &with.joined())
            .append_pair("metadata[order_id]", &name(place, tried.attempt))
            .append_pair("description", &format!("API Sentinel fee {month} for {tenant}"))
            .finish();
        let key = name(place, tried.attempt);
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        headers.insert("idempotency-key", HeaderValue::from_str(&key).ok()?);
        let recognised = route.recognises(&Method::POST, PATH)?;
        let asked = Asked {
            recognised,
            head: Head {
                method: Method::POST,
                path: PATH.to_owned(),
                query: None,
                headers,
                base: "http://localhost".to_owned(),
            },
            body: Bytes::from(body),
            alternates: Vec::new(),
            started: Instant::now(),
        };
        match self.engine.handle(route, asked).await {
            Some(Handled::Forward { unavailable, .. }) => {
                let reason = unavailable.map_or("operation_not_supported", |why| why.reason);
                Some(reason.to_owned())
            }
            Some(Handled::Answered(_)) | None => None,
        }
    }
}

/// The name of a try: the idempotency key of its payment, and its order reference.
fn name((tenant, month, currency): (&str, Month, &str), attempt: u32) -> String {
    format!("fee-{tenant}-{month}-{currency}-{attempt}")
}
