//! The state that a connection shares with its worker, and the one timer that watches all connections of a listener.
//!
//! A timer for each request would cost system calls (reference: performance). Here a connection only counts what happens
//! on it in plain cells; the sweep compares the counts with those of its last tick. Nothing happened for as many ticks as
//! the timeout has: the connection is ended. No clock is read and nothing is armed in the path of a request.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use crate::arrival::Arrival;

/// What a connection is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The TLS handshake.
    Handshake,
    /// The first bytes have not told the protocol yet.
    Sniff,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// How far the answer to a timed request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is not timed.
    #[default]
    Untimed,
    /// Its first bytes are not written.
    Awaited,
    /// They were handed to the kernel then, or it had no room for them.
    Written(Instant),
}

/// What an observer asks a connection's task to do. Orders only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Go on.
    Serve,
    /// Finish what is in flight, then close.
    Finish,
    /// End now.
    Abort,
}

/// One connection, as its task, its IO, its requests and the sweep see it. All on one thread.
#[derive(Debug)]
pub(super) struct Connection {
    pub listener: SocketAddr,
    pub peer: SocketAddr,
    pub tls: bool,
    pub stage: Cell<Stage>,
    /// Requests given to the handler.
    pub started: Cell<u32>,
    /// Requests whose answer is not yet completely encoded.
    pub in_flight: Cell<u32>,
    /// Whether part of a head is held back.
    pub partial: Cell<bool>,
    /// Whether the client has left no room for writing.
    pub write_blocked: Cell<bool>,
    /// Writes that made progress.
    pub writes: Cell<u32>,
    /// The sweep found the head too slow.
    pub head_late: Cell<bool>,
    /// The handler asked for the connection to close.
    pub close: Cell<bool>,
    /// A refused head waits for earlier answers.
    pub refusal_waits: Cell<bool>,
    /// When the bytes of a request came that is timed.
    pub arrival: Rc<Arrival>,
    /// Whether the answer to a timed request was written.
    pub answer: Cell<Answer>,
    /// What is dropped as soon as it was: whatever has to be told of it then.
    pub after_write: RefCell<Option<Box<dyn Any>>>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    index: Cell<usize>,
    seen: Cell<(Stage, u32, u32, bool, u32)>,
    ticks: Cell<u32>,
}

impl Connection {
    pub fn new(listener: SocketAddr, peer: SocketAddr, tls: bool) -> Rc<Self> {
        let stage = if tls { Stage::Handshake } else { Stage::Sniff };
        Rc::new(Self {
            listener,
            peer,
            tls,
            stage: Cell::new(stage),
            started: Cell::new(0),
            in_flight: Cell::new(0),
            partial: Cell::new(false),
            write_blocked: Cell::new(false),
            writes: Cell::new(0),
            head_late: Cell::new(false),
            close: Cell::new(false),
            refusal_waits: Cell::new(false),
            arrival: Rc::default(),
            answer: Cell::default(),
            after_write: RefCell::default(),
            order: Cell::new(Order::Serve),
            waker: RefCell::new(None),
            index: Cell::new(0),
            seen: Cell::new((stage, 0, 0, false, 0)),
            ticks: Cell::new(0),
        })
    }

    /// A poll begins that may read a request: is it one to be timed?
    pub fn time_next(&self, settings: &Settings) {
        match settings.sampler.next() {
            true => self.arrival.ask(),
            false => self.arrival.forget(),
        }
    }

    /// The answer that comes next is timed.
    pub fn time_answer(&self) {
        self.arrival.watch();
        self.answer.set(Answer::Awaited);
    }

    /// Bytes of the answer were written, or found no room.
    pub fn wrote(&self) {
        if self.answer.get() == Answer::Awaited {
            self.answer
                .set(Answer::Written(self.arrival.went().unwrap_or_else(Instant::now)));
            self.no_more_writes();
        }
    }

    /// Nothing that waits for a write is to wait any longer.
    pub fn no_more_writes(&self) {
        let waiting = self.after_write.take();
        drop(waiting);
    }

    pub fn order(&self) -> Order {
        self.order.get()
    }

    pub fn command(&self, order: Order) {
        if self.order.get() < order {
            self.order.set(order);
            self.wake();
        }
    }

    /// Remembers the connection's task; cheap when it is the same as before.
    pub fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }

    pub fn wake(&self) {
        // A clone, so that no borrow is held while foreign code runs.
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Runs a future until it is done or the connection is to be aborted (`None`).
    pub async fn unless_aborted<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            self.register(cx);
            if self.order() == Order::Abort {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// What the client is being waited for, and how long it may take.
    fn waits(&self, settings: &Settings) -> Option<(Wait, Duration)> {
        let idle = self.in_flight.get() == 0;
        match self.stage.get() {
            Stage::Handshake => Some((Wait::Handshake, settings.handshake_timeout)),
            _ if self.write_blocked.get() => Some((Wait::Write, settings.write_timeout)),
            _ if idle && self.partial.get() => Some((Wait::Head, settings.header_timeout)),
            _ if idle => Some((Wait::Idle, settings.idle_timeout)),
            _ => None,
        }
    }

    /// One tick. Says what took too long, if anything did.
    fn tick(&self, tick: Duration, settings: &Settings) -> Option<Wait> {
        let now = (
            self.stage.get(),
            self.started.get(),
            self.in_flight.get(),
            self.partial.get(),
            self.writes.get(),
        );
        if self.seen.replace(now) != now {
            self.ticks.set(0);
            return None;
        }
        self.ticks.set(self.ticks.get().saturating_add(1));
        let (wait, limit) = self.waits(settings)?;
        (tick * self.ticks.get() >= limit).then_some(wait)
    }
}

/// What a client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Handshake,
    Head,
    Idle,
    Write,
}

/// The connections of one listener on one worker.
#[derive(Debug, Default)]
pub(super) struct Registry {
    connections: RefCell<Vec<Rc<Connection>>>,
    pub emptied: tokio::sync::Notify,
}

impl Registry {
    pub fn add(self: &Rc<Self>, connection: &Rc<Connection>) -> Registered {
        let mut connections = self.connections.borrow_mut();
        connection.index.set(connections.len());
        connections.push(connection.clone());
        Registered {
            registry: self.clone(),
            connection: connection.clone(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    pub fn command_all(&self, order: Order) {
        for connection in &*self.connections.borrow() {
            connection.command(order);
        }
    }

    /// One tick over all connections. `timed_out` hears of each that is ended.
    pub fn sweep(&self, tick: Duration, settings: &Settings, mut timed_out: impl FnMut(Wait)) {
        for connection in &*self.connections.borrow() {
            match connection.tick(tick, settings) {
                None => continue,
                Some(Wait::Head) if connection.stage.get() == Stage::Http1 => {
                    connection.head_late.set(true);
                    connection.wake();
                }
                Some(Wait::Idle) if matches!(connection.stage.get(), Stage::Http1 | Stage::Http2) => {
                    if connection.order() == Order::Serve {
                        timed_out(Wait::Idle);
                    }
                    connection.command(Order::Finish);
                }
                Some(wait) => {
                    if connection.order() != Order::Abort {
                        timed_out(wait);
                    }
                    connection.command(Order::Abort);
                }
            }
        }
    }
}

/// Keeps a connection under the sweep until dropped.
#[derive(Debug)]
pub(super) struct Registered {
    registry: Rc<Registry>,
    connection: Rc<Connection>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut connections = self.registry.connections.borrow_mut();
        let index = self.connection.index.get();
        connections.swap_remove(index);
        if let Some(moved) = connections.get(index) {
            moved.index.set(index);
        }
        if connections.is_empty() {
            self.registry.emptied.notify_waiters();
        }
    }
}

/// The length of a tick: a quarter of the shortest timeout, so that none is met more than a quarter late.
pub(super) fn tick(settings: &Settings) -> Duration {
    let shortest = settings
        .header_timeout
        .min(settings.handshake_timeout)
        .min(settings.idle_timeout)
        .min(settings.write_timeout);
    (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
}
