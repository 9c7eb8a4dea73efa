//! The table of currencies: what each gateway puts on the wire.
//!
//! `currencies.csv` holds ISO 4217's exponent and one column a gateway: an exponent, `-` (do not send) or `?` (no
//! statement found). Its notes hold steps (`stripe:multiple=10`), contradictions in a gateway's own documents
//! (`refuse unless configured`) and countries (`paypal:in-country only`).

use std::sync::LazyLock;

use super::{Currency, Gateway, MoneyError};
use crate::config::model::Dialect;

const TABLE: &str = include_str!("currencies.csv");

/// The gateways in the order of the columns.
const COLUMNS: [Dialect; 6] = [
    Dialect::Stripe,
    Dialect::Paypal,
    Dialect::Braintree,
    Dialect::Square,
    Dialect::Razorpay,
    Dialect::Adyen,
];

/// One currency.
#[derive(Debug)]
pub(super) struct Row {
    pub currency: Currency,
    pub iso: u32,
    /// The largest exponent of ISO and all gateways.
    pub canonical: u32,
    /// By column; `None` where the gateway does not take it.
    exponents: [Option<u32>; 6],
    /// By column; 1 where there is no step.
    steps: [i64; 6],
    contradictory: Vec<Dialect>,
    pub in_country_only: Vec<Dialect>,
}

/// One currency at one gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    /// Decimals on the wire.
    pub exponent: u32,
    /// Canonical decimals.
    canonical: u32,
    /// Values must be multiples of this.
    pub step: i64,
}

impl Wire {
    /// Canonical units in one unit on the wire.
    pub fn scale(self) -> i64 {
        10_i64.pow(self.canonical - self.exponent)
    }
}

/// All rows, in the order of their codes.
pub(super) fn table() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
        let mut rows: Vec<Row> = parse(TABLE).into_iter().flatten().collect();
        rows.sort_by_key(|row| row.currency);
        rows
    });
    &ROWS
}

pub(super) fn find(currency: Currency) -> Option<&'static Row> {
    let rows = table();
    let at = rows.binary_search_by_key(&currency, |row| row.currency).ok()?;
    rows.get(at)
}

/// How the gateway writes the currency. A custom gateway follows ISO 4217.
pub(super) fn wire(gateway: Dialect, currency: Currency) -> Result<Wire, MoneyError> {
    let row = find(currency).ok_or(MoneyError::UnknownCurrency(currency))?;
    let Some(column) = COLUMNS.iter().position(|dialect| *dialect == gateway) else {
        return Ok(Wire {
            exponent: row.iso,
            canonical: row.canonical,
            step: 1,
        });
    };
    if row.contradictory.contains(&gateway) {
        return Err(MoneyError::Contradictory(currency, Gateway(gateway)));
    }
    match row.exponents[column] {
        Some(exponent) => Ok(Wire {
            exponent,
            canonical: row.canonical,
            step: row.steps[column],
        }),
        None => Err(MoneyError::Unsupported(currency, Gateway(gateway))),
    }
}

/// Reads the table; one result a row, so that a test can name the row that does not parse.
pub(super) fn parse(text: &str) -> Vec<Result<Row, String>> {
    csv::Reader::from_reader(text.as_bytes())
        .into_records()
        .map(|record| row(&record.map_err(|error| error.to_string())?))
        .collect()
}

fn row(record: &csv::StringRecord) -> Result<Row, String> {
    let cell = |at: usize| record.get(at).ok_or_else(|| format!("{record:?} has no column {at}"));
    let currency = Currency::parse(cell(0)?).map_err(|error| format!("{record:?}: {error}"))?;
    let iso = exponent(cell(2)?)?.ok_or_else(|| format!("{currency} has no ISO exponent"))?;
    let mut exponents = [None; 6];
    for (column, slot) in exponents.iter_mut().enumerate() {
        *slot = exponent(cell(3 + column)?)?;
    }
    let mut row = Row {
        currency,
        iso,
        canonical: exponents.iter().flatten().copied().fold(iso, u32::max),
        exponents,
        steps: [1; 6],
        contradictory: Vec::new(),
        in_country_only: Vec::new(),
    };
    for note in cell(9)?.split(';').map(str::trim) {
        let named = note.split([':', ' ']).next().unwrap_or_default();
        let Some(column) = COLUMNS
            .iter()
            .position(|dialect| dialect.name().eq_ignore_ascii_case(named))
        else {
            continue;
        };
        if let Some((_, step)) = note.split_once(":multiple=") {
            row.steps[column] = step.parse().map_err(|error| format!("{currency}: {note}: {error}"))?;
        } else if note.ends_with("refuse unless configured") {
            row.contradictory.push(COLUMNS[column]);
        } else if note.ends_with("in-country only") {
            row.in_country_only.push(COLUMNS[column]);
        }
    }
    Ok(row)
}

fn exponent(cell: &str) -> Result<Option<u32>, String> {
    match cell {
        "-" | "?" => Ok(None),
        digit => match digit.parse() {
            Ok(exponent @ 0..=4) => Ok(Some(exponent)),
            _ => Err(format!("{digit:?} is not an exponent")),
        },
    }
}
