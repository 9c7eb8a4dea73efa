"""The official Braintree SDK for Python: every payment operation, against whatever answers at BASE.

usage: braintree_python.py BASE REFERENCE [elsewhere]

`elsewhere`: another gateway takes the payments, so that there is nothing to settle or to search at Braintree. Prints one
line of JSON for each payment made: its reference, and what the SDK was told of it, in cents. The caller compares that with
the books.
"""

import json
import sys
import time
from decimal import Decimal
from urllib.parse import urlparse

import braintree
from braintree.exceptions.not_found_error import NotFoundError

base, prefix, elsewhere = sys.argv[1], sys.argv[2], sys.argv[3:] == ["elsewhere"]
host, port = urlparse(base).hostname, str(urlparse(base).port)
environment = braintree.environment.Environment("sentinel", host, port, base, False, None, host, port)
gateway = braintree.BraintreeGateway(braintree.Configuration(
    environment=environment, merchant_id="sandbox", public_key="sandbox", private_key="sandbox"))


def sale(name, submit, amount="20.00", **more):
    # The custom field names the same card at the other gateway, for whoever carries the payment there.
    return gateway.transaction.sale({
        "amount": amount, "order_id": f"{prefix}-{name}", "payment_method_token": "tok_4111",
        "custom_fields": {"sentinel_stripe": "pm_card_visa"}, "api_request_key": f"{prefix}-{name}",
        "options": {"submit_for_settlement": submit}, **more})


def told(name, **what):
    print(json.dumps({"reference": f"{prefix}-{name}", **what}), flush=True)


result = sale("sale", True)
assert result.is_success, result
paid = result.transaction
assert paid.status == "submitted_for_settlement" and paid.type == "sale", paid.status
assert paid.amount == Decimal("20.00") and paid.currency_iso_code == "USD" and paid.order_id == f"{prefix}-sale", paid
assert paid.processor_response_type == "approved" and paid.created_at and paid.status_history[0].status == "authorized"
assert sale("sale", True).transaction.id == paid.id, "the same key is the same transaction"
if not elsewhere:
    early = gateway.transaction.refund(paid.id, "5.00")
    assert not early.is_success and early.errors.deep_errors[0].code == "91506", early
    gateway.testing.settle_transaction(paid.id)
part = gateway.transaction.refund(paid.id, "5.00")
assert part.is_success and part.transaction.type == "credit" and part.transaction.amount == Decimal("5.00"), part
assert part.transaction.refunded_transaction_id == paid.id, part
rest = gateway.transaction.refund(paid.id, "15.00")
assert rest.is_success, rest
found = gateway.transaction.find(paid.id)
assert found.status == "settled" and sorted(found.refund_ids) == sorted([part.transaction.id, rest.transaction.id]), found
more = gateway.transaction.refund(paid.id, "1.00")
assert not more.is_success and more.errors.deep_errors[0].code in ("91512", "91521"), more
told("sale", captured=2000, refunded=2000)

held = sale("capture", False).transaction
assert held.status == "authorized", held.status
taken = gateway.transaction.submit_for_settlement(held.id, "8.00")
assert taken.is_success and taken.transaction.amount == Decimal("8.00"), taken
assert taken.transaction.status == "submitted_for_settlement", taken.transaction.status
told("capture", captured=800)

held = sale("void", False).transaction
voided = gateway.transaction.void(held.id)
assert voided.is_success and voided.transaction.status == "voided", voided
assert gateway.transaction.find(held.id).status == "voided"
told("void", held=0)

taken = sale("undo", True).transaction
undone = gateway.transaction.void(taken.id)
assert undone.is_success and undone.transaction.status == "voided", undone
told("undo", captured=2000, refunded=2000)

taken = sale("reverse", True).transaction
assert gateway.transaction.reverse(taken.id).is_success
told("reverse", captured=2000, refunded=2000)

if not elsewhere:
    declined = sale("decline", True, amount="2001.00")
    assert not declined.is_success and declined.message == "Insufficient Funds", declined
    assert declined.transaction.status == "processor_declined", declined.transaction.status
    assert declined.transaction.processor_response_code == "2001"
    assert declined.transaction.processor_response_type == "hard_declined"
    told("decline", held=0)
    wrong = sale("wrong", True, amount="-1")
    assert not wrong.is_success and wrong.errors.for_object("transaction").on("amount")[0].code == "81501", wrong
    other = sale("sale", True, amount="21.00")
    assert not other.is_success and other.errors.deep_errors[0].code == "915232", other
    nonce = gateway.transaction.sale({"amount": "20.00", "order_id": f"{prefix}-nonce", "payment_method_nonce": "fake-valid-nonce"})
    assert nonce.is_success and nonce.transaction.credit_card_details.card_type == "Visa", nonce
    gateway.transaction.void(nonce.transaction.id)
    told("nonce", held=0)
    patience = time.monotonic() + 10
    while True:
        hits = gateway.transaction.search(braintree.TransactionSearch.order_id == f"{prefix}-capture")
        if list(hits.ids) or time.monotonic() > patience:
            break
        time.sleep(0.1)
    assert [transaction.order_id for transaction in hits.items] == [f"{prefix}-capture"]
    try:
        gateway.transaction.find("nosuchid")
        raise AssertionError("a transaction that is not there was found")
    except NotFoundError:
        pass
else:
    declined = sale("decline", True, custom_fields={"sentinel_stripe": "pm_card_chargeDeclinedInsufficientFunds"})
    assert not declined.is_success and declined.transaction.status == "processor_declined", declined
    assert declined.transaction.processor_response_code == "2001", declined.transaction.processor_response_code
    told("decline", held=0)
    other = sale("sale", True, amount="21.00")
    assert not other.is_success and other.errors.deep_errors[0].code == "915232", other
    several = gateway.transaction.submit_for_partial_settlement(held.id, "1.00")
    assert not several.is_success and "another gateway" in several.message, several
