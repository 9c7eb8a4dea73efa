//! Stripe's objects, as answers show them: every key is there, `null` where nothing is known, because stripe-python
//! raises on an absent one. What is known is shown; nothing is made up.

use serde_json::{Value, json};

use super::ids;
use crate::config::model::Dialect;
use crate::gateway::canonical::{Address, CaptureMode, RefundStatus, RefundView, Status, View};
use crate::gateway::outcome::Decline;
use crate::money::declines::{code_stops, reason_for};
use crate::money::{Amount, MoneyError};

/// Amounts come from requests in this dialect, so they have an exact form; anything else is a defect, and no answer.
type Object = Result<Value, MoneyError>;

fn minor(amount: Amount) -> Result<i64, MoneyError> {
    amount.to_minor(Dialect::Stripe)
}

/// The payment method's id: the application's own, or one made of the payment's.
pub fn method_id(view: &View) -> Option<String> {
    let token = view.instrument.as_deref()?;
    if token.starts_with("pm_") || token.starts_with("card_") || token.starts_with("src_") {
        return Some(token.to_owned());
    }
    let (_, rest) = view.ids.payment.split_once('_')?;
    Some(format!("pm_{rest}"))
}

fn address(address: Option<&Address>) -> Value {
    let of = |field: fn(&Address) -> &Option<String>| address.and_then(|address| field(address).clone());
    json!({
        "city": of(|a| &a.city), "country": of(|a| &a.country), "line1": of(|a| &a.line1),
        "line2": of(|a| &a.line2), "postal_code": of(|a| &a.postal_code), "state": of(|a| &a.state),
    })
}

fn billing(view: &View) -> Value {
    json!({
        "address": address(view.buyer.billing.as_ref()), "email": view.buyer.email, "name": view.buyer.name,
        "phone": view.buyer.phone, "tax_id": null,
    })
}

fn shipping(view: &View) -> Value {
    let Some(to) = &view.buyer.shipping else {
        return Value::Null;
    };
    let mut object = json!({
        "address": address(Some(to)), "carrier": null, "phone": view.buyer.phone, "tracking_number": null,
    });
    // A name has no null: Stripe takes no address without one.
    if let Some(name) = &view.buyer.name {
        object["name"] = name.clone().into();
    }
    object
}

/// A payment method.
pub fn method(view: &View) -> Option<Value> {
    let id = method_id(view)?;
    let mut object = json!({
        "id": id, "object": "payment_method", "allow_redisplay": "unspecified", "billing_details": billing(view),
        "created": view.created, "customer": view.customer, "customer_account": null, "livemode": view.live,
        "metadata": {}, "radar_options": {}, "type": "card",
    });
    // A card of which nothing is known is left out: its fields have no null.
    if let Some(card) = &view.card
        && let (Some(last4), Some(month), Some(year)) = (&card.last4, card.expiry_month, card.expiry_year)
    {
        let brand = card.brand.as_deref().unwrap_or("unknown");
        object["card"] = json!({
            "brand": brand,
            "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": null},
            "country": null, "display_brand": brand, "exp_month": month, "exp_year": year, "fingerprint": null,
            "funding": "unknown", "generated_from": null, "last4": last4, "networks": null,
            "regulated_status": null, "three_d_secure_usage": null, "wallet": null,
        });
    }
    Some(object)
}

fn method_details(view: &View) -> Value {
    let Some(card) = &view.card else { return Value::Null };
    let (Some(last4), Some(month), Some(year)) = (&card.last4, card.expiry_month, card.expiry_year) else {
        return Value::Null;
    };
    json!({
        "card": {
            "amount_authorized": null, "authorization_code": view.approval_code, "brand": card.brand,
            "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": null},
            "country": null, "electronic_commerce_indicator": null, "exp_month": month, "exp_year": year,
            "fingerprint": null, "funding": null, "installments": null, "last4": last4, "mandate": null,
            "network": card.brand, "network_transaction_id": view.network_transaction_id, "regulated_status": null,
            "three_d_secure": null, "transaction_link_id": null, "wallet": null,
        },
        "type": "card",
    })
}

/// The code that stands in `error.code` for a decline code.
fn error_code(decline_code: &str) -> &str {
    match decline_code {
        "expired_card"
        | "incorrect_cvc"
        | "incorrect_number"
        | "incorrect_zip"
        | "processing_error"
        | "authentication_required" => decline_code,
        "invalid_cvc" => "incorrect_cvc",
        "invalid_number" => "incorrect_number",
        _ => "card_declined",
    }
}

/// A decline as a card error, without the objects around it. Reasons of fraud are told as a generic decline: whoever
/// holds the card must not learn that it is known as stolen.
pub fn card_error(view: &View, decline: &Decline) -> Value {
    let code = reason_for(Dialect::Stripe, &decline.canonical, decline.class);
    let error = error_code(code);
    let message = match code {
        "insufficient_funds" => "Your card has insufficient funds.",
        "expired_card" => "Your card has expired.",
        "incorrect_cvc" | "invalid_cvc" => "Your card's security code is incorrect.",
        "incorrect_number" | "invalid_number" => "Your card number is incorrect.",
        "processing_error" => "An error occurred while processing your card. Try again in a little bit.",
        "authentication_required" => "Your card was declined. This transaction requires authentication.",
        _ => "Your card was declined.",
    };
    let mut object = json!({
        "type": "card_error", "code": error, "message": message, "charge": view.ids.charge,
        "doc_url": format!("https://stripe.com/docs/error-codes/{}", error.replace('_', "-")),
    });
    if error == "card_declined" || error == "authentication_required" {
        object["decline_code"] = code.into();
    }
    let advice = decline.advice.as_deref();
    if decline.class.stops() && !code_stops(Dialect::Stripe, code) {
        object["advice_code"] = "do_not_try_again".into();
    } else if let Some(word @ ("confirm_card_data" | "do_not_try_again" | "try_again_later")) = advice {
        object["advice_code"] = word.into();
    }
    if let Some(number) = advice.filter(|advice| advice.len() == 2) {
        object["network_advice_code"] = number.into();
    }
    object
}

fn intent_status(view: &View) -> &'static str {
    match view.status {
        Status::Created if view.instrument.is_some() => "requires_confirmation",
        Status::Created | Status::Declined => "requires_payment_method",
        Status::ActionRequired => "requires_action",
        Status::Processing => "processing",
        Status::Authorised => "requires_capture",
        Status::Captured if view.kept.is_some() => "requires_capture",
        Status::Captured => "succeeded",
        Status::Voided => "canceled",
    }
}

/// Whether an attempt was made, so that there is a charge.
fn attempted(view: &View) -> bool {
    !matches!(view.status, Status::Created | Status::ActionRequired) && !view.ids.charge.is_empty()
}

/// A payment intent. `before_latest_charge` is the shape of API versions before 2022-11-15.
pub fn intent(view: &View, before_latest_charge: bool) -> Object {
    let held = match (view.status, view.kept) {
        (Status::Authorised, _) => minor(view.amount)?,
        (_, Some(kept)) => minor(kept)?,
        _ => 0,
    };
    let last_error = match &view.decline {
        Some(decline) if view.status == Status::Declined => {
            let mut error = card_error(view, decline);
            if let Some(method) = method(view) {
                error["payment_method"] = method;
            }
            error
        }
        _ => Value::Null,
    };
    let next_action = match (&view.redirect, view.status) {
        (Some(url), Status::ActionRequired) => json!({
            "type": "redirect_to_url", "redirect_to_url": {"return_url": null, "url": url},
        }),
        _ => Value::Null,
    };
    let method = method_id(view).filter(|_| view.status != Status::Declined);
    let mut object = json!({
        "id": view.ids.payment, "object": "payment_intent", "allowed_payment_method_types": null,
        "amount": minor(view.amount)?, "amount_capturable": held, "amount_details": {"tip": {}},
        "amount_received": minor(view.captured)?, "application": null, "application_fee_amount": null,
        "automatic_payment_methods": null, "canceled_at": view.voided_at,
        "cancellation_reason": null,
        "capture_method": match view.capture { CaptureMode::Automatic => "automatic", CaptureMode::Manual => "manual" },
        "client_secret": ids::client_secret(&view.ids.payment), "confirmation_method": "automatic",
        "created": view.created, "currency": view.amount.currency.lower(), "customer": view.customer,
        "customer_account": null, "description": view.description, "excluded_payment_method_types": null,
        "last_payment_error": last_error, "latest_charge": attempted(view).then_some(&view.ids.charge),
        "livemode": view.live, "managed_payments": null, "metadata": view.metadata, "next_action": next_action,
        "on_behalf_of": null, "payment_method": method, "payment_method_configuration_details": null,
        "payment_method_options": {"card": {
            "installments": null, "mandate_options": null, "network": null, "request_three_d_secure": "automatic",
        }},
        "payment_method_types": ["card"], "payment_record": null, "processing": null, "receipt_email": view.buyer.email,
        "review": null, "setup_future_usage": null, "shipping": shipping(view), "source": null,
        "statement_descriptor": view.statement, "statement_descriptor_suffix": null, "status": intent_status(view),
        "transfer_data": null, "transfer_group": null,
    });
    if before_latest_charge && let Some(map) = object.as_object_mut() {
        let charges = if attempted(view) {
            vec![charge(view, true)?]
        } else {
            Vec::new()
        };
        map.shift_remove("latest_charge");
        let url = format!("/v1/charges?payment_intent={}", view.ids.payment);
        map.insert("charges".to_owned(), list(&url, charges, false));
    }
    Ok(object)
}

/// A charge.
pub fn charge(view: &View, before_latest_charge: bool) -> Object {
    let status = match view.status {
        Status::Declined => "failed",
        Status::Processing | Status::Created | Status::ActionRequired => "pending",
        Status::Authorised | Status::Captured | Status::Voided => "succeeded",
    };
    let (failure_code, failure_message) = match (&view.decline, view.status) {
        (Some(decline), Status::Declined) => {
            let error = card_error(view, decline);
            (error["code"].clone(), error["message"].clone())
        }
        _ => (Value::Null, Value::Null),
    };
    let paid = status == "succeeded";
    let refunded = match view.status {
        Status::Voided => view.amount,
        _ => view.refunded,
    };
    let whole = if view.captured.is_zero() {
        view.amount
    } else {
        view.captured
    };
    // An intent's id begins with `pi_`; a legacy charge has none.
    let intent = view.ids.payment.starts_with("pi_").then_some(&view.ids.payment);
    let mut object = json!({
        "id": view.ids.charge, "object": "charge", "amount": minor(view.amount)?,
        "amount_captured": minor(view.captured)?, "amount_refunded": minor(refunded)?, "application": null,
        "application_fee": null, "application_fee_amount": null, "balance_transaction": null,
        "billing_details": billing(view), "calculated_statement_descriptor": null,
        "captured": !view.captured.is_zero(), "created": view.created, "currency": view.amount.currency.lower(),
        "customer": view.customer, "description": view.description, "disputed": false,
        "failure_balance_transaction": null, "failure_code": failure_code, "failure_message": failure_message,
        "fraud_details": {}, "livemode": view.live, "metadata": view.metadata, "on_behalf_of": null,
        "outcome": {
            "advice_code": null, "network_advice_code": null, "network_decline_code": null,
            "network_status": match status { "failed" => "declined_by_network", "succeeded" => "approved_by_network",
                _ => "not_sent_to_network" },
            "reason": null, "seller_message": if paid { json!("Payment complete.") } else { Value::Null },
            "type": match status { "failed" => "issuer_declined", _ => "authorized" },
        },
        "paid": paid, "payment_intent": intent, "payment_method": method_id(view),
        "payment_method_details": method_details(view), "radar_options": {}, "receipt_email": view.buyer.email,
        "receipt_number": null, "receipt_url": null,
        "refunded": refunded.units > 0 && refunded.units >= whole.units, "review": null,
        "shipping": shipping(view), "source": null, "source_transfer": null, "statement_descriptor": view.statement,
        "statement_descriptor_suffix": null, "status": status, "transfer_data": null, "transfer_group": null,
    });
    if before_latest_charge {
        object["refunds"] = refunds(view)?;
    }
    Ok(object)
}

/// The list of a payment's refunds, as a charge shows it when asked to.
pub fn refunds(view: &View) -> Object {
    let all: Result<Vec<Value>, MoneyError> = view.refunds.iter().rev().map(|one| refund(view, one)).collect();
    Ok(list(&format!("/v1/charges/{}/refunds", view.ids.charge), all?, false))
}

/// A refund.
pub fn refund(view: &View, refund: &RefundView) -> Object {
    let known = ["duplicate", "fraudulent", "requested_by_customer"];
    Ok(json!({
        "id": refund.id, "object": "refund", "amount": minor(refund.amount)?, "balance_transaction": null,
        "charge": view.ids.charge, "created": refund.created, "currency": refund.amount.currency.lower(),
        "customer": view.customer, "customer_account": null,
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": refund.metadata,
        "payment_intent": view.ids.payment.starts_with("pi_").then_some(&view.ids.payment),
        "payment_method": method_id(view),
        "reason": refund.reason.as_deref().filter(|reason| known.contains(reason)),
        "receipt_number": null, "source_transfer_reversal": null,
        "status": match refund.status {
            RefundStatus::Pending => "pending",
            RefundStatus::Succeeded => "succeeded",
            RefundStatus::Failed => "failed",
        },
        "transfer_reversal": null,
    }))
}

/// A list.
pub fn list(url: &str, data: Vec<Value>, has_more: bool) -> Value {
    json!({"object": "list", "data": data, "has_more": has_more, "url": url})
}
