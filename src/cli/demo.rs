//! `sentinel demo`: what Sentinel is for, in half a minute, on any machine.
//!
//! One process holds everything: simulators of Stripe, Adyen and PayPal on ports of this machine, the sidecar as
//! `sentinel run` would run it (its ledger in a directory that goes away, the tenants' API and the dashboard where a
//! newcomer looks for them), and a shop whose customers pay in Stripe's dialect; PayPal is there for who registers. Stripe
//! fails by a script: first it loses answers and fails, then it is gone, then it is back. At the end the books of the
//! simulators, which no fault touches, are held against what the shop was told, order by order.
//!
//! The sidecar fences Stripe by what the simulator is known to keep to, without a certificate.

mod audit;
mod screen;
mod shop;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::control::Control;
use crate::app::{self, AppError};
use crate::sandbox::fault::Rule;
use crate::sandbox::server::{self, Options, Sandbox, Serve, ServeError};
use crate::sandbox::{Kind, fault::shorthand};
use screen::{Row, Screen, euros};
use shop::{Shop, Told};

/// Arguments of `sentinel demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long customers come, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..=45))]
    seconds: u64,
    /// Customers a second.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=200))]
    rate: u32,
    /// The seed of the faults' chances.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Go on selling after the audit until Ctrl-C, to look at metrics, top and tap and to break things by hand; then
    /// audit again.
    #[arg(long)]
    keep_running: bool,
}

/// Why there was nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The simulators have no ports.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The sidecar does not run.
    #[error(transparent)]
    App(#[from] AppError),
    /// The system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A defect.
    #[error("{0}")]
    Fault(#[from] shorthand::NotAFault),
}

/// One act: its share of the time in percent, what it says, and Stripe's script.
const ACTS: [(u32, &str, &[&str]); 4] = [
    (20, "business as usual", &[]),
    (
        20,
        "Stripe falters: lost answers, errors, resets",
        &[
            "lost,method=POST,path=/v1/payment_intents,percent=10,times=all",
            "500,method=POST,path=/v1/payment_intents,percent=10,times=all",
            "503-after,method=POST,path=/v1/payment_intents,percent=5,times=all",
            "drop,percent=10,times=all",
        ],
    ),
    (30, "Stripe is down: connections are refused", &["refuse"]),
    (30, "Stripe is back", &[]),
];

/// How long a simulator takes over a payment: as in life, if an issuer were fast.
const LATENCY: [(&str, Duration); 3] = [
    ("stripe", Duration::from_millis(40)),
    ("adyen", Duration::from_millis(60)),
    ("paypal", Duration::from_millis(60)),
];

/// How often the row of an act is redrawn.
const FRAME: Duration = Duration::from_millis(100);

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(20);

/// Customers a second while somebody looks around.
const AFTERWARDS: u32 = 5;

/// Plays it. Whether the books are as the shop was told.
///
/// # Errors
/// When the simulators or the sidecar cannot run.
pub fn run(args: &Args) -> Result<bool, DemoError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stage = Stage::open(args.seed).await?;
        let well = stage.play(args, &mut interrupt).await;
        stage.close().await?;
        well
    })
}

/// Everything that runs.
struct Stage {
    sandbox: Sandbox,
    control: Arc<Control>,
    ended: oneshot::Receiver<Result<(), AppError>>,
    shop: Shop,
    at: Addresses,
    dir: Dir,
}

/// The sidecar's listeners.
struct Addresses {
    checkout: SocketAddr,
    shared: SocketAddr,
    admin: SocketAddr,
    dashboard: SocketAddr,
}

/// A directory of its own, gone when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new() -> std::io::Result<Self> {
        let name = format!("sentinel-demo-{}-{}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn free_port() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

impl Stage {
    async fn open(seed: u64) -> Result<Self, DemoError> {
        let sandbox = server::serve(Options {
            gateways: [Kind::Stripe, Kind::Adyen, Kind::Paypal].map(Serve::new).into(),
            seed,
            control: Some((Ipv4Addr::LOCALHOST, 0).into()),
            ..Options::default()
        })
        .await?;
        for (name, latency) in LATENCY {
            if let Some(gateway) = sandbox.gateway(name) {
                gateway.set_latency(latency);
            }
        }
        let (admin, dir) = (free_port()?, Dir::new()?);
        let at = Addresses {
            checkout: free_port()?,
            shared: usual_port(8080)?,
            admin,
            dashboard: usual_port(3000)?,
        };
        let file = dir.0.join("sentinel.yaml");
        std::fs::write(&file, config(&sandbox, &at, &dir))?;
        let (ready, is_ready) = oneshot::channel();
        let (end, mut ended) = oneshot::channel();
        std::thread::Builder::new().name("sidecar".into()).spawn(move || {
            let _ = end.send(app::run_inside(&file, |control| {
                let _ = ready.send(control);
            }));
        })?;
        let control = tokio::select! {
            Ok(control) = is_ready => control,
            ended = &mut ended => {
                ended.unwrap_or_else(|_| Err(AppError::Internal("the sidecar's thread is gone".into())))?;
                return Err(AppError::Internal("the sidecar ended before it was ready".into()).into());
            }
        };
        Ok(Self {
            sandbox,
            control,
            ended,
            shop: Shop::at(at.checkout),
            at,
            dir,
        })
    }

    /// Ends the sidecar as SIGTERM would, and everything else after it.
    async fn close(self) -> Result<(), DemoError> {
        self.control.drain();
        if let Ok(Ok(ended)) = tokio::time::timeout(REST, self.ended).await {
            ended?;
        }
        drop(self.dir);
        Ok(())
    }

    async fn play(&self, args: &Args, interrupt: &mut Signal) -> Result<bool, DemoError> {
        let mut screen = Screen::stdout();
        self.opening(&screen)?;
        screen.head()?;
        let begun = Instant::now();
        let mut customers = JoinSet::new();
        for (share, what, faults) in ACTS {
            let rules: Vec<Rule> = faults.iter().map(|fault| fault.parse()).collect::<Result<_, _>>()?;
            if let Some(stripe) = self.sandbox.gateway("stripe") {
                stripe.clear_faults();
                rules.into_iter().for_each(|rule| stripe.fault(rule));
            }
            let first = self.shop.count();
            let from = begun.elapsed();
            let over = Instant::now() + Duration::from_secs(args.seconds) * share / 100;
            let mut next = tokio::time::interval(Duration::from_secs(1) / args.rate);
            let mut frame = tokio::time::interval(FRAME);
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(over) => break,
                    _ = interrupt.recv() => return Ok(false),
                    _ = next.tick() => { customers.spawn(self.shop.clone().sell()); }
                    _ = frame.tick() => self.row(&mut screen, from, what, first, false)?,
                }
            }
            self.row(&mut screen, from, what, first, true)?;
        }
        // Whoever was told "ask again" still does.
        let all = async { while customers.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            _ = interrupt.recv() => return Ok(false),
        }
        self.row(&mut screen, begun.elapsed(), "every order has its answer", 0, true)?;
        let returned = self.take_back(&screen).await?;
        let well = self.audit(&screen).await? && returned;
        if !args.keep_running {
            return Ok(well);
        }
        self.look_around(&screen, interrupt).await
    }

    fn row(&self, screen: &mut Screen, at: Duration, what: &str, first: usize, last: bool) -> std::io::Result<()> {
        let row = Row {
            at,
            what,
            tally: self.shop.tally(first),
            orders: &self.shop.orders(first),
        };
        screen.row(&row, last)
    }

    fn opening(&self, screen: &Screen) -> std::io::Result<()> {
        let address = |name: &str| {
            self.sandbox
                .gateway(name)
                .map_or(self.at.admin, server::Gateway::address)
        };
        screen
            .line(&screen.strong("A shop, its sidecar, and simulated gateways. No account, no network, no money."))?;
        screen.line(&format!(
            "
  shop --Stripe's API--> sentinel --+--> Stripe {}   its own gateway
                                    +--> Adyen  {}   when Stripe provably did not take a payment

  metrics http://{}/metrics      faults http://{}
",
            address("stripe"),
            address("adyen"),
            self.at.admin,
            self.sandbox.control().unwrap_or(self.at.admin),
        ))
    }

    /// A customer of each gateway returns what she bought: follow-ups reach whoever has the payment, by the ids that the
    /// shop was given. Whether all did.
    async fn take_back(&self, screen: &Screen) -> std::io::Result<bool> {
        let orders = self.shop.orders(0);
        let (mut said, mut well) = (Vec::new(), true);
        for gateway in ["stripe", "adyen"] {
            let at_gateway = Told::Paid(gateway.to_owned());
            let Some(order) = orders.iter().find(|order| order.told == at_gateway) else {
                continue;
            };
            let done = self.shop.give_back(&order.name).await;
            let word = if done { "given back" } else { "NOT given back" };
            said.push(format!("{} ({}) {word} at {gateway}", order.name, euros(order.cents)));
            well &= done;
        }
        screen.line(&format!("\nCustomers return what they bought: {}.", said.join(", ")))?;
        Ok(well)
    }

    async fn audit(&self, screen: &Screen) -> Result<bool, DemoError> {
        for gateway in self.sandbox.gateways() {
            // What does not come to rest shows in the books.
            let _ = tokio::time::timeout(REST, gateway.quiet()).await;
        }
        let orders = self.shop.orders(0);
        let verdict = audit::compare(&orders, &self.sandbox.books().audit());
        let tally = self.shop.tally(0);
        screen.line(&screen.strong("\nThe books of the gateways, against what the shop was told"))?;
        for (gateway, (count, taken, back)) in &verdict.taken {
            let name = match gateway.as_str() {
                "stripe" => "Stripe",
                "adyen" => "Adyen",
                _ => "PayPal",
            };
            screen.line(&format!(
                "  {name:<7} {count:>5} payments  {:>18} taken  {:>14} given back",
                euros(*taken),
                euros(*back)
            ))?;
        }
        screen.line(&format!(
            "  {:<7} {:>5} orders    {} paid, {} declined, {} open",
            "shop",
            orders.len(),
            tally.stripe + tally.elsewhere,
            tally.declined,
            tally.open
        ))?;
        if verdict.guests > 0 {
            screen.line(&format!("  guests  {:>5} payments of their own", verdict.guests))?;
        }
        for problem in &verdict.problems {
            screen.line(&screen.bad(&format!("  {problem}")))?;
        }
        let saved: i64 = orders
            .iter()
            .filter(|order| matches!(&order.told, Told::Paid(gateway) if gateway != "stripe"))
            .map(|order| order.cents)
            .sum();
        let well = verdict.problems.is_empty();
        screen.line(&if well {
            screen.good(&format!(
                "\nEvery order is as the shop was told, and nobody was charged twice. Saved at Adyen: {} payments, {}.",
                tally.elsewhere,
                euros(saved)
            ))
        } else {
            screen.bad(&format!(
                "\n{} differences between the books and what the shop was told.",
                verdict.problems.len()
            ))
        })?;
        Ok(well)
    }

    /// Customers keep coming until somebody has seen enough; then the last audit.
    async fn look_around(&self, screen: &Screen, interrupt: &mut Signal) -> Result<bool, DemoError> {
        let control = self.sandbox.control().unwrap_or(self.at.admin);
        screen.line(&format!(
            "
Customers keep coming, {AFTERWARDS} a second. Look around in another terminal; Ctrl-C ends it with a last audit.

  http://{dashboard}   the dashboard: go on as operator
  http://{shared}/api/v1/docs   the tenants' API: register, and pay with the key at http://{shared}/stripe
  sentinel top --admin {admin}
  sentinel tap --admin {admin}
  curl http://{admin}/metrics
  curl http://{control}/gateways/stripe/faults -d '{{\"fault\":\"refuse\"}}'
  curl http://{control}/gateways/stripe/faults -X DELETE",
            admin = self.at.admin,
            dashboard = self.at.dashboard,
            shared = self.at.shared,
        ))?;
        let mut customers = JoinSet::new();
        let mut next = tokio::time::interval(Duration::from_secs(1) / AFTERWARDS);
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = next.tick() => { customers.spawn(self.shop.clone().sell()); }
                Some(_) = customers.join_next() => {}
            }
        }
        for gateway in self.sandbox.gateways() {
            gateway.clear_faults();
        }
        let all = async { while customers.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            _ = interrupt.recv() => return Ok(false),
        }
        self.audit(screen).await
    }
}

/// A port where everybody looks first, when nobody else has it.
fn usual_port(port: u16) -> std::io::Result<SocketAddr> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match std::net::TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(_) => free_port(),
    }
}

fn config(sandbox: &Sandbox, at: &Addresses, dir: &Dir) -> String {
    let Addresses {
        checkout,
        shared,
        admin,
        dashboard,
    } = at;
    let url = |name: &str| sandbox.gateway(name).map_or("", server::Gateway::url);
    format!(
        "listeners: {{ shared: '{shared}', admin: '{admin}', dashboard: '{dashboard}' }}
accounts: {{ dashboard: 'http://localhost:{port}' }}
# A directory in memory is good enough for what goes away.
ledger: {{ sqlite: '{}/ledger.db', strict: false }}
log: {{ level: error }}
gateways:
  stripe: {{ dialect: stripe, endpoint: '{}', allow_private: true, credentials: {{ secret_key: sk_test_sandbox }} }}
  adyen:
    dialect: adyen
    endpoint: '{}'
    allow_private: true
    capture: automatic
    credentials: {{ api_key: sandbox, merchant_account: AcmeECOM }}
  paypal:
    dialect: paypal
    endpoint: '{}'
    allow_private: true
    credentials: {{ client_id: sandbox, client_secret: sandbox }}
routes:
  - name: checkout
    listen: '{checkout}'
    path_prefix: /stripe
    dialect: stripe
    gateways: [stripe, adyen, paypal]
    # Whoever registers here pays at the simulators.
    lend_credentials: true
    failover: {{ require_certificate: false, attempt_timeout: 2s, deadline: 5s }}
    # Short enough for an outage of seconds.
    breaker: {{ open: 1s, open_max: 2s }}
",
        dir.0.display(),
        url("stripe"),
        url("adyen"),
        url("paypal"),
        port = dashboard.port(),
    )
}
