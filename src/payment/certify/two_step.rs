//! What Stripe is tried for beside that: intents that are confirmed later. Cancelling one is the fence of its
//! confirmation, and a key that was used at one path must not do anything at another.

use super::certificate::Check;
use super::checks::LATE;
use super::{CENTS, Trial, check, is_live, words};
use crate::gateway::canonical::{CaptureMode, EarlierAttempt};
use crate::gateway::outcome::{Observation, Outcome};
use crate::gateway::{FenceStrength, Leg, Outgoing};

/// What belongs to a confirmation only.
const CONFIRMATION: [&str; 4] = ["confirm", "off_session", "error_on_requires_action", "return_url"];

impl Trial {
    pub(super) async fn two_step(&self) -> Vec<Check> {
        vec![self.late_confirm().await, self.key_elsewhere().await]
    }

    /// Cancel, then confirm.
    async fn late_confirm(&self) -> Check {
        let name = "late_confirm";
        let failed = |seen: String| check(name, FenceStrength::F3, false, seen);
        let intent = match self.created(name).await {
            Ok(intent) => intent,
            Err(why) => return failed(why),
        };
        let earlier = EarlierAttempt {
            object: Some(intent.clone()),
            ..self.earlier(name, CaptureMode::Automatic)
        };
        let account = self.account("late_confirm-cancel", name);
        let Some(outgoing) = self.gateway.fence(&earlier, &account) else {
            return failed("the adapter has no fence for a confirmation".to_owned());
        };
        let cancel = self.asked(Leg::Fence, None, name, outgoing).await;
        tokio::time::sleep(LATE).await;
        let confirm = self.confirmed(&intent, "late_confirm-confirm").await;
        let holds = cancel.outcome == Outcome::Fenced
            && matches!(confirm.outcome, Outcome::Fenced | Outcome::Rejected(_))
            && !is_live(&confirm);
        check(
            name,
            FenceStrength::F3,
            holds,
            format!("cancel: {}; confirm: {}", words(&cancel), words(&confirm)),
        )
    }

    /// The key of a creation, used for a confirmation.
    async fn key_elsewhere(&self) -> Check {
        let name = "key_elsewhere";
        let intent = match self.created(name).await {
            Ok(intent) => intent,
            Err(why) => return check(name, FenceStrength::F3, false, why),
        };
        let confirm = self.confirmed(&intent, name).await;
        let holds = matches!(confirm.outcome, Outcome::Rejected(_));
        check(name, FenceStrength::F3, holds, words(&confirm))
    }

    /// An intent that waits for its confirmation: the test payment without what confirms it.
    async fn created(&self, name: &str) -> Result<String, String> {
        let request = self.payment(CaptureMode::Automatic, CENTS);
        let account = self.account(name, name);
        let mut outgoing = self
            .gateway
            .encode(&request, &account)
            .map_err(|refusal| refusal.label().to_owned())?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (field, value) in form_urlencoded::parse(&outgoing.body) {
            if !CONFIRMATION.contains(&&*field) {
                form.append_pair(&field, &value);
            }
        }
        outgoing.body = form.finish().into();
        let answer = self.exchange(outgoing).await?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let waits = body["status"] == "requires_confirmation";
        let id = body["id"].as_str().filter(|_| waits);
        id.map(str::to_owned)
            .ok_or_else(|| format!("no intent could be made: status {}", answer.status))
    }

    async fn confirmed(&self, intent: &str, key: &str) -> Observation {
        let request = self.payment(CaptureMode::Automatic, CENTS);
        let account = self.account(key, key);
        let Ok(written) = self.gateway.encode(&request, &account) else {
            return Observation::bare(Outcome::NotSent, "unwritten");
        };
        let outgoing = Outgoing {
            target: format!("/v1/payment_intents/{intent}/confirm"),
            body: bytes::Bytes::from_static(b"error_on_requires_action=true"),
            ..written
        };
        self.asked(Leg::Charge, None, key, outgoing).await
    }
}
