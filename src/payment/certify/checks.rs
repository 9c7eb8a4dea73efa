//! What every gateway is tried for: that a key means one payment, and what a fence is worth.

use std::time::Duration;

use super::certificate::Check;
use super::{CENTS, CertifyError, Trial, check, is_live, words};
use crate::gateway::canonical::{CaptureMode, Request, Target};
use crate::gateway::outcome::{Observation, Outcome};
use crate::gateway::{FenceStrength, Leg};

/// How much later a late original comes. A gateway that forgets a key in this time is no gateway for keys.
pub(super) const LATE: Duration = Duration::from_millis(1500);

/// Races between a fence and its original.
const RACES: usize = 3;

/// Answers that say of a key that another request has it. For a payment they prove nothing; of a key they say enough.
const KEY_TAKEN: [&str; 2] = ["key_of_another_request", "key_reused"];

use CaptureMode::{Automatic, Manual};
use FenceStrength::{F2, F3};

impl Trial {
    /// One key, one payment: again, with other parameters, and at the same moment.
    pub(super) async fn idempotency(&self) -> Result<Vec<Check>, CertifyError> {
        let first = self.pay("replay", Automatic, CENTS).await;
        let Some(id) = first.payment_id.clone().filter(|_| first.outcome == Outcome::Succeeded) else {
            return Err(CertifyError::NotApproved(words(&first)));
        };
        let again = self.pay("replay", Automatic, CENTS).await;
        let same = again.outcome == Outcome::Succeeded && again.payment_id.as_ref() == Some(&id);
        let other = self.pay("replay", Automatic, CENTS + 1).await;
        // Another payment would have another id. The first answer again is as good as a refusal.
        let one = match &other.payment_id {
            Some(told) => *told == id,
            None => matches!(other.outcome, Outcome::Rejected(_)) || KEY_TAKEN.contains(&other.rule.as_str()),
        };
        let (left, right) = tokio::join!(self.pay("twin", Automatic, CENTS), self.pay("twin", Automatic, CENTS));
        let last = self.pay("twin", Automatic, CENTS).await;
        let told: Vec<&Observation> = [&left, &right, &last]
            .into_iter()
            .filter(|seen| is_live(seen))
            .collect();
        let agreed = told.iter().all(|seen| seen.payment_id == last.payment_id) && last.payment_id.is_some();
        Ok(vec![
            check("replay", F2, same, words(&again)),
            check("mismatch", F2, one, words(&other)),
            check(
                "twin",
                F2,
                agreed && is_live(&last),
                format!("{}; {}; then {}", words(&left), words(&right), words(&last)),
            ),
        ])
    }

    /// What becomes of an original that comes after its fence, before it, and together with it; and whether a void is
    /// the end.
    pub(super) async fn fences(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for (name, tag, capture) in [
            ("late_original", "late", Automatic),
            ("late_original_hold", "late-hold", Manual),
        ] {
            if let Some(found) = self.late_original(name, tag, capture).await {
                checks.push(found);
            }
        }
        checks.extend(self.early_original().await);
        if self.declared() == F3 {
            checks.push(self.races().await);
        }
        checks.push(self.void_twice().await);
        checks
    }

    /// The fence first, then the original.
    async fn late_original(&self, name: &str, tag: &str, capture: CaptureMode) -> Option<Check> {
        let fence = self.fence(tag, capture).await?;
        tokio::time::sleep(LATE).await;
        let original = self.pay(tag, capture, CENTS).await;
        let refused = matches!(original.outcome, Outcome::Rejected(_) | Outcome::Fenced);
        let found = self.found(tag, capture).await;
        let there = found.as_ref().is_some_and(is_live);
        let mut seen = format!("fence: {}; original: {}", words(&fence), words(&original));
        if there {
            seen.push_str("; and it is in the list");
        }
        let holds = fence.outcome == Outcome::Fenced && refused && !there;
        Some(check(name, F3, holds, seen))
    }

    /// The original first: the fence must find out, or end it.
    async fn early_original(&self) -> Option<Check> {
        let name = "early_original";
        let original = self.pay("early", Manual, CENTS).await;
        if original.outcome != Outcome::Authorised {
            return Some(check(
                name,
                F2,
                false,
                format!("no hold could be made: {}", words(&original)),
            ));
        }
        let fence = self.fence("early", Manual).await?;
        let told = fence.arrived || fence.pending || is_live(&fence);
        let holds = match fence.outcome {
            // It says that nothing is left; then nothing may be left.
            Outcome::Fenced => !matches!(self.capture("early", &original).await.outcome, Outcome::Succeeded),
            _ => told,
        };
        Some(check(name, F2, holds, words(&fence)))
    }

    /// Both at once, in either order: never a fence that holds and a payment that was made.
    async fn races(&self) -> Check {
        let (mut fenced, mut paid, mut both) = (0, 0, 0);
        for race in 0..RACES {
            let name = format!("race-{race}");
            let (fence, mut original) = tokio::join!(self.fence(&name, Automatic), self.pay(&name, Automatic, CENTS));
            if original.outcome == Outcome::Unknown {
                original = self.pay(&name, Automatic, CENTS).await;
            }
            let holds = fence.is_some_and(|fence| fence.outcome == Outcome::Fenced);
            fenced += usize::from(holds);
            paid += usize::from(is_live(&original));
            both += usize::from(holds && is_live(&original));
        }
        let seen = format!("{RACES} races: {fenced} fenced, {paid} paid, {both} both");
        check("race", F3, both == 0 && fenced + paid > 0, seen)
    }

    /// Void, void again, then try to take the money.
    async fn void_twice(&self) -> Check {
        let name = "void_twice";
        let hold = self.pay("void", Manual, CENTS).await;
        if hold.outcome != Outcome::Authorised {
            return check(name, F3, false, format!("no hold could be made: {}", words(&hold)));
        }
        let request = Request::Void {
            target: target(&hold),
            reason: None,
        };
        let first = self.written(Leg::Void, &request, "void-1", "void").await;
        let second = self.written(Leg::Void, &request, "void-2", "void").await;
        let taken = self.capture("void", &hold).await;
        let seen = format!("{}; {}; capture: {}", words(&first), words(&second), words(&taken));
        // What is only accepted is told by a webhook later, and proves nothing here.
        let holds = first.outcome == Outcome::Succeeded && taken.outcome != Outcome::Succeeded && !taken.pending;
        check(name, F3, holds, seen)
    }

    async fn capture(&self, name: &str, hold: &Observation) -> Observation {
        let request = Request::Capture {
            target: target(hold),
            amount: self.amount(CENTS),
            units: None,
            last: true,
        };
        self.written(Leg::Capture, &request, &format!("{name}-capture"), name)
            .await
    }
}

fn target(hold: &Observation) -> Target {
    Target {
        payment: hold.payment_id.clone(),
        authorization: hold.charge_id.clone(),
        amount: hold.amount,
        ..Target::default()
    }
}
