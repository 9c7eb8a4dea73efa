//! Logging in and out: tenants by address and password, operators by the admin token.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::{Extension, Form};
use maud::html;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::session::{self, Viewer, Who};
use super::view::Page;
use super::{Csrf, Dashboard, Failed};
use crate::account::AccountError;
use crate::account::api_key::Mode;
use crate::admin::is_ours;
use crate::admin::serve::Peer;

/// Where to go after logging in.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Next {
    next: String,
}

/// How an operator gets in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// With the admin token.
    Token,
    /// By saying so: there is no token, and whoever asks sits at this machine, as far as can be told.
    Open,
    /// Not at all.
    Closed,
}

fn door(dashboard: &Dashboard, headers: &HeaderMap, from: IpAddr) -> Door {
    let config = Arc::clone(&dashboard.control.runtime().config);
    if config.admin.token.is_some() {
        return Door::Token;
    }
    let bound = config
        .listeners
        .dashboard
        .is_some_and(|address| address.ip().is_loopback());
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    let forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name));
    match bound && from.is_loopback() && is_ours(host, &[]) && !forwarded {
        true => Door::Open,
        false => Door::Closed,
    }
}

/// A path on this dashboard, whatever was asked for.
fn inside(next: &str) -> &str {
    let plain = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if plain { next } else { "/" }
}

/// `GET /login`
pub(super) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(Peer(from)): Extension<Peer>,
    headers: HeaderMap,
    Query(next): Query<Next>,
) -> Response {
    if dashboard
        .sessions
        .viewer(&headers, dashboard.accounts(), from)
        .await
        .is_some()
    {
        return super::to(inside(&next.next));
    }
    form(&dashboard, &headers, from, &next.next, None, StatusCode::OK)
}

fn form(
    dashboard: &Dashboard,
    headers: &HeaderMap,
    from: IpAddr,
    next: &str,
    wrong: Option<&str>,
    status: StatusCode,
) -> Response {
    let body = html! {
        div.login {
            h1 { "Log in" }
            @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) } }
            @if dashboard.accounts().is_some() {
                form method="post" action="/login" {
                    input type="hidden" name="next" value=(inside(next));
                    div.field { label for="email" { "E-mail address" } input id="email" type="email" name="email" required autocomplete="username" maxlength="254"; }
                    div.field { label for="password" { "Password" } input id="password" type="password" name="password" required autocomplete="current-password" maxlength="256"; }
                    button type="submit" { "Log in" }
                }
                p.hint { "No account yet? " code { "POST /api/v1/customers/register" } " makes one." }
            }
            @match door(dashboard, headers, from) {
                Door::Token => form method="post" action="/operator" {
                    h2 { "Operators" }
                    input type="hidden" name="next" value=(inside(next));
                    div.field { label for="token" { "Admin token" } input id="token" type="password" name="token" required autocomplete="off"; }
                    button.quiet type="submit" { "Log in as operator" }
                },
                Door::Open => form method="post" action="/operator" {
                    h2 { "Operators" }
                    input type="hidden" name="next" value=(inside(next));
                    p.hint { "There is no admin token, so whoever sits at this machine may operate Sentinel, here as at the admin listener." }
                    button.quiet type="submit" { "Go on as operator" }
                },
                Door::Closed => p.hint { "Operators need " code { "admin.token" } " in the configuration to log in from here." },
            }
        }
    };
    Page {
        title: "Log in",
        at: "",
        viewer: None,
        live: None,
        body,
    }
    .show_as(status)
}

/// What a tenant's form says.
#[derive(serde::Deserialize)]
pub(super) struct Credentials {
    email: String,
    password: Zeroizing<String>,
    #[serde(default)]
    next: String,
}

/// `POST /login`
pub(super) async fn enter(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(Peer(from)): Extension<Peer>,
    headers: HeaderMap,
    Form(asked): Form<Credentials>,
) -> Result<Response, Failed> {
    let Some(accounts) = dashboard.accounts() else {
        return Ok(super::to("/login"));
    };
    match accounts.login(&asked.email, asked.password.to_string(), from).await {
        Ok((tenant, tokens)) => {
            let cookie = dashboard.sessions.open(session::tenant(&tenant), Some(tokens)).await?;
            Ok(entered(&dashboard, &cookie, &asked.next))
        }
        Err(error @ AccountError::Ledger(_)) => Err(error.into()),
        Err(error) => {
            let status = match error {
                AccountError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::UNAUTHORIZED,
            };
            Ok(form(
                &dashboard,
                &headers,
                from,
                &asked.next,
                Some(&capital(&error.to_string())),
                status,
            ))
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect::<String>() + "."
    })
}

/// What an operator's form says.
#[derive(serde::Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    token: Zeroizing<String>,
    #[serde(default)]
    next: String,
}

/// `POST /operator`
pub(super) async fn operate(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(Peer(from)): Extension<Peer>,
    headers: HeaderMap,
    Form(asked): Form<Token>,
) -> Result<Response, Failed> {
    let config = Arc::clone(&dashboard.control.runtime().config);
    let may = match (door(&dashboard, &headers, from), &config.admin.token) {
        (Door::Open, _) => true,
        (Door::Token, Some(token)) => token.expose().as_bytes().ct_eq(asked.token.as_bytes()).into(),
        _ => false,
    };
    if !may {
        tracing::warn!(%from, "somebody tried to operate the dashboard without the admin token");
        // Guessing is slow: a token is long, and this makes it longer.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let wrong = Some("That is not the admin token.");
        return Ok(form(
            &dashboard,
            &headers,
            from,
            &asked.next,
            wrong,
            StatusCode::UNAUTHORIZED,
        ));
    }
    tracing::info!(%from, "an operator logged in to the dashboard");
    let cookie = dashboard.sessions.open(Who::Operator, None).await?;
    Ok(entered(&dashboard, &cookie, &asked.next))
}

fn entered(dashboard: &Dashboard, cookie: &str, next: &str) -> Response {
    let cookie = session::set_cookie(cookie, dashboard.tls());
    ([(header::SET_COOKIE, cookie)], Redirect::to(inside(next))).into_response()
}

/// A form with nothing but its session's token.
#[derive(serde::Deserialize)]
pub(super) struct Bare {
    csrf: String,
}

impl Csrf for Bare {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /logout`
pub(super) async fn leave(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(Peer(from)): Extension<Peer>,
    viewer: Viewer,
    Form(asked): Form<Bare>,
) -> Result<Response, Failed> {
    viewer.must_have_written(&asked)?;
    dashboard.sessions.close(&viewer).await;
    if let (Some(caller), Some(accounts)) = (&viewer.caller, dashboard.accounts()) {
        accounts.logout(caller, from).await?;
    }
    let cookie = session::set_cookie("", dashboard.tls());
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response())
}

/// Which books to show.
#[derive(serde::Deserialize)]
pub(super) struct Books {
    mode: Mode,
    csrf: String,
}

impl Csrf for Books {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// `POST /mode`
pub(super) async fn mode(
    State(dashboard): State<Arc<Dashboard>>,
    viewer: Viewer,
    Form(asked): Form<Books>,
) -> Result<Response, Failed> {
    viewer.must_have_written(&asked)?;
    dashboard.sessions.look_at(&viewer, asked.mode).await;
    Ok(super::to("/"))
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for outside in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "/\r\nx",
        ] {
            assert_eq!(inside(outside), "/", "{outside}");
        }
        assert_eq!(inside("/payments?q=1"), "/payments?q=1");
    }
}
