"""The official PayPal SDK for Python, one operation at a time.

usage: paypal_python.py BASE REFERENCE CASE     (see run.py)
"""

import json
import sys
import time
import urllib.request

from paypalserversdk.configuration import Configuration, Environment, Server
from paypalserversdk.exceptions.api_exception import ApiException
from paypalserversdk.http.auth.o_auth_2 import ClientCredentialsAuthCredentials
from paypalserversdk.models.amount_with_breakdown import AmountWithBreakdown
from paypalserversdk.models.capture_request import CaptureRequest
from paypalserversdk.models.card_request import CardRequest
from paypalserversdk.models.card_stored_credential import CardStoredCredential
from paypalserversdk.models.checkout_payment_intent import CheckoutPaymentIntent
from paypalserversdk.models.money import Money
from paypalserversdk.models.order_request import OrderRequest
from paypalserversdk.models.payer import Payer
from paypalserversdk.models.payment_source import PaymentSource
from paypalserversdk.models.phone_number import PhoneNumber
from paypalserversdk.models.phone_with_type import PhoneWithType
from paypalserversdk.models.purchase_unit_request import PurchaseUnitRequest
from paypalserversdk.models.refund_request import RefundRequest
from paypalserversdk.paypal_serversdk_client import PaypalServersdkClient

base, prefix, case = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
Configuration.environments[Environment.SANDBOX][Server.DEFAULT] = base
paypal = PaypalServersdkClient(client_credentials_auth_credentials=ClientCredentialsAuthCredentials("sandbox", "sandbox"))
FULL = "return=representation"
SALE, HOLD = CheckoutPaymentIntent.CAPTURE, CheckoutPaymentIntent.AUTHORIZE


def money(value):
    return Money(currency_code=case["currency"], value=value)


def source(good):
    if case["card"]:
        number, holder = ("4242424242424242", "Jane Doe") if good else (case["number"], case["holder"])
        return PaymentSource(card=CardRequest(name=holder, number=number, expiry="2030-02", security_code="123"))
    stored = CardStoredCredential(payment_initiator="MERCHANT", payment_type="UNSCHEDULED") if case["mandate"] else None
    return PaymentSource(card=CardRequest(vault_id="8kk845" if good else "DECLINE-5120", stored_credential=stored))


PAYER = Payer(email_address="a@example.com", phone=PhoneWithType(phone_number=PhoneNumber(national_number="9000090000")))


def decided(call):
    """While the outcome is being found out, the same key asks again."""
    patience = time.monotonic() + 60
    while True:
        try:
            made = call()
            found = getattr(made.purchase_units[0], "payments", None)
            money = getattr(found, "captures", None) or getattr(found, "authorizations", None)
            if not money or money[0].status != "PENDING" or time.monotonic() > patience:
                return made
        except ApiException as error:
            issues = [detail.issue for detail in getattr(error, "details", None) or []]
            if issues not in (["PREVIOUS_REQUEST_IN_PROGRESS"], ["SENTINEL_OUTCOME_PENDING"]) or time.monotonic() > patience:
                raise
        time.sleep(0.05)


def order(name, intent, good=True, value="20.00", paid=True):
    amount = AmountWithBreakdown(currency_code=case["currency"], value=value)
    unit = PurchaseUnitRequest(amount=amount, invoice_id=f"{prefix}-{name}")
    request = {
        "body": OrderRequest(intent=intent, purchase_units=[unit], payer=PAYER, payment_source=source(good) if paid else None),
        "paypal_request_id": f"{prefix}-{name}", "prefer": FULL}
    made = decided(lambda: paypal.orders.create_order(request).body)
    assert made.purchase_units[0].invoice_id == f"{prefix}-{name}", made
    return made


def night():
    """Where the taker gives back a part only of what is settled, which happens at night, the night comes now."""
    if case["night"]:
        urllib.request.urlopen(urllib.request.Request(case["night"], b'{"settle": "now"}', {"Content-Type": "application/json"})).close()


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


def take(name, authorization, value, final=True):
    return paypal.payments.capture_authorized_payment({
        "authorization_id": authorization, "paypal_request_id": f"{prefix}-{name}-c{value}", "prefer": FULL,
        "body": CaptureRequest(amount=money(value), final_capture=final)}).body


def give_back(name, capture, value):
    back = paypal.payments.refund_captured_payment({
        "capture_id": capture, "paypal_request_id": f"{prefix}-{name}-r", "prefer": FULL,
        "body": RefundRequest(amount=money(value)) if value else None}).body
    assert back.status in ("COMPLETED", "PENDING") and back.amount.value == (value or "20.00"), back


def sale():
    sold("sale")
    return {"captured": 2000}


def create_only():
    assert order("create only", SALE, paid=False).status == "CREATED"
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


def captures_in_parts():
    hold = held("captures in parts")
    ids = []
    for value in ("5.00", "7.00"):
        taken = take("captures in parts", hold, value, final=False)
        assert taken.status in ("COMPLETED", "PENDING") and taken.amount.value == value, taken
        ids.append(taken.id)
    assert ids[0] != ids[1] and paypal.payments.get_captured_payment({"capture_id": ids[0]}).body.amount.value == "5.00", ids
    return {"captured": 1200, "held": 800}


def refund():
    give_back("refund", sold("refund")[1], None)
    return {"captured": 2000, "refunded": 2000}


def partial_refund():
    paid = sold("partial refund")[1]
    night()
    give_back("partial refund", paid, "5.00")
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
        order("decline", SALE, good=False, value=f'{case["decline_amount"] // 100}.00')
    except ApiException as refusal:
        if refusal.response_code == 422:
            assert refusal.details[0].issue == "INSTRUMENT_DECLINED", refusal.details
            return {}
        raise
    raise AssertionError("a card without money was charged")


def error():
    try:
        give_back("error", sold("error")[1], "20.01")
    except ApiException as refusal:
        if refusal.response_code == 422:
            assert refusal.name and refusal.debug_id and refusal.details[0].issue, refusal
            return {"captured": 2000}
        raise
    raise AssertionError("more than was captured was given back")


for operation in (sale, create_only, authorise, capture, partial_capture, captures_in_parts, refund, partial_refund, void, retrieve, decline, error):
    name = operation.__name__.replace("_", " ")
    if bool(case["only"]) != (operation is captures_in_parts):
        continue
    line = {"operation": name, "reference": f"{prefix}-{name}"}
    try:
        line |= {"told": operation()}
    except ApiException as refusal:
        # Why no other gateway was asked, or else the issue of the error.
        unavailable = (refusal.response.headers or {}).get("Sentinel-Failover", "").partition("reason=")[2]
        issue = [unavailable] if unavailable else [detail.issue for detail in getattr(refusal, "details", None) or []]
        line |= {"refused": (issue or [getattr(refusal, "name", None) or f"status {refusal.response_code}"])[0]}
    except Exception as failure:
        line |= {"failed": f"{type(failure).__name__}: {failure}"}
    print(json.dumps(line), flush=True)
