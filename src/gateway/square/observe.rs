//! What Square's answers prove.
//!
//! A payment object with an id proves what its status says, and `FAILED` is a decline whatever the HTTP status. An answer
//! without one proves a refusal only by a category and code that Square documents for requests which were not executed;
//! 408, 409 and 5xx may hide an executed payment, as may a token that was used before.

use http::StatusCode;
use serde_json::{Map, Value};

use super::encode;
use crate::config::model::Dialect;
use crate::gateway::canonical::{CaptureMode, CardView, Pay, Request};
use crate::gateway::json::{owned, text};
use crate::gateway::outcome::{Decline, DeclineClass, Observation, Outcome, Rejection, unknown};
use crate::gateway::{Account, Incoming, Leg, Stopped, json, retry_after};
use crate::money::Amount;
use crate::money::declines::{self, Verdict};

type Object = Map<String, Value>;

pub(super) fn answer(leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
    let asked = Asked {
        leg,
        request,
        reference,
    };
    let mut observation = match json::object(&answer.body) {
        Some(body) => asked.read(answer.status, &body),
        None => unknown("foreign_answer"),
    };
    observation.retry_after = retry_after::seconds(&answer.headers);
    observation
}

/// The answer to the request that lowers an amount before its capture.
pub(super) fn prepared(request: &Request, account: &mut Account, answer: &Incoming) -> Result<(), Stopped> {
    let body = json::object(&answer.body).ok_or(Stopped::Unsent)?;
    let payment = body.get("payment").and_then(Value::as_object);
    let version = payment.and_then(|payment| text(payment, "version_token"));
    let (true, Some(payment), Some(version)) = (answer.status == StatusCode::OK, payment, version) else {
        let asked = Asked {
            leg: Leg::Capture,
            request: Some(request),
            reference: None,
        };
        let seen = asked.read(answer.status, &body);
        return Err(match seen.outcome {
            Outcome::Rejected(_) => Stopped::Decided(Box::new(seen)),
            _ => Stopped::Unsent,
        });
    };
    if money(payment, "amount_money") != Ok(encode::wanted(request)) {
        return Err(Stopped::Decided(Box::new(Observation {
            payment_id: owned(payment, "id"),
            ..Observation::bare(Outcome::Rejected(Rejection::Request), "other_amount")
        })));
    }
    account.prepared.insert(encode::VERSION.to_owned(), version.to_owned());
    Ok(())
}

/// An amount of an object: `Err` when there is one that cannot be read, which is never the one that was asked for.
fn money(object: &Object, name: &str) -> Result<Option<Amount>, ()> {
    let Some(money) = object.get(name).filter(|money| !money.is_null()) else {
        return Ok(None);
    };
    let currency = money.get("currency").and_then(Value::as_str).ok_or(())?;
    let value = money.get("amount").ok_or(())?;
    Amount::json_minor(Dialect::Square, value, currency)
        .map(Some)
        .map_err(|_| ())
}

struct Asked<'a> {
    leg: Leg,
    request: Option<&'a Request>,
    reference: Option<&'a str>,
}

impl Asked<'_> {
    fn pay(&self) -> Option<&Pay> {
        self.request?.pay()
    }

    /// The payment that a modification was asked of: answers of refusals do not name it.
    fn target(&self) -> Option<String> {
        self.request?.modifies()?.payment.clone()
    }

    fn read(&self, status: StatusCode, body: &Object) -> Observation {
        if body.contains_key("errors") {
            return self.error(status, body);
        }
        if !status.is_success() {
            return unknown("foreign_answer");
        }
        let object = |name: &str| body.get(name).and_then(Value::as_object);
        match self.leg {
            // Said also when there was nothing to cancel yet, which is why this fence is weak.
            Leg::Fence if body.is_empty() => Observation::bare(Outcome::Fenced, "cancelled_by_key"),
            Leg::Refund => object("refund").map_or_else(|| unknown("foreign_answer"), |refund| self.refund(refund)),
            Leg::Lookup if object("refund").is_some() => {
                object("refund").map_or_else(|| unknown("foreign_answer"), |refund| self.refund(refund))
            }
            Leg::Lookup if object("payment").is_none() => self.found(body),
            _ => object("payment").map_or_else(|| unknown("foreign_answer"), |payment| self.payment(payment)),
        }
    }

    /// The one payment of a list that carries the reference. The application's own reference is not unique, so that a
    /// payment which bears it and came to nothing may be another one: there, only money that is held or taken counts.
    fn found(&self, body: &Object) -> Observation {
        let payments = body.get("payments").and_then(Value::as_array);
        if payments.is_none() && body.keys().any(|key| key != "cursor") {
            return unknown("foreign_answer");
        }
        let (Some(reference), Some(pay)) = (self.reference, self.pay()) else {
            return unknown("nothing_to_find");
        };
        let fits = |payment: &&Object| text(payment, "reference_id") == Some(reference);
        let payments = payments.into_iter().flatten().filter_map(Value::as_object);
        let found: Vec<&Object> = payments.filter(fits).collect();
        let own = pay.reference.as_deref() != Some(reference);
        let whole = body.get("cursor").and_then(Value::as_str).is_none_or(str::is_empty);
        match found.as_slice() {
            [] => unknown("not_found"),
            [_] if !own && !whole => unknown("list_not_whole"),
            [payment] => {
                let seen = self.payment(payment);
                match seen.outcome {
                    Outcome::Authorised | Outcome::Succeeded => seen,
                    _ if own => seen,
                    _ => unknown("found_another"),
                }
            }
            _ => unknown("found_several"),
        }
    }

    fn payment(&self, payment: &Object) -> Observation {
        let mut observation = Observation {
            payment_id: owned(payment, "id"),
            amount: money(payment, "amount_money").ok().flatten(),
            card: card(payment),
            approval_code: payment
                .get("card_details")
                .and_then(|card| card.get("auth_result_code"))
                .and_then(Value::as_str)
                .map(str::to_owned),
            ..unknown("unknown_status")
        };
        if observation.payment_id.is_none() {
            observation.rule = "no_id".to_owned();
            return observation;
        }
        if let Some(rule) = self.contradicts(payment) {
            observation.outcome = Outcome::Conflict;
            observation.rule = rule.to_owned();
            return observation;
        }
        let automatic = self.pay().is_some_and(|pay| pay.capture == CaptureMode::Automatic);
        let (outcome, rule) = match (text(payment, "status").unwrap_or_default(), self.leg) {
            ("COMPLETED", Leg::Void | Leg::Fence) => (Outcome::Unknown, "completed"),
            ("COMPLETED", _) => (Outcome::Succeeded, "completed"),
            ("CANCELED", Leg::Void) => (Outcome::Succeeded, "canceled"),
            ("CANCELED", Leg::Capture) => (Outcome::Rejected(Rejection::Request), "canceled"),
            ("CANCELED", _) => (Outcome::Fenced, "canceled"),
            ("APPROVED", Leg::Capture | Leg::Void | Leg::Fence) => (Outcome::Unknown, "approved"),
            ("APPROVED", _) if automatic => {
                // A sale that is held and not yet taken: the truth of it comes later.
                observation.pending = true;
                (Outcome::Unknown, "approved_not_completed")
            }
            ("APPROVED", _) => (Outcome::Authorised, "approved"),
            ("FAILED", Leg::Charge | Leg::Auth | Leg::Lookup) => return failed(observation, payment, &[]),
            ("PENDING", _) => {
                observation.pending = true;
                (Outcome::Unknown, "pending")
            }
            _ => (Outcome::Unknown, "unknown_status"),
        };
        observation.outcome = outcome;
        observation.rule = rule.to_owned();
        observation
    }

    /// An answer about another payment, amount or reference than was asked for.
    fn contradicts(&self, payment: &Object) -> Option<&'static str> {
        let told = money(payment, "amount_money");
        let wanted = match self.request {
            Some(Request::Pay(pay)) => pay.amount,
            Some(Request::Capture { amount, target, .. }) => amount.or(target.amount),
            _ => None,
        };
        let another = |wanted| match told {
            Err(()) => true,
            Ok(Some(told)) => told != wanted,
            Ok(None) => false,
        };
        if wanted.is_some_and(another) {
            return Some("other_amount");
        }
        if matches!((self.target(), text(payment, "id")), (Some(asked), Some(told)) if asked != told) {
            return Some("other_payment");
        }
        let asked = match self.pay() {
            Some(pay) => self.reference.or(pay.reference.as_deref()),
            None => None,
        };
        matches!((asked, text(payment, "reference_id")), (Some(asked), Some(told)) if asked != told)
            .then_some("other_reference")
    }

    fn refund(&self, refund: &Object) -> Observation {
        let mut observation = Observation {
            payment_id: owned(refund, "payment_id"),
            modification_id: owned(refund, "id"),
            amount: money(refund, "amount_money").ok().flatten(),
            ..unknown("unknown_status")
        };
        if observation.modification_id.is_none() {
            return observation;
        }
        let wanted = match self.request {
            Some(Request::Refund { amount, target, .. }) => amount.or(target.amount),
            _ => None,
        };
        let other_amount = wanted.is_some() && observation.amount != wanted;
        let other_payment =
            matches!((self.target(), &observation.payment_id), (Some(asked), Some(told)) if asked != *told);
        let (outcome, rule) = match text(refund, "status") {
            _ if other_amount => (Outcome::Conflict, "other_amount"),
            _ if other_payment => (Outcome::Conflict, "other_payment"),
            Some("COMPLETED") => (Outcome::Succeeded, "refund_completed"),
            Some("PENDING") => {
                observation.pending = true;
                (Outcome::Unknown, "pending")
            }
            Some("REJECTED" | "FAILED") => (Outcome::Rejected(Rejection::Request), "refund_failed"),
            _ => (Outcome::Unknown, "unknown_status"),
        };
        observation.outcome = outcome;
        observation.rule = rule.to_owned();
        observation
    }

    fn error(&self, status: StatusCode, body: &Object) -> Observation {
        let Some(errors) = errors(body.get("errors")) else {
            return unknown("foreign_answer");
        };
        let payment = body.get("payment").and_then(Value::as_object);
        let paying = matches!(self.leg, Leg::Charge | Leg::Auth);
        if let Some(payment) = payment
            && paying
            && !status.is_success()
            && text(payment, "id").is_some()
            && text(payment, "status") == Some("FAILED")
        {
            let observation = Observation {
                payment_id: owned(payment, "id"),
                card: card(payment),
                ..unknown("native_decline")
            };
            return match self.contradicts(payment) {
                Some(rule) => Observation {
                    outcome: Outcome::Conflict,
                    rule: rule.to_owned(),
                    ..observation
                },
                None => failed(observation, payment, &errors),
            };
        }
        let verdict = verdict(&errors);
        let (outcome, rule) = self.refusal(status.as_u16(), &errors, verdict);
        Observation {
            payment_id: self.target().filter(|_| !paying),
            decline: Some(told(&errors, verdict)).filter(|_| outcome != Outcome::Unknown),
            pending: rule == "captured_before",
            ..Observation::bare(outcome, rule)
        }
    }

    /// What an error without a payment proves.
    fn refusal(&self, status: u16, errors: &[Failure<'_>], verdict: Verdict) -> (Outcome, &'static str) {
        let has = |code: &str| errors.iter().any(|error| error.code == code);
        let account = (Outcome::Rejected(Rejection::Account), "account_error");
        let request = (Outcome::Rejected(Rejection::Request), "invalid_request");
        match status {
            // A question that was refused says nothing about the payment that it asked about.
            _ if matches!(self.leg, Leg::Fence | Leg::Lookup) => (Outcome::Unknown, "question_refused"),
            408 | 421 | 425 => (Outcome::Unknown, "timeout_status"),
            409 => (Outcome::Unknown, "in_flight"),
            429 => (Outcome::Rejected(Rejection::Transient), "rate_limited"),
            401 | 403 => account,
            status if status >= 500 => (Outcome::Unknown, "gateway_error"),
            400 | 402 | 404 | 405 | 406 | 410 | 413 | 415 | 422 => match (self.leg, verdict.class) {
                // It is done; by whom and how much of it, a look tells.
                (Leg::Capture, _) if has("DELAYED_TRANSACTION_CAPTURED") => (Outcome::Unknown, "captured_before"),
                (Leg::Void, _) if has("DELAYED_TRANSACTION_CANCELED") || has("DELAYED_TRANSACTION_EXPIRED") => {
                    (Outcome::Succeeded, "canceled_before")
                }
                (Leg::Capture, _) if has("DELAYED_TRANSACTION_CANCELED") || has("DELAYED_TRANSACTION_EXPIRED") => {
                    request
                }
                (Leg::Void, _) if has("DELAYED_TRANSACTION_CAPTURED") => request,
                // The key of a request that Sentinel wrote: an earlier one under it was another, and may have been executed.
                (_, _) if has("IDEMPOTENCY_KEY_REUSED") && self.reference.is_some() => (Outcome::Unknown, "key_reused"),
                (_, DeclineClass::Ambiguous) => (Outcome::Unknown, "ambiguous_error"),
                (_, DeclineClass::RetryLater) if verdict.canonical == "rate_limited" => {
                    (Outcome::Rejected(Rejection::Transient), "rate_limited")
                }
                (_, DeclineClass::RetryLater) => (Outcome::Unknown, "unavailable"),
                (_, DeclineClass::Config) => match verdict.canonical {
                    "credentials" | "merchant_setup" | "currency_not_supported" => account,
                    _ => request,
                },
                (Leg::Charge | Leg::Auth, class) if verdict.known => (Outcome::Declined(class), "native_decline"),
                (Leg::Charge | Leg::Auth, _) => match errors.first().map(|error| error.category) {
                    Some("PAYMENT_METHOD_ERROR") => (Outcome::Declined(DeclineClass::Hard), "native_decline"),
                    Some("INVALID_REQUEST_ERROR") => request,
                    Some("AUTHENTICATION_ERROR") => account,
                    _ => (Outcome::Unknown, "unknown_error"),
                },
                // A modification that the issuer or the rules refused was not done.
                _ if verdict.known => request,
                _ => (Outcome::Unknown, "unknown_error"),
            },
            _ => (Outcome::Unknown, "unexpected_status"),
        }
    }
}

/// One error of an answer.
#[derive(Clone, Copy)]
struct Failure<'a> {
    category: &'a str,
    code: &'a str,
    detail: &'a str,
}

/// The errors of an answer; `None` when this is no list of Square's.
fn errors(list: Option<&Value>) -> Option<Vec<Failure<'_>>> {
    let list = list?.as_array().filter(|list| !list.is_empty())?;
    list.iter()
        .map(|error| {
            let error = error.as_object()?;
            Some(Failure {
                category: text(error, "category")?,
                code: text(error, "code")?,
                detail: text(error, "detail").unwrap_or_default(),
            })
        })
        .collect()
}

/// The strictest verdict on all of them.
fn verdict(errors: &[Failure<'_>]) -> Verdict {
    declines::classify_all(Dialect::Square, errors.iter().map(|error| error.code)).unwrap_or(Verdict {
        canonical: "generic_decline",
        class: DeclineClass::Hard,
        known: false,
    })
}

/// The decline under the code that decided.
fn told(errors: &[Failure<'_>], verdict: Verdict) -> Decline {
    let decides = |error: &&Failure<'_>| {
        let one = declines::classify(Dialect::Square, error.code, &declines::Advice::default());
        one.class == verdict.class && one.canonical == verdict.canonical
    };
    let decided = errors.iter().find(decides).or_else(|| errors.first());
    Decline {
        canonical: verdict.canonical.to_owned(),
        class: verdict.class,
        raw_code: decided.map_or_else(String::new, |error| error.code.to_owned()),
        message: decided.map_or_else(String::new, |error| error.detail.chars().take(200).collect()),
        advice: None,
    }
}

/// A failed payment: a decline for good, by its own errors or those beside it.
fn failed(mut observation: Observation, payment: &Object, beside: &[Failure<'_>]) -> Observation {
    let own = payment.get("card_details").and_then(|card| card.get("errors"));
    let own = errors(own).unwrap_or_default();
    let all: Vec<Failure<'_>> = beside.iter().chain(own.iter()).copied().collect();
    let risk = payment.get("risk_evaluation").and_then(|risk| risk.get("risk_level"));
    let mut decline = told(&all, verdict(&all));
    if risk.and_then(Value::as_str) == Some("HIGH") {
        let code = "risk_level:HIGH";
        let verdict = declines::classify(Dialect::Square, code, &declines::Advice::default());
        (decline.canonical, decline.class) = (verdict.canonical.to_owned(), verdict.class);
        decline.raw_code = code.to_owned();
    }
    // The object says that nothing was taken and will be; a code that leaves it open only forbids another try.
    if decline.class == DeclineClass::Ambiguous {
        decline.class = DeclineClass::Hard;
    }
    observation.outcome = Outcome::Declined(decline.class);
    observation.decline = Some(decline);
    observation.rule = "native_decline".to_owned();
    observation
}

fn card(payment: &Object) -> Option<CardView> {
    let card = payment.get("card_details")?.get("card")?.as_object()?;
    let brand = text(card, "card_brand").map(|brand| {
        match brand {
            "VISA" => "visa",
            "MASTERCARD" => "mastercard",
            "AMERICAN_EXPRESS" => "amex",
            "DISCOVER" => "discover",
            "DISCOVER_DINERS" => "diners",
            "JCB" => "jcb",
            "CHINA_UNIONPAY" => "unionpay",
            _ => "unknown",
        }
        .to_owned()
    });
    let number = |name: &str| card.get(name).and_then(Value::as_u64);
    Some(CardView {
        brand,
        last4: owned(card, "last_4"),
        expiry_month: number("exp_month").and_then(|month| u8::try_from(month).ok()),
        expiry_year: number("exp_year").and_then(|year| u16::try_from(year).ok()),
    })
}
