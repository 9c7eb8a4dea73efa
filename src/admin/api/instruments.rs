//! The instrument map: which saved token at another gateway stands for an application's token.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reply;
use super::call::{Call, json, not_found, nothing};
use super::problem::{Code, Problem};
use crate::account::api_key::Mode;
use crate::account::audit::Action;
use crate::ledger::instruments::{self as map, InstrumentError};

/// The largest import: some ten thousand rows.
pub const IMPORT: usize = 4 * 1024 * 1024;
/// What tokens and names are made of.
pub const VISIBLE: &str = "^[!-~]{1,256}$";
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1000;

/// One instrument.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instrument {
    /// The configured gateway in whose vault the application's token lies.
    #[schemars(regex(pattern = VISIBLE))]
    gateway: String,
    /// The token that the application sends. Never a card number.
    #[schemars(regex(pattern = VISIBLE))]
    token: String,
    /// The tokens at other gateways, by configured name: at least one.
    targets: BTreeMap<String, Target>,
}

/// A token at another gateway.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The token.
    #[schemars(regex(pattern = VISIBLE))]
    token: String,
    /// The account it is saved in (merchant account, merchant id, location), as the gateway's credentials name it.
    #[schemars(regex(pattern = VISIBLE))]
    account: String,
    /// The customer in that gateway's vault, where the gateway wants one (Adyen's shopperReference).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer: Option<String>,
}

impl From<Instrument> for map::Instrument {
    fn from(given: Instrument) -> Self {
        let target = |target: Target| map::Target {
            token: target.token,
            account: target.account,
            customer: target.customer,
        };
        Self {
            gateway: given.gateway,
            token: given.token,
            targets: given
                .targets
                .into_iter()
                .map(|(name, one)| (name, target(one)))
                .collect(),
        }
    }
}

impl From<map::Instrument> for Instrument {
    fn from(kept: map::Instrument) -> Self {
        let target = |target: map::Target| Target {
            token: target.token,
            account: target.account,
            customer: target.customer,
        };
        Self {
            gateway: kept.gateway,
            token: kept.token,
            targets: kept
                .targets
                .into_iter()
                .map(|(name, one)| (name, target(one)))
                .collect(),
        }
    }
}

impl From<InstrumentError> for Problem {
    fn from(error: InstrumentError) -> Self {
        match error {
            InstrumentError::Ledger(error) => error.into(),
            error => Self::field("instrument", error.to_string()),
        }
    }
}

/// Which part of the map.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// `live` or `test`: for a session. Default `live`; a key has its own.
    mode: Option<Mode>,
    /// Instruments at most, 1 to 1000. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// The `next` of the page before.
    #[schemars(length(max = 200))]
    after: Option<String>,
}

/// A part of the map.
#[derive(Serialize, JsonSchema)]
pub struct Instruments {
    /// In no particular order.
    instruments: Vec<Instrument>,
    /// What the next page is had for, when there may be one.
    next: Option<String>,
}

/// Lists the map.
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let page: Page = call.query()?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(Problem::field("limit", "must be 1 to 1000"));
    }
    if page.after.as_ref().is_some_and(|after| after.len() > 200) {
        return Err(Problem::field("after", "is no page's `next`"));
    }
    let books = call.books(page.mode)?;
    let (found, next) = map::list(&**call.api().ledger(), &books, page.after, limit).await?;
    let instruments = found.into_iter().map(Instrument::from).collect();
    json(StatusCode::OK, &Instruments { instruments, next })
}

/// For which keys' payments.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForMode {
    /// `live` or `test`: for a session. Default `live`; a key has its own.
    mode: Option<Mode>,
}

/// Keeps an instrument.
pub async fn put(call: Call) -> Result<Reply, Problem> {
    let books = call.books(call.query::<ForMode>()?.mode)?;
    let given: Instrument = call.json()?;
    map::put(&**call.api().ledger(), &books, &given.into()).await?;
    note(&call, 1).await?;
    Ok(nothing())
}

/// Which instrument.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// `live` or `test`: for a session. Default `live`; a key has its own.
    mode: Option<Mode>,
    /// The gateway of the application's token.
    #[schemars(length(min = 1, max = 256))]
    gateway: String,
    /// The application's token.
    #[schemars(length(min = 1, max = 256))]
    token: String,
}

/// Forgets an instrument.
pub async fn delete(call: Call) -> Result<Reply, Problem> {
    let which: Which = call.query()?;
    let books = call.books(which.mode)?;
    if !map::delete(&**call.api().ledger(), &books, &which.gateway, &which.token).await? {
        return Err(not_found("instrument"));
    }
    note(&call, 1).await?;
    Ok(nothing())
}

/// What an import did.
#[derive(Serialize, JsonSchema)]
pub struct Imported {
    /// Instruments kept.
    kept: usize,
    /// Lines that were not taken; the others are kept.
    rejected: Vec<RejectedLine>,
}

/// A line that was not taken.
#[derive(Serialize, JsonSchema)]
pub struct RejectedLine {
    /// Its number, from 1.
    line: u64,
    /// Why. Repeats nothing of the line.
    reason: String,
}

/// Imports a file.
pub async fn import(call: Call) -> Result<Reply, Problem> {
    let books = call.books(call.query::<ForMode>()?.mode)?;
    let text = std::str::from_utf8(call.body()).map_err(|_| Problem::field("body", "must be UTF-8 text"))?;
    let kind = call
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let ledger = &**call.api().ledger();
    let import = match kind.as_deref() {
        Some("text/csv") => map::csv(ledger, &books, text).await?,
        Some("application/x-ndjson") => map::json_lines(ledger, &books, text).await?,
        _ => {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send the body as Content-Type: text/csv or application/x-ndjson",
            ));
        }
    };
    note(&call, import.kept).await?;
    let rejected = import.rejected.into_iter().map(|rejected| RejectedLine {
        line: rejected.line,
        reason: rejected.reason,
    });
    let imported = Imported {
        kept: import.kept,
        rejected: rejected.collect(),
    };
    json(StatusCode::OK, &imported)
}

async fn note(call: &Call, count: usize) -> Result<(), Problem> {
    if count == 0 {
        return Ok(());
    }
    let action = Action::InstrumentsChanged {
        count: u64::try_from(count).unwrap_or(u64::MAX),
    };
    Ok(call.api().accounts().note(call.caller()?, action, call.from()).await?)
}
