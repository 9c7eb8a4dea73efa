//! Monthly statements of what recovered revenue costs. The rules are those of [`crate::analytics::billing`].

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Reply;
use super::call::{Call, json, not_found, nothing, of_type};
use super::figures::figures;
use super::problem::Problem;
use crate::account::audit::Action;
use crate::analytics::billing::{Entry, Rate, Statement};
use crate::analytics::collection::{Due, PaidWith};
use crate::analytics::export::Format;
use crate::analytics::period::{Month, rfc3339};
use crate::analytics::{billing, collection, decimal};

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
    /// What was refunded of recovered payments, of this or an earlier month, less refunds that came back.
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
    /// How the fee is paid; null where this Sentinel does not collect it.
    collection: Option<CollectionView>,
}

/// How a statement's fee is paid.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CollectionView {
    /// `open` until the month is closed, `nothing_due`, `no_instrument` while there is nothing to pay with, `due`, then
    /// `pending`, `paid`, `declined`, `failed` (it is tried again) or `refused` (the gateway cannot be asked for it).
    state: &'static str,
    /// How often it was tried.
    attempts: u32,
    /// The payment of the last try.
    #[schemars(with = "Option<String>")]
    payment: Option<Uuid>,
    /// When the last try began (RFC 3339).
    at: Option<String>,
}

impl From<Due> for CollectionView {
    fn from(due: Due) -> Self {
        let state = due.name();
        let tried = match due {
            Due::Tried(tried) => Some(tried),
            _ => None,
        };
        Self {
            state,
            attempts: tried.as_ref().map_or(0, |tried| tried.attempt),
            payment: tried.as_ref().and_then(|tried| tried.payment),
            at: tried.map(|tried| rfc3339(tried.at)),
        }
    }
}

/// What a tenant pays its fees with, without the token.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaidWithView {
    /// The operator's gateway, in whose vault the token is; null where this Sentinel collects nothing.
    gateway: Option<String>,
    /// Whether a token is stored.
    stored: bool,
    /// When it was stored (RFC 3339).
    updated_at: Option<String>,
}

/// A token to pay fees with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PayWith {
    /// The token that the operator's gateway gave for your card or account, never a card number.
    #[schemars(regex(pattern = super::instruments::VISIBLE))]
    token: String,
    /// The customer in that gateway's vault, where it wants one: `cus_...`, a shopper reference.
    #[serde(default)]
    #[schemars(regex(pattern = super::instruments::VISIBLE))]
    customer: Option<String>,
}

impl StatementView {
    async fn of(call: &Call, statement: Statement) -> Result<Self, Problem> {
        let due = match gateway(call) {
            Some(_) => Some(figures(call)?.due(&statement).await?),
            None => None,
        };
        Ok(Self::with(statement, due))
    }

    fn with(statement: Statement, due: Option<Due>) -> Self {
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
            collection: due.map(CollectionView::from),
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

/// The gateway at which fees are collected.
fn gateway(call: &Call) -> Option<String> {
    call.api().runtime().config.accounts.collect.clone()
}

/// Lists the statements.
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let found = figures(&call)?.statements(&call.caller()?.tenant, rate(&call)).await?;
    let mut statements = Vec::with_capacity(found.len());
    for statement in found {
        statements.push(StatementView::of(&call, statement).await?);
    }
    json(StatusCode::OK, &Statements { statements })
}

/// Shows whether there is something to pay fees with.
pub async fn paid_with(call: Call) -> Result<Reply, Problem> {
    let found = collection::paid_with(&**call.api().ledger(), &call.caller()?.tenant).await?;
    let view = PaidWithView {
        gateway: gateway(&call),
        stored: found.is_some(),
        updated_at: found.map(|found| rfc3339(found.at)),
    };
    json(StatusCode::OK, &view)
}

/// Stores what fees are paid with.
pub async fn pay_with(call: Call) -> Result<Reply, Problem> {
    let asked: PayWith = call.json()?;
    let ledger = &**call.api().ledger();
    let with = PaidWith {
        token: asked.token,
        customer: asked.customer,
        at: ledger.now(),
    };
    collection::pay_with(ledger, &call.caller()?.tenant, &with).await?;
    note(&call, Action::PaidWithStored).await?;
    paid_with(call).await
}

/// Forgets what fees are paid with.
pub async fn pay_with_nothing(call: Call) -> Result<Reply, Problem> {
    if !collection::pay_with_nothing(&**call.api().ledger(), &call.caller()?.tenant).await? {
        return Err(not_found("token to pay fees with"));
    }
    note(&call, Action::PaidWithDeleted).await?;
    Ok(nothing())
}

async fn note(call: &Call, action: Action) -> Result<(), Problem> {
    let accounts = call.api().accounts();
    Ok(accounts.note(call.caller()?, action, call.from()).await?)
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
        statement: StatementView::of(&call, statement).await?,
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
