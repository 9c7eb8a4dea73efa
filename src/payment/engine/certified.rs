//! Which fences are believed (safety.md 4.2, suite 9).

use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::{At, Engine};
use crate::config::model::Failover;
use crate::gateway::FenceStrength;
use crate::ledger::certificates;

/// How long a look at the ledger's certificates holds.
const FRESH: Duration = Duration::from_secs(30);

/// What was last seen of each gateway's certificate.
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
        if !failover.require_certificate {
            return declared;
        }
        let name = &at.config.name;
        let known = self.certified.0.get(name).map(|known| *known.value());
        if let Some((strength, until)) = known
            && Instant::now() < until
        {
            return declared.min(strength);
        }
        let strength = match certificates::fresh(&*self.ledger, name, at.vault()).await {
            Ok(Some(certificate)) => match certificate.strength.to_ascii_lowercase().as_str() {
                "f3" => FenceStrength::F3,
                "f2" => FenceStrength::F2,
                "f1" => FenceStrength::F1,
                _ => FenceStrength::F0,
            },
            Ok(None) => FenceStrength::F2,
            Err(error) => {
                tracing::warn!(%error, gateway = name, "the certificate could not be read");
                FenceStrength::F2
            }
        };
        self.certified
            .0
            .insert(name.clone(), (strength, Instant::now() + FRESH));
        declared.min(strength)
    }
}
