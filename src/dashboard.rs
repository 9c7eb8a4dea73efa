//! The dashboard: pages made here, from the binary alone, kept live by server-sent events.
//!
//! Every page is whole before any script runs, and works without it; the script only puts newer fragments of the same
//! HTML in their places. Pages read snapshots and figures, and send the commands that operators have anyway; they never
//! reach into the request path.
//!
//! # What it refuses
//!
//! - Anything inline: the content security policy allows this server's own script and style, and nothing else.
//! - A form without its session's token, a request that a browser says comes from another site, and host names that are
//!   not this dashboard's (DNS rebinding).
//! - Another tenant's anything: a page asks for its viewer's books, and a viewer has no way to name others.

mod account;
mod billing;
mod configuration;
mod doubt;
mod fees;
mod gateways;
mod live;
mod login;
mod overview;
mod payments;
mod plot;
mod session;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::account::{AccountError, Accounts};
use crate::admin::serve::{self as server, Peer};
use crate::admin::{foreign, is_ours};
use crate::analytics::{Analytics, AnalyticsError};
use crate::app::control::Control;
use crate::ledger::LedgerError;
use session::{Sessions, Viewer};

/// A file that is part of the binary.
struct Asset {
    body: &'static str,
    media_type: &'static str,
}

const STYLE: Asset = Asset {
    body: include_str!("dashboard/assets/style.css"),
    media_type: "text/css; charset=utf-8",
};
const SCRIPT: Asset = Asset {
    body: include_str!("dashboard/assets/script.js"),
    media_type: "text/javascript; charset=utf-8",
};
const ICON: Asset = Asset {
    body: include_str!("dashboard/assets/icon.svg"),
    media_type: "image/svg+xml",
};

impl Asset {
    /// Changes with the content: an asset may then be kept for ever.
    fn version(&self) -> String {
        let digest = Sha256::digest(self.body.as_bytes());
        digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    fn serve(&self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.media_type),
            (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        ];
        (headers, self.body).into_response()
    }
}

/// What every page works with.
struct Dashboard {
    control: Arc<Control>,
    sessions: Sessions,
}

impl Dashboard {
    fn analytics(&self) -> Option<&Arc<Analytics>> {
        self.control.analytics()
    }

    fn accounts(&self) -> Option<&Arc<Accounts>> {
        self.control.api().map(|api| api.accounts())
    }

    /// Whether browsers reach it by TLS.
    fn tls(&self) -> bool {
        self.control.runtime().config.accounts.dashboard.starts_with("https:")
    }
}

/// Serves until it is told to stop.
pub async fn serve(listener: TcpListener, control: Arc<Control>, stop: tokio::sync::oneshot::Receiver<()>) {
    let config = Arc::clone(&control.runtime().config);
    let ledger = control.engine().map(|engine| Arc::clone(engine.ledger()));
    let token = config.admin.token.as_ref().map(crate::config::model::Secret::expose);
    let sessions = Sessions::load(ledger, token).await;
    server::serve(listener, router(control, sessions), stop).await;
}

fn router(control: Arc<Control>, sessions: Sessions) -> Router {
    let dashboard = Arc::new(Dashboard { control, sessions });
    let pages = Router::new()
        .route("/", get(overview::page))
        .route("/login", get(login::page).post(login::enter))
        .route("/operator", post(login::operate))
        .route("/logout", post(login::leave))
        .route("/mode", post(login::mode))
        .route("/payments", get(payments::list))
        .route("/payments/{id}", get(payments::show))
        .route("/payments/{id}/resolve", post(doubt::resolve))
        .route("/gateways", get(gateways::page))
        .route("/gateways/{route}/{gateway}", post(gateways::force))
        .route("/doubt", get(doubt::page))
        .route("/billing", get(billing::list))
        .route("/billing/{tenant}/{month}/{currency}", get(billing::show))
        .route("/billing/{tenant}/{month}/{currency}/close", post(billing::close))
        .route("/billing/{tenant}/{month}/{currency}/collect", post(fees::collect))
        .route("/billing/instrument", post(fees::store))
        .route("/billing/instrument/forget", post(fees::forget))
        .route("/account", get(account::page))
        .route("/account/keys", post(account::issue))
        .route("/account/keys/{id}", post(account::change))
        .route("/account/profile", post(account::profile))
        .route("/account/password", post(account::password))
        .route("/configuration", get(configuration::page))
        .route("/configuration/reload", post(configuration::reload))
        .route("/live/{page}", get(live::live))
        .route("/assets/style.css", get(async || STYLE.serve()))
        .route("/assets/script.js", get(async || SCRIPT.serve()))
        .route("/assets/icon.svg", get(async || ICON.serve()));
    server::limited(pages)
        .fallback(async || {
            let says = "The address may have been mistyped, or the page is gone.";
            view::sorry(None, StatusCode::NOT_FOUND, "There is no such page", says)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&dashboard), guard))
        .with_state(dashboard)
}

/// What browsers may be tricked into is refused before anything is looked at; every answer says how it may be shown.
async fn guard(State(dashboard): State<Arc<Dashboard>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or("").to_owned();
    let config = Arc::clone(&dashboard.control.runtime().config);
    let public = config.accounts.dashboard.parse::<http::Uri>().ok();
    let public = public.as_ref().and_then(http::Uri::host).map(str::to_owned);
    let hosts: Vec<String> = config
        .admin
        .hosts
        .iter()
        .chain(&config.accounts.hosts)
        .cloned()
        .chain(public)
        .collect();
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    let mut response = if !is_ours(&host, &hosts) {
        let says =
            "This host name is not the dashboard's. If it is, set accounts.dashboard to the address that browsers use.";
        view::sorry(None, StatusCode::MISDIRECTED_REQUEST, "Not this host", says)
    } else if !reads && foreign(request.headers(), &host) {
        let says = "A page of another site tried to do something here. Nothing was done.";
        view::sorry(None, StatusCode::FORBIDDEN, "Refused", says)
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// To another page, which is then read.
fn to(path: &str) -> Response {
    Redirect::to(path).into_response()
}

/// A form that carries its session's token.
trait Csrf {
    fn csrf(&self) -> &str;
}

impl Viewer {
    /// # Errors
    /// When the form is not this session's.
    fn must_have_written(&self, form: &impl Csrf) -> Result<(), Failed> {
        if self.wrote(form.csrf()) {
            return Ok(());
        }
        let says = "The page was older than your session. Go back, load it again, and repeat.";
        Err(Failed::new(StatusCode::FORBIDDEN, "Nothing was done", says))
    }

    /// # Errors
    /// When the form is not this session's, or the session no operator's.
    fn must_operate(&self, form: &impl Csrf) -> Result<(), Failed> {
        self.must_have_written(form)?;
        self.operator()
    }

    /// # Errors
    /// When the session is no operator's.
    fn operator(&self) -> Result<(), Failed> {
        if self.operates() {
            return Ok(());
        }
        let says = "This is for whoever runs this Sentinel. Log out, and log in as operator.";
        Err(Failed::new(StatusCode::FORBIDDEN, "For operators only", says))
    }
}

impl FromRequestParts<Arc<Dashboard>> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, dashboard: &Arc<Dashboard>) -> Result<Self, Response> {
        let from = parts
            .extensions
            .get::<Peer>()
            .map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0);
        let viewer = dashboard
            .sessions
            .viewer(&parts.headers, dashboard.accounts(), from)
            .await;
        viewer.ok_or_else(|| {
            // Somebody who wanted to read is brought back there after logging in.
            let wanted = parts.uri.path_and_query().map_or("/", |wanted| wanted.as_str());
            match parts.method == Method::GET && wanted != "/" && !wanted.starts_with("/live/") {
                true => {
                    let query = form_urlencoded::Serializer::new(String::new())
                        .append_pair("next", wanted)
                        .finish();
                    to(&format!("/login?{query}"))
                }
                false => to("/login"),
            }
        })
    }
}

/// Something that could not be done, as a page.
#[derive(Debug)]
struct Failed {
    status: StatusCode,
    title: String,
    says: String,
    back: Option<String>,
}

impl Failed {
    fn new(status: StatusCode, title: &str, says: &str) -> Self {
        Self {
            status,
            title: title.to_owned(),
            says: says.to_owned(),
            back: None,
        }
    }

    /// The page to go back to.
    fn at(self, back: &str) -> Self {
        Self {
            back: Some(back.to_owned()),
            ..self
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let body = maud::html! {
            section.sorry {
                h1 { (self.title) }
                p role="alert" { (self.says) }
                p { a.button href=(self.back.as_deref().unwrap_or("/")) { "Back" } }
            }
        };
        view::Page {
            title: &self.title,
            at: "",
            viewer: None,
            live: None,
            body,
        }
        .show_as(self.status)
    }
}

impl From<AnalyticsError> for Failed {
    fn from(error: AnalyticsError) -> Self {
        match error {
            AnalyticsError::Asked(why) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "That cannot be shown", &why),
            AnalyticsError::Ledger(error) => error.into(),
            AnalyticsError::Store(why) => {
                tracing::warn!(why, "a page needs the figures");
                let says = "The figures cannot be read at the moment. Payments go on all the same; the log says what is wrong.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "No figures", says)
            }
        }
    }
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        tracing::warn!(%error, "a page needs the ledger");
        let says = match error {
            LedgerError::Damaged(_) => {
                "What the ledger has of this is not what was written: somebody has to look at its file."
            }
            _ => "The ledger cannot be read at the moment. Try again in a moment; the log says what is wrong.",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The ledger does not answer", says)
    }
}

impl From<AccountError> for Failed {
    fn from(error: AccountError) -> Self {
        let status = match &error {
            AccountError::Ledger(ledger) => return ledger.clone().into(),
            AccountError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            AccountError::NotFound(_) => StatusCode::NOT_FOUND,
            AccountError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, "That was not done", &error.to_string())
    }
}
