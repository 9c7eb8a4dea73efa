"""The official Square SDK for Python: every payment operation, against whatever answers at BASE.

usage: square_python.py BASE REFERENCE

Prints one line of JSON for each payment made: its reference, and what the SDK was told of it. The caller compares that
with the books.
"""

import json
import sys

from square import Square
from square.core.api_error import ApiError

base, prefix = sys.argv[1], sys.argv[2]


def client(token="sandbox"):
    return Square(token=token, base_url=base)


api = client()


def pay(name, autocomplete=True, source="cnon:card-nonce-ok", amount=1000, **more):
    return api.payments.create(
        source_id=source, idempotency_key=f"{prefix}-{name}", reference_id=f"{prefix}-{name}",
        amount_money={"amount": amount, "currency": "EUR"}, autocomplete=autocomplete, **more).payment


def told(name, **what):
    print(json.dumps({"reference": f"{prefix}-{name}", **what}), flush=True)


def refused(code, call):
    try:
        call()
    except ApiError as error:
        codes = [one.code if hasattr(one, "code") else one["code"] for one in error.errors]
        assert code in codes, (code, error.body)
        return error
    raise AssertionError(f"{code} was expected")


held = pay("authorise", autocomplete=False)
assert held.status == "APPROVED" and held.card_details.status == "AUTHORIZED", held
assert held.amount_money.amount == 1000 and "EDIT_AMOUNT_DOWN" in held.capabilities, held
assert pay("authorise", autocomplete=False).id == held.id, "the same key is the same payment"
assert api.payments.get(payment_id=held.id).payment.status == "APPROVED"
told("authorise", held=1000)

captured = pay("capture", autocomplete=False)
done = api.payments.complete(payment_id=captured.id).payment
assert done.status == "COMPLETED" and done.card_details.status == "CAPTURED", done
refused("DELAYED_TRANSACTION_CAPTURED", lambda: api.payments.complete(payment_id=captured.id))
told("capture", captured=1000)

partly = pay("capture-less", autocomplete=False)
lower = {"amount_money": {"amount": 600, "currency": "EUR"}, "version_token": partly.version_token}
lowered = api.payments.update(payment_id=partly.id, idempotency_key=f"{prefix}-lower", payment=lower).payment
assert lowered.amount_money.amount == 600, lowered
done = api.payments.complete(payment_id=partly.id, version_token=lowered.version_token).payment
assert done.status == "COMPLETED" and done.amount_money.amount == 600, done
told("capture-less", captured=600)

sold = pay("sale")
assert sold.status == "COMPLETED", sold
for part, amount in (("1", 300), ("2", 700)):
    refund = api.refunds.refund_payment(
        idempotency_key=f"{prefix}-r{part}", payment_id=sold.id, amount_money={"amount": amount, "currency": "EUR"},
        reason="returned").refund
    assert refund.status == "PENDING" and refund.payment_id == sold.id, refund
    assert api.refunds.get(refund_id=refund.id).refund.amount_money.amount == amount
refused("REFUND_AMOUNT_INVALID", lambda: api.refunds.refund_payment(
    idempotency_key=f"{prefix}-r3", payment_id=sold.id, amount_money={"amount": 1, "currency": "EUR"}))
told("sale", captured=1000, refunded=1000)

voided = pay("void", autocomplete=False)
assert api.payments.cancel(payment_id=voided.id).payment.status == "CANCELED"
told("void", held=0)

by_key = pay("void-by-key", autocomplete=False)
api.payments.cancel_by_idempotency_key(idempotency_key=f"{prefix}-void-by-key")
assert api.payments.get(payment_id=by_key.id).payment.status == "CANCELED"
api.payments.cancel_by_idempotency_key(idempotency_key=f"{prefix}-never-used")
told("void-by-key", held=0)

saved = pay("saved", source="ccof:customer-card-id-ok", customer_id="CUST1")
assert saved.card_details.entry_method == "ON_FILE" and saved.customer_id == "CUST1", saved
told("saved", captured=1000)

refused("GENERIC_DECLINE", lambda: pay("decline", source="cnon:card-nonce-declined"))
refused("CVV_FAILURE", lambda: pay("decline-cvv", source="cnon:card-nonce-rejected-cvv"))
told("decline", held=0)

assert refused("VALUE_TOO_LOW", lambda: pay("error", amount=-1)).status_code == 400
refused("IDEMPOTENCY_KEY_REUSED", lambda: api.payments.create(
    source_id="cnon:card-nonce-ok", idempotency_key=f"{prefix}-sale", amount_money={"amount": 1, "currency": "EUR"}))
assert refused("NOT_FOUND", lambda: api.payments.get(payment_id="nosuchpayment")).status_code == 404
assert refused("UNAUTHORIZED", lambda: client("wrong").payments.get(payment_id=held.id)).status_code == 401
