//! One payment at work: takes events one at a time, and carries out what the core decides, in its order.
//!
//! An actor lives as long as something of its payment is under way or somebody waits for it, and a little longer, so that
//! the application's own retry a second later gets the very bytes of the answer. Then it ends; whatever comes after is
//! loaded from the ledger again.

mod carry;

use std::cell::Cell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::core::{self, Action, Event, Here, Pause, Send, State, What, step};
use super::answer::{Told, own_error};
use super::dossier::{Dossier, Note};
use super::entry::{Ask, Material};
use super::flight::{Ground, Landed};
use super::follow_up::{self, Waiting};
use super::persist::{Rows, trouble};
use super::{Delivered, Desk, Message, Route, canon};
use crate::config::model::Mode;
use crate::gateway::outcome::Outcome;
use crate::gateway::{Head, Incoming, Leg, OwnError};
use crate::ledger::rows::Position;
pub(super) use carry::Prepared;

/// How long an actor outlives its work.
const LINGER: Duration = Duration::from_secs(5);
/// Pauses: the first and the longest of each class.
const WAITING: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
const BACKGROUND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));
/// Between two tries of a ledger that is busy or full.
const LEDGER_PAUSE: Duration = Duration::from_millis(50);
/// How often an event is tried against a payment that somebody else moves at the same time.
const TRIES: usize = 8;

type Local<T> = Pin<Box<dyn Future<Output = T>>>;

/// Why an actor cannot go on.
#[derive(Debug)]
pub(super) enum Lost {
    /// The payment moved on in the ledger: load it again.
    Moved,
    /// Another process owns it, or the ledger is closed or damaged: end.
    Gone,
    /// Another round was asked for, but another payment has the order by now. Nothing was recorded.
    OrderTaken,
    /// The gateway answered with an id that another payment has. Nothing was recorded.
    IdTaken,
}

/// Who waits for the payment itself.
pub(super) struct Caller {
    pub material: Arc<Material>,
    pub started: Instant,
    pub reply: tokio::sync::oneshot::Sender<Told>,
}

pub(super) struct Actor {
    pub desk: Rc<Desk>,
    pub payment: Uuid,
    pub route: Arc<Route>,
    pub state: State,
    pub dossier: Dossier,
    /// Complete answers of gateways with what each proves by itself, by attempt: in memory only.
    pub answers: HashMap<u16, (Incoming, Outcome)>,
    pub callers: Vec<Caller>,
    /// Callers of follow-ups.
    pub asking: Vec<Waiting>,
    /// When the first gateway was known to have failed.
    pub failed_at: Option<Instant>,
    fingerprint: [u8; 32],
    fp_version: u32,
    position: Position,
    lease_until: Rc<Cell<i64>>,
    material: Option<Arc<Material>>,
    dossier_changed: bool,
    flights: FuturesUnordered<Local<Landed>>,
    pauses: FuturesUnordered<Local<u16>>,
    hedges: FuturesUnordered<Local<u16>>,
    paused: HashMap<u16, u32>,
    deadline: Option<Instant>,
    inbox: mpsc::Receiver<Message>,
}

pub(super) fn unavailable(code: &'static str) -> OwnError {
    OwnError {
        status: http::StatusCode::SERVICE_UNAVAILABLE,
        code,
        message: "API Sentinel cannot record the payment now, and sent nothing: send it again.".to_owned(),
        retry: false,
    }
}

pub(super) fn key_reused() -> OwnError {
    OwnError {
        status: http::StatusCode::BAD_REQUEST,
        code: "idempotency_key_reused",
        message:
            "This idempotency key was used before with another request. Keys are for repeating the same request only."
                .to_owned(),
        retry: false,
    }
}

/// The order guard: one live payment for an order.
pub(super) fn order_taken(route: &Route, head: &Head) -> Told {
    let error = OwnError {
        status: http::StatusCode::CONFLICT,
        code: "possible_duplicate",
        message: "Another payment for this order is live: it was not paid again.".to_owned(),
        retry: false,
    };
    own_error(route, head, &error, "possible_duplicate")
}

/// What an actor begins with.
pub(super) struct Begin {
    pub payment: Uuid,
    pub route: Arc<Route>,
    pub state: State,
    pub dossier: Dossier,
    pub fingerprint: [u8; 32],
    pub fp_version: u32,
    pub position: Position,
    /// Until when the payment is ours, on the ledger's clock.
    pub lease_until: Rc<Cell<i64>>,
}

impl Actor {
    /// An actor with nothing under way.
    pub(super) fn new(desk: Rc<Desk>, begin: Begin, inbox: mpsc::Receiver<Message>) -> Self {
        Self {
            desk,
            payment: begin.payment,
            route: begin.route,
            state: begin.state,
            dossier: begin.dossier,
            answers: HashMap::new(),
            callers: Vec::new(),
            asking: Vec::new(),
            failed_at: None,
            fingerprint: begin.fingerprint,
            fp_version: begin.fp_version,
            position: begin.position,
            lease_until: begin.lease_until,
            material: None,
            dossier_changed: false,
            flights: FuturesUnordered::new(),
            pauses: FuturesUnordered::new(),
            hedges: FuturesUnordered::new(),
            paused: HashMap::new(),
            deadline: None,
            inbox,
        }
    }

    /// Begins with the caller who opened it, and with what follows from the first record.
    pub(super) async fn begin(&mut self, ask: Ask, actions: Vec<Action>, mut prepared: Prepared) {
        self.deadline = Some(ask.deadline);
        self.material = Some(Arc::clone(&ask.material));
        self.callers.push(Caller {
            material: ask.material,
            started: ask.started,
            reply: ask.reply,
        });
        for action in actions {
            self.act(action, &mut prepared).await;
        }
    }

    /// Notes what the application said with the attempt that is about to be planned.
    pub(super) fn note(&mut self, n: u16, note: Note) {
        self.dossier.notes.insert(n, note);
        self.dossier_changed = true;
    }

    /// The payment is told for good: whatever the application sent is not needed any more.
    pub(super) fn forget_request(&mut self) {
        self.material = None;
        self.deadline = None;
    }

    pub(super) fn recovery(&self) -> What {
        What::Recovered {
            owner: self.desk.engine.ledger.owner().to_string(),
            epoch: u64::try_from(self.position.epoch).unwrap_or(0),
        }
    }

    /// Works until nothing is left to do.
    pub(super) async fn work(&mut self) {
        let mut idle_since: Option<Instant> = None;
        loop {
            let busy = !self.flights.is_empty()
                || !self.pauses.is_empty()
                || !self.callers.is_empty()
                || !self.asking.is_empty();
            let until = match (busy, idle_since) {
                (true, _) => None,
                (false, Some(since)) => Some(since + LINGER),
                (false, None) => Some(*idle_since.insert(Instant::now()) + LINGER),
            };
            if busy {
                idle_since = None;
            }
            let deadline = self.deadline.filter(|_| !self.callers.is_empty());
            let waited_for = !self.callers.is_empty() || !self.asking.is_empty();
            let on_its_way = !self.flights.is_empty();
            let desk = Rc::clone(&self.desk);
            let Self {
                inbox,
                flights,
                pauses,
                hedges,
                callers,
                ..
            } = self;
            let happened = tokio::select! {
                biased;
                Some(landed) = flights.next() => Happened::Landed(landed),
                message = inbox.recv() => match message {
                    Some(message) => Happened::Message(Box::new(message)),
                    None => Happened::Over,
                },
                // What is on its way is heard and recorded; the rest is in the ledger.
                () = desk.closes(), if !on_its_way && !waited_for => Happened::Over,
                Some(n) = hedges.next() => Happened::What(Box::new(What::Hedge { n })),
                Some(n) = pauses.next() => Happened::What(Box::new(What::Timer { n })),
                () = abandoned(callers) => Happened::Left,
                () = sleep_until(deadline) => Happened::Deadline,
                () = sleep_until(until) => Happened::Over,
            };
            let done = match happened {
                Happened::Landed(landed) => self.landed(landed).await,
                Happened::Message(message) => self.message(*message).await,
                Happened::What(what) => self.take(*what).await,
                Happened::Left => match self.callers.is_empty() && self.state.here.caller {
                    true => self.take(What::Disconnected).await,
                    false => Ok(()),
                },
                Happened::Deadline => {
                    self.deadline = None;
                    let done = self.take(What::Deadline).await;
                    self.material = None;
                    // The core answers whoever it knows to wait; nobody may be left over.
                    self.answer_all(core::Verdict::InDoubt { running: true }, false);
                    done
                }
                Happened::Over => break,
            };
            if done.is_err() {
                break;
            }
        }
        self.end();
    }

    /// Leaves the map, and sends on what came too late.
    pub(super) fn end(&mut self) {
        self.answer_all(core::Verdict::InDoubt { running: true }, false);
        self.inbox.close();
        self.desk.engine.actors.remove(&self.payment);
        let mut late = Vec::new();
        while let Ok(message) = self.inbox.try_recv() {
            late.push(message);
        }
        if late.is_empty() {
            return;
        }
        let (engine, payment) = (Arc::clone(&self.desk.engine), self.payment);
        tokio::task::spawn_local(async move {
            for message in late {
                engine.send(payment, message).await;
            }
        });
    }

    async fn message(&mut self, message: Message) -> Result<(), Lost> {
        match message {
            Message::Ask(ask) => self.asked(ask).await,
            Message::FollowUp(asked) => follow_up::take(self, *asked).await,
            Message::Wake(reply) => {
                let _ = reply.send(Delivered::Taken(Box::new(self.state.clone())));
                Ok(())
            }
            Message::Event(what, reply) if matches!(*what, What::Resolve { .. }) => {
                let (delivered, done) = self.resolve(*what).await;
                let _ = reply.send(delivered);
                done
            }
            Message::Event(what, reply) => {
                let done = self.take(*what).await;
                let delivered = match &done {
                    Ok(()) => Delivered::Taken(Box::new(self.state.clone())),
                    Err(_) => Delivered::Unavailable,
                };
                let _ = reply.send(delivered);
                done
            }
        }
    }

    /// Takes a person's word, on what is known at this very moment or not at all.
    async fn resolve(&mut self, what: What) -> (Delivered, Result<(), Lost>) {
        if let What::Resolve { resolution, .. } = &what
            && let Some(objection) = self.state.objection(*resolution)
        {
            return (Delivered::Refused(objection), Ok(()));
        }
        let at = self.desk.engine.now();
        let (next, actions) = step(self.state.clone(), Event { at, what });
        match self.carry_out(next, actions, false).await {
            Ok(()) => (Delivered::Taken(Box::new(self.state.clone())), Ok(())),
            Err(Lost::Moved) => (Delivered::Moved, self.reload().await),
            Err(lost) => (Delivered::Unavailable, Err(lost)),
        }
    }

    /// The same payment is asked for again.
    async fn asked(&mut self, ask: Ask) -> Result<(), Lost> {
        let comparable = self.fp_version == canon::VERSION;
        if comparable && self.fingerprint != ask.fingerprint {
            let told = own_error(&self.route, &ask.material.head, &key_reused(), "key_reused");
            let _ = ask.reply.send(told);
            return Ok(());
        }
        self.callers.push(Caller {
            material: Arc::clone(&ask.material),
            started: ask.started,
            reply: ask.reply,
        });
        // Somebody waits for it already: the twin waits beside him, and hears the same.
        if self.state.here.caller {
            return Ok(());
        }
        // Another round is for somebody who still waits, and whose request is known to be the same.
        if let Some(told) = self.state.told.filter(|_| self.state.reopens())
            && (!comparable || self.callers.iter().all(|caller| caller.reply.is_closed()))
        {
            self.answer_all(told, true);
            return Ok(());
        }
        self.deadline = Some(ask.deadline);
        self.material = Some(ask.material);
        match self.take(What::Retry).await {
            Err(Lost::OrderTaken) => {
                self.forget_request();
                for caller in std::mem::take(&mut self.callers) {
                    let told = order_taken(&self.route, &caller.material.head);
                    let _ = caller.reply.send(told);
                }
                Ok(())
            }
            done => done,
        }
    }

    async fn landed(&mut self, landed: Landed) -> Result<(), Lost> {
        let n = landed.n;
        let what = match landed.result {
            Err(reason) => What::Skipped { n, reason },
            Ok(report) => {
                let report = *report;
                let of = self.state.attempt(n).map_or(n, |attempt| match attempt.leg {
                    Leg::Fence | Leg::Lookup => attempt.of.unwrap_or(n),
                    _ => n,
                });
                if let Some(observation) = &report.observation {
                    self.dossier_changed |= self.dossier.see(of, observation);
                }
                if let Some(answer) = report.answer {
                    self.answers.insert(n, (answer, report.finding.outcome));
                }
                What::Observed {
                    n,
                    finding: Box::new(report.finding),
                    evidence: Some(Box::new(report.evidence)),
                }
            }
        };
        let pending = matches!(&what, What::Observed { finding, .. } if finding.pending);
        self.take(what).await?;
        // The gateway itself says that only a webhook will tell. Nobody is kept waiting for that.
        let pays = self
            .state
            .attempt(n)
            .is_some_and(|attempt| attempt.why == core::Why::Pay);
        if pending && pays && self.state.here.caller && self.flights.is_empty() {
            self.deadline = None;
            return self.take(What::Deadline).await;
        }
        Ok(())
    }

    /// Takes one event: steps, persists, acts.
    pub async fn take(&mut self, what: What) -> Result<(), Lost> {
        let again = matches!(
            what,
            What::Observed { .. } | What::Skipped { .. } | What::FollowUp { .. } | What::Retry | What::Recovered { .. }
        );
        let mut what = what;
        // An object of the application's own may have been named by another payment of it before (an intent confirmed
        // twice): its id leads to that one.
        let mut own_ids = self.dossier.confirms.is_none() && self.finds(&what);
        for _ in 0..TRIES {
            let at = self.desk.engine.now();
            let event = Event { at, what: what.clone() };
            let (next, actions) = step(self.state.clone(), event);
            match self.carry_out(next, actions, own_ids).await {
                Err(Lost::IdTaken) => {
                    // What the gateway says, it says of another payment: nothing of it is believed of this one.
                    own_ids = false;
                    if let What::Observed { finding, .. } = &mut what {
                        **finding = core::Finding::bare(Outcome::Conflict, "id_of_another_payment");
                    }
                }
                Err(Lost::Moved) => {
                    self.reload().await?;
                    if !again {
                        return Ok(());
                    }
                }
                done => return done,
            }
        }
        tracing::error!(payment = %self.payment, "a payment is moved by somebody else all the time");
        Err(Lost::Gone)
    }

    /// Whether this tells what became of an attempt to pay, by itself or by a question.
    fn finds(&self, what: &What) -> bool {
        let What::Observed { n, .. } = what else { return false };
        self.state
            .attempt(*n)
            .is_some_and(|attempt| matches!(attempt.leg, Leg::Charge | Leg::Auth | Leg::Fence | Leg::Lookup))
    }

    /// Loads the state again after somebody else had moved it.
    async fn reload(&mut self) -> Result<(), Lost> {
        let ledger = Arc::clone(&self.desk.engine.ledger);
        let row = match ledger.get(self.payment).await {
            Ok(Some(row)) => row,
            Ok(None) => return Err(Lost::Gone),
            Err(error) => {
                trouble(&self.desk, &error);
                return Err(Lost::Gone);
            }
        };
        if row.owner != ledger.owner() {
            return Err(Lost::Gone);
        }
        let Ok(state) = serde_json::from_str::<State>(&row.folded) else {
            return Err(Lost::Gone);
        };
        self.position = row.position;
        self.lease_until.set(row.lease_until);
        let here = Here {
            body: self.material.is_some(),
            caller: !self.callers.is_empty(),
            ..std::mem::take(&mut self.state.here)
        };
        self.state = State { here, ..state };
        if let Some(told) = self.state.told {
            self.answer_all(told, true);
        }
        Ok(())
    }

    async fn act(&mut self, action: Action, prepared: &mut Prepared) {
        match action {
            // Only ever the first, and carried out there.
            Action::Persist(_) => {}
            Action::Send(send) => self.send(send, prepared).await,
            Action::Answer { verdict, replay } => {
                self.answer_with(verdict, replay, prepared.reply.take());
                // Whoever was told is written to before this task tidies up.
                tokio::task::yield_now().await;
            }
            Action::AnswerFollowUp { request, verdict } => follow_up::answer(self, request.as_deref(), verdict),
            Action::Schedule { n, pause } => self.schedule(n, pause),
            Action::Notify(notice) => self.notify(&notice),
        }
    }

    /// What an attempt of this state is prepared from.
    fn ground<'a>(&'a self, state: &'a State) -> Ground<'a> {
        Ground {
            desk: &self.desk,
            route: &self.route,
            payment: self.payment,
            state,
            dossier: &self.dossier,
            material: self.material.as_deref(),
            lease: (!state.finished()).then_some(&self.lease_until),
        }
    }

    async fn send(&mut self, send: Send, prepared: &mut Prepared) {
        let n = send.n;
        if !self.renewed().await {
            let lost = Landed {
                n,
                result: Err("lease_lost"),
            };
            self.flights.push(Box::pin(std::future::ready(lost)));
            return;
        }
        let flight = prepared.flight.take_if(|(of, _)| *of == n).map(|(_, flight)| flight);
        let flight = flight.unwrap_or_else(|| self.ground(&self.state).prepare(&send, None));
        match flight {
            Ok(flight) => self.flights.push(Box::pin(Rc::clone(&self.desk).fly(flight))),
            Err(reason) => {
                let skipped = Landed { n, result: Err(reason) };
                self.flights.push(Box::pin(std::future::ready(skipped)));
            }
        }
        let pays = self
            .state
            .attempt(n)
            .is_some_and(|attempt| attempt.why == core::Why::Pay);
        if pays && self.state.plan.mode == Mode::Gated {
            let after = self.route.failover().hedge_after;
            self.hedges.push(Box::pin(async move {
                tokio::time::sleep(after).await;
                n
            }));
        }
    }

    /// Whether the lease outlasts one more attempt, renewed where it would not.
    async fn renewed(&mut self) -> bool {
        let ledger = Arc::clone(&self.desk.engine.ledger);
        let attempt = i64::try_from(self.route.failover().attempt_timeout.as_millis()).unwrap_or(i64::MAX);
        let now = ledger.now();
        if self.state.finished() || self.lease_until.get() > now.saturating_add(attempt) {
            return true;
        }
        let ttl = Rows::lease(&self.route);
        match ledger.renew_lease(self.payment, self.position.epoch, ttl).await {
            Ok(true) => {
                self.lease_until.set(now.saturating_add(ttl));
                true
            }
            Ok(false) => false,
            Err(error) => {
                trouble(&self.desk, &error);
                false
            }
        }
    }

    /// The next pause before asking about attempt `n` is a first one again.
    pub(super) fn patience(&mut self, n: u16) {
        self.paused.remove(&n);
    }

    fn schedule(&mut self, n: u16, reason: Pause) {
        let (first, longest) = match reason {
            Pause::Waiting => WAITING,
            Pause::Background => BACKGROUND,
        };
        let tries = self.paused.entry(n).or_insert(0);
        let pause = first.saturating_mul(1 << (*tries).min(16)).min(longest);
        *tries += 1;
        // Half of it is jitter, so that the payments of one outage do not ask all at once.
        let mut pause = pause.mul_f64(0.5 + crate::resilience::jitter() * 0.5);
        // An application that waits is not told of doubt because the last question was due after its patience.
        if let (Pause::Waiting, Some(deadline)) = (reason, self.deadline) {
            let left = deadline.saturating_duration_since(Instant::now());
            pause = pause.min((left / 3).max(first / 2));
        }
        self.pauses.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            n
        }));
    }
}

enum Happened {
    Landed(Landed),
    Message(Box<Message>),
    What(Box<What>),
    Left,
    Deadline,
    Over,
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Takes those off the list who have hung up; resolves when the last one has.
async fn abandoned(callers: &mut Vec<Caller>) {
    if callers.is_empty() {
        return std::future::pending().await;
    }
    poll_fn(|cx| {
        callers.retain_mut(|caller| caller.reply.poll_closed(cx).is_pending());
        match callers.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}
