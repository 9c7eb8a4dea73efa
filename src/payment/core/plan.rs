//! The plan of a payment: what was decided when it was opened and never changes after.
//!
//! It is part of the first record. A reload of the configuration, an open breaker or another replica cannot change the
//! order of gateways, the mode or the strength of a fence under a payment that has begun: two replicas that followed two
//! orders could charge twice.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::OnceLock;

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub use crate::config::model::Undelivered;
use crate::config::model::{Failover, Mode};
use crate::gateway::{Capabilities, FenceStrength, Leg};
use crate::money::Amount;

/// What was decided when the payment was opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// How failover is made safe.
    pub mode: Mode,
    /// What the application asked for.
    pub intent: Intent,
    /// How much; `None` for a confirm, whose amount stands in an object at the gateway.
    pub amount: Option<Amount>,
    /// Gateways in the order they are tried.
    pub gateways: Vec<PlannedGateway>,
    /// What the route and the payment's key allow.
    pub policy: Policy,
}

/// What the application asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Take money now.
    Sale,
    /// Hold money; the application captures it by a request of its own.
    Authorize,
}

/// A gateway of the plan, with the facts that decisions rest on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlannedGateway {
    /// The configured name.
    pub name: String,
    /// The fence that is believed, after certification: lowered where no certificate is at hand.
    pub fence: FenceStrength,
    /// Whether an attempt can be looked up by Sentinel's or the application's reference.
    pub lookup: bool,
    /// Whether an authorisation can be captured by a later request.
    pub manual_capture: bool,
    /// Whether an authorisation can be voided.
    pub void: bool,
    /// How long the gateway keeps idempotency keys, in hours; 0 for a gateway without them.
    pub idempotency_hours: u32,
    /// For how many hours a capture, void or refund may be sent again. A plan that does not say it allows none.
    #[serde(default)]
    pub modification_hours: u32,
    /// Whether a declined payment's object can still be completed there (a Stripe intent can be confirmed again from the
    /// browser). Such an object is closed by a fence before money is asked for elsewhere.
    pub declines_stay_open: bool,
    /// Whether the application speaks this gateway's own dialect, so that its key goes there verbatim.
    pub native: bool,
}

/// What the route and the payment's key allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// The payment's idempotency key.
    pub key: KeyKind,
    /// Whether a soft decline is tried elsewhere.
    pub soft_decline: bool,
    /// Whether a decline that was the gateway's own trouble (it was busy, not the issuer) is tried elsewhere.
    pub gateway_decline: bool,
    /// Whether our account's fault at a gateway counts as its outage.
    pub account_fault: bool,
    /// How many declines of one payment may lead to another gateway: the card networks count tries across gateways.
    pub decline_failovers: u8,
    /// How often a request that provably did not leave on a reused connection is sent again to the same gateway.
    pub same_gateway_retries: u8,
    /// Whether the earlier gateway is fenced before any use of the next one, even when nothing was sent to it. Needed
    /// where another replica may pass requests through to the first gateway without the ledger (safety.md 3.4).
    pub fence_before_secondary: bool,
    /// Seconds after which a fence weaker than F3 is believed (assumption A5, an assumption about somebody else's
    /// queues); `None`, the default, never believes it.
    pub assume_quiescent_after: Option<u32>,
    /// What becomes of a payment without a key whose answer could not be delivered.
    pub undelivered: Undelivered,
}

/// Where the payment's idempotency key came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// The application sent one.
    Application,
    /// A reference in the request names the payment.
    Natural,
    /// None: a repeat is a new payment, so failover stays inside this one request and needs NotSent or Rejected.
    None,
}

impl Default for Policy {
    /// The most careful one: failover on proof only, no declines elsewhere.
    fn default() -> Self {
        Self {
            key: KeyKind::Application,
            soft_decline: false,
            gateway_decline: true,
            account_fault: false,
            decline_failovers: 1,
            same_gateway_retries: 1,
            fence_before_secondary: false,
            assume_quiescent_after: None,
            undelivered: Undelivered::Keep,
        }
    }
}

impl Policy {
    /// What a route's settings say, for a payment whose key is of this kind.
    pub fn of(settings: &Failover, key: KeyKind) -> Self {
        Self {
            key,
            soft_decline: settings.on_soft_decline,
            gateway_decline: settings.on_gateway_decline,
            account_fault: settings.on_account_fault,
            decline_failovers: settings.max_declines,
            same_gateway_retries: settings.same_gateway_retries,
            fence_before_secondary: settings.fence_before_secondary,
            assume_quiescent_after: settings
                .assume_quiescent_after
                .map(|after| u32::try_from(after.as_secs()).unwrap_or(u32::MAX)),
            undelivered: settings.undelivered,
        }
    }
}

impl PlannedGateway {
    /// A gateway's facts from its declared capabilities. `fence` is the strength that is believed now.
    pub fn new(name: String, capabilities: &Capabilities, fence: FenceStrength) -> Self {
        Self {
            name,
            fence: fence.min(capabilities.fence),
            lookup: capabilities.fence >= FenceStrength::F1,
            manual_capture: capabilities.manual_capture,
            void: capabilities.void,
            idempotency_hours: capabilities.idempotency_hours,
            modification_hours: capabilities.idempotency_hours,
            declines_stay_open: false,
            native: false,
        }
    }

    /// Whether it can take part in `gated` mode.
    pub fn gates(&self) -> bool {
        self.manual_capture && self.void
    }
}

impl Plan {
    /// A plan that holds what its mode needs. `gated` needs an authorisation that can be captured and voided: where the
    /// first gateway has none the payment runs in `fence` mode, and a later gateway without one is left out.
    #[must_use]
    pub fn settled(mut self) -> Self {
        if self.mode == Mode::Gated {
            if self.gateways.first().is_some_and(PlannedGateway::gates) {
                self.gateways.retain(PlannedGateway::gates);
            } else {
                self.mode = Mode::Fence;
            }
        }
        if self.mode == Mode::Off {
            self.gateways.truncate(1);
        }
        self
    }

    /// The leg by which the payment is tried at a gateway.
    pub fn leg(&self) -> Leg {
        match (self.mode, self.intent) {
            (Mode::Gated, _) | (_, Intent::Authorize) => Leg::Auth,
            (_, Intent::Sale) => Leg::Charge,
        }
    }

    /// The gateway at an index of the plan.
    pub fn gateway(&self, index: u8) -> Option<&PlannedGateway> {
        self.gateways.get(usize::from(index))
    }
}

/// A plan that is pinned. It is written with the first record and with the state after every step, each time as the very
/// same JSON: that is made once.
#[derive(Clone, Debug)]
pub struct Pinned {
    plan: Plan,
    text: OnceLock<Box<RawValue>>,
}

impl From<Plan> for Pinned {
    fn from(plan: Plan) -> Self {
        Self {
            plan,
            text: OnceLock::new(),
        }
    }
}

impl Deref for Pinned {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.plan
    }
}

impl PartialEq for Pinned {
    fn eq(&self, other: &Self) -> bool {
        self.plan == other.plan
    }
}

impl Eq for Pinned {}

impl Hash for Pinned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plan.hash(state);
    }
}

impl Serialize for Pinned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match self.text.get() {
            Some(text) => text,
            None => {
                let text = serde_json::value::to_raw_value(&self.plan).map_err(S::Error::custom)?;
                self.text.get_or_init(|| text)
            }
        };
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pinned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Plan::deserialize(deserializer).map(Self::from)
    }
}
