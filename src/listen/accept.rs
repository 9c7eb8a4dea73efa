//! The accept loop of one listener on one worker.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior};

use super::bind::Bound;
use super::connection::{ConnectionInfo, linger, serve_socket};
use super::refusal::Refusal;
use super::sweep::{self, Connection, Order, Registry};
use super::{Event, RequestBody, Settings, Shutdown, Stop};

/// The pause after `accept` failed for want of a resource; it doubles up to [`PAUSE_MAX`]. Without it the loop would
/// spin, because the connection stays in the queue.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Connections that are being told that there are too many. Beyond these, a connection is dropped without an answer.
const TURNED_AWAY: usize = 64;

/// How many queued connections are still taken when draining begins.
const LAST: usize = 256;

/// Serves a listener until it was told to stop and its last connection ended.
///
/// Runs on a thread whose runtime spawns locally. Each connection is a task of its own; dropping the returned
/// future leaves them running. Returns at once with an error when the socket cannot be registered.
pub async fn serve<H, F, B>(
    bound: Bound,
    settings: Rc<Settings>,
    handler: Rc<H>,
    mut shutdown: Shutdown,
) -> io::Result<()>
where
    H: Fn(Request<RequestBody>, ConnectionInfo) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let address = settings.serves.unwrap_or(bound.address());
    let mut listener = Some(TcpListener::from_std(bound.into_std())?);
    let registry = Rc::new(Registry::default());
    let turned_away = Rc::new(Cell::new(0));
    let tick = sweep::tick(&settings);
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = PAUSE;
    let mut resume: Option<Instant> = None;
    let admit = |stream: TcpStream, peer| {
        let Some(admitted) = settings.connections.admit() else {
            (settings.observe)(Event::Full);
            turn_away(stream, &settings, &turned_away);
            return;
        };
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(address, peer, settings.tls.is_some());
        let registered = registry.add(&connection);
        (settings.observe)(Event::Opened);
        let (settings, handler) = (settings.clone(), handler.clone());
        tokio::task::spawn_local(async move {
            let (_admitted, _registered) = (admitted, registered);
            let _closed = Closed(settings.clone());
            serve_socket(stream, connection, settings, handler).await;
        });
    };
    let mut stop = shutdown.now();
    let mut applied = Stop::No;
    loop {
        if stop > applied {
            applied = stop;
            if let Some(listener) = listener.take() {
                // Clients whose connection the kernel already accepted expect an answer.
                for _ in 0..LAST {
                    match listener.accept().now_or_never() {
                        Some(Ok((stream, peer))) if stop == Stop::Drain => admit(stream, peer),
                        _ => break,
                    }
                }
            }
            registry.command_all(if stop == Stop::Now { Order::Abort } else { Order::Finish });
        }
        if listener.is_none() && registry.is_empty() {
            return Ok(());
        }
        let accept = async {
            match &listener {
                Some(listener) => {
                    if let Some(resume) = resume {
                        tokio::time::sleep_until(resume).await;
                    }
                    listener.accept().await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => match accepted {
                Ok((stream, peer)) => {
                    (pause, resume) = (PAUSE, None);
                    admit(stream, peer);
                }
                Err(error) if is_scarcity(&error) => {
                    (settings.observe)(Event::AcceptFailed);
                    resume = Some(Instant::now() + pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                // The client went away between connecting and being accepted.
                Err(_) => {}
            },
            _ = ticks.tick(), if !registry.is_empty() => {
                registry.sweep(tick, &settings, |_| (settings.observe)(Event::TimedOut));
            }
            next = shutdown.changed(), if stop < Stop::Now => stop = next.max(stop),
            () = registry.emptied.notified(), if listener.is_none() => {}
        }
    }
}

/// Reports the end of a connection, however it comes.
struct Closed(Rc<Settings>);

impl Drop for Closed {
    fn drop(&mut self) {
        (self.0.observe)(Event::Closed);
    }
}

/// Descriptors, buffers or memory are exhausted: waiting helps. Everything else concerns one connection only.
fn is_scarcity(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&Errno::from_raw_os_error(code))
    })
}

/// Answers 503: some official SDKs crash on a connection that closes without an answer. A TLS client cannot be answered
/// without the handshake that there is no room for.
fn turn_away(mut stream: TcpStream, settings: &Settings, count: &Rc<Cell<usize>>) {
    if settings.tls.is_some() || count.get() >= TURNED_AWAY {
        return;
    }
    count.set(count.get() + 1);
    let answer = Refusal::Full.to_bytes(&(settings.render)(&Refusal::Full));
    let count = count.clone();
    tokio::task::spawn_local(async move {
        linger(&mut stream, &answer).await;
        count.set(count.get() - 1);
    });
}
