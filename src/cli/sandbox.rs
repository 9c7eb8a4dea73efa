//! `sentinel sandbox`: the simulators on ports of this machine, until Ctrl-C.
//!
//! What it prints is meant to be pasted: configuration for Sentinel, and what to type into an SDK. With `--json` it prints
//! one line that programs read instead, once everything listens.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::ca;
use crate::config::model::custom::Custom as Description;
use crate::sandbox::Kind;
use crate::sandbox::books::Audit;
use crate::sandbox::custom::Custom;
use crate::sandbox::fault::{Rule, shorthand};
use crate::sandbox::server::{self, Options, Sandbox, Serve, ServeError, Tls, TlsError};

/// Arguments of `sentinel sandbox`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Faults, as GATEWAY:FAULT:\n{}", shorthand::WORDS))]
pub struct Args {
    /// A gateway, and its port where it is not the usual one (0 for a free one): `stripe`, `adyen=0`. Default: all.
    #[arg(long = "gateway", short, value_name = "NAME[=PORT]", value_parser = wanted)]
    gateways: Vec<(Kind, Option<u16>)>,
    /// Every port that is not named is a free one instead of the usual one.
    #[arg(long)]
    free_ports: bool,
    /// Simulate the custom gateways that this configuration describes, instead of all others where none is named.
    #[arg(long, value_name = "CONFIG")]
    custom: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port of the control interface, on loopback only; 0 for a free one.
    #[arg(long, value_name = "PORT")]
    control: Option<u16>,
    /// Speak TLS, with a certificate from this directory; it is made as `sentinel ca` makes it.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "tls")]
    tls: Option<PathBuf>,
    /// A fault from the start; may be given again and again.
    #[arg(long = "fault", value_name = "GATEWAY:FAULT")]
    faults: Vec<String>,
    /// A setting of a simulator, e.g. `adyen.capture=manual`, `stripe.latency_ms=80`.
    #[arg(long = "set", value_name = "GATEWAY.NAME=VALUE")]
    settings: Vec<String>,
    /// Where a gateway posts its webhooks, e.g. `stripe=http://127.0.0.1:8080/webhooks`.
    #[arg(long = "webhooks", value_name = "GATEWAY=URL")]
    webhooks: Vec<String>,
    /// The seed of everything that happens by chance.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one line of JSON with every address instead of the table, and no audit at the end.
    #[arg(long)]
    json: bool,
}

/// Why the sandbox does not run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// An argument is wrong.
    #[error("{0}")]
    Usage(String),
    /// A port or certificate cannot be had.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The certificate cannot be made.
    #[error(transparent)]
    Ca(#[from] ca::CaError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl SandboxError {
    /// Whether the command line is to blame.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }
}

/// The port of the control interface where none is given.
const CONTROL: u16 = 9080;
/// The port of the first custom gateway where none is given.
const CUSTOM: u16 = 9090;

fn wanted(text: &str) -> Result<(Kind, Option<u16>), String> {
    let (name, port) = match text.split_once('=') {
        Some((name, port)) => (name, Some(port.parse().map_err(|_| format!("{port} is no port"))?)),
        None => (text, None),
    };
    kind(name).map(|kind| (kind, port))
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("there is no simulator of '{name}'; there are {}", known.join(", "))
    })
}

/// Runs until it is interrupted.
///
/// # Errors
/// When an argument is wrong or a port cannot be had. Nothing was served then.
pub fn run(args: &Args) -> Result<(), SandboxError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (sandbox, kinds) = start(args).await?;
        let mut out = std::io::stdout();
        let text = if args.json {
            line(&sandbox)
        } else {
            table(&sandbox, &kinds, args)
        };
        writeln!(out, "{text}")?;
        out.flush()?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if !args.json {
            write!(out, "{}", closing(&sandbox.books().audit()))?;
        }
        Ok(())
    })
}

async fn start(args: &Args) -> Result<(Sandbox, Vec<Kind>), SandboxError> {
    let usage = SandboxError::Usage;
    let all: Vec<(Kind, Option<u16>)>;
    let described = match &args.custom {
        Some(file) => described(file)?,
        None => Vec::new(),
    };
    let chosen = if args.gateways.is_empty() && described.is_empty() {
        all = Kind::ALL.into_iter().map(|kind| (kind, None)).collect();
        &all
    } else {
        &args.gateways
    };
    let port = |given: Option<u16>, usual: u16| given.unwrap_or(if args.free_ports { 0 } else { usual });
    let gateways = chosen
        .iter()
        .map(|(kind, given)| Serve::new(*kind).at(SocketAddr::new(args.host, port(*given, kind.guide().port))));
    let described = described
        .into_iter()
        .enumerate()
        .map(|(at, (name, description))| Serve {
            address: SocketAddr::new(
                args.host,
                if args.free_ports {
                    0
                } else {
                    CUSTOM.saturating_add(u16::try_from(at).unwrap_or(0))
                },
            ),
            simulator: Box::new(Custom::new(&name, description)),
            name,
            http2: true,
        });
    let control = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port(args.control, CONTROL));
    let sandbox = server::serve(Options {
        gateways: gateways.chain(described).collect(),
        tls: args.tls.as_deref().map(tls).transpose()?,
        seed: args.seed,
        control: Some(control),
    })
    .await?;
    let gateway = |name: &str| {
        sandbox
            .gateway(name)
            .ok_or_else(|| SandboxError::Usage(format!("the sandbox runs no {name}")))
    };
    for fault in &args.faults {
        let (name, fault) = fault
            .split_once(':')
            .ok_or_else(|| usage(format!("'{fault}': expected GATEWAY:FAULT")))?;
        let rule: Rule = fault
            .parse()
            .map_err(|error: shorthand::NotAFault| usage(error.to_string()))?;
        gateway(name)?.fault(rule);
    }
    for setting in &args.settings {
        let parsed = setting
            .split_once('.')
            .and_then(|(name, rest)| rest.split_once('=').map(|(setting, value)| (name, setting, value)));
        let (name, setting, value) =
            parsed.ok_or_else(|| usage(format!("'{setting}': expected GATEWAY.NAME=VALUE")))?;
        gateway(name)?
            .set(setting, value)
            .map_err(|possible| usage(format!("{name}.{setting}: {possible}")))?;
    }
    for webhook in &args.webhooks {
        let (name, url) = webhook
            .split_once('=')
            .ok_or_else(|| usage(format!("'{webhook}': expected GATEWAY=URL")))?;
        gateway(name)?.webhooks_to(Some(url)).map_err(usage)?;
    }
    Ok((sandbox, chosen.iter().map(|(kind, _)| *kind).collect()))
}

/// The custom gateways of a configuration, by name.
fn described(file: &Path) -> Result<Vec<(String, Arc<Description>)>, SandboxError> {
    let config = crate::config::load::load(file).map_err(|problems| {
        let told: Vec<String> = problems.iter().map(|problem| format!("{problem:#}")).collect();
        SandboxError::Usage(told.join("\n"))
    })?;
    let gateways = config.gateways.values();
    let found: Vec<_> = gateways
        .filter_map(|gateway| Some((gateway.name.clone(), Arc::clone(gateway.custom.as_ref()?))))
        .collect();
    match found.is_empty() {
        true => Err(SandboxError::Usage(format!(
            "{} describes no custom gateway",
            file.display()
        ))),
        false => Ok(found),
    }
}

fn tls(dir: &Path) -> Result<Tls, SandboxError> {
    ca::run(&ca::Args {
        dir: dir.to_owned(),
        names: ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
    })?;
    let read = |name: &str| std::fs::read_to_string(dir.join(name));
    Ok(Tls::from_pem(
        &read("ca.pem")?,
        &read("localhost.pem")?,
        &read("localhost.key")?,
    )?)
}

/// What programs read.
fn line(sandbox: &Sandbox) -> String {
    let gateways: serde_json::Map<_, _> = sandbox
        .gateways()
        .iter()
        .map(|gateway| {
            let value = json!({"url": gateway.url(), "address": gateway.address()});
            (gateway.name().to_owned(), value)
        })
        .collect();
    json!({"control": sandbox.control().map(|address| format!("http://{address}")), "gateways": gateways}).to_string()
}

/// What people read.
fn table(sandbox: &Sandbox, kinds: &[Kind], args: &Args) -> String {
    let mut text = String::from("Simulated gateways. Nothing here touches money; Ctrl-C ends it.\n");
    for (gateway, kind) in sandbox.gateways().iter().zip(kinds) {
        let guide = kind.guide();
        let _ = write!(text, "\n{:<10} {}\n", gateway.name(), gateway.url());
        let credentials: Vec<String> = guide
            .credentials
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let _ = writeln!(text, "           {}", credentials.join(", "));
        for (instrument, outcome) in guide.instruments {
            let _ = writeln!(text, "           {instrument:<48} {outcome}");
        }
    }
    for gateway in sandbox.gateways().iter().skip(kinds.len()) {
        let _ = write!(
            text,
            "\n{:<10} {}\n           as its description says; a token decline_CODE is declined with CODE\n",
            gateway.name(),
            gateway.url()
        );
    }
    text.push_str("\nSentinel in front of them (config/sentinel.yaml):\n\ngateways:\n");
    let ca = args
        .tls
        .as_ref()
        .map(|dir| format!(", ca: '{}'", dir.join("ca.pem").display()));
    for (gateway, kind) in sandbox.gateways().iter().zip(kinds) {
        let _ = writeln!(
            text,
            "  {}: {{ dialect: {}, endpoint: '{}', allow_private: true{} }}",
            gateway.name(),
            kind.name(),
            gateway.url(),
            ca.as_deref().unwrap_or_default()
        );
    }
    if let (Some(control), Some(first)) = (sandbox.control(), sandbox.gateways().first()) {
        let name = first.name();
        let _ = write!(
            text,
            "\nControl at http://{control}:\n\
             \n  curl http://{control}/audit\n  curl http://{control}/gateways/{name}/requests\n  \
             curl http://{control}/gateways/{name}/faults -d '{{\"fault\":\"refuse\"}}'\n  \
             curl http://{control}/gateways/{name}/faults -X DELETE\n"
        );
    }
    text
}

/// The books, added up.
fn closing(audit: &Audit) -> String {
    let live = audit.positions.iter().filter(|position| position.live()).count();
    let mut text = format!(
        "\n{} payments in the books, {live} with money held or taken.\n",
        audit.positions.len()
    );
    for (order, count) in &audit.doubled {
        let _ = writeln!(text, "DOUBLE CHARGE: {order} is live {count} times");
    }
    for violation in &audit.violations {
        let _ = writeln!(text, "IMPOSSIBLE: {violation}");
    }
    if audit.clean() {
        text.push_str("No payment was taken twice.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_to_paste_are_a_configuration() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let args = <Cli as clap::Parser>::try_parse_from(["sandbox", "--free-ports"])
            .unwrap()
            .args;
        let text = runtime.block_on(async {
            let (sandbox, kinds) = start(&args).await.unwrap();
            table(&sandbox, &kinds, &args)
        });
        let from = text.find("gateways:").unwrap();
        let to = text.find("\nControl").unwrap();
        let routes: String = Kind::ALL
            .iter()
            .enumerate()
            .map(|(at, kind)| {
                let name = kind.name();
                format!(
                    "  - {{ name: {name}, listen: '127.0.0.1:{}', dialect: {name}, gateways: [{name}] }}\n",
                    40_000 + at
                )
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sentinel.yaml");
        std::fs::write(&file, format!("{}routes:\n{routes}", &text[from..to])).unwrap();
        let config = crate::config::load::load(&file).unwrap();
        assert_eq!(config.gateways.len(), Kind::ALL.len());
    }

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }
}
