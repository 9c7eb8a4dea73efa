//! Lists as files: CSV (RFC 4180) for spreadsheets, NDJSON for programs. Amounts are exact decimals, as text.

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::payments::{LARGEST_PAGE, Listed, Wanted};
use super::period::rfc3339;
use super::{Analytics, AnalyticsError, decimal};

/// A file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a line of names.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The ending of its files.
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

/// Pages that wait for a slow reader.
const AHEAD: usize = 2;

const NAMES: [&str; 15] = [
    "id",
    "openedAt",
    "route",
    "outcome",
    "firstGateway",
    "gateway",
    "failover",
    "failureReason",
    "recovered",
    "recoveryTime",
    "amount",
    "currency",
    "captured",
    "refunded",
    "attempts",
];

/// A payment as files and the API tell it. Amounts are exact decimals, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Sentinel's id for it.
    #[schemars(with = "String")]
    pub id: Uuid,
    /// When it was opened (RFC 3339).
    pub opened_at: String,
    /// Its route.
    pub route: String,
    /// What became of it.
    pub outcome: String,
    /// The gateway tried first.
    pub first_gateway: String,
    /// The gateway that has it, or was tried last.
    pub gateway: String,
    /// Whether it failed at its first gateway, for another reason than that gateway's own decline.
    pub failover: bool,
    /// Why: `not_sent`, `gateway_busy`, `account_refused`, `no_answer`, `no_answer_fenced` or `contradiction`.
    pub failure_reason: Option<String>,
    /// Whether another gateway took it then.
    pub recovered: bool,
    /// Milliseconds from the first gateway's failure to the other's success.
    pub recovery_time: Option<i64>,
    /// The amount; null where the request named none.
    pub amount: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// Captured for certain.
    pub captured: Option<String>,
    /// Refunded for certain.
    pub refunded: Option<String>,
    /// Attempts to take the payment.
    pub attempts: i64,
}

impl Row {
    /// Of a payment in a list.
    pub fn of(row: &Listed) -> Self {
        let money = |units: i64| row.currency.as_deref().map(|currency| decimal(units, currency));
        Self {
            id: row.id,
            opened_at: rfc3339(row.opened_at),
            route: row.route.clone(),
            outcome: row.outcome.clone(),
            first_gateway: row.first_gateway.clone(),
            gateway: row.gateway.clone(),
            failover: row.failure.is_some(),
            failure_reason: row.failure.clone(),
            recovered: row.recovered,
            recovery_time: row.recovery_ms,
            amount: row.amount.and_then(money),
            currency: row.currency.clone(),
            captured: money(row.captured),
            refunded: money(row.refunded),
            attempts: row.attempts,
        }
    }
}

/// Lines of a CSV file. A cell that a spreadsheet would take for a formula is made plain text.
pub fn csv_line(cells: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let plain = |cell: String| {
        let number = cell
            .strip_prefix('-')
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !number {
            format!("'{cell}")
        } else {
            cell
        }
    };
    // Writing into memory cannot fail.
    let _ = writer.write_record(cells.into_iter().map(plain));
    writer.into_inner().unwrap_or_default()
}

fn line(row: &Listed, format: Format) -> Vec<u8> {
    let object = serde_json::to_value(Row::of(row)).unwrap_or_default();
    match format {
        Format::Ndjson => {
            let mut line = object.to_string().into_bytes();
            line.push(b'\n');
            line
        }
        Format::Csv => csv_line(NAMES.iter().map(|name| match &object[*name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })),
    }
}

impl Analytics {
    /// All payments that are wanted, newest first, as pieces of a file. They are read page by page, as fast as they are
    /// taken; a payment that is opened meanwhile is not in it, and none is in it twice.
    pub fn export(
        self: &Arc<Self>,
        mut wanted: Wanted,
        format: Format,
    ) -> mpsc::Receiver<Result<Bytes, AnalyticsError>> {
        let (pieces, taken) = mpsc::channel(AHEAD);
        let this = Arc::clone(self);
        wanted.limit = LARGEST_PAGE;
        tokio::spawn(async move {
            if format == Format::Csv {
                let names = csv_line(NAMES.iter().map(|name| (*name).to_owned()));
                if pieces.send(Ok(names.into())).await.is_err() {
                    return;
                }
            }
            loop {
                match this.payments(wanted.clone()).await {
                    Ok(page) => {
                        let piece: Vec<u8> = page.rows.iter().flat_map(|row| line(row, format)).collect();
                        if pieces.send(Ok(piece.into())).await.is_err() {
                            return;
                        }
                        match page.next {
                            Some(next) => wanted.before = Some(next),
                            None => return,
                        }
                    }
                    Err(error) => {
                        let _ = pieces.send(Err(error)).await;
                        return;
                    }
                }
            }
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::csv_line;

    #[test]
    fn a_cell_is_never_a_formula() {
        let cells = ["=1+1", "-5.00", "-cmd", "a,b", "plain"].map(str::to_owned);
        assert_eq!(
            String::from_utf8(csv_line(cells)).unwrap(),
            "'=1+1,-5.00,'-cmd,\"a,b\",plain\r\n"
        );
    }
}
