//! Figures and events: what a tenant's payments add up to.
//!
//! Amounts are exact: JSON numbers with all their decimals where the shape asks for a number, decimal text elsewhere.
//! Nothing is ever summed up over currencies.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use futures_util::stream;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::Reply;
use super::call::{Call, json, not_found, of_type};
use super::problem::{Code, Problem};
use crate::analytics::export::{Format, Row};
use crate::analytics::fold::PaymentOutcome;
use crate::analytics::overview::Overview;
use crate::analytics::payments::{LARGEST_PAGE, Wanted};
use crate::analytics::period::{Period, rfc3339};
use crate::analytics::{Analytics, AnalyticsError, decimal};
use crate::payment::timeline::{EventView, Found, Timeline};

/// Rows in a page unless asked otherwise.
const PAGE: usize = 50;

/// A decimal that is written as a JSON number without ever being a float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact(String);

impl Exact {
    /// Units of a currency.
    pub fn money(units: i64, currency: &str) -> Self {
        Self(decimal(units, currency))
    }

    /// Tenths.
    pub fn tenths(tenths: i64) -> Self {
        Self(format!("{}.{}", tenths / 10, tenths % 10))
    }
}

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.clone())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

impl JsonSchema for Exact {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Exact".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "description": "An exact decimal." })
    }
}

impl From<AnalyticsError> for Problem {
    fn from(error: AnalyticsError) -> Self {
        match error {
            AnalyticsError::Ledger(error) => error.into(),
            AnalyticsError::Asked(why) => Self::new(Code::InvalidRequest, why),
            AnalyticsError::Store(why) => {
                tracing::warn!(why, "a tenant's request needs the figures");
                Self::new(Code::Unavailable, "the figures cannot be read at the moment")
            }
        }
    }
}

/// The figures; where there are none the log says why.
pub(super) fn figures(call: &Call) -> Result<&Arc<Analytics>, Problem> {
    call.api().analytics().ok_or_else(|| {
        Problem::new(
            Code::Unavailable,
            "there are no figures until the next start; the log says why",
        )
    })
}

/// A period, as a query names it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Span {
    /// `24h`, `7d`, `30d`, `90d`, `365d`, `all`, or a month as in `2026-11`. Default `30d`.
    period: Option<String>,
    /// From this time on: RFC 3339, a date, or Unix milliseconds. Rounded down to the hour.
    from: Option<String>,
    /// Before this time.
    to: Option<String>,
    /// The currency of `recoveredRevenue` (ISO 4217). Default: the one with the most recovered payments.
    currency: Option<String>,
}

impl Span {
    fn period(&self, now: i64) -> Result<Period, Problem> {
        Period::read(self.period.as_deref(), self.from.as_deref(), self.to.as_deref(), now)
            .map_err(|error| Problem::field("period", error.to_string()))
    }
}

/// The overview of a period.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverviewView {
    /// Payments that failed at their first gateway, for another reason than its own decline.
    total_events: i64,
    /// Of them, those that another gateway took.
    successful_recoveries: i64,
    /// What was captured of them, in `currency`.
    recovered_revenue: Exact,
    /// The mean of milliseconds from the first gateway's failure to the other's success; 0 where nothing was recovered.
    avg_recovery_time: Exact,
    /// The share of payments that failed at their first gateway.
    failover_rate: String,
    /// The currency of `recoveredRevenue`; null where there was no payment.
    currency: Option<String>,
    /// Payments opened in the period.
    total_payments: i64,
    /// Money by currency.
    revenue: Vec<Revenue>,
    /// Payments by what became of them.
    outcomes: BTreeMap<String, i64>,
    /// The first moment of the period (RFC 3339); null for all of time.
    from: Option<String>,
    /// The first moment after it; null for now.
    to: Option<String>,
}

/// Money of one currency. Decimals as text.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revenue {
    /// ISO 4217.
    currency: String,
    /// Payments that were recovered.
    recoveries: i64,
    /// Captured of recovered payments.
    recovered: String,
    /// Refunded of recovered payments.
    refunded: String,
    /// The difference.
    net: String,
    /// Captured of all payments.
    captured: String,
}

impl OverviewView {
    fn of(overview: &Overview, currency: Option<&str>, period: Period) -> Self {
        let currency = currency.or(overview.main_currency());
        let revenue = currency
            .and_then(|code| overview.money.get(code))
            .map_or(0, |money| money.revenue);
        Self {
            total_events: overview.failed,
            successful_recoveries: overview.recovered,
            recovered_revenue: Exact::money(revenue, currency.unwrap_or("XXX")),
            avg_recovery_time: Exact::tenths(overview.recovery_tenths().unwrap_or(0)),
            failover_rate: overview.failover_rate(),
            currency: currency.map(str::to_owned),
            total_payments: overview.payments,
            revenue: overview
                .money
                .iter()
                .map(|(code, money)| Revenue {
                    currency: code.clone(),
                    recoveries: money.recoveries,
                    recovered: decimal(money.revenue, code),
                    refunded: decimal(money.refunded, code),
                    net: decimal(money.revenue - money.refunded, code),
                    captured: decimal(money.captured, code),
                })
                .collect(),
            outcomes: overview.outcomes.clone(),
            from: (period.from > 0).then(|| rfc3339(period.from)),
            to: (period.to < i64::MAX).then(|| rfc3339(period.to)),
        }
    }
}

/// Shows the overview.
pub async fn overview(call: Call) -> Result<Reply, Problem> {
    let asked: Span = call.query()?;
    let figures = figures(&call)?;
    let period = asked.period(figures.ledger().now())?;
    let currency = asked.currency.as_deref().map(code).transpose()?;
    let overview = figures.overview(Some(call.caller()?.own_books()), period).await?;
    json(
        StatusCode::OK,
        &OverviewView::of(&overview, currency.as_deref(), period),
    )
}

/// A currency's code as it was sent.
fn code(text: &str) -> Result<String, Problem> {
    match crate::money::Currency::parse(text) {
        Ok(currency) => Ok(currency.code().to_owned()),
        Err(_) => Err(Problem::field("currency", "must be an ISO 4217 code, as in EUR")),
    }
}

/// Which events, as a query names them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsWanted {
    /// `24h`, `7d`, `30d`, `90d`, `365d`, `all`, or a month as in `2026-11`. Default `all`.
    period: Option<String>,
    /// Opened at this time or later: RFC 3339, a date, or Unix milliseconds.
    from: Option<String>,
    /// Opened before this time.
    to: Option<String>,
    /// Tried first at this gateway, or now there.
    gateway: Option<String>,
    /// The route.
    route: Option<String>,
    /// `pending`, `in_doubt`, `action_required`, `authorised`, `succeeded`, `voided`, `declined`, `failed` or `manual`.
    outcome: Option<String>,
    /// ISO 4217.
    currency: Option<String>,
    /// `failovers` (default): payments that failed at their first gateway. `recovered`: of those, the recovered ones.
    /// `payments`: all payments.
    kind: Option<String>,
    /// Where to go on: `nextCursor` of the page before.
    cursor: Option<String>,
    /// Rows in a page, at most. Default 50.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// `json` (default) for a page; `csv` or `ndjson` for a file with all of them.
    format: Option<String>,
}

impl EventsWanted {
    fn wanted(&self, tenant: String, now: i64) -> Result<Wanted, Problem> {
        let period = match (&self.period, &self.from, &self.to) {
            (None, None, None) => None,
            (period, from, to) => Some(
                Period::read(period.as_deref(), from.as_deref(), to.as_deref(), now)
                    .map_err(|error| Problem::field("period", error.to_string()))?,
            ),
        };
        let outcome = match self.outcome.as_deref() {
            None => None,
            Some(word) => Some(PaymentOutcome::parse(word).ok_or_else(|| {
                Problem::field("outcome", "must be one of the outcomes that the documentation names")
            })?),
        };
        let (failed, recovered) = match self.kind.as_deref() {
            None | Some("failovers") => (true, false),
            Some("recovered") => (true, true),
            Some("payments") => (false, false),
            Some(_) => return Err(Problem::field("kind", "must be failovers, recovered or payments")),
        };
        let before = match self.cursor.as_deref() {
            None => None,
            Some(text) => Some(
                text.strip_prefix("ev_")
                    .and_then(|digits| i64::from_str_radix(digits, 16).ok())
                    .filter(|place| *place >= 0)
                    .ok_or_else(|| Problem::field("cursor", "must be the nextCursor of an earlier page"))?,
            ),
        };
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(Problem::field("limit", "must be 1 to 1000"));
        }
        Ok(Wanted {
            tenant: Some(tenant),
            period,
            gateway: self.gateway.clone(),
            route: self.route.clone(),
            outcome,
            currency: self.currency.as_deref().map(code).transpose()?,
            failed,
            recovered,
            before,
            limit,
        })
    }
}

/// A page of events.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Events {
    /// The newest first.
    events: Vec<Row>,
    /// What `cursor` goes on with; null at the end. It stays good while payments arrive.
    next_cursor: Option<String>,
}

/// Lists events, or sends them as a file.
pub async fn events(call: Call) -> Result<Reply, Problem> {
    let asked: EventsWanted = call.query()?;
    let figures = figures(&call)?;
    let wanted = asked.wanted(call.caller()?.own_books(), figures.ledger().now())?;
    let format = match asked.format.as_deref() {
        None | Some("json") => None,
        Some("csv") => Some(Format::Csv),
        Some("ndjson") => Some(Format::Ndjson),
        Some(_) => return Err(Problem::field("format", "must be json, csv or ndjson")),
    };
    if let Some(format) = format {
        return Ok(file(figures, wanted, format));
    }
    let page = figures.payments(wanted).await?;
    let events = Events {
        events: page.rows.iter().map(Row::of).collect(),
        next_cursor: page.next.map(|place| format!("ev_{place:x}")),
    };
    json(StatusCode::OK, &events)
}

/// A file that is sent while it is read.
pub(crate) fn file(figures: &Arc<Analytics>, wanted: Wanted, format: Format) -> Reply {
    let pieces = figures.export(wanted, format);
    let body = Body::from_stream(stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    }));
    let mut reply = of_type(StatusCode::OK, format.media_type(), body);
    let name = format!("attachment; filename=\"payments.{}\"", format.ending());
    if let Ok(name) = HeaderValue::from_str(&name) {
        reply.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    reply
}

/// One payment.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventDetail {
    /// What a list says of it.
    event: Row,
    /// What is known of it, in sentences.
    says: Vec<String>,
    /// What happened, oldest first.
    timeline: Vec<Happened>,
}

/// Something that happened to a payment.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Happened {
    /// From 1.
    event: i64,
    /// When it was recorded (RFC 3339).
    recorded_at: String,
    /// Its name.
    kind: String,
    /// The attempt that it is about.
    attempt: Option<u16>,
    /// What happened, in a sentence.
    text: String,
    /// The evidence it rests on, where there was an exchange.
    evidence: Option<String>,
}

/// Shows one payment's timeline.
pub async fn event(call: Call) -> Result<Reply, Problem> {
    let figures = figures(&call)?;
    let id = call.parameter(0).parse().map_err(|_| not_found("payment"))?;
    let row = figures.payment(Some(call.caller()?.own_books()), id).await?;
    let row = row.ok_or_else(|| not_found("payment"))?;
    let payment = figures.ledger().get(id).await?.ok_or_else(|| not_found("payment"))?;
    let story = Timeline::of(&Found::read(figures.ledger().as_ref(), payment).await?);
    let happened = |event: EventView| Happened {
        event: event.seq,
        recorded_at: rfc3339(event.at),
        kind: event.kind,
        attempt: event.attempt,
        text: event.text,
        evidence: event.evidence,
    };
    let view = EventDetail {
        event: Row::of(&row),
        says: story.says,
        timeline: story.events.into_iter().map(happened).collect(),
    };
    json(StatusCode::OK, &view)
}

/// One gateway's figures.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayView {
    /// Its configured name.
    gateway: String,
    /// Attempts made there to take a payment.
    attempts: i64,
    /// The share of them that held or took the money; null without attempts.
    success_rate: Option<String>,
    /// Milliseconds that an answer took.
    latency: Latency,
    /// Attempts by what became of them.
    outcomes: BTreeMap<String, i64>,
    /// Declines by class.
    declines: BTreeMap<String, i64>,
    /// Payments that failed here first, by why.
    failed_first: BTreeMap<String, i64>,
    /// Payments that were recovered here.
    recoveries: i64,
    /// What was captured of them, by currency, as decimals.
    recovered: BTreeMap<String, String>,
}

/// Quantiles of milliseconds, an eighth too small at most; null without answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Latency {
    /// The median.
    p50: Option<i64>,
    /// Nineteen of twenty were faster.
    p95: Option<i64>,
    /// Ninety-nine of a hundred were faster.
    p99: Option<i64>,
}

/// Gateways compared.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Gateways {
    /// By name.
    gateways: Vec<GatewayView>,
}

/// Compares the gateways.
pub async fn gateways(call: Call) -> Result<Reply, Problem> {
    let asked: Span = call.query()?;
    let figures = figures(&call)?;
    let period = asked.period(figures.ledger().now())?;
    let compared = figures.gateways(Some(call.caller()?.own_books()), period).await?;
    let gateways = compared
        .into_iter()
        .map(|(gateway, compared)| GatewayView {
            gateway,
            attempts: compared.tried(),
            success_rate: compared
                .success_tenths()
                .map(|tenths| format!("{}.{}%", tenths / 10, tenths % 10)),
            latency: Latency {
                p50: compared.latency(50),
                p95: compared.latency(95),
                p99: compared.latency(99),
            },
            recoveries: compared.recovered,
            recovered: compared
                .revenue
                .iter()
                .map(|(code, units)| (code.clone(), decimal(*units, code)))
                .collect(),
            outcomes: compared.attempts,
            declines: compared.declines,
            failed_first: compared.lost,
        })
        .collect();
    json(StatusCode::OK, &Gateways { gateways })
}

#[cfg(test)]
mod tests {
    use super::Exact;

    #[test]
    fn an_exact_number_keeps_its_decimals() {
        let written = |exact| serde_json::to_string(&exact).unwrap();
        assert_eq!(written(Exact::money(1_542_050, "USD")), "15420.50");
        assert_eq!(written(Exact::money(-5, "USD")), "-0.05");
        assert_eq!(written(Exact::money(9_007_199_254_740_993, "USD")), "90071992547409.93");
        assert_eq!(written(Exact::tenths(18_505)), "1850.5");
    }
}
