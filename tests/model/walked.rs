//! Proof that rare paths were really walked: counters by name, in the manner of TigerBeetle's `sometimes` checks.

use std::collections::BTreeMap;

use sentinel::gateway::Leg;
use sentinel::gateway::outcome::Outcome;
use sentinel::payment::core::{Cause, Decision, Ground, Phase, Proof, Record, State, Verdict, Why};

use super::gateway::{Life, Message};
use super::shell::Shell;
use super::world::{Ev, Move, Queue, Replica, World};

/// What was walked, and how often.
#[derive(Clone, Debug, Default)]
pub struct Walked(BTreeMap<&'static str, u64>);

/// What every full set of safe scenarios must have walked.
pub const WANTED: [&str; 39] = [
    "a payment grew too old",
    "a person resolved it",
    "a part was captured",
    "a part was refunded",
    "a refund came back",
    "another round of what nobody executed",
    "failover on proof",
    "failover while gated",
    "failover, to be compensated",
    "the fence won",
    "the fence lost",
    "a weak fence was not believed",
    "the loser's hold was voided",
    "the loser's money was refunded",
    "a late original met its tombstone",
    "late success of a loser",
    "take-over in the middle of an attempt",
    "an append lost its race",
    "two replicas opened the payment",
    "killed before an append",
    "killed between append and sending",
    "killed during an exchange",
    "killed between append and answer",
    "the application was told in doubt",
    "doubt was resolved to success",
    "doubt was resolved to failure",
    "the application asked again",
    "a sealed answer was replayed",
    "the winner was revoked",
    "a capture was in doubt and sent again",
    "a key was replayed by an application's retry",
    "a request provably did not leave",
    "a declined object was closed",
    "the customer was asked to act",
    "the customer completed an object",
    "a hold expired at its gateway",
    "gateways forgot their keys",
    "a request passed the ledger by",
    "a webhook spoke",
];

impl Walked {
    /// Counts.
    pub fn mark(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    /// What was never walked.
    pub fn missing(&self) -> Vec<&'static str> {
        WANTED.into_iter().filter(|what| !self.0.contains_key(what)).collect()
    }

    /// All counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(what, times)| (*what, *times))
    }

    /// A replica dies.
    pub fn kill(&mut self, replica: &Replica) {
        match replica.queue.as_ref().and_then(Queue::head) {
            Some(Move::Persist { .. }) => self.mark("killed before an append"),
            Some(Move::Send(..)) => self.mark("killed between append and sending"),
            Some(Move::Answer(_)) => self.mark("killed between append and answer"),
            Some(Move::AnswerFollowUp(..)) => {}
            None if !replica.open.is_empty() => self.mark("killed during an exchange"),
            None => {}
        }
    }

    /// The application's side of a replica speaks.
    pub fn told(&mut self, w: &World, r: u8, ev: Ev) {
        let held = w.replicas[usize::from(r)].held.as_ref();
        if ev == Ev::Aged {
            self.mark("a payment grew too old");
        }
        if ev == Ev::Retry {
            self.mark("the application asked again");
            if held.is_some_and(|held| held.state.told.is_some_and(Verdict::is_final)) {
                self.mark("a sealed answer was replayed");
            }
        }
    }

    /// A request reaches its gateway.
    pub fn arrives(&mut self, w: &World, message: &Message) {
        let gateway = &w.gateways[usize::from(message.to)];
        let pays = matches!(message.leg, Leg::Charge | Leg::Auth);
        let tomb = gateway
            .find(message.key)
            .is_some_and(|index| matches!(gateway.objects[index].life, Life::Tomb | Life::Cancelled));
        if pays && tomb {
            self.mark("a late original met its tombstone");
        }
        if pays && w.ledger.state.winner.is_some_and(|winner| winner != message.n) {
            self.mark("late success of a loser");
        }
    }

    /// The ledger grew.
    pub fn appended(&mut self, before: &State, after: &State, records: &[Record], shell: &Shell<'_>) {
        for record in records {
            match record {
                Record::Decision(Decision::FailoverLicensed { ground, .. }) => self.mark(match ground {
                    Ground::Proof => "failover on proof",
                    Ground::Gated => "failover while gated",
                    Ground::Compensate => "failover, to be compensated",
                }),
                Record::Decision(Decision::Winner { n }) => self.won(before, after, *n),
                Record::Decision(Decision::WinnerRevoked { .. }) => self.mark("the winner was revoked"),
                Record::Decision(Decision::Failed { .. }) if before.parked => {
                    self.mark("doubt was resolved to failure")
                }
                Record::LeaseTaken { .. } if before.attempts.iter().any(|attempt| attempt.pending()) => {
                    self.mark("take-over in the middle of an attempt");
                }
                Record::AttemptResent { n, .. } => match before.attempt(*n).map(|attempt| (attempt.leg, attempt.why)) {
                    Some((Leg::Capture, Why::Settle)) => self.mark("a capture was in doubt and sent again"),
                    Some((Leg::Charge | Leg::Auth, _)) => self.mark("a key was replayed by an application's retry"),
                    _ => {}
                },
                Record::ObligationClosed {
                    target,
                    proof: Proof::Released,
                } => {
                    let loser = before
                        .obligations
                        .iter()
                        .any(|owed| owed.target == *target && matches!(owed.cause, Cause::Loser | Cause::Doubt));
                    match after.attempt(*target).map(|attempt| attempt.leg) {
                        Some(Leg::Auth) if loser => self.mark("the loser's hold was voided"),
                        Some(Leg::Charge) if loser => self.mark("the loser's money was refunded"),
                        _ => {}
                    }
                }
                Record::AttemptObserved { n, finding, .. } => {
                    let fence = after.attempt(*n).is_some_and(|attempt| attempt.leg == Leg::Fence);
                    if fence && finding.rule == "model" && finding.outcome == Outcome::Unknown && !finding.pending {
                        let weak = after
                            .attempt(*n)
                            .and_then(|attempt| shell.gateway(after, attempt.gateway));
                        if weak.is_some_and(|g| {
                            shell.scenario.facts[usize::from(g)].fence < sentinel::gateway::FenceStrength::F3
                        }) {
                            self.mark("a weak fence was not believed");
                        }
                    }
                }
                _ => {}
            }
        }
        let part = |leg| {
            let done = after.attempts.iter().zip(&before.attempts);
            let news = done.filter(|(now, then)| now.known != then.known && now.known.effect());
            news.filter(|(now, _)| now.leg == leg && now.amount.is_some() && now.amount != after.plan.amount)
                .count()
        };
        if part(Leg::Capture) > 0 {
            self.mark("a part was captured");
        }
        if part(Leg::Refund) > 0 {
            self.mark("a part was refunded");
        }
        let closed = |state: &State| {
            state
                .pays()
                .any(|(_, attempt)| matches!(attempt.known.outcome(), Outcome::Declined(_)) && attempt.known.fenced())
        };
        if closed(after) && !closed(before) {
            self.mark("a declined object was closed");
        }
        if matches!(before.phase, Phase::InDoubt { .. } | Phase::Fencing { .. })
            && matches!(after.phase, Phase::Succeeded { .. } | Phase::Authorised { .. })
        {
            self.mark("doubt was resolved to success");
        }
    }

    fn won(&mut self, before: &State, after: &State, n: u16) {
        let fences = |of: u16| {
            after
                .attempts
                .iter()
                .any(|attempt| attempt.leg == Leg::Fence && attempt.of == Some(of))
        };
        if fences(n) {
            self.mark("the fence lost");
        }
        if before.pays().any(|(m, attempt)| m != n && attempt.known.fenced()) {
            self.mark("the fence won");
        }
    }
}
