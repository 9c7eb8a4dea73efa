//! What is in doubt or owed, and resolving it by hand: guided by what the payment core would take, and why not.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use uuid::Uuid;

use super::session::Viewer;
use super::view::{self, Page, csrf};
use super::{Csrf, Dashboard, Failed, overview};
use crate::admin::payments::{self, Said};
use crate::analytics::Analytics;
use crate::ledger::rows::{Filter, Payment};
use crate::payment::timeline::{Summary, Timeline};

/// Payments in one list; whoever has more needs no list.
const MOST: usize = 200;

/// `GET /doubt`
pub(super) async fn page(State(dashboard): State<Arc<Dashboard>>, viewer: Viewer) -> Result<Response, Failed> {
    let Some(figures) = dashboard.analytics() else {
        return Ok(overview::no_figures(&viewer));
    };
    let body = html! {
        div.title { h1 { "In doubt and owed" } }
        div #doubt { (fragment(figures, &viewer).await?) }
    };
    Ok(Page {
        title: "In doubt",
        at: "/doubt",
        viewer: Some(&viewer),
        live: Some("/live/doubt".to_owned()),
        body,
    }
    .show())
}

/// The live part.
pub(super) async fn fragment(figures: &Arc<Analytics>, viewer: &Viewer) -> Result<Markup, Failed> {
    let now = figures.ledger().now();
    let base = Filter {
        tenant: viewer.books(),
        limit: MOST,
        ..Filter::default()
    };
    let manual = figures
        .ledger()
        .list(Filter {
            manual: true,
            ..base.clone()
        })
        .await?;
    let doubt = figures
        .ledger()
        .list(Filter {
            in_doubt: true,
            ..base.clone()
        })
        .await?;
    let owing = figures.ledger().list(Filter { owing: true, ..base }).await?;
    Ok(html! {
        @if manual.is_empty() && doubt.is_empty() && owing.is_empty() {
            (view::empty("Nothing is in doubt, and nothing is owed.", "Every payment's outcome is proven, and no gateway holds money that belongs back."))
        } @else {
            (part("A person has to decide", "Sentinel does nothing more about these by itself.", &manual, now, viewer))
            (part("In doubt", "The request was sent and nothing is known of what became of it. Sentinel goes on asking the gateway, and never sends it again.", &doubt, now, viewer))
            (part("Owed", "A gateway took what another one has: Sentinel gives it back, until that is proven.", &owing, now, viewer))
        }
    })
}

fn part(title: &str, says: &str, payments: &[Payment], now: i64, viewer: &Viewer) -> Markup {
    html! {
        @if !payments.is_empty() {
            section {
                h2 { (title) " " span.count { (payments.len()) } }
                p.hint { (says) }
                table.cards {
                    thead { tr { th scope="col" { "Payment" } th scope="col" { "Amount" } th scope="col" { "Gateway" } th scope="col" { "Since" } th scope="col" { span.hidden { "What to do" } } } }
                    tbody {
                        @for payment in payments {
                            @let summary = Summary::of(payment);
                            tr {
                                td data-label="Payment" { a.id href={"/payments/" (summary.id)} { (view::short(&summary.id.to_string())) } }
                                td.number data-label="Amount" {
                                    @match (&summary.amount, &summary.currency) {
                                        (Some(amount), Some(currency)) => { (view::grouped(amount)) " " span.currency { (currency) } },
                                        _ => span.faint { "not known" },
                                    }
                                }
                                td data-label="Gateway" { (summary.gateway) }
                                td data-label="Since" { (view::long(now - summary.created_at)) }
                                td { a.button.quiet href={"/payments/" (summary.id)} { @if viewer.operates() { "Look and resolve" } @else { "Look" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The guide to a payment that is not finished: what may be said of it, and what would be refused.
pub(super) fn guide(story: &Timeline, viewer: &Viewer) -> Markup {
    let summary = &story.summary;
    html! {
        section.guide aria-labelledby="guide" {
            h2 #guide { "Resolve it by hand" }
            ol.steps {
                li { "Look the payment up in the gateway's own console: by an id below, by the amount, and by the time " (view::time(summary.created_at)) "." }
                li { "Say what you found. The ledger keeps who said it and why, for good, and the payment core refuses what its evidence contradicts." }
            }
            form method="post" action={"/payments/" (summary.id) "/resolve"} {
                (csrf(viewer))
                fieldset {
                    legend { "What you found" }
                    @for (index, choice) in story.resolutions.iter().enumerate() {
                        @let id = format!("resolution-{index}");
                        @let value = match choice.attempt { Some(n) => format!("{}:{n}", choice.resolution), None => choice.resolution.clone() };
                        div.option {
                            input type="radio" name="choice" id=(id) value=(value) required disabled[choice.objection.is_some()];
                            label for=(id) {
                                strong { (named(&choice.resolution, choice.attempt, story)) }
                                small { @match &choice.objection { Some(why) => { "Would be refused: " (why) }, None => (consequence(&choice.resolution)) } }
                            }
                        }
                    }
                }
                div.field { label for="operator" { "Your name" } input id="operator" name="operator" required maxlength="100" autocomplete="name"; }
                div.field { label for="reason" { "What it rests on" } textarea id="reason" name="reason" required maxlength="1000" rows="3" placeholder="e.g. the gateway's console shows no payment for this order between 02:10 and 02:20" {} }
                button.danger type="submit" { "Write it down and resolve" }
            }
        }
    }
}

fn named(word: &str, attempt: Option<u16>, story: &Timeline) -> String {
    let at = attempt.and_then(|n| story.attempts.iter().find(|attempt| attempt.n == n));
    let at = at.map_or_else(String::new, |attempt| {
        format!("attempt {} at {}", attempt.n, attempt.gateway)
    });
    match word {
        "succeeded" => format!("The money was taken: {at}"),
        "failed" => "Nothing was taken anywhere".to_owned(),
        "released" => format!("It was given back by hand: {at}"),
        _ => "I do not know: go on looking".to_owned(),
    }
}

fn consequence(word: &str) -> &'static str {
    match word {
        "succeeded" => "The payment is closed as paid.",
        "failed" => "The payment is closed as failed, and may be paid anew.",
        "released" => "Nothing is owed for it any more.",
        _ => "Sentinel asks the gateway again.",
    }
}

/// What the form says.
#[derive(serde::Deserialize)]
pub(super) struct Resolve {
    choice: String,
    operator: String,
    reason: String,
    csrf: String,
}

impl Csrf for Resolve {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /payments/{id}/resolve`
pub(super) async fn resolve(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Path(id): Path<Uuid>,
    Form(asked): Form<Resolve>,
) -> Result<Response, Failed> {
    viewer.must_operate(&asked)?;
    let Some(engine) = dashboard.control.engine() else {
        return Ok(overview::no_figures(&viewer));
    };
    let taken = match Said::chosen(&asked.choice, asked.operator, asked.reason) {
        Ok(said) => payments::take(engine, id, said).await,
        Err(wrong) => Err((StatusCode::UNPROCESSABLE_ENTITY, wrong)),
    };
    let back = format!("/payments/{id}");
    match taken {
        Ok(()) => Ok(super::to(&back)),
        Err((status, why)) => Err(Failed::new(status, "It was not resolved", &why).at(&back)),
    }
}
