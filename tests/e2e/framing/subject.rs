//! A listener with a handler that records what it saw.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use sentinel::listen::bind::Bound;
use sentinel::listen::{self, ConnectionInfo, Connections, Event, RequestBody, Settings, ShutdownHandle, Stop};
use tokio::sync::watch;

use super::Subject;
use crate::support::patience::PATIENCE;

type Seen = Arc<Mutex<HashMap<SocketAddr, Vec<String>>>>;

/// Runs a listener on a thread of its own until dropped.
pub struct Recorder {
    address: SocketAddr,
    seen: Seen,
    go: watch::Sender<bool>,
    waiting: Arc<AtomicUsize>,
    pub events: Arc<Mutex<Vec<Event>>>,
    pub handle: ShutdownHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Recorder {
    /// Starts with settings changed as wanted.
    pub fn start(change: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        Self::with_limit(1000, change)
    }

    /// Starts with a limit of connections.
    pub fn with_limit(limit: usize, change: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        let bound = Bound::for_workers("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        Self::on(bound, limit, change)
    }

    /// Starts on a socket.
    pub fn on(bound: Bound, limit: usize, change: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        let address = bound.address();
        let (handle, shutdown) = listen::shutdown();
        let seen = Seen::default();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (record, told) = (seen.clone(), events.clone());
        let go = watch::Sender::new(false);
        let going = go.clone();
        let waiting = Arc::new(AtomicUsize::new(0));
        let waits = Arc::clone(&waiting);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let local = tokio::task::LocalSet::new();
            let mut settings = Settings::new(Connections::new(limit));
            settings.observe = Rc::new(move |event| told.lock().unwrap().push(event));
            change(&mut settings);
            let handler = Rc::new(move |request: Request<RequestBody>, info| {
                if request.uri().path() == "/wait" {
                    waits.fetch_add(1, Ordering::SeqCst);
                }
                answer(request, info, record.clone(), going.clone())
            });
            local
                .block_on(&runtime, listen::serve(bound, Rc::new(settings), handler, shutdown))
                .unwrap();
        });
        Self {
            address,
            seen,
            go,
            waiting,
            events,
            handle,
            thread: Some(thread),
        }
    }

    /// Waits until the listener has ended by itself after a drain.
    pub fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }

    /// Waits until the listener has told of something: a moment before or after it is seen on the wire.
    pub fn told(&self, event: Event) {
        let patience = tokio::time::Instant::now() + PATIENCE;
        while !self.events.lock().unwrap().contains(&event) {
            assert!(tokio::time::Instant::now() < patience, "nobody tells of {event:?}");
            std::thread::yield_now();
        }
    }

    /// Waits until a client has asked for `/wait`.
    pub fn waits(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    /// Lets `/wait` answer.
    pub fn release(&self) {
        self.go.send_replace(true);
    }

    /// How many requests were seen, over all clients.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().values().map(Vec::len).sum()
    }
}

impl Subject for Recorder {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn take_seen(&self, client: SocketAddr) -> Vec<String> {
        self.seen.lock().unwrap().remove(&client).unwrap_or_default()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.handle.stop(Stop::Now);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the listener panicked");
        }
    }
}

/// Records the request and answers. `/close` closes after the answer, `/wait` waits until a client has sent `/go`.
async fn answer(
    request: Request<RequestBody>,
    info: ConnectionInfo,
    seen: Seen,
    go: watch::Sender<bool>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or_else(|| parts.uri.to_string(), ToString::to_string);
    if target == "/close" {
        info.close_after_answer();
    }
    match target.as_str() {
        "/go" => drop(go.send_replace(true)),
        "/wait" => drop(go.subscribe().wait_for(|go| *go).await),
        _ => {}
    }
    let body = body.collect().await;
    let broken = body.is_err();
    let text = match body {
        Ok(body) => {
            assert!(body.trailers().is_none(), "trailers reached the handler");
            String::from_utf8_lossy(&body.to_bytes()).into_owned()
        }
        Err(_) => "!".to_owned(),
    };
    let line = format!("{} {target} {text}", parts.method);
    seen.lock().unwrap().entry(info.peer()).or_default().push(line);
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok\n")));
    if broken {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}
