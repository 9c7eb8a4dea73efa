"""The official Square SDK for Python, one operation at a time: usage: square_python.py BASE REFERENCE CASE (see run.py)"""

import json
import re
import sys
import time
import urllib.request

from square import Square
from square.core.api_error import ApiError

base, prefix, case = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
api = Square(token="sandbox", base_url=base)
ONCE = {"max_retries": 0}
GOOD, EMPTY = "ccof:customer-card-id-ok", "ccof:customer-card-id-declined"
MANDATE = {"customer_details": {"customer_initiated": False}, "buyer_email_address": "a@example.com", "buyer_phone_number": "9000090000"}


class Absent(Exception):
    """The SDK has no call for it, as Square has none."""


def money(amount):
    return {"amount": amount, "currency": case["currency"]}


def reason(refusal):
    """Why no other gateway was asked, or else what Sentinel says beside Square's own code, or else that."""
    unavailable = dict(refusal.headers or {}).get("sentinel-failover", "").partition("reason=")[2]
    if unavailable:
        return unavailable
    first = (refusal.body or {}).get("errors", [{}])[0] if isinstance(refusal.body, dict) else {}
    said = re.search(r"\((\w+)\)$", first.get("detail") or "")
    return said[1] if said else first.get("code") or f"status {refusal.status_code}"


def decided(call):
    """While the outcome is being found out, the same key asks again."""
    patience = time.monotonic() + 60
    while True:
        try:
            paid = call()
            if paid.status != "PENDING" or time.monotonic() > patience:
                return paid
        except ApiError as error:
            if error.status_code != 504 or time.monotonic() > patience:
                raise
        time.sleep(0.05)


def night():
    """Where the taker gives back a part only of what is settled, which happens at night, the night comes now."""
    if case["night"]:
        urllib.request.urlopen(urllib.request.Request(case["night"], b'{"settle": "now"}', {"Content-Type": "application/json"})).close()


def pay(name, autocomplete=True, source=GOOD, amount=2000):
    paid = decided(lambda: api.payments.create(
        source_id=source, customer_id="CUST1", idempotency_key=f"{prefix}-{name}", reference_id=f"{prefix}-{name}",
        amount_money=money(amount), autocomplete=autocomplete, request_options=ONCE, **(MANDATE if case["mandate"] else {})).payment)
    assert paid.status == ("COMPLETED" if autocomplete else "APPROVED") and paid.reference_id == f"{prefix}-{name}", paid
    assert paid.amount_money.amount == amount and paid.amount_money.currency == case["currency"], paid
    return paid


def back(name, payment, amount):
    made = api.refunds.refund_payment(
        idempotency_key=f"{prefix}-{name}-r", payment_id=payment, amount_money=money(amount), reason="returned", request_options=ONCE).refund
    assert made.status in ("PENDING", "COMPLETED") and made.payment_id == payment and made.amount_money.amount == amount, made
    seen = api.refunds.get(refund_id=made.id, request_options=ONCE).refund
    assert seen.id == made.id and seen.amount_money.amount == amount, seen


def sale():
    pay("sale")
    return {"captured": 2000}


def authorise():
    assert pay("authorise", autocomplete=False).card_details.status == "AUTHORIZED"
    return {"held": 2000}


def capture():
    held = pay("capture", autocomplete=False)
    done = api.payments.complete(payment_id=held.id, request_options=ONCE).payment
    # Accepted, where the gateway captures later.
    assert done.status in ("COMPLETED", "PENDING"), done
    return {"captured": 2000}


def partial_capture():
    held = pay("partial capture", autocomplete=False)
    lower = {"amount_money": money(800), "version_token": held.version_token}
    lowered = api.payments.update(payment_id=held.id, idempotency_key=f"{prefix}-lower", payment=lower, request_options=ONCE).payment
    assert lowered.status == "APPROVED" and lowered.amount_money.amount == 800, lowered
    assert api.payments.get(payment_id=held.id, request_options=ONCE).payment.amount_money.amount == 800
    done = api.payments.complete(payment_id=held.id, version_token=lowered.version_token, request_options=ONCE).payment
    assert done.status in ("COMPLETED", "PENDING") and done.amount_money.amount == 800, done
    return {"captured": 800}


def captures_in_parts():
    raise Absent("no such call")


def refund():
    back("refund", pay("refund").id, 2000)
    return {"captured": 2000, "refunded": 2000}


def partial_refund():
    paid = pay("partial refund").id
    night()
    back("partial refund", paid, 500)
    return {"captured": 2000, "refunded": 500}


def void():
    gone = api.payments.cancel(payment_id=pay("void", autocomplete=False).id, request_options=ONCE).payment
    assert gone.status == "CANCELED", gone
    return {}


def retrieve():
    paid = pay("retrieve")
    seen = api.payments.get(payment_id=paid.id, request_options=ONCE).payment
    assert (seen.id, seen.status, seen.amount_money.amount) == (paid.id, "COMPLETED", 2000), seen
    return {"captured": 2000}


def decline():
    try:
        pay("decline", source=EMPTY, amount=case["decline_amount"])
    except ApiError as refusal:
        errors = refusal.body["errors"]
        if errors[0]["category"] == "PAYMENT_METHOD_ERROR":
            assert errors[0]["code"] == case["code"] and refusal.body["payment"]["status"] == "FAILED", refusal.body
            return {}
        raise
    raise AssertionError("a card without money was charged")


def error():
    paid = pay("error").id
    try:
        api.payments.complete(payment_id=paid, request_options=ONCE)
    except ApiError as refusal:
        if refusal.status_code == 400:
            assert refusal.body["errors"][0]["category"] == "INVALID_REQUEST_ERROR", refusal.body
            return {"captured": 2000}
        raise
    raise AssertionError("a completed payment was completed again")


for operation in (sale, authorise, capture, partial_capture, captures_in_parts, refund, partial_refund, void, retrieve, decline, error):
    name = operation.__name__.replace("_", " ")
    if bool(case["only"]) != (operation is captures_in_parts):
        continue
    line = {"operation": name, "reference": f"{prefix}-{name}"}
    try:
        line |= {"told": operation()}
    except ApiError as refusal:
        line |= {"refused": reason(refusal)}
    except Absent as refusal:
        line |= {"refused": str(refusal)}
    except Exception as failure:
        line |= {"failed": f"{type(failure).__name__}: {failure}"}
    print(json.dumps(line), flush=True)
