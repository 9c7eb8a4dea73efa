//! What must hold, judged by the gateways' own books and not by anything that Sentinel believes.
//!
//! Rules are those of safety.md 2.8. Unsafe variants are judged by I1 to I4 alone: a twist counts as caught when money or
//! the application's knowledge of it is wrong, not when an inner rule was bent. Safe configurations are held to the inner
//! rules, too: what is written down as proof is true, and the core's own assertions and conflicts never occur.

use sentinel::config::model::Mode;
use sentinel::gateway::Leg;
use sentinel::payment::core::{Decision, Hold, Intent, Phase, Record, Send, State, Why};

use super::act::Broken;
use super::gateway::{KeyId, Life, Object};
use super::scenario::WHOLE;
use super::shell::Shell;
use super::world::{Ev, Told, World};

/// The rule that a world breaks.
pub fn broken(shell: &Shell<'_>, w: &World) -> Option<Broken> {
    let judged = one_effect(shell, w).or_else(|| told(shell, w)).or_else(|| sums(w));
    judged.or_else(|| {
        let strict = shell.scenario.strict;
        strict.then(|| proofs(shell, w).or_else(|| follow_ups(w)))?
    })
}

fn objects(w: &World) -> impl Iterator<Item = (usize, &Object)> {
    let gateways = w.gateways.iter().enumerate();
    gateways.flat_map(|(g, gateway)| gateway.objects.iter().map(move |object| (g, object)))
}

fn live(object: &Object) -> bool {
    matches!(object.life, Life::Held | Life::Taken)
}

/// I1 and I1b.
fn one_effect(shell: &Shell<'_>, w: &World) -> Option<Broken> {
    let scenario = shell.scenario;
    let hold = scenario.intent == Intent::Authorize;
    let effects = objects(w).filter(|(_, object)| object.life == Life::Taken || (hold && object.life == Life::Held));
    let at_once = match scenario.mode {
        Mode::Off | Mode::Fence => true,
        // The hold is no effect of a sale that is captured by Sentinel.
        Mode::Gated => !hold,
        Mode::Compensate => false,
    };
    if at_once {
        return (effects.count() > 1).then_some("I1 one live effect");
    }
    let uncovered = effects.filter(|(g, object)| !covered(shell, &w.ledger.state, *g, object));
    (uncovered.count() > 1).then_some("I1b one live effect beside open obligations")
}

/// Whether an open obligation owes the release of an object.
fn covered(shell: &Shell<'_>, ledger: &State, g: usize, object: &Object) -> bool {
    ledger
        .obligations
        .iter()
        .filter(|owed| owed.proof.is_none())
        .any(|owed| {
            let gateway = ledger
                .attempt(owed.target)
                .and_then(|target| shell.gateway(ledger, target.gateway));
            gateway == Some(g as u8) && shell.key(ledger, owed.target, 0) == Some(object.key)
        })
}

/// I2, I3 and I4.
fn told(shell: &Shell<'_>, w: &World) -> Option<Broken> {
    if w.told.len() > 1 {
        return Some("I4 one final answer");
    }
    let manual = w.ledger.state.phase == Phase::Manual;
    let kept = |g: u8, hold: bool| {
        // What the application ended itself, the gateway let expire, or a person was told of, is no broken promise.
        let late = shell.scenario.facts[usize::from(g)].later;
        w.ended
            || (manual && late)
            || w.gateways[usize::from(g)]
                .objects
                .iter()
                .any(|object| match object.life {
                    Life::Taken => !object.less,
                    Life::Held => hold || object.waits(KeyId::Derived(Leg::Capture, 0)),
                    _ => object.foreign,
                })
    };
    match w.told.first()? {
        Told::Taken(g) if !kept(*g, false) => Some("I2 told success is live"),
        Told::Held(g) if !kept(*g, true) => Some("I2 told hold is live"),
        Told::Failed | Told::NotExecuted if objects(w).any(|(_, object)| live(object) && !object.foreign) => {
            Some("I3 told failure has no effect")
        }
        _ => None,
    }
}

/// No more is captured than was held, and no more refunded than was captured, whatever a gateway lets pass.
fn sums(w: &World) -> Option<Broken> {
    if objects(w).any(|(_, object)| object.taken > WHOLE) {
        return Some("never more captured than held");
    }
    objects(w)
        .any(|(_, object)| object.back > object.taken)
        .then_some("never more refunded than captured")
}

/// I8: what is too old waits for a person, and whoever waits too long is told that it is in doubt.
pub fn late(event: Ev, ledger: &State) -> Option<Broken> {
    match event {
        Ev::Aged if ledger.phase != Phase::Manual => Some("I8 what is too old waits for a person"),
        Ev::Deadline if !ledger.parked && ledger.told.is_none() && ledger.phase != Phase::Manual => {
            Some("I8 doubt is parked at the deadline")
        }
        _ => None,
    }
}

/// What is written down as proof is true, for ever.
fn proofs(shell: &Shell<'_>, w: &World) -> Option<Broken> {
    let ledger = &w.ledger.state;
    for (n, attempt) in ledger.pays().filter(|(_, attempt)| attempt.harmless()) {
        let g = shell.gateway(ledger, attempt.gateway)?;
        let effect = w.gateways[usize::from(g)]
            .objects
            .iter()
            .find(|object| object.n == n && live(object));
        if effect.is_some_and(|object| !object.foreign) {
            return Some("proof of no effect is true");
        }
    }
    for (n, attempt) in ledger
        .numbered()
        .filter(|(_, attempt)| matches!(attempt.leg, Leg::Capture | Leg::Refund))
    {
        let g = shell.gateway(ledger, attempt.gateway)?;
        let key = shell.key(ledger, n, 0)?;
        let objects = || w.gateways[usize::from(g)].objects.iter();
        let done = objects().any(|object| object.done.contains(&key));
        let undone = objects().any(|object| object.undone.contains(&key));
        if attempt.undone() && !undone {
            return Some("proof of a refund's return is true");
        }
        if attempt.known.effect() && !done {
            return Some("proof of a modification is true");
        }
        // What provably never left may be asked for again under the same key.
        let again = ledger
            .numbered()
            .any(|(m, other)| m > n && (other.leg, other.key) == (attempt.leg, attempt.key));
        if attempt.known.no_effect() && done && !undone && !again {
            return Some("proof of no modification is true");
        }
    }
    None
}

fn follow_ups(w: &World) -> Option<Broken> {
    let done = |key: &KeyId| objects(w).any(|(_, object)| object.done.contains(key));
    if !w.done.iter().all(done) {
        return Some("I2 told done is done");
    }
    // The same key may be sent again after "it never reached the gateway", and then both answers were true in turn.
    let undone = |key: &KeyId| objects(w).any(|(_, object)| object.undone.contains(key));
    w.refused
        .iter()
        .any(|key| done(key) && !undone(key) && !w.done.contains(key))
        .then_some("I3 told refused is not done")
}

/// The rule that an append breaks: I4 for the winner, I6, D2, D3, and the holds that must not occur.
pub fn appended(shell: &Shell<'_>, w: &World, records: &[Record]) -> Option<Broken> {
    let (strict, ledger) = (shell.scenario.strict, &w.ledger.state);
    // What a person said, or did by hand, may be news to the proofs.
    let conflicts = shell.scenario.conflicts || w.spoken;
    let mut winner = ledger.winner;
    let mut last = ledger.pays().next_back().map(|(_, attempt)| attempt.gateway);
    let mut licence = false;
    for record in records {
        match record {
            Record::Decision(Decision::Winner { .. }) if winner.is_some() => return Some("I4 one winner"),
            Record::Decision(Decision::Winner { n }) => winner = Some(*n),
            Record::Decision(Decision::WinnerRevoked { .. }) => winner = None,
            Record::Decision(Decision::FailoverLicensed { .. } | Decision::Reopened { .. }) => licence = true,
            Record::AttemptPlanned {
                gateway, why: Why::Pay, ..
            } if strict => {
                if last.is_some_and(|last| last != *gateway) && !std::mem::take(&mut licence) {
                    return Some("I6 a licence before another gateway");
                }
                last = Some(*gateway);
            }
            Record::AttemptPlanned {
                leg: Leg::Capture, of, ..
            } if strict && *of != winner => {
                return Some("D3 a winner before its capture");
            }
            Record::ManualHold { reason } if strict => match reason {
                Hold::Assertion { .. } => return Some("the core's assertions hold"),
                Hold::Conflict { .. } if !conflicts => return Some("two proofs never contradict"),
                Hold::Unexplained { .. } if !conflicts => return Some("no effect is unexplained"),
                Hold::CaptureFailed { .. } if !shell.scenario.facts.iter().any(|facts| facts.later) => {
                    return Some("a capture that was told does not fail");
                }
                _ => {}
            },
            _ => {}
        }
    }
    None
}

/// I5: nothing is sent that the ledger does not plan.
pub fn sent(shell: &Shell<'_>, w: &World, send: &Send) -> Option<Broken> {
    let planned = w.ledger.state.attempt(send.n);
    let same = planned.is_some_and(|attempt| attempt.gateway == send.gateway && attempt.leg == send.leg);
    (shell.scenario.strict && !same).then_some("I5 written before it is sent")
}
