//! Stripe's objects as JSON. Every key is there, `null` where nothing is known, as the API emits them.

use serde_json::{Value, json};

use super::Stripe;
use super::cards::{self, Card, Verdict};
use super::state::{Charge, Customer, Event, Intent, Method, Refund, Status, Token};

/// The newest version known here; what answers carry when the request names none.
pub(super) const VERSION: &str = "2026-10-28.endive";

/// An address with every key.
pub(super) fn address(of: Option<&super::form::Params>) -> Value {
    let text = |name: &str| of.and_then(|address| address.text(name).map(str::to_owned));
    json!({"city": text("city"), "country": text("country"), "line1": text("line1"), "line2": text("line2"),
        "postal_code": text("postal_code"), "state": text("state")})
}

/// Billing details with every key.
pub(super) fn billing(of: Option<&super::form::Params>) -> Value {
    let text = |name: &str| of.and_then(|billing| billing.text(name).map(str::to_owned));
    let inside = of.and_then(|billing| billing.inside("address"));
    json!({"address": address(inside.as_ref()), "email": text("email"), "name": text("name"), "phone": text("phone"),
        "tax_id": null})
}

/// Shipping details, or null.
pub(super) fn shipping(of: Option<&super::form::Params>) -> Value {
    let Some(shipping) = of else { return Value::Null };
    let inside = shipping.inside("address");
    json!({"address": address(inside.as_ref()), "carrier": shipping.text("carrier"), "name": shipping.text("name"),
        "phone": shipping.text("phone"), "tracking_number": shipping.text("tracking_number")})
}

fn checks(card: &Card) -> Value {
    let cvc = match card.verdict {
        Verdict::Decline("incorrect_cvc", _) => "fail",
        _ => "pass",
    };
    json!({"address_line1_check": null, "address_postal_code_check": null, "cvc_check": cvc})
}

fn fingerprint(card: &Card) -> String {
    super::digits("fingerprint", &format!("{}{}", card.brand, card.last4), 16)
}

fn list(url: &str, data: Vec<Value>) -> Value {
    json!({"object": "list", "data": data, "has_more": false, "url": url})
}

pub(super) fn method(method: &Method) -> Value {
    let card = &method.card;
    json!({
        "id": method.id, "object": "payment_method", "allow_redisplay": "unspecified", "billing_details": method.billing,
        "card": {
            "brand": card.brand, "checks": checks(card), "country": "US", "display_brand": card.brand,
            "exp_month": card.exp_month, "exp_year": card.exp_year, "fingerprint": fingerprint(card),
            "funding": card.funding, "generated_from": null, "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": null}, "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": true}, "wallet": null,
        },
        "created": method.created, "customer": method.customer, "customer_account": null, "livemode": false,
        "metadata": method.metadata, "type": "card",
    })
}

pub(super) fn token(token: &Token) -> Value {
    let card = &token.card;
    json!({
        "id": token.id, "object": "token", "card": {
            "id": token.id.replacen("tok_", "card_", 1), "object": "card", "address_city": null, "address_country": null,
            "address_line1": null, "address_line1_check": null, "address_line2": null, "address_state": null,
            "address_zip": null, "address_zip_check": null, "allow_redisplay": "unspecified", "brand": card.brand,
            "country": "US", "cvc_check": null, "dynamic_last4": null, "exp_month": card.exp_month,
            "exp_year": card.exp_year, "fingerprint": fingerprint(card), "funding": card.funding, "last4": card.last4,
            "metadata": {}, "name": null, "networks": {"preferred": null}, "regulated_status": "unregulated",
            "tokenization_method": null, "wallet": null,
        },
        "client_ip": null, "created": token.created, "livemode": false, "type": "card", "used": token.used,
    })
}

pub(super) fn customer(customer: &Customer) -> Value {
    if customer.deleted {
        return json!({"id": customer.id, "object": "customer", "deleted": true});
    }
    let field = |name: &str| customer.fields.get(name);
    json!({
        "id": customer.id, "object": "customer", "address": customer.address, "balance": 0, "created": customer.created,
        "currency": null, "customer_account": null, "default_source": null, "delinquent": false,
        "description": field("description"), "discount": null, "email": field("email"),
        "invoice_prefix": super::digits("prefix", &customer.id, 8).to_ascii_uppercase(),
        "invoice_settings": {"custom_fields": null, "default_payment_method": customer.default, "footer": null,
            "rendering_options": null},
        "livemode": false, "metadata": customer.metadata, "name": field("name"), "next_invoice_sequence": 1,
        "phone": field("phone"), "preferred_locales": [], "shipping": customer.shipping, "tax_exempt": "none",
        "test_clock": null,
    })
}

/// A decline as it stands in `error` and `last_payment_error`, without the objects around it.
pub(super) fn card_error(code: &str, decline: Option<&str>, charge: Option<&str>) -> serde_json::Map<String, Value> {
    let (advice, network) = cards::advice(code, decline);
    let mut error = serde_json::Map::new();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            error.insert(name.to_owned(), value.into());
        }
    };
    put("type", Some("card_error"));
    put("code", Some(code));
    put("decline_code", decline.or((code != "card_declined").then_some(code)));
    put("advice_code", advice);
    put("network_decline_code", network);
    put("charge", charge);
    let page = code.replace('_', "-");
    put("doc_url", Some(&format!("https://stripe.com/docs/error-codes/{page}")));
    put("message", Some(cards::message(code, decline)));
    error
}

impl Stripe {
    /// An intent; `old` is the shape of versions before 2022-11-15, with a list of charges.
    pub(super) fn show_intent(&self, intent: &Intent, old: bool) -> Value {
        let charge = intent.charge.as_ref().and_then(|id| self.charges.get(id));
        let held = match intent.status {
            Status::NeedsCapture => charge.map_or(0, Charge::held),
            _ => 0,
        };
        let next_action = match (&intent.action_base, &intent.return_url) {
            (Some(base), Some(url)) => json!({"type": "redirect_to_url", "redirect_to_url": {
                "return_url": url, "url": format!("{base}/_3ds/{}", intent.id)}}),
            (Some(base), None) => json!({"type": "use_stripe_sdk", "use_stripe_sdk": {
                "type": "three_d_secure_redirect", "stripe_js": format!("{base}/_3ds/{}", intent.id),
                "source": super::digits("source", &intent.id, 24)}}),
            (None, _) => Value::Null,
        };
        let mut object = json!({
            "id": intent.id, "object": "payment_intent", "allowed_payment_method_types": null, "amount": intent.amount,
            "amount_capturable": held, "amount_details": {"tip": {}}, "amount_received": intent.received,
            "application": null, "application_fee_amount": null, "automatic_payment_methods": intent.automatic,
            "canceled_at": intent.canceled_at, "cancellation_reason": intent.cancellation_reason,
            "capture_method": intent.capture_method, "client_secret": intent.secret,
            "confirmation_method": intent.confirmation_method, "created": intent.created, "currency": intent.currency,
            "customer": intent.customer, "customer_account": null, "description": intent.description,
            "excluded_payment_method_types": null, "last_payment_error": intent.last_error,
            "latest_charge": intent.charge, "livemode": false, "managed_payments": null, "metadata": intent.metadata,
            "next_action": next_action, "on_behalf_of": null, "payment_method": intent.method,
            "payment_method_configuration_details": null, "payment_method_options": {"card": {"installments": null,
                "mandate_options": null, "network": null, "request_three_d_secure": "automatic"}},
            "payment_method_types": intent.types, "payment_record": null, "processing": null,
            "receipt_email": intent.receipt_email, "review": null, "setup_future_usage": intent.setup_future_usage,
            "shipping": intent.shipping, "source": null, "statement_descriptor": intent.statement[0],
            "statement_descriptor_suffix": intent.statement[1], "status": intent.status.word(), "transfer_data": null,
            "transfer_group": null,
        });
        if old && let Some(map) = object.as_object_mut() {
            map.shift_remove("latest_charge");
            let mine = self
                .charges
                .values()
                .filter(|charge| charge.intent.as_deref() == Some(&intent.id));
            let charges = mine.rev().map(|charge| self.show_charge(charge, true)).collect();
            map.insert(
                "charges".to_owned(),
                list(&format!("/v1/charges?payment_intent={}", intent.id), charges),
            );
        }
        object
    }

    /// A charge; `old` shows its refunds without being asked.
    pub(super) fn show_charge(&self, charge: &Charge, old: bool) -> Value {
        let card = &charge.card;
        let outcome = match charge.failure {
            None => json!({"advice_code": null, "network_advice_code": null, "network_decline_code": null,
                "network_status": "approved_by_network", "reason": null, "risk_level": "normal", "risk_score": 20,
                "seller_message": "Payment complete.", "type": "authorized"}),
            Some((_, decline, true)) => json!({"advice_code": null, "network_advice_code": null,
                "network_decline_code": null, "network_status": "not_sent_to_network",
                "reason": decline.unwrap_or("highest_risk_level"), "risk_level": "highest", "risk_score": 92,
                "seller_message": "Stripe blocked this payment as too risky.", "type": "blocked"}),
            Some((code, decline, false)) => {
                let (advice, network) = cards::advice(code, decline);
                json!({"advice_code": advice, "network_advice_code": null, "network_decline_code": network,
                    "network_status": "declined_by_network", "reason": decline.unwrap_or(code), "risk_level": "normal",
                    "risk_score": 20, "seller_message": "The bank did not return any further details with this decline.",
                    "type": "issuer_declined"})
            }
        };
        let three_ds = if charge.authenticated {
            json!({"authentication_flow": "challenge", "electronic_commerce_indicator": "05", "exemption_indicator": null,
                "result": "authenticated", "result_reason": null,
                "transaction_id": super::digits("three_ds", &charge.id, 24), "version": "2.2.0"})
        } else {
            Value::Null
        };
        let unavailable = json!({"status": "unavailable"});
        let succeeded = charge.failure.is_none();
        let mut object = json!({
            "id": charge.id, "object": "charge", "amount": charge.amount, "amount_captured": charge.captured,
            "amount_refunded": charge.refunded, "application": null, "application_fee": null,
            "application_fee_amount": null,
            "balance_transaction": charge.is_captured.then(|| charge.id.replacen("ch_", "txn_", 1)),
            "billing_details": charge.billing, "calculated_statement_descriptor": "SANDBOX",
            "captured": charge.is_captured, "created": charge.created, "currency": charge.currency,
            "customer": charge.customer, "description": charge.description, "disputed": false,
            "failure_balance_transaction": null, "failure_code": charge.failure.map(|(code, ..)| code),
            "failure_message": charge.failure.map(|(code, decline, _)| cards::message(code, decline)),
            "fraud_details": {}, "livemode": false, "metadata": charge.metadata, "on_behalf_of": null,
            "outcome": outcome, "paid": succeeded, "payment_intent": charge.intent, "payment_method": charge.method,
            "payment_method_details": {"card": {
                "amount_authorized": succeeded.then_some(charge.amount),
                "authorization_code": succeeded.then(|| super::digits("approval", &charge.id, 6).to_ascii_uppercase()),
                "brand": card.brand, "checks": checks(card), "country": "US", "exp_month": card.exp_month,
                "electronic_commerce_indicator": null,
                "exp_year": card.exp_year, "extended_authorization": {"status": "disabled"},
                "fingerprint": fingerprint(card), "funding": card.funding, "incremental_authorization": unavailable,
                "installments": null, "last4": card.last4, "mandate": null, "multicapture": unavailable,
                "network": card.brand, "network_token": {"used": false},
                "network_transaction_id": succeeded.then(|| network_transaction(&charge.id)),
                "overcapture": {"maximum_amount_capturable": charge.amount, "status": "unavailable"},
                "regulated_status": "unregulated", "three_d_secure": three_ds, "transaction_link_id": null, "wallet": null,
            }, "type": "card"},
            "radar_options": {}, "receipt_email": charge.receipt_email, "receipt_number": null,
            "receipt_url": succeeded.then(|| format!("https://pay.stripe.com/receipts/{}", charge.id)),
            "refunded": charge.refunded > 0 && charge.refunded >= if charge.is_captured { charge.captured } else { charge.amount },
            "review": null, "shipping": charge.shipping, "source": null, "source_transfer": null,
            "statement_descriptor": charge.statement[0], "statement_descriptor_suffix": charge.statement[1],
            "status": if succeeded { "succeeded" } else { "failed" }, "transfer_data": null, "transfer_group": null,
        });
        if old {
            object["refunds"] = self.refunds_of(charge);
        }
        object
    }

    /// A charge's refunds, newest first, as they stand in it.
    pub(super) fn refunds_of(&self, charge: &Charge) -> Value {
        let mine = self.refunds.values().filter(|refund| refund.charge == charge.id);
        let data = mine.rev().map(|refund| self.show_refund(refund)).collect();
        list(&format!("/v1/charges/{}/refunds", charge.id), data)
    }

    pub(super) fn show_refund(&self, refund: &Refund) -> Value {
        let charge = self.charges.get(&refund.charge);
        let mut object = json!({
            "id": refund.id, "object": "refund", "amount": refund.amount,
            "balance_transaction": refund.id.replacen("re_", "txn_", 1), "charge": refund.charge,
            "created": refund.created, "currency": charge.map(|charge| charge.currency.as_str()),
            "customer": charge.and_then(|charge| charge.customer.clone()), "customer_account": null,
            "destination_details": {"card": {"reference_status": "pending",
                "reference_type": "acquirer_reference_number", "type": "refund"}, "type": "card"},
            "metadata": refund.metadata, "payment_intent": charge.and_then(|charge| charge.intent.clone()),
            "payment_method": charge.map(|charge| charge.method.clone()), "reason": refund.reason,
            "receipt_number": null, "source_transfer_reversal": null, "status": refund.status, "transfer_reversal": null,
        });
        if refund.status == "failed" {
            object["failure_reason"] = "expired_or_canceled_card".into();
            object["failure_balance_transaction"] = refund.id.replacen("re_", "txn_f", 1).into();
        }
        object
    }

    /// The balance: what was taken and not given back, by currency.
    pub(super) fn show_balance(&self) -> Value {
        let mut sums: indexmap::IndexMap<&str, i64> = indexmap::IndexMap::from([("usd", 0)]);
        for charge in self.charges.values() {
            *sums.entry(charge.currency.as_str()).or_default() +=
                charge.refundable().max(0) * i64::from(charge.is_captured);
        }
        let one = |(currency, amount): (&&str, &i64)| json!({"amount": amount, "currency": currency, "source_types": {"card": amount}});
        let pending: Vec<Value> = sums
            .keys()
            .map(|currency| json!({"amount": 0, "currency": currency, "source_types": {"card": 0}}))
            .collect();
        json!({"object": "balance", "available": sums.iter().map(one).collect::<Vec<_>>(), "livemode": false,
            "pending": pending})
    }

    /// What a capture or a refund did to the balance, by the id that charges and refunds name.
    pub(super) fn show_balance_transaction(&self, id: &str) -> Option<Value> {
        let charge = self
            .charges
            .get(&id.replacen("txn_", "ch_", 1))
            .filter(|charge| charge.is_captured);
        let refund = self.refunds.get(&id.replacen("txn_", "re_", 1));
        let (amount, currency, created, source, kind) = match (charge, refund) {
            (Some(charge), _) => (
                charge.captured,
                charge.currency.clone(),
                charge.created,
                &charge.id,
                "charge",
            ),
            (None, Some(refund)) => {
                let currency = self.charges.get(&refund.charge).map(|charge| charge.currency.clone());
                (-refund.amount, currency?, refund.created, &refund.id, "refund")
            }
            (None, None) => return None,
        };
        Some(
            json!({"id": id, "object": "balance_transaction", "amount": amount, "available_on": created,
            "balance_type": "payments", "created": created, "currency": currency, "description": null,
            "exchange_rate": null, "fee": 0, "fee_details": [], "net": amount, "reporting_category": kind,
            "source": source, "status": "available", "type": kind}),
        )
    }
}

/// Fifteen digits, as Visa writes them.
fn network_transaction(seed: &str) -> String {
    let text = super::digits("network", seed, 40);
    text.bytes()
        .filter(u8::is_ascii_digit)
        .map(char::from)
        .chain("104263859107428".chars())
        .take(15)
        .collect()
}

pub(super) fn event(event: &Event) -> Value {
    json!({
        "id": event.id, "object": "event", "api_version": VERSION, "created": event.created,
        "data": {"object": event.object}, "livemode": false, "pending_webhooks": 1,
        "request": {"id": event.request, "idempotency_key": event.key}, "type": event.kind,
    })
}
