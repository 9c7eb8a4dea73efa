//! `sentinel certify`: tries at a test account (or a simulator) what fences rest on, says what holds, and keeps a
//! certificate that routes count on for 30 days.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::check::{date, fence_words, print_problems};
use super::operator::printable;
use crate::config::load::load;
use crate::config::model::{Config, GatewayConfig};
use crate::gateway::{self, FenceStrength};
use crate::ledger::keys::Keys;
use crate::payment::certify::certificate::{Certificate, Certificates, Check, VALID_MS};
use crate::payment::certify::{self, CertifyError, TestAccount, Trial};

/// Arguments of `sentinel certify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every check makes payments: only test accounts and simulators are taken. Where the configuration \
                        holds live keys, name one with the same gateways' test accounts by --with; the certificate then \
                        counts for the live ones, which run the same API version."
)]
pub struct Args {
    /// The configuration whose gateways are certified.
    #[arg(long, short, env = "SENTINEL_CONFIG", default_value = "config/sentinel.yaml")]
    config: PathBuf,
    /// A gateway of it; may be given again. Default: all whose payments Sentinel understands.
    #[arg(long = "gateway", short, value_name = "NAME")]
    gateways: Vec<String>,
    /// A configuration in which the gateways of the same names are test accounts.
    #[arg(long = "with", value_name = "FILE")]
    with: Option<PathBuf>,
    /// What test payments are made with, where the usual test card will not do: a token of the gateway's vault.
    #[arg(long, value_name = "GATEWAY=TOKEN", value_parser = instrument)]
    instrument: Vec<(String, String)>,
    /// A custom gateway whose account is for tests, by your word: nothing else tells. May be given again.
    #[arg(long = "test-account", value_name = "GATEWAY")]
    test_accounts: Vec<String>,
    /// The currency of test payments: one that the accounts take.
    #[arg(long, value_name = "CODE", default_value = "EUR")]
    currency: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn instrument(text: &str) -> Result<(String, String), String> {
    let (gateway, token) = text.split_once('=').ok_or("write GATEWAY=TOKEN")?;
    Ok((gateway.to_owned(), token.to_owned()))
}

/// Why nothing was certified.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command line, or what it names, is wrong.
    #[error("{0}")]
    Usage(String),
    /// The ledger's key cannot be had.
    #[error("the ledger's key: {0}")]
    Key(#[from] crate::ledger::keys::KeyError),
    /// The system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// One gateway, as it went.
struct Done {
    gateway: String,
    result: Result<(Certificate, PathBuf), CertifyError>,
    declared: FenceStrength,
}

/// Certifies, prints, and says how it went: 0 when every gateway has the fence that Sentinel knows for it, 1 when one has
/// less or could not be tried.
pub fn run(args: &Args) -> ExitCode {
    let loaded = |file: &Path| {
        load(file).map_err(|problems| {
            print_problems(&problems);
            ExitCode::from(super::CONFIG)
        })
    };
    let configs = loaded(&args.config).and_then(|config| {
        let with = args.with.as_deref().map(loaded).transpose()?;
        Ok((config, with))
    });
    let (config, with) = match configs {
        Ok(configs) => configs,
        Err(code) => return code,
    };
    match certified(args, &config, with.as_ref()) {
        Ok(all) => {
            if args.json {
                println!("{:#}", Value::Array(all.iter().map(meaning).collect()));
            } else {
                for done in &all {
                    print!("{}", text(done));
                }
            }
            let well = all
                .iter()
                .all(|done| matches!(&done.result, Ok((made, _)) if made.strength == done.declared));
            if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("sentinel: {error}");
            ExitCode::from(match error {
                RunError::Usage(_) => super::USAGE,
                RunError::Key(_) | RunError::Io(_) => super::SOFTWARE,
            })
        }
    }
}

fn certified(args: &Args, config: &Config, with: Option<&Config>) -> Result<Vec<Done>, RunError> {
    let ledger = config.ledger.as_ref().ok_or_else(|| {
        RunError::Usage("a certificate is bound to a ledger's key, and the configuration names no ledger".to_owned())
    })?;
    let mut pairs = Vec::new();
    for gateway in chosen(args, config)? {
        let said = args.test_accounts.contains(&gateway.name);
        pairs.push((Arc::clone(gateway), tested(gateway, with, said)?));
    }
    crate::ledger::sqlite::make_directory(&ledger.sqlite).map_err(|error| RunError::Usage(error.to_string()))?;
    let keys = Keys::load_or_create(&ledger.key_file)?;
    let directory = ledger.certificates();
    let kept = Certificates {
        directory: &directory,
        keys: &keys,
    };
    crate::upstream::warm_up();
    let runtime = super::operator::runtime()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut all = Vec::new();
        for (gateway, tested) in pairs {
            if !args.json {
                eprintln!("trying {} at {} ...", gateway.name, tested.config().endpoint.url());
            }
            let named = args.instrument.iter().find(|(name, _)| *name == gateway.name);
            let declared = gateway::at(&gateway).map_or(FenceStrength::F0, |dialect| {
                dialect.capabilities_of(&gateway.settings).fence
            });
            let tried = async {
                let trial = Trial::of(&tested, named.map(|(_, token)| token.clone()), args.currency.clone()).await?;
                trial.run().await
            };
            let result = match tried.await {
                Ok(checks) => {
                    let made = certificate(&kept, &gateway, tested.config(), declared, checks);
                    let file = kept.record(&made)?;
                    Ok((made, file))
                }
                Err(error) => Err(error),
            };
            all.push(Done {
                gateway: gateway.name.clone(),
                result,
                declared,
            });
        }
        Ok(all)
    })
}

fn certificate(
    kept: &Certificates<'_>,
    gateway: &GatewayConfig,
    tested: &GatewayConfig,
    declared: FenceStrength,
    checks: Vec<Check>,
) -> Certificate {
    Certificate {
        subject: kept.subject(gateway),
        tested: kept.subject(tested),
        strength: certify::strength(declared, &checks),
        at: certify::now(),
        sentinel: env!("CARGO_PKG_VERSION").to_owned(),
        checks,
    }
}

fn chosen<'a>(args: &Args, config: &'a Config) -> Result<Vec<&'a Arc<GatewayConfig>>, RunError> {
    if args.gateways.is_empty() {
        let understood = config
            .gateways
            .values()
            .filter(|gateway| gateway::at(gateway).is_some());
        return Ok(understood.collect());
    }
    let each = args.gateways.iter().map(|name| {
        config.gateways.get(name).ok_or_else(|| {
            let known: Vec<&str> = config.gateways.keys().map(String::as_str).collect();
            RunError::Usage(format!("there is no gateway '{name}'; there are {}", known.join(", ")))
        })
    });
    each.collect()
}

/// The account that is asked: the gateway itself, or the one of its name in the other configuration.
fn tested(gateway: &Arc<GatewayConfig>, with: Option<&Config>, said: bool) -> Result<TestAccount, RunError> {
    let name = &gateway.name;
    let tested = match with {
        None => gateway,
        Some(with) => with
            .gateways
            .get(name)
            .ok_or_else(|| RunError::Usage(format!("--with names a configuration without a gateway '{name}'")))?,
    };
    let version = |config: &GatewayConfig| config.settings.get("api_version").cloned();
    if tested.dialect != gateway.dialect || version(tested) != version(gateway) {
        return Err(RunError::Usage(format!(
            "{name} has another dialect or api_version in the configuration that --with names"
        )));
    }
    if certify::is_local(&tested.endpoint) && !certify::is_local(&gateway.endpoint) {
        return Err(RunError::Usage(format!(
            "{name} is a simulator in the configuration that --with names: that says nothing about the gateway itself"
        )));
    }
    if tested.custom != gateway.custom {
        return Err(RunError::Usage(format!(
            "{name} is described in another way in the configuration that --with names"
        )));
    }
    TestAccount::of(tested, said).map_err(|why| RunError::Usage(format!("{name}: {why}")))
}

/// What a check asks, for people.
fn question(name: &str) -> &'static str {
    match name {
        "replay" => "the same key again is the same payment",
        "mismatch" => "the same key with another amount is no other payment",
        "twin" => "the same key twice at once is one payment",
        "late_original" => "a sale that comes after its fence is refused",
        "late_original_hold" => "a hold that comes after its fence is refused",
        "early_original" => "a fence after its hold finds it, or ends it",
        "race" => "a fence and its sale at once are never both done",
        "void_twice" => "a void is the end of a hold",
        "late_confirm" => "a confirmation after its cancel is refused",
        "key_elsewhere" => "a key used at one path does nothing at another",
        "request_keys" => "the account has at-most-once keys",
        "look" => "a look-up by reference finds what was paid",
        _ => "",
    }
}

fn text(done: &Done) -> String {
    let mut out = String::new();
    let (made, file) = match &done.result {
        Ok(done) => done,
        Err(error) => {
            let _ = writeln!(
                out,
                "{}: not certified: {}",
                done.gateway,
                printable(&error.to_string())
            );
            return out;
        }
    };
    let Certificate {
        subject,
        tested,
        checks,
        ..
    } = made;
    let _ = writeln!(
        out,
        "{}: {} {} at {}",
        subject.gateway, subject.dialect, subject.api_version, tested.endpoint
    );
    for found in checks {
        let word = match (found.holds, found.needed_for <= done.declared) {
            (true, _) => "holds",
            (false, true) => "FAILS",
            // The dialect's fence does not rest on it.
            (false, false) => "no",
        };
        let _ = writeln!(
            out,
            "  {word:<5} {:<18} {:<52} {}",
            found.name,
            question(&found.name),
            printable(&found.seen)
        );
    }
    let _ = writeln!(
        out,
        "  fence {:?}, {}\n  counts for {} at {} until {}: {}",
        made.strength,
        fence_words(made.strength),
        subject.gateway,
        subject.endpoint,
        date(made.at + VALID_MS),
        file.display()
    );
    out
}

fn meaning(done: &Done) -> Value {
    match &done.result {
        Ok((made, file)) => json!({
            "gateway": done.gateway,
            "declared": done.declared,
            "fence": made.strength,
            "certificate": made,
            "until": made.at + VALID_MS,
            "file": file,
        }),
        Err(error) => json!({
            "gateway": done.gateway,
            "declared": done.declared,
            "error": error.to_string(),
        }),
    }
}
