//! How the command line asks a running sidecar: HTTP to its admin listener.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Connecting, and the head of an answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The largest answer that is read whole: many times what the admin listener says of a thousand routes.
const ANSWER: usize = 32 << 20;

/// Where the sidecar is, and what opens it.
#[derive(Clone, Debug, clap::Args)]
pub struct Access {
    /// The admin listener.
    #[arg(long, default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// The admin token, where the listener asks for one.
    #[arg(long, env = "SENTINEL_ADMIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Nobody there.
    #[error("{admin} does not answer: {cause}. Is `sentinel run` running, and is this its admin listener?")]
    Unreachable {
        /// Where.
        admin: SocketAddr,
        /// The cause.
        cause: String,
    },
    /// It said no.
    #[error("{admin} refuses: {status} {detail}")]
    Refused {
        /// Where.
        admin: SocketAddr,
        /// The status.
        status: u16,
        /// What it said.
        detail: String,
    },
    /// The terminal or the runtime is not there.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Access {
    fn unreachable(&self, cause: impl ToString) -> AccessError {
        AccessError::Unreachable {
            admin: self.admin,
            cause: cause.to_string(),
        }
    }

    /// Asks, and gives the answer with its body still to come.
    ///
    /// # Errors
    /// When nobody is there, or the status is no success.
    pub async fn get(&self, path: &str) -> Result<Response<Incoming>, AccessError> {
        self.ask(Request::get(path), Bytes::new()).await
    }

    /// Sends JSON, and gives the whole answer as text.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<String, AccessError> {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let answer = self.ask(request, Bytes::from(body.to_string())).await?;
        self.whole(answer).await
    }

    async fn ask(&self, request: http::request::Builder, body: Bytes) -> Result<Response<Incoming>, AccessError> {
        let ask = async {
            let stream = TcpStream::connect(self.admin)
                .await
                .map_err(|error| self.unreachable(error))?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| self.unreachable(error))?;
            tokio::spawn(connection);
            let mut request = request.header(header::HOST, "localhost");
            if let Some(token) = &self.token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(Full::new(body)).map_err(|error| self.unreachable(error))?;
            sender
                .send_request(request)
                .await
                .map_err(|error| self.unreachable(error))
        };
        let answer = tokio::time::timeout(TIMEOUT, ask)
            .await
            .unwrap_or_else(|_| Err(self.unreachable("no answer in time")))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let said = self.whole(answer).await.unwrap_or_default();
        let detail = serde_json::from_str::<serde_json::Value>(&said)
            .ok()
            .and_then(|said| said["detail"].as_str().map(str::to_owned))
            .unwrap_or(said);
        Err(AccessError::Refused {
            admin: self.admin,
            status,
            detail,
        })
    }

    /// Asks, and gives the whole body as text.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn text(&self, path: &str) -> Result<String, AccessError> {
        let answer = self.get(path).await?;
        self.whole(answer).await
    }

    async fn whole(&self, answer: Response<Incoming>) -> Result<String, AccessError> {
        let body = tokio::time::timeout(TIMEOUT, Limited::new(answer.into_body(), ANSWER).collect());
        match body.await {
            Ok(Ok(body)) => Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
            Ok(Err(error)) => Err(self.unreachable(error)),
            Err(_) => Err(self.unreachable("the answer does not end")),
        }
    }
}

/// A runtime for one command.
///
/// # Errors
/// When the system has no descriptors for it.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Text that came from elsewhere, fit for a terminal: no control character that could move, colour or answer.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
