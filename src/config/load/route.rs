//! Routes, their listeners and their failover.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::{Reader, nearest};
use crate::config::model::{
    Breaker, Failover, GatewayConfig, Hedge, Identity, Limits, Listen, Listeners, Mode, Retry, Route, Timeouts,
};
use crate::config::{defaults, raw, units};

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
        let identity = match tls {
            raw::Tls::Own(identity) => identity,
            raw::Tls::Local(raw::Local::LocalCa) => {
                let file = |name: &str| local_ca.join(name).display().to_string();
                if !local_ca.join("localhost.pem").exists() {
                    let directory = local_ca.display();
                    self.problem(
                        path,
                        format!("there is no local authority in {directory}: run `sentinel ca --dir {directory}`"),
                    );
                    return None;
                }
                raw::Identity {
                    cert: file("localhost.pem"),
                    key: file("localhost.key"),
                }
            }
        };
        self.identity(path, identity).map(Arc::new)
    }

    pub(super) fn route(
        &mut self,
        index: usize,
        route: raw::Route,
        listen: Vec<Listen>,
        gateways: &BTreeMap<String, Arc<GatewayConfig>>,
        listeners: &Listeners,
        ledger: bool,
    ) -> Route {
        let at = |field: &str| format!("routes[{index}].{field}");
        let prefix = route.path_prefix.unwrap_or_default();
        let prefix = prefix.trim_end_matches('/').to_owned();
        if !prefix.is_empty() && !prefix.starts_with('/') {
            self.problem(at("path_prefix"), "must begin with /");
        }
        if listen.is_empty() && (prefix.is_empty() || listeners.shared.is_empty()) {
            self.problem(
                at("name"),
                "matches nothing: give the route `listen`, or `path_prefix` and listeners.shared",
            );
        }
        if route.gateways.is_empty() {
            self.problem(at("gateways"), "names no gateway");
        }
        for (position, gateway) in route.gateways.iter().enumerate() {
            match gateways.get(gateway) {
                None => {
                    let hint = nearest(gateway, gateways.keys().map(String::as_str))
                        .map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
                    self.problem(at("gateways"), format!("there is no gateway `{gateway}`{hint}"));
                }
                Some(found) if position == 0 && found.dialect != route.dialect => {
                    self.problem(
                        at("dialect"),
                        format!(
                            "the application would speak {} to a {} gateway; the first gateway must speak the route's dialect",
                            route.dialect.name(),
                            found.dialect.name()
                        ),
                    );
                }
                Some(_) if route.gateways[..position].contains(gateway) => {
                    self.problem(at("gateways"), format!("names `{gateway}` twice"));
                }
                Some(_) => {}
            }
        }
        let failover = self.failover(index, route.failover, &route.gateways, gateways, ledger);
        Route {
            name: route.name,
            listen,
            path_prefix: prefix,
            host: route.host,
            dialect: route.dialect,
            gateways: route.gateways,
            failover,
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
        gateways: &BTreeMap<String, Arc<GatewayConfig>>,
        ledger: bool,
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
            if names.len() < 2 {
                self.problem(
                    here,
                    "failover needs a second gateway: name it in `gateways`, or take `failover` away",
                );
            } else if !ledger {
                self.problem(
                    here,
                    "failover needs a ledger, so that no crash can charge twice: add `ledger: { sqlite: /path/ledger.db }`",
                );
            }
            for name in names {
                if let Some(gateway) = gateways.get(name)
                    && gateway.credentials.is_empty()
                {
                    let needs: Vec<&str> = super::gateway::needed(gateway.dialect).to_vec();
                    self.problem(
                        format!("gateways.{name}"),
                        format!(
                            "takes part in failover and has no credentials, with which Sentinel asks, fences and charges: add `credentials` with {}",
                            needs.join(", ")
                        ),
                    );
                }
            }
        }
        let deadline = self.duration(&at("deadline"), typed.deadline, defaults::FAILOVER_DEADLINE);
        let attempt_timeout = self.duration(&at("attempt_timeout"), typed.attempt_timeout, defaults::ATTEMPT_TIMEOUT);
        if attempt_timeout.is_zero() || attempt_timeout > deadline {
            self.problem(
                at("attempt_timeout"),
                "must be above 0 and no longer than failover.deadline",
            );
        }
        let assume = typed.assume_quiescent_after;
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
            manual_after: self.duration(&at("manual_after"), typed.manual_after, defaults::MANUAL_AFTER),
        }
    }

    /// What concerns several routes at once.
    pub(super) fn across(&mut self, routes: &[Arc<Route>], listeners: &Listeners) {
        let mut names = BTreeSet::new();
        let mut owned: BTreeSet<(SocketAddr, String, Option<String>)> = BTreeSet::new();
        let mut tls: BTreeMap<SocketAddr, &Listen> =
            listeners.shared.iter().map(|listen| (listen.address, listen)).collect();
        for (index, route) in routes.iter().enumerate() {
            if !names.insert(route.name.as_str()) {
                self.problem(
                    format!("routes[{index}].name"),
                    format!("there are two routes named `{}`", route.name),
                );
            }
            let shared = listeners.shared.iter().map(|listen| listen.address);
            let own = route.listen.iter().map(|listen| listen.address);
            let places: Vec<(SocketAddr, String)> = match route.listen.is_empty() {
                true => shared.map(|at| (at, route.path_prefix.clone())).collect(),
                false => own.map(|at| (at, String::new())).collect(),
            };
            if places
                .into_iter()
                .any(|(at, prefix)| !owned.insert((at, prefix, route.host.clone())))
            {
                self.problem(
                    format!("routes[{index}].listen"),
                    "an earlier route owns the same listener, prefix and host",
                );
            }
            for listen in &route.listen {
                if Some(listen.address) == listeners.admin {
                    self.problem(format!("routes[{index}].listen"), "is the admin listener");
                }
                if tls
                    .insert(listen.address, listen)
                    .is_some_and(|other| other.tls != listen.tls)
                {
                    self.problem(
                        format!("routes[{index}].listen"),
                        format!("{} is used with two different settings of `tls`", listen.address),
                    );
                }
            }
        }
        if routes.is_empty() {
            self.problem("routes", "there is no route");
        }
    }
}
