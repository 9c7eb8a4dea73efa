//! What a payment needs of a configured route.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::core::Wire as Trust;
use super::planner::Questions;
use super::tenants::LOCAL;
use crate::account::Caller;
use crate::config::model::{self, Credentials, Failover, GatewayConfig, Mode, Purpose};
use crate::gateway::{self, Account, Capabilities, Gateway};
use crate::resilience::Faults;
use crate::resilience::breaker::{Breaker, Transition};
use crate::telemetry::event::BreakerChanged;
use crate::telemetry::{GatewayMetrics, RouteMetrics};

/// A route that payments can be taken on.
pub struct Route {
    config: Arc<model::Route>,
    dialect: &'static dyn Gateway,
    gateways: Vec<At>,
    metrics: Arc<RouteMetrics>,
    tenant: Arc<str>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.config.name)
            .finish_non_exhaustive()
    }
}

/// One gateway of a route.
#[derive(Clone)]
pub struct At {
    /// Its configuration.
    pub config: Arc<GatewayConfig>,
    /// Its API.
    pub gateway: &'static dyn Gateway,
    /// Whose payments are sent there.
    pub tenant: Arc<str>,
    /// What Sentinel's own requests are authenticated with: the configuration's, or those of the tenant.
    pub credentials: Credentials,
    /// The breaker towards it.
    pub breaker: Arc<Breaker>,
    /// Metrics.
    pub metrics: Arc<GatewayMetrics>,
    /// Whether the application speaks to this very account: its dialect, and the first of the route.
    pub native: bool,
    /// The route's metrics.
    pub route: Arc<RouteMetrics>,
    /// What an operator wants to go wrong.
    pub faults: Arc<Faults>,
    /// What this account can be asked about its attempts, as far as it was found out.
    pub questions: Arc<Questions>,
}

impl std::fmt::Debug for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("At")
            .field("gateway", &self.config.name)
            .finish_non_exhaustive()
    }
}

impl Route {
    /// The payment side of a route; `None` where failover is off, where no second gateway is, or where Sentinel does not
    /// translate the dialect. Such a route is forwarded, and costs nothing here. Gateways whose dialect Sentinel does not
    /// write are left out. Sentinel's own
    /// fees are taken at the one gateway that there is: it understands no request of an application, and is told what the
    /// payment means.
    pub fn new(
        config: &Arc<model::Route>,
        gateways: impl IntoIterator<Item = (Arc<GatewayConfig>, Arc<Breaker>)>,
        metrics: &Arc<RouteMetrics>,
        faults: &Arc<Faults>,
    ) -> Option<Arc<Self>> {
        if config.failover.mode == Mode::Off {
            return None;
        }
        let dialect = gateway::for_dialect(config.dialect)?;
        let applications = config.purpose == Purpose::Applications;
        let tenant: Arc<str> = config.tenant.as_deref().unwrap_or(LOCAL).into();
        let gateways: Vec<At> = gateways
            .into_iter()
            .enumerate()
            .filter_map(|(index, (gateway, breaker))| {
                Some(At {
                    gateway: gateway::at(&gateway)?,
                    native: applications && index == 0 && gateway.dialect == config.dialect,
                    metrics: metrics.gateway(&gateway.name),
                    tenant: Arc::clone(&tenant),
                    credentials: gateway.credentials.clone(),
                    config: gateway,
                    breaker,
                    route: Arc::clone(metrics),
                    faults: Arc::clone(faults),
                    questions: Arc::default(),
                })
            })
            .collect();
        if gateways.is_empty() || (applications && gateways.len() < 2) {
            return None;
        }
        Some(Arc::new(Self {
            config: Arc::clone(config),
            dialect,
            gateways,
            metrics: Arc::clone(metrics),
            tenant,
        }))
    }

    /// The same route as a tenant uses it.
    pub(super) fn for_tenant(&self, tenant: &str, credentials: impl Fn(&At) -> Credentials) -> Self {
        let tenant: Arc<str> = tenant.into();
        let theirs = |at: &At| At {
            tenant: Arc::clone(&tenant),
            credentials: credentials(at),
            questions: Arc::default(),
            ..at.clone()
        };
        Self {
            config: Arc::clone(&self.config),
            dialect: self.dialect,
            gateways: self.gateways.iter().map(theirs).collect(),
            metrics: Arc::clone(&self.metrics),
            tenant: Arc::clone(&tenant),
        }
    }

    /// The same route, with chosen gateways before the others. The application's own stays the first: only it
    /// understands the request as it is.
    pub(super) fn ordered(mut self, chosen: &[String]) -> Self {
        let place = |at: &At| {
            chosen
                .iter()
                .position(|name| *name == at.config.name)
                .unwrap_or(usize::MAX)
        };
        self.gateways.sort_by_key(|at| (!at.native, place(at)));
        self
    }

    /// Whose payments it takes, as the ledger names them.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Whether the owner of these books may pay with the configuration's credentials.
    pub(super) fn lends_to(&self, books: &str) -> bool {
        self.config.lend_credentials && !Caller::is_staging(books)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Where the application takes webhooks.
    pub fn notify(&self) -> Option<&model::Notify> {
        self.config.notify.as_ref()
    }

    /// Its base URL as the application sees it, where it has a listener of its own.
    pub fn base(&self) -> String {
        self.config.listen.first().map(model::Listen::url).unwrap_or_default()
    }

    /// Its failover settings.
    pub fn failover(&self) -> &Failover {
        &self.config.failover
    }

    /// The API that the application speaks.
    pub fn dialect(&self) -> &'static dyn Gateway {
        self.dialect
    }

    /// Its gateways, the application's own first.
    pub fn gateways(&self) -> &[At] {
        &self.gateways
    }

    /// The gateway of a name.
    pub fn at(&self, name: &str) -> Option<&At> {
        self.gateways.iter().find(|at| at.config.name == name)
    }

    /// The application's own gateway, when it is on the route.
    pub fn own(&self) -> Option<&At> {
        self.gateways.first().filter(|at| at.native)
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Arc<RouteMetrics> {
        &self.metrics
    }

    /// Whether the operation is one that the engine looks at: one that it understands, or any other on an object that may
    /// be of a payment which another gateway took, and which the application's own would know nothing of.
    pub fn recognises(&self, method: &http::Method, path: &str) -> Option<gateway::Recognised> {
        let recognised = self.dialect.recognise(method, path);
        let understood = recognised.operation != gateway::canonical::Operation::Opaque;
        (understood || recognised.object.is_some()).then_some(recognised)
    }
}

impl At {
    /// What an adapter is told of this account, for one attempt.
    pub fn account(&self, idempotency_key: String, reference: String) -> Account {
        Account {
            gateway: self.config.name.clone(),
            credentials: self.credentials.clone(),
            idempotency_key,
            reference,
            settings: self.config.settings.clone(),
            token: None,
            prepared: std::collections::BTreeMap::new(),
        }
    }

    /// What the gateway can do for this account.
    pub fn capabilities(&self) -> &'static Capabilities {
        self.gateway.capabilities_of(&self.config.settings)
    }

    /// Whether Sentinel can make requests of its own here.
    pub fn has_credentials(&self) -> bool {
        !self.credentials.is_empty()
    }

    /// Whether an application's credential shows another mode, test or live, than the account's own does.
    pub(super) fn is_of_other_mode(&self, headers: &http::HeaderMap) -> bool {
        let theirs = self.gateway.moves_live(headers);
        let own = self.gateway.holds_live(&self.credentials);
        matches!((theirs, own), (Some(theirs), Some(own)) if theirs != own)
    }

    /// What is known of its wire.
    pub fn trust(&self) -> Trust {
        Trust {
            // Every dialect's requests are JSON, XML or forms of a declared length.
            atomic_body: true,
            // Whoever ends HTTP/2 in front of a gateway may say "refused" of what it had passed on already.
            trust_h2_refusal: false,
        }
    }

    /// The account that saved tokens are bound to, as the configuration names it.
    pub fn vault(&self) -> &str {
        self.config.account_of(&self.credentials)
    }

    /// Tells of a breaker's change.
    pub(super) fn transition(&self, transition: &Transition) {
        BreakerChanged {
            at: &self.metrics,
            from: transition.from.name(),
            to: transition.to.name(),
            reason: transition.reason.name(),
            level: transition.to.gauge(),
            open_for: transition.open_for,
            note: transition.note.as_deref(),
        }
        .emit();
    }

    /// Whether the breaker would let a payment through now, without asking it to.
    pub(super) fn closed(&self) -> bool {
        use crate::resilience::breaker::State;
        matches!(self.breaker.state(), State::Closed | State::ForcedClosed)
    }

    /// Now, for the breaker.
    pub(super) fn instant() -> Instant {
        Instant::now()
    }
}
