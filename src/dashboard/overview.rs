//! The overview: what a period came to, live.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};

use super::plot::{self, Bar};
use super::session::Viewer;
use super::view::{self, Page};
use super::{Dashboard, Failed};
use crate::analytics::overview::{Overview, Step};
use crate::analytics::payments::Wanted;
use crate::analytics::period::{Period, rfc3339};
use crate::analytics::{Analytics, DAY, HOUR};

/// Recovered payments shown beside the figures.
const LATEST: usize = 6;

/// What the page is asked for.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    pub period: Option<String>,
}

impl Asked {
    pub fn word(&self) -> &'static str {
        match self.period.as_deref() {
            Some("24h") => "24h",
            Some("7d") => "7d",
            Some("90d") => "90d",
            Some("all") => "all",
            _ => "30d",
        }
    }

    fn period(&self, now: i64) -> Period {
        Period::read(Some(self.word()), None, None, now).unwrap_or(Period::ALL)
    }

    /// The width of a bar.
    fn width(&self) -> i64 {
        match self.word() {
            "24h" => HOUR,
            "7d" => 6 * HOUR,
            "90d" | "30d" => DAY,
            _ => 7 * DAY,
        }
    }
}

/// `GET /`
pub(super) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let Some(figures) = dashboard.analytics() else {
        return Ok(no_figures(&viewer));
    };
    let fragment = fragment(figures, &viewer, &asked).await?;
    let periods = [
        ("24h", "24 hours"),
        ("7d", "7 days"),
        ("30d", "30 days"),
        ("90d", "90 days"),
        ("all", "All"),
    ];
    let body = html! {
        div.title {
            h1 { "Overview" }
            nav.choice aria-label="Period" {
                @for (word, name) in periods {
                    a href={"/?period=" (word)} aria-current=[(asked.word() == word).then_some("true")] { (name) }
                }
            }
        }
        div #overview { (fragment) }
    };
    Ok(Page {
        title: "Overview",
        at: "/",
        viewer: Some(&viewer),
        live: Some(format!("/live/overview?period={}", asked.word())),
        body,
    }
    .show())
}

/// What a dashboard without a ledger says.
pub(super) fn no_figures(viewer: &Viewer) -> Response {
    let says = "Payments are recorded, and failed ones recovered, once the configuration has a `ledger`. The gateways and \
                their breakers can be looked at all the same.";
    let body = html! {
        h1 { "Overview" }
        (view::empty("There are no figures here.", says))
        p { a.button href="/gateways" { "To the gateways" } }
    };
    Page {
        title: "Overview",
        at: "/",
        viewer: Some(viewer),
        live: None,
        body,
    }
    .show()
}

/// The live part.
pub(super) async fn fragment(figures: &Arc<Analytics>, viewer: &Viewer, asked: &Asked) -> Result<Markup, Failed> {
    let now = figures.ledger().now();
    let (books, period) = (viewer.books(), asked.period(now));
    let overview = figures.overview(books.clone(), period).await?;
    let steps = figures.over_time(books.clone(), period, asked.width()).await?;
    let saved = Wanted {
        tenant: books,
        failed: true,
        limit: LATEST,
        ..Wanted::default()
    };
    let saved = figures.payments(saved).await?.rows;
    if overview.payments == 0 && saved.is_empty() {
        let says = "Point an application's gateway SDK at this Sentinel and pay once: the payment is here a moment later. \
                    `sentinel env stripe --lang node` prints the lines to change.";
        return Ok(view::empty("No payment yet.", says));
    }
    let currency = overview.main_currency().unwrap_or("").to_owned();
    Ok(html! {
        (tiles(&overview, &currency))
        div.plots {
            (plot::bars("Payments, and those that failed at their first gateway", &payments(&steps, asked.width()), "payments"))
            @if !currency.is_empty() {
                (plot::bars(&format!("Recovered revenue, {currency}"), &revenue(&steps, &currency, asked.width()), "revenue"))
            }
        }
        div.columns {
            section {
                h2 { "By currency" }
                @if overview.money.is_empty() { (view::empty("Nothing was captured.", "")) } @else { (money(&overview)) }
            }
            section {
                h2 { "What became of them" }
                ul.outcomes {
                    @for (word, n) in &overview.outcomes {
                        li {
                            a href={"/payments?kind=payments&outcome=" (word) "&period=" (asked.word())} { (view::outcome(word)) }
                            span.number { (view::grouped(&n.to_string())) }
                            (plot::share(*n, overview.payments))
                        }
                    }
                }
            }
        }
        section {
            h2 { "Latest failovers" }
            @if saved.is_empty() {
                (view::empty("No payment has failed at its first gateway.", "When one does, it is here within a second, with what became of it."))
            } @else {
                (view::payments(&saved, viewer.operates()))
                p { a href={"/payments?kind=failovers&period=" (asked.word())} { "All failovers" } }
            }
        }
    })
}

fn tiles(overview: &Overview, currency: &str) -> Markup {
    let money = overview.money.get(currency).copied().unwrap_or_default();
    let rate = overview.failover_rate();
    let doubt: i64 = ["in_doubt", "manual"]
        .iter()
        .filter_map(|word| overview.outcomes.get(*word))
        .sum();
    let recovered = match overview.failed {
        0 => "nothing to recover".to_owned(),
        failed => format!(
            "{} % of {}",
            overview.recovered * 100 / failed,
            view::grouped(&failed.to_string())
        ),
    };
    let more = overview.money.values().filter(|money| money.revenue > 0).count();
    html! {
        dl.tiles {
            div { dt { "Payments" } dd { (view::grouped(&overview.payments.to_string())) } dd.small { (rate) " failed at their first gateway" } }
            div.good { dt { "Recovered" } dd { (view::grouped(&overview.recovered.to_string())) } dd.small { (recovered) } }
            div.good {
                dt { "Revenue saved" }
                dd { @if currency.is_empty() { "0" } @else { (view::money(money.revenue, currency)) } }
                dd.small { @if more > 1 { "and " (more - 1) " more " (if more == 2 { "currency" } else { "currencies" }) " below" } @else { "captured of recovered payments" } }
            }
            div {
                dt { "Average recovery" }
                dd { @match overview.recovery_tenths() { Some(tenths) => (view::millis(tenths / 10)), None => span.faint { "–" } } }
                dd.small { "from failure to success elsewhere" }
            }
            div class=[(doubt > 0).then_some("bad")] {
                dt { "In doubt" }
                dd { (view::grouped(&doubt.to_string())) }
                dd.small { @if doubt > 0 { a href="/doubt" { "Look at them" } } @else { "every outcome is proven" } }
            }
        }
    }
}

fn money(overview: &Overview) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Money by currency" {
            table {
                thead {
                    tr {
                        th scope="col" { "Currency" }
                        th.number scope="col" { "Captured" }
                        th.number scope="col" { "Recovered" }
                        th.number scope="col" { "Refunded of it" }
                    }
                }
                tbody {
                    @for (code, money) in &overview.money {
                        tr {
                            th scope="row" { (code) }
                            td.number { (view::money(money.captured, code)) }
                            td.number { (view::money(money.revenue, code)) }
                            td.number { (view::money(money.refunded, code)) }
                        }
                    }
                }
            }
        }
    }
}

/// When a bar begins, as briefly as its width allows.
fn when(start: i64, width: i64) -> String {
    let text = rfc3339(start);
    match width {
        w if w < DAY => text.get(5..16).unwrap_or("").replace('T', " "),
        _ => text.get(..10).unwrap_or("").to_owned(),
    }
}

fn payments(steps: &[Step], width: i64) -> Vec<Bar> {
    let bar = |step: &Step| Bar {
        when: when(step.start, width),
        value: step.figures.payments,
        marked: step.figures.failed,
        says: format!(
            "{} payments, {} failed at their first gateway, {} recovered",
            step.figures.payments, step.figures.failed, step.figures.recovered
        ),
    };
    steps.iter().map(bar).collect()
}

fn revenue(steps: &[Step], currency: &str, width: i64) -> Vec<Bar> {
    let bar = |step: &Step| {
        let revenue = step.figures.money.get(currency).map_or(0, |money| money.revenue);
        Bar {
            when: when(step.start, width),
            value: revenue,
            marked: 0,
            says: format!("{} {currency}", crate::analytics::decimal(revenue, currency)),
        }
    };
    steps.iter().map(bar).collect()
}
