//! The audit trail.

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reply;
use super::call::{Call, json, time};
use super::problem::Problem;
use crate::account::audit::{self, Action, Actor};

const PAGE: usize = 50;
const LONGEST_PAGE: usize = 500;

/// Which part of the trail.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Lines at most, 1 to 500. Default 50.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
    /// The `next` of the page before.
    #[schemars(length(max = 64))]
    after: Option<String>,
}

/// What somebody did about the account.
#[derive(Serialize, JsonSchema)]
pub struct Line {
    /// When (RFC 3339).
    at: String,
    /// The client's address.
    from: String,
    /// Who.
    #[serde(flatten)]
    actor: Actor,
    /// What.
    #[serde(flatten)]
    action: Action,
}

/// A part of the trail.
#[derive(Serialize, JsonSchema)]
pub struct Trail {
    /// The newest first.
    lines: Vec<Line>,
    /// What the next page is had for, when there may be one.
    next: Option<String>,
}

/// Shows the trail.
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let page: Page = call.query()?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(Problem::field("limit", "must be 1 to 500"));
    }
    if page.after.as_ref().is_some_and(|after| after.len() > 64) {
        return Err(Problem::field("after", "is no page's `next`"));
    }
    let ledger = &**call.api().ledger();
    let lines = audit::lines(ledger, &call.caller()?.tenant, page.after.as_deref(), limit).await?;
    let next = lines
        .last()
        .filter(|_| lines.len() == limit)
        .map(|(cursor, _)| cursor.clone());
    let lines = lines
        .into_iter()
        .map(|(_, line)| Line {
            at: time(line.at),
            from: line.from.to_string(),
            actor: line.actor,
            action: line.action,
        })
        .collect();
    json(StatusCode::OK, &Trail { lines, next })
}
