"""The official Razorpay SDK for Python, one operation at a time: usage: razorpay_python.py BASE REFERENCE CASE (see run.py)

Every payment belongs to an order, which is opened first. What is told is told of that order.
"""

import json
import re
import sys
import time
import urllib.request

import razorpay
from razorpay.errors import BadRequestError, GatewayError, ServerError

base, prefix, case = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
api = razorpay.Client(auth=("rzp_test_sandbox", "sandbox"), base_url=base)
GOOD, EMPTY = "token_1Aa00000000001", "token_Declined000001"
ERRORS = (BadRequestError, GatewayError, ServerError)
orders = {}


class Absent(Exception):
    """The SDK has no call for it, as Razorpay has none."""


def order(name, capture="automatic", amount=2000):
    opened = api.order.create({
        "amount": amount, "currency": case["currency"], "receipt": f"{prefix}-{name}"[-40:],
        "payment": {"capture": capture, "capture_options": {"manual_expiry_period": 7200, "automatic_expiry_period": 12}}})
    assert opened["entity"] == "order" and opened["status"] == "created" and opened["amount_due"] == amount, opened
    orders[name] = opened["id"]
    return opened["id"]


def begin(order_id, token, amount):
    body = {"email": "a@example.com", "contact": "9000090000", "amount": amount, "currency": case["currency"],
            "order_id": order_id, "customer_id": "cust_1Aa00000000001", "token": token}
    if case["mandate"]:
        return api.payment.createRecurring({**body, "recurring": True})
    return api.payment.createPaymentJson({**body, "method": "card", "card": {"cvv": "123"}, "ip": "203.0.113.7"})


def becomes(payment_id, *statuses):
    patience = time.monotonic() + 60
    while True:
        payment = api.payment.fetch(payment_id)
        if payment["status"] in statuses:
            return payment
        assert time.monotonic() < patience, f"{payment_id} is {payment['status']}, not {statuses}"
        time.sleep(0.05)


def night():
    """Where the taker gives back a part only of what is settled, which happens at night, the night comes now."""
    if case["night"]:
        urllib.request.urlopen(urllib.request.Request(case["night"], b'{"settle": "now"}', {"Content-Type": "application/json"})).close()


def pay(name, capture="automatic", token=GOOD, amount=2000, status=None):
    order_id = order(name, capture, amount)
    begun = begin(order_id, token, amount)
    if "razorpay_signature" in begun:
        assert begun["razorpay_order_id"] == order_id and api.utility.verify_payment_signature(begun), begun
    paid = becomes(begun["razorpay_payment_id"], status or ("captured" if capture == "automatic" else "authorized"))
    assert paid["order_id"] == order_id and paid["amount"] == amount and paid["currency"] == case["currency"], paid
    return paid


def back(name, payment, amount):
    made = api.payment.refund(payment, {"amount": amount, "receipt": f"{prefix}-{name}"[-40:]})
    assert made["entity"] == "refund" and made["amount"] == amount and made["payment_id"] == payment, made
    assert api.refund.fetch(made["id"])["amount"] == amount


def sale():
    pay("sale")
    return {"captured": 2000}


def order_():
    opened = order("order")
    assert api.order.fetch(opened)["status"] == "created" and api.order.payments(opened)["count"] == 0
    return {}


def authorise():
    assert pay("authorise", "manual")["captured"] is False
    return {"held": 2000}


def capture():
    done = api.payment.capture(pay("capture", "manual")["id"], 2000, {"currency": case["currency"]})
    assert done["status"] == "captured" or becomes(done["id"], "captured"), done
    return {"captured": 2000}


def partial_capture():
    api.payment.capture(pay("partial capture", "manual")["id"], 800, {"currency": case["currency"]})
    return {"captured": 800}


def captures_in_parts():
    held = pay("captures in parts", "manual")["id"]
    for amount in (500, 700):
        api.payment.capture(held, amount, {"currency": case["currency"]})
    return {"captured": 1200, "held": 800}


def refund():
    back("refund", pay("refund")["id"], 2000)
    return {"captured": 2000, "refunded": 2000}


def partial_refund():
    paid = pay("partial refund")["id"]
    night()
    back("partial refund", paid, 500)
    return {"captured": 2000, "refunded": 500}


def void():
    raise Absent("no such call")


def retrieve():
    paid = pay("retrieve")
    assert api.payment.fetch(paid["id"])["captured"] is True
    assert [one["id"] for one in api.order.payments(paid["order_id"])["items"]] == [paid["id"]]
    assert api.order.fetch(paid["order_id"])["status"] == "paid"
    return {"captured": 2000}


def decline():
    try:
        failed = pay("decline", token=EMPTY, amount=case["decline_amount"], status="failed")
    except BadRequestError as refusal:
        if "declined" in str(refusal):
            return {}
        raise
    assert failed["error_reason"] == case["code"], failed
    return {}


def error():
    paid = pay("error")
    try:
        api.payment.capture(paid["id"], 2000, {"currency": case["currency"]})
    except BadRequestError as refusal:
        assert str(refusal), refusal
        return {"captured": 2000}
    raise AssertionError("a captured payment was captured")


for operation in (sale, order_, authorise, capture, partial_capture, captures_in_parts, refund, partial_refund, void, retrieve, decline, error):
    name = operation.__name__.strip("_").replace("_", " ")
    if bool(case["only"]) != (operation is captures_in_parts):
        continue
    line = {"operation": name}
    try:
        line |= {"told": operation()}
    except ERRORS as refusal:
        said = re.search(r"\((\w+)\)$", str(refusal))
        line |= {"refused": said[1] if said else str(refusal)}
    except Absent as refusal:
        line |= {"refused": str(refusal)}
    except Exception as failure:
        line |= {"failed": f"{type(failure).__name__}: {failure}"}
    print(json.dumps(line | {"reference": orders.get(name, f"{prefix}-{name}")}), flush=True)
