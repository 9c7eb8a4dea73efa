//! `sentinel check`: every problem of a configuration with its place, or what it means: who listens where, what is
//! forwarded where, and what each route can fail over, with which fence.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::load::{Problem, load};
use crate::config::model::{Config, GatewayConfig, Listen, Mode, Notify, Purpose, Route};
use crate::gateway::{FenceStrength, prospect};
use crate::ledger::keys::Keys;
use crate::payment::certify;
use crate::payment::certify::certificate::{Certificate, Certificates, Missing, VALID_MS};

/// Arguments of `sentinel check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, short, env = "SENTINEL_CONFIG", default_value = "config/sentinel.yaml")]
    pub config: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Checks, prints, and says how it went.
pub fn run(args: &Args) -> ExitCode {
    let outcome = load(&args.config);
    match (&outcome, args.format) {
        (Ok(config), Format::Text) => print!("{}", text(&args.config, config)),
        (Ok(config), Format::Json) => println!("{:#}", meaning(config)),
        (Err(problems), Format::Text) => print_problems(problems),
        (Err(problems), Format::Json) => println!("{:#}", json!({ "ok": false, "problems": problems_json(problems) })),
    }
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(super::CONFIG),
    }
}

/// Problems as people read them, on standard error.
pub fn print_problems(problems: &[Problem]) {
    for problem in problems {
        eprintln!("{problem:#}");
    }
}

fn problems_json(problems: &[Problem]) -> Vec<Value> {
    let each = problems.iter().map(|problem| {
        json!({
            "file": problem.file,
            "line": problem.place.map(|place| place.line),
            "column": problem.place.map(|place| place.column),
            "path": problem.path,
            "message": problem.message,
            "hint": problem.hint,
        })
    });
    each.collect()
}

/// What a gateway can do for a route's payments, and what stands against it.
struct Role {
    /// Whether Sentinel can make requests of its own there.
    takes_payments: bool,
    /// Its fence, where it is the one that fails.
    fence: FenceStrength,
    /// The fence that its dialect knows.
    declared: FenceStrength,
    /// The certificate that counts, or why none does; `None` where the route wants none.
    certificate: Option<Result<Certificate, String>>,
}

/// Certificates as the running sidecar would look them up.
struct Kept {
    directory: PathBuf,
    keys: Keys,
}

impl Kept {
    /// `None` without a ledger, or before it has a key: there is no certificate then.
    fn of(config: &Config) -> Option<Self> {
        let ledger = config.ledger.as_ref()?;
        Some(Self {
            directory: ledger.certificates(),
            keys: Keys::load(&ledger.key_file).ok()?,
        })
    }

    fn at(&self, gateway: &GatewayConfig) -> Result<Certificate, Missing> {
        let kept = Certificates {
            directory: &self.directory,
            keys: &self.keys,
        };
        kept.fresh(&kept.subject(gateway), certify::now())
    }
}

fn role(gateway: &GatewayConfig, route: &Route, kept: Option<&Kept>) -> Role {
    let Some(dialect) = crate::gateway::at(gateway) else {
        return Role {
            takes_payments: false,
            fence: FenceStrength::F0,
            declared: FenceStrength::F0,
            certificate: None,
        };
    };
    let declared = dialect.capabilities_of(&gateway.settings).fence;
    // Without credentials there is nothing that a fence could be asked with.
    let mut role = Role {
        takes_payments: true,
        fence: if gateway.credentials.is_empty() {
            FenceStrength::F0
        } else {
            declared
        },
        declared,
        certificate: None,
    };
    if route.failover.require_certificate && role.fence >= FenceStrength::F2 {
        let found = kept.map_or(Err(Missing::None), |kept| kept.at(gateway));
        role.certificate = Some(match &found {
            Ok(certificate) => Ok(certificate.clone()),
            Err(missing) => Err(missing.to_string()),
        });
        (role.fence, _) = certify::believed(declared, found);
    }
    role
}

/// A day of Unix time in milliseconds.
pub fn date(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(
        |_| "an unknown day".to_owned(),
        |at| at.strftime("%Y-%m-%d").to_string(),
    )
}

/// What the certificate adds to a fence, for people.
fn certificate_words(role: &Role) -> String {
    match &role.certificate {
        Some(Ok(certificate)) => format!(
            ", certified on {}, which counts until {}",
            date(certificate.at),
            date(certificate.at + VALID_MS)
        ),
        Some(Err(why)) if role.fence < role.declared => format!(
            "; {:?} with a certificate, but {why}: run sentinel certify",
            role.declared
        ),
        Some(Err(_)) | None => String::new(),
    }
}

/// What a fence means for a payment whose outcome is unknown.
pub fn fence_words(fence: FenceStrength) -> &'static str {
    match fence {
        FenceStrength::F3 => "permanent: an unknown outcome is fenced, then tried elsewhere",
        FenceStrength::F2 => "weak: an unknown outcome stays in doubt until it is known",
        FenceStrength::F1 => "look-up only: an unknown outcome stays in doubt until it is known",
        FenceStrength::F0 => "none: an unknown outcome stays in doubt",
    }
}

/// Where an application reaches a route.
fn addresses(config: &Config, route: &Route) -> Vec<String> {
    let own = route.listen.iter().map(Listen::url);
    let shared = config.listeners.shared.iter();
    let shared = shared.map(|listen| format!("{}{}", listen.url(), route.path_prefix));
    match route.path_prefix.is_empty() {
        true => own.collect(),
        false => own.chain(shared).collect(),
    }
}

/// What has to be known of a destination of webhooks, although nothing is wrong with it.
fn notify_notes(config: &Config, route: &Route, notify: &Notify) -> Vec<String> {
    let Some(own) = gateways(config, route).next() else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    let (name, webhook) = (&own.name, &own.webhook);
    if config.listeners.webhooks.is_empty() {
        notes.push(format!(
            "{name} goes on to notify the application itself: there is no listeners.webhooks"
        ));
    } else if notify.secret.is_some()
        && !webhook.secrets.is_empty()
        && !webhook
            .secrets
            .iter()
            .any(|secret| Some(secret) == notify.secret.as_ref())
    {
        notes.push(format!(
            "{name}'s own webhooks have another secret than notify.secret: the application has to take both"
        ));
    }
    let loopback = matches!(notify.to.endpoint.host.as_str(), "localhost" | "127.0.0.1" | "::1");
    if !notify.to.endpoint.tls && !loopback {
        notes.push("payments are told in the clear: use https where the network is not yours alone".to_owned());
    }
    notes
}

fn gateways<'a>(config: &'a Config, route: &'a Route) -> impl Iterator<Item = &'a GatewayConfig> {
    let found = route.gateways.iter().filter_map(|name| config.gateways.get(name));
    found.map(AsRef::as_ref)
}

fn text(file: &Path, config: &Config) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    if let Some(admin) = config.listeners.admin {
        let token = if config.admin.token.is_some() {
            ", with a token"
        } else {
            ""
        };
        line(format!("operators: http://{admin}{token}"));
    }
    if let Some(dashboard) = config.listeners.dashboard {
        line(format!("dashboard: http://{dashboard}"));
    }
    if let Some(ledger) = &config.ledger {
        line(format!("ledger: {}", ledger.sqlite.display()));
    }
    let kept = Kept::of(config);
    for route in applications(config) {
        let host = route
            .host
            .as_ref()
            .map_or_else(String::new, |host| format!(" for host {host}"));
        line(format!(
            "{}: {}{host} speaks {}",
            route.name,
            addresses(config, route).join(" and "),
            route.dialect.name()
        ));
        for (position, gateway) in gateways(config, route).enumerate() {
            let verb = if position == 0 { "forwards to" } else { "fails over to" };
            line(format!("  {verb} {} at {}", gateway.name, gateway.endpoint.url()));
            if position > 0 && route.failover.mode != Mode::Off && !role(gateway, route, kept.as_ref()).takes_payments {
                line(format!(
                    "    not yet: payments cannot be translated to {}",
                    gateway.dialect.name()
                ));
            }
        }
        if route.failover.mode != Mode::Off
            && let Some(first) = gateways(config, route).next()
        {
            let role = role(first, route, kept.as_ref());
            let fence = if role.takes_payments {
                let (name, words) = (&first.name, fence_words(role.fence));
                format!("fence at {name}: {:?}, {words}{}", role.fence, certificate_words(&role))
            } else {
                format!(
                    "not yet: payments in {} are forwarded and not understood",
                    first.dialect.name()
                )
            };
            line(format!("  failover: {}; {fence}", route.failover.mode.name()));
            if let Some(plan) = prospect::of(config, route).filter(|plan| !plan.then.is_empty()) {
                line(format!("  plan: {}", plan.words()));
            }
        }
        if let Some(notify) = &route.notify {
            line(format!("  notifies {}", notify.url));
            for note in notify_notes(config, route, notify) {
                line(format!("    {note}"));
            }
        }
    }
    if let Some(gateway) = &config.accounts.collect {
        line(format!("fees: collected at {gateway}"));
    }
    line(format!("{}: ok", file.display()));
    out
}

/// The routes that applications reach.
fn applications(config: &Config) -> impl Iterator<Item = &Arc<Route>> {
    let purpose = |route: &&Arc<Route>| route.purpose == Purpose::Applications;
    config.routes.iter().filter(purpose)
}

fn meaning(config: &Config) -> Value {
    let kept = Kept::of(config);
    let routes = applications(config).map(|route| {
        let gateways = gateways(config, route).map(|gateway| {
            let role = role(gateway, route, kept.as_ref());
            json!({
                "name": gateway.name,
                "dialect": gateway.dialect,
                "endpoint": gateway.endpoint.url(),
                "credentials": gateway.credentials.names().collect::<Vec<_>>(),
                "takes_payments": role.takes_payments,
                "fence": role.fence,
                "certificate": match &role.certificate {
                    Some(Ok(made)) => json!({ "at": made.at, "until": made.at + VALID_MS, "strength": made.strength }),
                    Some(Err(why)) => json!({ "missing": why }),
                    None => Value::Null,
                },
            })
        });
        json!({
            "name": route.name,
            "dialect": route.dialect,
            "addresses": addresses(config, route),
            "host": route.host,
            "failover": route.failover.mode,
            "gateways": gateways.collect::<Vec<_>>(),
            "plan": prospect::of(config, route),
            "notify": route.notify.as_ref().map(|notify| json!({
                "url": notify.url,
                "notes": notify_notes(config, route, notify),
            })),
        })
    });
    let listeners = config.data_listeners().into_values().map(Listen::url);
    json!({
        "ok": true,
        "hash": config.hash,
        "admin": config.listeners.admin,
        "dashboard": config.listeners.dashboard,
        "listeners": listeners.collect::<Vec<_>>(),
        "ledger": config.ledger.as_ref().map(|ledger| &ledger.sqlite),
        "collect": config.accounts.collect,
        "routes": routes.collect::<Vec<_>>(),
    })
}
