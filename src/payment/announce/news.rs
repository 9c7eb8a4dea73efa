//! What of a payment's story its application has to be told by webhook: the difference that one record made.
//!
//! Told is what is sealed or proven, and only what nobody else tells: of a payment, capture or refund at the application's
//! own gateway that gateway tells its own. An application that got its answer at once knows of a payment that nobody
//! executed; only one that was left in doubt still waits for that.

use serde::{Deserialize, Serialize};

use crate::gateway::Leg;
use crate::gateway::outcome::Outcome;
use crate::payment::core::{Attempt, Failure, Phase, State, Verdict, Why};

/// News of one payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// What happened.
    pub kind: Kind,
    /// The attempt that did it; 0 for none.
    pub n: u16,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Money was taken.
    Succeeded,
    /// Money is held.
    Authorised,
    /// The payment failed.
    Failed,
    /// A hold was captured.
    Captured,
    /// A hold was released.
    Voided,
    /// Money was given back.
    Refunded,
    /// A refund that had been accepted was not made, or came back.
    RefundFailed,
}

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Authorised => "authorised",
            Self::Failed => "failed",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Refunded => "refunded",
            Self::RefundFailed => "refund_failed",
        }
    }
}

/// The news that lie between two states of a payment, one record apart.
pub fn between(before: &State, after: &State) -> Vec<News> {
    let mut news = Vec::new();
    let mut tell = |kind, n| news.push(News { kind, n });
    if let Some(told) = after.told.filter(|told| before.told != Some(*told)) {
        match told {
            Verdict::Succeeded { n } if elsewhere(after, n) => tell(Kind::Succeeded, n),
            Verdict::Authorised { n } if elsewhere(after, n) => tell(Kind::Authorised, n),
            Verdict::Failed {
                n: Some(n),
                why: Failure::Declined,
            } if elsewhere(after, n) => tell(Kind::Failed, n),
            // Its own gateway's decline is its own gateway's to tell.
            Verdict::Failed {
                n: Some(_),
                why: Failure::Declined,
            } => {}
            Verdict::Failed { n, .. } if after.parked && !own_effect(after) => tell(Kind::Failed, n.unwrap_or(0)),
            _ => {}
        }
    }
    for (n, attempt) in after.numbered().filter(|(n, _)| elsewhere(after, *n)) {
        let earlier = before.attempt(n);
        let done = attempt.over() && earlier.is_none_or(|earlier| !earlier.over());
        match (attempt.why, attempt.leg) {
            (Why::FollowUp(_), Leg::Capture) if done => tell(Kind::Captured, n),
            (Why::FollowUp(_), Leg::Refund) if done => tell(Kind::Refunded, n),
            (Why::FollowUp(_), Leg::Refund) if undone(earlier, attempt) => tell(Kind::RefundFailed, n),
            // Captured at its gateway, by nobody's request here.
            (Why::Pay, Leg::Auth) if done && before.told == Some(Verdict::Authorised { n }) => tell(Kind::Captured, n),
            _ => {}
        }
    }
    if let Phase::Voided { n } = after.phase
        && !matches!(before.phase, Phase::Voided { .. })
        && elsewhere(after, n)
    {
        tell(Kind::Voided, n);
    }
    news
}

/// Accepted, told so, and then not done; or done, and undone by its bank.
fn undone(earlier: Option<&Attempt>, attempt: &Attempt) -> bool {
    if attempt.over() && attempt.undone() && earlier.is_some_and(|earlier| !earlier.undone()) {
        return true;
    }
    let accepted = earlier.is_some_and(|earlier| earlier.accepted && !earlier.known.no_effect());
    accepted && matches!(attempt.known.outcome(), Outcome::Rejected(_) | Outcome::Declined(_))
}

/// Whether an attempt was made at another gateway than the application's own.
pub fn elsewhere(state: &State, n: u16) -> bool {
    let planned = state.attempt(n).and_then(|attempt| state.gateway_of(attempt));
    planned.is_some_and(|planned| !planned.native)
}

/// Whether the application's own gateway has, or had, an effect of which it tells.
fn own_effect(state: &State) -> bool {
    let native = |attempt: &Attempt| state.gateway_of(attempt).is_some_and(|planned| planned.native);
    state
        .pays()
        .any(|(_, attempt)| native(attempt) && attempt.known.effect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::model::{Dialect, Mode};
    use crate::gateway;
    use crate::gateway::FenceStrength;
    use crate::gateway::outcome::Rejection;
    use crate::payment::core::{Decision, Finding, Intent, Key, Plan, PlannedGateway, Policy, Record};

    fn opened() -> Record {
        let planned = |dialect: Dialect, native| {
            let api = gateway::for_dialect(dialect).unwrap();
            PlannedGateway {
                native,
                ..PlannedGateway::new(dialect.name().to_owned(), api.capabilities(), FenceStrength::F0)
            }
        };
        Record::IntentOpened {
            plan: Arc::new(
                Plan {
                    mode: Mode::Fence,
                    intent: Intent::Authorize,
                    amount: None,
                    gateways: vec![planned(Dialect::Stripe, true), planned(Dialect::Adyen, false)],
                    policy: Policy::default(),
                }
                .into(),
            ),
        }
    }

    fn planned(n: u16, gateway: u8, leg: Leg, why: Why) -> Record {
        Record::AttemptPlanned {
            n,
            gateway,
            leg,
            of: (why != Why::Pay).then_some(n - 1),
            why,
            key: Key::Application,
            amount: None,
            at: 0,
        }
    }

    fn observed(n: u16, outcome: Outcome, pending: bool) -> Record {
        let finding = Finding {
            pending,
            ..Finding::bare(outcome, "test")
        };
        Record::AttemptObserved {
            n,
            via: None,
            finding: Box::new(finding),
            evidence: None,
            at: 0,
        }
    }

    /// The news of a story, record by record.
    fn told(records: Vec<Record>) -> Vec<(Kind, u16)> {
        let mut state = State::default();
        let mut all = Vec::new();
        for record in records {
            let before = state.clone();
            state.fold(&record);
            all.extend(between(&before, &state).into_iter().map(|news| (news.kind, news.n)));
        }
        all
    }

    fn sealed(verdict: Verdict) -> Record {
        Record::ResponseSealed { verdict }
    }

    #[test]
    fn the_own_gateways_payments_are_its_own_to_tell() {
        let declined = Verdict::Failed {
            n: Some(1),
            why: Failure::Declined,
        };
        for verdict in [Verdict::Authorised { n: 1 }, Verdict::Succeeded { n: 1 }, declined] {
            let story = vec![
                opened(),
                planned(1, 0, Leg::Auth, Why::Pay),
                observed(1, Outcome::Authorised, false),
                sealed(verdict),
                planned(2, 0, Leg::Capture, Why::FollowUp(0)),
                observed(2, Outcome::Succeeded, false),
                Record::Decision(Decision::Entered(Phase::Voided { n: 1 })),
            ];
            assert_eq!(told(story), [], "{verdict:?}");
        }
    }

    #[test]
    fn of_another_gateways_payment_each_proven_step_is_told_once() {
        let story = vec![
            opened(),
            planned(1, 1, Leg::Auth, Why::Pay),
            // Known, and not sealed: nothing is told.
            observed(1, Outcome::Authorised, false),
            Record::Decision(Decision::Winner { n: 1 }),
            sealed(Verdict::Authorised { n: 1 }),
            planned(2, 1, Leg::Capture, Why::FollowUp(0)),
            // Accepted is not done; done is told once, however often it is said.
            observed(2, Outcome::Unknown, true),
            observed(2, Outcome::Succeeded, false),
            observed(2, Outcome::Succeeded, false),
            planned(3, 1, Leg::Refund, Why::FollowUp(1)),
            observed(3, Outcome::Unknown, true),
            observed(3, Outcome::Rejected(Rejection::Request), false),
            // Refused at once, and told so by its answer.
            planned(4, 1, Leg::Refund, Why::FollowUp(2)),
            observed(4, Outcome::Rejected(Rejection::Request), false),
            // Sentinel's own release of a loser is nobody's refund.
            planned(5, 1, Leg::Refund, Why::Release),
            observed(5, Outcome::Succeeded, false),
        ];
        assert_eq!(
            told(story),
            [(Kind::Authorised, 1), (Kind::Captured, 2), (Kind::RefundFailed, 3)]
        );
    }

    #[test]
    fn a_payment_that_nobody_made_is_told_only_where_somebody_still_waits() {
        let failed = || {
            sealed(Verdict::Failed {
                n: None,
                why: Failure::NotExecuted,
            })
        };
        let parked = || Record::Decision(Decision::Parked);
        let resumed = || Record::Decision(Decision::Resumed);
        let first = || vec![opened(), planned(1, 0, Leg::Auth, Why::Pay)];
        let story = |more: Vec<Record>| told(first().into_iter().chain(more).collect());
        assert_eq!(story(vec![parked(), failed()]), [(Kind::Failed, 0)]);
        assert_eq!(story(vec![failed()]), []);
        assert_eq!(story(vec![parked(), resumed(), failed()]), []);
        // An effect at the own gateway that was released: that gateway tells.
        let effect = observed(1, Outcome::Authorised, false);
        assert_eq!(story(vec![effect, parked(), failed()]), []);
    }
}
