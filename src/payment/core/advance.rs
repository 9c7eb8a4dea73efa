//! Deciding: from what is known to the next move (the table of safety.md 2.5).
//!
//! Decisions look at what is known, never at which event brought it. That is why late truth (a webhook, a second
//! replica's answer, a look-up) needs no rules of its own: whichever way a fact comes, the same moves follow from it.

use super::event::{Notice, Verdict};
use super::keys::Key;
use super::plan::{Intent, KeyKind};
use super::record::{Decision, Failure, Ground, Hold};
use super::state::{Attempt, Cause, Phase, Proof, Why};
use super::turn::Turn;
use crate::config::model::Mode;
use crate::gateway::outcome::{DeclineClass, Outcome, Rejection};
use crate::gateway::{FenceStrength, Leg};

/// What may be asked about an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// A fence, or a look-up.
    Any,
    /// A look-up, because a fence could end an effect that is to stay.
    LookUp,
    /// A fence that was sent has to be concluded.
    Fence,
}

/// More moves than this from one event would be a defect: every move adds a record, and records are few.
const MOVES: usize = 64;

impl Turn {
    /// Moves on until nothing more follows from what is known.
    pub(super) fn advance(&mut self) {
        for _ in 0..MOVES {
            let before = self.s.version;
            self.once();
            if self.s.version == before {
                return;
            }
        }
        self.hold(Hold::Assertion {
            rule: "moves_without_end".to_owned(),
        });
    }

    fn once(&mut self) {
        if matches!(self.s.phase, Phase::New | Phase::Manual) {
            return;
        }
        if self.s.closed {
            if let Some(hold) = self.disproved() {
                self.hold(hold);
            }
            return;
        }
        if let Some(hold) = self.s.conflict() {
            return self.hold(hold);
        }
        let failed = matches!(self.s.phase, Phase::Failed { .. });
        if failed || self.s.told.is_some_and(|told| matches!(told, Verdict::Failed { .. })) {
            // "Failed" is only said with proof, so an effect now means that somebody's guarantee was wrong.
            if let Some(n) = self.s.dangerous() {
                return self.hold(Hold::Unexplained { n });
            }
            // A person had it, and nothing is left of what was held against it.
            if let (false, Some(Verdict::Failed { n, why })) = (failed, self.s.told) {
                self.decide(Decision::Failed { n, why });
            }
        } else {
            self.choose();
            match self.s.winner {
                Some(winner) => self.follow(winner),
                None => self.seek(),
            }
        }
        if self.s.phase != Phase::Manual {
            self.discharge_all();
        }
    }

    /// Records the winner (D3), once there is an effect that nothing sent so far can end.
    fn choose(&mut self) {
        if self.s.winner.is_some() {
            return;
        }
        let winner = self.s.pays().find(|&(n, attempt)| {
            let alive = attempt.known.effect() || attempt.known.outcome() == Outcome::ActionRequired;
            alive && !attempt.released && !self.attacked(n) && !self.fence_loose(n)
        });
        if let Some((n, _)) = winner {
            self.decide(Decision::Winner { n });
        }
    }

    /// There is a winner: whatever is left is its business.
    fn follow(&mut self, w: u16) {
        let Some(attempt) = self.attempt(w) else { return };
        if attempt.harmless() {
            let kept = matches!(
                self.s.told,
                Some(Verdict::Authorised { .. } | Verdict::Succeeded { .. })
            );
            if kept && !self.s.abandoned {
                self.enter(Phase::Voided { n: w });
            } else {
                self.decide(Decision::WinnerRevoked { n: w });
            }
            return;
        }
        if self.s.abandoned {
            self.owe(w, Cause::Undelivered);
            self.enter(Phase::Revoking { n: w });
            return;
        }
        match (attempt.known.outcome(), attempt.leg, self.s.plan.intent) {
            (Outcome::ActionRequired, ..) => {
                self.enter(Phase::ActionRequired { n: w });
                self.seal(Verdict::ActionRequired { n: w });
            }
            (Outcome::Authorised, Leg::Auth, Intent::Sale) => self.settle(w),
            (Outcome::Authorised, Leg::Auth, Intent::Authorize) => {
                let captured = self
                    .acting(w, Leg::Capture)
                    .iter()
                    .any(|(_, capture)| capture.known.outcome() == Outcome::Succeeded);
                self.enter(if captured {
                    Phase::Succeeded { n: w }
                } else {
                    Phase::Authorised { n: w }
                });
                self.seal(Verdict::Authorised { n: w });
            }
            _ => {
                self.enter(Phase::Succeeded { n: w });
                let held = self.s.plan.intent == Intent::Authorize && attempt.leg == Leg::Auth;
                self.seal(if held {
                    Verdict::Authorised { n: w }
                } else {
                    Verdict::Succeeded { n: w }
                });
            }
        }
    }

    /// Captures the winner of a `gated` sale: at its own gateway, under one key, until it is proven done or impossible.
    fn settle(&mut self, w: u16) {
        if self.s.owed(w) {
            self.enter(Phase::Revoking { n: w });
            return;
        }
        let Some((c, capture)) = self
            .acting(w, Leg::Capture)
            .into_iter()
            .find(|(_, c)| c.why == Why::Settle)
        else {
            self.enter(Phase::Capturing { n: w });
            return self.act(w, Leg::Capture, Why::Settle);
        };
        match capture.known.outcome() {
            Outcome::Succeeded => {
                self.enter(Phase::Succeeded { n: w });
                self.seal(Verdict::Succeeded { n: w });
            }
            Outcome::Unknown => {
                self.enter(Phase::Capturing { n: w });
                if capture.accepted {
                    self.seal(Verdict::Succeeded { n: w });
                }
                if capture.observed && !self.busy(c) {
                    if !capture.accepted && self.replayable(&capture) {
                        self.resend(c);
                    } else {
                        self.ask(c, Question::LookUp);
                    }
                }
            }
            Outcome::NotSent | Outcome::Rejected(Rejection::Transient | Rejection::Account) => {
                if !self.busy(c) {
                    self.act(w, Leg::Capture, Why::Settle);
                }
            }
            _ if self.s.told.is_some_and(Verdict::is_final) => self.hold(Hold::CaptureFailed { n: w }),
            _ => {
                self.owe(w, Cause::CaptureFailed);
                self.enter(Phase::Revoking { n: w });
            }
        }
    }

    /// There is no winner: find out, go on, or fail.
    fn seek(&mut self) {
        let pays: Vec<(u16, Attempt)> = self.s.pays().map(|(n, attempt)| (n, attempt.clone())).collect();
        // An effect that a fence or void may be about to end can be no winner: conclude the fence, or end it for good.
        if let Some((n, attempt)) = pays.iter().find(|(_, attempt)| {
            !attempt.harmless() && (attempt.known.effect() || attempt.known.outcome() == Outcome::ActionRequired)
        }) {
            let certain = self.believed_fence(attempt) == FenceStrength::F3 && !self.attacked(*n);
            if certain {
                self.enter(Phase::Fencing { of: *n });
                self.ask(*n, Question::Fence);
            } else {
                self.owe(*n, Cause::Doubt);
                self.enter(Phase::InDoubt { of: *n });
            }
            return;
        }
        if pays.iter().any(|(_, attempt)| attempt.pending()) {
            return;
        }
        if let Some((n, attempt)) = pays.iter().rev().find(|(_, attempt)| attempt.known.unknown()) {
            return self.doubt(*n, attempt, &pays);
        }
        self.onward(&pays);
    }

    /// The outcome of attempt `n` is unknown, and no effect is known.
    fn doubt(&mut self, n: u16, attempt: &Attempt, pays: &[(u16, Attempt)]) {
        let keyed = self.s.plan.policy.key != KeyKind::None;
        if let Some(ground) = self.s.beside_unknown()
            && keyed
            && self.may_send()
            && self.everything_else_licensed()
        {
            return self.beside(ground);
        }
        let fencing = self.s.plan.mode == Mode::Fence && self.believed_fence(attempt) == FenceStrength::F3;
        self.enter(if fencing {
            Phase::Fencing { of: n }
        } else {
            Phase::InDoubt { of: n }
        });
        if !keyed {
            // The application's next request will be a new payment: there is nothing to wait for.
            self.tell_doubt();
        }
        for (n, attempt) in pays {
            if attempt.known.unknown() {
                self.ask(*n, Question::Any);
            }
        }
    }

    fn tell_doubt(&mut self) {
        if self.s.parked {
            return;
        }
        self.decide(Decision::Parked);
        self.s.here.body = false;
        if std::mem::take(&mut self.s.here.caller) {
            let verdict = Verdict::InDoubt { running: false };
            self.actions
                .push(super::event::Action::Answer { verdict, replay: false });
        }
    }

    /// No attempt had an effect, and none will have one.
    fn onward(&mut self, pays: &[(u16, Attempt)]) {
        let Some((n, last)) = pays.last() else {
            return self.fail();
        };
        let bound = self.s.told.is_some() || self.s.abandoned;
        if bound || !pays.iter().all(|(_, attempt)| self.licensed(attempt)) || !self.declines_left(pays) {
            return self.fail();
        }
        let keyless_body_gone = self.s.plan.policy.key == KeyKind::None && !self.s.here.body;
        // A connection that the gateway had closed while it was idle says nothing about the gateway.
        let round = self.s.round();
        let tries = round.filter(|(_, attempt)| attempt.gateway == last.gateway).count();
        let retries = usize::from(self.s.plan.policy.same_gateway_retries);
        let idle = last.known.outcome() == Outcome::NotSent && last.reused;
        // A key that a fence may have claimed already is of no use for another sending.
        let idle = idle && self.acting(*n, Leg::Fence).is_empty();
        let again = (idle && tries <= retries).then_some(last.gateway);
        let Some(next) = again.or_else(|| self.next_gateway()) else {
            return self.fail();
        };
        if keyless_body_gone {
            return self.fail();
        }
        if again.is_none() && !self.sealed_off(pays) {
            return;
        }
        if !self.may_send() {
            self.enter(Phase::Licensed);
            return;
        }
        if again.is_none() {
            let after = pays.iter().map(|(n, _)| *n).collect();
            self.decide(Decision::FailoverLicensed {
                after,
                ground: Ground::Proof,
            });
            self.notify(Notice::FailedOver {
                from: last.gateway,
                to: next,
            });
        }
        self.pay(next);
    }

    /// Whether every earlier gateway is closed to this payment where the plan wants it closed; asks for it where not.
    fn sealed_off(&mut self, pays: &[(u16, Attempt)]) -> bool {
        let open = pays.iter().find(|(_, attempt)| {
            let declined = matches!(attempt.known.outcome(), Outcome::Declined(_));
            let stays = self
                .s
                .gateway_of(attempt)
                .is_some_and(|gateway| gateway.declines_stay_open);
            let wanted = self.s.plan.policy.fence_before_secondary || (declined && stays);
            wanted && !attempt.known.fenced() && !attempt.released
        });
        let Some((n, attempt)) = open else { return true };
        // A fence that was concluded without closing it will not close it the next time.
        let tried = self.fence_tried(*n, Key::fence(attempt.ids.payment.is_some()));
        if self.believed_fence(attempt) == FenceStrength::F3 && !tried {
            self.enter(Phase::Fencing { of: *n });
            self.ask(*n, Question::Fence);
        } else {
            self.fail();
        }
        false
    }

    /// Asks another gateway although the outcome of an attempt is unknown. Every such attempt is owed a release first
    /// (D4), which falls away if it becomes the winner.
    pub(super) fn beside(&mut self, ground: Ground) {
        let Some(next) = self.next_gateway() else { return };
        let pays: Vec<(u16, u8, bool)> = self
            .s
            .pays()
            .map(|(n, attempt)| (n, attempt.gateway, attempt.harmless()))
            .collect();
        for (n, _, harmless) in &pays {
            if !harmless {
                self.owe(*n, Cause::Doubt);
            }
        }
        let after = pays.iter().map(|(n, ..)| *n).collect();
        self.decide(Decision::FailoverLicensed { after, ground });
        if let Some((_, from, _)) = pays.last() {
            self.notify(Notice::FailedOver { from: *from, to: next });
        }
        self.pay(next);
    }

    /// Whether the body is at hand, the application waits, and there is another gateway.
    pub(super) fn may_send(&self) -> bool {
        let possible = self.s.here.body && !self.s.parked && !self.s.abandoned && self.s.told.is_none();
        possible && (self.next_gateway().is_some() || self.s.plan.policy.same_gateway_retries > 0)
    }

    /// Whether every attempt that is proven without effect lets another gateway be asked.
    pub(super) fn everything_else_licensed(&self) -> bool {
        self.next_gateway().is_some()
            && self
                .s
                .pays()
                .all(|(_, attempt)| !attempt.harmless() || self.licensed(attempt))
    }

    /// Whether an attempt without effect lets another gateway be asked: the licence of safety.md 2.2.
    fn licensed(&self, attempt: &Attempt) -> bool {
        let policy = self.s.plan.policy;
        let keyed = policy.key != KeyKind::None;
        match attempt.known.outcome() {
            Outcome::NotSent | Outcome::Rejected(Rejection::Transient) => true,
            Outcome::Rejected(Rejection::Account) => policy.account_fault,
            Outcome::Rejected(Rejection::Request) => false,
            Outcome::Fenced => keyed,
            Outcome::Declined(class) => {
                keyed
                    && match class {
                        DeclineClass::Soft => policy.soft_decline,
                        DeclineClass::RetryLater => policy.gateway_decline && attempt.gateway_side,
                        DeclineClass::Config => policy.account_fault,
                        DeclineClass::Hard | DeclineClass::Fraud | DeclineClass::Ambiguous => false,
                    }
            }
            _ => attempt.released && keyed,
        }
    }

    fn declines_left(&self, pays: &[(u16, Attempt)]) -> bool {
        let declines = pays
            .iter()
            .filter(|(_, attempt)| matches!(attempt.known.outcome(), Outcome::Declined(_)));
        declines.count() <= usize::from(self.s.plan.policy.decline_failovers)
    }

    /// The first gateway of the plan behind all that were asked in this round, if earlier rounds left it open.
    pub(super) fn next_gateway(&self) -> Option<u8> {
        let asked = self.s.round().map(|(_, attempt)| attempt.gateway.saturating_add(1));
        self.s.open_behind(asked.max().unwrap_or(0), self.s.earlier)
    }

    /// Fails, with proof: every attempt is harmless. The answer is the latest decline, or else the round's first refusal.
    pub(super) fn fail(&mut self) {
        if let Some(n) = self.s.dangerous() {
            return self.hold(Hold::Unexplained { n });
        }
        let declined = self
            .s
            .pays()
            .rev()
            .find(|(_, a)| matches!(a.known.outcome(), Outcome::Declined(_)));
        let rejected = self
            .s
            .round()
            .find(|(_, a)| matches!(a.known.outcome(), Outcome::Rejected(_)));
        let (n, why) = match (declined, rejected) {
            _ if self.s.abandoned => (None, Failure::Abandoned),
            (Some((n, _)), _) => (Some(n), Failure::Declined),
            (None, Some((n, _))) => (Some(n), Failure::Rejected),
            (None, None) if self.s.pays().any(|(_, a)| a.released) => (None, Failure::Revoked),
            (None, None) => (None, Failure::NotExecuted),
        };
        let fault = |rejection| matches!(rejection, Rejection::Account);
        let at_fault: Vec<u16> = self
            .s
            .round()
            .filter(|(_, a)| matches!(a.known.outcome(), Outcome::Rejected(rejection) if fault(rejection)))
            .map(|(n, _)| n)
            .collect();
        for n in at_fault {
            self.notify(Notice::Misconfigured { n });
        }
        self.decide(Decision::Failed { n, why });
        self.seal(Verdict::Failed { n, why });
    }

    /// Owes what is to be released, and drives what is owed.
    fn discharge_all(&mut self) {
        if let Some(winner) = self.s.winner {
            let losers: Vec<u16> = self
                .s
                .pays()
                .filter(|(n, a)| *n != winner && !a.harmless())
                .map(|(n, _)| n)
                .collect();
            for loser in losers {
                self.owe(loser, Cause::Loser);
            }
        }
        for index in 0..self.s.obligations.len() {
            let owed = &self.s.obligations[index];
            if owed.proof.is_none() {
                let (target, cause) = (owed.target, owed.cause);
                self.drive(target, cause);
            }
        }
    }

    /// Drives one obligation: until there is proof that nothing is left to release.
    fn drive(&mut self, m: u16, cause: Cause) {
        let Some(attempt) = self.attempt(m) else { return };
        if attempt.harmless() {
            let proof = if attempt.released {
                Proof::Released
            } else {
                Proof::NoEffect
            };
            return self.discharge(m, proof);
        }
        let won = self.s.winner == Some(m);
        if won && matches!(cause, Cause::Doubt | Cause::Loser) {
            return self.discharge(m, Proof::Won);
        }
        if won && cause == Cause::CaptureFailed && attempt.known.outcome() == Outcome::Succeeded && !self.attacked(m) {
            // It was captured after all.
            return self.discharge(m, Proof::Won);
        }
        let doomed = attempt.known.effect() || attempt.known.outcome() == Outcome::ActionRequired;
        let decided = self.s.winner.is_some() || doomed;
        if !decided || attempt.pending() {
            return;
        }
        match attempt.known.outcome() {
            Outcome::Authorised => self.release(m, Leg::Void),
            Outcome::Succeeded => self.release(m, Leg::Refund),
            _ => self.ask(m, Question::Any),
        }
    }

    /// Voids or refunds an attempt's effect.
    fn release(&mut self, m: u16, leg: Leg) {
        let Some((r, release)) = self.acting(m, leg).into_iter().find(|(_, r)| r.why == Why::Release) else {
            return self.act(m, leg, Why::Release);
        };
        if self.busy(r) {
            return;
        }
        match release.known.outcome() {
            // Another owner's exchange: it ends, or its owner is lost.
            Outcome::Unknown if release.pending() => {}
            Outcome::Unknown if release.accepted => self.ask(m, Question::LookUp),
            Outcome::Unknown if release.observed => {
                if leg == Leg::Void || self.replayable(&release) {
                    self.resend(r);
                } else {
                    self.ask(r, Question::LookUp);
                }
                if leg == Leg::Void {
                    self.ask(m, Question::LookUp);
                }
            }
            Outcome::NotSent | Outcome::Rejected(Rejection::Transient | Rejection::Account) => {
                self.act(m, leg, Why::Release);
            }
            // What is to be released is not as it was thought to be.
            _ => self.ask(m, Question::LookUp),
        }
    }

    /// Plans a modification of an attempt at its own gateway, for Sentinel itself.
    fn act(&mut self, of: u16, leg: Leg, why: Why) {
        let Some(target) = self.s.attempt(of) else { return };
        let (gateway, amount) = (target.gateway, target.amount);
        self.plan(gateway, leg, Some(of), why, Key::Derived { nth: 0 }, amount);
    }

    /// Asks what became of an attempt, or makes it impossible. One question at a time, with pauses.
    fn ask(&mut self, of: u16, question: Question) {
        let Some(target) = self.attempt(of) else { return };
        let Some(gateway) = self.s.gateway_of(&target) else {
            return;
        };
        let strength = gateway.fence;
        // A weak fence may end what it finds and proves nothing else, so that it is only used where the end is wanted.
        let wanted = self.s.owed(of) && self.s.winner.is_some_and(|winner| winner != of);
        let assumed = self.s.plan.policy.assume_quiescent_after.is_some();
        let fence = target.why == Why::Pay
            && match question {
                Question::Any => {
                    strength == FenceStrength::F3 || (strength == FenceStrength::F2 && (wanted || assumed))
                }
                Question::LookUp => false,
                Question::Fence => strength >= FenceStrength::F2,
            };
        let look_up = gateway.lookup && question != Question::Fence;
        // A fence that was concluded would find the same once more, and may not become loose again. One by id is another
        // than one by key: an attempt of its own, which is made where the end is wanted of what had arrived, once it can be
        // named. Until then, and where no end is wanted, looking is what is left.
        let key = Key::fence(target.ids.payment.is_some());
        let fence = fence && !self.fence_tried(of, key) && !(look_up && !wanted && self.fence_over(of));
        let asked = |leg| self.acting(of, leg).into_iter().next();
        let fence_n = asked(Leg::Fence).filter(|(_, fence)| fence.key == key);
        let (fence_n, look_up_n) = (fence_n.map(|(n, _)| n), asked(Leg::Lookup).map(|(n, _)| n));
        let in_flight = |n: Option<u16>| n.is_some_and(|n| self.s.here.in_flight.contains(&n));
        if self.s.here.waiting.contains(&of) || in_flight(fence_n) || in_flight(look_up_n) {
            return;
        }
        let fenced_last = self.s.here.fenced_last.contains(&of);
        // Without a winner a gated payment would rather find its authorisation than end it.
        let gentle = self.s.plan.mode == Mode::Gated && self.s.winner.is_none() && fence_n.is_none() && !wanted;
        let leg = match (fence, look_up) {
            (true, true) if fenced_last || (gentle && look_up_n.is_none()) => Leg::Lookup,
            (true, _) => Leg::Fence,
            (false, true) => Leg::Lookup,
            (false, false) => return,
        };
        match if leg == Leg::Fence { fence_n } else { look_up_n } {
            Some(n) => self.send(n),
            None => {
                let key = if leg == Leg::Fence {
                    key
                } else {
                    Key::Derived { nth: 0 }
                };
                self.plan(target.gateway, leg, Some(of), Why::Resolve, key, target.amount);
            }
        }
    }
}
