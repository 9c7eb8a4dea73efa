//! The engine: what [`core`](super::core) decides, done.
//!
//! # Its parts
//!
//! - [`Engine`] is one for the process and may be used from any thread: the ledger, the routes, and the payments that are
//!   at work. [`Engine::deliver`] brings an event to a payment by its id, whoever is at work on it; that is all that
//!   webhooks, recovery and operators need.
//! - [`Desk`] is one for each worker thread and never leaves it: it has the connections. Whatever is sent to a gateway is
//!   sent from a desk.
//! - An *actor* is one for each payment at work, a task of its own on a desk's thread: it holds the payment's state, takes
//!   events one at a time, and carries the core's actions out in their order. An application that closes its connection
//!   ends nothing: it only stops listening to its actor.
//! - [`Route`] is what a payment needs of a configured route: its gateways with their breakers, its failover settings.
//!
//! # The way of a payment
//!
//! [`Desk::handle`] reads the request ([`entry`]), plans ([`planner`]) and starts an actor under a fresh id, which opens the
//! payment in the ledger. When the ledger already knows the key, the actor hands its caller over to that payment's own
//! actor and ends: so twins meet at one actor, whichever worker they came to. Actors of known payments load their state
//! from the ledger first. One payment never has two actors: the map of handles is the lock.
//!
//! # What it refuses
//!
//! It sends nothing that the ledger has not acknowledged, retries nothing by itself, and keeps no request body longer than
//! its caller waits. Requests that it does not understand, or that could not be taken elsewhere anyway, are forwarded
//! untouched, and the answer says why.

mod actor;
mod announce;
mod answer;
mod canon;
mod captures;
mod certified;
mod dossier;
mod entry;
mod flight;
mod follow_up;
mod guard;
mod instruments;
mod loading;
mod lowering;
mod minted;
mod notices;
mod opening;
mod orders;
mod persist;
mod planner;
mod probe;
mod route;
mod source;
mod struck;
pub mod tenants;
mod tokens;
mod vouching;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::core::{Objection, State, What};
use crate::ledger::Ledger;
use crate::telemetry::Metrics;
pub use answer::Told;
pub use dossier::{NAME as DOSSIER, declines};
pub use entry::{Asked, Handled, Unavailable};
pub use route::{At, Route};
pub use source::{key_hash, order_hash};
pub use wire::Wire;

/// Events that may wait for one payment. More callers than this at once wait for a place.
const INBOX: usize = 64;
/// Payments that may wait to be taken up by one worker.
const JOBS: usize = 1024;

/// What all workers share. One for the process.
pub struct Engine {
    ledger: Arc<dyn Ledger>,
    metrics: Arc<Metrics>,
    routes: ArcSwap<BTreeMap<String, Arc<Route>>>,
    actors: DashMap<Uuid, mpsc::Sender<Message>>,
    desks: Mutex<Vec<mpsc::Sender<Job>>>,
    turn: AtomicUsize,
    tokens: tokens::Tokens,
    certified: certified::Certified,
    /// Where certificates are kept.
    certificates: PathBuf,
    parties: tenants::Parties,
    /// From which gateways' idempotency keys are derived (safety rule D6); a function of the ledger's master key.
    gateway_secret: [u8; 32],
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("actors", &self.actors.len())
            .finish_non_exhaustive()
    }
}

/// What a desk is handed by other threads.
enum Job {
    /// A known payment, to be taken up.
    Payment(Uuid, mpsc::Receiver<Message>),
    /// A request of Sentinel's own, to be handled as an application's would be.
    Request(Arc<Route>, Box<Asked>, oneshot::Sender<Handled>),
}

/// What an actor is sent.
pub(crate) enum Message {
    /// An application asks for the payment, for the first time or again.
    Ask(entry::Ask),
    /// An application asks for a capture, void, refund or look at the payment.
    FollowUp(Box<follow_up::FollowUp>),
    /// Something happened: a webhook, an operator, the clock.
    Event(Box<What>, oneshot::Sender<Delivered>),
    /// Only that somebody looks after the payment: loading it does the rest.
    Wake(oneshot::Sender<Delivered>),
}

/// What became of an event.
#[derive(Clone, Debug)]
pub enum Delivered {
    /// It was taken in; the payment's state afterwards.
    Taken(Box<State>),
    /// The payment was not found, or is only a tombstone.
    Unknown,
    /// A person's word that evidence contradicts. Nothing was recorded.
    Refused(Objection),
    /// Somebody else moved the payment at the same moment. The event was not taken in; look again.
    Moved,
    /// Another process works on the payment; it has to be asked.
    Elsewhere,
    /// The ledger could not be used. The event was not taken in; try again.
    Unavailable,
}

impl Engine {
    /// An engine over a ledger and the certificates beside it, without routes or workers yet.
    pub fn new(ledger: Arc<dyn Ledger>, certificates: PathBuf, metrics: Arc<Metrics>) -> Arc<Self> {
        let gateway_secret = ledger.keys().derive(&[b"gateway idempotency keys"]);
        Arc::new(Self {
            ledger,
            metrics,
            routes: ArcSwap::default(),
            actors: DashMap::new(),
            desks: Mutex::default(),
            turn: AtomicUsize::new(0),
            tokens: tokens::Tokens::default(),
            certified: certified::Certified::default(),
            certificates,
            parties: tenants::Parties::default(),
            gateway_secret,
        })
    }

    /// The ledger.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// The registry.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Takes the routes of a new configuration into use, for payments opened or loaded from now on.
    pub fn set_routes(&self, routes: impl IntoIterator<Item = Arc<Route>>) {
        let routes = routes
            .into_iter()
            .map(|route| (route.name().to_owned(), route))
            .collect();
        self.routes.store(Arc::new(routes));
        self.parties.forget_routes();
    }

    /// The route of this name, when the configuration has one.
    pub fn route(&self, name: &str) -> Option<Arc<Route>> {
        self.routes.load().get(name).cloned()
    }

    /// Every route.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        self.routes.load().values().cloned().collect()
    }

    /// How many payments are at work in this process.
    pub fn at_work(&self) -> usize {
        self.actors.len()
    }

    /// Brings an event to a payment and answers what became of it. From any thread.
    ///
    /// The payment is loaded and its lease taken when nobody here is at work on it ([`What::Recovered`] is then delivered
    /// before `what`). Use it for [`What::Observed`] of webhooks, [`What::Expired`], [`What::Aged`] and [`What::Resolve`];
    /// requests of applications come through [`Desk::handle`].
    pub async fn deliver(&self, payment: Uuid, what: What) -> Delivered {
        let (reply, answer) = oneshot::channel();
        self.send(payment, Message::Event(Box::new(what), reply)).await;
        answer.await.unwrap_or(Delivered::Unavailable)
    }

    /// Has somebody look after a payment: the way of recovery. Loading it takes the lease and drives whatever is open.
    pub async fn wake(&self, payment: Uuid) -> Delivered {
        let (reply, answer) = oneshot::channel();
        self.send(payment, Message::Wake(reply)).await;
        answer.await.unwrap_or(Delivered::Unavailable)
    }

    /// Has a request of Sentinel's own handled, as [`Desk::handle`] handles an application's. From any thread; `None` when
    /// no worker is left.
    pub async fn handle(&self, route: &Arc<Route>, asked: Asked) -> Option<Handled> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Request(Arc::clone(route), Box::new(asked), reply);
        self.next_desk()?.send(job).await.ok()?;
        answer.await.ok()
    }

    /// The next worker's desk, each in turn.
    fn next_desk(&self) -> Option<mpsc::Sender<Job>> {
        let desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        match desks.len() {
            0 => None,
            all => desks.get(self.turn.fetch_add(1, Ordering::Relaxed) % all).cloned(),
        }
    }

    /// Whether a payment is at work in this process.
    pub fn is_at_work(&self, payment: Uuid) -> bool {
        self.actors.contains_key(&payment)
    }

    /// Sends a message to a payment's actor, and starts one where there is none.
    pub(crate) async fn send(&self, payment: Uuid, mut message: Message) {
        loop {
            let known = self.actors.get(&payment).map(|sender| sender.value().clone());
            let sender = match known {
                Some(sender) => sender,
                None => match self.start(payment).await {
                    Some(sender) => sender,
                    // No worker is left to take it up; whoever waits for the answer sees the channel close.
                    None => return,
                },
            };
            match sender.send(message).await {
                Ok(()) => return,
                // The actor ended between the two lines. A new one finds everything in the ledger.
                Err(mpsc::error::SendError(back)) => {
                    message = back;
                    self.actors.remove_if(&payment, |_, sender| sender.is_closed());
                }
            }
        }
    }

    async fn start(&self, payment: Uuid) -> Option<mpsc::Sender<Message>> {
        let (sender, inbox) = mpsc::channel(INBOX);
        let started = match self.actors.entry(payment) {
            dashmap::Entry::Occupied(there) => return Some(there.get().clone()),
            dashmap::Entry::Vacant(free) => free.insert(sender).value().clone(),
        };
        let taken = match self.next_desk() {
            Some(desk) => desk.send(Job::Payment(payment, inbox)).await.is_ok(),
            None => false,
        };
        if !taken {
            self.actors.remove(&payment);
            return None;
        }
        Some(started)
    }

    /// The ledger's clock in seconds: the core's only clock.
    pub(crate) fn now(&self) -> i64 {
        self.ledger.now().div_euclid(1000)
    }

    /// Bytes that only this payment has: what minted ids are made of.
    pub(crate) fn seed(&self, payment: Uuid) -> [u8; 16] {
        let bytes = self.ledger.keys().derive(&[b"minted ids", payment.as_bytes()]);
        let mut seed = [0; 16];
        seed.copy_from_slice(&bytes[..16]);
        seed
    }
}

/// One worker's part of the engine: its connections, and the payments it works on.
pub struct Desk {
    engine: Arc<Engine>,
    wire: Wire,
    /// Whether the worker is about to end: actors then finish what is on its way, and begin nothing that can wait.
    closing: watch::Sender<bool>,
    /// How many actors are at work here.
    working: watch::Sender<usize>,
    /// Takes payments up until the last one that was handed over.
    taking_up: RefCell<Option<JoinHandle<()>>>,
    jobs: RefCell<Option<mpsc::Sender<Job>>>,
}

/// Counts an actor while it lives.
struct Working(Rc<Desk>);

impl Working {
    fn new(desk: &Rc<Desk>) -> Self {
        desk.working.send_modify(|count| *count += 1);
        Self(Rc::clone(desk))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.send_modify(|count| *count -= 1);
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// A desk on this thread, whose runtime must spawn locally: payments that other threads start are taken up
    /// by a task of it.
    pub fn new(engine: Arc<Engine>, wire: Wire) -> Rc<Self> {
        let (sender, mut jobs) = mpsc::channel::<Job>(JOBS);
        let mut desks = engine.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.push(sender.clone());
        drop(desks);
        let desk = Rc::new(Self {
            engine,
            wire,
            closing: watch::Sender::new(false),
            working: watch::Sender::new(0),
            taking_up: RefCell::default(),
            jobs: RefCell::new(Some(sender)),
        });
        let here = Rc::clone(&desk);
        let taking_up = tokio::task::spawn_local(async move {
            while let Some(job) = jobs.recv().await {
                let working = Working::new(&here);
                tokio::task::spawn_local(async move {
                    let desk = &working.0;
                    match job {
                        Job::Payment(payment, inbox) => loading::load(Rc::clone(desk), payment, inbox).await,
                        Job::Request(route, asked, reply) => {
                            let _ = reply.send(desk.handle(&route, *asked).await);
                        }
                    }
                });
            }
        });
        *desk.taking_up.borrow_mut() = Some(taking_up);
        desk
    }

    /// Ends the desk: nothing is handed to it any more, exchanges that are on their way are finished and recorded, and
    /// what can wait is left to the ledger, where the next start finds it. Takes as long as the longest exchange.
    pub async fn close(&self) {
        let own = self.jobs.take();
        if let Some(own) = own {
            let mut desks = self.engine.desks.lock().unwrap_or_else(PoisonError::into_inner);
            desks.retain(|desk| !desk.same_channel(&own));
        }
        let taking_up = self.taking_up.take();
        self.closing.send_replace(true);
        if let Some(taking_up) = taking_up {
            let _ = taking_up.await;
        }
        let _ = self.working.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Resolves when the desk is about to end.
    pub(crate) async fn closes(&self) {
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// What all desks share.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Closes the idle connections of gateways that are not known any more.
    pub fn retain_connections(&self, known: impl Fn(&str) -> bool) {
        self.wire.retain(known);
    }

    /// Starts the actor of a payment that is to be opened. It is in the map before the ledger hears of the payment, so
    /// that a twin who finds it there finds the actor here.
    fn open(self: &Rc<Self>, opening: opening::Opening) {
        let payment = Uuid::now_v7();
        let (sender, inbox) = mpsc::channel(INBOX);
        self.engine.actors.insert(payment, sender);
        let working = Working::new(self);
        // Boxed: the runtime moves a task's future several times before it lies still, and an actor is large.
        tokio::task::spawn_local(Box::pin(async move {
            opening::open(Rc::clone(&working.0), payment, opening, inbox).await;
        }));
    }
}
