//! Builds everything from a configuration, owns the threads, and knows the order of shutting down.
//!
//! The data path has threads of its own, one runtime each, and shares nothing with this one but the snapshot and
//! counters; the main thread runs the operators' side: admin listener, signals, reload.

pub mod collect;
pub mod control;
mod listeners;
pub mod liveness;
pub mod service;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::account::{AccountError, Accounts};
use crate::admin::api::{Api, Door};
use crate::analytics::Analytics;
use crate::analytics::billing::Rate;
use crate::config::load::{Problem, load};
use crate::config::model::Config;
use crate::ledger::Ledger;
use crate::ledger::keys::Keys;
use crate::ledger::sqlite::{self, Options, SqliteLedger};
use crate::listen::bind::{Activated, Bound};
use crate::listen::{self, Connections, Event, Stop};
use crate::payment::engine::{Desk, Engine, Wire};
use crate::payment::{announce, housekeeping, recovery};
use crate::proxy::Proxy;
use crate::proxy::runtime::Runtime;
use crate::telemetry::event::HeadRejected;
use crate::telemetry::spans::Spans;
use crate::telemetry::{self, Metrics};
use collect::Collector;
use control::Control;
use listeners::{Listeners, Open, OpenError, Order};
use liveness::Liveness;
use service::State;

/// How often the configuration file is compared with what is in force. Comparing content, not events, also sees the
/// symlink swap of a Kubernetes ConfigMap and an editor's rename.
const WATCH: Duration = Duration::from_secs(2);

/// How long the last spans may take to reach their collector: nobody waits for a collector that is down.
const FLUSH: Duration = Duration::from_secs(2);

/// How often it is looked whether a month is over, and whether a fee is due.
const CLOSING: Duration = Duration::from_secs(3600);
/// How often, while the outcome of a fee's payment is not known.
const ASKING: Duration = Duration::from_secs(30);

/// Why the sidecar could not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is wrong.
    #[error("the configuration has {} problem(s)", .0.len())]
    Config(Vec<Problem>),
    /// The system refused something: an address, a thread.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// An address cannot be listened on.
    #[error("{0}")]
    Bind(#[from] listen::bind::BindError),
    /// A listener cannot be opened.
    #[error("{0}")]
    Listener(#[from] OpenError),
    /// The ledger cannot be used: another process has it, its key is another one, or it is damaged.
    #[error("the ledger cannot be used: {0}")]
    Ledger(String),
    /// The accounts in the ledger cannot be used.
    #[error("the accounts cannot be used: {0}")]
    Accounts(#[from] AccountError),
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

/// Runs the sidecar until it is told to stop and has finished what it had begun.
///
/// # Errors
/// Before anything was accepted: configuration, addresses. Later trouble is logged, not returned.
pub fn run(file: &Path) -> Result<(), AppError> {
    no_core()?;
    start(file, None)
}

/// Forbids core files: card numbers and secrets pass through memory, and a picture of it would keep them.
fn no_core() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

/// Runs the sidecar inside a program that has more to do. Signals are the program's: the sidecar ends by
/// [`Control::drain`] of what `ready` is given once everything is served.
///
/// # Errors
/// As [`run`].
pub fn run_inside(file: &Path, ready: impl FnOnce(Arc<Control>) + 'static) -> Result<(), AppError> {
    start(file, Some(Box::new(ready)))
}

/// What a program that has the sidecar inside itself does once everything is served.
type Ready = Box<dyn FnOnce(Arc<Control>)>;

fn start(file: &Path, inside: Option<Ready>) -> Result<(), AppError> {
    let config = load(file).map_err(AppError::Config)?;
    let mut metrics = Metrics::new().map_err(|error| AppError::Internal(error.to_string()))?;
    let exporting = config.otlp.clone().map(|otlp| {
        let count = |result: &str| metrics.trace_spans.with(&[result]);
        let (spans, queue) = Spans::queue(otlp.share, count("queue_full"));
        let counts = telemetry::otlp::Counts {
            exported: count("exported"),
            failed: count("failed"),
        };
        (spans, telemetry::otlp::export(otlp, queue, counts))
    });
    let (spans, exporter) = exporting.unzip();
    if let Some(spans) = &spans {
        metrics = metrics.recording(spans.clone());
    }
    let metrics = Arc::new(metrics);
    let logging = telemetry::log::init(&config.log, metrics.log_dropped.clone());
    let logging = Arc::new(logging.map_err(|error| AppError::Internal(error.to_string()))?);
    crate::upstream::warm_up();
    let (workers, admission) = (config.workers, config.admission.clone());
    let runtime = Runtime::build(config, None, &metrics).map_err(AppError::Internal)?;
    let engine = match (&runtime.config.ledger, ledger(&runtime.config)?) {
        (Some(kept), Some(ledger)) => Some(Engine::new(ledger, kept.certificates(), Arc::clone(&metrics))),
        _ => None,
    };
    let analytics = engine.as_ref().and_then(|engine| analytics(&runtime.config, engine));
    let runtime = Arc::new(ArcSwap::from_pointee(runtime));
    let operators = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let collector = match (&engine, &analytics) {
        (Some(engine), Some(analytics)) => {
            let (runtime, engine) = (Arc::clone(&runtime), Arc::clone(engine));
            Some(Arc::new(Collector::new(runtime, engine, Arc::clone(analytics))))
        }
        _ => None,
    };
    // Dropped before the ledger is: its thread uses it.
    let _announcing = match &engine {
        Some(engine) => {
            let routes: Vec<_> = runtime.load().payments().collect();
            let begun = operators.block_on(announce::begin(engine, &routes));
            begun.map_err(|error| AppError::Ledger(error.to_string()))?;
            engine.set_routes(routes);
            Some(announce::start(Arc::clone(engine))?)
        }
        None => None,
    };
    let api = match &engine {
        Some(engine) => {
            let accounts = Arc::new(operators.block_on(Accounts::open(Arc::clone(engine.ledger())))?);
            let (runtime, engine) = (Arc::clone(&runtime), Arc::clone(engine));
            Some(Arc::new(Api::new(runtime, engine, accounts, analytics)))
        }
        None => None,
    };
    let (ended, mut all_ended) = mpsc::channel::<()>(1);
    let (senders, orders): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(listeners::ORDERS)).unzip();
    let listeners = Listeners::new(senders, admission);
    let connections = Arc::clone(listeners.connections());

    // Every socket is bound before the first worker starts: an address in use is an error, not half a sidecar.
    let mut activated = Activated::from_env()?;
    let config = Arc::clone(&runtime.load().config);
    let prepared = listeners.prepare(&config, &mut activated)?;
    let admin_socket = match config.listeners.admin {
        Some(address) => match activated.take(address, 1)? {
            Some(mut passed) => passed.pop(),
            None => Bound::for_workers(address, 1)?.pop(),
        },
        None => None,
    };
    let dashboard_socket = match config.listeners.dashboard {
        Some(address) => match activated.take(address, 1)? {
            Some(mut passed) => passed.pop(),
            None => Bound::for_workers(address, 1)?.pop(),
        },
        None => None,
    };
    for address in activated.left() {
        tracing::warn!(%address, "a socket was passed that no listener in the configuration has");
    }
    let liveness = Liveness::new(workers);
    for (index, orders) in orders.into_iter().enumerate() {
        let (runtime, metrics) = (Arc::clone(&runtime), Arc::clone(&metrics));
        let (connections, engine) = (Arc::clone(&connections), engine.clone());
        let (ended, liveness) = (ended.clone(), Arc::clone(&liveness));
        let door = api.clone().map(|api| Door::new(api, operators.handle().clone()));
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let beating = Arc::clone(&liveness).keep_beating(index);
                let counting = Arc::clone(&metrics);
                let proxy = move || {
                    let desk = engine.map(|engine| Desk::new(engine, Wire::new(&metrics)));
                    Proxy::new(runtime, metrics, desk, door)
                };
                worker(orders, connections, proxy, counting, beating);
                liveness.ended(index);
                drop(ended);
            })?;
    }
    drop(ended);

    let control = Arc::new(Control::new(
        file.to_owned(),
        Arc::clone(&runtime),
        Arc::clone(&metrics),
        logging,
        liveness,
        (api, collector),
        listeners,
    ));
    operators.block_on(async move {
        control.listeners().apply(&config, prepared).await?;
        control.serve_admin(admin_socket)?;
        control.serve_dashboard(dashboard_socket)?;
        if let Some(collector) = control.collector() {
            tokio::spawn(bill(Arc::clone(collector), Arc::clone(&runtime)));
        }
        tokio::spawn(service::ping_watchdog(Arc::clone(&control)));
        exporter.map(tokio::spawn);
        if let (Some(engine), Some(kept)) = (control.engine(), &config.ledger) {
            tokio::spawn(recovery::run(Arc::clone(engine)));
            let pause = housekeeping::portion(engine, kept.retention).await;
            tokio::spawn(housekeeping::run(Arc::clone(engine), kept.retention, pause));
        }
        let heard = |kind| inside.is_none().then(|| signal(kind)).transpose();
        let mut hangup = heard(SignalKind::hangup())?;
        let mut terminate = heard(SignalKind::terminate())?;
        let mut interrupt = heard(SignalKind::interrupt())?;
        control.set_ready(true);
        service::tell(State::Ready(&control.status()));
        if let Some(ready) = inside {
            ready(Arc::clone(&control));
        }
        let addresses: Vec<SocketAddr> = config.data_listeners().into_keys().collect();
        let (admin, dashboard) = (config.listeners.admin, config.listeners.dashboard);
        tracing::info!(listeners = ?addresses, ?admin, ?dashboard, workers, "ready");
        let mut look = tokio::time::interval(WATCH);
        loop {
            tokio::select! {
                () = received(&mut terminate) => break,
                () = received(&mut interrupt) => break,
                () = control.drain_asked() => break,
                () = received(&mut hangup) => { let _ = control.reload("signal").await; }
                _ = look.tick() => control.reload_if_changed().await,
            }
        }
        // Readiness goes first, so that nobody sends anything new; then what was begun is finished.
        let begun = tokio::time::Instant::now();
        let shutdown = control.runtime().config.shutdown.clone();
        control.set_ready(false);
        service::tell(State::Stopping("Stopping: still accepting"));
        if !shutdown.native_sidecar {
            tokio::select! {
                () = tokio::time::sleep(shutdown.min) => {}
                () = received(&mut interrupt) => {}
            }
        }
        control.listeners().stop(Stop::Drain);
        service::tell(State::Status("Stopping: finishing requests in flight"));
        tokio::select! {
            _ = all_ended.recv() => {}
            () = tokio::time::sleep_until(begun + shutdown.max) => {
                tracing::warn!(max = ?shutdown.max, "requests were still in flight at the shutdown deadline");
                control.listeners().stop(Stop::Now);
            }
            // Whoever presses ^C a second time does not want to wait. A second SIGTERM changes nothing: supervisors
            // repeat it, and a payment in flight must not be cut for that.
            () = received(&mut interrupt) => control.listeners().stop(Stop::Now),
        }
        if let Some(spans) = spans {
            spans.flush(FLUSH).await;
        }
        tracing::info!("stopped");
        service::farewell();
        Ok(())
    })
}

/// Waits for a signal; for ever where signals are somebody else's.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The ledger, where the configuration names one. A disk that fails under it ends the process at once: what is durable
/// is unknowable then (safety.md D8).
fn ledger(config: &Config) -> Result<Option<Arc<dyn Ledger>>, AppError> {
    let Some(ledger) = &config.ledger else { return Ok(None) };
    sqlite::make_directory(&ledger.sqlite).map_err(|error| AppError::Ledger(error.to_string()))?;
    let keys = Keys::load_or_create(&ledger.key_file).map_err(|error| AppError::Ledger(error.to_string()))?;
    if !ledger.strict
        && let Err(error) = sqlite::is_kept(&ledger.sqlite)
    {
        tracing::warn!(%error, "the ledger may lose what it acknowledged: good enough while no payment rests on it, or for a test");
    }
    let options = Options {
        strict: ledger.strict,
        on_fatal: Arc::new(|why| {
            tracing::error!(why, "the ledger's disk failed: ending at once");
            std::process::abort();
        }),
        ..Options::new(&ledger.sqlite)
    };
    let opened = SqliteLedger::open(&options, keys).map_err(|error| AppError::Ledger(error.to_string()))?;
    Ok(Some(Arc::new(opened)))
}

/// The figures of the ledger. Without them payments go on all the same: they are told of, and made again at the next start.
fn analytics(config: &Config, engine: &Engine) -> Option<Arc<Analytics>> {
    let path = Analytics::beside(&config.ledger.as_ref()?.sqlite);
    match Analytics::open(&path, Arc::clone(engine.ledger())) {
        Ok(analytics) => Some(Arc::new(analytics)),
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "there are no figures until the next start");
            None
        }
    }
}

/// Closes every statement once its month is over, and collects what is due. What fails is tried again an hour later.
async fn bill(collector: Arc<Collector>, runtime: Arc<ArcSwap<Runtime>>) {
    loop {
        let rate = Rate(runtime.load().config.accounts.fee.millionths);
        match collector.analytics().close_due(rate).await {
            Ok(closed) => {
                for statement in closed {
                    tracing::info!(
                        tenant = statement.tenant,
                        month = statement.month,
                        currency = statement.currency,
                        "a statement was closed"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "statements could not be closed; they will be"),
        }
        let pending = collector.round().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "fees could not be collected; they will be");
            false
        });
        tokio::time::sleep(if pending { ASKING } else { CLOSING }).await;
    }
}

/// Serves the listeners that it is told to, until none is left and none will come.
fn worker(
    mut orders: mpsc::Receiver<Order>,
    connections: Arc<Connections>,
    proxy: impl FnOnce() -> Proxy + 'static,
    metrics: Arc<Metrics>,
    beating: impl Future<Output = ()> + 'static,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    let worker = match runtime {
        Ok(worker) => worker,
        Err(error) => {
            tracing::error!(%error, "a worker has no runtime");
            return;
        }
    };
    // A task of its own: what a runtime blocks on is polled whenever anything wakes it.
    let serving = worker.spawn_local(async move {
        let beating = tokio::task::spawn_local(beating);
        let proxy = Rc::new(proxy());
        let answering = Rc::clone(&proxy);
        let handler = Rc::new(move |request, info| Rc::clone(&answering).handle(request, info));
        let mut serving = tokio::task::JoinSet::new();
        let mut open = true;
        while open || !serving.is_empty() {
            tokio::select! {
                order = orders.recv(), if open => match order {
                    Some(Order::Open(order)) => {
                        let settings = settings(&order, &connections, &proxy, &metrics);
                        serving.spawn_local(listen::serve(
                            order.socket,
                            Rc::new(settings),
                            Rc::clone(&handler),
                            order.stopped,
                        ));
                    }
                    Some(Order::Settle) => proxy.settle(),
                    None => open = false,
                },
                Some(ended) = serving.join_next(), if !serving.is_empty() => {
                    if let Ok(Err(error)) = ended {
                        tracing::error!(%error, "a listener cannot be used");
                    }
                }
            }
        }
        // Payments outlive their connections: an application that hung up, a release that is owed.
        proxy.close().await;
        beating.abort();
    });
    // A panic goes on: a dead worker's beats must end, so that the watchdog sees it.
    if let Err(ended) = worker.block_on(serving)
        && let Ok(panic) = ended.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

fn settings(
    order: &Open,
    connections: &Arc<Connections>,
    proxy: &Rc<Proxy>,
    metrics: &Arc<Metrics>,
) -> listen::Settings {
    let address = order.socket.address();
    let (rendering, metrics) = (Rc::clone(proxy), Arc::clone(metrics));
    listen::Settings {
        header_timeout: order.admission.header_timeout,
        head: listen::guard::Limits {
            head: order.admission.head,
            ..Default::default()
        },
        tls: order.tls.clone(),
        render: Rc::new(move |refusal| rendering.render_refusal(address, refusal)),
        observe: Rc::new(move |event| observe(&metrics, address, event)),
        ..listen::Settings::new(Arc::clone(connections))
    }
}

/// Counts and logs what a listener reports.
fn observe(metrics: &Metrics, address: SocketAddr, event: Event) {
    match event {
        Event::Refused(violation) => {
            HeadRejected {
                metrics,
                reason: "bad_request",
                detail: violation.code(),
            }
            .emit();
        }
        Event::Full => HeadRejected {
            metrics,
            reason: "connection_limit",
            detail: "",
        }
        .emit(),
        Event::AcceptFailed => tracing::warn!(%address, "accepting failed for want of descriptors or memory"),
        Event::HandshakeFailed => tracing::debug!(%address, "a TLS handshake failed"),
        Event::Opened => metrics.connections.inc(),
        Event::Closed => metrics.connections.dec(),
        Event::TimedOut => tracing::debug!(%address, "a connection was ended because its client took too long"),
    }
}
