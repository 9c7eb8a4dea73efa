//! A tenant's keys, gateways and password.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Form};
use maud::{Markup, html};
use zeroize::Zeroizing;

use super::session::{Viewer, Who};
use super::view::{self, Page, csrf};
use super::{Csrf, Dashboard, Failed, overview};
use crate::account::Caller;
use crate::account::api_key::{ApiKey, IssuedKey, Mode, NewKey, Scope};
use crate::account::audit::Action;
use crate::account::tenant::{Profile, Tenant};
use crate::admin::serve::Peer;
use crate::config::model::Dialect;

/// `GET /account`
pub(super) async fn page(State(dashboard): State<Arc<Dashboard>>, viewer: Viewer) -> Result<Response, Failed> {
    show(&dashboard, &viewer, None).await
}

async fn show(dashboard: &Dashboard, viewer: &Viewer, issued: Option<&IssuedKey>) -> Result<Response, Failed> {
    let (Some(accounts), Who::Tenant { id, .. }) = (dashboard.accounts(), &viewer.who) else {
        return Ok(overview::no_figures(viewer));
    };
    let tenant = accounts.tenant(id).await?;
    let keys = accounts.keys().list(id).await?;
    let now = accounts.ledger().now();
    let body = html! {
        div.title { h1 { "Keys and profile" } }
        @if let Some(issued) = issued {
            div.issued role="alert" {
                strong { "The new key, shown this once:" }
                code { (issued.secret) }
                p { "Put it where the application reads its secrets. Sentinel keeps only a digest of it." }
            }
        }
        section {
            h2 { "API keys" }
            (list(&keys, now, viewer))
            (new_key(viewer))
        }
        div.columns {
            section { h2 { "Gateways" } (gateways(dashboard, &tenant, viewer)) }
            section { h2 { "Password" } (password_form(viewer)) }
        }
        section {
            h2 { "Account" }
            dl.facts {
                div { dt { "E-mail address" } dd { (tenant.email) } }
                div { dt { "Company" } dd { (tenant.company_name) } }
                div { dt { "Account" } dd { code { (tenant.id) } } }
                div { dt { "Since" } dd { (view::time(tenant.created_at)) } }
            }
        }
    };
    Ok(Page {
        title: "Keys and profile",
        at: "/account",
        viewer: Some(viewer),
        live: None,
        body,
    }
    .show())
}

fn list(keys: &[ApiKey], now: i64, viewer: &Viewer) -> Markup {
    html! {
        @if keys.is_empty() { (view::empty("No key.", "Make one below: applications send it in place of gateway credentials.")) } @else {
            table.cards {
                thead { tr { th scope="col" { "Name" } th scope="col" { "For" } th scope="col" { "Made" } th scope="col" { "Last used" } th scope="col" { "State" } th scope="col" { span.hidden { "Change" } } } }
                tbody {
                    @for key in keys {
                        tr {
                            td data-label="Name" { strong { (key.name) } br; small { code { (key.id) } } }
                            td data-label="For" { (key.mode.label()) }
                            td data-label="Made" { (view::time(key.created_at)) }
                            td data-label="Last used" { @match key.last_used_at { Some(at) => (view::time(at)), None => span.faint { "never" } } }
                            td data-label="State" {
                                @if key.revoked_at.is_some() { span.badge.plain { "revoked" } }
                                @else if !key.good(now) { span.badge.plain { "ended" } }
                                @else if let Some(at) = key.expires_at { span.badge.warning { "ends" } " " (view::time(at)) }
                                @else { span.badge.good { "good" } }
                            }
                            td {
                                @if key.good(now) {
                                    form.actions method="post" action={"/account/keys/" (key.id)} {
                                        (csrf(viewer))
                                        @if key.replaced_by.is_none() { button.quiet name="what" value="rotate" aria-label={"Rotate " (key.name)} { "Rotate" } }
                                        button.danger name="what" value="revoke" aria-label={"Revoke " (key.name)} { "Revoke" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn new_key(viewer: &Viewer) -> Markup {
    html! {
        details {
            summary { "Make a key" }
            form.inline method="post" action="/account/keys" {
                (csrf(viewer))
                div.field { label for="name" { "What it is for" } input id="name" name="name" required maxlength="100" placeholder="checkout, staging"; }
                div.field { label for="mode" { "Payments" } select id="mode" name="mode" { option value="live" { "live (production)" } option value="test" { "test (staging)" } } }
                button type="submit" { "Make it" }
            }
        }
        p.hint { "Rotating makes a new key and leaves the old one good for a day, so that no deployment is without one." }
    }
}

fn gateways(dashboard: &Dashboard, tenant: &Tenant, viewer: &Viewer) -> Markup {
    let mut names: Vec<String> = Dialect::SIX.iter().map(|dialect| dialect.name().to_owned()).collect();
    for name in dashboard.control.runtime().config.gateways.keys() {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let choice = |id: &str, label: &str, chosen: Option<&String>| {
        html! {
            div.field {
                label for=(id) { (label) }
                select id=(id) name=(id) {
                    option value="" { "Not chosen" }
                    @for name in &names { option value=(name) selected[Some(name) == chosen] { (name) } }
                }
            }
        }
    };
    html! {
        form method="post" action="/account/profile" {
            (csrf(viewer))
            (choice("primary", "Primary: your fastest or cheapest", tenant.profile.primary_gateway.as_ref()))
            (choice("secondary", "Secondary: takes what the first one fails", tenant.profile.secondary_gateway.as_ref()))
            button type="submit" { "Save" }
        }
    }
}

fn password_form(viewer: &Viewer) -> Markup {
    html! {
        form method="post" action="/account/password" {
            (csrf(viewer))
            div.field { label for="old" { "Password now" } input id="old" type="password" name="old" required autocomplete="current-password"; }
            div.field { label for="new" { "New password, 12 characters or more" } input id="new" type="password" name="new" required minlength="12" autocomplete="new-password"; }
            button type="submit" { "Change it" }
            p.hint { "Every other session ends." }
        }
    }
}

/// The account of a form, with who changes it.
fn owner<'a>(viewer: &'a Viewer, form: &impl Csrf) -> Result<&'a Caller, Failed> {
    viewer.must_have_written(form)?;
    viewer.caller.as_ref().ok_or_else(|| {
        let says = "Operators have no keys and no profile.";
        Failed::new(axum::http::StatusCode::FORBIDDEN, "For tenants only", says)
    })
}

/// What a new key's form says.
#[derive(serde::Deserialize)]
pub(super) struct Issue {
    name: String,
    mode: Mode,
    csrf: String,
}

impl Csrf for Issue {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /account/keys`
pub(super) async fn issue(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Extension(Peer(from)): Extension<Peer>,
    Form(asked): Form<Issue>,
) -> Result<Response, Failed> {
    let caller = owner(&viewer, &asked)?;
    let Some(accounts) = dashboard.accounts() else {
        return Ok(super::to("/"));
    };
    let wanted = NewKey {
        name: asked.name,
        mode: asked.mode,
        scopes: Scope::ALL.to_vec(),
    };
    let issued = accounts.keys().issue(&caller.tenant, wanted).await.map_err(back)?;
    let action = Action::KeyIssued {
        key: issued.key.id.clone(),
    };
    accounts.note(caller, action, from).await?;
    show(&dashboard, &viewer, Some(&issued)).await
}

fn back(error: crate::account::AccountError) -> Failed {
    Failed::from(error).at("/account")
}

/// What a key's buttons say.
#[derive(serde::Deserialize)]
pub(super) struct Change {
    what: Word,
    csrf: String,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Rotate,
    Revoke,
}

impl Csrf for Change {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /account/keys/{id}`
pub(super) async fn change(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Extension(Peer(from)): Extension<Peer>,
    Path(id): Path<String>,
    Form(asked): Form<Change>,
) -> Result<Response, Failed> {
    let caller = owner(&viewer, &asked)?;
    let Some(accounts) = dashboard.accounts() else {
        return Ok(super::to("/"));
    };
    match asked.what {
        Word::Rotate => {
            let issued = accounts.keys().rotate(&caller.tenant, &id, 24).await.map_err(back)?;
            let by = issued.key.id.clone();
            accounts.note(caller, Action::KeyRotated { key: id, by }, from).await?;
            show(&dashboard, &viewer, Some(&issued)).await
        }
        Word::Revoke => {
            accounts.keys().revoke(&caller.tenant, &id).await.map_err(back)?;
            accounts.note(caller, Action::KeyRevoked { key: id }, from).await?;
            Ok(super::to("/account"))
        }
    }
}

/// What the profile's form says.
#[derive(serde::Deserialize)]
pub(super) struct Chosen {
    primary: String,
    secondary: String,
    csrf: String,
}

impl Csrf for Chosen {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /account/profile`
pub(super) async fn profile(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Extension(Peer(from)): Extension<Peer>,
    Form(asked): Form<Chosen>,
) -> Result<Response, Failed> {
    let caller = owner(&viewer, &asked)?;
    let Some(accounts) = dashboard.accounts() else {
        return Ok(super::to("/"));
    };
    let some = |name: String| (!name.is_empty()).then_some(name);
    let profile = Profile {
        primary_gateway: some(asked.primary),
        secondary_gateway: some(asked.secondary),
    };
    let config = Arc::clone(&dashboard.control.runtime().config);
    let known =
        |name: &str| config.gateways.contains_key(name) || Dialect::SIX.iter().any(|dialect| dialect.name() == name);
    let tenant = accounts.set_profile(caller, profile, known, from).await.map_err(back)?;
    if let Some(engine) = dashboard.control.engine() {
        engine.tenant_changed(&tenant.id);
    }
    Ok(super::to("/account"))
}

/// What the password's form says.
#[derive(serde::Deserialize)]
pub(super) struct Password {
    old: Zeroizing<String>,
    new: Zeroizing<String>,
    csrf: String,
}

impl Csrf for Password {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /account/password`
pub(super) async fn password(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Extension(Peer(from)): Extension<Peer>,
    Form(asked): Form<Password>,
) -> Result<Response, Failed> {
    let caller = owner(&viewer, &asked)?;
    let Some(accounts) = dashboard.accounts() else {
        return Ok(super::to("/"));
    };
    let renewed = accounts
        .change_password(caller, asked.old.to_string(), asked.new.to_string(), from)
        .await
        .map_err(back)?;
    dashboard.sessions.renew(&viewer, renewed).await;
    Ok(super::to("/account"))
}
