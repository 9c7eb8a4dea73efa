//! How fees are paid: what a tenant pays with, where a fee's collection stands, and asking for it again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Form};
use maud::{Markup, html};

use super::login::Bare;
use super::session::{Viewer, Who};
use super::view::{self, csrf};
use super::{Csrf, Dashboard, Failed, overview};
use crate::account::audit::{Action, Actor};
use crate::admin::serve::Peer;
use crate::analytics::billing::{Rate, Statement};
use crate::analytics::collection::{self, Due, PaidWith, Standing};
use crate::analytics::period::Month;
use crate::app::collect::By;

/// The gateway at which fees are collected; `None` where they are not.
pub(super) fn gateway(dashboard: &Dashboard) -> Option<String> {
    dashboard.control.runtime().config.accounts.collect.clone()
}

/// What is to be said of a statement's fee; `None` where fees are not collected.
pub(super) async fn due(dashboard: &Dashboard, statement: &Statement) -> Result<Option<Due>, Failed> {
    match (gateway(dashboard), dashboard.analytics()) {
        (Some(_), Some(figures)) => Ok(Some(figures.due(statement).await?)),
        _ => Ok(None),
    }
}

/// Where a collection stands, as a badge.
pub(super) fn badge(due: &Due) -> Markup {
    let (tone, word) = match due {
        Due::NotYet => ("plain", "not yet due"),
        Due::Nothing => ("plain", "nothing due"),
        Due::NoInstrument => ("warning", "nothing to pay with"),
        Due::Due => ("plain", "due"),
        Due::Tried(tried) => match tried.standing {
            Standing::Paid => ("good", "paid"),
            Standing::Pending => ("warning", "outcome not known yet"),
            Standing::Declined => ("bad", "declined"),
            Standing::Failed => ("warning", "gateway failed, tried again"),
            Standing::Refused { .. } => ("bad", "cannot be asked for"),
        },
    };
    html! { span class={"badge " (tone)} { (word) } }
}

/// A statement's fee, and what can be done about it.
pub(super) fn paid(viewer: &Viewer, statement: &Statement, month: Month, due: &Due, gateway: &str) -> Markup {
    let again = match due {
        Due::Due => Some("Collect it now"),
        Due::Tried(tried) => match tried.standing {
            Standing::Declined | Standing::Failed | Standing::Refused { .. } => Some("Ask for it again"),
            Standing::Pending => Some("Look again"),
            Standing::Paid => None,
        },
        Due::NotYet | Due::Nothing | Due::NoInstrument => None,
    };
    html! {
        h2 { "Payment of the fee" }
        p {
            (badge(due))
            @match due {
                Due::NotYet => " It is charged once the month is closed.",
                Due::Nothing => " A fee of nothing or less is not charged; a credit is settled between the two of you.",
                Due::NoInstrument => " It is charged as soon as there is something to charge.",
                Due::Due => " It is charged within the hour.",
                Due::Tried(tried) => {
                    " Try " (tried.attempt) ", at " (gateway) ", " (view::time(tried.at)) "."
                    @match &tried.standing {
                        Standing::Declined => { " Another card or account is tried when one is stored." },
                        Standing::Pending => { " Nobody is asked again before the outcome is known." },
                        Standing::Refused { reason } => { " " (gateway) " cannot be asked for it: " (reason.replace('_', " ")) "." },
                        Standing::Paid | Standing::Failed => {},
                    }
                    @if let (true, Some(payment)) = (viewer.operates(), tried.payment) {
                        " " a.noprint href={"/payments/" (payment)} { "Its payment" }
                    }
                },
            }
        }
        @if let (true, Some(word)) = (viewer.operates(), again) {
            form.noprint method="post" action={"/billing/" (statement.tenant) "/" (month) "/" (statement.currency) "/collect"} {
                (csrf(viewer))
                button type="submit" { (word) }
            }
        }
    }
}

/// What a tenant pays with, and how it changes that.
pub(super) async fn instrument(dashboard: &Dashboard, viewer: &Viewer) -> Result<Markup, Failed> {
    let (Some(gateway), Some(accounts), Who::Tenant { id, .. }) =
        (gateway(dashboard), dashboard.accounts(), &viewer.who)
    else {
        return Ok(html! {});
    };
    let stored = collection::paid_with(&**accounts.ledger(), id).await?;
    Ok(html! {
        section.stack {
            h2 { "How fees are paid" }
            @match &stored {
                Some(with) => {
                    p { span.badge.good { "stored" } " A token at " strong { (gateway) } ", since " (view::time(with.at)) ". The fee of a month is charged to it once, after the month is closed." }
                    form method="post" action="/billing/instrument/forget" { (csrf(viewer)) button.danger type="submit" { "Forget it" } }
                },
                None => p { span.badge.warning { "nothing stored" } " Fees of closed months wait until there is something to charge." },
            }
            details open[stored.is_none()] {
                summary { @if stored.is_some() { "Pay with another card or account" } @else { "Store a card or account" } }
                form.inline method="post" action="/billing/instrument" {
                    (csrf(viewer))
                    div.field { label for="token" { "Token at " (gateway) } input id="token" name="token" required maxlength="256" autocomplete="off" spellcheck="false" placeholder="pm_..."; }
                    div.field { label for="customer" { "Customer there, if it wants one" } input id="customer" name="customer" maxlength="256" autocomplete="off" spellcheck="false" placeholder="cus_..."; }
                    button type="submit" { "Store it" }
                }
                p.hint { "A token that " (gateway) " gave for the card or bank account: whoever runs this Sentinel tells how to get one. Never a card number; those are refused." }
            }
        }
    })
}

/// What is stored to pay with.
#[derive(serde::Deserialize)]
pub(super) struct Stored {
    csrf: String,
    token: String,
    #[serde(default)]
    customer: String,
}

impl Csrf for Stored {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /billing/instrument`
pub(super) async fn store(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(Peer(from)): Extension<Peer>,
    viewer: Viewer,
    Form(asked): Form<Stored>,
) -> Result<Response, Failed> {
    viewer.must_have_written(&asked)?;
    let (Some(accounts), Who::Tenant { id, .. }) = (dashboard.accounts(), &viewer.who) else {
        return Ok(overview::no_figures(&viewer));
    };
    let customer = asked.customer.trim();
    let with = PaidWith {
        token: asked.token.trim().to_owned(),
        customer: (!customer.is_empty()).then(|| customer.to_owned()),
        at: accounts.ledger().now(),
    };
    collection::pay_with(&**accounts.ledger(), id, &with)
        .await
        .map_err(|error| {
            Failed::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "That was not stored",
                &error.to_string(),
            )
            .at("/billing")
        })?;
    accounts.audit(id, Actor::Session, Action::PaidWithStored, from).await?;
    Ok(super::to("/billing"))
}

/// `POST /billing/instrument/forget`
pub(super) async fn forget(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(Peer(from)): Extension<Peer>,
    viewer: Viewer,
    Form(asked): Form<Bare>,
) -> Result<Response, Failed> {
    viewer.must_have_written(&asked)?;
    let (Some(accounts), Who::Tenant { id, .. }) = (dashboard.accounts(), &viewer.who) else {
        return Ok(overview::no_figures(&viewer));
    };
    if collection::pay_with_nothing(&**accounts.ledger(), id).await? {
        accounts
            .audit(id, Actor::Session, Action::PaidWithDeleted, from)
            .await?;
    }
    Ok(super::to("/billing"))
}

/// `POST /billing/{tenant}/{month}/{currency}/collect`
pub(super) async fn collect(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(Peer(from)): Extension<Peer>,
    viewer: Viewer,
    Path((tenant, month, currency)): Path<(String, String, String)>,
    Form(asked): Form<Bare>,
) -> Result<Response, Failed> {
    viewer.must_operate(&asked)?;
    let (Some(collector), Some(named)) = (dashboard.control.collector(), Month::parse(&month)) else {
        return Ok(super::to("/billing"));
    };
    let rate = Rate(dashboard.control.runtime().config.accounts.fee.millionths);
    let figures = collector.analytics();
    if let Some(statement) = figures.statement(&tenant, named, &currency, rate).await? {
        collector.collect(&statement, By::Operator).await?;
        if let Some(accounts) = dashboard.accounts() {
            let action = Action::FeeCollected { month: month.clone() };
            accounts.audit(&tenant, Actor::Operator, action, from).await?;
        }
    }
    Ok(super::to(&format!("/billing/{tenant}/{month}/{currency}")))
}
