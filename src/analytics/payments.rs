//! Lists of payments, newest first, in pages whose cursors stay good: a payment's place is that of its first event.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};
use uuid::Uuid;

use super::fold::PaymentOutcome;
use super::period::Period;
use super::{Analytics, AnalyticsError};
use crate::ledger::keys::Purpose;
use crate::ledger::rows::Filter;

/// The most rows in a page.
pub const LARGEST_PAGE: usize = 1000;

/// Which payments. Everything is a conjunction; `None` and `false` do not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The tenant; `None` for all, which is for operators only.
    pub tenant: Option<String>,
    /// Opened in this period.
    pub period: Option<Period>,
    /// Tried first at, or now at, this gateway.
    pub gateway: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// What became of it.
    pub outcome: Option<PaymentOutcome>,
    /// ISO 4217 code, upper case.
    pub currency: Option<String>,
    /// Only those that failed at their first gateway.
    pub failed: bool,
    /// Only those that are recovered.
    pub recovered: bool,
    /// Continue after this place (older).
    pub before: Option<i64>,
    /// At most this many.
    pub limit: usize,
}

/// A payment in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its place: what a cursor is made of.
    pub n: i64,
    /// Its id.
    pub id: Uuid,
    /// Its tenant.
    pub tenant: String,
    /// Its route.
    pub route: String,
    /// When it was opened.
    pub opened_at: i64,
    /// When it was last counted anew.
    pub updated_at: i64,
    /// What became of it.
    pub outcome: String,
    /// The gateway tried first.
    pub first_gateway: String,
    /// The gateway that has it, or was tried last.
    pub gateway: String,
    /// Why it failed at its first gateway.
    pub failure: Option<String>,
    /// Whether it is recovered.
    pub recovered: bool,
    /// Milliseconds.
    pub recovery_ms: Option<i64>,
    /// Units of the currency.
    pub amount: Option<i64>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// Captured for certain.
    pub captured: i64,
    /// Refunded for certain.
    pub refunded: i64,
    /// Attempts to take the payment.
    pub attempts: i64,
}

const COLUMNS: &str =
    "n, id, tenant, route, opened_at, updated_at, outcome, first_gateway, gateway, failure, recovered, recovery_ms,
    amount, currency, captured, refunded, attempts";

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub rows: Vec<Listed>,
    /// Where to go on, when there is more.
    pub next: Option<i64>,
}

impl Analytics {
    /// A page of payments.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn payments(self: &Arc<Self>, wanted: Wanted) -> Result<Page, AnalyticsError> {
        self.ask(move |connection| page(connection, &wanted)).await
    }

    /// One payment's row; another tenant's is not there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn payment(self: &Arc<Self>, tenant: Option<String>, id: Uuid) -> Result<Option<Listed>, AnalyticsError> {
        self.ask(move |connection| one(connection, tenant.as_deref(), id)).await
    }

    /// The payments that a text leads to: Sentinel's id or its beginning, any id of a gateway or of the application, or
    /// the order reference.
    ///
    /// # Errors
    /// When the file or the ledger cannot be read.
    pub async fn search(self: &Arc<Self>, tenant: Option<String>, text: &str) -> Result<Vec<Listed>, AnalyticsError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<Uuid> = Vec::new();
        let filter = Filter {
            tenant: tenant.clone(),
            text: Some(text.to_owned()),
            limit: 50,
            ..Filter::default()
        };
        found.extend(self.ledger().list(filter).await?.into_iter().map(|payment| payment.id));
        // An order reference is kept as a hash that its owner's name is part of; operators see the local ones.
        let owner = tenant.clone().unwrap_or_else(|| "local".to_owned());
        let keys = self.ledger().keys();
        let filter = Filter {
            tenant: Some(owner.clone()),
            order_ref_hash: Some(keys.hash(Purpose::OrderReference, &[owner.as_bytes(), text.as_bytes()])),
            limit: 50,
            ..Filter::default()
        };
        found.extend(self.ledger().list(filter).await?.into_iter().map(|payment| payment.id));
        found.dedup();
        self.ask(move |connection| {
            let mut rows = Vec::with_capacity(found.len());
            for id in found {
                rows.extend(one(connection, tenant.as_deref(), id)?);
            }
            Ok(rows)
        })
        .await
    }
}

fn one(connection: &Connection, tenant: Option<&str>, id: Uuid) -> Result<Option<Listed>, AnalyticsError> {
    let sql = format!("SELECT {COLUMNS} FROM payments WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query_map(params![id.as_bytes(), tenant], listed)?;
    Ok(rows.next().transpose()?)
}

/// A page, in the snapshot of the connection.
pub(super) fn page(connection: &Connection, wanted: &Wanted) -> Result<Page, AnalyticsError> {
    let limit = wanted.limit.clamp(1, LARGEST_PAGE);
    let mut conditions: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("?{}", values.len())));
    };
    let text = |value: &String| Value::Text(value.clone());
    if let Some(period) = wanted.period {
        // Places follow time, so a period is a range of places; the index of times is asked once.
        if period.from > 0 {
            add(
                "n >= coalesce((SELECT n FROM payments WHERE opened_at >= ? ORDER BY opened_at, n LIMIT 1), 9223372036854775807)",
                Value::Integer(period.from),
            );
        }
        if period.to < i64::MAX {
            add(
                "n < coalesce((SELECT n FROM payments WHERE opened_at >= ? ORDER BY opened_at, n LIMIT 1), 9223372036854775807)",
                Value::Integer(period.to),
            );
        }
    }
    for (condition, value) in [
        ("n < ?", wanted.before.map(Value::Integer)),
        ("tenant = ?", wanted.tenant.as_ref().map(text)),
        ("route = ?", wanted.route.as_ref().map(text)),
        (
            "outcome = ?",
            wanted.outcome.map(|outcome| Value::Text(outcome.name().to_owned())),
        ),
        ("currency = ?", wanted.currency.as_ref().map(text)),
        ("(gateway = ? OR first_gateway = ?)", wanted.gateway.as_ref().map(text)),
    ] {
        if let Some(value) = value {
            add(condition, value);
        }
    }
    if wanted.failed {
        conditions.push("failure IS NOT NULL".to_owned());
    }
    if wanted.recovered {
        conditions.push("failure IS NOT NULL AND recovered = 1".to_owned());
    }
    let condition = match conditions.is_empty() {
        true => String::new(),
        false => format!("WHERE {}", conditions.join(" AND ")),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM payments {condition} ORDER BY n DESC LIMIT {}",
        limit + 1
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement
        .query_map(params_from_iter(values), listed)?
        .collect::<Result<Vec<_>, _>>()?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok(Page {
        next: rows.last().filter(|_| more).map(|row| row.n),
        rows,
    })
}

fn listed(row: &Row<'_>) -> Result<Listed, rusqlite::Error> {
    Ok(Listed {
        n: row.get(0)?,
        id: Uuid::from_bytes(row.get(1)?),
        tenant: row.get(2)?,
        route: row.get(3)?,
        opened_at: row.get(4)?,
        updated_at: row.get(5)?,
        outcome: row.get(6)?,
        first_gateway: row.get(7)?,
        gateway: row.get(8)?,
        failure: row.get(9)?,
        recovered: row.get(10)?,
        recovery_ms: row.get(11)?,
        amount: row.get(12)?,
        currency: row.get(13)?,
        captured: row.get(14)?,
        refunded: row.get(15)?,
        attempts: row.get(16)?,
    })
}
