"""The official Stripe SDK for Python, one operation at a time: usage: stripe_python.py BASE REFERENCE CASE (see run.py)"""

import json
import sys
import time
import urllib.request

import stripe

base, prefix, case = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
v1 = stripe.StripeClient("sk_test_sandbox", base_addresses={"api": base}, max_network_retries=0).v1
GOOD, EMPTY = "pm_card_visa", "pm_card_chargeDeclinedInsufficientFunds"
SHOPPER = {"receipt_email": "a@example.com", "shipping": {"name": "A", "phone": "9000090000", "address": {"line1": "1 Street"}}}


def key(name):
    return {"idempotency_key": f"{prefix}-{name}"}


def decided(call):
    """While the outcome is being found out, the same key asks again."""
    patience = time.monotonic() + 60
    while True:
        try:
            return call()
        except stripe.StripeError as error:
            doubt = (error.headers or {}).get("sentinel-outcome", "").startswith("unknown")
            if not doubt or time.monotonic() > patience:
                raise
        time.sleep(0.05)


def night():
    """Where the taker gives back a part only of what is settled, which happens at night, the night comes now."""
    if case["night"]:
        urllib.request.urlopen(urllib.request.Request(case["night"], b'{"settle": "now"}', {"Content-Type": "application/json"})).close()


def pay(name, capture="automatic", method=GOOD, amount=2000):
    params = {
        "amount": amount, "currency": case["currency"].lower(), "payment_method": method, "confirm": True, "capture_method": capture,
        "allowed_payment_method_types": ["card"], "metadata": {"order_id": f"{prefix}-{name}"},
        **(SHOPPER | {"off_session": True} if case["mandate"] else {})}
    paid = decided(lambda: v1.payment_intents.create(params, key(name)))
    assert paid.id.startswith("pi_") and paid.amount == amount and paid.metadata["order_id"] == f"{prefix}-{name}", paid
    assert paid.status == ("succeeded" if capture == "automatic" else "requires_capture"), paid.status
    return paid


def sale():
    assert pay("sale").amount_received == 2000
    return {"captured": 2000}


def create_only():
    made = v1.payment_intents.create({"amount": 2000, "currency": "eur", "allowed_payment_method_types": ["card"],
                                      "metadata": {"order_id": f"{prefix}-create only"}}, key("create only"))
    assert made.status == "requires_payment_method", made.status
    return {}


def authorise():
    assert pay("authorise", "manual").amount_capturable == 2000
    return {"held": 2000}


def capture():
    taken = v1.payment_intents.capture(pay("capture", "manual").id, {}, key("c1"))
    assert taken.status in ("succeeded", "processing"), taken.status
    return {"captured": 2000}


def partial_capture():
    taken = v1.payment_intents.capture(pay("partial capture", "manual").id, {"amount_to_capture": 800}, key("c2"))
    assert taken.status == "processing" or (taken.status, taken.amount_received) == ("succeeded", 800), taken
    return {"captured": 800}


def captures_in_parts():
    held = pay("captures in parts", "manual").id
    for index, amount in enumerate((500, 700)):
        taken = v1.payment_intents.capture(held, {"amount_to_capture": amount, "final_capture": False}, key(f"p{index}"))
        assert taken.status in ("requires_capture", "processing"), taken
    return {"captured": 1200, "held": 800}


def refund():
    back = v1.refunds.create({"payment_intent": pay("refund").id}, key("r1"))
    assert back.amount == 2000 and back.status in ("succeeded", "pending") and back.id.startswith("re_"), back
    return {"captured": 2000, "refunded": 2000}


def partial_refund():
    paid = pay("partial refund").id
    night()
    back = v1.refunds.create({"payment_intent": paid, "amount": 500}, key("r2"))
    assert back.amount == 500 and back.status in ("succeeded", "pending"), back
    return {"captured": 2000, "refunded": 500}


def void():
    gone = v1.payment_intents.cancel(pay("void", "manual").id, {}, key("v1"))
    assert gone.status == "canceled", gone.status
    return {}


def retrieve():
    paid = pay("retrieve")
    seen = v1.payment_intents.retrieve(paid.id, {"expand": ["latest_charge"]})
    assert (seen.id, seen.status, seen.amount_received) == (paid.id, "succeeded", 2000), seen
    assert seen.latest_charge.amount_captured == 2000, seen.latest_charge
    return {"captured": 2000}


def list_():
    paid = pay("list")
    found = v1.payment_intents.list({"limit": 100})
    assert paid.id in [one.id for one in found.auto_paging_iter()], "the payment is not in the list"
    return {"captured": 2000}


def decline():
    try:
        pay("decline", method=EMPTY, amount=case["decline_amount"])
    except stripe.CardError as error:
        assert error.code == "card_declined" and error.error.decline_code == case["code"], error.error.decline_code
        return {}
    raise AssertionError("a card without money was charged")


def error():
    paid = pay("error")
    try:
        v1.payment_intents.capture(paid.id, {}, key("c3"))
    except stripe.InvalidRequestError as refusal:
        assert refusal.http_status == 400, refusal
        if refusal.code == "payment_intent_unexpected_state":
            return {"captured": 2000}
        raise
    raise AssertionError("a captured payment was captured again")


def reason(refusal):
    """Why no other gateway was asked, or else the code of the error, or the parameter that it is about."""
    unavailable = (refusal.headers or {}).get("sentinel-failover", "").partition("reason=")[2]
    return unavailable or refusal.code or getattr(refusal.error, "code", None) or getattr(refusal, "param", None) or type(refusal).__name__


for operation in (sale, create_only, authorise, capture, partial_capture, captures_in_parts, refund, partial_refund, void, retrieve, list_, decline, error):
    name = operation.__name__.strip("_").replace("_", " ")
    if bool(case["only"]) != (operation is captures_in_parts):
        continue
    line = {"operation": name, "reference": f"{prefix}-{name}"}
    try:
        line |= {"told": operation()}
    except stripe.StripeError as refusal:
        line |= {"refused": reason(refusal)}
    except Exception as failure:
        line |= {"failed": f"{type(failure).__name__}: {failure}"}
    print(json.dumps(line), flush=True)
