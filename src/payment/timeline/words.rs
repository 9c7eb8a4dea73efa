//! The words of a payment's story. Ledger, API and command line all print these.

use serde::Serialize;

use super::super::core::plan::Intent;
use super::super::core::{
    Attempt, Cause, Decision, Failure, Finding, Ground, Hold, KeyKind, Phase, Proof, Record, Resolution, State,
    Verdict, Why,
};
use crate::gateway::Leg;
use crate::gateway::outcome::{Outcome, Rejection};
use crate::money::Amount;
use crate::upstream::{Evidence, Progress};

/// The word under which a closed enum is stored.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The gateway of an attempt.
pub(super) fn gateway(state: &State, n: u16) -> &str {
    state
        .attempt(n)
        .and_then(|attempt| state.gateway_of(attempt))
        .map_or("?", |planned| planned.name.as_str())
}

/// `19.99 EUR`.
pub(super) fn amount(amount: Amount) -> String {
    format!("{} {}", amount.decimal(), amount.currency)
}

/// What is known of an attempt, in one word or a few.
pub(super) fn known(attempt: &Attempt) -> &'static str {
    let asks = matches!(attempt.leg, Leg::Fence | Leg::Lookup);
    match attempt.known.outcome() {
        Outcome::Unknown if attempt.pending() => "under way",
        Outcome::Unknown if attempt.accepted => "accepted, not done yet",
        Outcome::Unknown if asks => "no answer yet",
        Outcome::Succeeded if asks => "answered",
        Outcome::Succeeded if attempt.undone() => "done, and failed later",
        Outcome::Succeeded if matches!(attempt.leg, Leg::Capture | Leg::Void | Leg::Refund) => "done",
        known => outcome(known),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotSent => "not sent",
        Outcome::Rejected(Rejection::Transient) => "refused before execution",
        Outcome::Rejected(Rejection::Request) => "refused: the request",
        Outcome::Rejected(Rejection::Account) => "refused: our account there",
        Outcome::Declined(_) => "declined",
        Outcome::Fenced => "fenced",
        Outcome::ActionRequired => "the customer has to act",
        Outcome::Authorised => "authorised",
        Outcome::Succeeded => "succeeded",
        Outcome::Unknown => "unknown",
        Outcome::Conflict => "contradicting proofs",
    }
}

fn failure(why: Failure) -> &'static str {
    match why {
        Failure::Declined => "declined",
        Failure::Rejected => "refused before execution",
        Failure::NotExecuted => "no gateway executed it",
        Failure::Revoked => "its capture failed and the hold was released",
        Failure::Abandoned => "nobody took the answer, and the effect was released",
        Failure::Operator => "a person said so",
    }
}

/// What the application was told.
pub(super) fn verdict(verdict: Verdict, state: &State) -> String {
    let at = |n: u16| format!("attempt {n} at {}", gateway(state, n));
    match verdict {
        Verdict::Succeeded { n } => format!("succeeded, by {}", at(n)),
        Verdict::Authorised { n } => format!("authorised, by {}", at(n)),
        Verdict::ActionRequired { n } => format!("the customer has to act, at {}", gateway(state, n)),
        Verdict::Failed { n: Some(n), why } => format!("failed: {}, by {}", failure(why), at(n)),
        Verdict::Failed { n: None, why } => format!("failed: {}", failure(why)),
        Verdict::InDoubt { .. } => "in doubt".to_owned(),
    }
}

/// What is known of the payment, and what Sentinel does about it.
pub(super) fn says(state: &State, hold: Option<&Hold>) -> Vec<String> {
    let at = |n: u16| format!("attempt {n} at {}", gateway(state, n));
    let mut says = vec![match state.phase {
        Phase::New => "Nothing is recorded of it yet.".to_owned(),
        Phase::Trying { n } => format!("Its outcome is not known yet: {} is under way.", at(n)),
        Phase::Fencing { of } => format!(
            "Its outcome is not known: {} may have been executed. Sentinel makes a late execution impossible there before \
             money is asked for anywhere else.",
            at(of)
        ),
        Phase::InDoubt { of } => format!(
            "Its outcome is not known: {} may have been executed. Sentinel asks that gateway, by reference only, until \
             there is proof.",
            at(of)
        ),
        Phase::Licensed => {
            "Nothing was executed anywhere, proven. The next gateway is asked as soon as the application \
                            sends its request again with the same key."
                .to_owned()
        }
        Phase::ActionRequired { n } => format!("The customer has to act: {} waits for it.", at(n)),
        Phase::Authorised { n } => format!("Money is held, by {}, for the application to capture.", at(n)),
        Phase::Capturing { n } => format!("Money is held, by {}, and Sentinel captures it.", at(n)),
        Phase::Revoking { n } => format!("It is being taken back: Sentinel releases the effect of {}.", at(n)),
        Phase::Succeeded { n } => format!("Money was taken, once: by {}.", at(n)),
        Phase::Voided { n } => format!("Nothing is held any more: the effect of {} was released.", at(n)),
        Phase::Failed { n: Some(n), why } => {
            format!("It failed, and nothing was taken: {}, by {}.", failure(why), at(n))
        }
        Phase::Failed { n: None, why } => format!("It failed, and nothing was taken: {}.", failure(why)),
        Phase::Manual => hold.map_or_else(|| "A person has to decide.".to_owned(), |hold| super::held(hold, state)),
    }];
    for owed in state.obligations.iter().filter(|owed| owed.proof.is_none()) {
        says.push(format!(
            "Owed: the release of whatever {} did, because {}. It is driven until it is proven.",
            at(owed.target),
            cause(owed.cause)
        ));
    }
    if state.closed {
        says.push("A person closed it.".to_owned());
    }
    if state.parked && !state.phase.settled() {
        says.push(
            match state.plan.policy.key {
                KeyKind::None => {
                    "The application was told that the outcome is not known, and sent no key to ask again with."
                }
                _ => "The application was told that the outcome is not known, and asks again with the same key.",
            }
            .to_owned(),
        );
    }
    says
}

fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Doubt => "another gateway was asked while its outcome was unknown",
        Cause::Loser => "another attempt is the payment's",
        Cause::CaptureFailed => "its capture failed",
        Cause::Undelivered => "nobody took the answer",
    }
}

/// The attempt that a record is about.
pub(super) fn attempt(record: &Record) -> Option<u16> {
    match record {
        Record::AttemptPlanned { n, .. } | Record::AttemptResent { n, .. } | Record::AttemptObserved { n, .. } => {
            Some(*n)
        }
        Record::ObligationOpened { target, .. } | Record::ObligationClosed { target, .. } => Some(*target),
        Record::Decision(Decision::Winner { n } | Decision::WinnerRevoked { n }) => Some(*n),
        _ => None,
    }
}

/// What happened. `state` has the record in it.
pub(super) fn event(record: &Record, state: &State) -> String {
    match record {
        Record::IntentOpened { plan } => {
            let names: Vec<&str> = plan.gateways.iter().map(|planned| planned.name.as_str()).collect();
            let intent = match plan.intent {
                Intent::Sale => "sale",
                Intent::Authorize => "authorisation",
            };
            let of = plan
                .amount
                .map(|units| format!(" of {}", amount(units)))
                .unwrap_or_default();
            let key = match plan.policy.key {
                KeyKind::Application => "the application's key",
                KeyKind::Natural => "named by its order",
                KeyKind::None => "no key",
            };
            format!(
                "opened: {intent}{of} at {}; mode {}, {key}",
                names.join(", then "),
                word(&plan.mode)
            )
        }
        Record::AttemptPlanned {
            n,
            leg,
            of,
            why,
            amount: units,
            ..
        } => planned(state, *n, *leg, *of, *why, *units),
        Record::AttemptResent { n, .. } => format!("attempt {n} sent again with the same key"),
        Record::AttemptObserved { n, via, finding, .. } => observed(state, *n, *via, finding),
        Record::Decision(decision) => decided(decision, state),
        Record::ObligationOpened { target, cause: why } => {
            format!(
                "owed: the release of whatever attempt {target} did, because {}",
                cause(*why)
            )
        }
        Record::ObligationClosed { target, proof } => {
            let proof = match proof {
                Proof::NoEffect => "it provably did nothing",
                Proof::Released => "it is proven released",
                Proof::Won => "its effect is the payment's own",
                Proof::Vouched => "a person vouches for it",
            };
            format!("owed no more for attempt {target}: {proof}")
        }
        Record::ResponseSealed { verdict: told } => format!("the application is told: {}", verdict(*told, state)),
        Record::FollowUpOpened {
            leg,
            amount: units,
            keeps,
            ..
        } => {
            let of = units.map(|units| format!(" of {}", amount(units))).unwrap_or_default();
            let rest = if *keeps { ", and keeps the rest of the hold" } else { "" };
            format!("the application asks for a {}{of}{rest}", word(leg))
        }
        Record::Abandoned => "the application went without its answer: the effect is to be released".to_owned(),
        Record::LeaseTaken { .. } => {
            "taken up again after its owner had gone; what was under way counts as sent".to_owned()
        }
        Record::ManualHold { reason } => format!("held for a person. {}", super::held(reason, state)),
        Record::ManualResolved {
            operator,
            reason,
            resolution,
        } => {
            let to = match resolution {
                Resolution::Succeeded { n } => format!("attempt {n} has the payment's effect"),
                Resolution::Failed => "no effect is left anywhere".to_owned(),
                Resolution::Released { n } => format!("the effect of attempt {n} was released by hand"),
                Resolution::Continue => "the machine goes on".to_owned(),
            };
            format!("{operator} resolved it: {to}. \"{reason}\"")
        }
    }
}

fn planned(state: &State, n: u16, leg: Leg, of: Option<u16>, why: Why, units: Option<Amount>) -> String {
    let at = gateway(state, n);
    let target = of.map(|of| format!(" of attempt {of}")).unwrap_or_default();
    let whole = units.map(|units| format!(", {}", amount(units))).unwrap_or_default();
    let behalf = match why {
        Why::Pay | Why::Resolve => "",
        Why::Settle => ", to settle the payment",
        Why::Release => ", because it is owed",
        Why::FollowUp(_) => ", as the application asked",
    };
    match leg {
        Leg::Fence => format!(
            "attempt {n}: a fence at {at}, so that attempt {} cannot be executed late",
            of.unwrap_or(0)
        ),
        Leg::Lookup => format!("attempt {n}: {at} is asked about attempt {}", of.unwrap_or(0)),
        Leg::Charge | Leg::Auth | Leg::Capture | Leg::Void | Leg::Refund => {
            format!("attempt {n}: {}{target} at {at}{whole}{behalf}", word(&leg))
        }
    }
}

fn observed(state: &State, n: u16, via: Option<u16>, finding: &Finding) -> String {
    let attempt = state.attempt(n);
    let asks = attempt.is_some_and(|attempt| matches!(attempt.leg, Leg::Fence | Leg::Lookup));
    let what = match finding.outcome {
        Outcome::Unknown if finding.gone && attempt.is_some_and(|attempt| attempt.leg == Leg::Refund) => {
            "it failed after all, and nothing was given back"
        }
        Outcome::Unknown if finding.gone => "its hold is gone",
        Outcome::Unknown if finding.pending => "accepted, not done yet",
        Outcome::Unknown if finding.arrived => "the original had arrived before it",
        Outcome::Unknown if asks => "no answer",
        Outcome::Succeeded if asks => "answered",
        known => outcome(known),
    };
    let mut text = format!("attempt {n} at {}: {what}", gateway(state, n));
    if let Some(via) = via {
        text.push_str(&format!(", as attempt {via} found"));
    }
    if let Some(units) = finding.amount {
        text.push_str(&format!(", {}", amount(units)));
    }
    let ids: Vec<&str> = [&finding.ids.payment, &finding.ids.charge, &finding.ids.modification]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    if !ids.is_empty() {
        text.push_str(&format!(", {}", ids.join(" ")));
    }
    text.push_str(&format!(" [{}]", finding.rule));
    text
}

fn decided(decision: &Decision, state: &State) -> String {
    match decision {
        Decision::FailoverLicensed { after, ground } => {
            let list: Vec<String> = after.iter().map(u16::to_string).collect();
            let after = match list.as_slice() {
                [one] => format!("attempt {one}"),
                more => format!("attempts {}", more.join(", ")),
            };
            match ground {
                Ground::Proof => format!("another gateway may be asked: {after} provably had no effect and never will"),
                Ground::Gated => format!("another gateway may be asked beside {after}: only one winner is captured"),
                Ground::Compensate => {
                    format!("another gateway may be asked beside {after}: the route compensates what is too much")
                }
            }
        }
        Decision::Winner { n } => format!(
            "the payment's one effect is that of attempt {n} at {}",
            gateway(state, *n)
        ),
        Decision::WinnerRevoked { n } => format!("the effect of attempt {n} is the payment's no more"),
        Decision::Failed { why, .. } => format!("failed: {}", failure(*why)),
        Decision::Parked => "the application is told that the outcome is not known".to_owned(),
        Decision::Resumed => "the application asks again with the same key".to_owned(),
        Decision::Reopened { .. } => {
            "the application asks again for what provably nobody executed: another round begins".to_owned()
        }
        Decision::Entered(phase) => match phase {
            Phase::Fencing { of } => format!("attempt {of} is to be made impossible before anything else"),
            Phase::InDoubt { of } => format!("in doubt about attempt {of}"),
            Phase::Licensed => "waits for the application to ask again; nothing was executed".to_owned(),
            other => other.name().replace('_', " "),
        },
    }
}

/// What an outcome rests on.
pub(super) fn evidence(evidence: &Evidence) -> String {
    let bytes = evidence.bytes_sent;
    let mut parts = vec![match evidence.progress {
        Progress::Nothing => "not one byte was handed over".to_owned(),
        Progress::Partial => format!("{bytes} bytes were handed over, the last one of the request never was"),
        Progress::Committed => format!("the whole request was handed over ({bytes} bytes)"),
    }];
    if evidence.refused_by_peer {
        parts.push("the peer refused it by HTTP/2".to_owned());
    }
    match evidence.status {
        Some(status) => parts.push(format!("status {status}")),
        None if evidence.progress == Progress::Committed => parts.push(match evidence.bytes_received {
            0 => "not one byte came back".to_owned(),
            received => format!("{received} bytes came back, no whole answer"),
        }),
        None => {}
    }
    if evidence.progress != Progress::Nothing {
        let version = if evidence.http2 { "HTTP/2" } else { "HTTP/1.1" };
        let kept = if evidence.reused {
            "a kept connection"
        } else {
            "a fresh connection"
        };
        parts.push(format!("{version}, {kept}"));
    }
    if !evidence.note.is_empty() {
        parts.push(evidence.note.clone());
    }
    parts.push(format!("{} ms", evidence.took.as_millis()));
    parts.join("; ")
}
