//! The list in which an earlier attempt is looked for by reference, page by page.
//!
//! The list of intents is consistent at once, unlike the search index. It is sorted by time, the newest first, and
//! `starting_after` names the last intent of the page before (docs.stripe.com/api/pagination): what is made meanwhile comes
//! before that place, so that pages neither repeat nor leave out what was there when the first was asked for.
//!
//! Nothing that a list lacks proves anything, whole or not: the request may still be on its way. What has to be right is
//! that a find is the attempt:
//!
//! - **Sentinel's own reference** is in one payment only. The first find decides. Where the attempt must be, if it was
//!   not long on its way, is looked at first: the minute before and after it was sent. An account would have to make
//!   several payments a second to hide it there, however much later it is asked for.
//! - **The merchant's order** stands in the metadata of the application's own bytes, and in those of another try for the
//!   same order as well. Only the one that has it in the whole time in question is the attempt, and while pages are left
//!   unread there may be another one. Nor is it the attempt when it came to nothing: then it may be an earlier try, and
//!   what is looked for still on its way.

use serde_json::{Value, json};

use super::{encode, observe};
use crate::gateway::canonical::{EarlierAttempt, ListFilter};
use crate::gateway::{Account, Incoming, Outgoing, json as reading};

/// Before the sending, in seconds: how far clocks may differ.
const BEFORE: i64 = 60;

/// After the sending, in seconds: where a request lies that was not long on its way.
const SOON: i64 = 60;

/// After the sending, in seconds: the longest that a request is taken to be on its way.
const LATEST: i64 = 3600;

/// As many as Stripe lets a page have.
const PAGE: usize = 100;

/// The first page.
pub fn first(earlier: &EarlierAttempt, account: &Account) -> Option<Outgoing> {
    let reference = earlier.reference.as_ref()?;
    let to = match reference == &account.reference {
        true => SOON,
        false => LATEST,
    };
    encode::listing(&window(earlier, -BEFORE, to), account)
}

/// What the pages so far have of the attempt as one list, and the next page.
pub fn joined(
    earlier: &EarlierAttempt,
    account: &Account,
    asked: &Outgoing,
    so_far: Option<Incoming>,
    answer: Incoming,
) -> (Incoming, Option<Outgoing>) {
    let native = answer.status.is_success() && observe::native(&answer);
    let list = reading::object(&answer.body).filter(|list| native && list.get("object").is_some_and(|is| is == "list"));
    let data = list.as_ref().and_then(|list| list.get("data")?.as_array());
    let (Some(reference), Some(data)) = (&earlier.reference, data) else {
        return (answer, None);
    };
    let before = so_far.and_then(|answer| reading::object(&answer.body));
    let before = before.and_then(|mut before| match before.remove("data") {
        Some(Value::Array(data)) => Some(data),
        _ => None,
    });
    let mut found = before.unwrap_or_default();
    let carries = |item: &&Value| item.as_object().is_some_and(|item| observe::carries(item, reference));
    found.extend(data.iter().filter(carries).cloned());
    let own = reference == &account.reference;
    let decided = found.len() > usize::from(!own);
    let last = data.last().and_then(|item| item.get("id")?.as_str());
    // What does not say that it is the last page is not taken for it.
    let last_page = list.as_ref().and_then(|list| list.get("has_more")?.as_bool()) == Some(false);
    let near = own && asked_until(asked) == Some(earlier.sent_at + SOON);
    let next = match (decided, last_page, last) {
        (true, ..) => None,
        (false, true, _) if near => Some(window(earlier, SOON + 1, LATEST)),
        (false, false, Some(last)) => Some(ListFilter {
            starting_after: Some(last.to_owned()),
            ..match (own, near) {
                (true, false) => window(earlier, SOON + 1, LATEST),
                (true, true) => window(earlier, -BEFORE, SOON),
                (false, _) => window(earlier, -BEFORE, LATEST),
            }
        }),
        _ => None,
    };
    let next = next.and_then(|next| encode::listing(&next, account));
    let body = json!({"object": "list", "data": found, "has_more": !last_page || next.is_some()});
    let answer = Incoming {
        body: body.to_string().into(),
        ..answer
    };
    (answer, next)
}

/// One page of the intents between these times, in seconds after the sending.
fn window(earlier: &EarlierAttempt, from: i64, to: i64) -> ListFilter {
    ListFilter {
        refunds_of: None,
        limit: PAGE,
        starting_after: None,
        created_from: Some(earlier.sent_at + from),
        created_to: Some(earlier.sent_at + to),
    }
}

/// Until when a page was asked for.
fn asked_until(asked: &Outgoing) -> Option<i64> {
    let (_, query) = asked.target.split_once('?')?;
    let mut fields = form_urlencoded::parse(query.as_bytes());
    let (_, until) = fields.find(|(name, _)| name == "created[lte]")?;
    until.parse().ok()
}
