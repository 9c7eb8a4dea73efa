//! The list in which an earlier attempt is looked for, page by page.
//!
//! Square's list has no filter by reference, and is behind by some seconds: what it lacks proves nothing. It is asked for
//! oldest first, so that what is made meanwhile comes at its end. A reference of Sentinel's own is in one payment only,
//! and the first find decides; the application's own may be in another one of a page that was not read.

use serde_json::{Map, Value};

use super::encode;
use crate::gateway::canonical::EarlierAttempt;
use crate::gateway::{Account, Incoming, Outgoing, json};

/// What the pages so far have of the attempt as one list, and the next page. A list that is not whole keeps its cursor.
pub(super) fn joined(
    earlier: &EarlierAttempt,
    account: &Account,
    so_far: Option<Incoming>,
    answer: Incoming,
) -> (Incoming, Option<Outgoing>) {
    let list = json::object(&answer.body).filter(|body| {
        let fields = |body: &Map<String, Value>| body.keys().all(|field| field == "payments" || field == "cursor");
        answer.status.is_success() && fields(body)
    });
    let (Some(reference), Some(mut list)) = (&earlier.reference, list) else {
        return (answer, None);
    };
    let payments = |list: &mut Map<String, Value>| match list.remove("payments") {
        Some(Value::Array(payments)) => payments,
        _ => Vec::new(),
    };
    let before = so_far.and_then(|answer| json::object(&answer.body));
    let mut found = before.map(|mut before| payments(&mut before)).unwrap_or_default();
    let carries = |payment: &Value| payment.get("reference_id").and_then(Value::as_str) == Some(reference.as_str());
    found.extend(payments(&mut list).into_iter().filter(carries));
    let decided = found.len() > usize::from(reference != &account.reference);
    let cursor = list.get("cursor").and_then(Value::as_str).map(str::to_owned);
    let next = cursor.filter(|cursor| !decided && !cursor.is_empty());
    let next = next.and_then(|cursor| encode::listing(earlier, account, Some(&cursor)));
    list.insert("payments".to_owned(), found.into());
    let body = json::body(&list);
    (Incoming { body, ..answer }, next)
}
