//! What operators can do: look at snapshots, and send commands. Never a hand in the request path.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::collect::Collector;
use super::listeners::{Listeners, OpenError};
use super::liveness::Liveness;
use super::service::{self, State};
use crate::admin::api::Api;
use crate::analytics::Analytics;
use crate::config::diff;
use crate::config::load::{Problem, fingerprint, load};
use crate::config::model::{Config, Ledger};
use crate::ledger::sqlite;
use crate::listen::bind::{Activated, Bound};
use crate::payment::announce;
use crate::payment::engine::Engine;
use crate::proxy::runtime::Runtime;
use crate::telemetry::event::Reloaded;
use crate::telemetry::log::LogError;
use crate::telemetry::tap::Reader;
use crate::telemetry::{Logging, Metrics};

/// How long a file must stay the same before it is taken.
const SETTLED: Duration = Duration::from_millis(200);

/// How many reloads are remembered.
const HISTORY: usize = 32;

/// One reload, as it went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Reload {
    /// Seconds of Unix time.
    pub at: u64,
    /// `signal`, `file` or `admin`.
    pub trigger: &'static str,
    /// `applied`, `unchanged` or `rejected`.
    pub result: &'static str,
    /// SHA-256 of the configuration in force afterwards.
    pub hash: String,
    /// What changed.
    pub changes: Vec<String>,
    /// Why it was rejected.
    pub problems: Vec<String>,
}

/// What the file held when it was last looked at, so that what is broken is reported once and not at every look.
#[derive(Debug, Default)]
struct Seen {
    /// The fingerprint of the file and of those that the configuration in force names.
    fingerprint: Option<String>,
    /// What was wrong with it by itself: a file that it names may since have come.
    problems: Vec<String>,
}

/// The operators' side of a running sidecar.
#[derive(Debug)]
pub struct Control {
    file: PathBuf,
    runtime: Arc<ArcSwap<Runtime>>,
    metrics: Arc<Metrics>,
    logging: Arc<Logging>,
    liveness: Arc<Liveness>,
    engine: Option<Arc<Engine>>,
    api: Option<Arc<Api>>,
    collector: Option<Arc<Collector>>,
    ready: AtomicBool,
    drain: Notify,
    reloading: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
    listeners: Listeners,
    /// The admin listener; its end stops it.
    admin: Mutex<Option<oneshot::Sender<()>>>,
    /// The dashboard; its end stops it.
    dashboard: Mutex<Option<oneshot::Sender<()>>>,
    history: Mutex<Vec<Reload>>,
}

impl Control {
    /// For a configuration that has just been loaded.
    pub(super) fn new(
        file: PathBuf,
        runtime: Arc<ArcSwap<Runtime>>,
        metrics: Arc<Metrics>,
        logging: Arc<Logging>,
        liveness: Arc<Liveness>,
        (api, collector): (Option<Arc<Api>>, Option<Arc<Collector>>),
        listeners: Listeners,
    ) -> Self {
        metrics.reloaded_at.set(i64::try_from(unix_now()).unwrap_or(i64::MAX));
        metrics.config_in_force(&runtime.load().config.hash);
        let seen = Seen {
            fingerprint: Some(runtime.load().config.hash.clone()),
            ..Seen::default()
        };
        Self {
            file,
            runtime,
            metrics,
            logging,
            liveness,
            engine: api.as_ref().map(|api| Arc::clone(api.engine())),
            api,
            collector,
            ready: AtomicBool::new(false),
            drain: Notify::new(),
            reloading: tokio::sync::Mutex::new(()),
            seen: Mutex::new(seen),
            listeners,
            admin: Mutex::new(None),
            dashboard: Mutex::new(None),
            history: Mutex::new(Vec::new()),
        }
    }

    /// The snapshot in force.
    pub fn runtime(&self) -> Arc<Runtime> {
        self.runtime.load_full()
    }

    /// The payment engine, where there is a ledger.
    pub fn engine(&self) -> Option<&Arc<Engine>> {
        self.engine.as_ref()
    }

    /// The tenants' interface, where there is a ledger.
    pub fn api(&self) -> Option<&Arc<Api>> {
        self.api.as_ref()
    }

    /// What collects fees, where there is a ledger.
    pub fn collector(&self) -> Option<&Arc<Collector>> {
        self.collector.as_ref()
    }

    /// The figures, where there is a ledger.
    pub fn analytics(&self) -> Option<&Arc<Analytics>> {
        self.api.as_ref()?.analytics()
    }

    /// The metrics, with the values that nobody sets while requests run brought up to date.
    pub fn scrape(&self) -> String {
        let now = Instant::now();
        let runtime = self.runtime.load();
        let faults = runtime.faults.list(now);
        for route in &runtime.routes {
            let set = faults
                .iter()
                .filter(|fault| fault.spec.route == route.config.name)
                .count();
            route.metrics.set_faults(i64::try_from(set).unwrap_or(i64::MAX));
            let left = route.protection.budget.remaining(now);
            route.metrics.retry_budget.set(i64::from(left));
            let waiting = route.protection.limit.waiting();
            route.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
        self.metrics.text()
    }

    /// A new reader of requests as they pass; `None` when there are too many.
    pub fn tap(&self) -> Option<Reader> {
        self.metrics.tap.reader()
    }

    /// Switches the log's level and the access log, until the next reload; `None` leaves one as it is.
    ///
    /// # Errors
    /// When the level is not one.
    pub fn switch_log(&self, level: Option<&str>, access: Option<bool>) -> Result<(), LogError> {
        self.logging.switch(level, access)
    }

    /// The log's level, and whether there is an access log.
    pub fn log_settings(&self) -> (String, bool) {
        self.logging.settings()
    }

    /// The workers that have not turned for this long, by number.
    pub fn stuck_workers(&self, limit: Duration) -> Vec<usize> {
        self.liveness.stuck(Instant::now(), limit)
    }

    /// One line for the service manager: what is served, by which configuration.
    pub fn status(&self) -> String {
        let runtime = self.runtime.load();
        let hash = runtime.config.hash.get(..12).unwrap_or_default();
        let routes = runtime.routes.len();
        format!("Serving {routes} route(s) by configuration {hash}")
    }

    /// Whether new requests are welcome.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Asks for the end, as SIGTERM does.
    pub fn drain(&self) {
        self.drain.notify_one();
    }

    pub(super) async fn drain_asked(&self) {
        self.drain.notified().await;
    }

    /// The reloads so far, oldest first.
    pub fn reloads(&self) -> Vec<Reload> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Serves operators on a socket from now on, and no longer on the one before.
    pub(super) fn serve_admin(self: &Arc<Self>, socket: Option<Bound>) -> std::io::Result<()> {
        let next = match socket {
            Some(socket) => {
                let listener = tokio::net::TcpListener::from_std(socket.into_std())?;
                let (stop, stopped) = oneshot::channel();
                tokio::spawn(crate::admin::serve(listener, Arc::clone(self), stopped));
                Some(stop)
            }
            None => None,
        };
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Serves the dashboard on a socket from now on, and no longer on the one before.
    pub(super) fn serve_dashboard(self: &Arc<Self>, socket: Option<Bound>) -> std::io::Result<()> {
        let next = match socket {
            Some(socket) => {
                let listener = tokio::net::TcpListener::from_std(socket.into_std())?;
                let (stop, stopped) = oneshot::channel();
                tokio::spawn(crate::dashboard::serve(listener, Arc::clone(self), stopped));
                Some(stop)
            }
            None => None,
        };
        *self.dashboard.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Reloads when the file, or one that it names, has other content than at the last look. Comparing content, not
    /// events, also sees the symlink swap of a Kubernetes ConfigMap and an editor's rename.
    pub(super) async fn reload_if_changed(self: &Arc<Self>) {
        let now = fingerprint(&self.file, &self.runtime.load().config);
        // A file that is not there just now is being replaced.
        let Some(now) = now else { return };
        let (changed, problems) = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.fingerprint.as_ref() != Some(&now), seen.problems.clone())
        };
        if changed {
            // Whoever writes in place may be in the middle of it, and half a file may be a valid one.
            tokio::time::sleep(SETTLED).await;
            if fingerprint(&self.file, &self.runtime.load().config).as_ref() == Some(&now) {
                let _ = self.reload("file").await;
            }
        } else if !problems.is_empty() && load(&self.file).map_or_else(|found| told(&found) != problems, |_| true) {
            let _ = self.reload("file").await;
        }
    }

    /// Loads, validates and applies the file; on any problem everything stays as it is.
    ///
    /// # Errors
    /// What is wrong with the file, what the system refuses, or what cannot be changed without a restart.
    pub async fn reload(self: &Arc<Self>, trigger: &'static str) -> Result<Reload, Reload> {
        let _one_at_a_time = self.reloading.lock().await;
        service::tell(State::Reloading);
        let before = self.runtime.load_full();
        let loaded = load(&self.file);
        let seen = Seen {
            fingerprint: match &loaded {
                Ok(config) => Some(config.hash.clone()),
                Err(_) => fingerprint(&self.file, &before.config),
            },
            problems: loaded.as_ref().err().map_or_else(Vec::new, |problems| told(problems)),
        };
        let outcome = match loaded {
            Err(problems) => Err(told(&problems)),
            Ok(config) if config.hash == before.config.hash => Ok(("unchanged", Vec::new())),
            Ok(config) => self.apply(config, &before).await.map(|changes| ("applied", changes)),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let ((result, changes), problems) = match outcome {
            Ok(outcome) => (outcome, Vec::new()),
            Err(problems) => (("rejected", Vec::new()), problems),
        };
        let hash = self.runtime.load().config.hash.clone();
        let reload = Reload {
            at: unix_now(),
            trigger,
            result,
            hash,
            changes,
            problems,
        };
        Reloaded {
            metrics: &self.metrics,
            trigger,
            result,
            hash: &reload.hash,
            changes: &reload.changes,
            problems: &reload.problems,
            at: reload.at,
        }
        .emit();
        let mut status = self.status();
        if let Some(first) = reload.problems.first() {
            status.push_str(&format!("; the new configuration was rejected: {first}"));
        }
        service::tell(State::Ready(&status));
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY {
            history.remove(0);
        }
        history.push(reload.clone());
        if result == "rejected" { Err(reload) } else { Ok(reload) }
    }

    /// Puts a valid configuration in force: first everything that can fail, then everything that cannot.
    async fn apply(self: &Arc<Self>, config: Config, before: &Runtime) -> Result<Vec<String>, Vec<String>> {
        let old = &before.config;
        let fixed = [
            ("workers", config.workers != old.workers),
            ("log.json", config.log.json != old.log.json),
            ("telemetry", config.otlp != old.otlp),
            ("ledger", !same_ledger(config.ledger.as_ref(), old.ledger.as_ref())),
        ];
        let problems: Vec<String> = fixed
            .iter()
            .filter(|(_, changed)| *changed)
            .map(|(what, _)| format!("{what}: changed, which needs a restart; the old configuration stays in force"))
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        // The first route that fails over: the ledger that was opened for less has to be good enough for it.
        if let Some(ledger) = config.ledger.as_ref().filter(|ledger| ledger.strict)
            && let Err(error) = sqlite::is_kept(&ledger.sqlite)
        {
            return Err(vec![error.to_string()]);
        }
        let changes = diff::changes(old, &config);
        let refused = |error: OpenError| vec![error.to_string()];
        let prepared = self
            .listeners
            .prepare(&config, &mut Activated::default())
            .map_err(refused)?;
        let admin = match config.listeners.admin {
            address if address == old.listeners.admin => None,
            Some(address) => match Bound::for_workers(address, 1) {
                Ok(mut bound) => Some(bound.pop()),
                Err(error) => return Err(vec![error.to_string()]),
            },
            None => Some(None),
        };
        let dashboard = match config.listeners.dashboard {
            address if address == old.listeners.dashboard => None,
            Some(address) => match Bound::for_workers(address, 1) {
                Ok(mut bound) => Some(bound.pop()),
                Err(error) => return Err(vec![error.to_string()]),
            },
            None => Some(None),
        };
        let built = Runtime::build(config, Some(before), &self.metrics).map_err(|problem| vec![problem])?;
        if let Err(error) = self.switch_log(Some(&built.config.log.level), Some(built.config.log.access)) {
            tracing::error!(%error, "the log keeps its level");
        }
        let gone = before.routes.iter().map(|route| &route.config.name);
        for name in gone.filter(|name| built.routes.iter().all(|route| route.config.name != **name)) {
            self.metrics.forget_route(name);
        }
        let gone = old.gateways.keys();
        for name in gone.filter(|name| !built.config.gateways.contains_key(*name)) {
            self.metrics.forget_gateway(name);
        }
        if let Some(engine) = &self.engine {
            let routes: Vec<_> = built.payments().collect();
            if let Err(error) = announce::begin(engine, &routes).await {
                tracing::error!(%error, "where new destinations of webhooks begin could not be noted");
            }
            engine.set_routes(routes);
        }
        let config = Arc::clone(&built.config);
        // Routes before listeners: a new listener's first request finds its route.
        self.runtime.store(Arc::new(built));
        if let Err(error) = self.listeners.apply(&config, prepared).await {
            tracing::error!(%error, "a listener could not be opened");
        }
        if let Some(socket) = admin
            && let Err(error) = self.serve_admin(socket)
        {
            tracing::error!(%error, "the admin listener could not be opened");
        }
        if let Some(socket) = dashboard
            && let Err(error) = self.serve_dashboard(socket)
        {
            tracing::error!(%error, "the dashboard could not be opened");
        }
        Ok(changes)
    }

    /// Forces a breaker open or closed, or resets it; `None` when there is no such breaker.
    pub fn command_breaker(&self, route: &str, gateway: &str, command: BreakerCommand, note: &str) -> Option<()> {
        let runtime = self.runtime.load_full();
        let route = runtime.routes.iter().find(|state| state.config.name == route)?;
        let breaker = route.protection.breaker(gateway)?;
        let now = Instant::now();
        let transition = match command {
            BreakerCommand::Open => breaker.force_open(note, now),
            BreakerCommand::Close => breaker.force_close(note, now),
            BreakerCommand::Reset => breaker.reset(note, now),
        };
        route.transition_at(gateway, &transition);
        Some(())
    }
}

/// What an operator can tell a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerCommand {
    /// Open until told otherwise.
    Open,
    /// Closed until told otherwise.
    Close,
    /// By itself again, everything forgotten.
    Reset,
}

/// Whether a ledger is the one that is open. How strictly its disk is judged follows from the routes.
fn same_ledger(new: Option<&Ledger>, old: Option<&Ledger>) -> bool {
    match (new, old) {
        (Some(new), Some(old)) => {
            let judged = Ledger {
                strict: old.strict,
                ..new.clone()
            };
            judged == *old
        }
        (new, old) => new.is_none() && old.is_none(),
    }
}

fn told(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
