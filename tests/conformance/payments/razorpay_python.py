"""The official Razorpay SDK for Python: every payment operation, against whatever answers at BASE.

usage: razorpay_python.py BASE REFERENCE

Prints one line of JSON for each order paid: its id, and what the SDK was told of it. The caller compares that with the
books.
"""

import json
import sys
import time

import razorpay
from razorpay.errors import BadRequestError, SignatureVerificationError

base, prefix = sys.argv[1], sys.argv[2]


def client(secret="sandbox"):
    return razorpay.Client(auth=("rzp_test_sandbox", secret), base_url=base)


api = client()
GOOD, DECLINED = "token_1Aa00000000001", "token_Declined000001"


def order(name, capture="automatic"):
    opened = api.order.create({
        "amount": 50000, "currency": "INR", "receipt": f"{prefix}-{name}",
        "payment": {"capture": capture, "capture_options": {"manual_expiry_period": 7200, "automatic_expiry_period": 12}}})
    assert opened["status"] == "created" and opened["amount_due"] == 50000 and opened["notes"] == [], opened
    return opened["id"]


def payer(order_id, **more):
    return {"email": "a@example.com", "contact": "9000090000", "amount": 50000, "currency": "INR",
            "order_id": order_id, **more}


def charge(order_id, token=GOOD):
    begun = api.payment.createRecurring(payer(order_id, customer_id="cust_1Aa00000000001", token=token, recurring=True))
    return begun["razorpay_payment_id"]


def becomes(payment_id, status):
    for _ in range(200):
        payment = api.payment.fetch(payment_id)
        if payment["status"] == status:
            return payment
        time.sleep(0.02)
    raise AssertionError(f"{payment_id} is {payment['status']}, not {status}")


def told(order_id, **what):
    print(json.dumps({"reference": order_id, **what}), flush=True)


def refused(text, call):
    try:
        call()
    except BadRequestError as error:
        assert text in str(error), error
        return
    raise AssertionError(f"{text!r} was expected")


held_order = order("authorise", "manual")
held = becomes(charge(held_order), "authorized")
assert held["captured"] is False and held["order_id"] == held_order and held["amount"] == 50000, held
told(held_order, held=50000)

captured_order = order("capture", "manual")
captured = becomes(charge(captured_order), "authorized")
refused("equal to the amount", lambda: api.payment.capture(captured["id"], 49900, {"currency": "INR"}))
done = api.payment.capture(captured["id"], 50000, {"currency": "INR"})
assert done["status"] == "captured" and done["captured"] is True, done
refused("already been captured", lambda: api.payment.capture(captured["id"], 50000, {"currency": "INR"}))
told(captured_order, captured=50000)

sold_order = order("sale")
sold = becomes(charge(sold_order), "captured")
refused("already paid", lambda: charge(sold_order))
for amount in (20000, 30000):
    refund = api.payment.refund(sold["id"], {"amount": amount, "receipt": f"{prefix}-{amount}"})
    assert refund["entity"] == "refund" and refund["amount"] == amount, refund
    assert api.refund.fetch(refund["id"])["payment_id"] == sold["id"]
refused("fully refunded", lambda: api.payment.refund(sold["id"], {"amount": 100}))
assert api.payment.fetch_multiple_refund(sold["id"])["count"] == 2
told(sold_order, captured=50000, refunded=50000)

card_order = order("card")
card = {"number": "4100280000001007", "name": "Test", "expiry_month": "12", "expiry_year": "30", "cvv": "123"}
begun = api.payment.createPaymentJson(payer(card_order, method="card", card=card))
assert [step["action"] for step in begun["next"]] == ["redirect", "otp_generate"], begun
refused("OTP", lambda: api.payment.otpSubmit(begun["razorpay_payment_id"], {"otp": "12"}))
paid = api.payment.otpSubmit(begun["razorpay_payment_id"], {"otp": "123456"})
assert api.utility.verify_payment_signature(paid)
try:
    api.utility.verify_payment_signature({**paid, "razorpay_order_id": sold_order})
    raise AssertionError("a signature of another order was taken")
except SignatureVerificationError:
    pass
told(card_order, captured=50000)

declined_order = order("decline")
declined = becomes(charge(declined_order, DECLINED), "failed")
assert declined["error_reason"] == "card_declined", declined
told(declined_order, held=0)

found = api.order.all({"receipt": f"{prefix}-sale", "expand[]": "payments"})
assert found["count"] == 1 and found["items"][0]["payments"]["items"][0]["id"] == sold["id"], found
assert api.order.payments(sold_order)["items"][0]["status"] == "refunded"
refused("does not exist", lambda: api.payment.fetch("pay_00000000000000"))
refused("minimum amount", lambda: api.order.create({"amount": 99, "currency": "INR"}))
refused("Authentication failed", lambda: client("wrong").payment.fetch(sold["id"]))
