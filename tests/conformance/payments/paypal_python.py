"""The official PayPal SDK for Python: every payment operation, against whatever answers at BASE.

usage: paypal_python.py BASE REFERENCE

Prints one line of JSON for each payment made: its reference, and what the SDK was told of it, in cents. The caller
compares that with the books.
"""

import json
import sys

from paypalserversdk.configuration import Configuration, Environment, Server
from paypalserversdk.exceptions.error_exception import ErrorException
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

base, prefix = sys.argv[1], sys.argv[2]
Configuration.environments[Environment.SANDBOX][Server.DEFAULT] = base


def client(secret="sandbox"):
    return PaypalServersdkClient(client_credentials_auth_credentials=ClientCredentialsAuthCredentials("sandbox", secret))


paypal = client()
FULL = "return=representation"


def money(value):
    return Money(currency_code="USD", value=value)


def create(name, intent, card="Jane Doe", key=None):
    source = PaymentSource(card=CardRequest(name=card, number="4012888888881881", expiry="2030-02", security_code="123")) if card else None
    unit = PurchaseUnitRequest(amount=AmountWithBreakdown(currency_code="USD", value="20.00"), invoice_id=f"{prefix}-{name}", custom_id=f"{prefix}-{name}-op")
    return paypal.orders.create_order({
        "body": OrderRequest(intent=intent, purchase_units=[unit], payment_source=source),
        "paypal_request_id": key or f"{prefix}-{name}", "prefer": FULL}).body


def told(name, **what):
    print(json.dumps({"reference": f"{prefix}-{name}", **what}), flush=True)


def refused(call, status, issue):
    try:
        call()
    except ErrorException as error:
        assert error.response_code == status, error.response_code
        assert error.debug_id and error.name and error.message, error
        assert [detail.issue for detail in error.details or []][:1] == [issue], error.details
        str(error)
        return
    raise AssertionError(f"{issue} was expected")


sale = create("sale", CheckoutPaymentIntent.CAPTURE)
capture = sale.purchase_units[0].payments.captures[0]
assert sale.status == "COMPLETED" and capture.status == "COMPLETED" and capture.amount.value == "20.00", sale
assert sale.purchase_units[0].invoice_id == f"{prefix}-sale" and len(sale.id) == 17 and len(capture.id) == 17, sale
assert create("sale", CheckoutPaymentIntent.CAPTURE).id == sale.id, "the same request id is the same order"
part = paypal.payments.refund_captured_payment({"capture_id": capture.id, "paypal_request_id": f"{prefix}-r1", "prefer": FULL, "body": RefundRequest(amount=money("5.00"))}).body
assert part.status == "COMPLETED" and part.amount.value == "5.00", part
rest = paypal.payments.refund_captured_payment({"capture_id": capture.id, "paypal_request_id": f"{prefix}-r2", "prefer": FULL, "body": RefundRequest(amount=money("15.00"))}).body
assert paypal.payments.get_refund({"refund_id": rest.id}).body.amount.value == "15.00"
assert paypal.payments.get_captured_payment({"capture_id": capture.id}).body.status == "REFUNDED"
told("sale", captured=2000, refunded=2000)

held = create("capture", CheckoutPaymentIntent.AUTHORIZE)
authorization = held.purchase_units[0].payments.authorizations[0]
assert held.status == "COMPLETED" and authorization.status == "CREATED", held
assert paypal.payments.get_authorized_payment({"authorization_id": authorization.id}).body.status == "CREATED"
taken = paypal.payments.capture_authorized_payment({"authorization_id": authorization.id, "paypal_request_id": f"{prefix}-c1", "prefer": FULL, "body": CaptureRequest(amount=money("8.00"), final_capture=True)}).body
assert taken.status == "COMPLETED" and taken.amount.value == "8.00", taken
assert paypal.orders.get_order({"id": held.id}).body.purchase_units[0].payments.captures[0].id == taken.id
told("capture", captured=800)

voided = create("void", CheckoutPaymentIntent.AUTHORIZE)
authorization = voided.purchase_units[0].payments.authorizations[0]
paypal.payments.void_payment({"authorization_id": authorization.id, "prefer": FULL})
assert paypal.payments.get_authorized_payment({"authorization_id": authorization.id}).body.status == "VOIDED"
told("void", held=0)

refused(lambda: create("decline", CheckoutPaymentIntent.CAPTURE, card="CCREJECT-IF"), 422, "INSTRUMENT_DECLINED")
told("decline", held=0)
try:
    paypal.orders.get_order({"id": "NOSUCHORDER000000"})
    raise AssertionError("an order that is not there was read")
except ErrorException as error:
    assert error.response_code == 404 and error.name == "RESOURCE_NOT_FOUND", error
