//! Taking events in: what happened becomes records, nothing is decided yet.

use super::event::{Action, Finding, Verdict, What};
use super::keys::Key;
use super::plan::{KeyKind, Pinned, Undelivered};
use super::record::{Decision, Ground, Hold, Record};
use super::state::{Attempt, FollowUp, Here, Phase, Why};
use super::turn::Turn;
use crate::config::model::Mode;
use crate::gateway::outcome::{Outcome, Rejection};
use crate::gateway::{FenceStrength, Leg};
use crate::upstream::Evidence;

impl Turn {
    /// Takes one event in. `false` when it is none of the payment's business and nothing is to be decided.
    pub(super) fn absorb(&mut self, what: What) -> bool {
        match what {
            What::Open(plan) => return self.open(*plan),
            What::Retry => return self.retry(),
            What::Observed { n, finding, evidence } => self.observed(n, *finding, evidence),
            What::Skipped { n, reason } => self.observed(n, Finding::bare(Outcome::NotSent, reason), None),
            What::Hedge { n } => self.hedge(n),
            What::Deadline => self.deadline(),
            What::Disconnected => self.disconnected(),
            What::Timer { n } => self.s.here.waiting.retain(|&waiting| waiting != n),
            What::FollowUp {
                request,
                leg,
                amount,
                keeps,
            } => self.follow_up(FollowUp {
                request,
                leg,
                amount,
                keeps,
            }),
            What::Recovered { owner, epoch } => self.recovered(owner, epoch),
            What::Expired => self.expired(),
            What::Aged => {
                if !self.s.finished() && self.s.phase != Phase::Manual && self.s.phase != Phase::New {
                    self.hold(Hold::Aged);
                }
            }
            What::Resolve {
                operator,
                reason,
                resolution,
            } => return self.resolve(operator, reason, resolution),
        }
        true
    }

    fn open(&mut self, plan: super::plan::Plan) -> bool {
        if self.s.phase != Phase::New {
            // The ledger lets a payment be opened once; a second open is a caller's mistake and means "again".
            return self.retry();
        }
        let plan = std::sync::Arc::new(Pinned::from(plan.settled()));
        self.s.here = Here {
            body: true,
            caller: true,
            ..Here::default()
        };
        let any = !plan.gateways.is_empty();
        self.record(Record::IntentOpened { plan });
        if any {
            self.pay(0);
        } else {
            self.fail();
        }
        false
    }

    fn retry(&mut self) -> bool {
        match self.s.told {
            Some(_) if self.s.reopens() => {
                self.reopen();
                return false;
            }
            Some(verdict) => {
                self.actions.push(Action::Answer { verdict, replay: true });
                return false;
            }
            None if matches!(self.s.phase, Phase::Manual | Phase::New) => {
                let verdict = Verdict::InDoubt { running: false };
                self.actions.push(Action::Answer { verdict, replay: false });
                return false;
            }
            None => {}
        }
        self.s.here.caller = true;
        self.s.here.body = true;
        self.s.here.waiting.clear();
        if self.s.parked {
            self.decide(Decision::Resumed);
        }
        // The same request under the same key asks the gateway for the stored outcome, or completes what never arrived.
        let open = self.s.pays().rev().find(|(_, attempt)| !attempt.harmless());
        let latest = open.map(|(n, attempt)| (n, attempt.clone()));
        if let Some((n, attempt)) = latest {
            let doubtful = attempt.known.unknown() && attempt.observed && !self.fence_loose(n) && !self.attacked(n);
            let wanted = self.s.beside_unknown().is_none() || self.next_gateway().is_none();
            let fences = self.believed_fence(&attempt) == FenceStrength::F3 && !self.fence_over(n);
            if doubtful && wanted && !fences && self.s.plan.policy.key != KeyKind::None && self.replayable(&attempt) {
                self.resend(n);
            }
        }
        true
    }

    /// An exchange ended, or a webhook spoke.
    fn observed(&mut self, n: u16, finding: Finding, evidence: Option<Box<Evidence>>) {
        self.s.here.in_flight.retain(|&sent| sent != n);
        let Some(attempt) = self.attempt(n) else { return };
        match attempt.leg {
            Leg::Fence | Leg::Lookup => self.answered(n, &attempt, finding, evidence),
            Leg::Charge | Leg::Auth => {
                let (n, attempt) = self.heir(n, attempt, finding.outcome);
                let finding = self.believed(n, &attempt, finding);
                self.learn(n, None, finding, evidence);
            }
            Leg::Capture | Leg::Void | Leg::Refund => {
                let finding = self.believed(n, &attempt, finding);
                let own = matches!(attempt.why, Why::Settle | Why::Release);
                let again = attempt.leg == Leg::Void || self.replayable(&attempt);
                let unsent = matches!(
                    finding.outcome,
                    Outcome::NotSent | Outcome::Rejected(Rejection::Transient | Rejection::Account)
                );
                if matches!(finding.outcome, Outcome::Rejected(Rejection::Account)) {
                    self.notify(super::event::Notice::Misconfigured { n });
                }
                // Sentinel's own modifications are driven until they are proven, under one key. That one sending did not
                // arrive decides nothing, and the same attempt is sent again after a pause.
                let finding = if own && unsent && again {
                    Finding {
                        outcome: Outcome::Unknown,
                        ..finding
                    }
                } else {
                    finding
                };
                let settled = !matches!(
                    finding.outcome,
                    Outcome::Unknown | Outcome::NotSent | Outcome::Rejected(_)
                );
                self.learn(n, None, finding, evidence);
                if !settled && own {
                    self.pause(n);
                }
                if let Why::FollowUp(index) = attempt.why {
                    self.follow_up_observed(index, n);
                }
            }
        }
    }

    /// What may be believed of an answer to an attempt that moves money.
    fn believed(&self, n: u16, attempt: &Attempt, mut finding: Finding) -> Finding {
        if let Some(undone) = undone(attempt, &finding) {
            return undone;
        }
        // After a second sending with the same key, that one of them did not execute says nothing about the other. Where
        // replicas may pass the application's request through without the ledger, there may always be another one.
        let passed = self.s.plan.policy.fence_before_secondary && attempt.key == Key::Application;
        // What a gateway says of the object that they made is said of both.
        let named = attempt.ids.modification.is_some() && attempt.ids.modification == finding.ids.modification;
        if (attempt.sends > 1 || passed) && !named && matches!(finding.outcome, Outcome::NotSent | Outcome::Rejected(_))
        {
            finding.outcome = Outcome::Unknown;
        }
        let modification = matches!(attempt.leg, Leg::Capture | Leg::Void | Leg::Refund);
        if finding.pending && finding.outcome == Outcome::Succeeded && modification {
            finding.outcome = Outcome::Unknown;
        }
        let effect = matches!(finding.outcome, Outcome::Authorised | Outcome::Succeeded);
        if let (true, Some(asked), Some(told)) = (effect && !modification, self.s.plan.amount, finding.amount)
            && asked != told
        {
            finding.outcome = Outcome::Conflict;
            "amount_differs".clone_into(&mut finding.rule);
        }
        // What is held of a sale is not taken: the gateway takes it by itself, or gives it back.
        if attempt.leg == Leg::Charge && finding.outcome == Outcome::Authorised {
            finding.outcome = Outcome::Unknown;
            finding.pending = true;
        }
        finding.gone = false;
        self.gone(n, attempt, finding)
    }

    /// Whom a fact is about: what provably never left was sent again to the same gateway under the same key and reference,
    /// and whoever asks by these hears of the latter.
    fn heir(&self, n: u16, attempt: Attempt, outcome: Outcome) -> (u16, Attempt) {
        let never_executed = |outcome| matches!(outcome, Outcome::NotSent | Outcome::Rejected(_));
        if never_executed(attempt.known.outcome()) && outcome != Outcome::Unknown && !never_executed(outcome) {
            let same = |a: &Attempt| {
                (a.gateway, a.leg, a.of, a.key) == (attempt.gateway, attempt.leg, attempt.of, attempt.key)
            };
            let mut later = self.s.numbered().rev().take_while(|(later, _)| *later > n);
            if let Some((later, heir)) = later.find(|(_, a)| same(a)) {
                return (later, heir.clone());
            }
        }
        (n, attempt)
    }

    /// A hold that is known, and then told to be cancelled, is no contradiction: it was voided, or it expired. For money
    /// that was taken it is one, in whatever order the two are told: at once, by a capture, or as the application believes.
    /// Told before the hold, the hold must be that of the very object that was cancelled: a hold behind a claimed key would
    /// be a broken guarantee.
    fn gone(&self, n: u16, target: &Attempt, mut finding: Finding) -> Finding {
        let ended = |of: u16| {
            self.s
                .attempt(of)
                .is_some_and(|held| held.leg == Leg::Auth && held.harmless())
        };
        let same = target.ids.payment.is_some() && target.ids.payment == finding.ids.payment;
        let known = target.known;
        match (target.leg, finding.outcome) {
            (Leg::Auth, Outcome::Fenced) if known.effect() => {
                let mut captures = self.acting(n, Leg::Capture);
                captures.retain(|(_, capture)| capture.over());
                let told = self.s.told == Some(Verdict::Succeeded { n });
                let whole = captures.iter().any(|(_, capture)| !self.s.keeps(capture));
                if told || whole || known.outcome() == Outcome::Succeeded {
                    contradicts(&mut finding);
                } else {
                    // What captures of parts left of it is held no more; what they took stays taken.
                    finding.outcome = Outcome::Unknown;
                    finding.gone = captures.is_empty();
                }
            }
            (Leg::Auth, Outcome::Authorised) if known.fenced() && !known.effect() && same => {
                finding.outcome = Outcome::Unknown;
                finding.gone = true;
            }
            (Leg::Auth, Outcome::Succeeded) if target.released && known.outcome() == Outcome::Authorised => {
                contradicts(&mut finding);
            }
            (Leg::Capture, Outcome::Succeeded) if !target.over() && target.of.is_some_and(ended) => {
                contradicts(&mut finding);
            }
            _ => {}
        }
        finding
    }

    /// A fence or look-up was answered.
    fn answered(&mut self, n: u16, question: &Attempt, finding: Finding, evidence: Option<Box<Evidence>>) {
        let Some((of, target)) = question.of.and_then(|of| Some((of, self.attempt(of)?))) else {
            return;
        };
        if question.leg == Leg::Fence {
            if !self.s.here.fenced_last.contains(&of) {
                self.s.here.fenced_last.push(of);
            }
        } else {
            self.s.here.fenced_last.retain(|&fenced| fenced != of);
        }
        // A fence claims the key of its target, and a key that the gateway may have forgotten can be claimed although its
        // original was executed long ago (D7). Only a fence by the object's id is worth something then.
        let named = self.replayable(&target) || question.key == Key::BY_ID;
        let strong = named && (self.believed_fence(&target) == FenceStrength::F3 || self.quiescent(&target));
        let modification = matches!(target.leg, Leg::Capture | Leg::Void | Leg::Refund);
        let conclusive = match finding.outcome {
            Outcome::NotSent | Outcome::Rejected(_) | Outcome::Unknown => false,
            // A weak fence acts only on what has arrived. A look-up that sees the object cancelled is a fact.
            Outcome::Fenced => question.leg == Leg::Lookup || strong,
            // Of a modification only its doing or its impossibility is news.
            Outcome::Authorised | Outcome::ActionRequired => !modification,
            Outcome::Declined(_) | Outcome::Succeeded | Outcome::Conflict => true,
        };
        // A fence whose key the original had taken is over, too: it cannot end what the original made.
        let over = conclusive || (question.leg == Leg::Fence && finding.arrived);
        let outcome = if over { Outcome::Succeeded } else { Outcome::Unknown };
        let note = Finding {
            outcome,
            ids: super::state::Ids::default(),
            amount: None,
            ..finding.clone()
        };
        self.learn(n, None, Finding { pending: false, ..note }, evidence);
        if conclusive {
            let (of, target) = self.heir(of, target, finding.outcome);
            let finding = self.believed(of, &target, finding);
            self.learn(of, Some(n), finding, None);
        } else if question.leg == Leg::Lookup && finding.ids.payment.is_some() {
            // The object was found, its outcome is still open: it can be named from now on.
            let found = Finding {
                outcome: Outcome::Unknown,
                pending: false,
                ..finding
            };
            self.learn(of, Some(n), found, None);
        }
        // The next question has to wait, if that did not decide it or a release is still to be proven.
        let open = self
            .attempt(of)
            .is_some_and(|target| !target.harmless() && (self.s.owed(of) || !self.decided(of, &target)));
        if open {
            self.pause(of);
        }
    }

    /// Whether nothing more has to be asked about an attempt.
    fn decided(&self, n: u16, attempt: &Attempt) -> bool {
        attempt.known.effect() && !self.fence_loose(n)
    }

    /// The fence that is believed at an attempt's gateway.
    pub(super) fn believed_fence(&self, attempt: &Attempt) -> FenceStrength {
        self.s
            .gateway_of(attempt)
            .map_or(FenceStrength::F0, |gateway| gateway.fence)
    }

    /// Whether the operator's assumption A5 covers an attempt: nothing executes so long after it was planned.
    fn quiescent(&self, attempt: &Attempt) -> bool {
        let age = self.at.saturating_sub(attempt.at);
        self.s
            .plan
            .policy
            .assume_quiescent_after
            .is_some_and(|after| age >= i64::from(after))
    }

    fn hedge(&mut self, n: u16) {
        let gated = self.s.plan.mode == Mode::Gated && self.s.plan.policy.key != KeyKind::None;
        let slow = self
            .s
            .pays()
            .next_back()
            .is_some_and(|(last, attempt)| last == n && attempt.pending());
        if gated && slow && self.s.winner.is_none() && self.may_send() && self.everything_else_licensed() {
            self.beside(Ground::Gated);
        }
    }

    fn deadline(&mut self) {
        if self.s.told.is_some() || matches!(self.s.phase, Phase::New | Phase::Manual) || self.s.parked {
            return;
        }
        self.decide(Decision::Parked);
        self.s.here.body = false;
        if std::mem::take(&mut self.s.here.caller) {
            self.actions.push(Action::Answer {
                verdict: Verdict::InDoubt { running: false },
                replay: false,
            });
        }
    }

    fn disconnected(&mut self) {
        let policy = self.s.plan.policy;
        self.s.here.caller = false;
        // With a key the application asks again and finds what became of it. Without one nobody ever will, so that no
        // further gateway is asked; what was sent is never taken back by a closed connection alone.
        if policy.key == KeyKind::None {
            self.s.here.body = false;
            let failed = matches!(self.s.phase, Phase::Failed { .. } | Phase::New | Phase::Manual);
            if policy.undelivered == Undelivered::Void && !failed && !self.s.abandoned {
                self.record(Record::Abandoned);
            }
        }
    }

    fn recovered(&mut self, owner: String, epoch: u64) {
        if self.s.phase == Phase::New {
            return;
        }
        self.s.here = Here::default();
        self.record(Record::LeaseTaken { owner, epoch });
        // Whatever was planned may have been sent whole just before the crash.
        let unheard: Vec<(u16, Why)> = self
            .s
            .numbered()
            .filter(|(_, attempt)| !attempt.observed)
            .map(|(n, attempt)| (n, attempt.why))
            .collect();
        for (n, why) in unheard {
            self.learn(n, None, Finding::bare(Outcome::Unknown, "owner_lost"), None);
            if let Why::FollowUp(index) = why {
                self.follow_up_observed(index, n);
            }
        }
    }

    fn expired(&mut self) {
        if self.s.phase == Phase::Licensed {
            self.fail();
        }
    }
}

fn contradicts(finding: &mut Finding) {
    finding.outcome = Outcome::Conflict;
    "cancelled_and_taken".clone_into(&mut finding.rule);
}

/// What is told of a refund whose end is known, where that is no contradiction: a refund that was made can fail days later,
/// when the bank sends the money back, and then it is with the merchant again. Its failure is its last word, also where it
/// is heard before the success that it ended.
///
/// Only of the very object, and only of a refund that the application asked for: it hears of it and decides. That
/// Sentinel's own release came back means that the customer has paid twice, and is for a person.
fn undone(refund: &Attempt, told: &Finding) -> Option<Finding> {
    let same = refund.ids.modification.is_some() && refund.ids.modification == told.ids.modification;
    if refund.leg != Leg::Refund || !matches!(refund.why, Why::FollowUp(_)) || !same {
        return None;
    }
    let failed = |outcome| matches!(outcome, Outcome::Rejected(_) | Outcome::Declined(_));
    let gone = refund.over() && failed(told.outcome);
    let history = failed(refund.known.outcome()) && told.outcome == Outcome::Succeeded;
    (gone || history).then(|| Finding {
        outcome: Outcome::Unknown,
        pending: false,
        gone,
        ..told.clone()
    })
}
