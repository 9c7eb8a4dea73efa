//! The live stream: newer fragments of the page that somebody looks at, as server-sent events.
//!
//! A fragment is made again when the ledger has news, a second after the last one at the earliest, and every few seconds
//! for what changes by itself (breakers). It is sent only when it differs. The stream ends with its session.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, http::StatusCode};
use futures_util::{Stream, stream};
use maud::Markup;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::session::Viewer;
use super::{Dashboard, Failed, doubt, gateways, overview, payments};
use crate::admin::serve::Peer;

/// The least pause between two fragments.
const PAUSE: Duration = Duration::from_millis(700);
/// How long a fragment stays without news: breakers and clocks move by themselves.
const AGAIN: Duration = Duration::from_secs(3);

/// What a stream is about.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct About {
    period: Option<String>,
    id: Option<Uuid>,
}

struct Watching {
    dashboard: Arc<Dashboard>,
    headers: HeaderMap,
    from: Peer,
    page: &'static str,
    about: About,
    news: Option<watch::Receiver<i64>>,
    sent: String,
    began: Instant,
}

/// `GET /live/{page}`
pub(super) async fn live(
    State(dashboard): State<Arc<Dashboard>>,
    _viewer: Viewer,
    Extension(from): Extension<Peer>,
    headers: HeaderMap,
    Path(page): Path<String>,
    Query(about): Query<About>,
) -> Response {
    let pages = ["overview", "payments", "payment", "gateways", "doubt"];
    let Some(page) = pages.into_iter().find(|known| *known == page) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let news = dashboard.analytics().map(|figures| figures.news());
    let watching = Watching {
        dashboard,
        headers,
        from,
        page,
        about,
        news,
        sent: String::new(),
        began: Instant::now(),
    };
    Sse::new(fragments(watching))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response()
}

fn fragments(watching: Watching) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(watching, async |mut watching| {
        loop {
            let accounts = watching.dashboard.accounts();
            let viewer = watching
                .dashboard
                .sessions
                .viewer(&watching.headers, accounts, watching.from.0)
                .await?;
            // Trouble is the page's to tell: the stream goes on and the fragment stays.
            if let Ok(fragment) = watching.fragment(&viewer).await {
                // The stream's format ends a line at a carriage return.
                let fragment = fragment.into_string().replace('\r', " ");
                if fragment != watching.sent {
                    let first = std::mem::replace(&mut watching.sent, fragment).is_empty();
                    let event = Event::default()
                        .event("fragment")
                        .id(watching.page)
                        .data(&watching.sent);
                    if !first || watching.began.elapsed() > PAUSE {
                        watching.pause().await;
                    }
                    return Some((Ok(event), watching));
                }
            }
            watching.pause().await;
        }
    })
}

impl Watching {
    /// Waits for news, or for the time when it is looked again.
    async fn pause(&mut self) {
        let began = Instant::now();
        let changed = async {
            let told = match &mut self.news {
                Some(news) => news.changed().await.is_ok(),
                None => false,
            };
            if !told {
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(AGAIN, changed).await;
        tokio::time::sleep_until(began + PAUSE).await;
    }

    async fn fragment(&self, viewer: &Viewer) -> Result<Markup, Failed> {
        let nothing = || Failed::new(StatusCode::NOT_FOUND, "", "");
        if self.page == "gateways" {
            return gateways::fragment(&self.dashboard, viewer).await;
        }
        let figures = self.dashboard.analytics().ok_or_else(nothing)?;
        match self.page {
            "overview" => {
                let asked = overview::Asked {
                    period: self.about.period.clone(),
                };
                overview::fragment(figures, viewer, &asked).await
            }
            "payments" => payments::fragment(figures, viewer).await,
            "doubt" => doubt::fragment(figures, viewer).await,
            _ => {
                let id = self.about.id.ok_or_else(nothing)?;
                let story = payments::story(figures, viewer, id).await?.ok_or_else(nothing)?;
                Ok(payments::told(&story, viewer))
            }
        }
    }
}
