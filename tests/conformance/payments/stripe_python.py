"""The official Stripe SDK for Python: every payment operation, against whatever answers at BASE.

usage: stripe_python.py BASE REFERENCE

Prints one line of JSON for each payment made: its reference, and what the SDK was told of it, in cents. The caller
compares that with the books.
"""

import json
import sys

import stripe

base, prefix = sys.argv[1], sys.argv[2]


def client(key="sk_test_sandbox"):
    return stripe.StripeClient(key, base_addresses={"api": base})


v1 = client().v1


def told(name, **what):
    print(json.dumps({"reference": f"{prefix}-{name}", **what}), flush=True)


def key(name):
    return {"idempotency_key": f"{prefix}-{name}"}


def pay(name, method="pm_card_visa", capture="automatic", **more):
    return v1.payment_intents.create({
        "amount": 2000, "currency": "usd", "payment_method": method, "confirm": True, "capture_method": capture,
        "allowed_payment_method_types": ["card"], "metadata": {"order_id": f"{prefix}-{name}"}, **more}, key(name))


def refused(kind, call, **fields):
    try:
        call()
    except kind as error:
        for name, value in fields.items():
            found = getattr(error.error, name, None) if hasattr(error.error, name) else getattr(error, name)
            assert found == value, (name, found, value)
        assert error.request_id.startswith("req_"), error
        return error
    raise AssertionError(f"{kind.__name__} was expected")


sale = pay("sale", expand=["latest_charge"])
assert sale.status == "succeeded" and sale.amount_received == 2000 and sale.id.startswith("pi_"), sale
assert sale.latest_charge.paid and sale.latest_charge.payment_method_details.card.last4 == "4242", sale.latest_charge
again = pay("sale", expand=["latest_charge"])
assert again.id == sale.id and again.last_response.headers["idempotent-replayed"] == "true"
refused(stripe.IdempotencyError, lambda: pay("sale", amount=2001), http_status=400)
part = v1.refunds.create({"payment_intent": sale.id, "amount": 500, "reason": "requested_by_customer"}, key("r1"))
assert part.status == "succeeded" and part.amount == 500 and part.charge == sale.latest_charge.id, part
rest = v1.refunds.create({"payment_intent": sale.id}, key("r2"))
assert v1.refunds.retrieve(rest.id).amount == 1500
assert [one.id for one in v1.refunds.list({"payment_intent": sale.id}).auto_paging_iter()] == [rest.id, part.id]
charge = v1.charges.retrieve(sale.latest_charge.id, {"expand": ["refunds", "balance_transaction"]})
assert charge.refunded and charge.amount_refunded == 2000 and charge.balance_transaction.net == 2000, charge
assert len(charge.refunds.data) == 2
refused(stripe.InvalidRequestError, lambda: v1.refunds.create({"payment_intent": sale.id}, key("r3")), code="charge_already_refunded")
told("sale", captured=2000, refunded=2000)

held = pay("authorise", capture="manual")
assert held.status == "requires_capture" and held.amount_capturable == 2000 and held.amount_received == 0, held
told("authorise", held=2000)

taken = pay("capture", capture="manual")
taken = v1.payment_intents.capture(taken.id, {"amount_to_capture": 800}, key("c1"))
assert taken.status == "succeeded" and taken.amount_received == 800 and taken.amount_capturable == 0, taken
assert v1.payment_intents.retrieve(taken.id, {"expand": ["latest_charge"]}).latest_charge.amount_captured == 800
told("capture", captured=800)

voided = pay("void", capture="manual")
voided = v1.payment_intents.cancel(voided.id, {"cancellation_reason": "duplicate"}, key("v1"))
assert voided.status == "canceled" and voided.cancellation_reason == "duplicate" and voided.canceled_at, voided
refused(stripe.InvalidRequestError, lambda: v1.payment_intents.capture(voided.id, {}, key("c2")), code="payment_intent_unexpected_state")
told("void", held=0)

later = v1.payment_intents.create({"amount": 2000, "currency": "usd", "allowed_payment_method_types": ["card"],
                                   "metadata": {"order_id": f"{prefix}-confirm"}}, key("later"))
assert later.status == "requires_payment_method", later
error = refused(stripe.CardError, lambda: v1.payment_intents.confirm(
    later.id, {"payment_method": "pm_card_visa_chargeDeclined"}, key("confirm-1")), code="card_declined", decline_code="generic_decline")
assert error.error.payment_intent.status == "requires_payment_method"
confirmed = v1.payment_intents.confirm(later.id, {"payment_method": "pm_card_mastercard"}, key("confirm-2"))
assert confirmed.status == "succeeded" and confirmed.last_payment_error is None, confirmed
told("confirm", captured=2000)

customer = v1.customers.create({"email": "jenny@example.com", "name": "Jenny"}, key("customer"))
method = v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}}, key("method"))
assert v1.payment_methods.attach(method.id, {"customer": customer.id}, key("attach")).customer == customer.id
assert [one.id for one in v1.customers.payment_methods.list(customer.id)] == [method.id]
saved = pay("saved", method=method.id, customer=customer.id, off_session=True)
assert saved.status == "succeeded" and saved.payment_method == method.id, saved
assert v1.payment_intents.list({"customer": customer.id, "created": {"gte": saved.created - 5}}).data[0].id == saved.id
told("saved", captured=2000)

error = refused(stripe.CardError, lambda: pay("decline", method="pm_card_chargeDeclinedInsufficientFunds"), code="card_declined", decline_code="insufficient_funds")
assert error.http_status == 402 and error.error.payment_intent.last_payment_error.decline_code == "insufficient_funds"
assert error.error.payment_method.card.brand == "visa"
told("decline", held=0)

challenge = pay("challenge", method="pm_card_authenticationRequired", return_url="https://shop.example/back")
assert challenge.status == "requires_action" and challenge.next_action.redirect_to_url.url, challenge
refused(stripe.CardError, lambda: pay("challenge-mit", method="pm_card_authenticationRequired", off_session=True), code="authentication_required")
told("challenge", held=0)

legacy = v1.charges.create({"amount": 1000, "currency": "usd", "source": "tok_visa", "capture": False,
                            "metadata": {"order_id": f"{prefix}-charge"}}, key("charge"))
assert not legacy.captured and legacy.payment_intent is None, legacy
assert v1.charges.capture(legacy.id, {"amount": 400}, key("charge-c")).amount_captured == 400
told("charge", captured=400)

refused(stripe.InvalidRequestError, lambda: v1.payment_intents.create({"currency": "usd"}, key("missing")), code="parameter_missing", param="amount")
refused(stripe.InvalidRequestError, lambda: v1.payment_intents.retrieve("pi_nobody"), code="resource_missing", http_status=404)
refused(stripe.AuthenticationError, lambda: client("sk_test_wrong").v1.balance.retrieve(), http_status=401)
assert v1.balance.retrieve().available[0].currency == "usd"
assert any(event.type == "payment_intent.succeeded" for event in v1.events.list({"limit": 100}).auto_paging_iter())
