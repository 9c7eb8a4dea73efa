//! Gateways compared, and their breakers, which an operator can force.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use tokio::time::Instant;

use super::plot;
use super::session::{Viewer, Who};
use super::view::{self, Page, csrf};
use super::{Csrf, Dashboard, Failed};
use crate::analytics::gateways::Compared;
use crate::analytics::period::Period;
use crate::app::control::BreakerCommand;
use crate::config::model::{Purpose, Route};

/// `GET /gateways`
pub(super) async fn page(State(dashboard): State<Arc<Dashboard>>, viewer: Viewer) -> Result<Response, Failed> {
    let body = html! {
        div.title { h1 { "Gateways" } }
        div #gateways { (fragment(&dashboard, &viewer).await?) }
    };
    Ok(Page {
        title: "Gateways",
        at: "/gateways",
        viewer: Some(&viewer),
        live: Some("/live/gateways".to_owned()),
        body,
    }
    .show())
}

/// The live part.
pub(super) async fn fragment(dashboard: &Dashboard, viewer: &Viewer) -> Result<Markup, Failed> {
    let compared = match dashboard.analytics() {
        Some(figures) => {
            let period = Period::read(Some("7d"), None, None, figures.ledger().now()).unwrap_or(Period::ALL);
            figures.gateways(viewer.books(), period).await?
        }
        None => Default::default(),
    };
    Ok(html! {
        section {
            h2 { "Breakers" }
            (breakers(dashboard, viewer))
        }
        section {
            h2 { "The last seven days" }
            @if compared.is_empty() {
                (view::empty("No payment was tried at a gateway.", "Gateways are compared here by the payments that routes with a ledger take."))
            } @else {
                div.grid {
                    @for (name, gateway) in &compared { (card(name, gateway)) }
                }
            }
        }
    })
}

fn breakers(dashboard: &Dashboard, viewer: &Viewer) -> Markup {
    let runtime = dashboard.control.runtime();
    let now = Instant::now();
    html! {
        table.cards {
            thead {
                tr {
                    th scope="col" { "Route" }
                    th scope="col" { "Gateway" }
                    th scope="col" { "State" }
                    @if viewer.operates() { th scope="col" { "In the window" } th scope="col" { "Force" } }
                }
            }
            tbody {
                @for route in runtime.routes.iter().filter(|route| concerns(viewer, &route.config)) {
                    @for gateway in &route.config.gateways {
                        @if let Some(breaker) = route.protection.breaker(gateway) {
                            @let seen = breaker.snapshot(now);
                            @let state = seen.state.name();
                            @let name = &route.config.name;
                            tr {
                                td data-label="Route" { (name) }
                                td data-label="Gateway" { strong { (gateway) } }
                                td data-label="State" {
                                    (view::outcome(state))
                                    " " small { "for " (view::long(i64::try_from(seen.since_ms).unwrap_or(i64::MAX))) }
                                    @if let Some(note) = &seen.note { br; small { (note) } }
                                }
                                @if viewer.operates() {
                                    // Of all who use the route together.
                                    td data-label="In the window" {
                                        (seen.calls) " calls, " (seen.failures) " failed"
                                        @if seen.consecutive > 0 { br; small { (seen.consecutive) " failures in a row" } }
                                    }
                                    td data-label="Force" {
                                        form.actions method="post" action={"/gateways/" (name) "/" (gateway)} {
                                            (csrf(viewer))
                                            button.danger name="command" value="open" aria-label={"Force open: " (name) " to " (gateway)} { "Open" }
                                            button.quiet name="command" value="close" aria-label={"Force closed: " (name) " to " (gateway)} { "Close" }
                                            button.quiet name="command" value="reset" aria-label={"By itself: " (name) " to " (gateway)} { "Automatic" }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if viewer.operates() {
            p.hint { "An open breaker sends a gateway nothing: payments go to the next gateway of their route at once. \"Automatic\" forgets what was forced and seen." }
        }
    }
}

/// Whether somebody's payments may go by a route: an operator sees all, a tenant those that are not another's.
pub(super) fn concerns(viewer: &Viewer, route: &Route) -> bool {
    match &viewer.who {
        Who::Operator => true,
        Who::Tenant { id, .. } => {
            route.purpose == Purpose::Applications && route.tenant.as_ref().is_none_or(|owner| owner == id)
        }
    }
}

fn card(name: &str, gateway: &Compared) -> Markup {
    let tried = gateway.tried();
    let ms = |quantile: Option<i64>| quantile.map_or_else(|| "–".to_owned(), view::millis);
    html! {
        article.card {
            h3 { (name) }
            p.big {
                @match gateway.success_tenths() { Some(tenths) => { (tenths / 10) "." (tenths % 10) " %" }, None => "–" }
                small { " of " (view::grouped(&tried.to_string())) " attempts took the payment" }
            }
            (plot::share(gateway.took(), tried))
            dl.facts {
                div { dt { "Median answer" } dd { (ms(gateway.latency(50))) } }
                div { dt { "95 of 100 within" } dd { (ms(gateway.latency(95))) } }
                div { dt { "99 of 100 within" } dd { (ms(gateway.latency(99))) } }
                div { dt { "Saved for others" } dd { (view::grouped(&gateway.recovered.to_string())) } }
            }
            @if !gateway.revenue.is_empty() {
                p { "Recovered here: " @for (index, (code, units)) in gateway.revenue.iter().enumerate() { @if index > 0 { ", " } (view::money(*units, code)) } }
            }
            @let declined: i64 = gateway.declines.values().sum();
            @if declined > 0 {
                h4 { "Declines" }
                ul.outcomes {
                    @for (class, n) in &gateway.declines { li { span { (class.replace('_', " ")) } span.number { (n) } (plot::share(*n, declined)) } }
                }
            }
            @let lost: i64 = gateway.lost.values().sum();
            @if lost > 0 {
                h4 { "Failed here first" }
                ul.outcomes {
                    @for (why, n) in &gateway.lost { li { span { (view::failure(why)) } span.number { (n) } (plot::share(*n, lost)) } }
                }
            }
        }
    }
}

/// What a form says of a breaker.
#[derive(serde::Deserialize)]
pub(super) struct Force {
    command: BreakerCommand,
    csrf: String,
}

impl Csrf for Force {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /gateways/{route}/{gateway}`
pub(super) async fn force(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Path((route, gateway)): Path<(String, String)>,
    Form(asked): Form<Force>,
) -> Result<Response, Failed> {
    viewer.must_operate(&asked)?;
    match dashboard
        .control
        .command_breaker(&route, &gateway, asked.command, "dashboard")
    {
        Some(()) => Ok(super::to("/gateways")),
        None => Err(Failed::new(
            StatusCode::NOT_FOUND,
            "There is no such breaker",
            "The configuration was changed a moment ago: look at the gateways again.",
        )),
    }
}
