//! Statements: a list, and one that prints.

use std::sync::Arc;

use axum::Form;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

use super::login::Bare;
use super::session::{Viewer, Who};
use super::view::{self, Page, csrf};
use super::{Dashboard, Failed, overview};
use crate::account::Caller;
use crate::account::api_key::Mode;
use crate::account::audit::{Action, Actor};
use crate::admin::api::statements::attachment;
use crate::analytics::billing::{self, After, Entry, Rate, Statement};
use crate::analytics::decimal;
use crate::analytics::period::Month;

/// Lines on the page; the file has all of them.
const LINES: usize = 500;

fn rate(dashboard: &Dashboard) -> Rate {
    Rate(dashboard.control.runtime().config.accounts.fee.millionths)
}

fn month(statement: &Statement) -> String {
    Month::from_number(statement.month).map_or_else(String::new, |month| month.to_string())
}

/// Whose statements somebody may see: a tenant its own, an operator everybody's.
fn may_see(viewer: &Viewer, tenant: &str) -> bool {
    match &viewer.who {
        Who::Operator => true,
        Who::Tenant { id, .. } => Caller::books(id, Mode::Live) == tenant,
    }
}

/// `GET /billing`
pub(super) async fn list(State(dashboard): State<Arc<Dashboard>>, viewer: Viewer) -> Result<Response, Failed> {
    let Some(figures) = dashboard.analytics() else {
        return Ok(overview::no_figures(&viewer));
    };
    let tenants = match &viewer.who {
        Who::Tenant { id, .. } => vec![Caller::books(id, Mode::Live)],
        Who::Operator => figures.billed_tenants().await?,
    };
    let rate = rate(&dashboard);
    let mut statements = Vec::new();
    for tenant in tenants {
        statements.extend(figures.statements(&tenant, rate).await?);
    }
    statements.sort_by(|a, b| (b.month, &a.tenant, &a.currency).cmp(&(a.month, &b.tenant, &b.currency)));
    let collected = super::fees::gateway(&dashboard).is_some();
    let mut rows = Vec::with_capacity(statements.len());
    for statement in statements {
        let due = super::fees::due(&dashboard, &statement).await?;
        rows.push((statement, due));
    }
    let body = html! {
        div.title { h1 { "Billing" } }
        p.hint { "The fee is " (rate) " of what was captured of recovered payments, less refunds of them: computed once a statement, rounded to the currency's minor unit, halves away from zero. A month is closed after its end and changes no more." }
        @if rows.is_empty() {
            (view::empty("Nothing to bill.", "A statement begins with the first payment that is recovered: nothing else costs anything."))
        } @else {
            table.cards {
                thead { tr {
                    th scope="col" { "Month" }
                    @if viewer.operates() { th scope="col" { "Tenant" } }
                    th scope="col" { "Recovered" } th scope="col" { "Refunded" } th scope="col" { "Net" } th scope="col" { "Fee" } th scope="col" { "State" }
                    @if collected { th scope="col" { "Payment" } }
                } }
                tbody {
                    @for (statement, due) in &rows {
                        @let code = &statement.currency;
                        tr {
                            td data-label="Month" { a href={"/billing/" (statement.tenant) "/" (month(statement)) "/" (code)} { (month(statement)) " " (code) } }
                            @if viewer.operates() { td data-label="Tenant" { (statement.tenant) } }
                            td.number data-label="Recovered" { (view::money(statement.recovered, code)) }
                            td.number data-label="Refunded" { (view::money(statement.refunded, code)) }
                            td.number data-label="Net" { (view::money(statement.net, code)) }
                            td.number data-label="Fee" { strong { (view::money(statement.fee, code)) } }
                            td data-label="State" { (view::outcome(if statement.closed_at.is_some() { "closed" } else { "running" })) }
                            @if let Some(due) = due { td data-label="Payment" { (super::fees::badge(due)) } }
                        }
                    }
                }
            }
        }
        (super::fees::instrument(&dashboard, &viewer).await?)
    };
    Ok(Page {
        title: "Billing",
        at: "/billing",
        viewer: Some(&viewer),
        live: None,
        body,
    }
    .show())
}

/// How a statement is wanted.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    format: String,
}

/// `GET /billing/{tenant}/{month}/{currency}`
pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Path((tenant, month, currency)): Path<(String, String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let Some(figures) = dashboard.analytics() else {
        return Ok(overview::no_figures(&viewer));
    };
    let none = || {
        let says = "Nothing was recovered in that month and currency.";
        Failed::new(StatusCode::NOT_FOUND, "There is no such statement", says).at("/billing")
    };
    let month = Month::parse(&month)
        .filter(|_| may_see(&viewer, &tenant))
        .ok_or_else(none)?;
    let rate = rate(&dashboard);
    let statement = figures
        .statement(&tenant, month, &currency, rate)
        .await?
        .ok_or_else(none)?;
    if asked.format == "csv" {
        let file = Body::from_stream(billing::csv(figures, &tenant, month, &currency));
        return Ok(attachment(file, month, &currency));
    }
    let (lines, more) = figures
        .lines(&tenant, month, &currency, After::default(), LINES)
        .await?;
    let company = match dashboard.accounts() {
        Some(accounts) => accounts.tenant(&tenant).await.map(|tenant| tenant.company_name).ok(),
        None => None,
    };
    let now = figures.ledger().now();
    let over = now >= month.period().to;
    let fee = super::fees::gateway(&dashboard).zip(super::fees::due(&dashboard, &statement).await?);
    let body = html! {
        div.noprint.title {
            nav.crumbs aria-label="Where this is" { a href="/billing" { "Billing" } " / " span { (month) " " (currency) } }
            div.choice {
                button.quiet data-print hidden { "Print" }
                a href={"/billing/" (tenant) "/" (month) "/" (currency) "?format=csv"} download { "CSV" }
            }
        }
        article.statement {
            h1 { "Statement " (month) ", " (currency) }
            p { "For " strong { (company.as_deref().unwrap_or(&tenant)) } @if company.is_some() { " (" (tenant) ")" } }
            p {
                @match statement.closed_at {
                    Some(at) => { "Closed on " (view::time(at)) ". It changes no more." },
                    None => { "Still running: it changes with every payment until the month is closed." },
                }
            }
            (sums(&statement))
            @if let Some((gateway, due)) = &fee { (super::fees::paid(&viewer, &statement, month, due, gateway)) }
            h2 { "Lines" }
            @if more.is_some() { p.hint { "The first " (LINES) " of " (view::grouped(&statement.lines.to_string())) ". The CSV file has all of them." } }
            (entries(&lines, &currency))
            @if let Some(digest) = &statement.digest { p.hint { "SHA-256 of the lines of the CSV file, below its head: " code { (digest) } } }
        }
        @if viewer.operates() && statement.closed_at.is_none() && over {
            form.noprint method="post" action={"/billing/" (tenant) "/" (month) "/" (currency) "/close"} { (csrf(&viewer)) button type="submit" { "Close the month" } }
        }
    };
    Ok(Page {
        title: &format!("Statement {month} {currency}"),
        at: "/billing",
        viewer: Some(&viewer),
        live: None,
        body,
    }
    .show())
}

fn sums(statement: &Statement) -> Markup {
    let money = |units: i64| view::money(units, &statement.currency);
    html! {
        table.sums {
            tbody {
                tr { th scope="row" { "Captured of " (view::grouped(&statement.recoveries.to_string())) " recovered payments" } td.number { (money(statement.recovered)) } }
                tr { th scope="row" { "Refunded of recovered payments" } td.number { (money(-statement.refunded)) } }
                @if statement.reversed != 0 { tr { th scope="row" { "Turned out not to be recovered" } td.number { (money(-statement.reversed)) } } }
                tr.sum { th scope="row" { "Net" } td.number { (money(statement.net)) } }
                tr.due { th scope="row" { "Fee, " (statement.rate) " of the net" } td.number { (money(statement.fee)) } }
            }
        }
    }
}

fn entries(lines: &[Entry], currency: &str) -> Markup {
    html! {
        table.lines {
            thead { tr { th scope="col" { "Recorded" } th scope="col" { "Payment" } th scope="col" { "What" } th scope="col" { "Gateway" } th.number scope="col" { "Amount" } } }
            tbody {
                @for line in lines {
                    tr {
                        td { (view::time(line.at)) }
                        td { a.id href={"/payments/" (line.payment)} { (view::short(&line.payment.to_string())) } }
                        td { (line.kind.replace('_', " ")) }
                        td { (line.gateway) }
                        td.number { (view::grouped(&decimal(line.units, currency))) }
                    }
                }
            }
        }
    }
}

/// `POST /billing/{tenant}/{month}/{currency}/close`
pub(super) async fn close(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Path((tenant, month, currency)): Path<(String, String, String)>,
    Form(asked): Form<Bare>,
) -> Result<Response, Failed> {
    viewer.must_operate(&asked)?;
    let Some(figures) = dashboard.analytics() else {
        return Ok(overview::no_figures(&viewer));
    };
    let back = format!("/billing/{tenant}/{month}/{currency}");
    let Some(named) = Month::parse(&month) else {
        return Ok(super::to("/billing"));
    };
    let now = figures.ledger().now();
    figures.close(&tenant, named, &currency, rate(&dashboard), now).await?;
    if let Some(accounts) = dashboard.accounts() {
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        accounts
            .audit(&tenant, Actor::Operator, Action::StatementClosed { month }, here)
            .await?;
    }
    Ok(super::to(&back))
}
