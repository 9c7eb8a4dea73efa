//! Webhooks to applications, of payments that another gateway took: noted durably, posted until they are taken.
//!
//! The application's own gateway knows nothing of such a payment and never sends the webhook that the application waits
//! for. The ledger's events are what it is told from: [`news`] says what of them, [`outbox`] keeps what was not taken yet,
//! and the dialect writes it as its gateway would have, with the same event id each time and a signature of that moment.
//!
//! # What an application can rely on
//!
//! - *At least once*, for any answer but 2xx is a failure; again after a second, then after pauses that double up to an
//!   hour, with jitter, until the route's `notify.give_up` after it happened. What was given up is kept, shown and counted, and goes out
//!   again when an operator says so.
//! - *In order, for each payment*: what comes later waits for what came before. Payments do not wait for each other, but
//!   while nobody listens at all, one is tried at a time.
//! - *Nothing that is not sealed or proven*, and nothing that its own gateway tells anyway.
//!
//! # What it refuses
//!
//! A route's destination hears of the payments of the route's own books only: a tenant's payments, that come by a Sentinel
//! key, are nobody else's. Addresses come from the configuration and nowhere else. What is older than `give_up` when it
//! is first seen (a destination was away from the configuration) is not told any more.

pub mod news;
pub mod outbox;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::core::{Decision, Phase, Record, State};
use super::engine::{Engine, Route, Wire};
use crate::config::model::Notify;
use crate::failpoint;
use crate::gateway::Outgoing;
use crate::gateway::announcement::Written;
use crate::gateway::outcome::Outcome;
use crate::ledger::LedgerError;
use crate::ledger::rows::Event;
use crate::telemetry::event::NotificationSent;
use news::News;
use outbox::{Entry, Kept, Outbox};

/// How often a destination's events are looked for.
const LOOK: Duration = Duration::from_millis(200);
/// The outbox is gone through this often at least: an operator may have had something tried again.
const PASS: i64 = 2000;
/// The pause after a failed look at the ledger.
const TROUBLE: Duration = Duration::from_secs(2);
/// Events read at once.
const PAGE: usize = 500;
/// How long an application may take to answer: what gateways allow.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause between two deliveries, and the longest, in milliseconds.
const PAUSE: (i64, i64) = (1000, 3_600_000);
/// For how long what was given up is kept, in milliseconds: by then its payment's particulars are erased.
const KEEP: i64 = 30 * 86_400_000;

/// Lets every new destination begin here: nobody is told of the past. To be done before routes come into use, so that
/// nothing that happens by them is missed.
///
/// # Errors
/// When the ledger cannot be used.
pub async fn begin(engine: &Engine, routes: &[Arc<Route>]) -> Result<(), LedgerError> {
    let ledger = engine.ledger().as_ref();
    for route in routes.iter().filter(|route| route.notify().is_some()) {
        let outbox = Outbox::of(ledger, route.name());
        if outbox.cursor().await?.is_none() {
            outbox.move_to(ledger.health().position).await?;
        }
    }
    Ok(())
}

/// The thread that tells applications; it ends with this.
#[derive(Debug)]
pub struct Announcing {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Announcing {
    fn drop(&mut self) {
        // A delivery under way is broken off: it is in the outbox until it is known to be taken.
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tells applications, on a thread of its own: whoever does not answer holds up nobody else.
///
/// # Errors
/// When the system has no thread.
pub fn start(engine: Arc<Engine>) -> std::io::Result<Announcing> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, mut stopped) = watch::channel(false);
    let thread = std::thread::Builder::new().name("notify".to_owned()).spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = run(engine) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    })?;
    Ok(Announcing {
        stop,
        thread: Some(thread),
    })
}

async fn run(engine: Arc<Engine>) {
    let wire = Wire::default();
    let mut destinations: HashMap<String, JoinHandle<()>> = HashMap::new();
    loop {
        for route in engine.routes().iter().filter(|route| route.notify().is_some()) {
            let idle = destinations.get(route.name()).is_none_or(JoinHandle::is_finished);
            if idle {
                let destination = Destination {
                    engine: Arc::clone(&engine),
                    wire: wire.clone(),
                    route: route.name().to_owned(),
                };
                let telling = tokio::task::spawn_local(destination.tell());
                destinations.insert(route.name().to_owned(), telling);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One application's.
struct Destination {
    engine: Arc<Engine>,
    wire: Wire,
    route: String,
}

/// What became of one delivery.
enum Posted {
    Taken,
    /// It was answered, and not by 2xx.
    Refused(u16),
    /// Nobody answered.
    Unanswered,
}

impl Destination {
    async fn tell(self) {
        let mut next = 0;
        loop {
            let Some(route) = self.engine.route(&self.route).filter(|route| route.notify().is_some()) else {
                return;
            };
            let pause = match self.turn(&route, &mut next).await {
                Ok(()) => LOOK,
                Err(error) => {
                    tracing::warn!(%error, route = self.route, "news for an application could not be gone through; trying again");
                    TROUBLE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn turn(&self, route: &Route, next: &mut i64) -> Result<(), LedgerError> {
        let ledger = self.engine.ledger().as_ref();
        let outbox = Outbox::of(ledger, &self.route);
        let noted = self.note(route, &outbox).await?;
        if noted || ledger.now() >= *next {
            *next = self.pass(route, &outbox).await?;
        }
        Ok(())
    }

    /// Writes down what the ledger recorded since the last look.
    async fn note(&self, route: &Route, outbox: &Outbox<'_>) -> Result<bool, LedgerError> {
        let ledger = self.engine.ledger().as_ref();
        let mut noted = false;
        let mut position = match outbox.cursor().await? {
            Some(position) => position,
            None => ledger.health().position,
        };
        loop {
            if ledger.health().position <= position {
                return Ok(noted);
            }
            let events = ledger.events_after(position, PAGE).await?;
            let Some(last) = events.last() else { return Ok(noted) };
            let mut concerned: HashMap<Uuid, bool> = HashMap::new();
            for event in events.iter().filter(|event| may_tell(event)) {
                let concerns = match concerned.get(&event.payment) {
                    Some(concerns) => *concerns,
                    None => {
                        let concerns = self.concerns(route, event.payment).await?;
                        concerned.insert(event.payment, concerns);
                        concerns
                    }
                };
                if !concerns || self.over(route, event.at) {
                    continue;
                }
                for (index, news) in self.news(event).await?.into_iter().enumerate() {
                    let entry = Entry {
                        payment: event.payment,
                        seq: event.seq,
                        news,
                        at: event.at,
                        taken: 0,
                        tries: 0,
                        due: 0,
                        dead: false,
                        last: String::new(),
                    };
                    outbox.note(event.position, index, &entry).await?;
                    noted = true;
                }
            }
            failpoint::pass("notification.noted");
            position = last.position;
            outbox.move_to(position).await?;
        }
    }

    /// Whether what happened then is not tried any more.
    fn over(&self, route: &Route, at: i64) -> bool {
        let age = self.engine.ledger().now().saturating_sub(at);
        route
            .notify()
            .is_some_and(|notify| u128::try_from(age).is_ok_and(|age| age > notify.give_up.as_millis()))
    }

    /// Whether a payment is one of the route's own books that may have news.
    async fn concerns(&self, route: &Route, payment: Uuid) -> Result<bool, LedgerError> {
        let Some(payment) = self.engine.ledger().get(payment).await? else {
            return Ok(false);
        };
        if payment.route != self.route || payment.tenant != route.tenant() {
            return Ok(false);
        }
        let state = serde_json::from_str::<State>(&payment.folded).ok();
        Ok(state.is_some_and(|state| state.parked || state.pays().any(|(n, _)| news::elsewhere(&state, n))))
    }

    /// The news that an event made.
    async fn news(&self, event: &Event) -> Result<Vec<News>, LedgerError> {
        let states = self.engine.around(event.payment, event.seq).await?;
        Ok(states.map_or_else(Vec::new, |(before, after)| news::between(&before, &after)))
    }

    /// Posts what is due, and says when to come again.
    async fn pass(&self, route: &Route, outbox: &Outbox<'_>) -> Result<i64, LedgerError> {
        let ledger = self.engine.ledger();
        let mut waits: HashSet<Uuid> = HashSet::new();
        let mut next = ledger.now().saturating_add(PASS);
        let (mut waiting, mut dead) = (0, 0);
        let mut listens = true;
        let mut page = outbox.page(None).await?;
        while let Some(last) = page.last().cloned() {
            for mut kept in page {
                let now = ledger.now();
                if kept.entry.dead {
                    if now.saturating_sub(kept.entry.at) > KEEP {
                        outbox.remove(&kept).await?;
                    } else {
                        dead += 1;
                    }
                    continue;
                }
                let later = kept.entry.due > now || !listens || waits.contains(&kept.entry.payment);
                if later {
                    waits.insert(kept.entry.payment);
                    waiting += 1;
                    next = next.min(kept.entry.due.max(now));
                    continue;
                }
                let answered = match self.deliver(route, outbox, &mut kept).await? {
                    None => continue,
                    Some(answered) => answered,
                };
                listens = answered;
                if kept.entry.dead {
                    dead += 1;
                } else {
                    waits.insert(kept.entry.payment);
                    waiting += 1;
                    next = next.min(kept.entry.due);
                }
            }
            page = outbox.page(Some(&last)).await?;
        }
        let metrics = self.engine.metrics();
        metrics.notifications(&self.route, "waiting", waiting);
        metrics.notifications(&self.route, "dead", dead);
        Ok(next)
    }

    /// Delivers one entry. `None` when it is done with; else whether anybody answered.
    async fn deliver(&self, route: &Route, outbox: &Outbox<'_>, kept: &mut Kept) -> Result<Option<bool>, LedgerError> {
        let Some(notify) = route.notify() else { return Ok(None) };
        let entry = &mut kept.entry;
        let emit = |entry: &Entry, result: &'static str| {
            NotificationSent {
                metrics: self.engine.metrics(),
                route: &self.route,
                payment: &entry.payment.to_string(),
                news: entry.news.kind.name(),
                result,
                detail: &entry.last,
            }
            .emit();
        };
        let Some(events) = self.engine.announcement(route, notify, entry).await? else {
            "the payment's particulars are erased".clone_into(&mut entry.last);
            entry.dead = true;
            emit(entry, "dead");
            outbox.put(kept).await?;
            return Ok(Some(true));
        };
        let mut failed = None;
        for event in events.into_iter().skip(entry.taken) {
            failpoint::pass("notification.post");
            match post(&self.wire, notify, event, entry.payment).await {
                Posted::Taken => entry.taken += 1,
                Posted::Refused(status) => {
                    failed = Some((true, format!("answered {status}")));
                    break;
                }
                Posted::Unanswered => {
                    failed = Some((false, "no answer".to_owned()));
                    break;
                }
            }
            failpoint::pass("notification.posted");
        }
        let Some((answered, why)) = failed else {
            emit(entry, "delivered");
            outbox.remove(kept).await?;
            return Ok(None);
        };
        let now = self.engine.ledger().now();
        entry.last = why;
        entry.tries = entry.tries.saturating_add(1);
        entry.due = now.saturating_add(pause(entry.tries, fastrand::i64(-200..=200)));
        entry.dead = self.over(route, entry.at);
        emit(entry, if entry.dead { "dead" } else { "failed" });
        outbox.put(kept).await?;
        Ok(Some(answered))
    }
}

/// The pause before the next delivery, in milliseconds: doubled with each failure, give or take `jitter` thousandths.
fn pause(tries: u32, jitter: i64) -> i64 {
    let (first, longest) = PAUSE;
    let pause = first.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(longest);
    pause + pause * jitter / 1000
}

/// Whether a record may be news at all; most are not, and cost no further look.
fn may_tell(event: &Event) -> bool {
    match Record::read(&event.payload) {
        Ok(Record::ResponseSealed { .. }) => true,
        Ok(Record::Decision(Decision::Entered(Phase::Voided { .. }))) => true,
        Ok(Record::AttemptObserved { finding, .. }) => finding.gone || finding.outcome != Outcome::Unknown,
        _ => false,
    }
}

async fn post(wire: &Wire, notify: &Notify, event: Written, payment: Uuid) -> Posted {
    let mut headers = event.headers;
    if let Ok(id) = HeaderValue::from_str(&payment.to_string()) {
        headers.insert("sentinel-payment", id);
    }
    match posted(wire, notify, headers, event.body, PATIENCE).await {
        Some(status) if (200..300).contains(&status) => Posted::Taken,
        Some(status) => Posted::Refused(status),
        None => Posted::Unanswered,
    }
}

/// Posts to an application on a connection of its own; its status, or `None` when it did not answer in time.
pub(super) async fn posted(
    wire: &Wire,
    notify: &Notify,
    headers: HeaderMap,
    body: bytes::Bytes,
    patience: Duration,
) -> Option<u16> {
    let outgoing = Outgoing {
        method: Method::POST,
        target: notify.target.clone(),
        headers,
        body,
    };
    let exchanged = wire.exchange(&notify.to, outgoing, patience, true, async || true).await;
    exchanged.answer.map(|answer| answer.status.as_u16())
}
