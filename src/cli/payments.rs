//! `sentinel payments`: lists, one payment's whole story, and what a person says of one.
//!
//! It asks a running sidecar's admin listener, or reads the ledger's file where there is none (`--ledger`): beside a
//! running sidecar or on a copy, without changing it. Only a running sidecar can take a resolution, because only it may
//! write.

pub mod view;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::operator::{Access, AccessError, printable, runtime};
use crate::ledger::LedgerError;
use crate::ledger::keys::{KeyError, Keys};
use crate::ledger::rows::{Filter, Payment};
use crate::ledger::sqlite::file::LedgerFile;
use crate::ledger::sqlite::{SqliteLedger, StartError};
use crate::payment::engine;
use crate::payment::timeline::{Found, Summary, Timeline, named};

/// Arguments of `sentinel payments`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Payments, newest first.
    List(Box<List>),
    /// One payment's story, attempt by attempt, with the evidence.
    Show(Show),
    /// Say what became of a payment that Sentinel cannot bring to its end. Refused where evidence contradicts it.
    Resolve(Resolve),
}

/// Where payments are read.
#[derive(Debug, clap::Args)]
struct Source {
    #[command(flatten)]
    access: Access,
    /// Read this ledger's file instead of asking a running sidecar.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// The ledger's key file. Default: beside it, `.key` added.
    #[arg(long, requires = "ledger")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    source: Source,
    /// Only those whose outcome is not proven.
    #[arg(long)]
    in_doubt: bool,
    /// Only those that a person has to decide.
    #[arg(long)]
    manual: bool,
    /// Only those that owe a void or refund.
    #[arg(long)]
    owing: bool,
    /// Only those that another gateway took, or is tried for, than the first.
    #[arg(long)]
    moved: bool,
    /// Only in this state: `succeeded`, `failed`, `in_doubt`, ...
    #[arg(long)]
    state: Option<String>,
    /// Only those that were tried first at, or are now at, this gateway.
    #[arg(long)]
    gateway: Option<String>,
    /// Only by this route.
    #[arg(long)]
    route: Option<String>,
    /// Only in this currency.
    #[arg(long)]
    currency: Option<String>,
    /// Only those opened so long ago at most: 90s, 2h, 7d.
    #[arg(long, value_parser = ago)]
    since: Option<std::time::Duration>,
    /// Go on behind this payment.
    #[arg(long, value_name = "PAYMENT")]
    before: Option<uuid::Uuid>,
    /// At most so many.
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    source: Source,
    /// Its id or the beginning of it (eight characters or more), or an id that the application or a gateway gave.
    payment: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
struct Resolve {
    #[command(flatten)]
    access: Access,
    /// Its id or the beginning of it, or an id that the application or a gateway gave.
    payment: String,
    /// This attempt took the money (or holds it, where that is what the application asked for).
    #[arg(long, value_name = "ATTEMPT", group = "what")]
    succeeded: Option<u16>,
    /// No attempt has an effect, and none will.
    #[arg(long, group = "what")]
    failed: bool,
    /// You voided or refunded this attempt at its gateway; Sentinel goes on with the rest.
    #[arg(long, value_name = "ATTEMPT", group = "what")]
    released: Option<u16>,
    /// Sentinel shall go on by itself.
    #[arg(long = "continue", group = "what")]
    go_on: bool,
    /// What you saw, and where; the ledger keeps it for good.
    #[arg(long)]
    reason: String,
    /// Who you are; the ledger keeps it for good.
    #[arg(long, env = "USER")]
    operator: String,
    /// Do not ask whether you mean it.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub enum PaymentsError {
    /// The sidecar.
    #[error("{0}{hint}", hint = hint(.0))]
    Access(#[from] AccessError),
    /// The ledger's file.
    #[error("{0}")]
    File(#[from] StartError),
    /// The ledger's key.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The ledger's content.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The answer is from another program.
    #[error("the admin listener's answer cannot be read: {0}. Is it another version?")]
    Answer(#[from] serde_json::Error),
    /// No such payment.
    #[error("the ledger knows no payment by that name")]
    NotFound,
    /// Several.
    #[error("several payments have that name: {0}")]
    Several(String),
    /// Nobody said yes.
    #[error("not resolved: {0}")]
    Unsaid(&'static str),
}

fn hint(error: &AccessError) -> &'static str {
    match error {
        AccessError::Unreachable { .. } => " Without one, read the ledger's file: --ledger PATH",
        _ => "",
    }
}

fn ago(text: &str) -> Result<std::time::Duration, String> {
    crate::config::units::duration(text).map_err(|wrong| format!("{}; {}", wrong.message, wrong.hint))
}

/// Does what is asked.
///
/// # Errors
/// When there is nothing to print, or what is said is refused.
pub fn run(args: &Args) -> Result<(), PaymentsError> {
    match &args.what {
        Command::List(list) => {
            let payments = list.read()?;
            out(list.json, &payments, || view::list(&payments, now()));
        }
        Command::Show(show) => {
            let timeline = show.source.timeline(&show.payment)?;
            out(show.json, &timeline, || view::timeline(&timeline, now()));
        }
        Command::Resolve(resolve) => {
            let timeline = resolve.run()?;
            out(resolve.json, &timeline, || view::timeline(&timeline, now()));
        }
    }
    Ok(())
}

/// Prints one or the other. Whoever reads it may have seen enough (`| head`).
fn out(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) {
    let text = match json {
        true => format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()),
        false => text(),
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

impl Source {
    fn file(&self) -> Result<Option<LedgerFile>, PaymentsError> {
        let Some(path) = &self.ledger else { return Ok(None) };
        let key_file = self.key_file.clone().unwrap_or_else(|| SqliteLedger::key_path(path));
        Ok(Some(LedgerFile::open(path, Keys::load(&key_file)?)?))
    }

    fn timeline(&self, name: &str) -> Result<Timeline, PaymentsError> {
        match self.file()? {
            Some(file) => from_file(&file, name),
            None => asked(&self.access, &format!("/payments/{}", escaped(name))),
        }
    }
}

fn asked<T: DeserializeOwned>(access: &Access, path: &str) -> Result<T, PaymentsError> {
    let text = runtime().map_err(AccessError::from)?.block_on(access.text(path))?;
    Ok(serde_json::from_str(&text)?)
}

fn from_file(file: &LedgerFile, name: &str) -> Result<Timeline, PaymentsError> {
    let found: Vec<Payment> = file.list(&named(name))?;
    let payment = match found.as_slice() {
        [] => return Err(PaymentsError::NotFound),
        [one] => one.clone(),
        several => {
            let ids: Vec<String> = several.iter().map(|payment| payment.id.to_string()).collect();
            return Err(PaymentsError::Several(ids.join(" ")));
        }
    };
    let sealed = file.unseal(payment.id, engine::DOSSIER)?;
    let found = Found {
        events: file.events(payment.id)?,
        ids: file.ids(payment.id)?,
        declines: sealed.as_deref().map(engine::declines).unwrap_or_default(),
        payment,
    };
    Ok(Timeline::of(&found))
}

impl List {
    fn read(&self) -> Result<Vec<Summary>, PaymentsError> {
        let from = self
            .since
            .map(|since| now().saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)));
        if let Some(file) = self.source.file()? {
            let filter = Filter {
                state: self.state.clone(),
                gateway: self.gateway.clone(),
                route: self.route.clone(),
                currency: self.currency.as_ref().map(|code| code.to_ascii_uppercase()),
                created_from: from,
                in_doubt: self.in_doubt,
                owing: self.owing,
                manual: self.manual,
                moved: self.moved,
                before: self.before,
                limit: usize::from(self.limit),
                ..Filter::default()
            };
            return Ok(file.list(&filter)?.iter().map(Summary::of).collect());
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, wanted) in [
            ("in_doubt", self.in_doubt),
            ("owing", self.owing),
            ("manual", self.manual),
            ("moved", self.moved),
        ] {
            if wanted {
                query.append_pair(name, "true");
            }
        }
        let numbers = [
            ("from", from.map(|from| from.to_string())),
            ("before", self.before.map(|before| before.to_string())),
            ("limit", Some(self.limit.to_string())),
        ];
        let words = [
            ("state", &self.state),
            ("gateway", &self.gateway),
            ("route", &self.route),
            ("currency", &self.currency),
        ];
        let words = words.map(|(name, value)| (name, value.clone()));
        for (name, value) in numbers.into_iter().chain(words) {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        asked(&self.source.access, &format!("/payments?{}", query.finish()))
    }
}

impl Resolve {
    fn run(&self) -> Result<Timeline, PaymentsError> {
        let before: Timeline = asked(&self.access, &format!("/payments/{}", escaped(&self.payment)))?;
        if !self.yes {
            self.ask(&before)?;
        }
        let (resolution, attempt) = match (self.succeeded, self.released) {
            (Some(n), _) => ("succeeded", Some(n)),
            (None, Some(n)) => ("released", Some(n)),
            (None, None) if self.failed => ("failed", None),
            (None, None) => ("continue", None),
        };
        let mut said = serde_json::json!({
            "resolution": resolution,
            "operator": self.operator,
            "reason": self.reason,
        });
        if let Some(n) = attempt {
            said["attempt"] = n.into();
        }
        let path = format!("/payments/{}/resolve", before.summary.id);
        let after = runtime()
            .map_err(AccessError::from)?
            .block_on(self.access.post(&path, &said))?;
        Ok(serde_json::from_str(&after)?)
    }

    /// Shows what is known, and asks whether it is meant.
    fn ask(&self, before: &Timeline) -> Result<(), PaymentsError> {
        if !std::io::stdin().is_terminal() {
            return Err(PaymentsError::Unsaid(
                "there is no terminal to ask at; repeat it with --yes",
            ));
        }
        let meant = match (self.succeeded, self.released) {
            (Some(n), _) => format!("attempt {n} has the payment's effect"),
            (None, Some(n)) => format!("the effect of attempt {n} was released by hand"),
            (None, None) if self.failed => "no attempt has an effect, and none will".to_owned(),
            (None, None) => "Sentinel goes on by itself".to_owned(),
        };
        eprint!(
            "{}\n{}: {meant}.\n",
            view::head(before, now()),
            printable(&self.operator)
        );
        eprint!("This is kept for good and the application is told so. Type yes: ");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        match read.is_ok() && answer.trim() == "yes" {
            true => Ok(()),
            false => Err(PaymentsError::Unsaid("nobody said yes")),
        }
    }
}
