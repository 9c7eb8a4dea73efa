//! The shell around the production `step`, as thin as `payment::core` allows it to be, and the twists of it.

use std::cell::RefCell;
use std::rc::Rc;

use sentinel::gateway::Leg;
use sentinel::gateway::outcome::Outcome;
use sentinel::payment::core::{
    Action, Decision, Event, Failure, Finding, FollowUpVerdict, Ids, Key, Phase, Record, State, Verdict, What, Why,
    step,
};

use super::gateway::KeyId;
use super::hash::{self, Map};
use super::scenario::{KEY_HOURS, NAMES, Scenario, Twist, WHOLE, tenths};
use super::world::{Ev, Held, Move};

/// What a step led to.
pub struct Stepped {
    /// What the replica holds now.
    pub held: Held,
    /// What it has to do.
    pub moves: Rc<[Move]>,
}

/// The shell of one scenario. Steps are remembered: replicas meet the same states in many interleavings.
pub struct Shell<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    steps: RefCell<Map<u64, Rc<Stepped>>>,
}

impl<'a> Shell<'a> {
    /// A shell.
    pub fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            steps: RefCell::default(),
        }
    }

    /// The ledger's clock.
    fn now(&self, clock: u8) -> i64 {
        let window = i64::from(KEY_HOURS) * 3600;
        1_000_000 + [0, window * 85 / 100, window * 110 / 100][usize::from(clock)]
    }

    /// The production step, with what the twist makes of it.
    pub fn step(&self, held: &Held, ev: Ev, clock: u8) -> Rc<Stepped> {
        let key = hash::of(&(held.hash, ev, clock));
        if let Some(known) = self.steps.borrow().get(&key) {
            return Rc::clone(known);
        }
        let stepped = Rc::new(self.stepped(held, ev, clock));
        self.steps.borrow_mut().insert(key, Rc::clone(&stepped));
        stepped
    }

    fn stepped(&self, held: &Held, ev: Ev, clock: u8) -> Stepped {
        let mut state = (*held.state).clone();
        let loading = matches!(ev, Ev::Recovered | Ev::Retry) && state.phase != Phase::New;
        match self.scenario.twist {
            Some(Twist::PlanNotPinned) if ev == Ev::Recovered => {
                let orders = self.scenario.orders.len();
                let other = (0..orders).map(|order| self.scenario.plan(order));
                if let Some(plan) = other.into_iter().find(|plan| plan.gateways != state.plan.gateways) {
                    state.plan = std::sync::Arc::new(plan.into());
                }
            }
            Some(Twist::RecoveryAssumesUnsent) if ev == Ev::Recovered => {
                let pending: Vec<u16> = state.numbered().filter(|(_, a)| a.pending()).map(|(n, _)| n).collect();
                for n in pending {
                    state.fold(&observed(n, Outcome::NotSent));
                }
            }
            Some(Twist::ReopensInDoubt) if ev == Ev::Retry && state.parked => not_executed(&mut state),
            Some(Twist::DoubtIsNothing) if matches!(ev, Ev::FollowUp(_)) => {
                let doubtful = state.numbered().filter(|(_, attempt)| state.open_follow_up(attempt));
                let doubtful: Vec<u16> = doubtful.map(|(n, _)| n).collect();
                for n in doubtful {
                    state.fold(&observed(n, Outcome::NotSent));
                }
            }
            Some(Twist::ObligationsForgotten) if loading => state.obligations.clear(),
            Some(Twist::ResentIsBelieved) => {
                for attempt in &mut state.attempts {
                    attempt.sends = 1;
                }
            }
            _ => {}
        }
        let stored = |state: &State| {
            let mut stored = state.clone();
            stored.here = sentinel::payment::core::Here::default();
            stored
        };
        let mut replayed = stored(&state);
        let event = Event {
            at: self.now(clock),
            what: self.what(&state, ev),
        };
        let (after, actions) = step(state, event);
        let mut moves = Vec::new();
        for action in actions {
            match action {
                Action::Persist(records) => {
                    for record in &records {
                        replayed.fold(record);
                    }
                    assert_eq!(replayed, stored(&after), "the state is not the fold of its records");
                    moves.push(Move::Persist {
                        base: held.durable,
                        after: Held::new(stored(&after)),
                        records: records.into(),
                        event: ev,
                    });
                }
                Action::Send(send) => moves.push(Move::Send(send, clock)),
                Action::Answer { verdict, .. } => moves.push(Move::Answer(self.told(verdict))),
                Action::AnswerFollowUp { request, verdict } => {
                    let key = request.as_deref().and_then(|_| follow_up_key(&after, verdict));
                    let done = match verdict {
                        FollowUpVerdict::Done { .. } => Some(true),
                        // "It never left" lets the same request be sent again; whether it is true is a rule of its own.
                        FollowUpVerdict::Refused { .. } => Some(false),
                        _ => None,
                    };
                    moves.push(Move::AnswerFollowUp(key, done));
                }
                Action::Schedule { .. } | Action::Notify(_) => {}
            }
        }
        match self.scenario.twist {
            Some(Twist::SendsFirst) => moves.sort_by_key(|m| !matches!(m, Move::Send(..))),
            Some(Twist::CaptureFirst) => {
                moves.sort_by_key(|m| !matches!(m, Move::Send(send, _) if send.leg == Leg::Capture));
                if let Ev::Observed { n, answer } = ev
                    && answer.outcome == Outcome::Authorised
                    && let Some(capture) = premature(&after, n)
                {
                    moves.insert(0, Move::Send(capture, clock));
                }
            }
            Some(Twist::SuccessFirst) => {
                moves.sort_by_key(|m| {
                    !matches!(m, Move::Answer(Verdict::Succeeded { .. } | Verdict::Authorised { .. }))
                });
            }
            Some(Twist::AnswersFirst) => moves.sort_by_key(|m| !matches!(m, Move::Answer(_))),
            _ => {}
        }
        Stepped {
            held: Held::new(after),
            moves: moves.into(),
        }
    }

    fn what(&self, state: &State, ev: Ev) -> What {
        match ev {
            Ev::Open(order) => What::Open(Box::new(self.scenario.plan(usize::from(order)))),
            Ev::Retry => What::Retry,
            Ev::Observed { n, answer } | Ev::Webhook { n, answer } => {
                let outcome = self.read(state, n, answer.outcome);
                let id = || "id".to_owned();
                // A refund is known by its own id, to whoever asks about it as well.
                let attempt = state.attempt(n);
                let about = match attempt.map(|attempt| attempt.leg) {
                    Some(Leg::Lookup) => attempt.and_then(|attempt| attempt.of),
                    _ => Some(n),
                };
                let refund = about.filter(|about| state.attempt(*about).is_some_and(|a| a.leg == Leg::Refund));
                let made = matches!(ev, Ev::Webhook { .. })
                    || answer.pending
                    || matches!(outcome, Outcome::Succeeded | Outcome::Declined(_));
                let refund = refund.filter(|_| self.scenario.budget.returns > 0 && made);
                What::Observed {
                    n,
                    finding: Box::new(Finding {
                        pending: answer.pending,
                        reused: answer.reused,
                        arrived: answer.arrived,
                        amount: Some(WHOLE / 2)
                            .filter(|_| answer.less && self.scenario.twist != Some(Twist::AmountUnread))
                            .and_then(tenths),
                        ids: Ids {
                            payment: answer.id.then(id),
                            modification: refund.map(|about| format!("refund {about}")),
                            ..Ids::default()
                        },
                        ..Finding::bare(outcome, "model")
                    }),
                    evidence: None,
                }
            }
            Ev::Hedge(n) => What::Hedge { n },
            Ev::Deadline => What::Deadline,
            Ev::Disconnected => What::Disconnected,
            Ev::Timer(n) => What::Timer { n },
            Ev::FollowUp(index) => What::FollowUp {
                request: Some(format!("follow-up {index}")),
                leg: self.scenario.follow_ups[usize::from(index)].0,
                amount: Some(self.scenario.follow_ups[usize::from(index)].1)
                    .filter(|part| *part > 0)
                    .and_then(tenths),
                keeps: false,
            },
            Ev::Recovered if self.scenario.twist == Some(Twist::ReopensUnasked) && state.reopens() => What::Retry,
            Ev::Recovered => What::Recovered {
                owner: "replica".to_owned(),
                epoch: state.epoch + 1,
            },
            Ev::Expired => What::Expired,
            Ev::Aged => What::Aged,
            Ev::Person(resolution) => What::Resolve {
                operator: "person".to_owned(),
                reason: "the gateways' books".to_owned(),
                resolution,
            },
        }
    }

    /// What the shell reads from an answer; exactly the answer, unless twisted.
    fn read(&self, state: &State, n: u16, outcome: Outcome) -> Outcome {
        let leg = state.attempt(n).map(|attempt| attempt.leg);
        match (self.scenario.twist, outcome) {
            (Some(Twist::NotFoundIsNever), Outcome::Unknown) if leg == Some(Leg::Lookup) => Outcome::Fenced,
            _ => outcome,
        }
    }

    fn told(&self, verdict: Verdict) -> Verdict {
        match (self.scenario.twist, verdict) {
            (Some(Twist::GiveUpIsFailed), Verdict::InDoubt { .. }) => Verdict::Failed {
                n: None,
                why: Failure::NotExecuted,
            },
            _ => verdict,
        }
    }

    /// What a timeout is reported as.
    pub fn timeout(&self) -> Outcome {
        match self.scenario.twist {
            Some(Twist::TimeoutIsNotSent) => Outcome::NotSent,
            _ => Outcome::Unknown,
        }
    }

    /// The index of an attempt's gateway.
    pub fn gateway(&self, state: &State, gateway: u8) -> Option<u8> {
        let name = &state.plan.gateway(gateway)?.name;
        NAMES.iter().position(|known| known == name).map(|index| index as u8)
    }

    /// The key by which a gateway knows attempt `n`, when `replica` computes it.
    pub fn key(&self, state: &State, n: u16, replica: u8) -> Option<KeyId> {
        let attempt = state.attempt(n)?;
        let gateway = usize::from(self.gateway(state, attempt.gateway)?);
        if matches!(attempt.leg, Leg::Charge | Leg::Auth) {
            if self.scenario.twist == Some(Twist::FreshKeys) {
                return Some(KeyId::Fresh(1000 + 10 * n + u16::from(replica)));
            }
            if !self.scenario.facts[gateway].keys {
                return Some(KeyId::Fresh(n));
            }
        }
        Some(match attempt.key {
            Key::Application => KeyId::Application,
            Key::Derived { nth } => KeyId::Derived(attempt.leg, nth),
        })
    }
}

/// Makes of a payment in doubt one that failed because nobody executed it.
fn not_executed(state: &mut State) {
    let unknown: Vec<u16> = state
        .pays()
        .filter(|(_, a)| a.known.unknown())
        .map(|(n, _)| n)
        .collect();
    for n in unknown {
        state.fold(&observed(n, Outcome::NotSent));
    }
    let (n, why) = (None, Failure::NotExecuted);
    state.fold(&Record::Decision(Decision::Failed { n, why }));
    state.fold(&Record::ResponseSealed {
        verdict: Verdict::Failed { n, why },
    });
}

fn observed(n: u16, outcome: Outcome) -> Record {
    Record::AttemptObserved {
        n,
        via: None,
        finding: Box::new(Finding::bare(outcome, "model")),
        evidence: None,
        at: 0,
    }
}

/// A capture of `n` as an eager shell would send it: before anybody wrote down a winner.
fn premature(after: &State, n: u16) -> Option<sentinel::payment::core::Send> {
    let attempt = after.attempt(n)?;
    (attempt.leg == Leg::Auth).then(|| sentinel::payment::core::Send {
        n: 100 + n,
        gateway: attempt.gateway,
        leg: Leg::Capture,
        of: Some(n),
        key: Key::Derived { nth: 0 },
        amount: attempt.amount,
    })
}

fn follow_up_key(state: &State, verdict: FollowUpVerdict) -> Option<KeyId> {
    let n = match verdict {
        FollowUpVerdict::Done { n }
        | FollowUpVerdict::Accepted { n }
        | FollowUpVerdict::Refused { n }
        | FollowUpVerdict::NotSent { n }
        | FollowUpVerdict::InDoubt { n } => n,
        FollowUpVerdict::Impossible(_) => return None,
    };
    let attempt = state
        .attempt(n)
        .filter(|attempt| matches!(attempt.why, Why::FollowUp(_)))?;
    match attempt.key {
        Key::Derived { nth } => Some(KeyId::Derived(attempt.leg, nth)),
        Key::Application => Some(KeyId::Application),
    }
}
