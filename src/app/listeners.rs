//! The sockets of the data path, opened and closed while the process runs.
//!
//! Each worker serves its own copy of every socket; this side keeps a duplicate, so that a listener can be served anew
//! under other settings while the kernel goes on queueing connections: none is refused in between. What is closed
//! drains: requests in flight are answered, then their connections close.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::config::model::{Admission, Config, Identity, Listen};
use crate::listen::bind::{Activated, BindError, Bound};
use crate::listen::tls::ServerTls;
use crate::listen::{self, Connections, Shutdown, ShutdownHandle, Stop};

/// Orders that may wait for a worker; more listeners than this are never opened at once.
pub(super) const ORDERS: usize = 1024;

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Serve this.
    Open(Open),
    /// The configuration in force is another one: connections to gateways that are gone are of no use, and new gateways
    /// may want some.
    Settle,
}

/// A listener that a worker is to serve until its shutdown is told.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) socket: Bound,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) admission: Admission,
    pub(super) stopped: Shutdown,
}

/// Why a listener could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] listen::tls::TlsError),
    /// The system.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// One listener as it is served.
#[derive(Debug)]
struct Served {
    sockets: Vec<Bound>,
    tls: Option<Arc<ServerTls>>,
    identity: Option<Arc<Identity>>,
    stop: ShutdownHandle,
}

/// All listeners of the data path.
#[derive(Debug)]
pub(super) struct Listeners {
    inner: Mutex<Inner>,
    connections: Arc<Connections>,
}

#[derive(Debug)]
struct Inner {
    /// One a worker; none once the process stops.
    workers: Vec<mpsc::Sender<Order>>,
    served: BTreeMap<SocketAddr, Served>,
    admission: Admission,
    /// Listeners that drain: they too end when the process must.
    closing: Vec<ShutdownHandle>,
}

/// New sockets, bound and not yet served. Dropped, they close and nothing has happened.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    opened: BTreeMap<SocketAddr, Served>,
    certificates: Vec<(SocketAddr, Arc<ServerTls>, Arc<Identity>)>,
}

impl Listeners {
    /// Serves nothing yet.
    pub(super) fn new(workers: Vec<mpsc::Sender<Order>>, admission: Admission) -> Self {
        let connections = Connections::new(admission.connections);
        let inner = Inner {
            workers,
            served: BTreeMap::new(),
            admission,
            closing: Vec::new(),
        };
        Self {
            inner: Mutex::new(inner),
            connections,
        }
    }

    /// The connections of the process.
    pub(super) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Binds what a configuration has and is not served yet, and prepares new certificates.
    ///
    /// # Errors
    /// When an address or a certificate cannot be had; then nothing is changed.
    pub(super) fn prepare(&self, config: &Config, passed: &mut Activated) -> Result<Prepared, OpenError> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = inner.workers.len();
        let mut prepared = Prepared::default();
        for (address, listen) in config.data_listeners() {
            if let Some(served) = inner.served.get(&address)
                && served.tls.is_some() == listen.tls.is_some()
            {
                if let Some(identity) = listen.tls.as_ref().filter(|new| served.identity.as_ref() != Some(new)) {
                    let tls = ServerTls::new(identity)?;
                    prepared.certificates.push((address, tls, Arc::clone(identity)));
                }
                continue;
            }
            let sockets = match (inner.served.get(&address), passed.take(address, workers)?) {
                // From plain HTTP to TLS or back: the same sockets.
                (Some(served), _) => copies(&served.sockets)?,
                (None, Some(passed)) => passed,
                (None, None) => Bound::for_workers(address, workers)?,
            };
            prepared.opened.insert(address, Served::new(sockets, listen)?);
        }
        Ok(prepared)
    }

    /// Serves what was prepared and closes what the configuration no longer has.
    ///
    /// # Errors
    /// When a socket cannot be duplicated (descriptors are exhausted) or the process is stopping; what was served before
    /// still is.
    pub(super) async fn apply(&self, config: &Config, prepared: Prepared) -> Result<(), OpenError> {
        let mut orders = Vec::new();
        let workers = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let inner = &mut *inner;
            self.connections.set_limit(config.admission.connections);
            for (address, tls, identity) in prepared.certificates {
                if let Some(served) = inner.served.get_mut(&address) {
                    if let Some(shown) = &served.tls {
                        shown.replace(&tls);
                    }
                    served.identity = Some(identity);
                }
            }
            let mut opened = prepared.opened;
            let limits = |admission: &Admission| (admission.header_timeout, admission.head);
            if limits(&inner.admission) != limits(&config.admission) {
                // Limits belong to a listener's settings: every one is served anew.
                for (address, served) in &inner.served {
                    if !opened.contains_key(address) {
                        opened.insert(*address, served.again()?);
                    }
                }
            }
            inner.admission = config.admission.clone();
            for (address, new) in opened {
                for (worker, socket) in copies(&new.sockets)?.into_iter().enumerate() {
                    orders.push((
                        worker,
                        Open {
                            socket,
                            tls: new.tls.clone(),
                            admission: config.admission.clone(),
                            stopped: new.stop.listener(),
                        },
                    ));
                }
                if let Some(old) = inner.served.insert(address, new) {
                    inner.closing.push(old.stop);
                }
            }
            let wanted = config.data_listeners();
            let gone: Vec<SocketAddr> = inner
                .served
                .keys()
                .filter(|at| !wanted.contains_key(at))
                .copied()
                .collect();
            for address in gone {
                inner
                    .closing
                    .extend(inner.served.remove(&address).map(|served| served.stop));
            }
            inner.closing.retain(ShutdownHandle::is_wanted);
            inner.workers.clone()
        };
        for worker in &workers {
            let _ = worker.send(Order::Settle).await;
        }
        for (worker, open) in orders {
            if let Some(worker) = workers.get(worker) {
                let _ = worker.send(Order::Open(open)).await;
            }
        }
        // Only now: a connection finds the new listener before the old one stops taking it.
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.closing.iter().for_each(|closing| closing.stop(Stop::Drain));
        Ok(())
    }

    /// Moves all listeners towards their end; none is opened any more.
    pub(super) fn stop(&self, stop: Stop) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.workers.clear();
        let served = std::mem::take(&mut inner.served);
        inner.closing.extend(served.into_values().map(|served| served.stop));
        inner.closing.iter().for_each(|closing| closing.stop(stop));
    }
}

impl Served {
    fn new(sockets: Vec<Bound>, listen: &Listen) -> Result<Self, OpenError> {
        let tls = listen
            .tls
            .as_ref()
            .map(|identity| ServerTls::new(identity))
            .transpose()?;
        Ok(Self {
            sockets,
            tls,
            identity: listen.tls.clone(),
            stop: listen::shutdown().0,
        })
    }

    /// The same sockets, to be served under other settings.
    fn again(&self) -> std::io::Result<Self> {
        Ok(Self {
            sockets: copies(&self.sockets)?,
            tls: self.tls.clone(),
            identity: self.identity.clone(),
            stop: listen::shutdown().0,
        })
    }
}

fn copies(sockets: &[Bound]) -> std::io::Result<Vec<Bound>> {
    sockets.iter().map(Bound::copy).collect()
}
