//! The configuration in force, and how it came to be. For operators; no secret has a form that could be shown.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};

use super::login::Bare;
use super::session::Viewer;
use super::view::{self, Page, csrf};
use super::{Dashboard, Failed};
use crate::app::control::Reload;
use crate::config::model::Listen;

/// `GET /configuration`
pub(super) async fn page(State(dashboard): State<Arc<Dashboard>>, viewer: Viewer) -> Result<Response, Failed> {
    viewer.operator()?;
    let runtime = dashboard.control.runtime();
    let config = &runtime.config;
    let mut reloads = dashboard.control.reloads();
    reloads.reverse();
    let body = html! {
        div.title {
            h1 { "Configuration" }
            form method="post" action="/configuration/reload" { (csrf(&viewer)) button.quiet type="submit" { "Load the file again" } }
        }
        p { "In force: " code { (config.hash.get(..12).unwrap_or(&config.hash)) } ", version " (env!("CARGO_PKG_VERSION")) "." }
        section {
            h2 { "Routes" }
            table.cards {
                thead { tr { th scope="col" { "Route" } th scope="col" { "Listens" } th scope="col" { "Gateways in order" } th scope="col" { "Failover" } } }
                tbody {
                    @for route in &config.routes {
                        tr {
                            td data-label="Route" { strong { (route.name) } }
                            td data-label="Listens" {
                                @for listen in &route.listen { code { (Listen::url(listen)) } br; }
                                @if !route.path_prefix.is_empty() { "under " code { (route.path_prefix) } }
                            }
                            td data-label="Gateways" { (route.gateways.join(" → ")) }
                            td data-label="Failover" { (format!("{:?}", route.failover.mode).to_lowercase()) }
                        }
                    }
                }
            }
        }
        section {
            h2 { "Gateways" }
            table.cards {
                thead { tr { th scope="col" { "Gateway" } th scope="col" { "Speaks" } th scope="col" { "Address" } } }
                tbody {
                    @for gateway in config.gateways.values() {
                        tr {
                            td data-label="Gateway" { strong { (gateway.name) } }
                            td data-label="Speaks" { (gateway.dialect.name()) }
                            td data-label="Address" { code { (if gateway.endpoint.tls { "https" } else { "http" }) "://" (gateway.endpoint.host) ":" (gateway.endpoint.port) } }
                        }
                    }
                }
            }
        }
        section {
            h2 { "Reloads" }
            @if reloads.is_empty() { (view::empty("None since the start.", "A changed file is taken over within two seconds; a broken one is rejected here, and the old one stays in force.")) }
            @for reload in &reloads { (told(reload)) }
        }
        section {
            h2 { "As loaded" }
            details { summary { "Everything, with every default" } pre.config tabindex="0" { code { (format!("{config:#?}")) } } }
        }
    };
    Ok(Page {
        title: "Configuration",
        at: "/configuration",
        viewer: Some(&viewer),
        live: None,
        body,
    }
    .show())
}

fn told(reload: &Reload) -> Markup {
    let tone = match reload.result {
        "rejected" => "bad",
        "applied" => "good",
        _ => "plain",
    };
    html! {
        article.reload {
            p {
                (view::time(i64::try_from(reload.at).unwrap_or(0).saturating_mul(1000)))
                " " span class={"badge " (tone)} { (reload.result) } " by " (reload.trigger) ", in force then: " code { (reload.hash.get(..12).unwrap_or(&reload.hash)) }
            }
            @if !reload.changes.is_empty() { ul { @for change in &reload.changes { li { (change) } } } }
            @if !reload.problems.is_empty() { ul.wrong { @for problem in &reload.problems { li { (problem) } } } }
        }
    }
}

/// `POST /configuration/reload`
pub(super) async fn reload(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Form(asked): Form<Bare>,
) -> Result<Response, Failed> {
    viewer.must_operate(&asked)?;
    // Either way the page tells.
    let _ = dashboard.control.reload("admin").await;
    Ok(super::to("/configuration"))
}
