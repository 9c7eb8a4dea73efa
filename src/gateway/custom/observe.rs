//! Answers by pointer.

use serde_json::Value;

use crate::config::model::Dialect;
use crate::config::model::custom::{Amounts, Class, Custom, Modification, Refusal, State};
use crate::gateway::canonical::{CaptureMode, CardView, Request};
use crate::gateway::outcome::{Decline, DeclineClass, Observation, Outcome, Rejection};
use crate::gateway::{Incoming, Leg, json, retry_after};
use crate::money::Amount;

pub(super) fn answer(
    custom: &Custom,
    leg: Leg,
    request: Option<&Request>,
    reference: Option<&str>,
    answer: &Incoming,
) -> Observation {
    let answers = &custom.answers;
    if !answer.headers.contains_key(&answers.native_header) {
        return Observation::bare(Outcome::Unknown, "foreign_answer");
    }
    let status = answer.status.as_u16();
    let read = Read {
        custom,
        leg,
        request,
        reference,
    };
    let mut observation = match (custom.refusals.get(&status), leg) {
        // That the object is not there says nothing about an attempt that may still arrive.
        (Some(_), Leg::Lookup | Leg::Fence) => Observation::bare(Outcome::Unknown, "not_found"),
        (Some(refusal), _) => read.refused(*refusal),
        (None, Leg::Capture | Leg::Void | Leg::Refund) => read.modification(status, &answer.body),
        (None, _) if answers.statuses.contains(&status) => match json::strict(&answer.body) {
            Some(body) => read.answered(&body),
            None => Observation::bare(Outcome::Unknown, "foreign_answer"),
        },
        (None, _) => Observation::bare(Outcome::Unknown, "unexpected_status"),
    };
    observation.retry_after = retry_after::seconds(&answer.headers);
    observation
}

/// Text, or a number as text: codes and ids come as either.
fn text(body: &Value, pointer: &str) -> Option<String> {
    match body.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

struct Read<'a> {
    custom: &'a Custom,
    leg: Leg,
    request: Option<&'a Request>,
    reference: Option<&'a str>,
}

impl Read<'_> {
    fn refused(&self, refusal: Refusal) -> Observation {
        let (kind, rule) = match refusal {
            Refusal::Account => (Rejection::Account, "account_error"),
            Refusal::Request => (Rejection::Request, "invalid_request"),
            Refusal::Transient => (Rejection::Transient, "rate_limited"),
        };
        Observation::bare(Outcome::Rejected(kind), rule)
    }

    fn modification(&self, status: u16, body: &[u8]) -> Observation {
        let answers = &self.custom.answers;
        let body = json::strict(body).unwrap_or_default();
        let at = |pointer: &Option<String>| pointer.as_ref().and_then(|pointer| text(&body, pointer));
        let by_status = if answers.done.contains(&status) {
            Some(Modification::Done)
        } else if answers.accepted.contains(&status) {
            Some(Modification::Accepted)
        } else {
            None
        };
        let said = match (&answers.modification_status, by_status) {
            (_, None) => Err("unexpected_status"),
            (None, Some(said)) => Ok(said),
            (pointer, Some(_)) => {
                let word = at(pointer).and_then(|word| answers.modification_states.get(&word));
                word.copied().ok_or("unknown_state")
            }
        };
        let (outcome, rule, pending) = match said {
            Ok(Modification::Done) => (Outcome::Succeeded, "done", false),
            Ok(Modification::Accepted) => (Outcome::Unknown, "accepted", true),
            Ok(Modification::Refused) => (Outcome::Rejected(Rejection::Request), "refused", false),
            Err(rule) => (Outcome::Unknown, rule, false),
        };
        Observation {
            modification_id: at(&answers.modification_id),
            pending,
            ..Observation::bare(outcome, rule)
        }
    }

    /// One payment, or the list of those that were found.
    fn answered(&self, body: &Value) -> Observation {
        let listed = body.pointer(&self.custom.answers.list).and_then(Value::as_array);
        let Some(items) = listed.filter(|_| self.leg == Leg::Lookup) else {
            return self.payment(body);
        };
        match items.as_slice() {
            [one] => self.payment(one),
            // An index may lag behind: nothing found proves nothing.
            [] => Observation::bare(Outcome::Unknown, "not_found"),
            _ => Observation::bare(Outcome::Unknown, "several_found"),
        }
    }

    fn payment(&self, body: &Value) -> Observation {
        let answers = &self.custom.answers;
        let at = |pointer: &Option<String>| pointer.as_ref().and_then(|pointer| text(body, pointer));
        let (Some(id), Some(word)) = (text(body, &answers.id), text(body, &answers.status)) else {
            return Observation::bare(Outcome::Unknown, "foreign_answer");
        };
        let pay = match self.request {
            Some(Request::Pay(pay)) => Some(pay),
            _ => None,
        };
        let amount = self.amount(body);
        let mut observation = Observation {
            payment_id: Some(id),
            amount,
            network_transaction_id: at(&answers.network_transaction_id),
            approval_code: at(&answers.approval_code),
            card: at(&answers.card_last4).map(|last4| CardView {
                last4: Some(last4),
                ..CardView::default()
            }),
            ..Observation::bare(Outcome::Unknown, "unknown_state")
        };
        let sale = pay.is_some_and(|pay| pay.capture == CaptureMode::Automatic);
        let state = answers
            .sale_states
            .get(&word)
            .filter(|_| sale)
            .or_else(|| answers.states.get(&word));
        let (outcome, rule) = match state {
            Some(State::Authorised) => (Outcome::Authorised, "authorised"),
            Some(State::Succeeded) => (Outcome::Succeeded, "succeeded"),
            Some(State::Voided) => (Outcome::Fenced, "voided"),
            Some(State::ActionRequired) => {
                observation.redirect = at(&answers.redirect);
                (Outcome::ActionRequired, "action_required")
            }
            Some(State::Pending) => {
                observation.pending = true;
                (Outcome::Unknown, "pending")
            }
            Some(State::Declined) => self.declined(body, &mut observation),
            None => (Outcome::Unknown, "unknown_state"),
        };
        observation.outcome = outcome;
        rule.clone_into(&mut observation.rule);
        let wanted = pay.and_then(|pay| pay.amount);
        let other_reference =
            matches!((self.reference, at(&answers.reference)), (Some(asked), Some(told)) if asked != told);
        if other_reference || (wanted.is_some() && amount != wanted) {
            observation.outcome = Outcome::Conflict;
            observation.pending = false;
            observation.rule = if other_reference {
                "other_reference"
            } else {
                "other_amount"
            }
            .to_owned();
        }
        observation
    }

    /// The amount; `None` when it is not there or cannot be read, which is never the one that was asked for.
    fn amount(&self, body: &Value) -> Option<Amount> {
        let answers = &self.custom.answers;
        let currency = text(body, &answers.currency)?;
        let value = body.pointer(&answers.amount)?;
        match self.custom.amounts {
            Amounts::Minor => Amount::json_minor(Dialect::Custom, value, &currency).ok(),
            Amounts::Decimal => Amount::from_decimal(Dialect::Custom, value.as_str()?, &currency).ok(),
        }
    }

    fn declined(&self, body: &Value, observation: &mut Observation) -> (Outcome, &'static str) {
        let answers = &self.custom.answers;
        let at = |pointer: &Option<String>| pointer.as_ref().and_then(|pointer| text(body, pointer));
        let code = at(&answers.decline_code).unwrap_or_default();
        // A code that is not described stops: it may be anything.
        let (canonical, class) = match self.custom.declines.get(&code) {
            Some((canonical, class)) => (canonical.clone(), *class),
            None => ("generic_decline".to_owned(), Class::Hard),
        };
        let class = match class {
            Class::Soft => DeclineClass::Soft,
            Class::Hard => DeclineClass::Hard,
            Class::Fraud => DeclineClass::Fraud,
            Class::RetryLater => DeclineClass::RetryLater,
            Class::Config => DeclineClass::Config,
            Class::Ambiguous => DeclineClass::Ambiguous,
        };
        let message = at(&answers.decline_message).unwrap_or_default();
        observation.decline = Some(Decline {
            canonical,
            class,
            raw_code: code.chars().take(64).collect(),
            message: message.chars().take(200).collect(),
            advice: None,
        });
        match class {
            DeclineClass::Ambiguous => (Outcome::Unknown, "ambiguous_decline"),
            class => (Outcome::Declined(class), "native_decline"),
        }
    }
}
