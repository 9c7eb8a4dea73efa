//! Builds everything from a configuration, owns the threads, and knows the order of shutting down.
//!
//! The data path has threads of its own, one runtime each, and shares nothing with this one but the snapshot and
//! counters; the main thread runs the operators' side: admin listener, signals, reload.

pub mod control;
pub mod liveness;
pub mod service;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::load::{Problem, load};
use crate::config::model::{Admission, Config};
use crate::ledger::Ledger;
use crate::ledger::keys::Keys;
use crate::ledger::sqlite::{Options, SqliteLedger};
use crate::listen::bind::{Activated, Bound};
use crate::listen::tls::ServerTls;
use crate::listen::{self, Connections, Event, Stop};
use crate::payment::engine::{Desk, Engine, Wire};
use crate::proxy::Proxy;
use crate::proxy::runtime::Runtime;
use crate::telemetry::event::HeadRejected;
use crate::telemetry::spans::Spans;
use crate::telemetry::{self, Metrics};
use control::Control;
use liveness::Liveness;
use service::State;

/// How often the configuration file is compared with what is in force. Comparing content, not events, also sees the
/// symlink swap of a Kubernetes ConfigMap and an editor's rename.
const WATCH: Duration = Duration::from_secs(2);

/// How long the last spans may take to reach their collector: nobody waits for a collector that is down.
const FLUSH: Duration = Duration::from_secs(2);

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
    /// The ledger cannot be used: another process has it, its key is another one, or it is damaged.
    #[error("the ledger cannot be used: {0}")]
    Ledger(String),
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

/// Runs the sidecar until it is told to stop and has finished what it had begun.
///
/// # Errors
/// Before anything was accepted: configuration, addresses. Later trouble is logged, not returned.
pub fn run(file: &Path) -> Result<(), AppError> {
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
    let addresses: Vec<SocketAddr> = config.data_listeners().into_keys().collect();
    let tls = server_tls(&config)?;
    let workers = config.workers;
    let (shutdown, admission, admin) = (
        config.shutdown.clone(),
        config.admission.clone(),
        config.listeners.admin,
    );
    let runtime = Runtime::build(config, None, &metrics).map_err(AppError::Internal)?;
    let engine = ledger(&runtime.config)?.map(|ledger| Engine::new(ledger, Arc::clone(&metrics)));
    if let Some(engine) = &engine {
        engine.set_routes(runtime.payments());
    }
    let runtime = Arc::new(ArcSwap::from_pointee(runtime));
    let (stop, stopped) = listen::shutdown();
    let (ended, mut all_ended) = mpsc::channel::<()>(1);

    // Every socket is bound before the first worker starts: an address in use is an error, not half a sidecar.
    let mut activated = Activated::from_env()?;
    let mut sockets: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    for address in &addresses {
        let bound = match activated.take(*address, workers)? {
            Some(passed) => passed,
            None => Bound::for_workers(*address, workers)?,
        };
        for (worker, bound) in sockets.iter_mut().zip(bound) {
            worker.push((bound, tls.get(address).cloned()));
        }
    }
    let admin_socket = match admin {
        Some(address) => match activated.take(address, 1)? {
            Some(mut passed) => passed.pop(),
            None => Bound::for_workers(address, 1)?.pop(),
        },
        None => None,
    };
    for address in activated.left() {
        tracing::warn!(%address, "a socket was passed that no listener in the configuration has");
    }
    let connections = Connections::new(admission.connections);
    let liveness = Liveness::new(workers);
    for (index, sockets) in sockets.into_iter().enumerate() {
        let (runtime, metrics) = (Arc::clone(&runtime), Arc::clone(&metrics));
        let (connections, admission) = (Arc::clone(&connections), admission.clone());
        let engine = engine.clone();
        let (stopped, ended, liveness) = (stopped.clone(), ended.clone(), Arc::clone(&liveness));
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let beating = Arc::clone(&liveness).keep_beating(index);
                let counting = Arc::clone(&metrics);
                let proxy = move || {
                    let desk = engine.map(|engine| Desk::new(engine, Wire::new(&metrics)));
                    Proxy::new(runtime, metrics, desk)
                };
                worker(sockets, connections, &admission, proxy, counting, stopped, beating);
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
        engine,
    ));
    let operators = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    operators.block_on(async move {
        if let Some(bound) = admin_socket {
            let listener = tokio::net::TcpListener::from_std(bound.into_std())?;
            tokio::spawn(crate::admin::serve(listener, Arc::clone(&control)));
        }
        tokio::spawn(service::ping_watchdog(Arc::clone(&control)));
        exporter.map(tokio::spawn);
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        control.set_ready(true);
        service::tell(State::Ready(&control.status()));
        tracing::info!(listeners = ?addresses, admin = ?admin, workers, "ready");
        let mut look = tokio::time::interval(WATCH);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = control.drain_asked() => break,
                _ = hangup.recv() => { let _ = control.reload("signal").await; }
                _ = look.tick() => control.reload_if_changed().await,
            }
        }
        // Readiness goes first, so that nobody sends anything new; then what was begun is finished.
        let begun = tokio::time::Instant::now();
        control.set_ready(false);
        service::tell(State::Stopping("Stopping: still accepting"));
        if !shutdown.native_sidecar {
            tokio::select! {
                () = tokio::time::sleep(shutdown.min) => {}
                _ = interrupt.recv() => {}
            }
        }
        stop.stop(Stop::Drain);
        service::tell(State::Status("Stopping: finishing requests in flight"));
        tokio::select! {
            _ = all_ended.recv() => {}
            () = tokio::time::sleep_until(begun + shutdown.max) => {
                tracing::warn!(max = ?shutdown.max, "requests were still in flight at the shutdown deadline");
                stop.stop(Stop::Now);
            }
            // Whoever presses ^C a second time does not want to wait. A second SIGTERM changes nothing: supervisors
            // repeat it, and a payment in flight must not be cut for that.
            _ = interrupt.recv() => stop.stop(Stop::Now),
        }
        if let Some(spans) = spans {
            spans.flush(FLUSH).await;
        }
        tracing::info!("stopped");
        Ok(())
    })
}

/// A listening socket, and its TLS side where it has one.
type Socket = (Bound, Option<Arc<ServerTls>>);

/// The ledger, where the configuration names one. A disk that fails under it ends the process at once: what is durable
/// is unknowable then (safety.md D8).
fn ledger(config: &Config) -> Result<Option<Arc<dyn Ledger>>, AppError> {
    let Some(ledger) = &config.ledger else { return Ok(None) };
    let keys = Keys::load_or_create(&ledger.key_file).map_err(|error| AppError::Ledger(error.to_string()))?;
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

/// The TLS side of each listener that has one. The loader has seen that certificates and keys fit together.
fn server_tls(config: &Config) -> Result<BTreeMap<SocketAddr, Arc<ServerTls>>, AppError> {
    let with_tls = config.data_listeners().into_iter();
    with_tls
        .filter_map(|(address, listen)| Some((address, listen.tls.as_ref()?)))
        .map(|(address, identity)| {
            let tls = ServerTls::new(identity).map_err(|error| AppError::Internal(error.to_string()))?;
            Ok((address, tls))
        })
        .collect()
}

fn worker(
    sockets: Vec<Socket>,
    connections: Arc<Connections>,
    admission: &Admission,
    proxy: impl FnOnce() -> Proxy,
    metrics: Arc<Metrics>,
    stopped: listen::Shutdown,
    beating: impl Future<Output = ()> + 'static,
) {
    let worker = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(worker) => worker,
        Err(error) => {
            tracing::error!(%error, "a worker has no runtime");
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&worker, async move {
        let beating = tokio::task::spawn_local(beating);
        let proxy = Rc::new(proxy());
        proxy.prewarm();
        let answering = Rc::clone(&proxy);
        let handler = Rc::new(move |request, info| Rc::clone(&answering).handle(request, info));
        let mut serving = tokio::task::JoinSet::new();
        for (socket, tls) in sockets {
            let address = socket.address();
            let (rendering, metrics) = (Rc::clone(&proxy), Arc::clone(&metrics));
            let settings = listen::Settings {
                header_timeout: admission.header_timeout,
                head: listen::guard::Limits {
                    head: admission.head,
                    ..Default::default()
                },
                tls,
                render: Rc::new(move |refusal| rendering.render_refusal(address, refusal)),
                observe: Rc::new(move |event| observe(&metrics, address, event)),
                ..listen::Settings::new(Arc::clone(&connections))
            };
            serving.spawn_local(listen::serve(
                socket,
                Rc::new(settings),
                Rc::clone(&handler),
                stopped.clone(),
            ));
        }
        while let Some(ended) = serving.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::error!(%error, "a listener cannot be used");
            }
        }
        beating.abort();
    });
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
