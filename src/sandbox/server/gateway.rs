//! One simulated gateway on its port: what it shares with its connections, and the handle that tests hold.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::log::{Log, Received};
use super::webhooks::{Delivery, Outbox};
use crate::sandbox::books::Books;
use crate::sandbox::clock::Clock;
use crate::sandbox::fault::{Fault, Rule, Script};
use crate::sandbox::{Scheduled, Simulator, Turn};

/// Everything a gateway's connections share.
pub(super) struct Core {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) base: String,
    pub(super) clock: Clock,
    pub(super) log: Log,
    pub(super) outbox: Outbox,
    pub(super) connections: AtomicU64,
    /// Counts changes of the script; the accept loop watches it.
    pub(super) changed: watch::Sender<u64>,
    /// Whether the system refuses connections by now.
    pub(super) refusing: watch::Sender<bool>,
    books: Books,
    simulator: Mutex<Box<dyn Simulator>>,
    script: Mutex<Script>,
    latency_ms: AtomicU64,
    /// Requests that are not answered, and what was scheduled.
    busy: watch::Sender<usize>,
    over: watch::Sender<bool>,
}

impl Core {
    pub(super) fn new(
        name: String,
        address: SocketAddr,
        scheme: &str,
        simulator: Box<dyn Simulator>,
        seed: u64,
        (clock, books): (Clock, Books),
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            address,
            base: format!("{scheme}://{address}"),
            clock,
            log: Log::default(),
            outbox: Outbox::default(),
            connections: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            refusing: watch::Sender::new(false),
            books,
            simulator: Mutex::new(simulator),
            script: Mutex::new(Script::seeded(seed)),
            latency_ms: AtomicU64::new(0),
            busy: watch::Sender::new(0),
            over: watch::Sender::new(false),
        })
    }

    /// The simulator. Never held across an await.
    pub(super) fn simulator(&self) -> MutexGuard<'_, Box<dyn Simulator>> {
        self.simulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script. Never held across an await.
    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms.load(Ordering::Relaxed))
    }

    /// Runs a task that ends with the sandbox, and counts as busy while it does.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let busy = Busy::new(self);
        self.background(async move {
            task.await;
            drop(busy);
        });
    }

    /// Runs a task that ends with the sandbox.
    pub(super) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut over = self.over.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                _ = over.wait_for(|over| *over) => {}
            }
        });
    }

    /// Ends every connection and task.
    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Writes an execution's effects into the books, and starts what follows from it.
    pub(super) fn take(self: &Arc<Self>, now: i64, turn: Turn) {
        self.books.record(now, &self.name, turn.effects);
        for webhook in turn.webhooks {
            let id = self.outbox.keep(&webhook);
            let core = Arc::clone(self);
            if self.outbox.url().is_some() {
                self.spawn(async move {
                    tokio::time::sleep(webhook.after).await;
                    core.outbox.deliver(id).await;
                });
            }
        }
        for Scheduled { after, token } in turn.scheduled {
            let core = Arc::clone(self);
            self.spawn(async move {
                tokio::time::sleep(after).await;
                let now = core.clock.now();
                let turn = core.simulator().fire(now, &token);
                core.take(now, turn);
            });
        }
    }
}

/// Counts a task as busy while it lives.
struct Busy(watch::Sender<usize>);

impl Busy {
    fn new(core: &Core) -> Self {
        core.busy.send_modify(|count| *count += 1);
        Self(core.busy.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A running gateway. Cheap to clone; it runs as long as its [`Sandbox`](super::Sandbox).
#[derive(Clone)]
pub struct Gateway {
    pub(super) core: Arc<Core>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gateway({} at {})", self.core.name, self.core.base)
    }
}

impl Gateway {
    /// Its name in books and paths.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.core.address
    }

    /// `http://127.0.0.1:port` or `https://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        &self.core.base
    }

    /// Adds a rule to its script.
    pub fn fault(&self, rule: Rule) {
        if let Fault::Refuse { ms: Some(ms) } = rule.fault {
            let (core, rule) = (Arc::clone(&self.core), rule.clone());
            self.core.background(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                core.script().remove(&rule);
                core.changed.send_modify(|count| *count += 1);
            });
        }
        self.core.script().push(rule);
        self.core.changed.send_modify(|count| *count += 1);
    }

    /// Waits until a script that refuses connections does: what is accepted a moment before is still answered.
    pub async fn refusing(&self) {
        let _ = self.core.refusing.subscribe().wait_for(|refusing| *refusing).await;
    }

    /// Waits until a script that refuses connections no more does not: until then the system still refuses them.
    pub async fn accepting(&self) {
        let _ = self.core.refusing.subscribe().wait_for(|refusing| !*refusing).await;
    }

    /// The rules that are not used up.
    pub fn faults(&self) -> Vec<Rule> {
        self.core.script().rules().to_vec()
    }

    /// Drops every rule; a refusing port takes connections again.
    pub fn clear_faults(&self) {
        self.core.script().clear();
        self.core.changed.send_modify(|count| *count += 1);
    }

    /// Time added to every request before it has any effect.
    pub fn set_latency(&self, latency: Duration) {
        let ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.core.latency_ms.store(ms, Ordering::Relaxed);
    }

    /// Changes a setting of its simulator (or `latency_ms`).
    ///
    /// # Errors
    /// What would have been possible.
    pub fn set(&self, name: &str, value: &str) -> Result<(), String> {
        if name == "latency_ms" {
            let ms = value.parse().map_err(|_| "latency_ms is in milliseconds".to_owned())?;
            self.set_latency(Duration::from_millis(ms));
            return Ok(());
        }
        self.core.simulator().set(name, value)
    }

    /// What it received, oldest first; see [`log`](super::log) for how much is kept.
    pub fn requests(&self) -> Vec<Received> {
        self.core.log.all()
    }

    /// Forgets what it received.
    pub fn forget_requests(&self) {
        self.core.log.clear();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.core.connections.load(Ordering::Relaxed)
    }

    /// Waits until so many requests have begun to arrive (heads that were whole, and pieces of requests).
    pub async fn received(&self, count: u64) {
        let _ = self.core.log.count().wait_for(|seen| *seen >= count).await;
    }

    /// Waits until nothing is under way: every request answered or abandoned, everything scheduled done. A fault that
    /// lasts for ever is under way for ever.
    pub async fn quiet(&self) {
        let _ = self.core.busy.subscribe().wait_for(|busy| *busy == 0).await;
    }

    /// Sets where notifications are posted; `None` keeps them back.
    ///
    /// # Errors
    /// When it is not a plain HTTP URL.
    pub fn webhooks_to(&self, url: Option<&str>) -> Result<(), String> {
        self.core.outbox.send_to(url)
    }

    /// Notifications so far, delivered or not.
    pub fn webhooks(&self) -> Vec<Delivery> {
        self.core.outbox.all()
    }

    /// Posts notifications again.
    pub fn deliver_webhooks(&self, which: Redeliver) {
        for delivery in self.core.outbox.all() {
            if which == Redeliver::All || !delivery.delivered {
                let core = Arc::clone(&self.core);
                self.core.spawn(async move { core.outbox.deliver(delivery.id).await });
            }
        }
    }
}

/// Which notifications are posted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redeliver {
    /// Those that nobody took.
    Missed,
    /// All: receivers must bear duplicates.
    All,
}
