//! What Adyen's answers prove.
//!
//! Only an answer in Adyen's own envelope proves anything. `resultCode: Error`, error `704` and 5xx without
//! `transient-error: true` may hide an executed payment and stay unknown. An answer for another amount or another
//! reference contradicts what was asked, and is a conflict whatever else it says.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::config::model::Dialect;
use crate::gateway::canonical::{CaptureMode, CardView, Request};
use crate::gateway::json::{owned, text};
use crate::gateway::outcome::{Decline, DeclineClass, Observation, Outcome, Rejection};
use crate::gateway::{Incoming, Leg, json, retry_after};
use crate::money::Amount;
use crate::money::declines::{self, Advice, Network, Verdict};

pub(super) fn answer(leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
    let Some(body) = json::object(&answer.body) else {
        return Observation::bare(Outcome::Unknown, "foreign_answer");
    };
    let mut observation = match answer.status {
        StatusCode::OK if body.contains_key("resultCode") => payment(request, reference, &body),
        StatusCode::OK | StatusCode::CREATED if body.contains_key("status") => modification(leg, request, &body),
        status if status.is_success() => Observation::bare(Outcome::Unknown, "foreign_answer"),
        status => error(status, answer, &body),
    };
    observation.retry_after = retry_after::seconds(&answer.headers);
    observation
}

/// The amount of an answer: `Err` when there is one that cannot be read, which is never the one that was asked for.
fn amount(body: &Map<String, Value>) -> Result<Option<Amount>, ()> {
    let Some(amount) = body.get("amount").filter(|amount| !amount.is_null()) else {
        return Ok(None);
    };
    let currency = amount.get("currency").and_then(Value::as_str).ok_or(())?;
    let value = amount.get("value").ok_or(())?;
    Amount::json_minor(Dialect::Adyen, value, currency)
        .map(Some)
        .map_err(|_| ())
}

/// A refusal as the answer tells it, with the networks' own word beside it.
pub(super) fn verdict(code: &str, additional: Option<&Value>) -> (Verdict, Option<String>) {
    let additional = |name: &str| additional.and_then(|data| data.get(name)).and_then(Value::as_str);
    let network = additional("paymentMethod").map(|brand| match brand {
        brand if brand.starts_with("visa") => Network::Visa,
        brand if brand.starts_with("mc") || brand.starts_with("maestro") => Network::Mastercard,
        _ => Network::Other,
    });
    let advice_code =
        additional("merchantAdviceCode").map(|advice| advice.split(':').next().unwrap_or_default().trim());
    let advice = Advice {
        network,
        issuer_code: additional("refusalReasonRaw"),
        advice_code,
        do_not_retry: false,
    };
    (
        declines::classify(Dialect::Adyen, code, &advice),
        advice_code.map(str::to_owned),
    )
}

fn payment(request: Option<&Request>, reference: Option<&str>, body: &Map<String, Value>) -> Observation {
    let result = text(body, "resultCode").unwrap_or_default();
    let pay = match request {
        Some(Request::Pay(pay)) => Some(pay),
        _ => None,
    };
    let additional = body.get("additionalData");
    let extra = |name: &str| {
        let value = additional.and_then(|data| data.get(name)).and_then(Value::as_str);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let amount = amount(body);
    let mut observation = Observation {
        payment_id: owned(body, "pspReference"),
        amount: amount.ok().flatten(),
        card: card(additional, body),
        network_transaction_id: extra("networkTxReference"),
        approval_code: extra("authCode"),
        ..Observation::bare(Outcome::Unknown, "unknown_result_code")
    };
    let asked = reference.or_else(|| pay.and_then(|pay| pay.reference.as_deref()));
    let told = text(body, "merchantReference");
    let other_reference = matches!((asked, told), (Some(asked), Some(told)) if asked != told);
    let wanted = pay.and_then(|pay| pay.amount);
    let other_amount = match (amount, wanted) {
        (Err(()), _) => true,
        (Ok(Some(told)), Some(wanted)) => told != wanted,
        _ => false,
    };
    if other_reference || other_amount {
        observation.outcome = Outcome::Conflict;
        observation.rule = if other_reference {
            "other_reference"
        } else {
            "other_amount"
        }
        .to_owned();
        return observation;
    }
    let (outcome, rule) = match result {
        // Without its reference there is nothing to capture, void or refund: not an answer that Adyen gives.
        "Authorised" if observation.payment_id.is_none() => (Outcome::Unknown, "no_psp_reference"),
        "Authorised" => match pay.map(|pay| pay.capture) {
            Some(CaptureMode::Automatic) => (Outcome::Succeeded, "authorised_and_captured"),
            _ => (Outcome::Authorised, "authorised"),
        },
        "Refused" | "Cancelled" => return refused(observation, body, additional),
        // Money is held, but not what was asked for.
        "PartiallyAuthorised" => (Outcome::Conflict, "partially_authorised"),
        "RedirectShopper" | "IdentifyShopper" | "ChallengeShopper" | "PresentToShopper" => {
            let action = body.get("action");
            let url = action.and_then(|action| action.get("url")).and_then(Value::as_str);
            observation.redirect = url.map(str::to_owned);
            (Outcome::ActionRequired, "action_required")
        }
        "Pending" | "Received" => {
            observation.pending = true;
            (Outcome::Unknown, "pending")
        }
        "Error" => (Outcome::Unknown, "result_error"),
        _ => (Outcome::Unknown, "unknown_result_code"),
    };
    observation.outcome = outcome;
    observation.rule = rule.to_owned();
    observation
}

fn refused(mut observation: Observation, body: &Map<String, Value>, additional: Option<&Value>) -> Observation {
    let reason = text(body, "refusalReason");
    let code = match (text(body, "refusalReasonCode"), reason.and_then(super::refusal_code)) {
        (Some(code), _) | (None, Some(code)) => code,
        (None, None) if text(body, "resultCode") == Some("Cancelled") => "15",
        // A reason that is not known allows nothing.
        (None, None) => super::UNKNOWN_REFUSAL,
    };
    let (verdict, advice) = verdict(code, additional);
    let message = reason.unwrap_or_else(|| super::refusal_reason(code));
    observation.decline = Some(Decline {
        canonical: verdict.canonical.to_owned(),
        class: verdict.class,
        raw_code: code.to_owned(),
        message: message.chars().take(200).collect(),
        advice,
    });
    let definite = verdict.class != DeclineClass::Ambiguous;
    observation.outcome = if definite {
        Outcome::Declined(verdict.class)
    } else {
        Outcome::Unknown
    };
    observation.rule = if definite {
        "native_decline"
    } else {
        "ambiguous_decline"
    }
    .to_owned();
    observation
}

/// `201 received`: queued. A webhook tells the end of it.
fn modification(leg: Leg, request: Option<&Request>, body: &Map<String, Value>) -> Observation {
    let mut observation = Observation {
        payment_id: owned(body, "paymentPspReference"),
        modification_id: owned(body, "pspReference"),
        amount: amount(body).ok().flatten(),
        ..Observation::bare(Outcome::Unknown, "foreign_answer")
    };
    let target = match request {
        Some(Request::Capture { target, amount, .. } | Request::Refund { target, amount, .. }) => {
            let wanted = amount.or(target.amount);
            if matches!((wanted, observation.amount), (Some(wanted), Some(told)) if wanted != told) {
                observation.outcome = Outcome::Conflict;
                observation.rule = "other_amount".to_owned();
                return observation;
            }
            target.payment.as_deref()
        }
        Some(Request::Void { target, .. }) => target.payment.as_deref(),
        _ => None,
    };
    if matches!((target, observation.payment_id.as_deref()), (Some(asked), Some(told)) if asked != told) {
        observation.outcome = Outcome::Conflict;
        observation.rule = "other_payment".to_owned();
        return observation;
    }
    let by_reference = text(body, "paymentReference").is_some();
    let named = observation.payment_id.is_some() || by_reference;
    if text(body, "status") == Some("received") && observation.modification_id.is_some() && named {
        observation.pending = true;
        observation.rule = if leg == Leg::Fence {
            "cancel_by_reference_received"
        } else {
            "received"
        }
        .to_owned();
    }
    observation
}

fn error(status: StatusCode, answer: &Incoming, body: &Map<String, Value>) -> Observation {
    let (Some(code), Some(_)) = (text(body, "errorCode"), body.get("message")) else {
        return Observation::bare(Outcome::Unknown, "foreign_answer");
    };
    let kind = text(body, "errorType").unwrap_or_default();
    // Adyen says that this error was not stored under the key and that nothing was executed.
    let transient = answer
        .headers
        .get("transient-error")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let verdict = declines::classify(Dialect::Adyen, &format!("error:{code}"), &Advice::default());
    let (outcome, rule) = match status.as_u16() {
        // Before everything else: the original is in flight or done, whatever the headers say.
        _ if code == "704" => (Outcome::Unknown, "in_flight"),
        408 | 421 | 425 => (Outcome::Unknown, "timeout_status"),
        _ if transient => (Outcome::Rejected(Rejection::Transient), "transient_error"),
        429 => (Outcome::Rejected(Rejection::Transient), "rate_limited"),
        401 | 403 | 404 => (Outcome::Rejected(Rejection::Account), "account_error"),
        500 if code == "905" => (Outcome::Rejected(Rejection::Account), "account_error"),
        400 | 405 | 413 | 415 | 422 => match (verdict.known, verdict.class, kind) {
            (true, DeclineClass::Ambiguous, _) => (Outcome::Unknown, "ambiguous_error"),
            (true, DeclineClass::RetryLater, _) => (Outcome::Unknown, "unavailable"),
            (true, DeclineClass::Config, _) if matches!(verdict.canonical, "credentials" | "merchant_setup") => {
                (Outcome::Rejected(Rejection::Account), "account_error")
            }
            (true, ..) | (false, _, "validation") => (Outcome::Rejected(Rejection::Request), "validation_error"),
            (false, _, "security" | "configuration") => (Outcome::Rejected(Rejection::Account), "account_error"),
            _ => (Outcome::Unknown, "unknown_error"),
        },
        status if status >= 500 => (Outcome::Unknown, "gateway_error"),
        _ => (Outcome::Unknown, "unexpected_status"),
    };
    let message = text(body, "message").unwrap_or_default();
    // Its `pspReference` names the request. Whether it is a payment's, too, is not said, and a payment that the same key
    // makes afterwards has another.
    Observation {
        decline: Some(Decline {
            canonical: verdict.canonical.to_owned(),
            class: verdict.class,
            raw_code: format!("error:{code}"),
            message: message.chars().take(200).collect(),
            advice: None,
        })
        .filter(|_| matches!(outcome, Outcome::Rejected(_))),
        ..Observation::bare(outcome, rule)
    }
}

fn card(additional: Option<&Value>, body: &Map<String, Value>) -> Option<CardView> {
    let additional = |name: &str| additional.and_then(|data| data.get(name)).and_then(Value::as_str);
    let brand = body
        .get("paymentMethod")
        .and_then(|method| method.get("brand"))
        .and_then(Value::as_str);
    let brand = brand.or_else(|| additional("paymentMethod")).map(|brand| {
        match brand.split('_').next().unwrap_or_default() {
            "mc" => "mastercard",
            "cup" => "unionpay",
            known @ ("visa" | "amex" | "discover" | "diners" | "jcb") => known,
            _ => "unknown",
        }
        .to_owned()
    });
    let last4 = additional("cardSummary").map(str::to_owned);
    let (month, year) = match additional("expiryDate").and_then(|date| date.split_once('/')) {
        Some((month, year)) => (month.parse().ok(), year.parse().ok()),
        None => (None, None),
    };
    (brand.is_some() || last4.is_some()).then_some(CardView {
        brand,
        last4,
        expiry_month: month,
        expiry_year: year,
    })
}
