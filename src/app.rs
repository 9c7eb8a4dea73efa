//! Builds everything from a configuration, owns the threads, and knows the order of shutting down.
//!
//! The data path has threads of its own, one runtime each, and shares nothing with this one but the snapshot and
//! counters; the main thread runs the operators' side: admin listener, signals, reload.

pub mod control;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::load::{Problem, load};
use crate::config::model::Config;
use crate::listen;
use crate::proxy::Proxy;
use crate::proxy::runtime::Runtime;
use crate::telemetry::{self, Metrics};
use control::Control;

/// How often the configuration file is compared with what is in force. Comparing content, not events, also sees the
/// symlink swap of a Kubernetes ConfigMap and an editor's rename.
const WATCH: Duration = Duration::from_secs(2);

/// Why the sidecar could not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is wrong.
    #[error("the configuration has {} problem(s)", .0.len())]
    Config(Vec<Problem>),
    /// The system refused something: an address, a thread.
    #[error("{0}")]
    System(#[from] std::io::Error),
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
    let metrics = Arc::new(Metrics::new().map_err(|error| AppError::Internal(error.to_string()))?);
    let logging = telemetry::log::init(&config.log, metrics.log_dropped.clone());
    let logging = Arc::new(logging.map_err(|error| AppError::Internal(error.to_string()))?);
    crate::upstream::warm_up();
    let addresses = data_listeners(&config);
    let workers = config.workers;
    let (shutdown, admission, admin) = (
        config.shutdown.clone(),
        config.admission.clone(),
        config.listeners.admin,
    );
    let runtime = Runtime::build(config, None, &metrics).map_err(AppError::Internal)?;
    let runtime = Arc::new(ArcSwap::from_pointee(runtime));
    let (stop, stopped) = watch::channel(false);
    let (ended, mut all_ended) = mpsc::channel::<()>(1);

    // Every socket is bound before the first worker starts: an address in use is an error, not half a sidecar.
    let mut sockets: Vec<Vec<std::net::TcpListener>> = Vec::new();
    for _ in 0..workers {
        sockets.push(
            addresses
                .iter()
                .map(|address| listen::bind(*address, workers > 1))
                .collect::<Result<_, _>>()?,
        );
    }
    let settings = listen::Settings {
        connections: (admission.connections / workers / addresses.len().max(1)).max(1),
        header_timeout: admission.header_timeout,
        head: admission.head,
    };
    for (index, sockets) in sockets.into_iter().enumerate() {
        let (runtime, metrics, settings) = (Arc::clone(&runtime), Arc::clone(&metrics), settings.clone());
        let (stopped, ended) = (stopped.clone(), ended.clone());
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                worker(sockets, settings, runtime, metrics, stopped);
                drop(ended);
            })?;
    }
    drop(ended);

    let control = Arc::new(Control::new(
        file.to_owned(),
        Arc::clone(&runtime),
        Arc::clone(&metrics),
        logging,
    ));
    let operators = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    operators.block_on(async move {
        if let Some(address) = admin {
            let listener = tokio::net::TcpListener::from_std(listen::bind(address, false)?)?;
            tokio::spawn(crate::admin::serve(listener, Arc::clone(&control)));
        }
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        control.set_ready(true);
        notify(&[sd_notify::NotifyState::Ready]);
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
        control.set_ready(false);
        notify(&[sd_notify::NotifyState::Stopping]);
        if !shutdown.native_sidecar {
            tokio::time::sleep(shutdown.min).await;
        }
        let _ = stop.send(true);
        if tokio::time::timeout(shutdown.max, all_ended.recv()).await.is_err() {
            tracing::warn!(max = ?shutdown.max, "requests were still in flight at the shutdown deadline");
        }
        tracing::info!("stopped");
        Ok(())
    })
}

/// The addresses that serve gateways.
pub fn data_listeners(config: &Config) -> Vec<SocketAddr> {
    let own = config.routes.iter().filter_map(|route| route.listen);
    own.chain(config.listeners.shared)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn worker(
    sockets: Vec<std::net::TcpListener>,
    settings: listen::Settings,
    runtime: Arc<ArcSwap<Runtime>>,
    metrics: Arc<Metrics>,
    stopped: watch::Receiver<bool>,
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
        let proxy = Rc::new(Proxy::new(runtime, metrics));
        let handler = Rc::new(move |request, info| Rc::clone(&proxy).handle(request, info));
        let settings = Rc::new(settings);
        let mut serving = tokio::task::JoinSet::new();
        for socket in sockets {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(listener) => {
                    serving.spawn_local(listen::serve(
                        listener,
                        Rc::clone(&settings),
                        Rc::clone(&handler),
                        stopped.clone(),
                    ));
                }
                Err(error) => tracing::error!(%error, "a listener cannot be used"),
            }
        }
        while serving.join_next().await.is_some() {}
    });
}

/// Tells systemd, when it is there to listen.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no service manager was told");
    }
}
