//! Captures, voids, refunds and looks at payments: the id leads to the owner.
//!
//! An id that the ledger does not know, or whose payment is the application's own gateway's, is forwarded untouched: that
//! gateway knows best. What was taken elsewhere is translated and goes to the owner, and never anywhere else; looks at it
//! are answered from the ledger.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::oneshot;

use super::super::core::{Attempt, FollowUpVerdict, Impossible, Phase, State, What};
use super::actor::{Actor, Lost, key_reused};
use super::answer::{Told, own_error, put};
use super::dossier::{Note, refund_told};
use super::entry::{Asked, Handled};
use super::flight::Ground;
use super::source::{KeySource, order_hash};
use super::{Desk, Message, Route, captures, lowering};
use crate::failpoint;
use crate::gateway::canonical::{Answer, ObjectKind, Operation, Refusal, Request, Status, Target};
use crate::gateway::{Head, Leg, OwnError, Reply};
use crate::ledger::keys::Purpose;
use crate::ledger::rows::{Filter, Payment, Scope};
use crate::money::Amount;

/// A follow-up on its way to its payment.
pub(crate) struct FollowUp {
    operation: Operation,
    request: Request,
    /// Names it: the keyed hash of its idempotency key, or something that nobody says twice.
    name: String,
    head: Head,
    body: Bytes,
    /// What the id that was named is: `payment`, `charge`, `refund:3`.
    kind: String,
    reply: oneshot::Sender<Told>,
}

impl FollowUp {
    /// A look at a payment by something that leads to it, without an id of its own.
    pub(super) fn look(kind: &str, head: Head, body: Bytes, reply: oneshot::Sender<Told>) -> Self {
        Self {
            operation: Operation::List,
            request: Request::Retrieve {
                target: Target::default(),
            },
            name: String::new(),
            head,
            body,
            kind: kind.to_owned(),
            reply,
        }
    }
}

/// Who waits for a follow-up.
pub(super) struct Waiting {
    name: String,
    operation: Operation,
    /// What the id that was named is.
    kind: String,
    head: Head,
    body: Bytes,
    reply: oneshot::Sender<Told>,
}

/// The kind of a name that the application gave a payment itself, before any answer.
const UNSEEN: &str = "unseen";

const FORWARD: Handled = Handled::Forward {
    unavailable: None,
    authorization: None,
};

/// Handles a follow-up.
pub(super) async fn handle(desk: &Rc<Desk>, route: &Arc<Route>, asked: Asked) -> Handled {
    let dialect = route.dialect();
    let none = std::collections::BTreeMap::new();
    let settings = route.own().map_or(&none, |own| &own.config.settings);
    let parsed = dialect.parse(&asked.recognised, &asked.head, &asked.body, settings);
    // Even a request that cannot be understood is about the object in its path.
    let ids = match &parsed {
        Ok(request) => ids(request),
        Err(_) => asked.recognised.object.iter().cloned().collect(),
    };
    let named = ids.first().cloned();
    let mut found = match &parsed {
        Ok(Request::Void { target, .. }) => unseen(desk, route, target).await,
        _ => None,
    };
    for id in ids {
        let scope = Scope::Application {
            tenant: route.tenant().to_owned(),
            dialect: dialect.dialect().name().to_owned(),
        };
        match desk.engine.ledger.by_id(scope, id).await {
            Ok(Some(known)) => {
                found = Some(known);
                break;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "an id could not be looked up"),
        }
    }
    let Some((payment, kind)) = found else {
        let unpaid = match &named {
            Some(id) if asked.recognised.operation != Operation::List => {
                let request = (&asked.head, &asked.body[..]);
                desk.unpaid(route, request, asked.recognised.operation, id).await
            }
            _ => None,
        };
        return unpaid.unwrap_or(FORWARD);
    };
    let owner = serde_json::from_str::<State>(&payment.folded).ok().and_then(|state| {
        let winner = state
            .winner
            .and_then(|n| state.attempt(n))
            .or_else(|| state.pays().next_back().map(|(_, a)| a))?;
        // Named by something else than its id, a payment may still be on its way: the gateway would say that there is
        // nothing to cancel, and another one may be asked for the payment next.
        let moving = matches!(
            state.phase,
            Phase::Trying { .. } | Phase::Fencing { .. } | Phase::Licensed
        );
        let native = state.gateway_of(winner)?.native;
        Some(native && !(kind == UNSEEN && moving))
    });
    if owner.unwrap_or(true) {
        return FORWARD;
    }
    let request = match parsed {
        Ok(request) => request,
        Err(refusal) => return Handled::Answered(refused(route, &refusal, &asked.head)),
    };
    let key = dialect.idempotency_key(&asked.head, &asked.body).ok().flatten();
    let name = match key {
        Some(key) => {
            let parts: [&[u8]; 4] = [
                route.tenant().as_bytes(),
                route.name().as_bytes(),
                b"follow-up",
                key.as_bytes(),
            ];
            let hash = desk.engine.ledger.keys().hash(Purpose::IdempotencyKey, &parts);
            hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
        }
        // Without a key a repeat is another request, as it would be at the gateway.
        None => format!("once-{}", uuid::Uuid::new_v4().simple()),
    };
    let (reply, answer) = oneshot::channel();
    let head = asked.head.clone();
    let follow_up = FollowUp {
        operation: asked.recognised.operation,
        request,
        name,
        head: asked.head,
        body: asked.body,
        kind,
        reply,
    };
    desk.engine
        .send(payment.id, Message::FollowUp(Box::new(follow_up)))
        .await;
    match answer.await {
        Ok(told) => Handled::Answered(told),
        Err(_) => Handled::Answered(Told::lost(route, &head)),
    }
}

/// What was asked of a payment that another gateway took, and that one cannot do.
fn refused(route: &Route, refusal: &Refusal, head: &Head) -> Told {
    let error = OwnError {
        status: StatusCode::BAD_REQUEST,
        code: refusal.label(),
        message: format!("The payment was taken by another gateway, which cannot do this: {refusal}."),
        retry: false,
    };
    own_error(route, head, &error, "follow_up_refused")
}

/// The payment that a void names by what the application gave it, not by an id that it was answered.
async fn unseen(desk: &Rc<Desk>, route: &Arc<Route>, target: &Target) -> Option<(Payment, String)> {
    let payment = match (&target.key, &target.reference) {
        (Some(key), _) => made_by(desk, route, key).await,
        (None, Some(reference)) => made_for(desk, route, reference).await,
        (None, None) => None,
    };
    payment.map(|payment| (payment, UNSEEN.to_owned()))
}

/// The latest payment for an order reference that took something or still may: references are not unique, and of several
/// payments Adyen means the latest. Applications of another dialect have orders of their own.
async fn made_for(desk: &Rc<Desk>, route: &Arc<Route>, reference: &str) -> Option<Payment> {
    let ledger = &desk.engine.ledger;
    let filter = Filter {
        tenant: Some(route.tenant().to_owned()),
        order_ref_hash: Some(order_hash(ledger.keys(), route.tenant(), reference)),
        ..Filter::default()
    };
    let all = match ledger.list(filter).await {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "an order reference could not be looked up");
            return None;
        }
    };
    let routes = desk.engine.routes();
    let here = |payment: &Payment| {
        let of = routes.iter().find(|other| other.name() == payment.route);
        of.is_some_and(|other| other.dialect().dialect() == route.dialect().dialect())
    };
    let phase = |payment: &Payment| Some(serde_json::from_str::<State>(&payment.folded).ok()?.phase);
    let mut mine: Vec<Payment> = all.into_iter().filter(here).collect();
    // One that was cancelled before answers a repeated request, unless there is another to cancel.
    let open = |payment: &Payment| !matches!(phase(payment), Some(Phase::Failed { .. } | Phase::Voided { .. }));
    let voided = |payment: &Payment| matches!(phase(payment), Some(Phase::Voided { .. }));
    let at = mine.iter().position(open).or_else(|| mine.iter().position(voided))?;
    Some(mine.swap_remove(at))
}

/// The payment that was made under an application's idempotency key.
async fn made_by(desk: &Rc<Desk>, route: &Arc<Route>, key: &str) -> Option<Payment> {
    let source = KeySource::Application {
        method: http::Method::POST.to_string(),
        key: key.to_owned(),
        path: None,
    };
    let hash = source.hash(desk.engine.ledger.keys(), route, uuid::Uuid::nil(), 0);
    match desk.engine.ledger.by_key(hash).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "a key could not be looked up");
            None
        }
    }
}

/// The ids by which a request names its payment.
fn ids(request: &Request) -> Vec<String> {
    let of = |target: &Target| {
        [&target.payment, &target.charge, &target.authorization]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    };
    match request {
        Request::Pay(pay) => pay.confirms.iter().cloned().collect(),
        Request::Capture { target, .. }
        | Request::Void { target, .. }
        | Request::Refund { target, .. }
        | Request::Retrieve { target } => of(target),
        Request::RetrieveRefund { refund } => vec![refund.clone()],
        Request::List(filter) => filter.refunds_of.iter().cloned().collect(),
    }
}

/// Takes a follow-up in.
pub(super) async fn take(actor: &mut Actor, asked: FollowUp) -> Result<(), Lost> {
    let FollowUp {
        operation,
        mut request,
        name,
        head,
        body,
        kind,
        reply,
    } = asked;
    let dialect = actor.route.dialect();
    if let Err(refusal) = request.in_currency(dialect.dialect(), actor.dossier.currency()) {
        let error = OwnError {
            status: StatusCode::BAD_REQUEST,
            code: refusal.label(),
            message: refusal.to_string(),
            retry: false,
        };
        let _ = reply.send(own_error(&actor.route, &head, &error, "follow_up_refused"));
        return Ok(());
    }
    let keeps = match actor.keeps(&request) {
        Ok(keeps) => keeps,
        Err(refusal) => {
            let _ = reply.send(actor.refused(&refusal, &head));
            return Ok(());
        }
    };
    if dialect.edits_amounts() {
        if let Err(told) = lowering::recall(actor, &head).await {
            let _ = reply.send(told);
            return Ok(());
        }
        if let Request::Capture { amount, .. } = &mut request {
            match (operation, *amount) {
                (Operation::Edit, Some(amount)) => {
                    let _ = reply.send(lowering::lower(actor, amount, &head, &body).await);
                    return Ok(());
                }
                (_, asked) => *amount = asked.or(actor.dossier.base.taking),
            }
        }
    }
    // Where captures take the whole, the amount in one is there to be checked.
    if let Request::Capture {
        amount: Some(amount), ..
    } = &request
        && !dialect.capabilities().partial_capture
        && *amount != actor.dossier.base.amount
    {
        let error = OwnError {
            status: StatusCode::BAD_REQUEST,
            code: "amount_mismatch",
            message: "The amount of a capture must be equal to the amount that is held.".to_owned(),
            retry: false,
        };
        let _ = reply.send(own_error(&actor.route, &head, &error, "follow_up_refused"));
        return Ok(());
    }
    let now = actor.desk.engine().now();
    let (leg, mut amount, mut note) = match request {
        Request::Capture { amount, .. } => (Leg::Capture, amount, Note::default()),
        Request::Void { reason, .. } if dialect.void_takes_back() && actor.state.books().captured > 0 => (
            Leg::Refund,
            None,
            Note {
                reason,
                created: now,
                ..Note::default()
            },
        ),
        Request::Void { reason, .. } => (
            Leg::Void,
            None,
            Note {
                reason,
                ..Note::default()
            },
        ),
        Request::Refund {
            amount,
            reason,
            reference,
            metadata,
            ..
        } => (
            Leg::Refund,
            amount,
            Note {
                reason,
                reference,
                metadata,
                created: now,
                capture: None,
            },
        ),
        Request::Retrieve { .. } | Request::RetrieveRefund { .. } | Request::List(_) | Request::Pay(_) => {
            let _ = reply.send(actor.shown(operation, &kind, &head, &body));
            return Ok(());
        }
    };
    if let Some(refusal) = actor.cannot(leg, amount) {
        let _ = reply.send(actor.refused(&refusal, &head));
        return Ok(());
    }
    if leg == Leg::Refund {
        match captures::refunded(&actor.dossier, &actor.state, (&name, &kind), amount) {
            Ok(from) => (amount, note.capture) = (from.amount, from.capture),
            Err(captures::Unrefundable::Several) => {
                let refusal = Refusal::Operation("refunding what several captures took by one refund".to_owned());
                let _ = reply.send(actor.refused(&refusal, &head));
                return Ok(());
            }
            Err(captures::Unrefundable::TooMuch) => {
                let error = OwnError {
                    status: StatusCode::BAD_REQUEST,
                    code: "amount_too_large",
                    message: "This is more than is left of the capture.".to_owned(),
                    retry: false,
                };
                let _ = reply.send(own_error(&actor.route, &head, &error, "not_sent"));
                return Ok(());
            }
        }
    }
    actor.asking.push(Waiting {
        name: name.clone(),
        operation,
        kind,
        head,
        body,
        reply,
    });
    // The note is for the attempt that the core is about to plan; where it plans none, there is nothing to note.
    let n = actor.state.last().saturating_add(1);
    actor.note(n, note);
    let what = What::FollowUp {
        request: Some(name),
        leg,
        amount,
        keeps,
    };
    let done = actor.take(what).await;
    if actor.state.last() < n {
        actor.dossier.notes.remove(&n);
    }
    done
}

/// Answers whoever asked for it.
pub(super) fn answer(actor: &mut Actor, name: Option<&str>, verdict: FollowUpVerdict) {
    let mut rest = Vec::new();
    for waiting in std::mem::take(&mut actor.asking) {
        if Some(waiting.name.as_str()) == name {
            let told = actor.follow_up_told(&waiting, verdict);
            failpoint::pass("application.answer");
            let _ = waiting.reply.send(told);
            failpoint::pass("application.answered");
        } else {
            rest.push(waiting);
        }
    }
    actor.asking = rest;
}

impl Actor {
    fn refused(&self, refusal: &Refusal, head: &Head) -> Told {
        refused(&self.route, refusal, head)
    }

    /// Whether a capture is to keep the rest of the hold for another one. It is refused where the owner cannot: a rest that
    /// was released unasked cannot be had back.
    fn keeps(&self, request: &Request) -> Result<bool, Refusal> {
        let Request::Capture {
            amount: Some(amount),
            last: false,
            ..
        } = request
        else {
            return Ok(false);
        };
        let books = self.state.books();
        let left = books.held.map(|held| held - books.captured - books.capturing);
        if left.is_none_or(|left| amount.units >= left) {
            return Ok(false);
        }
        let owner = self.state.winner.and_then(|w| self.at(w));
        match owner.is_some_and(|at| at.capabilities().multiple_captures) {
            true => Ok(true),
            false => Err(Refusal::Operation(
                "keeping the rest of a hold for a later capture".to_owned(),
            )),
        }
    }

    pub(super) fn cannot(&self, leg: Leg, amount: Option<Amount>) -> Option<Refusal> {
        let ground = Ground {
            desk: &self.desk,
            route: &self.route,
            payment: self.payment,
            state: &self.state,
            dossier: &self.dossier,
            material: None,
            lease: None,
        };
        ground.cannot(leg, amount)
    }

    /// The id that the application knows a refund by.
    fn refund_id(&self, n: u16) -> String {
        self.desk.engine().refund_id(self.route.dialect(), self.payment, n)
    }

    /// The id that the application knows a capture by.
    fn capture_id(&self, n: u16) -> String {
        self.desk.engine().capture_id(self.route.dialect(), self.payment, n)
    }

    /// The payment as it is now.
    pub(super) fn present(&self) -> crate::gateway::canonical::View {
        let n = self
            .state
            .winner
            .or_else(|| self.state.pays().next_back().map(|(n, _)| n));
        let mut view = self.dossier.view(&self.state, n, None);
        view.refunds = self.dossier.refunds(&self.state, |n| self.refund_id(n));
        view.captures = self.dossier.captures(&self.state, |n| self.capture_id(n));
        view.ids.capture = view.captures.last().map(|capture| capture.id.clone());
        view
    }

    /// Answers a look at the payment or at its refunds.
    fn shown(&self, operation: Operation, kind: &str, head: &Head, body: &[u8]) -> Told {
        let mut view = Box::new(self.present());
        if let Some(n) = captures::named(kind) {
            view.ids.capture = Some(self.capture_id(n));
        }
        let refund = kind.strip_prefix("refund:").and_then(|n| n.parse::<u16>().ok());
        let answer = match operation {
            Operation::List if kind == "order" => Answer::List(vec![*view]),
            Operation::List => Answer::Refunds(view.clone(), view.refunds.clone()),
            Operation::RetrieveRefund => {
                let id = refund.map(|n| self.refund_id(n));
                match view
                    .refunds
                    .iter()
                    .find(|refund| Some(&refund.id) == id.as_ref())
                    .cloned()
                {
                    Some(refund) => Answer::Refund(view, refund),
                    None => Answer::Refunds(view.clone(), view.refunds.clone()),
                }
            }
            _ if view.status == Status::Declined => match self.state.winner {
                Some(_) => Answer::Payment(Operation::Retrieve, view),
                None => Answer::Payment(Operation::Retrieve, view),
            },
            _ => Answer::Payment(Operation::Retrieve, view),
        };
        self.named(self.route.dialect().render(&answer, head, body), "shown")
    }

    fn follow_up_told(&self, waiting: &Waiting, verdict: FollowUpVerdict) -> Told {
        let dialect = self.route.dialect();
        let (head, body) = (&waiting.head, &waiting.body);
        let error = |status, code, message: &str, outcome| {
            let error = OwnError {
                status,
                code,
                message: message.to_owned(),
                retry: false,
            };
            let mut reply = dialect.render_error(&error, head);
            put(reply.headers_mut(), "sentinel-outcome", outcome);
            self.named(reply, outcome)
        };
        match verdict {
            FollowUpVerdict::Done { n } | FollowUpVerdict::Accepted { n } => {
                let accepted = matches!(verdict, FollowUpVerdict::Accepted { .. });
                let mut view = Box::new(self.present());
                match waiting.operation {
                    Operation::Capture => view.ids.capture = Some(self.capture_id(n)),
                    Operation::Refund => {
                        let of = self.dossier.notes.get(&n).and_then(|note| note.capture);
                        view.ids.capture = of.map(|of| self.capture_id(of)).or(view.ids.capture);
                    }
                    _ => {}
                }
                // Asked for, and not done yet: honest, and no failure.
                if accepted && waiting.operation == Operation::Capture {
                    view.status = Status::Processing;
                    view.taking = self.state.attempt(n).and_then(|attempt| attempt.amount);
                }
                if accepted && waiting.operation == Operation::Void {
                    view.status = Status::Voided;
                    view.voided_at = Some(self.desk.engine().now());
                }
                let answer = match waiting.operation {
                    Operation::Refund => {
                        let amount = self.state.attempt(n).and_then(|attempt| attempt.amount);
                        let refund = self.dossier.refund(n, amount, refund_told(verdict), self.refund_id(n));
                        Answer::Refund(view, refund)
                    }
                    operation => Answer::Payment(operation, view),
                };
                let outcome = if accepted { "accepted" } else { "done" };
                self.named(dialect.render(&answer, head, body), outcome)
            }
            FollowUpVerdict::Refused { n } => error(
                StatusCode::BAD_REQUEST,
                "follow_up_refused",
                match self.state.attempt(n).is_some_and(Attempt::undone) {
                    true => {
                        "The refund was made and came back: nothing was given back. Another one needs a key of its own."
                    }
                    false => "The gateway that has the payment refused this.",
                },
                "rejected",
            ),
            FollowUpVerdict::NotSent { .. } => error(
                StatusCode::SERVICE_UNAVAILABLE,
                "gateway_unavailable",
                "The gateway that has the payment cannot take it now; nothing was done. Send it again.",
                "not_sent",
            ),
            FollowUpVerdict::InDoubt { .. } => {
                let answer = Answer::InDoubt {
                    payment: self.payment.to_string(),
                    running: true,
                    view: None,
                };
                let mut reply = dialect.render(&answer, head, body);
                put(reply.headers_mut(), "sentinel-outcome", "unknown");
                self.named(reply, "in_doubt")
            }
            FollowUpVerdict::Impossible(Impossible::KeyReused) => {
                let mut told = own_error(&self.route, head, &key_reused(), "key_reused");
                put(told.reply.headers_mut(), "sentinel-payment", &self.payment.to_string());
                told
            }
            // Nobody will be charged for what is cancelled: that is what was asked for.
            FollowUpVerdict::Impossible(Impossible::NoEffect) if waiting.kind == UNSEEN => {
                let answer = Answer::Payment(waiting.operation, Box::new(self.present()));
                self.named(dialect.render(&answer, head, body), "done")
            }
            // Not for long, and the gateway is not asked before: no answer that an application takes for the last word.
            FollowUpVerdict::Impossible(Impossible::InDoubt) => error(
                StatusCode::SERVICE_UNAVAILABLE,
                "payment_in_doubt",
                "The payment itself is still being found out about; nothing was done. Send it again.",
                "not_sent",
            ),
            FollowUpVerdict::Impossible(reason) => {
                let (code, message) = match reason {
                    Impossible::NoEffect => ("no_effect", "The payment was not made: there is nothing to act on."),
                    Impossible::TooMuch => ("amount_too_large", "This is more than is left of the payment."),
                    Impossible::InDoubt | Impossible::KeyReused | Impossible::WrongState => {
                        ("wrong_state", "The payment is in a state that does not allow this.")
                    }
                    Impossible::Held => ("payment_held", "A person is looking at the payment."),
                };
                error(StatusCode::BAD_REQUEST, code, message, "not_sent")
            }
        }
    }

    pub(super) fn named(&self, mut reply: Reply, outcome: &'static str) -> Told {
        let n = self
            .state
            .winner
            .or_else(|| self.state.pays().next_back().map(|(n, _)| n));
        let gateway = n.and_then(|n| self.at(n)).map(|at| at.config.name.clone());
        let headers = reply.headers_mut();
        put(headers, "sentinel-payment", &self.payment.to_string());
        if let Some(gateway) = &gateway {
            put(headers, "sentinel-gateway", gateway);
            put(headers, "proxy-status", &format!("sentinel; next-hop=\"{gateway}\""));
        }
        Told {
            reply,
            outcome,
            gateway,
        }
    }
}

impl super::Engine {
    /// The id of a refund as the application knows it: a function of the payment and the attempt.
    pub(super) fn refund_id(&self, dialect: &dyn crate::gateway::Gateway, payment: uuid::Uuid, n: u16) -> String {
        let bytes = self
            .ledger
            .keys()
            .derive(&[b"minted refund", payment.as_bytes(), &n.to_be_bytes()]);
        let mut seed = [0; 16];
        seed.copy_from_slice(&bytes[..16]);
        dialect.mint(ObjectKind::Refund, &seed)
    }

    /// The id of a capture, likewise.
    pub(super) fn capture_id(&self, dialect: &dyn crate::gateway::Gateway, payment: uuid::Uuid, n: u16) -> String {
        let bytes = self
            .ledger
            .keys()
            .derive(&[b"minted capture", payment.as_bytes(), &n.to_be_bytes()]);
        let mut seed = [0; 16];
        seed.copy_from_slice(&bytes[..16]);
        dialect.mint(ObjectKind::Capture, &seed)
    }
}
