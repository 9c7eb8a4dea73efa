//! Payments: searching, and one payment's story.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use uuid::Uuid;

use super::session::Viewer;
use super::view::{self, Page};
use super::{Dashboard, Failed, doubt, gateways, overview};
use crate::admin::api::figures::file;
use crate::analytics::Analytics;
use crate::analytics::export::Format;
use crate::analytics::fold::PaymentOutcome;
use crate::analytics::payments::{Listed, Wanted};
use crate::analytics::period::Period;
use crate::money::Currency;
use crate::payment::timeline::{EventView, Found, Timeline};

const PAGE: usize = 50;

/// What is searched for, as the page's address has it.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    period: String,
    from: String,
    to: String,
    gateway: String,
    route: String,
    outcome: String,
    currency: String,
    kind: String,
    after: Option<i64>,
    format: String,
}

impl Asked {
    fn wanted(&self, viewer: &Viewer, now: i64) -> Result<Wanted, String> {
        let some = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        let (span, from, to) = (some(&self.period), some(&self.from), some(&self.to));
        let period = match (&span, &from, &to) {
            (None, None, None) => None,
            _ => Some(
                Period::read(span.as_deref(), from.as_deref(), to.as_deref(), now)
                    .map_err(|wrong| format!("The time {wrong}."))?,
            ),
        };
        let currency = match some(&self.currency) {
            None => None,
            Some(code) => Some(
                Currency::parse(&code)
                    .map_err(|_| "A currency has three letters, as in EUR.".to_owned())?
                    .code()
                    .to_owned(),
            ),
        };
        Ok(Wanted {
            tenant: viewer.books(),
            period,
            gateway: some(&self.gateway),
            route: some(&self.route),
            outcome: PaymentOutcome::parse(self.outcome.trim()),
            currency,
            failed: matches!(self.kind.as_str(), "failovers" | "recovered"),
            recovered: self.kind == "recovered",
            before: self.after,
            limit: PAGE,
        })
    }

    /// The address of the same search with something else.
    fn address(&self, path: &str, name: &str, value: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("q", &self.q),
            ("period", &self.period),
            ("from", &self.from),
            ("to", &self.to),
            ("gateway", &self.gateway),
            ("route", &self.route),
            ("outcome", &self.outcome),
            ("currency", &self.currency),
            ("kind", &self.kind),
        ];
        for (field, text) in fields
            .into_iter()
            .filter(|(field, text)| !text.is_empty() && *field != name)
        {
            query.append_pair(field, text);
        }
        query.append_pair(name, value);
        format!("{path}?{}", query.finish())
    }

    fn restricts(&self) -> bool {
        self.after.is_some()
            || [
                &self.q,
                &self.period,
                &self.from,
                &self.to,
                &self.gateway,
                &self.route,
                &self.outcome,
                &self.currency,
                &self.kind,
            ]
            .iter()
            .any(|field| !field.is_empty())
    }
}

/// `GET /payments`
pub(super) async fn list(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let Some(figures) = dashboard.analytics() else {
        return Ok(overview::no_figures(&viewer));
    };
    let (wanted, wrong) = match asked.wanted(&viewer, figures.ledger().now()) {
        Ok(wanted) => (wanted, None),
        Err(wrong) => (
            Wanted {
                tenant: viewer.books(),
                limit: PAGE,
                ..Wanted::default()
            },
            Some(wrong),
        ),
    };
    match asked.format.as_str() {
        "csv" => return Ok(file(figures, wanted, Format::Csv)),
        "ndjson" => return Ok(file(figures, wanted, Format::Ndjson)),
        _ => {}
    }
    let searched = !asked.q.trim().is_empty();
    let (rows, next) = if searched {
        let found = figures.search(viewer.books(), &asked.q).await?;
        // One answer is what was looked for.
        if let [only] = found.as_slice() {
            return Ok(super::to(&format!("/payments/{}", only.id)));
        }
        (found, None)
    } else {
        let page = figures.payments(wanted).await?;
        (page.rows, page.next)
    };
    let body = html! {
        div.title {
            h1 { "Payments" }
            div.choice {
                a href=(asked.address("/payments", "format", "csv")) download="payments.csv" { "CSV" }
                a href=(asked.address("/payments", "format", "ndjson")) download="payments.ndjson" { "NDJSON" }
            }
        }
        (search(&dashboard, &viewer, &asked))
        @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) " The other filters were left out, too." } }
        div #payments { (table(&rows, &viewer, &asked, searched)) }
        @if let Some(next) = next {
            nav.pages aria-label="Pages" {
                @if asked.after.is_some() { a.button.quiet href=(asked.address("/payments", "after", "")) { "Newest" } }
                a.button href=(asked.address("/payments", "after", &next.to_string())) { "Older payments" }
            }
        }
    };
    Ok(Page {
        title: "Payments",
        at: "/payments",
        viewer: Some(&viewer),
        // A page that somebody leafs through stays as it is.
        live: (!asked.restricts()).then(|| "/live/payments".to_owned()),
        body,
    }
    .show())
}

/// The newest payments, live.
pub(super) async fn fragment(figures: &Arc<Analytics>, viewer: &Viewer) -> Result<Markup, Failed> {
    let wanted = Wanted {
        tenant: viewer.books(),
        limit: PAGE,
        ..Wanted::default()
    };
    let rows = figures.payments(wanted).await?.rows;
    Ok(table(&rows, viewer, &Asked::default(), false))
}

fn table(rows: &[Listed], viewer: &Viewer, asked: &Asked, searched: bool) -> Markup {
    html! {
        @if !rows.is_empty() {
            (view::payments(rows, viewer.operates()))
        } @else if searched {
            (view::empty("No payment has that name.", "Sentinel's own id finds it by its first eight characters; an id that the gateway or your application gave, and an order reference, must be whole."))
        } @else if asked.restricts() {
            (view::empty("No payment is like that.", "Take a filter away, or look at a longer period."))
            p { a href="/payments" { "All payments" } }
        } @else {
            (view::empty("No payment yet.", "The first one that passes through Sentinel is here a moment later."))
        }
    }
}

fn search(dashboard: &Dashboard, viewer: &Viewer, asked: &Asked) -> Markup {
    let runtime = dashboard.control.runtime();
    let routes = runtime.config.routes.iter();
    let routes = routes.filter(|route| gateways::concerns(viewer, route));
    let routes = routes.map(|route| route.name.clone()).collect();
    let kinds = [
        ("", "All payments"),
        ("failovers", "Failed at their first gateway"),
        ("recovered", "Recovered"),
    ];
    let periods = [
        ("", "Any time"),
        ("24h", "24 hours"),
        ("7d", "7 days"),
        ("30d", "30 days"),
        ("90d", "90 days"),
    ];
    let choice = |name: &str, chosen: &str, all: &str, values: Vec<String>| {
        html! {
            select name=(name) id=(name) {
                option value="" { (all) }
                @for value in values {
                    option value=(value) selected[value == chosen] { (value.replace('_', " ")) }
                }
            }
        }
    };
    let outcomes = PaymentOutcome::ALL
        .iter()
        .map(|outcome| outcome.name().to_owned())
        .collect();
    html! {
        form.search method="get" action="/payments" role="search" {
            div.find {
                label for="q" { "Find a payment" }
                input type="search" id="q" name="q" value=(asked.q) placeholder="Payment id, gateway id or order reference" autocomplete="off" spellcheck="false";
                button type="submit" { "Find" }
            }
        }
        form.filters method="get" action="/payments" aria-label="Filters" {
            div { label for="kind" { "Show" } select name="kind" id="kind" {
                @for (value, name) in kinds { option value=(value) selected[value == asked.kind] { (name) } }
            } }
            div { label for="period" { "Opened" } select name="period" id="period" {
                @for (value, name) in periods { option value=(value) selected[value == asked.period] { (name) } }
            } }
            div { label for="outcome" { "Outcome" } (choice("outcome", &asked.outcome, "Any", outcomes)) }
            div { label for="gateway" { "Gateway" } (choice("gateway", &asked.gateway, "Any", runtime.config.gateways.keys().cloned().collect())) }
            div { label for="route" { "Route" } (choice("route", &asked.route, "Any", routes)) }
            div { label for="currency" { "Currency" } input id="currency" name="currency" value=(asked.currency) size="4" maxlength="3" placeholder="Any" autocomplete="off"; }
            div.go { button.quiet type="submit" { "Filter" } }
        }
    }
}

/// `GET /payments/{id}`
pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    let Some(figures) = dashboard.analytics() else {
        return Ok(overview::no_figures(&viewer));
    };
    let id: Option<Uuid> = id.parse().ok();
    let Some(story) = (match id {
        Some(id) => story(figures, &viewer, id).await?,
        None => None,
    }) else {
        let says = "It may be another account's, or only its beginning was given: search for it.";
        return Ok(view::sorry(
            Some(&viewer),
            StatusCode::NOT_FOUND,
            "There is no such payment",
            says,
        ));
    };
    let name = story.summary.id;
    let body = html! {
        nav.crumbs aria-label="Where this is" { a href="/payments" { "Payments" } " / " span { (view::short(&name.to_string())) } }
        div #payment { (told(&story, &viewer)) }
    };
    Ok(Page {
        title: "Payment",
        at: "/payments",
        viewer: Some(&viewer),
        live: Some(format!("/live/payment?id={name}")),
        body,
    }
    .show())
}

/// One payment's story, when the viewer may see it.
pub(super) async fn story(figures: &Arc<Analytics>, viewer: &Viewer, id: Uuid) -> Result<Option<Timeline>, Failed> {
    let Some(payment) = figures.ledger().get(id).await? else {
        return Ok(None);
    };
    if viewer.books().is_some_and(|books| books != payment.tenant) {
        return Ok(None);
    }
    let found = Found::read(figures.ledger().as_ref(), payment).await?;
    Ok(Some(Timeline::of(&found)))
}

/// The story as it is shown.
pub(super) fn told(story: &Timeline, viewer: &Viewer) -> Markup {
    let summary = &story.summary;
    let moved = summary.gateway != summary.first_gateway;
    let word = if summary.in_doubt { "in_doubt" } else { &summary.state };
    html! {
        div.title {
            h1 {
                @match (&summary.amount, &summary.currency) {
                    (Some(amount), Some(currency)) => { (view::grouped(amount)) " " span.currency { (currency) } },
                    _ => "Payment",
                }
                " " (view::outcome(word))
            }
        }
        @if !story.says.is_empty() {
            div class={"verdict " (if summary.in_doubt || summary.manual || summary.owes > 0 { "bad" } else { "plain" })} {
                @for sentence in &story.says { p { (sentence) } }
            }
        }
        dl.facts {
            div { dt { "Gateway" } dd { @if moved { (summary.first_gateway) " → " } strong { (summary.gateway) } } }
            div { dt { "Opened" } dd { (view::time(summary.created_at)) } }
            div { dt { "Last change" } dd { (view::time(summary.updated_at)) } }
            div { dt { "Route" } dd { (summary.route) } }
            @if viewer.operates() { div { dt { "Tenant" } dd { (summary.tenant) } } }
            div { dt { "The application was told" } dd { @match &story.told { Some(told) => (told), None => span.faint { "nothing for good yet" } } } }
            div { dt { "Payment" } dd { code { (summary.id) } } }
        }
        @if viewer.operates() && (summary.in_doubt || summary.manual || summary.owes > 0) { (doubt::guide(story, viewer)) }
        h2 { "What happened" }
        ol.timeline {
            @for event in &story.events { (event_line(event, summary.created_at)) }
        }
        div.columns {
            section {
                h2 { "Attempts" }
                (attempts(story))
            }
            section {
                h2 { "Ids that lead here" }
                @if story.ids.is_empty() { (view::empty("None yet.", "Gateways' ids are here once they have answered.")) } @else {
                    table.cards {
                        thead { tr { th scope="col" { "Id" } th scope="col" { "Whose" } th scope="col" { "Of" } } }
                        tbody {
                            @for id in &story.ids {
                                tr {
                                    td data-label="Id" { code { (id.id) } }
                                    td data-label="Whose" { (id.gateway.as_deref().unwrap_or("the application")) }
                                    td data-label="Of" { (id.kind) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn event_line(event: &EventView, opened: i64) -> Markup {
    let found = event
        .record
        .pointer("/finding/outcome")
        .map(|outcome| outcome.as_str().unwrap_or("refused"));
    let tone = match event.kind.as_str() {
        "attempt_observed" => match found {
            Some("succeeded" | "authorised" | "fenced") => "good",
            Some("unknown" | "conflict") => "bad",
            _ => "warning",
        },
        "winner" | "response_sealed" | "obligation_closed" => "good",
        "failed" | "obligation_opened" | "failover_licensed" | "abandoned" | "winner_revoked" => "warning",
        "parked" | "manual_hold" => "bad",
        _ => "plain",
    };
    html! {
        li class=(tone) {
            div.when { (view::time(event.at)) span.after { "+" (view::millis(event.at - opened)) } }
            div.what {
                p { (capital(&event.text)) }
                @if event.evidence.is_some() || event.attempt.is_some() {
                    details {
                        summary { @if event.evidence.is_some() { "Evidence" } @else { "Record" } }
                        @if let Some(evidence) = &event.evidence { p.evidence { (evidence) } }
                        pre { code { (serde_json::to_string_pretty(&event.record).unwrap_or_default()) } }
                    }
                }
            }
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn attempts(story: &Timeline) -> Markup {
    html! {
        @if story.attempts.is_empty() { (view::empty("None.", "")) } @else {
            div.scroll tabindex="0" role="region" aria-label="Attempts" {
                table {
                    thead { tr { th scope="col" { "#" } th scope="col" { "Gateway" } th scope="col" { "For" } th scope="col" { "Outcome" } } }
                    tbody {
                        @for attempt in &story.attempts {
                            tr {
                                td { (attempt.n) }
                                td { (attempt.gateway) @if attempt.winner { " " span.badge.good { "has it" } } @if attempt.owed { " " span.badge.bad { "owed" } } @if attempt.released { " " span.badge.plain { "given back" } } }
                                td { (attempt.leg) @if let Some(of) = attempt.of { " of " (of) } @if let Some(amount) = &attempt.amount { br; small { (amount) } } }
                                td { (attempt.outcome.replace('_', " ")) @if let Some(decline) = &attempt.decline { br; small { (decline) } } @if attempt.sends > 1 { br; small { "sent " (attempt.sends) " times" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}
