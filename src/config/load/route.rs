//! Routes, their listeners and their failover.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Reader;
use crate::config::files::Part;
use crate::config::model::{
    Breaker, Dialect, Failover, GatewayConfig, Hedge, Identity, Limits, Listen, Listeners, Mode, Purpose, Retry, Route,
    Timeouts,
};
use crate::config::model::{FEES, OPERATOR};
use crate::config::{defaults, nearest, raw, units};

/// What a route may refer to.
pub(super) struct Known<'a> {
    /// The gateways that are right.
    pub(super) gateways: &'a BTreeMap<String, Arc<GatewayConfig>>,
    /// The names of all, right or not.
    pub(super) typed: &'a BTreeSet<String>,
    /// Listeners of no single route.
    pub(super) listeners: &'a Listeners,
    /// Whether there is a ledger.
    pub(super) ledger: bool,
}

impl Reader<'_> {
    /// The listeners of one place of the file.
    pub(super) fn listeners(
        &mut self,
        path: &str,
        listen: raw::OneOrMany<raw::Listen>,
        local_ca: &Path,
    ) -> Vec<Listen> {
        let mut found = Vec::new();
        let many = matches!(listen, raw::OneOrMany::Many(_));
        for (index, listen) in listen.into_vec().into_iter().enumerate() {
            let path = if many {
                format!("{path}[{index}]")
            } else {
                path.to_owned()
            };
            let (address, tls) = match listen {
                raw::Listen::Plain(address) => (self.address(path, Some(&address)), None),
                raw::Listen::Tls(raw::ListenTls { address, tls }) => {
                    let tls = tls.and_then(|tls| self.server_identity(&format!("{path}.tls"), tls, local_ca));
                    (self.address(format!("{path}.address"), Some(&address)), tls)
                }
            };
            found.extend(address.map(|address| Listen { address, tls }));
        }
        found
    }

    fn server_identity(&mut self, path: &str, tls: raw::Tls, local_ca: &Path) -> Option<Arc<Identity>> {
        let (certificate, key) = match tls {
            raw::Tls::Own(raw::Identity { cert, key }) => (PathBuf::from(cert), PathBuf::from(key)),
            raw::Tls::Local(raw::Local::LocalCa) => {
                let certificate = local_ca.join("localhost.pem");
                if !certificate.exists() {
                    let directory = self.named("local_ca", "");
                    let directory = match directory.trim_matches('`') {
                        "" => String::new(),
                        typed => format!(" --dir {typed}"),
                    };
                    self.hinted(
                        path,
                        "there is no local authority yet",
                        format!("run `sentinel ca{directory}`"),
                    );
                    return None;
                }
                (certificate, local_ca.join("localhost.key"))
            }
        };
        self.identity(path, &certificate, &key)
    }

    /// A certificate and its key, from the two files that stand below `path`.
    pub(super) fn identity(&mut self, path: &str, certificate: &Path, key: &Path) -> Option<Arc<Identity>> {
        match self.files.identity(certificate, key) {
            Ok(identity) => Some(Arc::new(identity)),
            Err((part, message)) => {
                let field = match part {
                    Part::Certificate => format!("{path}.cert"),
                    Part::Key => format!("{path}.key"),
                    Part::Both => path.to_owned(),
                };
                self.problem(field, message);
                None
            }
        }
    }

    pub(super) fn route(&mut self, index: usize, route: raw::Route, listen: Vec<Listen>, known: &Known<'_>) -> Route {
        let at = |field: &str| format!("routes[{index}].{field}");
        let prefix = route.path_prefix.unwrap_or_default();
        let prefix = prefix.trim_end_matches('/').to_owned();
        if !prefix.is_empty() && !prefix.starts_with('/') {
            self.problem(at("path_prefix"), "must begin with /");
        }
        let nowhere = listen.is_empty() && (prefix.is_empty() || known.listeners.shared.is_empty());
        if nowhere && !self.broken(&at("listen")) && !self.broken(&at("path_prefix")) && !self.broken("listeners") {
            self.hinted(
                at("name"),
                "no request can reach this route",
                "give it `listen`, or `path_prefix` and listeners.shared",
            );
        }
        if route.name.is_empty() || route.name.len() > 64 || route.name.chars().any(char::is_control) {
            self.problem(at("name"), "must have 1 to 64 characters");
        }
        if let Some(tenant) = &route.tenant {
            let plain =
                |rest: &str| rest.len() == 20 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            if !tenant.strip_prefix("tn_").is_some_and(plain) {
                self.hinted(
                    at("tenant"),
                    "is not a tenant's id",
                    "write the customerId that registering answered, as in tn_ and 20 letters and digits",
                );
            } else if !known.ledger {
                self.problem(at("tenant"), "tenants stand in the ledger, and there is none");
            }
        }
        if route.dialect == Dialect::Custom {
            self.hinted(
                format!("routes[{index}].dialect"),
                "a custom gateway can take payments, and applications speak one of the others",
                "put it behind the application's own gateway in `gateways`",
            );
        }
        self.gateways(index, route.dialect, &route.gateways, known);
        let failover = self.failover(index, route.failover, &route.gateways, known);
        let notify = route.notify.and_then(|typed| {
            let own = route.gateways.first().and_then(|name| known.gateways.get(name));
            let fails_over = known.ledger && failover.mode != Mode::Off && route.gateways.len() > 1;
            self.notify(&at("notify"), typed, (&route.name, route.dialect), own, fails_over)
        });
        Route {
            name: route.name,
            listen,
            path_prefix: prefix,
            host: route.host,
            dialect: route.dialect,
            purpose: Purpose::Applications,
            gateways: route.gateways,
            tenant: route.tenant,
            lend_credentials: route.lend_credentials,
            failover,
            notify,
            breaker: self.breaker(&at("breaker"), route.breaker),
            retry: Retry {
                budget: self.unit(
                    at("retry.budget"),
                    route.retry.budget,
                    defaults::RETRY_BUDGET,
                    units::share,
                ),
                min_per_second: route.retry.min_per_second.unwrap_or(defaults::RETRY_MIN_PER_SECOND),
                max: route.retry.max.unwrap_or(defaults::RETRY_MAX),
            },
            hedge: Hedge {
                quantile: self.unit(
                    at("hedge.reads"),
                    route.hedge.reads,
                    defaults::HEDGE_QUANTILE,
                    units::quantile,
                ),
                max_extra: self.unit(
                    at("hedge.max_extra"),
                    route.hedge.max_extra,
                    defaults::HEDGE_MAX_EXTRA,
                    units::share,
                ),
                min_delay: self.duration(&at("hedge.min_delay"), route.hedge.min_delay, defaults::HEDGE_MIN_DELAY),
            },
            limits: Limits {
                in_flight: route.limits.in_flight.unwrap_or(defaults::IN_FLIGHT).max(1),
                queue: route.limits.queue.unwrap_or(defaults::QUEUE),
                queue_timeout: self.duration(
                    &at("limits.queue_timeout"),
                    route.limits.queue_timeout,
                    defaults::QUEUE_TIMEOUT,
                ),
                adaptive: route.limits.adaptive.unwrap_or(defaults::ADAPTIVE),
                body: self.unit(at("limits.body"), route.limits.body, defaults::BODY, units::size),
            },
            timeouts: Timeouts {
                response_header: self.duration(
                    &at("timeouts.response_header"),
                    route.timeouts.response_header,
                    defaults::RESPONSE_HEADER,
                ),
                body_idle: self.duration(&at("timeouts.body_idle"), route.timeouts.body_idle, defaults::BODY_IDLE),
                total: self.duration(&at("timeouts.total"), route.timeouts.total, defaults::TOTAL),
            },
        }
    }

    fn breaker(&mut self, at: &str, breaker: raw::Breaker) -> Breaker {
        let field = |name: &str| format!("{at}.{name}");
        Breaker {
            consecutive: breaker.consecutive.unwrap_or(defaults::BREAKER_CONSECUTIVE),
            failure_rate: self.unit(
                field("failure_rate"),
                breaker.failure_rate,
                defaults::BREAKER_FAILURE_RATE,
                units::share,
            ),
            slow_rate: self.unit(
                field("slow_rate"),
                breaker.slow_rate,
                defaults::BREAKER_SLOW_RATE,
                units::share,
            ),
            slow_after: self.duration(&field("slow_after"), breaker.slow_after, defaults::BREAKER_SLOW_AFTER),
            window: self.duration(&field("window"), breaker.window, defaults::BREAKER_WINDOW),
            min_calls: breaker.min_calls.unwrap_or(defaults::BREAKER_MIN_CALLS),
            open: self.duration(&field("open"), breaker.open, defaults::BREAKER_OPEN),
            open_max: self.duration(&field("open_max"), breaker.open_max, defaults::BREAKER_OPEN_MAX),
            half_open_calls: breaker
                .half_open_calls
                .unwrap_or(defaults::BREAKER_HALF_OPEN_CALLS)
                .max(1),
        }
    }

    /// A route with one gateway has no failover; one with more needs what makes it safe: a ledger, and credentials with
    /// which Sentinel can ask, fence, void and charge by itself.
    fn failover(
        &mut self,
        index: usize,
        typed: Option<raw::Failover>,
        names: &[String],
        known: &Known<'_>,
    ) -> Failover {
        let at = |field: &str| format!("routes[{index}].failover.{field}");
        let here = match typed.is_some() {
            true => format!("routes[{index}].failover"),
            false => format!("routes[{index}].gateways"),
        };
        let wanted = typed.is_some();
        let typed = typed.unwrap_or_default();
        let mode = match (names.len(), typed.mode) {
            (0 | 1, None | Some(Mode::Off)) => Mode::Off,
            (_, mode) => mode.unwrap_or(defaults::MODE),
        };
        if mode != Mode::Off || (wanted && typed.mode != Some(Mode::Off)) {
            if names.len() < 2 && !self.broken(&format!("routes[{index}].gateways")) {
                let hint = "name it in `gateways`, or take `failover` away";
                self.hinted(here, "failover needs a second gateway", hint);
            } else if !known.ledger {
                self.hinted(
                    here,
                    "failover needs a ledger, so that no crash can charge twice",
                    "add `ledger: { sqlite: /path/ledger.db }`",
                );
            }
            for name in names {
                if let Some(gateway) = known.gateways.get(name)
                    && gateway.credentials.is_empty()
                    && !self.broken(&format!("gateways.{name}"))
                {
                    let needs = match super::gateway::needed(gateway.dialect) {
                        [] => "values".to_owned(),
                        needs => needs.join(", "),
                    };
                    self.hinted(
                        format!("gateways.{name}"),
                        "takes part in failover and has no credentials, with which Sentinel asks, fences and charges",
                        format!("add `credentials` with {needs}"),
                    );
                }
            }
        }
        self.tuned(&at, typed, mode)
    }

    fn tuned(&mut self, at: &dyn Fn(&str) -> String, typed: raw::Failover, mode: Mode) -> Failover {
        let deadline = self.duration(&at("deadline"), typed.deadline, defaults::FAILOVER_DEADLINE);
        let attempt_timeout = self.duration(&at("attempt_timeout"), typed.attempt_timeout, defaults::ATTEMPT_TIMEOUT);
        if attempt_timeout.is_zero() || attempt_timeout > deadline {
            self.problem(
                at("attempt_timeout"),
                "must be above 0 and no longer than failover.deadline",
            );
        }
        let (assume, manual) = (typed.assume_quiescent_after, typed.manual_after);
        Failover {
            mode,
            on_soft_decline: typed.on_soft_decline.unwrap_or(defaults::ON_SOFT_DECLINE),
            on_gateway_decline: typed.on_gateway_decline.unwrap_or(defaults::ON_GATEWAY_DECLINE),
            on_account_fault: typed.on_account_fault.unwrap_or(defaults::ON_ACCOUNT_FAULT),
            max_declines: typed.max_declines.unwrap_or(defaults::MAX_DECLINES),
            same_gateway_retries: typed.same_gateway_retries.unwrap_or(defaults::SAME_GATEWAY_RETRIES),
            deadline,
            attempt_timeout,
            hedge_after: self.duration(&at("hedge_after"), typed.hedge_after, defaults::HEDGE_AFTER),
            key: typed.key.unwrap_or(defaults::KEY),
            natural_window: self.duration(&at("natural_window"), typed.natural_window, defaults::NATURAL_WINDOW),
            order_guard: typed.order_guard.unwrap_or(defaults::ORDER_GUARD),
            raw_cards: typed.raw_cards.unwrap_or(defaults::RAW_CARDS),
            require_certificate: typed.require_certificate.unwrap_or(defaults::REQUIRE_CERTIFICATE),
            fence_before_secondary: typed.fence_before_secondary.unwrap_or(defaults::FENCE_BEFORE_SECONDARY),
            assume_quiescent_after: self.unit(at("assume_quiescent_after"), assume, None, |text| {
                units::duration(text).map(Some)
            }),
            undelivered: typed.undelivered.unwrap_or(defaults::UNDELIVERED),
            manual_after: self.unit(at("manual_after"), manual, None, |text| units::duration(text).map(Some)),
        }
    }

    /// The route by which fees are collected: every setting is a default, and the payment core asks, fences and waits there
    /// as anywhere else.
    pub(super) fn fees(&mut self, gateway: &str) -> Route {
        let at = |field: &str| format!("accounts.collect.{field}");
        Route {
            name: FEES.to_owned(),
            listen: Vec::new(),
            path_prefix: String::new(),
            host: None,
            // What Sentinel itself says to its engine.
            dialect: Dialect::Stripe,
            purpose: Purpose::Fees,
            gateways: vec![gateway.to_owned()],
            tenant: Some(OPERATOR.to_owned()),
            lend_credentials: false,
            notify: None,
            failover: self.tuned(&at, raw::Failover::default(), defaults::MODE),
            breaker: self.breaker("accounts.collect", raw::Breaker::default()),
            retry: Retry {
                budget: defaults::RETRY_BUDGET,
                min_per_second: defaults::RETRY_MIN_PER_SECOND,
                max: defaults::RETRY_MAX,
            },
            hedge: Hedge {
                quantile: defaults::HEDGE_QUANTILE,
                max_extra: defaults::HEDGE_MAX_EXTRA,
                min_delay: defaults::HEDGE_MIN_DELAY,
            },
            limits: Limits {
                in_flight: defaults::IN_FLIGHT,
                queue: defaults::QUEUE,
                queue_timeout: defaults::QUEUE_TIMEOUT,
                adaptive: defaults::ADAPTIVE,
                body: defaults::BODY,
            },
            timeouts: Timeouts {
                response_header: defaults::RESPONSE_HEADER,
                body_idle: defaults::BODY_IDLE,
                total: defaults::TOTAL,
            },
        }
    }

    /// The gateways that a route names.
    fn gateways(&mut self, index: usize, dialect: Dialect, names: &[String], known: &Known<'_>) {
        let here = format!("routes[{index}].gateways");
        if names.is_empty() && !self.broken(&here) {
            self.problem(here.clone(), "names no gateway");
        }
        for (position, name) in names.iter().enumerate() {
            let item = format!("{here}[{position}]");
            match known.gateways.get(name) {
                None if known.typed.contains(name) => {}
                None => {
                    let hint = match nearest(name, known.typed.iter().map(String::as_str)) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!(
                            "there are {}",
                            known.typed.iter().cloned().collect::<Vec<_>>().join(", ")
                        ),
                    };
                    let named = self.named(&item, "of this name");
                    self.hinted(item, format!("there is no gateway {named}"), hint);
                }
                Some(found) if position == 0 && found.dialect != dialect => {
                    let (ours, theirs) = (dialect.name(), found.dialect.name());
                    self.hinted(
                        format!("routes[{index}].dialect"),
                        format!("the application would speak {ours} to a gateway that speaks {theirs}"),
                        "the first gateway must speak the route's dialect",
                    );
                }
                Some(_) if names[..position].contains(name) => self.problem(item, "is named twice"),
                Some(_) => {}
            }
        }
    }

    /// What concerns several routes at once. `indices` are those in the text.
    /// Webhooks come from outside: their listener is nobody else's.
    pub(super) fn webhook_listeners(&mut self, routes: &[Arc<Route>], listeners: &Listeners, ledger: bool) {
        let taken = |address: SocketAddr| {
            routes.iter().any(|route| route.listens_at(address))
                || listeners.shared.iter().any(|listen| listen.address == address)
                || listeners.admin == Some(address)
        };
        if listeners.webhooks.iter().any(|listen| taken(listen.address)) {
            self.problem(
                "listeners.webhooks",
                "is another listener, too; webhooks need one of their own",
            );
        }
        if !listeners.webhooks.is_empty() && !ledger {
            self.hinted(
                "listeners.webhooks",
                "is of no use without a ledger",
                "add `ledger: { sqlite: /var/lib/sentinel/ledger.db }`",
            );
        }
    }

    pub(super) fn across(&mut self, indices: &[usize], routes: &[Arc<Route>], listeners: &Listeners) {
        let mut names = BTreeSet::new();
        let mut owned: BTreeSet<(SocketAddr, String, Option<String>)> = BTreeSet::new();
        let shared = || listeners.shared.iter().map(|listen| (listen.address, listen));
        let mut tls: BTreeMap<SocketAddr, &Listen> = shared().collect();
        for (index, route) in indices.iter().zip(routes) {
            if !names.insert(route.name.as_str()) {
                self.problem(format!("routes[{index}].name"), "an earlier route has the same name");
            }
            let places: Vec<(SocketAddr, String)> = match route.listen.is_empty() {
                true => shared().map(|(at, _)| (at, route.path_prefix.clone())).collect(),
                false => route
                    .listen
                    .iter()
                    .map(|listen| (listen.address, String::new()))
                    .collect(),
            };
            let taken = places
                .into_iter()
                .any(|(at, prefix)| !owned.insert((at, prefix, route.host.clone())));
            let here = format!("routes[{index}].listen");
            if taken {
                let hint = "give one of them another `listen`, `path_prefix` or `host`";
                self.hinted(
                    here.clone(),
                    "an earlier route owns the same listener, prefix and host",
                    hint,
                );
            }
            for listen in &route.listen {
                if Some(listen.address) == listeners.admin {
                    self.problem(here.clone(), "is the admin listener");
                }
                if Some(listen.address) == listeners.dashboard {
                    self.problem(here.clone(), "is the dashboard");
                }
                if tls
                    .insert(listen.address, listen)
                    .is_some_and(|other| other.tls != listen.tls)
                {
                    self.problem(here.clone(), "is used elsewhere with another `tls`");
                }
            }
        }
        if listeners
            .shared
            .iter()
            .any(|listen| Some(listen.address) == listeners.admin)
        {
            self.problem("listeners.shared", "is the admin listener");
        }
        if listeners
            .shared
            .iter()
            .any(|listen| Some(listen.address) == listeners.dashboard)
        {
            self.problem("listeners.shared", "is the dashboard");
        }
        if routes.is_empty() && !self.broken("routes") && !self.broken("") {
            self.problem("routes", "there is no route");
        }
    }
}
