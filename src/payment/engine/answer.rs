//! What applications are told.
//!
//! The own gateway's answer goes back byte for byte while it is at hand; everything else is rendered in the dialect's
//! shape from what the ledger seals. Each caller's answer is shaped by his own request.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use super::super::core::{Decision, Failure, KeyKind, Record, State, Verdict};
use super::actor::{Actor, Caller};
use super::entry::Material;
use super::{At, Route};
use crate::config::model::Mode;
use crate::failpoint;
use crate::gateway::canonical::Answer;
use crate::gateway::outcome::Outcome;
use crate::gateway::{Head, Incoming, OwnError, Reply};
use crate::telemetry::event::{KeyHash, PaymentAnswered, Recovered, Replayed};

/// An answer for an application.
#[derive(Debug)]
pub struct Told {
    /// The answer.
    pub reply: Response<Bytes>,
    /// What it says, for metrics and logs: `succeeded`, `authorised`, `declined`, `in_doubt`, ... .
    pub outcome: &'static str,
    /// The gateway that decided.
    pub gateway: Option<String>,
}

impl Told {
    /// An answer without a payment.
    pub(super) fn plain(reply: Reply, outcome: &'static str) -> Self {
        Self {
            reply,
            outcome,
            gateway: None,
        }
    }

    /// The answer when an actor is gone without a word.
    pub(super) fn lost(route: &Route, head: &Head) -> Self {
        let answer = Answer::InDoubt {
            payment: String::new(),
            running: true,
            view: None,
        };
        let mut reply = route.dialect().render(&answer, head, &[]);
        let headers = reply.headers_mut();
        headers.insert("sentinel-outcome", HeaderValue::from_static("unknown"));
        own(headers, "in_doubt", "proxy_internal_error");
        Self::plain(reply, "in_doubt")
    }
}

/// An error of Sentinel's own on a payment that was not sent.
pub(super) fn own_error(route: &Route, head: &Head, error: &OwnError, outcome: &'static str) -> Told {
    let mut reply = route.dialect().render_error(error, head);
    let headers = reply.headers_mut();
    headers.insert("sentinel-outcome", HeaderValue::from_static("not_sent"));
    own(headers, error.code, "http_request_denied");
    Told::plain(reply, outcome)
}

/// Marks an answer as Sentinel's own (RFC 9209).
fn own(headers: &mut HeaderMap, details: &str, error: &str) {
    put(
        headers,
        "proxy-status",
        &format!("sentinel; error={error}; details=\"{details}\""),
    );
}

pub(super) fn put(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// The word of an outcome in headers, metrics and logs.
pub(super) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotSent => "not_sent",
        Outcome::Rejected(_) => "rejected",
        Outcome::Declined(_) => "declined",
        Outcome::Fenced => "fenced",
        Outcome::ActionRequired => "action_required",
        Outcome::Authorised => "authorised",
        Outcome::Succeeded => "succeeded",
        Outcome::Unknown => "unknown",
        Outcome::Conflict => "conflict",
    }
}

fn told(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded { .. } => "succeeded",
        Verdict::Authorised { .. } => "authorised",
        Verdict::ActionRequired { .. } => "action_required",
        Verdict::Failed { why, .. } => match why {
            Failure::Declined => "declined",
            Failure::Rejected => "rejected",
            Failure::NotExecuted => "not_executed",
            Failure::Revoked | Failure::Abandoned => "released",
            Failure::Operator => "closed",
        },
        Verdict::InDoubt { .. } => "in_doubt",
    }
}

impl Actor {
    /// Answers everybody who waits for the payment.
    pub(super) fn answer_all(&mut self, verdict: Verdict, replay: bool) {
        self.answer_with(verdict, replay, None);
    }

    /// The same, with what the first of them is told where it was written before.
    pub(super) fn answer_with(&mut self, verdict: Verdict, replay: bool, mut written: Option<Reply>) {
        let callers = std::mem::take(&mut self.callers);
        for (index, caller) in callers.into_iter().enumerate() {
            let Caller {
                material,
                started,
                reply,
            } = caller;
            let answer = written
                .take()
                .unwrap_or_else(|| self.written(&self.state, verdict, &material));
            let answer = self.answer(verdict, replay || index > 0, answer, &material, started);
            let gateway = answer.gateway.clone().unwrap_or_default();
            let key = material.key.as_deref().map(KeyHash::of);
            if replay {
                Replayed {
                    route: self.route.metrics(),
                    payment: &self.payment.to_string(),
                    key,
                }
                .emit();
            } else {
                PaymentAnswered {
                    route: self.route.metrics(),
                    payment: &self.payment.to_string(),
                    gateway: &gateway,
                    outcome: answer.outcome,
                    took: started.elapsed(),
                    key,
                }
                .emit();
            }
            failpoint::pass("application.answer");
            // Whoever hung up in the meantime asks again, and gets it then.
            let _ = reply.send(answer);
            failpoint::pass("application.answered");
        }
        if verdict.is_final() {
            self.forget_request();
        }
    }

    /// What a verdict on a state is told as, but for the headers that tell of the payment.
    pub(super) fn written(&self, state: &State, verdict: Verdict, material: &Material) -> Reply {
        let n = speaks_of(state, verdict);
        match n.and_then(|n| self.verbatim(state, n, verdict)) {
            Some(answer) => verbatim(answer),
            None => self.rendered(state, verdict, n, material),
        }
    }

    fn answer(&self, verdict: Verdict, replay: bool, mut reply: Reply, material: &Material, started: Instant) -> Told {
        let at = speaks_of(&self.state, verdict).and_then(|n| self.at(n));
        let headers = reply.headers_mut();
        put(headers, "sentinel-payment", &self.payment.to_string());
        if let Some(at) = at {
            put(headers, "sentinel-gateway", &at.config.name);
        }
        // The own gateway is not even asked to confirm what was created here in its place.
        // What was made here is paid by a plan without the own gateway.
        let foreign = self.state.plan.gateways.iter().all(|gateway| !gateway.native);
        let moved =
            self.dossier.confirms.is_some() || foreign || self.state.round().any(|(_, attempt)| attempt.gateway > 0);
        put(headers, "sentinel-failover", if moved { "true" } else { "false" });
        if !material.refused.is_empty() {
            put(headers, "sentinel-refused", &material.refused);
        }
        if replay {
            put(headers, "idempotent-replayed", "true");
        }
        match verdict {
            Verdict::InDoubt { .. } => put(
                headers,
                "sentinel-outcome",
                &format!("unknown; payment={}", self.payment),
            ),
            Verdict::Failed { .. } => put(headers, "sentinel-outcome", told(verdict)),
            _ => {
                if let (true, Some(failed)) = (moved, self.failed_at.filter(|failed| *failed >= started)) {
                    let took = failed.elapsed();
                    put(headers, "sentinel-recovery-time", &took.as_millis().to_string());
                    let taken_elsewhere = at.is_some_and(|at| !at.native);
                    if let (true, false, Some(at)) = (taken_elsewhere, replay, at) {
                        Recovered {
                            route: self.route.metrics(),
                            payment: &self.payment.to_string(),
                            gateway: &at.config.name,
                            took,
                        }
                        .emit();
                    }
                }
            }
        }
        Told {
            reply,
            outcome: told(verdict),
            gateway: at.map(|at| at.config.name.clone()),
        }
    }

    /// The gateway of an attempt.
    pub(super) fn at(&self, n: u16) -> Option<&At> {
        self.at_in(&self.state, n)
    }

    fn at_in(&self, state: &State, n: u16) -> Option<&At> {
        let planned = state.gateway_of(state.attempt(n)?)?;
        self.route.at(&planned.name)
    }

    /// The own gateway's very answer, where it says what the verdict says.
    fn verbatim(&self, state: &State, n: u16, verdict: Verdict) -> Option<&Incoming> {
        let gated = state.plan.mode == Mode::Gated && state.plan.leg() == crate::gateway::Leg::Auth;
        let translated = gated && state.plan.intent == super::super::core::Intent::Sale;
        if !self.at_in(state, n)?.native || translated {
            return None;
        }
        let attempt = state.attempt(n)?;
        let (answer, proves) = self.answers.get(&n)?;
        // What a fence or look-up found is not what this answer says.
        let says = match verdict {
            Verdict::Succeeded { .. } => *proves == Outcome::Succeeded,
            Verdict::Authorised { .. } => matches!(proves, Outcome::Authorised | Outcome::Succeeded),
            Verdict::ActionRequired { .. } => *proves == Outcome::ActionRequired,
            Verdict::Failed { .. } => matches!(proves, Outcome::Declined(_) | Outcome::Rejected(_)),
            // The gateway's own word for "the webhook will tell".
            Verdict::InDoubt { .. } => attempt.accepted && *proves == Outcome::Unknown,
        };
        (says && answer.status.as_u16() < 500).then_some(answer)
    }

    fn rendered(&self, state: &State, verdict: Verdict, n: Option<u16>, material: &Material) -> Reply {
        let (head, body) = (&material.head, &material.body);
        let dialect = self.route.dialect();
        let view = || Box::new(self.dossier.view(state, n, Some(verdict)));
        let at = n.and_then(|n| self.at_in(state, n));
        let operation = self.dossier.operation;
        match verdict {
            Verdict::Succeeded { .. } | Verdict::Authorised { .. } | Verdict::ActionRequired { .. } => {
                let mut reply = dialect.render(&Answer::Payment(operation, view()), head, body);
                hop(reply.headers_mut(), at);
                reply
            }
            Verdict::Failed {
                n: Some(declined),
                why: Failure::Declined,
            } => {
                let decline = self.dossier.decline(declined);
                let mut reply = dialect.render(&Answer::Declined(view(), decline), head, body);
                hop(reply.headers_mut(), at);
                reply
            }
            Verdict::Failed { why, .. } => self.failed(state, why, head),
            Verdict::InDoubt { running } => {
                let answer = Answer::InDoubt {
                    payment: self.payment.to_string(),
                    running,
                    view: Some(view()),
                };
                let mut reply = dialect.render(&answer, head, body);
                own(reply.headers_mut(), "in_doubt", "http_response_incomplete");
                reply
            }
        }
    }

    /// No effect exists anywhere, and none will.
    fn failed(&self, state: &State, why: Failure, head: &Head) -> Reply {
        let (status, code, message) = match why {
            Failure::NotExecuted if state.reopens() => (
                StatusCode::SERVICE_UNAVAILABLE,
                "payment_not_executed",
                "No gateway could be reached: the payment was not made anywhere. The same request with the same key tries again.",
            ),
            Failure::NotExecuted if state.plan.policy.key == KeyKind::Application => (
                StatusCode::SERVICE_UNAVAILABLE,
                "payment_not_executed",
                "No gateway executed the payment: it was not made anywhere, and will not be under this key.",
            ),
            Failure::Declined | Failure::NotExecuted => (
                StatusCode::SERVICE_UNAVAILABLE,
                "payment_not_executed",
                "No gateway could be reached: the payment was not made anywhere, and will not be.",
            ),
            Failure::Rejected => (
                StatusCode::BAD_GATEWAY,
                "payment_rejected",
                "No gateway took the payment: it was refused before anything was done, and was not made anywhere.",
            ),
            Failure::Revoked | Failure::Abandoned => (
                StatusCode::CONFLICT,
                "payment_released",
                "The payment was released again: nothing is held or taken any more.",
            ),
            Failure::Operator => (
                StatusCode::CONFLICT,
                "payment_closed",
                "An operator closed the payment: nothing was taken.",
            ),
        };
        let error = OwnError {
            status,
            code,
            message: message.to_owned(),
            retry: false,
        };
        let mut reply = self.route.dialect().render_error(&error, head);
        own(reply.headers_mut(), code, "destination_unavailable");
        reply
    }

    /// Notes in passing what answers and metrics need of new records.
    pub(super) fn noticed(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Decision(Decision::FailoverLicensed { .. }) if self.failed_at.is_none() => {
                    self.failed_at = Some(Instant::now());
                }
                Record::Decision(Decision::Reopened { .. }) => self.failed_at = None,
                // Something is known that was not: the next question need not wait as long as the last.
                Record::AttemptObserved { n, finding, .. }
                    if finding.outcome != Outcome::Unknown || finding.arrived =>
                {
                    let of = self.state.attempt(*n).and_then(|attempt| attempt.of);
                    self.patience(of.unwrap_or(*n));
                }
                _ => {}
            }
        }
    }
}

/// The attempt that a verdict speaks of.
fn speaks_of(state: &State, verdict: Verdict) -> Option<u16> {
    match verdict {
        Verdict::Succeeded { n } | Verdict::Authorised { n } | Verdict::ActionRequired { n } => Some(n),
        Verdict::Failed { n, .. } => n,
        Verdict::InDoubt { .. } => state.pays().next_back().map(|(n, _)| n),
    }
}

/// Names the gateway behind an answer that Sentinel wrote.
fn hop(headers: &mut HeaderMap, at: Option<&At>) {
    let gateway = at.map_or("", |at| at.config.name.as_str());
    put(headers, "proxy-status", &format!("sentinel; next-hop=\"{gateway}\""));
}

/// A gateway's answer as it came, but for what belongs to its connection.
fn verbatim(answer: &Incoming) -> Reply {
    let mut reply = Response::new(answer.body.clone());
    *reply.status_mut() = answer.status;
    *reply.headers_mut() = answer.headers.clone();
    let headers = reply.headers_mut();
    for name in [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "trailer",
        "upgrade",
        "proxy-status",
    ] {
        headers.remove(name);
    }
    let forged: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("sentinel-"))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    reply
}
