//! Which fences are believed (safety.md 4.2, suite 9).

use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::super::certify::{self, certificate::Certificates};
use super::{At, Engine};
use crate::config::model::{Failover, GatewayConfig};
use crate::gateway::FenceStrength;

/// How long a look at a certificate holds: a new one should be felt soon, and a look costs the reading of a small file.
const FRESH: Duration = Duration::from_secs(5);

/// What was last seen of each account's certificate.
#[derive(Default)]
pub(super) struct Certified(DashMap<String, (FenceStrength, Instant)>);

impl Engine {
    /// The fence that is believed at a gateway: what its dialect declares, and where the route insists on a certificate
    /// no more than the certificate says. Without credentials Sentinel can ask nothing.
    pub(super) async fn believed(&self, at: &At, failover: &Failover) -> FenceStrength {
        let declared = at.capabilities().fence;
        if !at.has_credentials() {
            return FenceStrength::F0;
        }
        // A weak fence is nothing that a certificate could weaken.
        if !failover.require_certificate || declared < FenceStrength::F2 {
            return declared;
        }
        let name = &at.config.name;
        let place = format!("{name} {}", at.vault());
        let known = self.certified.0.get(&place).map(|known| *known.value());
        if let Some((strength, until)) = known
            && Instant::now() < until
        {
            return declared.min(strength);
        }
        let kept = Certificates {
            directory: &self.certificates,
            keys: self.ledger.keys(),
        };
        // A certificate speaks of one account: a tenant's is another than the configuration's.
        let theirs = GatewayConfig {
            credentials: at.credentials.clone(),
            ..(*at.config).clone()
        };
        let (strength, why) = certify::believed(declared, kept.fresh(&kept.subject(&theirs), self.ledger.now()));
        if known.is_none_or(|(before, _)| before != strength) && strength < declared {
            tracing::warn!(gateway = name, believed = ?strength, ?declared, why, "the fence is believed no further");
        }
        self.certified.0.insert(place, (strength, Instant::now() + FRESH));
        declared.min(strength)
    }
}
