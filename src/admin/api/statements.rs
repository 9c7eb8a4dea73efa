//! Monthly statements of what recovered revenue costs. The rules are those of [`crate::analytics::billing`].

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Reply;
use super::call::{Call, json, not_found, of_type};
use super::figures::figures;
use super::problem::Problem;
use crate::analytics::billing::{Entry, Rate, Statement};
use crate::analytics::export::Format;
use crate::analytics::period::{Month, rfc3339};
use crate::analytics::{billing, decimal};

/// Lines in an answer in JSON; a file has all of them.
const LINES: usize = 1000;

/// A statement. Decimals as text.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatementView {
    /// The month (UTC), as in `2026-11`.
    month: String,
    /// ISO 4217.
    currency: String,
    /// Whether it changes no more.
    closed: bool,
    /// When it was closed (RFC 3339).
    closed_at: Option<String>,
    /// Recovered payments captured in the month.
    recoveries: i64,
    /// What was captured of recovered payments.
    recovered: String,
    /// What was refunded of recovered payments, of this or an earlier month.
    refunded: String,
    /// What turned out not to be recovered.
    reversed: String,
    /// What the fee is computed from.
    net: String,
    /// The fee's share, as in `2%`.
    rate: String,
    /// The fee: net times rate, rounded once to the currency's minor unit, halves away from zero. Below zero it is a credit.
    fee: String,
    /// Lines.
    lines: i64,
    /// SHA-256 of the lines as the CSV file has them below its head; null until it is closed.
    lines_sha256: Option<String>,
}

impl StatementView {
    fn of(statement: Statement) -> Self {
        let money = |units: i64| decimal(units, &statement.currency);
        Self {
            month: Month::from_number(statement.month).map_or_else(String::new, |month| month.to_string()),
            closed: statement.closed_at.is_some(),
            closed_at: statement.closed_at.map(rfc3339),
            recoveries: statement.recoveries,
            recovered: money(statement.recovered),
            refunded: money(statement.refunded),
            reversed: money(statement.reversed),
            net: money(statement.net),
            rate: statement.rate.to_string(),
            fee: money(statement.fee),
            lines: statement.lines,
            lines_sha256: statement.digest.clone(),
            currency: statement.currency,
        }
    }
}

/// All statements.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Statements {
    /// The newest month first.
    statements: Vec<StatementView>,
}

fn rate(call: &Call) -> Rate {
    Rate(call.api().runtime().config.accounts.fee.millionths)
}

/// Lists the statements.
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let statements = figures(&call)?.statements(&call.caller()?.tenant, rate(&call)).await?;
    let statements = statements.into_iter().map(StatementView::of).collect();
    json(StatusCode::OK, &Statements { statements })
}

/// How a statement is wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// `json` (default), or `csv` for a file with every line.
    format: Option<String>,
    /// Where to go on with the lines: `nextCursor` of the answer before.
    cursor: Option<String>,
}

/// A line of a statement.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LineView {
    /// The payment, as `GET /api/v1/analytics/events/{id}` shows it.
    #[schemars(with = "String")]
    payment: Uuid,
    /// The event of its timeline that caused the line.
    event: i64,
    /// When it was recorded (RFC 3339).
    recorded_at: String,
    /// `recovered`, `refunded`, `reversed` or `refund_reversed`.
    kind: String,
    /// The gateway that took the money.
    gateway: String,
    /// The amount; what is taken off is below zero.
    amount: String,
}

/// A statement with its lines.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Detailed {
    /// The statement.
    statement: StatementView,
    /// Its lines, the oldest first.
    lines: Vec<LineView>,
    /// What `cursor` goes on with; null at the end.
    next_cursor: Option<String>,
}

/// Shows a statement with its lines.
pub async fn show(call: Call) -> Result<Reply, Problem> {
    let asked: Wanted = call.query()?;
    let format = match asked.format.as_deref() {
        None | Some("json") => None,
        Some("csv") => Some(Format::Csv),
        Some(_) => return Err(Problem::field("format", "must be json or csv")),
    };
    let (figures, tenant) = (figures(&call)?, call.caller()?.tenant.clone());
    let month = Month::parse(call.parameter(0)).ok_or_else(|| not_found("statement"))?;
    let currency = call.parameter(1).to_ascii_uppercase();
    let found = figures.statement(&tenant, month, &currency, rate(&call)).await?;
    let statement = found.ok_or_else(|| not_found("statement"))?;
    if format.is_some() {
        let file = billing::csv(figures, &tenant, month, &currency);
        return Ok(attachment(Body::from_stream(file), month, &currency));
    }
    let after = match asked.cursor.as_deref() {
        None => billing::After::default(),
        Some(text) => billing::After::parse(text)
            .ok_or_else(|| Problem::field("cursor", "must be the nextCursor of an earlier answer"))?,
    };
    let (entries, next) = figures.lines(&tenant, month, &currency, after, LINES).await?;
    let line = |entry: Entry| LineView {
        payment: entry.payment,
        event: entry.seq,
        recorded_at: rfc3339(entry.at),
        kind: entry.kind,
        gateway: entry.gateway,
        amount: decimal(entry.units, &currency),
    };
    let detailed = Detailed {
        statement: StatementView::of(statement),
        lines: entries.into_iter().map(line).collect(),
        next_cursor: next.map(|next| next.to_string()),
    };
    json(StatusCode::OK, &detailed)
}

/// A statement's lines as a file.
pub(crate) fn attachment(body: Body, month: Month, currency: &str) -> Reply {
    let mut reply = of_type(StatusCode::OK, Format::Csv.media_type(), body);
    let name = format!("attachment; filename=\"statement-{month}-{currency}.csv\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        reply.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    reply
}
