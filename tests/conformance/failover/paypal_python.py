"""The official PayPal SDK for Python, one operation at a time.

usage: paypal_python.py BASE REFERENCE DECLINED_NUMBER DECLINED_HOLDER
"""

import json
import sys

from paypalserversdk.configuration import Configuration, Environment, Server
from paypalserversdk.exceptions.api_exception import ApiException
from paypalserversdk.http.auth.o_auth_2 import ClientCredentialsAuthCredentials
from paypalserversdk.models.amount_with_breakdown import AmountWithBreakdown
from paypalserversdk.models.capture_request import CaptureRequest
from paypalserversdk.models.card_request import CardRequest
from paypalserversdk.models.checkout_payment_intent import CheckoutPaymentIntent
from paypalserversdk.models.money import Money
from paypalserversdk.models.order_request import OrderRequest
from paypalserversdk.models.payment_source import PaymentSource
from paypalserversdk.models.purchase_unit_request import PurchaseUnitRequest
from paypalserversdk.models.refund_request import RefundRequest
from paypalserversdk.paypal_serversdk_client import PaypalServersdkClient

base, prefix, bad_number, bad_holder = sys.argv[1:5]
Configuration.environments[Environment.SANDBOX][Server.DEFAULT] = base
paypal = PaypalServersdkClient(client_credentials_auth_credentials=ClientCredentialsAuthCredentials("sandbox", "sandbox"))
FULL = "return=representation"
SALE, HOLD = CheckoutPaymentIntent.CAPTURE, CheckoutPaymentIntent.AUTHORIZE


def money(value):
    return Money(currency_code="USD", value=value)


def order(name, intent, number="4242424242424242", holder="Jane Doe", card=True):
    source = PaymentSource(card=CardRequest(name=holder, number=number, expiry="2030-02", security_code="123")) if card else None
    unit = PurchaseUnitRequest(amount=AmountWithBreakdown(currency_code="USD", value="20.00"), invoice_id=f"{prefix}-{name}")
    made = paypal.orders.create_order({
        "body": OrderRequest(intent=intent, purchase_units=[unit], payment_source=source),
        "paypal_request_id": f"{prefix}-{name}", "prefer": FULL}).body
    assert made.purchase_units[0].invoice_id == f"{prefix}-{name}", made
    return made


def sold(name):
    made = order(name, SALE)
    capture = made.purchase_units[0].payments.captures[0]
    assert made.status == "COMPLETED" and capture.status == "COMPLETED" and capture.amount.value == "20.00", made
    return made, capture.id


def held(name):
    made = order(name, HOLD)
    authorization = made.purchase_units[0].payments.authorizations[0]
    assert made.status == "COMPLETED" and authorization.status == "CREATED" and authorization.amount.value == "20.00", made
    return authorization.id


def take(name, authorization, value):
    return paypal.payments.capture_authorized_payment({
        "authorization_id": authorization, "paypal_request_id": f"{prefix}-{name}-c", "prefer": FULL,
        "body": CaptureRequest(amount=money(value), final_capture=True)}).body


def give_back(name, capture, value):
    back = paypal.payments.refund_captured_payment({
        "capture_id": capture, "paypal_request_id": f"{prefix}-{name}-r", "prefer": FULL,
        "body": RefundRequest(amount=money(value)) if value else None}).body
    assert back.status in ("COMPLETED", "PENDING") and back.amount.value == (value or "20.00"), back


def create():
    sold("create")
    return {"captured": 2000}


def create_only():
    assert order("create only", SALE, card=False).status == "CREATED"
    return {}


def authorise():
    held("authorise")
    return {"held": 2000}


def capture():
    taken = take("capture", held("capture"), "20.00")
    assert taken.status in ("COMPLETED", "PENDING") and taken.amount.value == "20.00", taken
    return {"captured": 2000}


def partial_capture():
    taken = take("partial capture", held("partial capture"), "8.00")
    assert taken.status in ("COMPLETED", "PENDING") and taken.amount.value == "8.00", taken
    return {"captured": 800}


def refund():
    give_back("refund", sold("refund")[1], None)
    return {"captured": 2000, "refunded": 2000}


def partial_refund():
    give_back("partial refund", sold("partial refund")[1], "5.00")
    return {"captured": 2000, "refunded": 500}


def void():
    paypal.payments.void_payment({"authorization_id": held("void"), "prefer": FULL})
    return {}


def retrieve():
    made, capture = sold("retrieve")
    assert paypal.orders.get_order({"id": made.id}).body.purchase_units[0].payments.captures[0].id == capture
    assert paypal.payments.get_captured_payment({"capture_id": capture}).body.amount.value == "20.00"
    return {"captured": 2000}


def decline():
    try:
        order("decline", SALE, number=bad_number, holder=bad_holder)
    except ApiException as refusal:
        if refusal.response_code == 422:
            assert refusal.details[0].issue == "INSTRUMENT_DECLINED", refusal.details
            return {}
        raise
    raise AssertionError("a card without money was charged")


def error():
    authorization = held("error")
    paypal.payments.void_payment({"authorization_id": authorization, "prefer": FULL})
    try:
        take("error", authorization, "20.00")
    except ApiException as refusal:
        if refusal.response_code == 422:
            assert refusal.name and refusal.debug_id, refusal
            return {}
        raise
    raise AssertionError("a voided payment was captured")


for operation in (create, create_only, authorise, capture, partial_capture, refund, partial_refund, void, retrieve, decline, error):
    name = operation.__name__.replace("_", " ")
    line = {"operation": name, "reference": f"{prefix}-{name}"}
    try:
        line |= {"told": operation()}
    except ApiException as refusal:
        issue = [detail.issue for detail in getattr(refusal, "details", None) or []]
        line |= {"refused": (issue or [getattr(refusal, "name", None) or f"status {refusal.response_code}"])[0]}
    except Exception as failure:
        line |= {"failed": f"{type(failure).__name__}: {failure}"}
    print(json.dumps(line), flush=True)
