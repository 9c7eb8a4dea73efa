//! Where a worker hands a tenant's request over: the body is read here, everything else happens on the operators' runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::runtime::Handle;

use super::problem::{self, Code, Problem};
use super::{Api, Arrived, PREFIX, protect};
use crate::account::Accounts;
use crate::config::model::Config;
use crate::listen::ConnectionInfo;

/// A body has some kilobytes: whoever takes longer holds a place for nothing.
const BODY: Duration = Duration::from_secs(10);

/// One worker's door.
#[derive(Clone, Debug)]
pub struct Door {
    api: Arc<Api>,
    operators: Handle,
}

impl Door {
    /// A door to the interface, whose work is done on that runtime.
    pub fn new(api: Arc<Api>, operators: Handle) -> Self {
        Self { api, operators }
    }

    /// The accounts behind it.
    pub fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(self.api.accounts())
    }

    /// Whether a request belongs to the interface. All that a forwarded request pays for it is the first comparison.
    pub fn owns(path: &str, listener: SocketAddr, config: &Config) -> bool {
        path.strip_prefix(PREFIX)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && config.accounts.api
            && config.listeners.shared.iter().any(|shared| shared.address == listener)
    }

    /// Has a request answered.
    pub async fn answer(&self, request: Request<Incoming>, info: ConnectionInfo) -> Response<Body> {
        let (parts, incoming) = request.into_parts();
        let host = match parts.version {
            http::Version::HTTP_2 => parts.uri.authority().map(|authority| authority.as_str()),
            _ => parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
        };
        let host = host.unwrap_or_default().to_owned();
        let limit = self.api.limit(&parts.method, parts.uri.path());
        let reading = Limited::new(incoming, limit).collect();
        let body = match tokio::time::timeout(BODY, reading).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            // What is not taken at all is answered by what is wrong with it, not by its length.
            Ok(Err(error)) if error.is::<LengthLimitError>() && limit == 0 => {
                info.close_after_answer();
                bytes::Bytes::new()
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                info.close_after_answer();
                let detail = format!("the body has more than {limit} bytes");
                return refused(Problem::new(Code::TooLarge, detail));
            }
            Ok(Err(_)) | Err(_) => {
                info.close_after_answer();
                return refused(Problem::new(Code::BodyTimeout, "the body did not come whole in time"));
            }
        };
        let arrived = Arrived {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body,
            from: info.peer().ip(),
            listener: info.listener(),
            tls: info.tls(),
            host,
        };
        let answering = self.operators.spawn(Arc::clone(&self.api).answer(arrived));
        match answering.await {
            Ok(reply) => reply,
            // The process is stopping, or a handler has a defect that the log tells of.
            Err(_) => refused(Problem::new(Code::Internal, "the request was not answered")),
        }
    }
}

fn refused(problem: Problem) -> Response<Body> {
    let id = problem::request_id();
    let mut reply = problem.reply(&id);
    protect(reply.headers_mut(), &id);
    reply
}
