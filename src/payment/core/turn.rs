//! One step under construction: records are folded as they are made, actions follow them.

use super::event::{Action, Finding, Notice, Pause, Send, Verdict};
use super::keys::Key;
use super::plan::KeyKind;
use super::record::{Decision, Hold, Record};
use super::state::{Attempt, Cause, Phase, Proof, State, Why};
use crate::gateway::Leg;
use crate::money::Amount;
use crate::upstream::Evidence;

/// What one event leads to.
pub(super) struct Turn {
    pub(super) s: State,
    pub(super) at: i64,
    pub(super) records: Vec<Record>,
    pub(super) actions: Vec<Action>,
}

impl Turn {
    pub(super) fn new(state: State, at: i64) -> Self {
        Self {
            s: state,
            at,
            records: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// The actions in their lawful order: everything durable first.
    pub(super) fn finish(self) -> (State, Vec<Action>) {
        let mut actions = Vec::with_capacity(self.actions.len() + 1);
        if !self.records.is_empty() {
            actions.push(Action::Persist(self.records));
        }
        actions.extend(self.actions);
        (self.s, actions)
    }

    pub(super) fn record(&mut self, record: Record) {
        self.s.fold(&record);
        self.records.push(record);
    }

    pub(super) fn decide(&mut self, decision: Decision) {
        self.record(Record::Decision(decision));
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        self.actions.push(Action::Notify(notice));
    }

    pub(super) fn attempt(&self, n: u16) -> Option<Attempt> {
        self.s.attempt(n).cloned()
    }

    /// Moves on, unless the payment is there already. `true` when something changed.
    pub(super) fn enter(&mut self, phase: Phase) -> bool {
        if self.s.phase == phase {
            return false;
        }
        self.decide(Decision::Entered(phase));
        if matches!(phase, Phase::InDoubt { .. } | Phase::Fencing { .. }) {
            self.notify(Notice::InDoubt);
        }
        true
    }

    /// Stops everything until a person looks.
    pub(super) fn hold(&mut self, reason: Hold) {
        self.record(Record::ManualHold { reason: reason.clone() });
        self.notify(Notice::Manual(reason));
        if self.s.here.caller && self.s.told.is_none() {
            self.s.here.caller = false;
            self.actions.push(Action::Answer {
                verdict: Verdict::InDoubt { running: false },
                replay: false,
            });
        }
    }

    /// Tells the application, for good. What was told for good before stays.
    pub(super) fn seal(&mut self, verdict: Verdict) {
        if self.s.told == Some(verdict) || self.s.told.is_some_and(Verdict::is_final) {
            return;
        }
        self.record(Record::ResponseSealed { verdict });
        if std::mem::take(&mut self.s.here.caller) {
            self.actions.push(Action::Answer { verdict, replay: false });
        } else {
            self.notify(Notice::Settled(verdict));
        }
    }

    /// Owes the release of an attempt's effect, once.
    pub(super) fn owe(&mut self, target: u16, cause: Cause) -> bool {
        if self.s.owed(target) {
            return false;
        }
        self.record(Record::ObligationOpened { target, cause });
        self.notify(Notice::ObligationOpened { target });
        true
    }

    pub(super) fn discharge(&mut self, target: u16, proof: Proof) {
        self.record(Record::ObligationClosed { target, proof });
        self.notify(Notice::ObligationClosed { target });
    }

    /// Plans a new attempt and sends it. D1 holds by construction: the record stands before the action.
    pub(super) fn plan(&mut self, gateway: u8, leg: Leg, of: Option<u16>, why: Why, key: Key, amount: Option<Amount>) {
        let n = self.s.last().saturating_add(1);
        self.record(Record::AttemptPlanned {
            n,
            gateway,
            leg,
            of,
            why,
            key,
            amount,
            at: self.at,
        });
        self.send(n);
    }

    /// Plans the payment itself at a gateway.
    pub(super) fn pay(&mut self, gateway: u8) {
        let native = self.s.plan.gateway(gateway).is_some_and(|planned| planned.native);
        let key = match self.s.plan.policy.key {
            KeyKind::Application if native => Key::Application,
            _ => Key::Derived { nth: 0 },
        };
        let (leg, amount) = (self.s.plan.leg(), self.s.plan.amount);
        self.plan(gateway, leg, None, Why::Pay, key, amount);
    }

    /// Sends a planned attempt, unless it is on its way.
    pub(super) fn send(&mut self, n: u16) {
        let Some(attempt) = self.s.attempt(n) else { return };
        if self.s.here.in_flight.contains(&n) {
            return;
        }
        let send = Send {
            n,
            gateway: attempt.gateway,
            leg: attempt.leg,
            of: attempt.of,
            key: attempt.key,
            amount: attempt.amount,
        };
        self.s.here.in_flight.push(n);
        self.actions.push(Action::Send(send));
    }

    /// Sends an attempt once more with the same key.
    pub(super) fn resend(&mut self, n: u16) {
        if !self.s.here.in_flight.contains(&n) {
            self.record(Record::AttemptResent { n, at: self.at });
            self.send(n);
        }
    }

    /// Whether attempt `n` is on its way or its pause is not over.
    pub(super) fn busy(&self, n: u16) -> bool {
        self.s.here.in_flight.contains(&n) || self.s.here.waiting.contains(&n)
    }

    /// Asks for a pause before anything more is done about attempt `n`.
    pub(super) fn pause(&mut self, n: u16) {
        if !self.s.here.waiting.contains(&n) {
            self.s.here.waiting.push(n);
            let pause = if self.s.here.caller {
                Pause::Waiting
            } else {
                Pause::Background
            };
            self.actions.push(Action::Schedule { n, pause });
        }
    }

    /// Notes a finding about attempt `n`, unless it says nothing new.
    pub(super) fn learn(&mut self, n: u16, via: Option<u16>, finding: Finding, evidence: Option<Box<Evidence>>) {
        let Some(attempt) = self.s.attempt(n) else { return };
        let joined = attempt.known.join(finding.outcome.into());
        let new_ids = [
            (&attempt.ids.payment, &finding.ids.payment),
            (&attempt.ids.charge, &finding.ids.charge),
            (&attempt.ids.modification, &finding.ids.modification),
        ]
        .into_iter()
        .any(|(mine, theirs)| mine.is_none() && theirs.is_some());
        let new = !attempt.observed
            || joined != attempt.known
            || (finding.pending && !attempt.accepted)
            || (finding.gone && !attempt.released)
            || new_ids;
        if new {
            self.record(Record::AttemptObserved {
                n,
                via,
                finding: Box::new(finding),
                evidence,
                at: self.at,
            });
        }
    }

    /// Whether an attempt may be sent again under its key although its outcome is unknown (D7): the gateway keeps keys,
    /// and 80 % of the time it keeps them is not over.
    pub(super) fn replayable(&self, attempt: &Attempt) -> bool {
        let hours = self.s.gateway_of(attempt).map_or(0, |gateway| match attempt.leg {
            Leg::Capture | Leg::Void | Leg::Refund => gateway.modification_hours,
            _ => gateway.idempotency_hours,
        });
        let age = self.at.saturating_sub(attempt.at);
        age >= 0 && age < i64::from(hours) * 3600 / 10 * 8
    }

    /// The attempts with this leg that act on `target`, latest first.
    pub(super) fn acting(&self, target: u16, leg: Leg) -> Vec<(u16, Attempt)> {
        self.s
            .numbered()
            .rev()
            .filter(|(_, attempt)| attempt.of == Some(target) && attempt.leg == leg)
            .map(|(n, attempt)| (n, attempt.clone()))
            .collect()
    }

    /// Whether anything that ends an effect was ever sent against `target` and is not proven to have done nothing.
    pub(super) fn attacked(&self, target: u16) -> bool {
        self.s.ended(target)
    }

    /// Whether a fence against `target` was concluded, and with it what a fence can do about it.
    pub(super) fn fence_over(&self, target: u16) -> bool {
        self.acting(target, Leg::Fence).iter().any(|(_, fence)| fence.over())
    }

    /// Whether a fence of this kind against `target` was concluded.
    pub(super) fn fence_tried(&self, target: u16, kind: Key) -> bool {
        let fences = self.acting(target, Leg::Fence);
        fences.iter().any(|(_, fence)| fence.over() && fence.key == kind)
    }

    /// Whether a fence against `target` may yet end what it finds.
    pub(super) fn fence_loose(&self, target: u16) -> bool {
        self.s.fence_loose(target)
    }
}
