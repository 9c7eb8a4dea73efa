//! What changed between two configurations, in words for a log line. Secrets are named and never shown: their `Debug`
//! is what is printed.

use std::collections::BTreeSet;

use super::model::{Config, GatewayConfig, Route};

/// Everything that changed, in the order of the file's sections.
pub fn changes(before: &Config, after: &Config) -> Vec<String> {
    let mut out = Vec::new();
    macro_rules! compare {
        ($prefix:expr, $before:expr, $after:expr, $($($field:ident).+),+ $(,)?) => {$(
            let (old, new) = (&$before.$($field).+, &$after.$($field).+);
            if old != new {
                out.push(format!("{}{}: {old:?} -> {new:?}", $prefix, stringify!($($field).+)));
            }
        )+};
    }
    compare!(
        "",
        before,
        after,
        workers,
        listeners.shared,
        listeners.webhooks,
        listeners.admin,
        listeners.dashboard,
        ledger,
        shutdown.min,
        shutdown.max,
        shutdown.native_sidecar,
        log.json,
        log.access,
        log.level,
        admission.connections,
        admission.header_timeout,
        admission.head,
        admin.hosts,
        otlp,
        accounts,
    );
    if before.admin.token != after.admin.token {
        out.push("admin.token: changed".to_owned());
    }
    let gateways: BTreeSet<&String> = before.gateways.keys().chain(after.gateways.keys()).collect();
    for name in gateways {
        match (before.gateways.get(name), after.gateways.get(name)) {
            (Some(before), Some(after)) => {
                let prefix = format!("gateways.{name}.");
                compare!(
                    prefix,
                    before,
                    after,
                    dialect,
                    endpoint.tls,
                    endpoint.host,
                    endpoint.port,
                    endpoint.base_path,
                    endpoint.pin_mode,
                    endpoint.pins_until,
                    endpoint.protocol,
                    endpoint.addresses,
                    endpoint.allow_private,
                    pool.max_idle,
                    pool.max_connections,
                    pool.max_streams,
                    pool.prewarm,
                    pool.idle,
                    pool.max_age,
                    pool.connect_timeout,
                    settings,
                );
                out.extend(unshown(before, after).map(|what| format!("{prefix}{what}: changed")));
            }
            (None, _) => out.push(format!("gateways.{name}: added")),
            (_, None) => out.push(format!("gateways.{name}: removed")),
        }
    }
    let find = |routes: &'_ [std::sync::Arc<Route>], name: &str| routes.iter().position(|route| route.name == name);
    for old in before
        .routes
        .iter()
        .filter(|old| find(&after.routes, &old.name).is_none())
    {
        out.push(format!("route {}: removed", old.name));
    }
    for new in &after.routes {
        let Some(old) = find(&before.routes, &new.name).map(|index| &before.routes[index]) else {
            out.push(format!("route {}: added", new.name));
            continue;
        };
        compare!(
            format!("route {}: ", new.name),
            old,
            new,
            listen,
            path_prefix,
            host,
            dialect,
            gateways,
            tenant,
            lend_credentials,
            purpose,
            failover,
            breaker.consecutive,
            breaker.failure_rate,
            breaker.slow_rate,
            breaker.slow_after,
            breaker.window,
            breaker.min_calls,
            breaker.open,
            breaker.open_max,
            breaker.half_open_calls,
            retry.budget,
            retry.min_per_second,
            retry.max,
            hedge.quantile,
            hedge.max_extra,
            hedge.min_delay,
            limits.in_flight,
            limits.queue,
            limits.queue_timeout,
            limits.adaptive,
            limits.body,
            timeouts.response_header,
            timeouts.body_idle,
            timeouts.total,
        );
        // Its `Debug` shows too little of a secret to tell, and too much of all else.
        if old.notify != new.notify {
            out.push(format!("route {}: notify: changed", new.name));
        }
    }
    let order = |config: &Config| config.routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>();
    let (mut old, mut new) = (order(before), order(after));
    old.retain(|name| find(&after.routes, name).is_some());
    new.retain(|name| find(&before.routes, name).is_some());
    if old != new {
        out.push("routes: in another order".to_owned());
    }
    out
}

/// What of a gateway changed whose `Debug` shows too little to tell, or too much.
fn unshown<'a>(before: &'a GatewayConfig, after: &'a GatewayConfig) -> impl Iterator<Item = String> + 'a {
    let names: BTreeSet<&str> = before.credentials.names().chain(after.credentials.names()).collect();
    let credentials = names
        .into_iter()
        .filter(|name| before.credentials.get(name) != after.credentials.get(name))
        .map(|name| format!("credentials.{name}"));
    let (old, new) = (&before.endpoint, &after.endpoint);
    let others = [
        ("webhook", before.webhook != after.webhook),
        ("custom", before.custom != after.custom),
        ("takes", before.takes != after.takes),
        ("roots", old.roots != new.roots),
        ("client_certificate", old.client_certificate != new.client_certificate),
        ("pins", old.pins != new.pins),
    ];
    let others = others.into_iter().filter(|(_, changed)| *changed);
    credentials.chain(others.map(|(name, _)| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load::parse;

    const BASE: &str = "workers: 1
gateways:
  stripe: { dialect: stripe, endpoint: https://a, credentials: { secret_key: sk_one } }
routes:
  - { name: a, listen: 127.0.0.1:1, dialect: stripe, gateways: [stripe] }
  - { name: b, listen: 127.0.0.1:2, dialect: stripe, gateways: [stripe] }
";

    fn told(from: &str, to: &str) -> Vec<String> {
        assert!(BASE.contains(from), "{from}");
        let read = |text: &str| parse(Path::new("s.yaml"), text).unwrap();
        changes(&read(BASE), &read(&BASE.replace(from, to)))
    }

    #[test]
    fn every_change_is_told_and_no_secret() {
        assert!(told("a", "a").is_empty());
        assert_eq!(told("workers: 1", "workers: 2"), ["workers: 1 -> 2"]);
        assert_eq!(
            told("sk_one", "sk_two"),
            ["gateways.stripe.credentials.secret_key: changed"]
        );
        assert_eq!(
            told("https://a,", "https://b,"),
            ["gateways.stripe.endpoint.host: \"a\" -> \"b\""]
        );
        assert_eq!(
            told("127.0.0.1:2, ", "127.0.0.1:2, limits: { queue: 3, body: 2MiB }, "),
            [
                "route b: limits.queue: 256 -> 3",
                "route b: limits.body: 1048576 -> 2097152"
            ]
        );
        assert_eq!(told("name: b", "name: c"), ["route b: removed", "route c: added"]);
        assert_eq!(told("workers: 1", "admin: { token: x }"), ["admin.token: changed"]);
    }

    /// A field that is not compared would change in silence: this fails when one is added to a type that is compared
    /// field by field.
    #[test]
    fn no_field_is_forgotten() {
        let config = parse(Path::new("s.yaml"), BASE).unwrap();
        let is_field = |line: &&str| {
            line.strip_prefix("    ")
                .is_some_and(|rest| rest.starts_with(char::is_alphabetic))
        };
        let count = |debug: String| debug.lines().filter(is_field).count();
        assert_eq!(count(format!("{:#?}", config.routes[0])), 16, "fields of a route");
        assert_eq!(
            count(format!("{:#?}", config.gateways["stripe"])),
            9,
            "fields of a gateway"
        );
        assert_eq!(
            count(format!("{:#?}", config.gateways["stripe"].endpoint)),
            12,
            "fields of an endpoint"
        );
        assert_eq!(
            count(format!("{:#?}", config.gateways["stripe"].pool)),
            7,
            "fields of a pool"
        );
        assert_eq!(count(format!("{config:#?}")), 13, "fields of a configuration");
    }
}
