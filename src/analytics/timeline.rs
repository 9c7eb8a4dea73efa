//! One payment's events in sentences, for a person who has to know at 3 a.m. what happened.
//!
//! The same records that the payment core acts on, so that what is read here is what was decided on. Words that came from
//! a gateway or an application are details beside the sentence, never part of it; whoever shows them escapes them.

use std::sync::Arc;

use uuid::Uuid;

use super::period::rfc3339;
use super::{Analytics, AnalyticsError};
use crate::gateway::Leg;
use crate::gateway::outcome::{Outcome, Rejection};
use crate::ledger::rows::{Event, Payment};
use crate::payment::core::{
    Cause, Decision, Failure, Finding, Ground, Hold, Phase, Proof, Record, Resolution, State, Verdict, Why,
};
use crate::upstream::Progress;

/// How an event is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// It happened.
    Plain,
    /// Money is where it should be.
    Good,
    /// Something failed, and is being dealt with.
    Warning,
    /// Not known, or a person is needed.
    Bad,
}

/// One event, told.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Told {
    /// Place within the payment.
    pub seq: i64,
    /// Unix milliseconds.
    pub at: i64,
    /// Milliseconds since the payment was opened.
    pub after_ms: i64,
    /// The event's name in the ledger.
    pub kind: String,
    /// What happened, in a sentence.
    pub says: String,
    /// How to take it.
    pub tone: Tone,
    /// The gateway that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Facts beside the sentence: names and values. Values may have come from outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<(&'static str, String)>,
}

/// A payment with its events.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Its row in the ledger.
    pub payment: Payment,
    /// Its state now; of an erased payment nothing is left.
    pub state: State,
    /// Oldest first.
    pub told: Vec<Told>,
}

impl Analytics {
    /// One payment's timeline, its chain verified; another tenant's is not there.
    ///
    /// # Errors
    /// When the ledger cannot be read, or is damaged.
    pub async fn timeline(
        self: &Arc<Self>,
        tenant: Option<&str>,
        id: Uuid,
    ) -> Result<Option<Timeline>, AnalyticsError> {
        let Some(payment) = self.ledger().get(id).await? else {
            return Ok(None);
        };
        if tenant.is_some_and(|tenant| tenant != payment.tenant) {
            return Ok(None);
        }
        let events = self.ledger().events(id).await?;
        Ok(Some(tell(payment, &events)))
    }
}

/// Tells a payment's events.
pub fn tell(payment: Payment, events: &[Event]) -> Timeline {
    let mut state = State::default();
    let mut told = Vec::with_capacity(events.len());
    let opened = events.first().map_or(0, |event| event.at);
    for event in events {
        let mut line = Told {
            seq: event.seq,
            at: event.at,
            after_ms: event.at - opened,
            kind: event.kind.clone(),
            says: String::new(),
            tone: Tone::Plain,
            gateway: None,
            details: Vec::new(),
        };
        match serde_json::from_str::<Record>(&event.payload) {
            Ok(record) => {
                state.fold(&record);
                describe(&mut line, &record, &state);
            }
            Err(_) if event.payload.is_empty() => {
                line.says = "What was recorded here has been erased: its retention is over.".to_owned();
            }
            Err(_) if event.kind == "lease_taken" => {
                line.says = "A new owner took the payment over, after a restart.".to_owned();
            }
            Err(_) => line.says = format!("A note of the kind {}.", event.kind.replace('_', " ")),
        }
        told.push(line);
    }
    Timeline { payment, state, told }
}

fn describe(line: &mut Told, record: &Record, state: &State) {
    let name = |n: u16| {
        let attempt = state.attempt(n);
        attempt
            .and_then(|attempt| state.gateway_of(attempt))
            .map_or_else(|| "a gateway".to_owned(), |planned| planned.name.clone())
    };
    let (tone, says) = match record {
        Record::IntentOpened { plan } => {
            let order: Vec<&str> = plan.gateways.iter().map(|planned| planned.name.as_str()).collect();
            if let Some(amount) = plan.amount {
                line.details.push(("amount", amount.to_string()));
            }
            line.details.push(("gateways in order", order.join(", ")));
            (
                Tone::Plain,
                "The application asked for the payment, and it was written down.".to_owned(),
            )
        }
        Record::AttemptPlanned {
            n,
            gateway,
            leg,
            why,
            of,
            amount,
            ..
        } => {
            let at = state
                .plan
                .gateway(*gateway)
                .map_or("a gateway", |planned| &planned.name);
            line.gateway = Some(at.to_owned());
            line.details.push(("attempt", n.to_string()));
            if let (Some(amount), true) = (amount, *why != Why::Pay) {
                line.details.push(("amount", amount.to_string()));
            }
            let says = match (why, leg) {
                (Why::Pay, Leg::Auth) => format!("{at} is asked to hold the money."),
                (Why::Pay, _) => format!("{at} is asked to take the payment."),
                (Why::Settle, _) => format!("{at} is asked to capture: it is the winner."),
                (Why::Resolve, Leg::Fence) => {
                    format!(
                        "{at} is asked to make a late execution of attempt {} impossible.",
                        of.unwrap_or(0)
                    )
                }
                (Why::Resolve, _) => format!("{at} is asked what became of attempt {}.", of.unwrap_or(0)),
                (Why::Release, Leg::Void) => {
                    format!("{at} is asked to release the hold of attempt {}.", of.unwrap_or(0))
                }
                (Why::Release, _) => format!("{at} is asked to pay attempt {} back.", of.unwrap_or(0)),
                (Why::FollowUp(_), leg) => format!("The application's {} goes to {at}.", word(*leg)),
            };
            (Tone::Plain, says)
        }
        Record::AttemptResent { n, .. } => {
            line.gateway = Some(name(*n));
            (
                Tone::Plain,
                format!("Attempt {n} is sent to {} again, with the same key.", name(*n)),
            )
        }
        Record::AttemptObserved {
            n,
            via,
            finding,
            evidence,
            ..
        } => {
            let at = name(*n);
            line.gateway = Some(at.clone());
            line.details.push(("attempt", n.to_string()));
            if let Some(via) = via {
                line.details.push(("found by attempt", via.to_string()));
            }
            line.details.push(("decided by", finding.rule.clone()));
            if let Some(exchange) = evidence {
                let sent = match exchange.progress {
                    Progress::Nothing => "nothing",
                    Progress::Partial => "a part, never enough to be executed",
                    Progress::Committed => "the whole request",
                };
                line.details
                    .push(("sent", format!("{sent} ({} bytes)", exchange.bytes_sent)));
                if let Some(status) = exchange.status {
                    line.details.push(("answer", status.to_string()));
                }
                line.details.push(("took", format!("{} ms", exchange.took.as_millis())));
                if !exchange.note.is_empty() {
                    line.details.push(("transport says", exchange.note.clone()));
                }
            }
            for (what, id) in [
                ("payment id there", &finding.ids.payment),
                ("charge id there", &finding.ids.charge),
                ("modification id there", &finding.ids.modification),
            ] {
                if let Some(id) = id {
                    line.details.push((what, id.clone()));
                }
            }
            let leg = state.attempt(*n).map_or(Leg::Lookup, |attempt| attempt.leg);
            observed(&at, leg, finding)
        }
        Record::Decision(decision) => decided(line, decision, &name),
        Record::ObligationOpened { target, cause } => {
            line.gateway = Some(name(*target));
            let why = match cause {
                Cause::Doubt => "another gateway was asked while its outcome was not known",
                Cause::Loser => "another attempt has the payment",
                Cause::CaptureFailed => "its capture failed",
                Cause::Undelivered => "the application went without its answer",
            };
            let says = format!(
                "Owed from now on: whatever attempt {target} took at {} is given back, because {why}.",
                name(*target)
            );
            (Tone::Warning, says)
        }
        Record::ObligationClosed { target, proof } => {
            line.gateway = Some(name(*target));
            let how = match proof {
                Proof::NoEffect => "it took nothing and never will",
                Proof::Released => "it is proven given back",
                Proof::Won => "it has the payment after all",
                Proof::Vouched => "a person vouches for it",
            };
            (
                Tone::Good,
                format!(
                    "Nothing is owed for attempt {target} at {} any more: {how}.",
                    name(*target)
                ),
            )
        }
        Record::ResponseSealed { verdict } => verdict_told(*verdict, &name),
        Record::FollowUpOpened { leg, amount, .. } => {
            if let Some(amount) = amount {
                line.details.push(("amount", amount.to_string()));
            }
            (Tone::Plain, format!("The application asked for a {}.", word(*leg)))
        }
        Record::Abandoned => (
            Tone::Warning,
            "The application went without its answer, and the route gives such payments back.".to_owned(),
        ),
        Record::LeaseTaken { .. } => (
            Tone::Plain,
            "Sentinel took the payment up again, from what is written down.".to_owned(),
        ),
        Record::ManualHold { reason } => (Tone::Bad, held(reason)),
        Record::ManualResolved {
            operator,
            reason,
            resolution,
        } => {
            line.details.push(("by", operator.clone()));
            line.details.push(("reason", reason.clone()));
            let says = match resolution {
                Resolution::Succeeded { n } => {
                    format!("A person closed it: attempt {n} at {} has the payment.", name(*n))
                }
                Resolution::Failed => "A person closed it: no effect is left anywhere.".to_owned(),
                Resolution::Released { n } => {
                    format!("A person gave back what attempt {n} at {} had taken.", name(*n))
                }
                Resolution::Continue => "A person told Sentinel to go on looking.".to_owned(),
            };
            (Tone::Plain, says)
        }
    };
    (line.tone, line.says) = (tone, says);
}

fn observed(at: &str, leg: Leg, finding: &Finding) -> (Tone, String) {
    let pays = matches!(leg, Leg::Charge | Leg::Auth);
    if finding.gone {
        return (Tone::Warning, format!("What {at} held or took is there no more."));
    }
    match finding.outcome {
        Outcome::NotSent if pays => (
            Tone::Warning,
            format!("{at} provably did not get the request. Nothing was charged there."),
        ),
        Outcome::NotSent => (Tone::Warning, format!("{at} provably did not get the request.")),
        Outcome::Rejected(Rejection::Transient) => (
            Tone::Warning,
            format!("{at} refused it before executing anything: it is busy or limits."),
        ),
        Outcome::Rejected(Rejection::Account) => (
            Tone::Bad,
            format!("{at} refused it for the account's sake (key, permission, settings): somebody has to look."),
        ),
        Outcome::Rejected(Rejection::Request) => (
            Tone::Warning,
            format!("{at} refused the request itself; no gateway would do better."),
        ),
        Outcome::Declined(_) if finding.gateway_side => (
            Tone::Warning,
            format!("{at} was too busy to decide. Nothing was charged there."),
        ),
        Outcome::Declined(class) => (
            Tone::Warning,
            format!(
                "{at} declined ({}). Nothing was charged there.",
                class.name().replace('_', " ")
            ),
        ),
        Outcome::Fenced => (
            Tone::Good,
            format!("A late execution at {at} is impossible from now on."),
        ),
        Outcome::ActionRequired => (Tone::Plain, format!("The customer has to act at {at}.")),
        Outcome::Authorised => (Tone::Good, format!("{at} holds the money.")),
        Outcome::Succeeded if pays => (Tone::Good, format!("{at} took the money.")),
        Outcome::Succeeded => (Tone::Good, format!("{at} did it.")),
        Outcome::Unknown if finding.pending => (
            Tone::Warning,
            format!("{at} accepted it, to be done later; the outcome is not proven yet."),
        ),
        Outcome::Unknown if pays => (
            Tone::Bad,
            format!("{at} may have it: the request was sent, and nothing is known of what became of it."),
        ),
        Outcome::Unknown => (Tone::Warning, format!("{at} did not say.")),
        Outcome::Conflict => (Tone::Bad, format!("Two proofs about {at} contradict each other.")),
    }
}

fn decided(line: &mut Told, decision: &Decision, name: &dyn Fn(u16) -> String) -> (Tone, String) {
    match decision {
        Decision::FailoverLicensed { ground, .. } => {
            let why = match ground {
                Ground::Proof => "every attempt so far is proven without effect",
                Ground::Gated => "nothing is captured before one winner is written down",
                Ground::Compensate => "the route accepts that the loser is given back later",
            };
            (Tone::Plain, format!("Another gateway may be asked: {why}."))
        }
        Decision::Winner { n } => {
            line.gateway = Some(name(*n));
            (Tone::Good, format!("The payment is at {}.", name(*n)))
        }
        Decision::WinnerRevoked { n } => (
            Tone::Warning,
            format!("The payment is no longer at {}: its effect is proven gone.", name(*n)),
        ),
        Decision::Failed { n, why } => {
            let says = failed(*why);
            match n {
                Some(n) => (Tone::Warning, format!("It failed at {}: {says}.", name(*n))),
                None => (Tone::Warning, format!("It failed: {says}.")),
            }
        }
        Decision::Parked => (
            Tone::Bad,
            "The application's time was up without an outcome: it was told \"in doubt\", and Sentinel goes on asking."
                .to_owned(),
        ),
        Decision::Resumed => (Tone::Plain, "The application asked again, and waits.".to_owned()),
        Decision::Entered(phase) => match phase {
            Phase::InDoubt { of } => (
                Tone::Bad,
                format!("In doubt: nothing moves until something is known of attempt {of}."),
            ),
            Phase::Fencing { of } => (
                Tone::Warning,
                format!("Nothing moves until a late execution of attempt {of} is impossible."),
            ),
            Phase::Authorised { n } => (
                Tone::Good,
                format!("{} holds the money, as the application asked.", name(*n)),
            ),
            Phase::Succeeded { n } => (Tone::Good, format!("Paid, at {}.", name(*n))),
            Phase::Capturing { n } => (
                Tone::Plain,
                format!("{} is the winner; Sentinel captures there.", name(*n)),
            ),
            Phase::Revoking { n } => (Tone::Warning, format!("What {} took is being given back.", name(*n))),
            Phase::Voided { n } => (
                Tone::Plain,
                format!("The hold at {} was released, as the application asked.", name(*n)),
            ),
            Phase::ActionRequired { n } => (Tone::Plain, format!("It waits for the customer, at {}.", name(*n))),
            Phase::Licensed => (
                Tone::Plain,
                "The next gateway is asked as soon as the application asks again.".to_owned(),
            ),
            other => (Tone::Plain, format!("Now {}.", other.name().replace('_', " "))),
        },
    }
}

fn verdict_told(verdict: Verdict, name: &dyn Fn(u16) -> String) -> (Tone, String) {
    match verdict {
        Verdict::Succeeded { n } => (Tone::Good, format!("The application was told: paid, at {}.", name(n))),
        Verdict::Authorised { n } => (
            Tone::Good,
            format!("The application was told: the money is held, at {}.", name(n)),
        ),
        Verdict::ActionRequired { .. } => (
            Tone::Plain,
            "The application was told that the customer has to act.".to_owned(),
        ),
        Verdict::Failed { why, .. } => (
            Tone::Warning,
            format!("The application was told of a failure: {}.", failed(why)),
        ),
        Verdict::InDoubt { .. } => (
            Tone::Bad,
            "The application was told that the outcome is not known.".to_owned(),
        ),
    }
}

const fn failed(why: Failure) -> &'static str {
    match why {
        Failure::Declined => "a gateway declined",
        Failure::Rejected => "a gateway refused the request",
        Failure::NotExecuted => "no gateway executed it",
        Failure::Revoked => "its capture failed and the hold was released",
        Failure::Abandoned => "the application went without its answer, and it was given back",
        Failure::Operator => "a person said so, on evidence",
    }
}

fn held(hold: &Hold) -> String {
    match hold {
        Hold::Conflict { n } => format!("A person is needed: two proofs about attempt {n} contradict each other."),
        Hold::Aged => "A person is needed: the machine's time for finding out is over.".to_owned(),
        Hold::CaptureFailed { n } => {
            format!("A person is needed: the capture of attempt {n} failed after the application was told of success.")
        }
        Hold::Unexplained { n } => format!("A person is needed: attempt {n} has an effect that nothing explains."),
        Hold::Assertion { rule } => {
            format!("A person is needed: Sentinel's own rule {rule} did not hold. Please report it.")
        }
    }
}

const fn word(leg: Leg) -> &'static str {
    match leg {
        Leg::Charge => "charge",
        Leg::Auth => "hold",
        Leg::Capture => "capture",
        Leg::Void => "void",
        Leg::Refund => "refund",
        Leg::Fence => "fence",
        Leg::Lookup => "look-up",
    }
}

impl Told {
    /// When, as RFC 3339 writes it.
    pub fn time(&self) -> String {
        rfc3339(self.at)
    }
}
