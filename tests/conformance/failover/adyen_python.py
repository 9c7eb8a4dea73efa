"""The official Adyen SDK for Python, one operation at a time.

usage: adyen_python.py BASE REFERENCE DECLINED_NUMBER DECLINED_HOLDER     (BASE with the version)
"""

import json
import sys

import Adyen
from Adyen.exceptions import AdyenError

base, prefix, bad_number, bad_holder = sys.argv[1:5]
ACCOUNT = "AcmeECOM"
adyen = Adyen.Adyen(xapikey="sandbox", platform="test")
payments, modifications = adyen.checkout.payments_api, adyen.checkout.modifications_api
payments.baseUrl = modifications.baseUrl = base


def amount(value):
    return {"currency": "USD", "value": value}


def pay(name, manual=False, number="4242424242424242", holder="J. Smith", value=2000, result="Authorised"):
    answer = payments.payments({
        "amount": amount(value), "reference": f"{prefix}-{name}", "merchantAccount": ACCOUNT,
        "returnUrl": "https://shop.example/return",
        "paymentMethod": {"type": "scheme", "number": number, "expiryMonth": "03", "expiryYear": "2030", "cvc": "737", "holderName": holder},
        **({"additionalData": {"manualCapture": "true"}} if manual else {"captureDelayHours": 0}),
    }, idempotency_key=f"{prefix}-{name}").message
    assert answer["resultCode"] == result and answer["merchantReference"] == f"{prefix}-{name}", answer
    return answer


def modified(call, name, psp, value=None):
    body = {"merchantAccount": ACCOUNT, "reference": f"{prefix}-{name}-m"} | ({"amount": amount(value)} if value else {})
    answer = call(body, psp, idempotency_key=f"{prefix}-{name}-m")
    assert answer.status_code == 201 and answer.message["status"] == "received", answer.message
    assert answer.message["paymentPspReference"] == psp, answer.message


def create():
    assert pay("create")["amount"] == amount(2000)
    return {"captured": 2000}


def authorise():
    pay("authorise", manual=True)
    return {"held": 2000}


def capture():
    modified(modifications.capture_authorised_payment, "capture", pay("capture", manual=True)["pspReference"], 2000)
    return {"captured": 2000}


def partial_capture():
    modified(modifications.capture_authorised_payment, "partial capture", pay("partial capture", manual=True)["pspReference"], 800)
    return {"captured": 800}


def refund():
    modified(modifications.refund_captured_payment, "refund", pay("refund")["pspReference"], 2000)
    return {"captured": 2000, "refunded": 2000}


def partial_refund():
    modified(modifications.refund_captured_payment, "partial refund", pay("partial refund")["pspReference"], 500)
    return {"captured": 2000, "refunded": 500}


def void():
    modified(modifications.cancel_authorised_payment_by_psp_reference, "void", pay("void", manual=True)["pspReference"])
    return {}


def decline():
    answer = pay("decline", number=bad_number, holder=bad_holder, result="Refused")
    assert answer["refusalReasonCode"] and answer["refusalReason"], answer
    return {}


def error():
    try:
        modifications.capture_authorised_payment({"merchantAccount": ACCOUNT, "amount": amount(1)}, "NOSUCHPAYMENT000", idempotency_key=f"{prefix}-error")
    except AdyenError as refusal:
        if getattr(refusal, "status_code", None) == 422:
            assert refusal.error_code == "167", vars(refusal)
            return {}
        raise
    raise AssertionError("a payment that is not there was captured")


for operation in (create, authorise, capture, partial_capture, refund, partial_refund, void, decline, error):
    name = operation.__name__.replace("_", " ")
    line = {"operation": name, "reference": f"{prefix}-{name}"}
    try:
        line |= {"told": operation()}
    except AdyenError as refusal:
        line |= {"refused": getattr(refusal, "error_code", None) or type(refusal).__name__}
    except Exception as failure:
        line |= {"failed": f"{type(failure).__name__}: {failure}"}
    print(json.dumps(line), flush=True)
