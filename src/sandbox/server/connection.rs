//! Accepting and serving connections.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use super::answer::AnswerBody;
use super::gateway::Core;
use super::log::Fate;
use super::perform::{Reply, perform};
use super::wire::{Link, Manner, PREFACE, Socket, finish, pump};
use crate::sandbox;
use crate::sandbox::fault::Cut;

/// Largest request body.
const MAX_BODY: usize = 4 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Bytes between the socket and hyper.
const PIPE: usize = 64 << 10;

/// Accepts until the sandbox ends. While the script refuses, the port stays taken and connections are refused by the
/// system: the socket stops listening and listens again later.
pub(super) async fn accept(core: Arc<Core>, mut listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    let mut changed = core.changed.subscribe();
    loop {
        changed.mark_unchanged();
        if core.script().refuses() {
            // Registered anew afterwards: for tokio a socket that was shut down stays readable for ever.
            let Ok(socket) = listener.into_std() else { return };
            if SockRef::from(&socket).shutdown(std::net::Shutdown::Read).is_err() {
                return;
            }
            core.refusing.send_replace(true);
            while core.script().refuses() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
            if SockRef::from(&socket).listen(BACKLOG).is_err() {
                return;
            }
            let Ok(again) = TcpListener::from_std(socket) else {
                return;
            };
            listener = again;
            core.refusing.send_replace(false);
        }
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that broke while it waited is not the listener's end.
                let Ok((stream, _)) = accepted else { continue };
                let number = core.connections.fetch_add(1, Ordering::Relaxed) + 1;
                let (task, tls) = (Arc::clone(&core), tls.clone());
                core.background(async move { connection(task, stream, tls, number).await });
            }
            _ = changed.changed() => {}
        }
    }
}

async fn connection(core: Arc<Core>, stream: TcpStream, tls: Option<Arc<ServerConfig>>, number: u64) {
    let _ = stream.set_nodelay(true);
    let cut = core.script().take_cut_connection();
    if let Some(cut) = cut {
        return finish(stream, cut).await;
    }
    match tls {
        Some(config) => {
            let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else {
                return;
            };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve(core, stream, Vec::new(), Link::new(number, http2)).await;
        }
        None => {
            let mut stream = stream;
            // Plain HTTP/2 is known by its first bytes only.
            let first = preface(&core, &mut stream).await;
            let http2 = first.starts_with(PREFACE);
            serve(core, stream, first, Link::new(number, http2)).await;
        }
    }
}

/// Reads until the bytes are the preface of HTTP/2, or cannot be.
async fn preface(core: &Core, stream: &mut TcpStream) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut first = Vec::new();
    let mut buffer = [0u8; 4096];
    let mut closing = core.changed.subscribe();
    loop {
        let known = first.len().min(PREFACE.len());
        if known == PREFACE.len() || (known > 0 && first.get(..known) != PREFACE.get(..known)) {
            return first;
        }
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(read) if read > 0 => first.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                _ => return first,
            },
            // A gateway that goes down drops connections nobody has used.
            _ = closing.changed() => if first.is_empty() && core.script().refuses() { return first },
        }
    }
}

async fn serve(core: Arc<Core>, socket: impl Socket, first: Vec<u8>, link: Link) {
    let link = Arc::new(link);
    let (ours, hypers) = tokio::io::duplex(PIPE);
    let hyper = {
        let (core, link) = (Arc::clone(&core), Arc::clone(&link));
        async move { hyper_side(core, link, TokioIo::new(hypers)).await }
    };
    core.background(hyper);
    pump(socket, ours, first, &link, &core).await;
}

/// hyper's end of the pipe, to the end of the connection.
async fn hyper_side(core: Arc<Core>, link: Arc<Link>, io: TokioIo<tokio::io::DuplexStream>) {
    let mut down = core.changed.subscribe();
    let service = {
        let (core, link) = (Arc::clone(&core), Arc::clone(&link));
        service_fn(move |request| answer(Arc::clone(&core), Arc::clone(&link), request))
    };
    // Both kinds of connection have the same two calls and no trait for them.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            loop {
                tokio::select! {
                    _ = connection.as_mut() => return,
                    () = link.closing.notified() => connection.as_mut().graceful_shutdown(),
                    () = refused(&core, &mut down) => connection.as_mut().graceful_shutdown(),
                }
            }
        }};
    }
    if link.http2 {
        drive!(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
    }
    // What was accepted just before the script began to refuse is answered, and ends.
    let mut http1 = hyper::server::conn::http1::Builder::new();
    http1.keep_alive(!core.script().refuses());
    drive!(http1.serve_connection(io, service));
}

/// Waits until the script begins to refuse connections.
async fn refused(core: &Core, changed: &mut watch::Receiver<u64>) {
    loop {
        if changed.changed().await.is_err() {
            return std::future::pending().await;
        }
        if core.script().refuses() {
            return;
        }
    }
}

/// The script ended the stream, or the request never came whole.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox ends this stream")]
struct Ended(#[source] Option<h2::Error>);

async fn answer(
    core: Arc<Core>,
    link: Arc<Link>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Box<dyn Error + Send + Sync>> {
    link.headed.store(true, Ordering::Release);
    let (sender, receiver) = oneshot::channel();
    let (head, body) = request.into_parts();
    let seq = core.log.begin(core.clock.now(), &link, &head);
    let task = Arc::clone(&core);
    core.spawn(async move {
        // Read to its end here: hyper drops the service when the client leaves, the request is none the less there.
        let body: Result<Bytes, _> = Limited::new(body, MAX_BODY)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        let Ok(body) = body else {
            task.log.note(seq, |entry| entry.fate = Fate::Partial);
            return;
        };
        let request = sandbox::Request {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body,
            base: task.base.clone(),
        };
        let _ = sender.send(perform(&task, &request, seq).await);
    });
    let Ok(reply) = receiver.await else {
        return Err(Box::new(Ended(None)));
    };
    let Reply {
        answer,
        mut cut,
        drip,
        reset,
        go_away,
        provisional,
        idle,
        end,
    } = reply;
    if let Some(code) = reset {
        if link.http2 {
            return Err(Box::new(Ended(Some(h2::Reason::from(code).into()))));
        }
        cut = Some((0, Cut::Rst));
    }
    let (mut head, body) = answer.into_parts();
    if go_away && link.http2 {
        link.closing.notify_one();
    } else if go_away {
        head.headers
            .insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    }
    link.answering(Manner {
        cut,
        provisional,
        idle,
        end,
    });
    head.headers.remove(http::header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, AnswerBody::new(body, drip)))
}
