//! Simulators on real sockets.
//!
//! ```no_run
//! # async fn example() -> Result<(), sentinel::sandbox::server::ServeError> {
//! use sentinel::sandbox::fault::{Cut, Fault, Match, Rule, When};
//! use sentinel::sandbox::{Kind, server};
//!
//! let sandbox = server::start(&[Kind::Paypal, Kind::Adyen]).await?; // free ports, plain HTTP
//! let paypal = sandbox.gateway("paypal").unwrap();
//! println!("{}", paypal.url());
//! paypal.fault(Rule::once(
//!     Match::path("POST", "/v2/checkout/orders"),
//!     Fault::CutAnswer { byte: 0, cut: Cut::Rst, when: When::After }, // executed, and the answer is lost
//! ));
//! // ... send payments ...
//! assert!(sandbox.books().audit().clean());
//! # Ok(())
//! # }
//! ```
//!
//! Each gateway has a port, HTTP/1.1 and HTTP/2, plain or with TLS under a certificate authority of the sandbox's own.
//! What a script does, it does on the wire: a refused connection is refused by the system, a reset is a reset, and an
//! answer that is late comes late. Whatever is executed is in the books, whoever was told.
//!
//! Everything ends with the [`Sandbox`].

mod answer;
mod bomb;
mod connection;
mod control;
mod gateway;
pub mod log;
mod perform;
mod tls;
mod webhooks;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;

pub use gateway::{Gateway, Redeliver};
pub use log::{Fate, Received};
pub use tls::{Tls, TlsError};
pub use webhooks::Delivery;

use super::books::Books;
use super::clock::Clock;
use super::{Kind, Simulator};
use gateway::Core;

/// One gateway to serve.
pub struct Serve {
    /// Its name in books, log and control paths. Two simulators of one kind have two names.
    pub name: String,
    /// Where it listens; port 0 for a free one.
    pub address: SocketAddr,
    /// Its behaviour.
    pub simulator: Box<dyn Simulator>,
    /// Whether HTTP/2 is offered over TLS. Over plain TCP it is spoken with whoever begins with it.
    pub http2: bool,
}

impl std::fmt::Debug for Serve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Serve({} at {})", self.name, self.address)
    }
}

impl Serve {
    /// A simulator under its own name on a free port of the loopback interface.
    pub fn new(kind: Kind) -> Self {
        Self {
            name: kind.name().to_owned(),
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            simulator: kind.simulator(),
            http2: true,
        }
    }

    /// Under another name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// At another address.
    #[must_use]
    pub fn at(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }
}

/// What to serve, and how.
#[derive(Debug, Default)]
pub struct Options {
    /// The gateways.
    pub gateways: Vec<Serve>,
    /// TLS for the gateways; plain HTTP without.
    pub tls: Option<Tls>,
    /// The seed of the scripts' chances. Default 0.
    pub seed: u64,
    /// Where the control port listens, always plain HTTP; none without. It has no authentication: loopback only.
    pub control: Option<SocketAddr>,
}

/// Why the sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port cannot be had.
    #[error("{name} cannot listen on {address}: {source}")]
    Listen {
        /// The gateway, or `control`.
        name: String,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Two gateways have one name.
    #[error("two gateways are named {0}")]
    Twice(String),
}

/// Running simulators. Dropping it ends them.
#[derive(Debug)]
pub struct Sandbox {
    gateways: Vec<Gateway>,
    books: Books,
    clock: Clock,
    authority: Option<String>,
    control: Option<SocketAddr>,
}

/// Serves these gateways in plain HTTP on free ports of the loopback interface, under their own names.
pub async fn start(kinds: &[Kind]) -> Result<Sandbox, ServeError> {
    serve(Options {
        gateways: kinds.iter().copied().map(Serve::new).collect(),
        ..Options::default()
    })
    .await
}

/// Serves what the options say, on the runtime that calls.
///
/// # Errors
/// When an address cannot be had, or the certificate cannot be used. Nothing stays behind then.
pub async fn serve(options: Options) -> Result<Sandbox, ServeError> {
    let (books, clock) = (Books::default(), Clock::default());
    let mut sandbox = Sandbox {
        gateways: Vec::new(),
        books: books.clone(),
        clock: clock.clone(),
        authority: options.tls.as_ref().map(|tls| tls.authority().to_owned()),
        control: None,
    };
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    for (at, wanted) in options.gateways.into_iter().enumerate() {
        if sandbox.gateway(&wanted.name).is_some() {
            return Err(ServeError::Twice(wanted.name));
        }
        let tls = options.tls.as_ref().map(|tls| tls.server(wanted.http2)).transpose()?;
        let (listener, address) = listen(&wanted.name, wanted.address).await?;
        let seed = options.seed.wrapping_add(at as u64);
        let shared = (clock.clone(), books.clone());
        let core = Core::new(wanted.name, address, scheme, wanted.simulator, seed, shared);
        core.background(connection::accept(Arc::clone(&core), listener, tls));
        sandbox.gateways.push(Gateway { core });
    }
    if let Some(wanted) = options.control {
        let (listener, address) = listen("control", wanted).await?;
        sandbox.control = Some(address);
        control::serve(&sandbox, listener);
    }
    Ok(sandbox)
}

/// Binds a port by its number, even a free one: a socket that was bound to "any port" loses it when it stops listening.
async fn listen(name: &str, wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let refused = |source| ServeError::Listen {
        name: name.to_owned(),
        address: wanted,
        source,
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut address = wanted;
        if address.port() == 0 {
            let probe = TcpListener::bind(wanted).await.map_err(refused)?;
            address = probe.local_addr().map_err(refused)?;
        }
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok((listener, address)),
            // Somebody else took the free port in between.
            Err(_) if wanted.port() == 0 && attempts < 16 => {}
            Err(source) => return Err(refused(source)),
        }
    }
}

impl Sandbox {
    /// A gateway by name.
    pub fn gateway(&self, name: &str) -> Option<&Gateway> {
        self.gateways.iter().find(|gateway| gateway.name() == name)
    }

    /// Every gateway, in the order of the options.
    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    /// The books of all gateways.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The clock of all gateways.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The authority behind the gateways' certificates, PEM, where they have any.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// Where the control port listens.
    pub fn control(&self) -> Option<SocketAddr> {
        self.control
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for gateway in &self.gateways {
            gateway.core.end();
        }
    }
}
