//! What is kept of a payment so that answers can be made of it and recovery can ask about it: no body, no card number, no
//! secret. It is sealed in the ledger beside the records, and erased with them.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::super::core::{Attempt, FollowUpVerdict, Phase, State, Verdict, Why};
use crate::gateway::canonical::{
    Buyer, CaptureMode, CaptureView, CardView, Initiator, Instrument, ObjectKind, Operation, Pay, RefundStatus,
    RefundView, Request, Status, View, ViewIds,
};
use crate::gateway::outcome::{Decline, DeclineClass, Observation, Outcome};
use crate::gateway::{Gateway, Head, Leg};
use crate::money::{Amount, Currency};

/// Under this name it is sealed.
pub const NAME: &str = "dossier";

/// What gateways said of the attempts that they declined, by attempt, from the sealed value.
pub fn declines(sealed: &[u8]) -> BTreeMap<u16, Decline> {
    let dossier = serde_json::from_slice::<Dossier>(sealed).ok();
    let seen = dossier.map(|dossier| dossier.seen).unwrap_or_default();
    seen.into_iter()
        .filter_map(|(n, observation)| Some((n, observation.decline?)))
        .collect()
}

/// One payment's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dossier {
    /// What the application asked for.
    pub operation: Operation,
    /// The payment as it was asked for, under minted ids.
    pub base: View,
    /// The application's idempotency key: a fence has to claim the very one that the attempt carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The application's object that the payment confirms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirms: Option<String>,
    /// What answers said of attempts, by the attempt they speak of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<u16, Observation>,
    /// What the application said with its follow-ups, by attempt.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<u16, Note>,
}

/// What an application says with a capture or refund beside its amount.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Note {
    /// The merchant's reason.
    pub reason: Option<String>,
    /// The merchant's reference.
    pub reference: Option<String>,
    /// Key and value pairs.
    pub metadata: IndexMap<String, String>,
    /// When.
    pub created: i64,
    /// Of a refund: the attempt whose capture is given back, where there are several.
    #[serde(default)]
    pub capture: Option<u16>,
}

impl Dossier {
    /// Of a payment that is being opened. `None` without an amount.
    pub fn new(
        dialect: &dyn Gateway,
        seed: &[u8; 16],
        head: &Head,
        pay: &Pay,
        key: Option<&String>,
        now: i64,
    ) -> Option<Self> {
        let amount = pay.amount?;
        let nothing = Amount { units: 0, ..amount };
        let token = match &pay.instrument {
            Some(Instrument::Token(token)) => Some(token.clone()),
            _ => None,
        };
        let authorization = head.headers.get(http::header::AUTHORIZATION);
        let live = authorization.is_some_and(|value| value.as_bytes().windows(6).any(|part| part == b"_live_"));
        let base = View {
            ids: ViewIds {
                // An object that was made here keeps its id for its payment.
                payment: pay
                    .confirms
                    .clone()
                    .unwrap_or_else(|| dialect.mint(ObjectKind::Payment, seed)),
                charge: dialect.mint(ObjectKind::Charge, seed),
                capture: None,
                request: dialect.mint(ObjectKind::RequestId, seed),
            },
            status: Status::Processing,
            amount,
            captured: nothing,
            refunded: nothing,
            taking: None,
            kept: None,
            captures: Vec::new(),
            capture: pay.capture,
            created: now,
            voided_at: None,
            instrument: token,
            card: card(pay.instrument.as_ref()),
            customer: pay.customer.clone(),
            reference: pay.reference.clone(),
            description: pay.description.clone(),
            statement: pay.statement.clone(),
            metadata: pay.metadata.clone(),
            buyer: pay.buyer.clone(),
            decline: None,
            refunds: Vec::new(),
            live,
            redirect: None,
            network_transaction_id: None,
            approval_code: None,
        };
        Some(Self {
            operation: pay.operation,
            base,
            key: key.cloned(),
            confirms: pay.confirms.clone(),
            seen: BTreeMap::new(),
            notes: BTreeMap::new(),
        })
    }

    /// The currency.
    pub fn currency(&self) -> Currency {
        self.base.amount.currency
    }

    /// The payment request as far as it is known without its body: what answers are compared with.
    pub fn skeleton(&self, hold: bool) -> Request {
        let capture = if hold { CaptureMode::Manual } else { self.base.capture };
        Request::Pay(Box::new(Pay {
            operation: match capture {
                CaptureMode::Automatic => Operation::Sale,
                CaptureMode::Manual => Operation::Authorize,
            },
            confirms: self.confirms.clone(),
            amount: Some(self.base.amount),
            capture,
            instrument: None,
            customer: None,
            initiator: Initiator::Customer,
            reference: self.base.reference.clone(),
            description: None,
            statement: None,
            metadata: IndexMap::new(),
            buyer: Buyer::default(),
            return_url: None,
            three_ds: None,
            network_transaction_id: None,
            unportable: Vec::new(),
        }))
    }

    /// Notes what an answer said of an attempt, beyond what the records keep. A later word takes the place of an earlier
    /// one. `false` when there is nothing to keep: most answers say no more than their outcome, and the dossier stays as it
    /// was sealed.
    pub fn see(&mut self, n: u16, observation: &Observation) -> bool {
        let more = observation.card.is_some()
            || observation.decline.is_some()
            || observation.redirect.is_some()
            || observation.approval_code.is_some()
            || observation.network_transaction_id.is_some();
        // An earlier word is taken back by one that is about the outcome.
        let other = self.seen.contains_key(&n) && !matches!(observation.outcome, Outcome::Unknown | Outcome::NotSent);
        if more || other {
            self.seen.insert(n, observation.clone());
        }
        more || other
    }

    /// The payment as attempt `n` left it, with the ids that the application knows it by.
    pub fn view(&self, state: &State, n: Option<u16>, verdict: Option<Verdict>) -> View {
        let mut view = self.base.clone();
        let attempt = n.and_then(|n| state.attempt(n));
        let native = attempt
            .and_then(|attempt| state.gateway_of(attempt))
            .is_some_and(|gateway| gateway.native);
        if let Some(attempt) = attempt.filter(|_| native) {
            if let Some(payment) = &attempt.ids.payment {
                view.ids.payment.clone_from(payment);
            }
            if let Some(charge) = attempt.ids.charge.as_ref().or(attempt.ids.payment.as_ref()) {
                view.ids.charge.clone_from(charge);
            }
        }
        if let Some(seen) = n.and_then(|n| self.seen.get(&n)) {
            view.card = seen.card.clone().or(view.card);
            view.network_transaction_id.clone_from(&seen.network_transaction_id);
            view.approval_code.clone_from(&seen.approval_code);
            view.redirect.clone_from(&seen.redirect);
            view.decline.clone_from(&seen.decline);
        }
        let books = state.books();
        let amount = |units| Amount { units, ..view.amount };
        let taken = Verdict::Succeeded { n: n.unwrap_or(0) };
        (view.status, view.captured) = match verdict {
            Some(told) if told == taken => (Status::Captured, view.amount),
            Some(Verdict::Authorised { .. }) => (Status::Authorised, amount(0)),
            Some(Verdict::ActionRequired { .. }) => (Status::ActionRequired, amount(0)),
            Some(Verdict::Failed { .. }) => (Status::Declined, amount(0)),
            Some(_) => (Status::Processing, amount(0)),
            None => match state.phase {
                _ if books.captured > 0 => (Status::Captured, amount(books.captured)),
                Phase::Authorised { .. } | Phase::Succeeded { .. } => (Status::Authorised, amount(0)),
                Phase::Voided { .. } => (Status::Voided, amount(0)),
                Phase::Failed { .. } => (Status::Declined, amount(0)),
                Phase::ActionRequired { .. } => (Status::ActionRequired, amount(0)),
                _ => (Status::Processing, amount(0)),
            },
        };
        if verdict.is_none() {
            view.refunded = amount(books.refunded);
            view.kept = Some(state.kept()).filter(|kept| *kept > 0).map(amount);
            if matches!(state.phase, Phase::Voided { .. }) {
                let void = state.attempts.iter().rev().find(|attempt| attempt.leg == Leg::Void);
                view.voided_at = void.map(|void| void.at);
            }
        }
        view
    }

    /// The captures that the application asked for, oldest first. `mint` makes the id of the capture of an attempt.
    pub fn captures(&self, state: &State, mint: impl Fn(u16) -> String) -> Vec<CaptureView> {
        let amount = |units| Amount {
            units,
            ..self.base.amount
        };
        asked_for(state, Leg::Capture)
            .map(|(n, attempt)| CaptureView {
                id: mint(n),
                amount: attempt.amount.unwrap_or(self.base.amount),
                refunded: amount(self.given_back(state, n, Attempt::over)),
                done: attempt.over(),
                last: !state.keeps(attempt),
                created: attempt.at,
            })
            .collect()
    }

    /// What was given back of the capture of attempt `n`, by the refunds that count.
    pub fn given_back(&self, state: &State, n: u16, counts: impl Fn(&Attempt) -> bool) -> i64 {
        let only = asked_for(state, Leg::Capture).nth(1).is_none();
        asked_for(state, Leg::Refund)
            .filter(|(_, refund)| !refund.undone() && counts(refund))
            .filter(|(r, _)| match self.notes.get(r).and_then(|note| note.capture) {
                Some(capture) => capture == n,
                None => only,
            })
            .map(|(_, refund)| refund.amount.map_or(0, |amount| amount.units))
            .sum()
    }

    /// The refunds that the application asked for, oldest first, but for those that were refused at once: of one that was
    /// accepted it has the id. `mint` makes the id of the refund of an attempt.
    pub fn refunds(&self, state: &State, mint: impl Fn(u16) -> String) -> Vec<RefundView> {
        let refunds = state
            .numbered()
            .filter(|(_, attempt)| attempt.leg == Leg::Refund && matches!(attempt.why, Why::FollowUp(_)));
        refunds
            .filter(|(_, attempt)| attempt.accepted || !attempt.known.no_effect())
            .map(|(n, attempt)| {
                let status = match attempt.undone() {
                    true => RefundStatus::Failed,
                    false => refund_status(attempt.known.outcome()),
                };
                self.refund(n, attempt.amount, status, mint(n))
            })
            .collect()
    }

    /// One refund.
    pub fn refund(&self, n: u16, amount: Option<Amount>, status: RefundStatus, id: String) -> RefundView {
        let note = self.notes.get(&n).cloned().unwrap_or_default();
        RefundView {
            id,
            amount: amount.unwrap_or(self.base.amount),
            status,
            created: note.created,
            reason: note.reason,
            reference: note.reference,
            metadata: note.metadata,
        }
    }

    /// The decline of an attempt, as it was told, or the most general one.
    pub fn decline(&self, n: u16) -> Decline {
        let seen = self.seen.get(&n).and_then(|seen| seen.decline.clone());
        seen.unwrap_or_else(|| Decline {
            canonical: "generic_decline".to_owned(),
            class: DeclineClass::Soft,
            raw_code: String::new(),
            message: String::new(),
            advice: None,
        })
    }
}

/// The attempts at what the application asked for, but for those that provably did nothing.
pub(super) fn asked_for(state: &State, leg: Leg) -> impl Iterator<Item = (u16, &Attempt)> {
    state
        .numbered()
        .filter(move |(_, attempt)| attempt.leg == leg && matches!(attempt.why, Why::FollowUp(_)))
        .filter(|(_, attempt)| !attempt.known.no_effect())
}

fn refund_status(outcome: Outcome) -> RefundStatus {
    match outcome {
        Outcome::Succeeded => RefundStatus::Succeeded,
        Outcome::Unknown => RefundStatus::Pending,
        _ => RefundStatus::Failed,
    }
}

/// The status of a refund by what its follow-up came to.
pub(super) fn refund_told(verdict: FollowUpVerdict) -> RefundStatus {
    match verdict {
        FollowUpVerdict::Done { .. } => RefundStatus::Succeeded,
        FollowUpVerdict::Accepted { .. } | FollowUpVerdict::InDoubt { .. } => RefundStatus::Pending,
        _ => RefundStatus::Failed,
    }
}

/// What may be shown of a card that came in the clear.
fn card(instrument: Option<&Instrument>) -> Option<CardView> {
    let Some(Instrument::Card(card)) = instrument else {
        return None;
    };
    let number = card.number.as_str();
    let brand = match number.as_bytes() {
        [b'4', ..] => "visa",
        [b'5', b'1'..=b'5', ..] | [b'2', b'2'..=b'7', ..] => "mastercard",
        [b'3', b'4' | b'7', ..] => "amex",
        [b'6', ..] => "discover",
        _ => "unknown",
    };
    Some(CardView {
        brand: Some(brand.to_owned()),
        last4: number.get(number.len().saturating_sub(4)..).map(str::to_owned),
        expiry_month: card.expiry_month.parse().ok(),
        expiry_year: card.expiry_year.parse().ok(),
    })
}
