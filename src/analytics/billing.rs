//! What a tenant owes for recovered revenue: one statement a month and currency.
//!
//! # The rules
//!
//! - A statement's lines are the movements of what is billable ([`super::fold::Line`]): captures of recovered payments,
//!   less refunds of recovered payments (of this or an earlier month, and less those that came back), less what turned
//!   out not to be recovered. A line belongs to the month (UTC) in which the ledger recorded the event that caused it, and names its payment.
//! - The net is the sum of the lines, in the currency's minor units. The fee is the net times the configured rate, computed
//!   once for the statement and rounded to the currency's ISO 4217 minor unit, halves away from zero. A net below
//!   zero gives a fee below zero: a credit.
//! - A month is closed when it is over and every event of it is counted. The ledger's clock never runs backwards, so no
//!   line can come later. Staging's payments have no statements. Closing writes the sums and the rate into the ledger, once: closing again answers
//!   the same statement, whatever was configured or lost since. An open statement is computed anew each time.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::period::Month;
use super::{Analytics, AnalyticsError};
use crate::account::Caller;
use crate::ledger::{Constraint, LedgerError};
use crate::money::Currency;

/// The space of closed statements in the ledger.
const SPACE: &str = "statements";
/// How long after its end a month can be closed, in milliseconds: a commit that began within it is over by then.
const SETTLED: i64 = 60_000;

/// A fee's rate, in millionths: 2 % is 20,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub u32);

impl Rate {
    /// Two percent of recovered revenue.
    pub const DEFAULT: Self = Self(20_000);

    /// The fee of a net in units of a currency.
    pub fn fee(self, net: i64, currency: &str) -> i64 {
        let unit = Currency::parse(currency).map_or(1, |currency| {
            10_i128.pow(currency.canonical_exponent().saturating_sub(currency.iso_exponent()))
        });
        let divisor = 1_000_000 * unit;
        let product = i128::from(net).abs() * i128::from(self.0);
        // Twice the remainder against the divisor: halves away from zero.
        let rounded = (2 * product + divisor) / (2 * divisor) * unit;
        let fee = i64::try_from(rounded).unwrap_or(i64::MAX);
        if net < 0 { -fee } else { fee }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, fraction) = (self.0 / 10_000, self.0 % 10_000);
        if fraction == 0 {
            write!(f, "{whole}%")
        } else {
            let fraction = format!("{fraction:04}");
            write!(f, "{whole}.{}%", fraction.trim_end_matches('0'))
        }
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// Whose.
    pub tenant: String,
    /// Of which month, as [`Month::number`].
    pub month: i64,
    /// In which currency.
    pub currency: String,
    /// Recovered payments captured in it.
    pub recoveries: i64,
    /// Captured of recovered payments, in units.
    pub recovered: i64,
    /// Refunded of recovered payments, less what of it came back or was of a payment that turned out not to be recovered;
    /// below zero where that is of an earlier month.
    pub refunded: i64,
    /// What turned out not to be recovered; not below zero.
    pub reversed: i64,
    /// What the fee is computed from.
    pub net: i64,
    /// The rate.
    pub rate: Rate,
    /// The fee.
    pub fee: i64,
    /// Lines.
    pub lines: i64,
    /// SHA-256 of the lines as the CSV file has them; set when it is closed.
    pub digest: Option<String>,
    /// When it was closed, Unix milliseconds; an open one changes with every payment.
    pub closed_at: Option<i64>,
}

/// A line of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The payment.
    pub payment: Uuid,
    /// The event within the payment.
    pub seq: i64,
    /// When the ledger recorded it.
    pub at: i64,
    /// `recovered`, `refunded`, `reversed` or `refund_reversed`.
    pub kind: String,
    /// Units; what is taken off is below zero.
    pub units: i64,
    /// The gateway that took the money.
    pub gateway: String,
}

/// Where to go on in a statement's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct After {
    at: i64,
    payment: i64,
    seq: i64,
    kind: String,
}

impl After {
    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("ln_")?.splitn(4, '_');
        let mut number = || parts.next().and_then(|part| i64::from_str_radix(part, 16).ok());
        let (at, payment, seq) = (number()?, number()?, number()?);
        let kind = parts.next().filter(|kind| kind.len() < 32)?.to_owned();
        Some(Self { at, payment, seq, kind })
    }
}

impl std::fmt::Display for After {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ln_{:x}_{:x}_{:x}_{}", self.at, self.payment, self.seq, self.kind)
    }
}

impl Analytics {
    /// The tenants that have statements.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn billed_tenants(self: &Arc<Self>) -> Result<Vec<String>, AnalyticsError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached("SELECT DISTINCT tenant FROM sums ORDER BY tenant")?;
            let tenants = statement
                .query_map([], |row| row.get(0))?
                .collect::<Result<Vec<String>, _>>()?;
            Ok(tenants
                .into_iter()
                .filter(|tenant| !Caller::is_staging(tenant))
                .collect())
        })
        .await
    }

    /// Closes every statement whose month is over; answers those that it closed.
    ///
    /// # Errors
    /// When file or ledger cannot be used; what was closed until then stays closed.
    pub async fn close_due(self: &Arc<Self>, rate: Rate) -> Result<Vec<Statement>, AnalyticsError> {
        let now = self.ledger().now();
        let mut closed = Vec::new();
        for tenant in self.billed_tenants().await? {
            for open in self.statements(&tenant, rate).await? {
                let Some(month) = Month::from_number(open.month).filter(|_| open.closed_at.is_none()) else {
                    continue;
                };
                if now >= month.period().to + SETTLED {
                    closed.extend(self.close(&tenant, month, &open.currency, rate, now).await?);
                }
            }
        }
        Ok(closed)
    }

    /// The statements of a tenant, newest month first; closed ones as they were closed.
    ///
    /// # Errors
    /// When file or ledger cannot be read.
    pub async fn statements(self: &Arc<Self>, tenant: &str, rate: Rate) -> Result<Vec<Statement>, AnalyticsError> {
        let mut closed: Vec<Statement> = Vec::new();
        let prefix = format!("{tenant}/");
        let mut after = None;
        loop {
            let page = self.ledger().documents(SPACE, prefix.clone(), after, 500).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            closed.extend(
                page.iter()
                    .filter_map(|document| serde_json::from_str(&document.value).ok()),
            );
        }
        let owner = tenant.to_owned();
        let open = self
            .ask(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT DISTINCT month, currency FROM sums WHERE tenant = ?1 ORDER BY month, currency",
                )?;
                let found = statement
                    .query_map([&owner], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<Result<Vec<(i64, String)>, _>>()?;
                found
                    .into_iter()
                    .map(|(month, currency)| sum(connection, &owner, month, &currency, rate))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        for statement in open {
            let known = closed
                .iter()
                .any(|closed| (closed.month, &closed.currency) == (statement.month, &statement.currency));
            if !known {
                closed.push(statement);
            }
        }
        closed.sort_by(|a, b| (b.month, &a.currency).cmp(&(a.month, &b.currency)));
        Ok(closed)
    }

    /// One statement: as it was closed, or as it stands now. `None` where nothing was recovered.
    ///
    /// # Errors
    /// When file or ledger cannot be read.
    pub async fn statement(
        self: &Arc<Self>,
        tenant: &str,
        month: Month,
        currency: &str,
        rate: Rate,
    ) -> Result<Option<Statement>, AnalyticsError> {
        if let Some(document) = self.ledger().document(SPACE, key(tenant, month, currency)).await? {
            return serde_json::from_str(&document.value)
                .map(Some)
                .map_err(|error| AnalyticsError::Store(error.to_string()));
        }
        let (tenant, currency) = (tenant.to_owned(), currency.to_owned());
        let statement = self
            .ask(move |connection| sum(connection, &tenant, month.number(), &currency, rate))
            .await?;
        Ok((statement.lines > 0).then_some(statement))
    }

    /// Closes a statement, or answers it when it was closed before. `now` is the ledger's time.
    ///
    /// # Errors
    /// When the month is not over or not yet counted to its end, or file or ledger cannot be used.
    pub async fn close(
        self: &Arc<Self>,
        tenant: &str,
        month: Month,
        currency: &str,
        rate: Rate,
        now: i64,
    ) -> Result<Option<Statement>, AnalyticsError> {
        if now < month.period().to + SETTLED {
            return Err(AnalyticsError::Asked(format!(
                "{month} is not over yet; its statement is open until then"
            )));
        }
        self.caught_up().await;
        let found = self.statement(tenant, month, currency, rate).await?;
        let Some(mut statement) = found.filter(|statement| statement.closed_at.is_none()) else {
            return self.statement(tenant, month, currency, rate).await;
        };
        let mut digest = Sha256::new();
        let mut after = After::default();
        loop {
            let (entries, next) = self.lines(tenant, month, currency, after, 1000).await?;
            for entry in &entries {
                digest.update(entry.csv(currency));
            }
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        statement.digest = Some(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        statement.closed_at = Some(now);
        let value = serde_json::to_string(&statement).map_err(|error| AnalyticsError::Store(error.to_string()))?;
        match self
            .ledger()
            .put_document(SPACE, key(tenant, month, currency), value, Some(0))
            .await
        {
            Ok(_) => Ok(Some(statement)),
            // Somebody else closed it a moment ago; that one stands.
            Err(LedgerError::Taken(Constraint::Document)) => self.statement(tenant, month, currency, rate).await,
            Err(error) => Err(error.into()),
        }
    }

    /// A statement's lines, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn lines(
        self: &Arc<Self>,
        tenant: &str,
        month: Month,
        currency: &str,
        after: After,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<After>), AnalyticsError> {
        let (tenant, currency) = (tenant.to_owned(), currency.to_owned());
        self.ask(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT at, payment, seq, id, kind, units, gateway FROM lines
                 WHERE tenant = ?1 AND month = ?2 AND currency = ?3 AND (at, payment, seq, kind) > (?4, ?5, ?6, ?7)
                 ORDER BY at, payment, seq, kind LIMIT ?8",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let place = params![
                tenant,
                month.number(),
                currency,
                after.at,
                after.payment,
                after.seq,
                after.kind,
                limit
            ];
            let mut next = None;
            let entries = statement
                .query_map(place, |row| {
                    next = Some(After {
                        at: row.get(0)?,
                        payment: row.get(1)?,
                        seq: row.get(2)?,
                        kind: row.get(4)?,
                    });
                    Ok(Entry {
                        at: row.get(0)?,
                        seq: row.get(2)?,
                        payment: Uuid::from_bytes(row.get(3)?),
                        kind: row.get(4)?,
                        units: row.get(5)?,
                        gateway: row.get(6)?,
                    })
                })?
                .collect::<Result<Vec<_>, _>>()?;
            let full = i64::try_from(entries.len()).unwrap_or(i64::MAX) >= limit;
            Ok((entries, next.filter(|_| full)))
        })
        .await
    }
}

impl Entry {
    /// The line as the CSV file has it.
    pub fn csv(&self, currency: &str) -> Vec<u8> {
        super::export::csv_line([
            super::period::rfc3339(self.at),
            self.payment.to_string(),
            self.seq.to_string(),
            self.kind.clone(),
            self.gateway.clone(),
            super::decimal(self.units, currency),
            currency.to_owned(),
        ])
    }
}

/// The names of the CSV file's columns.
pub fn csv_names() -> Vec<u8> {
    let names = [
        "recordedAt",
        "payment",
        "event",
        "kind",
        "gateway",
        "amount",
        "currency",
    ];
    super::export::csv_line(names.map(str::to_owned))
}

/// A statement's lines as a CSV file, in pieces.
pub fn csv(
    figures: &Arc<Analytics>,
    tenant: &str,
    month: Month,
    currency: &str,
) -> impl Stream<Item = Result<Bytes, AnalyticsError>> + Send + 'static {
    let (figures, tenant, currency) = (Arc::clone(figures), tenant.to_owned(), currency.to_owned());
    let head = stream::once(std::future::ready(Ok(Bytes::from(csv_names()))));
    let lines = stream::try_unfold(Some(After::default()), move |after| {
        let (figures, tenant, currency) = (Arc::clone(&figures), tenant.clone(), currency.clone());
        async move {
            let Some(after) = after else { return Ok(None) };
            let (entries, next) = figures.lines(&tenant, month, &currency, after, 1000).await?;
            let piece: Vec<u8> = entries.iter().flat_map(|entry| entry.csv(&currency)).collect();
            Ok(Some((Bytes::from(piece), next)))
        }
    });
    head.chain(lines)
}

fn key(tenant: &str, month: Month, currency: &str) -> String {
    format!("{tenant}/{month}/{currency}")
}

fn sum(
    connection: &Connection,
    tenant: &str,
    month: i64,
    currency: &str,
    rate: Rate,
) -> Result<Statement, AnalyticsError> {
    let mut statement = Statement {
        tenant: tenant.to_owned(),
        month,
        currency: currency.to_owned(),
        recoveries: 0,
        recovered: 0,
        refunded: 0,
        reversed: 0,
        net: 0,
        rate,
        fee: 0,
        lines: 0,
        digest: None,
        closed_at: None,
    };
    let mut sums = connection.prepare_cached(
        "SELECT kind, units, lines, payments FROM sums WHERE tenant = ?1 AND month = ?2 AND currency = ?3",
    )?;
    let mut rows = sums.query(params![tenant, month, currency])?;
    while let Some(row) = rows.next()? {
        let (units, lines): (i64, i64) = (row.get(1)?, row.get(2)?);
        match row.get_ref(0)?.as_str().unwrap_or("") {
            "recovered" => (statement.recovered, statement.recoveries) = (units, row.get(3)?),
            "refunded" | "refund_reversed" => statement.refunded -= units,
            _ => statement.reversed -= units,
        }
        statement.net += units;
        statement.lines += lines;
    }
    statement.fee = rate.fee(statement.net, currency);
    Ok(statement)
}

#[cfg(test)]
mod tests {
    use super::Rate;

    #[test]
    fn a_rate_is_written_exactly() {
        for (rate, text) in [
            (20_000, "2%"),
            (17_500, "1.75%"),
            (0, "0%"),
            (1, "0.0001%"),
            (1_000_000, "100%"),
        ] {
            assert_eq!(Rate(rate).to_string(), text);
        }
    }

    #[test]
    fn a_fee_is_rounded_once_halves_away_from_zero() {
        let two = Rate::DEFAULT;
        assert_eq!(two.fee(1_200_000, "USD"), 24_000);
        assert_eq!(two.fee(25, "USD"), 1);
        assert_eq!(two.fee(24, "USD"), 0);
        assert_eq!(two.fee(-25, "USD"), -1);
        // Chilean pesos count hundredths here and have none: the fee is whole pesos.
        assert_eq!(two.fee(2500, "CLP"), 100);
        assert_eq!(two.fee(2499, "CLP"), 0);
        assert_eq!(two.fee(i64::MAX, "USD"), i64::MAX / 50);
    }
}
