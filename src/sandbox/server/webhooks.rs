//! Delivery of notifications: posted to one URL until it takes them, as gateways do, with a short patience.
//!
//! Without a URL they are kept, and can be delivered later. Only plain HTTP: the receiver is a Sentinel or an application
//! on the same machine.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;

use crate::sandbox::Webhook;

/// Attempts before a delivery is given up.
const ATTEMPTS: u32 = 6;
/// The pause after the first failed attempt; doubled with each.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Deliveries kept.
const KEPT: usize = 10_000;

/// One notification and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// Counted from 1.
    pub id: u64,
    /// The body, as signed.
    pub body: String,
    /// The headers.
    #[serde(skip)]
    pub headers: HeaderMap,
    /// Attempts made.
    pub attempts: u32,
    /// The status of the last answer; `None` when there was none.
    pub status: Option<u16>,
    /// Whether the receiver took it (any 2xx).
    pub delivered: bool,
}

/// The notifications of one gateway.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    url: Mutex<Option<Uri>>,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Outbox {
    /// Sets where notifications go. `Err` says why not there.
    pub(super) fn send_to(&self, url: Option<&str>) -> Result<(), String> {
        let url = match url {
            None => None,
            Some(url) => {
                let uri: Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
                if uri.scheme_str() != Some("http") || uri.authority().is_none() {
                    return Err(format!("{url}: webhooks are posted to http://host:port/path"));
                }
                Some(uri)
            }
        };
        *self.url.lock().unwrap_or_else(PoisonError::into_inner) = url;
        Ok(())
    }

    pub(super) fn url(&self) -> Option<Uri> {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a notification and gives back its number.
    pub(super) fn keep(&self, webhook: &Webhook) -> u64 {
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        let id = deliveries.last().map_or(1, |last| last.id + 1);
        if deliveries.len() == KEPT {
            deliveries.remove(0);
        }
        deliveries.push(Delivery {
            id,
            body: String::from_utf8_lossy(&webhook.body).into_owned(),
            headers: webhook.headers.clone(),
            attempts: 0,
            status: None,
            delivered: false,
        });
        id
    }

    /// Everything kept, oldest first.
    pub(super) fn all(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn attempted(&self, id: u64, status: Option<StatusCode>) {
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = deliveries.iter_mut().find(|delivery| delivery.id == id) {
            kept.attempts += 1;
            kept.status = status.map(|status| status.as_u16());
            kept.delivered |= status.is_some_and(|status| status.is_success());
        }
    }

    /// Posts one until it is taken or patience ends. Nothing happens without a URL.
    pub(super) async fn deliver(&self, id: u64) {
        let Some(delivery) = self.all().into_iter().find(|delivery| delivery.id == id) else {
            return;
        };
        let mut pause = PAUSE;
        for _ in 0..ATTEMPTS {
            let Some(url) = self.url() else { return };
            let status = tokio::time::timeout(PATIENCE, post(&url, &delivery))
                .await
                .ok()
                .flatten();
            let taken = status.is_some_and(|status| status.is_success());
            self.attempted(id, status);
            if taken {
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

/// One attempt; `None` when there was no answer.
async fn post(url: &Uri, delivery: &Delivery) -> Option<StatusCode> {
    let authority = url.authority()?;
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80)))
        .await
        .ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let mut request = Request::post(url.path_and_query().map_or("/", |path| path.as_str()));
    if let Some(headers) = request.headers_mut() {
        headers.clone_from(&delivery.headers);
        headers.insert(http::header::HOST, authority.as_str().parse().ok()?);
    }
    let request = request.body(Full::new(Bytes::from(delivery.body.clone()))).ok()?;
    // The connection must be driven while the answer is awaited, and is over with it.
    tokio::select! {
        answer = sender.send_request(request) => answer.ok().map(|answer| answer.status()),
        _ = connection => None,
    }
}
