//! One attempt on its way: from what the core wants sent to what the evidence proves.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::core::{self, Finding, Key, Send, State};
use super::dossier::Dossier;
use super::entry::Material;
use super::wire::Exchanged;
use super::{At, Desk, Route, planner};
use crate::config::model::Mode;
use crate::gateway::canonical::{EarlierAttempt, Refusal, Request, Target};
use crate::gateway::outcome::{Observation, Outcome};
use crate::gateway::{Account, Auth, Incoming, Leg, Outgoing, Stopped};
use crate::money::Amount;
use crate::resilience::breaker::{Permit, Probing, Report, Verdict};
use crate::resilience::jitter;
use crate::telemetry::event::AttemptFinished;
use crate::telemetry::labels::Kind;
use crate::upstream::{Evidence, Failure, Progress, Side};

/// More requests before one than this would be a defect of a dialect.
const PREPARATIONS: usize = 4;

/// Pages of a list that one look-up reads: a thousand payments. A gateway that comes back from an outage is asked about many
/// payments at once, and has its own to do.
const PAGES: usize = 10;

/// An attempt ready to go.
pub(super) struct Flight {
    n: u16,
    leg: Leg,
    at: At,
    kind: Kind,
    payload: Payload,
    account: Account,
    /// What the answer is compared with.
    asked: Option<Request>,
    /// The reference that Sentinel wrote, where it wrote the request.
    reference: Option<String>,
    timeout: Duration,
    /// Whether an earlier try failed on a kept connection.
    fresh: bool,
    /// Until when the payment is ours, on the ledger's clock; asked once more just before the commit byte.
    lease: Option<Rc<Cell<i64>>>,
    permit: Permit,
}

enum Payload {
    /// A request as it goes out: the application's own bytes, or what the adapter wrote. Gone once it was sent.
    Ready(Option<Box<Outgoing>>),
    /// A request that the adapter writes once it has a token, or once what has to be answered before it was.
    Written(Box<Request>),
    /// A fence against an earlier attempt.
    Fence(EarlierAttempt),
    /// A question about one.
    Lookup(EarlierAttempt),
}

impl Payload {
    /// Writes what can be written before anything is sent, so that it is done while the ledger is at work.
    fn made_ready(self, at: &At, account: &Account) -> Result<Self, &'static str> {
        let Self::Written(request) = self else { return Ok(self) };
        let refused = |refusal: Refusal| refusal.label();
        let alone = matches!(at.gateway.authentication(account).map_err(refused)?, Auth::Static)
            && at.gateway.before(&request, account).map_err(refused)?.is_none();
        match alone {
            true => {
                let written = at.gateway.encode(&request, account).map_err(refused)?;
                Ok(Self::Ready(Some(Box::new(written))))
            }
            false => Ok(Self::Written(request)),
        }
    }
}

/// How an attempt ended.
pub(super) struct Landed {
    pub n: u16,
    pub result: Result<Box<Report_>, &'static str>,
}

/// What came of an attempt that was sent, or that was to be.
pub(super) struct Report_ {
    pub finding: Finding,
    pub evidence: Evidence,
    pub observation: Option<Observation>,
    pub answer: Option<Incoming>,
}

/// What a flight is prepared from.
pub(super) struct Ground<'a> {
    pub desk: &'a Rc<Desk>,
    pub route: &'a Route,
    pub payment: Uuid,
    pub state: &'a State,
    pub dossier: &'a Dossier,
    pub material: Option<&'a Material>,
    /// Until when the payment is ours; `None` where nothing depends on it.
    pub lease: Option<&'a Rc<Cell<i64>>>,
}

impl Ground<'_> {
    /// Prepares an attempt. `Err` is why it is not sent.
    pub fn prepare(&self, send: &Send, permit: Option<Permit>) -> Result<Flight, &'static str> {
        let planned = self.state.plan.gateway(send.gateway).ok_or("not_in_plan")?;
        let at = self.route.at(&planned.name).ok_or("gateway_removed")?;
        let attempt = self.state.attempt(send.n).ok_or("no_such_attempt")?;
        let key = self.key(at, send.leg, send.key);
        let account = at.account(key, self.payment.to_string());
        let (payload, asked, reference) = match send.leg {
            Leg::Charge | Leg::Auth => self.payment(send, at)?,
            Leg::Capture | Leg::Void | Leg::Refund => {
                let request = self.modification(send).ok_or("no_target")?;
                let asked = request.clone();
                let reference = account.reference.clone();
                (Payload::Written(Box::new(request)), Some(asked), Some(reference))
            }
            Leg::Fence | Leg::Lookup => self.question(send, at)?,
        };
        let payload = payload.made_ready(at, &account)?;
        let permit = match permit {
            Some(permit) => permit,
            None => self.desk.admit(at, send.leg)?,
        };
        let kind = match (send.leg, attempt.why) {
            (Leg::Fence, _) => Kind::Fence,
            (Leg::Lookup, _) => Kind::Lookup,
            (_, core::Why::Release) => Kind::Obligation,
            _ if attempt.sends > 1 => Kind::Retry,
            (Leg::Charge | Leg::Auth, _) if send.gateway > 0 => Kind::Failover,
            _ => Kind::First,
        };
        Ok(Flight {
            n: send.n,
            leg: send.leg,
            at: at.clone(),
            kind,
            payload,
            account,
            asked,
            reference,
            timeout: self.route.failover().attempt_timeout,
            fresh: self
                .state
                .pays()
                .any(|(_, earlier)| earlier.gateway == send.gateway && earlier.reused),
            lease: self.lease.cloned(),
            permit,
        })
    }

    fn key(&self, at: &At, leg: Leg, key: Key) -> String {
        let application = self.dossier.key.as_deref();
        self.desk
            .engine
            .key(self.payment, Some(at), &at.config.name, leg, key, application)
    }

    /// The payment itself: the application's own bytes to its own gateway, a translation to any other.
    fn payment(&self, send: &Send, at: &At) -> Result<(Payload, Option<Request>, Option<String>), &'static str> {
        let material = self.material.ok_or("body_gone")?;
        let gated_sale = self.state.plan.mode == Mode::Gated && self.state.plan.intent == core::Intent::Sale;
        if at.native && !gated_sale {
            let mut headers = material.head.headers.clone();
            headers.remove(http::header::CONTENT_LENGTH);
            if let Some(authorization) = &material.authorization {
                headers.insert(http::header::AUTHORIZATION, authorization.clone());
            }
            if send.key != Key::Application
                && let Some(name) = at.gateway.idempotency_header()
                && let Ok(value) = HeaderValue::from_str(&self.key(at, send.leg, send.key))
            {
                headers.insert(name, value);
            }
            let target = match &material.head.query {
                Some(query) => format!("{}?{query}", material.head.path),
                None => material.head.path.clone(),
            };
            let outgoing = Outgoing {
                method: material.head.method.clone(),
                target,
                headers,
                body: material.body.clone(),
            };
            let asked = Request::Pay(Box::new(material.pay.clone()));
            return Ok((Payload::Ready(Some(Box::new(outgoing))), Some(asked), None));
        }
        let mut pay = if at.native {
            material.pay.clone()
        } else {
            let instrument = material.tokens.get(&at.config.name).cloned();
            planner::translated(&material.pay, instrument)
        };
        if self.state.plan.mode == Mode::Gated {
            pay = planner::held(&pay);
        }
        let request = Request::Pay(Box::new(pay));
        let asked = request.clone();
        Ok((
            Payload::Written(Box::new(request)),
            Some(asked),
            Some(self.payment.to_string()),
        ))
    }

    /// The ids of what an attempt made, as its gateway knows them.
    fn target(&self, of: u16, of_capture: Option<u16>) -> Option<Target> {
        let attempt = self.state.attempt(of)?;
        let mut target = Target {
            payment: attempt.ids.payment.clone(),
            amount: attempt.amount,
            ..Target::default()
        };
        if attempt.leg == Leg::Auth {
            target.authorization.clone_from(&attempt.ids.charge);
        }
        let mut captures = self.state.numbered().rev().filter(|(_, capture)| {
            capture.of == Some(of) && capture.leg == Leg::Capture && capture.known.outcome() == Outcome::Succeeded
        });
        let capture = captures.find(|(n, _)| of_capture.is_none_or(|wanted| wanted == *n));
        let capture = capture.map(|(_, capture)| capture);
        target.charge = match capture {
            Some(capture) => capture.ids.charge.clone().or_else(|| capture.ids.modification.clone()),
            None => attempt.ids.charge.clone(),
        };
        if capture.is_some() && target.charge.is_none() {
            target.charge.clone_from(&attempt.ids.charge);
        }
        Some(target)
    }

    /// All that an attempt took, as long as nothing of it was given back; the refund that is asked for is not counted.
    fn untouched(&self, of: u16, refund: &Send) -> Option<Amount> {
        let taken = self.state.attempt(of)?.amount?;
        if self.state.winner != Some(of) {
            return Some(taken);
        }
        let other = self.state.numbered().any(|(n, attempt)| {
            let refunds = attempt.leg == Leg::Refund && attempt.of == Some(of);
            refunds && n != refund.n && !attempt.known.no_effect()
        });
        let units = self.state.books().captured;
        (!other).then_some(Amount { units, ..taken })
    }

    fn modification(&self, send: &Send) -> Option<Request> {
        let note = self.dossier.notes.get(&send.n).cloned().unwrap_or_default();
        let mut target = self.target(send.of?, note.capture)?;
        if send.leg == Leg::Refund {
            target.untouched = self.untouched(send.of?, send);
        }
        let amount = send.amount;
        Some(match send.leg {
            Leg::Capture => Request::Capture {
                target,
                amount,
                units: None,
                last: !self
                    .state
                    .attempt(send.n)
                    .is_some_and(|capture| self.state.keeps(capture)),
            },
            Leg::Void => Request::Void {
                target,
                reason: note.reason,
            },
            _ => Request::Refund {
                target,
                amount,
                units: None,
                reason: note.reason,
                reference: note.reference,
                metadata: note.metadata,
            },
        })
    }

    /// Why the owner cannot do what is asked of the payment, found out by writing it. What only the account lacks, or what
    /// is missing until the request is really made, is no such reason.
    pub fn cannot(&self, leg: Leg, amount: Option<Amount>) -> Option<Refusal> {
        let w = self.state.winner?;
        let planned = self.state.gateway_of(self.state.attempt(w)?)?;
        let at = self.route.at(&planned.name)?;
        let target = self.target(w, None)?;
        let request = match leg {
            Leg::Capture => Request::Capture {
                target,
                amount,
                units: None,
                last: true,
            },
            Leg::Void => Request::Void { target, reason: None },
            _ => return None,
        };
        let account = planner::trial_account(at);
        let written = match at.gateway.before(&request, &account) {
            Ok(None) => at.gateway.encode(&request, &account).map(|_| ()),
            before => before.map(|_| ()),
        };
        written.err().filter(|refusal| matches!(refusal, Refusal::Operation(_)))
    }

    fn question(&self, send: &Send, at: &At) -> Result<(Payload, Option<Request>, Option<String>), &'static str> {
        let of = send.of.ok_or("no_target")?;
        let target = self.state.attempt(of).ok_or("no_target")?;
        // The application's own bytes carry the merchant's reference, everything else Sentinel's.
        let gated_sale = self.state.plan.mode == Mode::Gated && self.state.plan.intent == core::Intent::Sale;
        let own = at.native && !gated_sale && matches!(target.leg, Leg::Charge | Leg::Auth);
        let reference = if own {
            self.dossier.base.reference.clone()
        } else {
            Some(self.payment.to_string())
        };
        let key = self.key(at, target.leg, target.key);
        // The application's own bytes carry a key of Sentinel's only where the dialect has a header for it: what is done
        // under one that was never sent says nothing of them.
        let carried = !own || target.key == Key::Application || at.gateway.idempotency_header().is_some();
        let earlier = EarlierAttempt {
            idempotency_key: Some(key).filter(|key| carried && !key.is_empty()),
            // Whoever searches by it finds the payment, whatever became of its refund.
            reference: reference.clone().filter(|_| target.leg != Leg::Refund),
            object: match target.leg {
                Leg::Refund => target.ids.modification.clone(),
                Leg::Capture | Leg::Void => {
                    let acts_on = target.of.and_then(|of| self.state.attempt(of));
                    let named = acts_on.and_then(|of| of.ids.payment.clone());
                    target.ids.payment.clone().or(named)
                }
                _ if own => self.dossier.confirms.clone().or_else(|| target.ids.payment.clone()),
                _ => target.ids.payment.clone(),
            },
            charge: target.ids.charge.clone(),
            amount: target.amount.or(Some(self.dossier.base.amount)),
            sent_at: target.at,
            automatic_capture: target.leg == Leg::Charge,
        };
        let asked = match target.leg {
            Leg::Charge | Leg::Auth => Some(self.dossier.skeleton(self.state.plan.mode == Mode::Gated)),
            _ => None,
        };
        if send.leg == Leg::Fence {
            // A tombstone is marked with Sentinel's reference, whoever the attempt belonged to; an object that is ended
            // has the attempt's own.
            let mark = match earlier.object {
                Some(_) => reference,
                None => Some(self.payment.to_string()),
            };
            Ok((Payload::Fence(earlier), asked, mark))
        } else {
            Ok((Payload::Lookup(earlier), asked, reference))
        }
    }
}

impl Desk {
    /// Asks the breaker. A question moves no money and may be its probe.
    pub(super) fn admit(self: &Rc<Self>, at: &At, leg: Leg) -> Result<Permit, &'static str> {
        let harmless = matches!(leg, Leg::Fence | Leg::Lookup);
        let probing = if harmless || !at.has_credentials() {
            Probing::Allowed
        } else {
            Probing::Avoid
        };
        match at.breaker.admit(At::instant(), probing) {
            Ok(mut permit) => {
                if let Some(transition) = permit.take_transition() {
                    at.transition(&transition);
                }
                Ok(permit)
            }
            Err(_) => {
                at.metrics.rejected();
                self.probe(at);
                Err("circuit_open")
            }
        }
    }

    /// Sends it. Whatever happens, there is one answer.
    pub(super) async fn fly(self: Rc<Self>, mut flight: Flight) -> Landed {
        let n = flight.n;
        let mut once_more = true;
        loop {
            let deadline = Instant::now() + flight.timeout;
            let (exchanged, observation) = match self.written(&mut flight, deadline).await {
                Ok(outgoing) => {
                    let exchanged = match &flight.payload {
                        Payload::Lookup(earlier) => self.looked_up(&flight, earlier, outgoing, deadline).await,
                        _ => self.exchanged(&flight, outgoing, deadline).await,
                    };
                    let observation = exchanged.answer.as_ref().map(|answer| {
                        let reference = flight.reference.as_deref();
                        let gateway = flight.at.gateway;
                        gateway.observe(flight.leg, flight.asked.as_ref(), reference, answer)
                    });
                    (exchanged, observation)
                }
                Err(Unsent::Because(reason)) => {
                    return Landed { n, result: Err(reason) };
                }
                Err(Unsent::Unprepared(exchanged, observation)) => (*exchanged, observation.map(|seen| *seen)),
            };
            // The token had been revoked. Refused credentials execute nothing, so the same request goes once more.
            let stale = observation.as_ref().is_some_and(|seen| seen.rule == "token_refused");
            if stale && once_more && flight.account.token.is_some() {
                once_more = false;
                self.engine.tokens.forget(&flight.at);
                continue;
            }
            let finding = Finding::from_exchange(&exchanged.evidence, observation.as_ref(), flight.at.trust());
            let took = exchanged.evidence.took;
            let verdict = match (&exchanged.answer, finding.outcome) {
                (None, _) if exchanged.side != Side::Upstream => Verdict::Ignored,
                (_, Outcome::Unknown) if !finding.pending && matches!(flight.leg, Leg::Fence | Leg::Lookup) => {
                    match &exchanged.answer {
                        Some(answer) => Verdict::of_status(answer.status.as_u16()),
                        None => Verdict::Failure,
                    }
                }
                (_, Outcome::Unknown) if !finding.pending => Verdict::Unknown,
                (Some(answer), _) => Verdict::of_status(answer.status.as_u16()),
                (None, _) => Verdict::Failure,
            };
            let retry_after = observation.as_ref().and_then(|seen| seen.retry_after);
            let report = Report {
                verdict,
                took,
                retry_after: retry_after.map(Duration::from_secs),
            };
            if let Some(transition) = flight.permit.report(report, At::instant(), jitter()) {
                flight.at.transition(&transition);
            }
            AttemptFinished {
                at: &flight.at.metrics,
                kind: flight.kind,
                result: exchanged.failure.map_or("answered", Failure::name),
                took,
                sent: match exchanged.evidence.sent() {
                    crate::upstream::Sent::No => "not_sent",
                    crate::upstream::Sent::Maybe => "unknown",
                },
                bytes_sent: exchanged.evidence.bytes_sent,
                status: exchanged.evidence.status,
                note: &exchanged.evidence.note,
                trace: None,
            }
            .emit();
            return Landed {
                n,
                result: Ok(Box::new(Report_ {
                    finding,
                    evidence: exchanged.evidence,
                    observation,
                    answer: exchanged.answer,
                })),
            };
        }
    }

    /// Sends one request of a flight; the lease has the last word before the commit byte.
    async fn exchanged(&self, flight: &Flight, outgoing: Outgoing, deadline: Instant) -> Exchanged {
        let (ledger, lease) = (&self.engine.ledger, flight.lease.as_ref());
        let gate = async || lease.is_none_or(|until| ledger.now() < until.get());
        let left = deadline.saturating_duration_since(Instant::now());
        self.exchange(&flight.at, outgoing, left, flight.fresh, gate).await
    }

    /// Asks, and goes on asking for the next page of the answer. What is left unread then is not taken for absent.
    async fn looked_up(
        &self,
        flight: &Flight,
        earlier: &EarlierAttempt,
        mut asked: Outgoing,
        deadline: Instant,
    ) -> Exchanged {
        let mut so_far = None;
        let mut read = 0;
        loop {
            let mut exchanged = self.exchanged(flight, asked.clone(), deadline).await;
            let Some(answer) = exchanged.answer.take() else {
                return exchanged;
            };
            read += 1;
            let (account, gateway) = (&flight.account, flight.at.gateway);
            let (joined, next) = gateway.page(earlier, account, &asked, so_far.take(), answer);
            match next.filter(|_| read < PAGES && Instant::now() < deadline) {
                Some(next) => (so_far, asked) = (Some(joined), next),
                None => {
                    exchanged.answer = Some(joined);
                    return exchanged;
                }
            }
        }
    }

    /// Sends what has to be answered before the request itself can be written.
    async fn prepared(&self, flight: &mut Flight, deadline: Instant) -> Result<(), Unsent> {
        let Payload::Written(request) = &flight.payload else {
            return Ok(());
        };
        let gateway = flight.at.gateway;
        for _ in 0..PREPARATIONS {
            let Some(outgoing) = gateway.before(request, &flight.account)? else {
                return Ok(());
            };
            let mut exchanged = self.exchanged(flight, outgoing, deadline).await;
            let observation = match &exchanged.answer {
                Some(answer) => match gateway.prepared(request, &mut flight.account, answer) {
                    Ok(()) => continue,
                    Err(Stopped::Decided(seen)) => Some(seen),
                    Err(Stopped::Unsent) => None,
                },
                None => None,
            };
            if observation.is_none() {
                // The evidence is of another request: of this one, nothing was handed over.
                exchanged.evidence = Evidence {
                    progress: Progress::Nothing,
                    bytes_sent: 0,
                    reused: false,
                    note: format!("not prepared: {}", exchanged.evidence.note),
                    ..exchanged.evidence
                };
            }
            return Err(Unsent::Unprepared(Box::new(exchanged), observation));
        }
        Err(Unsent::Because("not_prepared"))
    }

    /// The request for the wire. `Err` is why there is none: nothing was sent then.
    async fn written(self: &Rc<Self>, flight: &mut Flight, deadline: Instant) -> Result<Outgoing, Unsent> {
        if let Payload::Ready(outgoing) = &mut flight.payload {
            return outgoing
                .take()
                .map(|outgoing| *outgoing)
                .ok_or(Unsent::Because("sent_before"));
        }
        match flight.at.gateway.authentication(&flight.account) {
            Ok(Auth::Static) => {}
            Ok(Auth::Token { .. }) => {
                let token = self.token(&flight.at).await;
                flight.account.token = Some(token.ok_or(Unsent::Because("no_access_token"))?);
            }
            Err(refusal) => return Err(refusal.into()),
        }
        self.prepared(flight, deadline).await?;
        let gateway = flight.at.gateway;
        match &flight.payload {
            Payload::Ready(_) => Err(Unsent::Because("sent_before")),
            Payload::Written(request) => Ok(gateway.encode(request, &flight.account)?),
            Payload::Fence(earlier) => gateway
                .fence(earlier, &flight.account)
                .ok_or(Unsent::Because("no_fence")),
            Payload::Lookup(earlier) => gateway
                .lookup(earlier, &flight.account)
                .ok_or(Unsent::Because("no_lookup")),
        }
    }
}

/// Why an attempt was not sent.
enum Unsent {
    /// For a reason of Sentinel's own.
    Because(&'static str),
    /// What has to be answered before was not, or decided the attempt.
    Unprepared(Box<Exchanged>, Option<Box<Observation>>),
}

impl From<Refusal> for Unsent {
    fn from(refusal: Refusal) -> Self {
        Self::Because(refusal.label())
    }
}
