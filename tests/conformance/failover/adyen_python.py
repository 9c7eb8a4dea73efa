"""The official Adyen SDK for Python, one operation at a time.

usage: adyen_python.py BASE REFERENCE CASE     (see run.py)
"""

import json
import sys
import time
import urllib.request

import Adyen
from Adyen.exceptions import AdyenError

base, prefix, case = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
ACCOUNT = "AcmeECOM"
adyen = Adyen.Adyen(xapikey="sandbox", platform="test")
payments, modifications = adyen.checkout.payments_api, adyen.checkout.modifications_api
payments.baseUrl = modifications.baseUrl = f"{base}/v71"
SHOPPER = {"shopperEmail": "a@example.com", "telephoneNumber": "9000090000"}


def amount(value):
    return {"currency": case["currency"], "value": value}


def decided(call):
    """While the outcome is being found out, the same key asks again."""
    patience = time.monotonic() + 60
    while True:
        try:
            answer = call()
            if answer["resultCode"] != "Received" or time.monotonic() > patience:
                return answer
        except AdyenError as error:
            if error.error_code not in ("704", "903") or time.monotonic() > patience:
                raise
        time.sleep(0.05)


def source(good):
    if case["card"]:
        number, holder = ("4242424242424242", "J. Smith") if good else (case["number"], case["holder"])
        return {"paymentMethod": {"type": "scheme", "number": number, "expiryMonth": "03", "expiryYear": "2030", "cvc": "737", "holderName": holder}}
    stored, shopper = ("8415698462516992", "shopper-1") if good else ("DECLINED00000012", "shopper-2")
    return {"paymentMethod": {"type": "scheme", "storedPaymentMethodId": stored}, "shopperReference": shopper, **(
        SHOPPER | {"shopperInteraction": "ContAuth", "recurringProcessingModel": "UnscheduledCardOnFile"} if case["mandate"]
        else {"shopperInteraction": "Ecommerce", "recurringProcessingModel": "CardOnFile"})}


def night():
    """Where the taker gives back a part only of what is settled, which happens at night, the night comes now."""
    if case["night"]:
        urllib.request.urlopen(urllib.request.Request(case["night"], b'{"settle": "now"}', {"Content-Type": "application/json"})).close()


def pay(name, manual=False, good=True, value=2000, result="Authorised"):
    body = {
        "amount": amount(value), "reference": f"{prefix}-{name}", "merchantAccount": ACCOUNT,
        "returnUrl": "https://shop.example/return", **source(good),
        **({"additionalData": {"manualCapture": "true"}} if manual else {"captureDelayHours": 0})}
    answer = decided(lambda: payments.payments(body, idempotency_key=f"{prefix}-{name}").message)
    assert answer["resultCode"] == result and answer["merchantReference"] == f"{prefix}-{name}", answer
    return answer


def modified(call, name, psp, value=None):
    body = {"merchantAccount": ACCOUNT, "reference": f"{prefix}-{name}-m"} | ({"amount": amount(value)} if value else {})
    answer = call(body, psp, idempotency_key=f"{prefix}-{name}-m{value}")
    assert answer.status_code == 201 and answer.message["status"] == "received", answer.message
    assert answer.message["paymentPspReference"] == psp, answer.message


def sale():
    assert pay("sale")["amount"] == amount(2000)
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


def captures_in_parts():
    held = pay("captures in parts", manual=True)["pspReference"]
    for value in (500, 700):
        modified(modifications.capture_authorised_payment, "captures in parts", held, value)
    return {"captured": 1200, "held": 800}


def refund():
    modified(modifications.refund_captured_payment, "refund", pay("refund")["pspReference"], 2000)
    return {"captured": 2000, "refunded": 2000}


def partial_refund():
    paid = pay("partial refund")["pspReference"]
    night()
    modified(modifications.refund_captured_payment, "partial refund", paid, 500)
    return {"captured": 2000, "refunded": 500}


def void():
    modified(modifications.cancel_authorised_payment_by_psp_reference, "void", pay("void", manual=True)["pspReference"])
    return {}


def retrieve():
    # Adyen has no call that shows a payment: the same request under the same key is how it is asked about.
    assert pay("retrieve")["pspReference"] == pay("retrieve")["pspReference"]
    return {"captured": 2000}


def decline():
    answer = pay("decline", good=False, value=case["decline_amount"], result="Refused")
    assert answer["refusalReasonCode"] and answer["refusalReason"], answer
    return {}


def error():
    held = pay("error", manual=True)["pspReference"]
    try:
        modified(modifications.capture_authorised_payment, "error", held, -1)
    except AdyenError as refusal:
        if refusal.status_code in (400, 422):
            assert refusal.error_code and refusal.message, vars(refusal)
            return {"held": 2000}
        raise
    raise AssertionError("less than nothing was captured")


for operation in (sale, authorise, capture, partial_capture, captures_in_parts, refund, partial_refund, void, retrieve, decline, error):
    name = operation.__name__.replace("_", " ")
    if bool(case["only"]) != (operation is captures_in_parts):
        continue
    line = {"operation": name, "reference": f"{prefix}-{name}"}
    try:
        line |= {"told": operation()}
    except AdyenError as refusal:
        line |= {"refused": getattr(refusal, "error_code", None) or type(refusal).__name__}
    except Exception as failure:
        line |= {"failed": f"{type(failure).__name__}: {failure}"}
    print(json.dumps(line), flush=True)
