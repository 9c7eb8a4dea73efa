//! From a file to a validated [`Config`]: every problem at once, each with its place in the file and a hint.

mod files;
mod gateway;
mod route;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::model::{Admin, Admission, Config, GatewayConfig, Ledger, Listeners, Log, Otlp, Route, Secret, Shutdown};
use super::{defaults, raw, units};

/// The largest configuration file, in bytes. Real ones have a few kilobytes; a limit keeps a mistaken path (a device, a
/// log) from being read into memory.
const MAX_FILE: u64 = 1 << 20;

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1, where known.
    pub place: Option<(usize, usize)>,
    /// Where in the structure, e.g. `routes[0].limits.queue`; empty when the text itself is unreadable.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads and validates a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(file: &Path) -> Result<Config, Vec<Problem>> {
    let unreadable = |message: String| {
        vec![Problem {
            file: file.to_owned(),
            place: None,
            path: String::new(),
            message,
        }]
    };
    let length = std::fs::metadata(file)
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?
        .len();
    if length > MAX_FILE {
        return Err(unreadable(format!("is larger than {MAX_FILE} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    parse(file, &text)
}

/// Validates a text; `file` is for messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| vec![of_yaml(file, &error)])?;
    let mut reader = Reader {
        file,
        text,
        problems: Vec::new(),
        read: Vec::new(),
    };
    let value = reader.expand(value, "");
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let raw: raw::File = match serde_yaml::from_value(value) {
        Ok(raw) => raw,
        Err(_) => {
            // The value has lost its places, and its error may quote a secret; the text has places and no secrets. What
            // the text alone would give is never used: its variables are not expanded, so a token would be its own name.
            return Err(match serde_yaml::from_str::<raw::File>(text) {
                Err(error) => vec![of_yaml(file, &error)],
                Ok(_) => vec![Problem {
                    file: file.to_owned(),
                    place: None,
                    path: String::new(),
                    message: "a bare number or true/false stands where text is expected: put it in quotes".into(),
                }],
            });
        }
    };
    let config = reader.config(raw);
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        Err(reader.problems)
    }
}

fn of_yaml(file: &Path, error: &serde_yaml::Error) -> Problem {
    let mut message = error.to_string();
    if let Some(hint) = did_you_mean(&message) {
        message.push_str(&format!("; did you mean `{hint}`?"));
    }
    let place = error.location().map(|location| (location.line(), location.column()));
    Problem {
        file: file.to_owned(),
        place,
        path: String::new(),
        message,
    }
}

/// serde's message for an unknown name lists the known ones; the nearest of them is most likely what was meant.
fn did_you_mean(message: &str) -> Option<String> {
    let rest = message
        .split_once("unknown field `")
        .or_else(|| message.split_once("unknown variant `"))?
        .1;
    let (typed, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    nearest(typed, known.into_iter()).map(str::to_owned)
}

fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
    /// The files read so far, with their content's digest.
    read: Vec<(PathBuf, [u8; 32])>,
}

impl Reader<'_> {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        let place = locate(self.text, &path);
        self.problems.push(Problem {
            file: self.file.to_owned(),
            place,
            path,
            message: message.into(),
        });
    }

    /// Puts environment variables into scalars, `${NAME}` and `${NAME:-default}`, and a file's content in the place of
    /// `{ file: path }`. Values are not looked at again, so a value can neither refer to another nor change the structure.
    fn expand(&mut self, value: serde_yaml::Value, path: &str) -> serde_yaml::Value {
        use serde_yaml::Value;
        match value {
            Value::String(text) => Value::String(self.variables(&text, path)),
            Value::Mapping(entries) if entries.len() == 1 && entries.contains_key("file") => {
                let Some(file) = entries.get("file").and_then(Value::as_str) else {
                    self.problem(path, "`file` must name a file");
                    return Value::String(String::new());
                };
                let file = PathBuf::from(self.variables(file, path));
                let content = self.secret_file(path, &file);
                Value::String(content)
            }
            Value::Sequence(items) => Value::Sequence(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(at, item)| self.expand(item, &format!("{path}[{at}]")))
                    .collect(),
            ),
            Value::Mapping(entries) => Value::Mapping(
                entries
                    .into_iter()
                    .map(|(key, item)| {
                        let name = key.as_str().unwrap_or("?").to_owned();
                        let path = if path.is_empty() {
                            name
                        } else {
                            format!("{path}.{name}")
                        };
                        let item = self.expand(item, &path);
                        (key, item)
                    })
                    .collect(),
            ),
            other => other,
        }
    }

    fn variables(&mut self, text: &str, path: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((inner, after)) = after.split_once('}') else {
                self.problem(path, "a variable that begins with ${ has no closing brace");
                return out;
            };
            let (name, default) = inner
                .split_once(":-")
                .map_or((inner, None), |(name, default)| (name, Some(default)));
            match (std::env::var(name), default) {
                (Ok(value), _) => out.push_str(&value),
                (Err(_), Some(default)) => out.push_str(default),
                (Err(_), None) => {
                    self.problem(
                        path,
                        format!("the environment has no variable {name}; set it, or write ${{{name}:-default}}"),
                    );
                }
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn unit<T>(
        &mut self,
        path: String,
        text: Option<String>,
        default: T,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        match text.as_deref().map(read) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(message)) => {
                self.problem(path, message);
                default
            }
        }
    }

    fn duration(&mut self, path: &str, text: Option<String>, default: Duration) -> Duration {
        self.unit(path.to_owned(), text, default, units::duration)
    }

    fn address(&mut self, path: String, text: Option<&str>) -> Option<SocketAddr> {
        let text = text?;
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                self.problem(
                    path,
                    format!("{text:?} is not an address and port, as in 127.0.0.1:8081 or [::1]:8081"),
                );
                None
            }
        }
    }

    fn config(&mut self, raw: raw::File) -> Config {
        let local_ca = PathBuf::from(raw.local_ca.unwrap_or_else(|| defaults::LOCAL_CA.into()));
        let listeners = Listeners {
            shared: self.listeners("listeners.shared", raw.listeners.shared, &local_ca),
            admin: self.address("listeners.admin".into(), raw.listeners.admin.as_deref()),
        };
        let ledger = raw.ledger.map(|ledger| self.ledger(ledger));
        let gateways: BTreeMap<String, Arc<GatewayConfig>> = raw
            .gateways
            .into_iter()
            .filter_map(|(name, gateway)| Some((name.clone(), Arc::new(self.gateway(name, gateway)?))))
            .collect();
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(raw.routes.len());
        for (at, route) in raw.routes.into_iter().enumerate() {
            let listen = self.listeners(&format!("routes[{at}].listen"), route.listen, &local_ca);
            let route = raw::Route {
                listen: raw::OneOrMany::default(),
                ..route
            };
            routes.push(Arc::new(self.route(
                at,
                route,
                listen,
                &gateways,
                &listeners,
                ledger.is_some(),
            )));
        }
        self.across(&routes, &listeners);
        let admin = Admin {
            token: raw
                .admin
                .token
                .filter(|token| !token.0.is_empty())
                .map(|token| Secret::new(token.0)),
            hosts: raw.admin.hosts,
        };
        if listeners.admin.is_some_and(|address| !address.ip().is_loopback()) && admin.token.is_none() {
            self.problem(
                "listeners.admin",
                "an admin listener outside loopback needs admin.token",
            );
        }
        let workers = raw.workers.unwrap_or(defaults::WORKERS);
        if !(1..=256).contains(&workers) {
            self.problem("workers", "must be 1 to 256");
        }
        let shutdown = Shutdown {
            min: self.duration("shutdown.min", raw.shutdown.min, defaults::SHUTDOWN_MIN),
            max: self.duration("shutdown.max", raw.shutdown.max, defaults::SHUTDOWN_MAX),
            native_sidecar: raw.shutdown.native_sidecar.unwrap_or(false),
        };
        let log = Log {
            json: raw.log.json.unwrap_or(defaults::LOG_JSON),
            access: raw.log.access.unwrap_or(defaults::LOG_ACCESS),
            level: raw.log.level.unwrap_or_else(|| defaults::LOG_LEVEL.into()),
        };
        let admission = Admission {
            connections: raw.admission.connections.unwrap_or(defaults::CONNECTIONS),
            header_timeout: self
                .duration(
                    "admission.header_timeout",
                    raw.admission.header_timeout,
                    defaults::HEADER_TIMEOUT,
                )
                .max(Duration::from_millis(100)),
            head: self.unit("admission.head".into(), raw.admission.head, defaults::HEAD, units::size),
        };
        let otlp = self.otlp(raw.telemetry);
        let mut digest = Sha256::new();
        digest.update(self.text.as_bytes());
        for (_, content) in &self.read {
            digest.update(content);
        }
        Config {
            hash: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            files: self.read.iter().map(|(path, _)| path.clone()).collect(),
            listeners,
            workers,
            ledger,
            gateways,
            routes,
            shutdown,
            log,
            admission,
            admin,
            otlp,
        }
    }

    fn otlp(&mut self, telemetry: raw::Telemetry) -> Option<Otlp> {
        let share = self.unit(
            "telemetry.sample".into(),
            telemetry.sample,
            defaults::SAMPLE,
            units::share,
        );
        let text = telemetry.otlp?;
        let uri = text.parse::<http::Uri>().ok().filter(|uri| {
            uri.scheme_str() == Some("http")
                && uri.query().is_none()
                && uri
                    .authority()
                    .is_some_and(|authority| !authority.as_str().contains('@'))
        });
        let Some((uri, host)) = uri.as_ref().and_then(|uri| Some((uri, uri.host()?))) else {
            self.problem(
                "telemetry.otlp",
                "is not a collector beside Sentinel: write http://127.0.0.1:4318. TLS and credentials towards whatever is \
                 behind it are the collector's",
            );
            return None;
        };
        Some(Otlp {
            host: host.trim_matches(['[', ']']).to_owned(),
            // OTLP/HTTP's own port.
            port: uri.port_u16().unwrap_or(4318),
            path: uri
                .path()
                .trim_end_matches('/')
                .trim_end_matches("/v1/traces")
                .to_owned(),
            service: telemetry.service.unwrap_or_else(|| defaults::SERVICE.into()),
            share,
        })
    }

    fn ledger(&mut self, ledger: raw::Ledger) -> Ledger {
        let sqlite = PathBuf::from(ledger.sqlite);
        let directory = sqlite.parent().filter(|parent| !parent.as_os_str().is_empty());
        if sqlite.file_name().is_none() {
            self.problem("ledger.sqlite", "must name a file, as in /var/lib/sentinel/ledger.db");
        } else if let Some(directory) = directory
            && !directory.is_dir()
        {
            let directory = directory.display();
            self.problem(
                "ledger.sqlite",
                format!("the directory {directory} is not there; make it, owned by the user that Sentinel runs as"),
            );
        }
        let key_file = ledger
            .key_file
            .map_or_else(|| sqlite.with_added_extension("key"), PathBuf::from);
        let answers = ledger.retention.answers;
        let keep_answers = self.duration("ledger.retention.answers", answers, defaults::KEEP_ANSWERS);
        let payments = ledger.retention.payments;
        let keep_payments = self.duration("ledger.retention.payments", payments, defaults::KEEP_PAYMENTS);
        if keep_payments < defaults::KEEP_PAYMENTS_MIN || keep_payments < keep_answers {
            self.problem(
                "ledger.retention.payments",
                "must be 2d at least, and no less than ledger.retention.answers",
            );
        }
        Ledger {
            sqlite,
            key_file,
            strict: ledger.strict.unwrap_or(defaults::LEDGER_STRICT),
            keep_answers,
            keep_payments,
        }
    }
}

/// Finds the line and column of a path such as `routes[1].limits.queue` by following its keys through the text. A place
/// is a help for the reader and decides nothing; a flow-style mapping gives the line of its first key found.
fn locate(text: &str, path: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    let mut place = None;
    for part in path.split('.') {
        let (key, indices) = part.split_once('[').map_or((part, ""), |(key, rest)| (key, rest));
        let at = from + find_key(&text[from..], key)?;
        from = at + key.len();
        place = Some(at);
        if let Some(index) = indices
            .trim_end_matches(']')
            .parse::<usize>()
            .ok()
            .filter(|_| !indices.is_empty())
        {
            let mut item = from;
            for _ in 0..=index {
                item += text[item..].find("- ").map_or(0, |dash| dash + 2);
            }
            from = item;
            place = Some(item);
        }
    }
    let at = place?;
    let line = text[..at].matches('\n').count() + 1;
    let column = at - text[..at].rfind('\n').map_or(0, |newline| newline + 1) + 1;
    Some((line, column))
}

fn find_key(text: &str, key: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = text[from..].find(key) {
        let at = from + found;
        let before = text[..at].chars().next_back();
        if text[at + key.len()..].starts_with(':')
            && before.is_none_or(|c| c.is_whitespace() || matches!(c, '{' | ',' | '-'))
        {
            return Some(at);
        }
        from = at + key.len().max(1);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Mode;

    const GOOD: &str = "listeners: { admin: 127.0.0.1:9901 }
gateways:
  stripe: { dialect: stripe, endpoint: https://api.stripe.com }
routes:
  - name: checkout
    listen: 127.0.0.1:8081
    dialect: stripe
    gateways: [stripe]
";

    fn problems(text: &str) -> Vec<String> {
        parse(Path::new("s.yaml"), text)
            .err()
            .unwrap_or_default()
            .iter()
            .map(Problem::to_string)
            .collect()
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = parse(Path::new("s.yaml"), GOOD).unwrap();
        assert_eq!((config.workers, config.routes.len()), (1, 1));
        assert_eq!(config.gateways["stripe"].endpoint.port, 443);
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_place() {
        let text = GOOD.replace(
            "gateways: [stripe]",
            "gateways: [stripo]\n    retry: { budget: 5 }\n    timeouts:\n      total: 5 s",
        );
        let found = problems(&text.replace("budget: 5", "budget: '5'"));
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found[0]
                .starts_with("s.yaml:8:5: routes[0].gateways: there is no gateway `stripo`; did you mean `stripe`?"),
            "{found:#?}"
        );
        assert!(
            found
                .iter()
                .any(|problem| problem.contains("s.yaml:11:7: routes[0].timeouts.total")),
            "{found:#?}"
        );
    }

    #[test]
    fn a_text_whose_variables_are_not_expanded_is_never_run_by() {
        // A bare number as a name is text to one way of reading YAML and not to the other.
        let text = GOOD.replace("checkout", "1") + "admin: { token: '${PATH}' }\n";
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("in quotes"), "{found:#?}");
        let quoted = parse(Path::new("s.yaml"), &text.replace("name: 1", "name: '1'")).unwrap();
        assert_eq!(
            quoted.admin.token.as_ref().map(Secret::expose),
            std::env::var("PATH").ok().as_deref()
        );
    }

    #[test]
    fn an_unknown_field_has_a_place_and_a_hint() {
        let found = problems(&GOOD.replace("    listen:", "    listn:"));
        assert!(
            found[0].starts_with("s.yaml:6:") && found[0].contains("did you mean `listen`?"),
            "{found:#?}"
        );
    }

    #[test]
    fn a_missing_variable_is_named_and_a_default_is_taken() {
        let found = problems(&GOOD.replace("https://api.stripe.com", "'${SENTINEL_TEST_ABSENT}'"));
        assert!(found[0].contains("no variable SENTINEL_TEST_ABSENT"), "{found:#?}");
        assert!(problems(&GOOD.replace("https://api.stripe.com", "'${SENTINEL_TEST_ABSENT:-https://x}'")).is_empty());
    }

    /// `GOOD` with a second gateway and what failover needs, but for what a test takes away.
    fn failing_over() -> String {
        GOOD.replace("api.stripe.com }", "api.stripe.com, credentials: { secret_key: sk_test_x } }\n  adyen: { dialect: adyen, endpoint: https://checkout-test.adyen.com, capture: manual, credentials: { api_key: key, merchant_account: Acme } }")
            .replace("[stripe]", "[stripe, adyen]")
            + "ledger: { sqlite: ledger.db }\n"
    }

    #[test]
    fn several_gateways_fail_over_with_careful_defaults_and_one_gateway_does_not() {
        let config = parse(Path::new("s.yaml"), &failing_over()).unwrap();
        let failover = &config.routes[0].failover;
        assert_eq!(failover.mode, Mode::Fence);
        assert!(!failover.raw_cards && failover.require_certificate && failover.assume_quiescent_after.is_none());
        assert_eq!(
            config.gateways["adyen"].credentials.get("merchant_account"),
            Some("Acme")
        );
        assert_eq!(config.gateways["adyen"].settings["capture"], "manual");
        assert_eq!(config.ledger.unwrap().key_file, Path::new("ledger.db.key"));
        let alone = parse(Path::new("s.yaml"), GOOD).unwrap();
        assert_eq!(alone.routes[0].failover.mode, Mode::Off);
        let off = failing_over().replace("[stripe, adyen]", "[stripe, adyen]\n    failover: { mode: off }");
        assert_eq!(
            parse(Path::new("s.yaml"), &off).unwrap().routes[0].failover.mode,
            Mode::Off
        );
    }

    #[test]
    fn failover_without_what_makes_it_safe_is_refused() {
        for (from, to, wanted) in [
            ("ledger: { sqlite: ledger.db }", "", "failover needs a ledger"),
            (
                ", credentials: { secret_key: sk_test_x }",
                "",
                "add `credentials` with secret_key",
            ),
            ("api_key: key, ", "", "adyen credentials need `api_key`"),
            ("api_key: key", "api_key: ''", "is empty"),
            (
                "secret_key: sk_test_x",
                "api_key: sk_test_x",
                "the stripe dialect does not read this",
            ),
            (
                "capture: manual",
                "mit_exemption: true",
                "the adyen dialect does not read this",
            ),
            (
                "[stripe, adyen]",
                "[adyen, stripe]",
                "the first gateway must speak the route's dialect",
            ),
            ("[stripe, adyen]", "[stripe, stripe]", "names `stripe` twice"),
            (
                "[stripe, adyen]",
                "[stripe]\n    failover: { mode: fence }",
                "failover needs a second gateway",
            ),
            (
                "[stripe, adyen]",
                "[stripe, adyen]\n    failover: { attempt_timeout: 26s }",
                "no longer than failover.deadline",
            ),
            ("capture: manual", "pins: [sha256/x]", "is not a pin"),
            (
                "sqlite: ledger.db",
                "sqlite: /absent/ledger.db",
                "the directory /absent is not there",
            ),
            (
                "listen: 127.0.0.1:8081",
                "listen: { address: '127.0.0.1:8081', tls: local_ca }",
                "run `sentinel ca --dir tls`",
            ),
        ] {
            let text = failing_over();
            assert!(text.contains(from), "{from}");
            let found = problems(&text.replace(from, to));
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{to}: {found:#?}");
            assert!(!found.iter().any(|problem| problem.contains("sk_test_x")), "{found:#?}");
        }
    }

    #[test]
    fn a_secret_in_a_file_is_read_without_its_line_end_and_changes_the_hash() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let text = format!("{GOOD}admin: {{ token: {{ file: '{}' }} }}\n", file.display());
        let first = parse(Path::new("s.yaml"), &text).unwrap();
        assert_eq!(first.admin.token.as_ref().map(Secret::expose), Some("s3cret"));
        assert_eq!(first.files, std::slice::from_ref(&file));
        assert!(!format!("{first:?}").contains("s3cret"));
        std::fs::write(&file, "other").unwrap();
        assert_ne!(parse(Path::new("s.yaml"), &text).unwrap().hash, first.hash);
        std::fs::remove_file(&file).unwrap();
        assert!(problems(&text)[0].contains("cannot be read"));
    }

    #[test]
    fn what_would_be_unsafe_or_useless_is_refused() {
        for (from, to, wanted) in [
            ("127.0.0.1:9901", "0.0.0.0:9901", "needs admin.token"),
            ("https://api.stripe.com", "ftp://x", "is not an endpoint"),
            (
                "https://api.stripe.com",
                "https://user:secret@x",
                "must not hold credentials",
            ),
            ("    listen: 127.0.0.1:8081\n", "", "matches nothing"),
            (
                "    dialect: stripe",
                "    dialect: adyen",
                "would speak adyen to a stripe gateway",
            ),
        ] {
            let found = problems(&GOOD.replace(from, to));
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{to}: {found:#?}");
        }
    }
}
