//! Answers in Braintree's shape: XML with every element that an official SDK reads without asking whether it is there.
//!
//! A decline is 422 with the transaction inside, as at Braintree. A payment in doubt is 504, on which every SDK raises an
//! exception that says *unknown*: 422 would be a result that says *not paid*, and an application would pay again. A
//! challenge of another gateway has no form here: Braintree's happen in the browser before the request, so that such a
//! payment is told as rejected for want of 3-D Secure, and nobody is given the means to complete it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};

use super::xml::Writer;
use crate::config::model::Dialect;
use crate::gateway::canonical::{Address, Answer, Operation, RefundStatus, RefundView, Status, View};
use crate::gateway::outcome::{Decline, DeclineClass};
use crate::gateway::{Head, OwnError, Reply};
use crate::money::{Amount, declines};

pub(super) fn answer(answer: &Answer, head: &Head) -> Reply {
    match answer {
        Answer::Payment(_, view) if view.status == Status::ActionRequired => {
            declined(view, &Page::rejected(view, "three_d_secure"))
        }
        Answer::Payment(operation, view) => {
            let status = match head.method {
                Method::POST => StatusCode::CREATED,
                _ => StatusCode::OK,
            };
            let mut xml = Writer::declared();
            Page::payment(view, status_of(*operation, view)).write(&mut xml);
            reply(status, xml)
        }
        Answer::Declined(view, decline) => declined(view, &Page::declined(view, decline)),
        Answer::Refund(view, refund) if refund.status == RefundStatus::Failed => {
            declined(view, &Page::credit(view, refund))
        }
        Answer::Refund(view, refund) => {
            let status = match head.method {
                Method::GET => StatusCode::OK,
                _ => StatusCode::CREATED,
            };
            let mut xml = Writer::declared();
            Page::credit(view, refund).write(&mut xml);
            reply(status, xml)
        }
        Answer::InDoubt { payment, .. } => {
            let message = format!(
                "The outcome of payment {payment} is not known yet: do not pay again. Ask again with the same request."
            );
            failure(StatusCode::GATEWAY_TIMEOUT, &message)
        }
        Answer::List(_) | Answer::Refunds(..) => failure(StatusCode::NOT_FOUND, "There is no such transaction."),
    }
}

/// A refund as a transaction, inside of something else.
pub(super) fn credit(view: &View, refund: &RefundView, xml: &mut Writer) {
    Page::credit(view, refund).write(xml);
}

fn status_of(operation: Operation, view: &View) -> &'static str {
    match (view.status, operation) {
        // A void of what was taken gives it back; the application asked for a void.
        (Status::Captured, Operation::Void) => "voided",
        (Status::Captured, _) if !view.refunds.is_empty() => "settled",
        (Status::Captured, _) => "submitted_for_settlement",
        // Accepted, and done later: what Braintree's own word for a capture says.
        (Status::Processing, Operation::Capture) => "submitted_for_settlement",
        (Status::Created | Status::Processing | Status::ActionRequired, _) => "authorizing",
        (Status::Authorised, _) => "authorized",
        (Status::Voided, _) => "voided",
        (Status::Declined, _) => "processor_declined",
    }
}

fn reply(status: StatusCode, xml: Writer) -> Reply {
    let mut reply = Reply::new(Bytes::from(xml.finish()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml; charset=utf-8"),
    );
    reply
}

fn failure(status: StatusCode, message: &str) -> Reply {
    let mut xml = Writer::declared();
    xml.node("api-error-response", |xml| {
        xml.node("errors", |xml| xml.array("errors", |_| {}));
        xml.text("message", message);
    });
    reply(status, xml)
}

/// 422 with the transaction that was not to be.
fn declined(view: &View, page: &Page<'_>) -> Reply {
    let mut xml = Writer::declared();
    let message = match page.rejection {
        Some(reason) => format!("Gateway Rejected: {reason}"),
        None => page.response.1.to_owned(),
    };
    xml.node("api-error-response", |xml| {
        xml.node("errors", |xml| xml.array("errors", |_| {}));
        xml.node("params", |xml| {
            xml.node("transaction", |xml| {
                xml.maybe("amount", money(view.amount).as_deref());
                xml.text("type", page.kind);
            });
        });
        xml.text("message", &message);
        page.write(xml);
    });
    reply(StatusCode::UNPROCESSABLE_ENTITY, xml)
}

/// An amount of the view came from this dialect or was checked against it, so it has a form here.
fn money(amount: Amount) -> Option<String> {
    amount.to_decimal(Dialect::Braintree).ok()
}

/// One transaction as it is shown.
struct Page<'a> {
    view: &'a View,
    id: &'a str,
    kind: &'static str,
    status: &'static str,
    amount: Amount,
    /// The processor's code, text and type.
    response: (&'a str, &'a str, &'static str),
    rejection: Option<&'static str>,
    refunded: Option<&'a str>,
    order: Option<&'a str>,
    created: i64,
}

const APPROVED: (&str, &str, &str) = ("1000", "Approved", "approved");

impl<'a> Page<'a> {
    fn payment(view: &'a View, status: &'static str) -> Self {
        let amount = match view.status {
            Status::Captured if !view.captured.is_zero() => view.captured,
            _ => view.taking.unwrap_or(view.amount),
        };
        let response = match (status, &view.decline) {
            ("processor_declined", Some(decline)) => decline_words(decline),
            ("processor_declined", None) => ("2000", "Do Not Honor", "soft_declined"),
            _ => APPROVED,
        };
        Self {
            view,
            id: &view.ids.payment,
            kind: "sale",
            status,
            amount,
            response,
            rejection: None,
            refunded: None,
            order: view.reference.as_deref(),
            created: view.created,
        }
    }

    /// Why a payment was taken for fraud is not the customer's to know.
    fn declined(view: &'a View, decline: &'a Decline) -> Self {
        let response = decline_words(decline);
        Self {
            response,
            ..Self::payment(view, "processor_declined")
        }
    }

    fn rejected(view: &'a View, reason: &'static str) -> Self {
        Self {
            response: ("", "Unknown ()", ""),
            rejection: Some(reason),
            ..Self::payment(view, "gateway_rejected")
        }
    }

    fn credit(view: &'a View, refund: &'a RefundView) -> Self {
        let (status, response) = match refund.status {
            RefundStatus::Pending | RefundStatus::Succeeded => ("submitted_for_settlement", APPROVED),
            RefundStatus::Failed => ("processor_declined", ("2000", "Do Not Honor", "soft_declined")),
        };
        Self {
            id: &refund.id,
            kind: "credit",
            amount: refund.amount,
            response,
            refunded: Some(&view.ids.payment),
            order: refund.reference.as_deref(),
            created: refund.created,
            ..Self::payment(view, status)
        }
    }

    fn write(&self, xml: &mut Writer) {
        let view = self.view;
        xml.node("transaction", |xml| {
            xml.text("id", self.id);
            xml.text("global-id", &STANDARD.encode(format!("transaction_{}", self.id)));
            xml.text("status", self.status);
            xml.text("type", self.kind);
            xml.text("currency-iso-code", self.amount.currency.code());
            xml.maybe("amount", money(self.amount).as_deref());
            xml.nil("merchant-account-id");
            xml.maybe("order-id", self.order);
            xml.moment("created-at", self.created);
            xml.moment("updated-at", view.voided_at.unwrap_or(self.created));
            xml.maybe("gateway-rejection-reason", self.rejection);
            let (code, words, kind) = self.response;
            let approved = code == APPROVED.0;
            xml.maybe(
                "processor-authorization-code",
                view.approval_code.as_deref().filter(|_| approved),
            );
            xml.text("processor-response-code", code);
            xml.text("processor-response-text", words);
            if !kind.is_empty() {
                xml.text("processor-response-type", kind);
            }
            xml.maybe("network-transaction-id", view.network_transaction_id.as_deref());
            for name in [
                "avs-error-response-code",
                "avs-postal-code-response-code",
                "avs-street-address-response-code",
                "cvv-response-code",
            ] {
                xml.nil(name);
            }
            let refunds = view
                .refunds
                .iter()
                .filter(|refund| refund.status != RefundStatus::Failed);
            xml.array("refund-ids", |xml| {
                if self.kind == "sale" {
                    refunds.for_each(|refund| xml.text("item", &refund.id));
                }
            });
            xml.maybe("refunded-transaction-id", self.refunded);
            xml.array("partial-settlement-transaction-ids", |_| {});
            xml.nil("authorized-transaction-id");
            self.history(xml);
            self.card(xml);
            self.people(xml);
            xml.node("custom-fields", |xml| {
                // Names come from outside and become elements here: only such as Braintree would have taken.
                let plain = |name: &&String| {
                    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                        && name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
                };
                for (name, value) in view.metadata.iter().filter(|(name, _)| plain(name)) {
                    xml.text(name, value);
                }
            });
            for name in ["add-ons", "discounts", "disputes"] {
                xml.array(name, |_| {});
            }
            xml.node("descriptor", |xml| xml.maybe("name", view.statement.as_deref()));
            xml.node("subscription", |xml| {
                xml.nil("billing-period-end-date");
                xml.nil("billing-period-start-date");
            });
            xml.node("disbursement-details", |xml| xml.nil("disbursement-date"));
            xml.text("payment-instrument-type", "credit_card");
            xml.text("processor-settlement-response-code", "");
            xml.text("processor-settlement-response-text", "");
            xml.nil("three-d-secure-info");
        });
    }

    fn history(&self, xml: &mut Writer) {
        let captured = self.status == "submitted_for_settlement" || self.status == "settled";
        let first = match (self.kind, captured || self.status == "voided") {
            ("sale", true) => "authorized",
            _ => self.status,
        };
        xml.array("status-history", |xml| {
            let mut event = |status: &str, amount: Amount| {
                xml.node("status-event", |xml| {
                    xml.moment("timestamp", self.created);
                    xml.text("status", status);
                    xml.maybe("amount", money(amount).as_deref());
                    xml.text("user", "api");
                    xml.text("transaction-source", "api");
                });
            };
            event(
                first,
                if self.kind == "sale" {
                    self.view.amount
                } else {
                    self.amount
                },
            );
            if first != self.status {
                event(self.status, self.amount);
            }
        });
    }

    fn card(&self, xml: &mut Writer) {
        let card = self.view.card.clone().unwrap_or_default();
        let brand = match card.brand.as_deref() {
            Some("visa") => Some("Visa"),
            Some("mastercard") => Some("MasterCard"),
            Some("amex") => Some("American Express"),
            Some("discover") => Some("Discover"),
            Some("diners") => Some("Diners Club"),
            Some("jcb") => Some("JCB"),
            Some("unionpay") => Some("UnionPay"),
            _ => None,
        };
        xml.node("credit-card", |xml| {
            xml.maybe("token", self.view.instrument.as_deref());
            xml.nil("bin");
            xml.maybe("last-4", card.last4.as_deref());
            xml.maybe("card-type", brand);
            xml.maybe(
                "expiration-month",
                card.expiry_month.map(|month| format!("{month:02}")).as_deref(),
            );
            xml.maybe(
                "expiration-year",
                card.expiry_year.map(|year| format!("{year:04}")).as_deref(),
            );
            xml.nil("customer-location");
            xml.nil("cardholder-name");
            xml.flag("expired", false);
            for name in [
                "unique-number-identifier",
                "country-of-issuance",
                "issuing-bank",
                "product-id",
            ] {
                xml.nil(name);
            }
            for name in [
                "prepaid",
                "debit",
                "commercial",
                "healthcare",
                "payroll",
                "durbin-regulated",
            ] {
                xml.text(name, "Unknown");
            }
        });
    }

    fn people(&self, xml: &mut Writer) {
        let buyer = &self.view.buyer;
        let name = buyer.name.as_deref();
        let (first, last) = match name.and_then(|name| name.rsplit_once(' ')) {
            Some((first, last)) => (Some(first), Some(last)),
            None => (name, None),
        };
        xml.node("customer", |xml| {
            xml.maybe("id", self.view.customer.as_deref());
            xml.maybe("first-name", first);
            xml.maybe("last-name", last);
            xml.maybe("email", buyer.email.as_deref());
            xml.maybe("phone", buyer.phone.as_deref());
        });
        for (name, address) in [("billing", &buyer.billing), ("shipping", &buyer.shipping)] {
            let unknown = Address::default();
            let address = address.as_ref().unwrap_or(&unknown);
            xml.node(name, |xml| {
                xml.nil("id");
                xml.maybe("street-address", address.line1.as_deref());
                xml.maybe("extended-address", address.line2.as_deref());
                xml.maybe("locality", address.city.as_deref());
                xml.maybe("region", address.state.as_deref());
                xml.maybe("postal-code", address.postal_code.as_deref());
                xml.maybe("country-code-alpha2", address.country.as_deref());
            });
        }
    }
}

/// The application's code for the decline, with its text and type.
fn decline_words(decline: &Decline) -> (&str, &str, &'static str) {
    // Whether it may be tried again is said by its type.
    let code = match decline.class {
        DeclineClass::Fraud => "2000",
        class => declines::reason_for(Dialect::Braintree, &decline.canonical, class),
    };
    let words = match code {
        "2000" => "Do Not Honor",
        "2001" => "Insufficient Funds",
        "2002" => "Limit Exceeded",
        "2004" => "Expired Card",
        "2005" => "Invalid Credit Card Number",
        "2006" => "Invalid Expiration Date",
        "2010" => "Card Issuer Declined CVV",
        "2011" => "Voice Authorization Required",
        "2015" => "Transaction Not Allowed",
        "2059" => "Address Verification Failed",
        "2099" => "Cardholder Authentication Required",
        "3000" => "Processor Network Unavailable - Try Again",
        _ if decline.message.is_empty() => "Processor Declined",
        _ => decline.message.as_str(),
    };
    let kind = match decline.class {
        DeclineClass::Soft | DeclineClass::RetryLater => "soft_declined",
        _ => "hard_declined",
    };
    (code, words, kind)
}

/// An error of Sentinel's own. What an application can mend is a result (422), as Braintree's own refusals are; what it
/// cannot is a status, on which the SDKs raise an exception.
pub(super) fn own_error(own: &OwnError, head: &Head) -> Reply {
    let message = format!("{} ({})", own.message, own.code);
    let verb = head.path.rsplit('/').next().unwrap_or_default();
    let refused = matches!(own.status.as_u16(), 400 | 402 | 405..=407 | 409..=428);
    if !refused {
        return failure(own.status, &message);
    }
    let (code, attribute) = match (own.code, verb) {
        ("idempotency_key_reused", _) => ("915232", "api_request_key"),
        ("idempotency_key_invalid", _) => ("915230", "api_request_key"),
        ("amount_too_large", "refund" | "reverse") => ("91521", "amount"),
        ("amount_too_large", _) => ("91522", "amount"),
        (_, "void") => ("91504", "base"),
        (_, "refund" | "reverse") => ("91506", "base"),
        (_, "submit_for_settlement") => ("91507", "base"),
        _ => ("91501", "base"),
    };
    let mut xml = Writer::declared();
    xml.node("api-error-response", |xml| {
        xml.node("errors", |xml| {
            xml.array("errors", |_| {});
            xml.node("transaction", |xml| {
                xml.array("errors", |xml| {
                    xml.node("error", |xml| {
                        xml.text("code", code);
                        xml.text("attribute", attribute);
                        xml.text("message", &message);
                    });
                });
            });
        });
        xml.node("params", |_| {});
        xml.text("message", &message);
    });
    reply(StatusCode::UNPROCESSABLE_ENTITY, xml)
}
