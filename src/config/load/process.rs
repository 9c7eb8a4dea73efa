//! What concerns the whole process: listeners, ledger, shutting down, logs, limits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Reader;
use super::route::Known;
use crate::config::model::{
    Accounts, Admin, Admission, Config, FEES, Fee, GatewayConfig, Ledger, Listeners, Log, Mode, Otlp, Route, Secret,
    Shutdown,
};
use crate::config::{defaults, raw, units, yaml};

impl Reader<'_> {
    pub(super) fn config(&mut self, raw: raw::File, text: &str) -> Config {
        let local_ca = PathBuf::from(raw.local_ca.unwrap_or_else(|| defaults::LOCAL_CA.into()));
        let listeners = Listeners {
            shared: self.listeners("listeners.shared", raw.listeners.shared, &local_ca),
            webhooks: self.listeners("listeners.webhooks", raw.listeners.webhooks, &local_ca),
            admin: self.address("listeners.admin".into(), raw.listeners.admin.as_deref()),
            dashboard: self.address("listeners.dashboard".into(), raw.listeners.dashboard.as_deref()),
        };
        let strict = raw.ledger.as_ref().and_then(|ledger| ledger.strict);
        let mut ledger = raw.ledger.map(|ledger| self.ledger(ledger));
        let has_ledger = ledger.is_some() || self.broken("ledger");
        let gateways: BTreeMap<String, Arc<GatewayConfig>> = raw
            .gateways
            .into_iter()
            .filter_map(|(name, gateway)| Some((name.clone(), Arc::new(self.gateway(name, gateway)?))))
            .collect();
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(raw.routes.len());
        // The names that were typed, so that a route is not blamed for what is wrong with its gateway.
        let typed: BTreeSet<String> = match self.tree.entry("gateways").map(|entry| &entry.value.kind) {
            Some(yaml::Kind::Mapping(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            _ => BTreeSet::new(),
        };
        let indices = std::mem::take(&mut self.routes);
        for (at, route) in indices.iter().copied().zip(raw.routes) {
            let listen = self.listeners(&format!("routes[{at}].listen"), route.listen, &local_ca);
            let route = raw::Route {
                listen: raw::OneOrMany::default(),
                ..route
            };
            let known = Known {
                gateways: &gateways,
                typed: &typed,
                listeners: &listeners,
                ledger: has_ledger,
            };
            routes.push(Arc::new(self.route(at, route, listen, &known)));
        }
        self.across(&indices, &routes, &listeners);
        self.webhook_listeners(&routes, &listeners, has_ledger);
        let admin = Admin {
            token: raw
                .admin
                .token
                .filter(|token| !token.0.is_empty())
                .map(|token| Secret::new(token.0)),
            hosts: raw.admin.hosts,
            faults: raw.admin.faults,
        };
        if listeners.admin.is_some_and(|address| !address.ip().is_loopback())
            && admin.token.is_none()
            && !self.broken("admin")
        {
            self.hinted(
                "listeners.admin",
                "an admin listener outside loopback needs admin.token",
                "add `admin: { token: \"${SENTINEL_ADMIN_TOKEN}\" }`",
            );
        }
        if listeners.dashboard.is_some() && listeners.dashboard == listeners.admin {
            self.problem("listeners.dashboard", "is the admin listener");
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
        let accounts = self.accounts(raw.accounts, has_ledger, &gateways);
        if let Some(gateway) = &accounts.collect {
            if let Some(at) = indices.iter().zip(&routes).find(|(_, route)| route.name == FEES) {
                self.problem(
                    format!("routes[{}].name", at.0),
                    "is the name of what accounts.collect makes",
                );
            }
            routes.push(Arc::new(self.fees(gateway)));
        }
        if let Some(ledger) = &mut ledger {
            let charges = routes.iter().any(|route| route.failover.mode != Mode::Off);
            ledger.strict = strict.unwrap_or(charges);
        }
        for (at, route) in indices.iter().zip(&routes).filter(|_| accounts.api) {
            let prefix = route.path_prefix.as_str();
            let inside = prefix
                .strip_prefix("/api/v1")
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if prefix == "/api" || inside {
                self.hinted(
                    format!("routes[{at}].path_prefix"),
                    "belongs to the tenants' API, which is under /api/v1 on the shared listeners",
                    "take another prefix, or `accounts: { api: false }`",
                );
            }
        }
        let (files, hash) = std::mem::take(&mut self.files).sum(text);
        Config {
            hash,
            files,
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
            accounts,
        }
    }

    fn accounts(
        &mut self,
        accounts: raw::Accounts,
        ledger: bool,
        gateways: &BTreeMap<String, Arc<GatewayConfig>>,
    ) -> Accounts {
        if accounts.api == Some(true) && !ledger {
            self.hinted(
                "accounts.api",
                "accounts stand in the ledger, and there is none",
                "add `ledger: { sqlite: /var/lib/sentinel/ledger.db }`",
            );
        }
        let dashboard = accounts.dashboard.unwrap_or_else(|| defaults::DASHBOARD.into());
        let address = dashboard.parse::<http::Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri
                    .authority()
                    .is_some_and(|authority| !authority.as_str().contains('@'))
        });
        if address.is_none() {
            let hint = "write it as a browser needs it, as in https://sentinel.example.com";
            self.hinted("accounts.dashboard", "is not an address", hint);
        }
        let fee = self.unit(
            "accounts.fee".into(),
            accounts.fee,
            defaults::FEE.millionths,
            units::exact_share,
        );
        Accounts {
            api: ledger && accounts.api.unwrap_or(true),
            registration: accounts.registration.unwrap_or(defaults::REGISTRATION),
            hosts: accounts.hosts,
            dashboard: dashboard.trim_end_matches('/').to_owned(),
            fee: Fee { millionths: fee },
            collect: accounts
                .collect
                .and_then(|collect| self.collecting(collect.gateway, ledger, gateways)),
        }
    }

    /// The gateway at which fees are collected, when they can be.
    fn collecting(
        &mut self,
        name: String,
        ledger: bool,
        gateways: &BTreeMap<String, Arc<GatewayConfig>>,
    ) -> Option<String> {
        const HERE: &str = "accounts.collect.gateway";
        match gateways.get(&name) {
            _ if !ledger => self.problem(HERE, "statements stand in the ledger, and there is none"),
            None if self.broken("gateways") => {}
            None => {
                let there = gateways.keys().cloned().collect::<Vec<_>>().join(", ");
                self.hinted(HERE, "is not a gateway", format!("there are {there}"));
            }
            Some(gateway) if gateway.credentials.is_empty() => {
                self.problem(HERE, "has no credentials, with which Sentinel would charge there");
            }
            Some(_) => return Some(name),
        }
        None
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
            self.hinted(
                "telemetry.otlp",
                "is not a collector beside Sentinel",
                "write http://127.0.0.1:4318; TLS and credentials towards whatever is behind it are the collector's",
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
            self.hinted("ledger.sqlite", "must name a file", "as in /var/lib/sentinel/ledger.db");
        } else if let Some(directory) = directory
            && !directory.is_dir()
        {
            // One level is made at the start; more that is missing is a mistyped path.
            let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
            if directory.exists() || !above.unwrap_or(Path::new(".")).is_dir() {
                let hint = "make it, owned by the user that Sentinel runs as";
                self.hinted("ledger.sqlite", "its directory is not there", hint);
            }
        }
        let key_file = ledger
            .key_file
            .map_or_else(|| sqlite.with_added_extension("key"), PathBuf::from);
        let retention = self.duration("ledger.retention", ledger.retention, defaults::RETENTION);
        if retention < defaults::RETENTION_MIN {
            self.problem("ledger.retention", "must be 48d at least");
        }
        Ledger {
            sqlite,
            key_file,
            strict: true,
            retention,
        }
    }
}
