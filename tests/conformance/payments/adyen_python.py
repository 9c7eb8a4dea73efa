"""The official Adyen SDK for Python: every payment operation, against whatever answers at BASE.

usage: adyen_python.py BASE REFERENCE     (BASE with the version: http://127.0.0.1:8086/v71)

Prints one line of JSON for each payment made: its reference, and what the SDK was told of it. The caller compares that
with the books.
"""

import json
import sys

import Adyen
from Adyen.exceptions import AdyenAPIAuthenticationError, AdyenAPIUnprocessableEntity

base, prefix = sys.argv[1], sys.argv[2]
ACCOUNT = "AcmeECOM"


def client(key="sandbox"):
    adyen = Adyen.Adyen(xapikey=key, platform="test")
    for service in (adyen.checkout.payments_api, adyen.checkout.modifications_api):
        service.baseUrl = base
    return adyen.checkout


checkout = client()


def payment(name, manual=True, holder="J. Smith", **more):
    return {
        "amount": {"currency": "EUR", "value": 1000}, "reference": f"{prefix}-{name}", "merchantAccount": ACCOUNT,
        "returnUrl": "https://shop.example/return",
        "paymentMethod": {"type": "scheme", "number": "4111111111111111", "expiryMonth": "03", "expiryYear": "2030",
                          "cvc": "737", "holderName": holder},
        **({"additionalData": {"manualCapture": "true"}} if manual else {"captureDelayHours": 0}), **more}


def pay(name, **options):
    answer = checkout.payments_api.payments(payment(name, **options), idempotency_key=f"{prefix}-{name}")
    assert answer.status_code == 200, answer.status_code
    return answer.message


def told(name, **what):
    print(json.dumps({"reference": f"{prefix}-{name}", **what}), flush=True)


def amount(value):
    return {"merchantAccount": ACCOUNT, "amount": {"currency": "EUR", "value": value}}


def received(answer, psp):
    assert answer.status_code == 201 and answer.message["status"] == "received", answer.message
    assert answer.message["paymentPspReference"] == psp and len(answer.message["pspReference"]) == 16, answer.message


modifications = checkout.modifications_api

held = pay("authorise")
assert held["resultCode"] == "Authorised" and held["merchantReference"] == f"{prefix}-authorise", held
assert held["amount"] == {"currency": "EUR", "value": 1000} and len(held["pspReference"]) == 16, held
again = pay("authorise")
assert again["pspReference"] == held["pspReference"], "the same key is the same payment"
told("authorise", held=1000)

captured = pay("capture")
received(modifications.capture_authorised_payment(amount(600), captured["pspReference"], idempotency_key=f"{prefix}-c1"), captured["pspReference"])
told("capture", captured=600)

sold = pay("sale", manual=False)
assert sold["resultCode"] == "Authorised", sold
received(modifications.refund_captured_payment(amount(300), sold["pspReference"], idempotency_key=f"{prefix}-r1"), sold["pspReference"])
received(modifications.refund_captured_payment(amount(700), sold["pspReference"], idempotency_key=f"{prefix}-r2"), sold["pspReference"])
told("sale", captured=1000, refunded=1000)

voided = pay("void")
received(modifications.cancel_authorised_payment_by_psp_reference({"merchantAccount": ACCOUNT}, voided["pspReference"], idempotency_key=f"{prefix}-v1"), voided["pspReference"])
told("void", held=0)

refused = pay("decline", holder="NOT_ENOUGH_BALANCE")
assert refused["resultCode"] == "Refused" and refused["refusalReasonCode"] == "12", refused
told("decline", held=0)

try:
    checkout.payments_api.payments(payment("error", amount={"currency": "EUR", "value": -1}), idempotency_key=f"{prefix}-error")
    raise AssertionError("a negative amount was taken")
except AdyenAPIUnprocessableEntity as error:
    assert error.error_code and error.status_code == 422, vars(error)
try:
    modifications.capture_authorised_payment(amount(1), "NOSUCHPAYMENT000", idempotency_key=f"{prefix}-unknown")
    raise AssertionError("a payment that is not there was captured")
except AdyenAPIUnprocessableEntity as error:
    assert error.error_code == "167", vars(error)
try:
    client("wrong").payments_api.payments(payment("wrong-key"))
    raise AssertionError("a wrong key was taken")
except AdyenAPIAuthenticationError as error:
    assert error.status_code == 401, vars(error)
