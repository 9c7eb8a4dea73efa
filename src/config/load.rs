//! From a file to a validated [`Config`]: every problem at once, each with its place in the file and a hint.
//!
//! This is also the one home of every default, with the sentence that justifies it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::model::{
    Admin, Admission, Breaker, Config, Endpoint, GatewayConfig, Hedge, Limits, Listeners, Log, Pool, Retry, Route,
    Shutdown, Timeouts,
};
use super::{raw, units};

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

    /// Puts environment variables and files into scalars: `${NAME}`, `${NAME:-default}`, `file:/path`. Values are not
    /// looked at again, so a value can neither refer to another nor change the structure.
    fn expand(&mut self, value: serde_yaml::Value, path: &str) -> serde_yaml::Value {
        use serde_yaml::Value;
        match value {
            Value::String(text) => {
                if let Some(file) = text.strip_prefix("file:") {
                    match std::fs::read_to_string(file) {
                        Ok(content) => return Value::String(content.trim_end_matches(['\r', '\n']).to_owned()),
                        Err(error) => self.problem(path, format!("{file} cannot be read: {error}")),
                    }
                    return Value::String(String::new());
                }
                Value::String(self.variables(&text, path))
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
        let ms = Duration::from_millis;
        let secs = Duration::from_secs;
        let listeners = Listeners {
            shared: self.address("listeners.shared".into(), raw.listeners.shared.as_deref()),
            admin: self.address("listeners.admin".into(), raw.listeners.admin.as_deref()),
        };
        let gateways: BTreeMap<String, Arc<GatewayConfig>> = raw
            .gateways
            .into_iter()
            .filter_map(|(name, gateway)| Some((name.clone(), Arc::new(self.gateway(name, gateway)?))))
            .collect();
        let routes: Vec<Arc<Route>> = raw
            .routes
            .into_iter()
            .enumerate()
            .map(|(at, route)| Arc::new(self.route(at, route, &gateways, &listeners)))
            .collect();
        self.across(&routes, &listeners);
        let admin = Admin {
            token: raw.admin.token.filter(|token| !token.is_empty()),
            hosts: raw.admin.hosts,
        };
        if listeners.admin.is_some_and(|address| !address.ip().is_loopback()) && admin.token.is_none() {
            self.problem(
                "listeners.admin",
                "an admin listener outside loopback needs admin.token",
            );
        }
        // One worker serves some 30,000 requests a second: a sidecar's whole need.
        let workers = raw.workers.unwrap_or(1);
        if !(1..=256).contains(&workers) {
            self.problem("workers", "must be 1 to 256");
        }
        Config {
            hash: Sha256::digest(self.text.as_bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            listeners,
            workers,
            gateways,
            routes,
            shutdown: Shutdown {
                min: self.unit("shutdown.min".into(), raw.shutdown.min, Duration::ZERO, units::duration),
                // Below Kubernetes' default grace period of 30 s.
                max: self.unit("shutdown.max".into(), raw.shutdown.max, secs(25), units::duration),
                native_sidecar: raw.shutdown.native_sidecar.unwrap_or(false),
            },
            log: Log {
                json: raw.log.json.unwrap_or(false),
                access: raw.log.access.unwrap_or(false),
                level: raw.log.level.unwrap_or_else(|| "info".into()),
            },
            admission: Admission {
                connections: raw.admission.connections.unwrap_or(10_000),
                // No SDK takes more than milliseconds; a slow-loris takes all it gets.
                header_timeout: self
                    .unit(
                        "admission.header_timeout".into(),
                        raw.admission.header_timeout,
                        secs(10),
                        units::duration,
                    )
                    .max(ms(100)),
                head: self.unit("admission.head".into(), raw.admission.head, 64 << 10, units::size),
            },
            admin,
        }
    }

    fn gateway(&mut self, name: String, gateway: raw::Gateway) -> Option<GatewayConfig> {
        let at = |field: &str| format!("gateways.{name}.{field}");
        let mut endpoint = match endpoint(&gateway.endpoint) {
            Ok(endpoint) => endpoint,
            Err(message) => {
                self.problem(at("endpoint"), message);
                return None;
            }
        };
        endpoint.ca = gateway.ca.map(PathBuf::from);
        if let Some(ca) = &endpoint.ca
            && let Err(error) = std::fs::metadata(ca)
        {
            self.problem(at("ca"), format!("{} cannot be read: {error}", ca.display()));
        }
        endpoint.allow_private = gateway.allow_private;
        for (index, text) in gateway.addresses.iter().enumerate() {
            endpoint
                .addresses
                .extend(self.address(format!("{}[{index}]", at("addresses")), Some(text)));
        }
        let pool = Pool {
            max_idle: gateway.pool.max_idle.unwrap_or(128),
            // Below every gateway's own limit seen in the field (60 s and more), so that Sentinel closes first and a
            // request rarely meets a connection that the gateway is just closing.
            idle: self.unit(
                at("pool.idle"),
                gateway.pool.idle,
                Duration::from_secs(30),
                units::duration,
            ),
            // New connections find new addresses; with jitter a fleet does not reconnect at once.
            max_age: self.unit(
                at("pool.max_age"),
                gateway.pool.max_age,
                Duration::from_secs(300),
                units::duration,
            ),
            connect_timeout: self.unit(
                at("pool.connect_timeout"),
                gateway.pool.connect_timeout,
                Duration::from_secs(3),
                units::duration,
            ),
        };
        Some(GatewayConfig {
            name: name.clone(),
            dialect: gateway.dialect,
            endpoint,
            pool,
        })
    }

    fn route(
        &mut self,
        index: usize,
        route: raw::Route,
        gateways: &BTreeMap<String, Arc<GatewayConfig>>,
        listeners: &Listeners,
    ) -> Route {
        let at = |field: &str| format!("routes[{index}].{field}");
        let listen = self.address(at("listen"), route.listen.as_deref());
        let prefix = route.path_prefix.unwrap_or_default();
        let prefix = prefix.trim_end_matches('/').to_owned();
        if !prefix.is_empty() && !prefix.starts_with('/') {
            self.problem(at("path_prefix"), "must begin with /");
        }
        if listen.is_none() && (prefix.is_empty() || listeners.shared.is_none()) {
            self.problem(
                at("name"),
                "matches nothing: give the route `listen`, or `path_prefix` and listeners.shared",
            );
        }
        match route.gateways.as_slice() {
            [] => self.problem(at("gateways"), "names no gateway"),
            [_] => {}
            _ => self.problem(
                at("gateways"),
                "names several gateways, but this version only forwards: name one",
            ),
        }
        for gateway in &route.gateways {
            match gateways.get(gateway) {
                None => {
                    let hint = nearest(gateway, gateways.keys().map(String::as_str))
                        .map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
                    self.problem(at("gateways"), format!("there is no gateway `{gateway}`{hint}"));
                }
                Some(found) if found.dialect != route.dialect => {
                    self.problem(
                        at("dialect"),
                        format!(
                            "the application would speak {} to a {} gateway",
                            route.dialect.name(),
                            found.dialect.name()
                        ),
                    );
                }
                Some(_) => {}
            }
        }
        let secs = Duration::from_secs;
        Route {
            name: route.name,
            listen,
            path_prefix: prefix,
            host: route.host,
            dialect: route.dialect,
            gateways: route.gateways,
            // resilience4j's and linkerd's ideas with Envoy's numbers: five failures in a row, or half of at least
            // twenty calls in ten seconds.
            breaker: Breaker {
                consecutive: route.breaker.consecutive.unwrap_or(5),
                failure_rate: self.unit(
                    at("breaker.failure_rate"),
                    route.breaker.failure_rate,
                    0.5,
                    units::share,
                ),
                slow_rate: self.unit(at("breaker.slow_rate"), route.breaker.slow_rate, 0.8, units::share),
                slow_after: self.unit(
                    at("breaker.slow_after"),
                    route.breaker.slow_after,
                    secs(5),
                    units::duration,
                ),
                window: self.unit(at("breaker.window"), route.breaker.window, secs(10), units::duration),
                min_calls: route.breaker.min_calls.unwrap_or(20),
                open: self.unit(at("breaker.open"), route.breaker.open, secs(5), units::duration),
                open_max: self.unit(
                    at("breaker.open_max"),
                    route.breaker.open_max,
                    secs(60),
                    units::duration,
                ),
                half_open_calls: route.breaker.half_open_calls.unwrap_or(3).max(1),
            },
            // Finagle's and Envoy's budget: a fifth of the traffic, and a floor for quiet services.
            retry: Retry {
                budget: self.unit(at("retry.budget"), route.retry.budget, 0.2, units::share),
                min_per_second: route.retry.min_per_second.unwrap_or(10.0),
                max: route.retry.max.unwrap_or(2),
            },
            // Off unless asked for: a second read is load that the application did not make. Dean and Barroso's 5 %.
            hedge: Hedge {
                quantile: self.unit(at("hedge.reads"), route.hedge.reads, None, units::quantile),
                max_extra: self.unit(at("hedge.max_extra"), route.hedge.max_extra, 0.05, units::share),
                min_delay: self.unit(
                    at("hedge.min_delay"),
                    route.hedge.min_delay,
                    Duration::from_millis(1),
                    units::duration,
                ),
            },
            limits: Limits {
                in_flight: route.limits.in_flight.unwrap_or(1024).max(1),
                queue: route.limits.queue.unwrap_or(256),
                queue_timeout: self.unit(
                    at("limits.queue_timeout"),
                    route.limits.queue_timeout,
                    secs(1),
                    units::duration,
                ),
                adaptive: route.limits.adaptive.unwrap_or(false),
            },
            timeouts: Timeouts {
                // The shortest default of an official SDK is 30 s: an answer must come before it.
                response_header: self.unit(
                    at("timeouts.response_header"),
                    route.timeouts.response_header,
                    secs(28),
                    units::duration,
                ),
                body_idle: self.unit(
                    at("timeouts.body_idle"),
                    route.timeouts.body_idle,
                    secs(30),
                    units::duration,
                ),
                total: self.unit(at("timeouts.total"), route.timeouts.total, secs(28), units::duration),
            },
        }
    }

    /// What concerns several routes at once.
    fn across(&mut self, routes: &[Arc<Route>], listeners: &Listeners) {
        let mut names = BTreeSet::new();
        let mut owned: BTreeSet<(SocketAddr, String, Option<String>)> = BTreeSet::new();
        for (index, route) in routes.iter().enumerate() {
            if !names.insert(route.name.as_str()) {
                self.problem(
                    format!("routes[{index}].name"),
                    format!("there are two routes named `{}`", route.name),
                );
            }
            let listener = route.listen.or(listeners.shared);
            let prefix = if route.listen.is_some() {
                String::new()
            } else {
                route.path_prefix.clone()
            };
            if let Some(listener) = listener
                && !owned.insert((listener, prefix, route.host.clone()))
            {
                self.problem(
                    format!("routes[{index}].listen"),
                    "an earlier route owns the same listener, prefix and host",
                );
            }
            if route.listen.is_some() && route.listen == listeners.admin {
                self.problem(format!("routes[{index}].listen"), "is the admin listener");
            }
        }
        if routes.is_empty() {
            self.problem("routes", "there is no route");
        }
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let wrong = || format!("{text:?} is not an endpoint: write https://host, with :port and /base where needed");
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err("the endpoint must not hold credentials or a query".to_owned());
    }
    Ok(Endpoint {
        tls,
        host: authority.host().trim_matches(['[', ']']).to_owned(),
        port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        base_path: uri.path().trim_end_matches('/').to_owned(),
        ca: None,
        addresses: Vec::new(),
        allow_private: false,
    })
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
        assert_eq!(quoted.admin.token, std::env::var("PATH").ok());
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
