//! `GET /tap`: requests as they pass, one JSON object a line, for as long as the reader stays.
//!
//! `?route= gateway= method= event= outcome= status= path=` narrow it down on this side, so that a busy sidecar and a narrow
//! question cost little. Every line goes through the log's scrubber, the same net with the same holes mended. A blank line
//! comes when nothing else does: that is how both ends notice that the other has gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

use super::problem;
use crate::app::control::Control;
use crate::telemetry::scrub::{Format, scrub};
use crate::telemetry::tap::{Passed, Reader, Seen};

/// How long a silence may last.
const QUIET: Duration = Duration::from_secs(10);

/// What the reader wants to see; everything must hold.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    route: Option<String>,
    gateway: Option<String>,
    method: Option<String>,
    event: Option<String>,
    outcome: Option<String>,
    /// `402`, or `5xx`.
    status: Option<String>,
    /// The beginning of the path.
    path: Option<String>,
}

impl Filter {
    /// Why it can match nothing, if so.
    fn mistake(&self) -> Option<String> {
        let status = self.status.as_deref()?;
        let (class, rest) = status.split_at_checked(1)?;
        let known = matches!(class, "0" | "1" | "2" | "3" | "4" | "5")
            && (rest == "xx" || rest.len() == 2 && rest.bytes().all(|digit| digit.is_ascii_digit()));
        (!known).then(|| format!("{status:?} is not a status: write 402 or 5xx"))
    }

    fn wants(&self, event: &Passed) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let status = self.status.as_deref().is_none_or(|wanted| {
            let found = event.status.map(|status| format!("{status:03}")).unwrap_or_default();
            match wanted.strip_suffix("xx") {
                Some(class) => !class.is_empty() && found.starts_with(class),
                None => found == wanted,
            }
        });
        status
            && is(&self.route, &event.route)
            && is(&self.gateway, &event.gateway)
            && is(&self.event, event.event)
            && is(&self.outcome, event.outcome)
            && self
                .method
                .as_deref()
                .is_none_or(|method| method.eq_ignore_ascii_case(&event.method))
            && self.path.as_deref().is_none_or(|path| event.path.starts_with(path))
    }
}

/// Streams until the reader leaves.
pub async fn tap(State(control): State<Arc<Control>>, Query(filter): Query<Filter>) -> Response {
    if let Some(mistake) = filter.mistake() {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, &mistake);
    }
    let Some(reader) = control.tap() else {
        return problem(StatusCode::TOO_MANY_REQUESTS, "too many readers look at once");
    };
    // The first line is blank and comes at once: the reader knows that from here on it misses nothing.
    let opening = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"\n")) });
    let lines = stream::unfold((reader, filter), async |(mut reader, filter)| {
        let line = next(&mut reader, &filter).await?;
        Some((Ok(line), (reader, filter)))
    });
    let body = Body::from_stream(stream::StreamExt::chain(opening, lines));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn next(reader: &mut Reader, filter: &Filter) -> Option<Bytes> {
    loop {
        let line = match reader.next(QUIET).await? {
            Seen::Event(event) if filter.wants(&event) => serde_json::to_string(&*event).ok()?,
            Seen::Event(_) => continue,
            Seen::Lost(lost) => json!({ "event": "lost", "lost": lost }).to_string(),
            Seen::Quiet => String::new(),
        };
        let mut line = scrub(line.as_bytes(), Format::Json).into_owned();
        line.push(b'\n');
        return Some(Bytes::from(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_what_it_names_and_nothing_else() {
        let event = Passed {
            route: "checkout".into(),
            gateway: "stripe".into(),
            method: "POST".into(),
            path: "/v1/charges".into(),
            status: Some(402),
            outcome: "forwarded",
            ..Passed::now("request")
        };
        let filter = |query: &str| -> Filter {
            let uri: http::Uri = format!("/tap?{query}").parse().unwrap();
            Query::try_from_uri(&uri).unwrap().0
        };
        for (query, wanted) in [
            ("", true),
            ("route=checkout&gateway=stripe&method=post&status=4xx&path=/v1", true),
            ("status=402", true),
            ("event=request&outcome=forwarded", true),
            ("status=40", false),
            ("status=5xx", false),
            ("route=check", false),
            ("method=GET", false),
            ("path=/v2", false),
            ("event=breaker", false),
        ] {
            assert_eq!(filter(query).wants(&event), wanted, "{query}");
        }
        for (query, mistaken) in [
            ("status=5xx", false),
            ("status=402", false),
            ("status=40", true),
            ("status=x", true),
        ] {
            assert_eq!(filter(query).mistake().is_some(), mistaken, "{query}");
        }
    }
}
