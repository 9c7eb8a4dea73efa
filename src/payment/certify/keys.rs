//! What two gateways are tried for beside that: whether a Braintree account has at-most-once keys, and whether a custom
//! gateway's look-up finds what was paid.

use super::certificate::Check;
use super::{CENTS, Trial, check, words};
use crate::gateway::canonical::{CaptureMode, EarlierAttempt};
use crate::gateway::outcome::Outcome;
use crate::gateway::{FenceStrength, Leg};

impl Trial {
    /// Claims a key that nothing ever had, and claims it again. A claim is a sale without an amount and without anything to
    /// charge: it moves no money wherever it is sent. An account with keys says the second time that the key belongs to a
    /// failed request; one without them knows no keys.
    pub(super) async fn request_keys(&self) -> Check {
        let name = "request_keys";
        let mut account = self.account(name, name);
        let configured = account.settings.get(name).is_some_and(|yes| yes == "true");
        account.settings.insert(name.to_owned(), "true".to_owned());
        let earlier = EarlierAttempt {
            idempotency_key: Some(self.named(name)),
            ..EarlierAttempt::default()
        };
        let Some(claim) = self.gateway.fence(&earlier, &account) else {
            return check(name, FenceStrength::F2, false, "no key can be claimed".to_owned());
        };
        let first = self.asked(Leg::Fence, None, name, claim.clone()).await;
        let second = self.asked(Leg::Fence, None, name, claim).await;
        let has = second.outcome == Outcome::Fenced;
        let advice = match (has, configured) {
            (true, false) => "; write `request_keys: true`",
            (false, true) => "; take `request_keys: true` away, or have Braintree switch them on",
            _ => "",
        };
        let seen = format!("claimed: {}; again: {}{advice}", words(&first), words(&second));
        check(name, FenceStrength::F2, has, seen)
    }

    /// Looks up, by Sentinel's reference, the payment that the first check made. `None` where the description has no such
    /// request, so that nothing is claimed for it.
    pub(super) async fn look(&self) -> Option<Check> {
        // Made under this name, and approved, or there would be no checks at all.
        let found = self.found("replay", CaptureMode::Automatic).await?;
        let there =
            found.outcome == Outcome::Succeeded && found.amount.is_none_or(|told| Some(told) == self.amount(CENTS));
        Some(check("look", FenceStrength::F1, there, words(&found)))
    }
}
