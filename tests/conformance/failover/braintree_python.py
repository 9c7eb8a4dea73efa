"""The official Braintree SDK for Python, one operation at a time: usage: braintree_python.py BASE REFERENCE CASE (see run.py)"""

import json
import re
import sys
import time
import urllib.request
from decimal import Decimal
from urllib.parse import urlparse

import braintree
from braintree.exceptions.braintree_error import BraintreeError
from braintree.exceptions.gateway_timeout_error import GatewayTimeoutError

base, prefix, case = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
host, port = urlparse(base).hostname, str(urlparse(base).port)
environment = braintree.environment.Environment("sentinel", host, port, base, False, None, host, port)
gateway = braintree.BraintreeGateway(braintree.Configuration(
    environment=environment, merchant_id="sandbox", public_key="sandbox", private_key="sandbox"))
GOOD, EMPTY = "tok_4111", "tok_empty"
MANDATE = {"transaction_source": "unscheduled", "customer": {"email": "a@example.com", "phone": "9000090000"}}


class Refused(Exception):
    """A result that is no success."""


def good(result):
    if not result.is_success:
        said = re.search(r"\((\w+)\)$", result.message or "")
        raise Refused(said[1] if said else result.message)
    return result.transaction


def asked(name, submit, token=GOOD, amount="20.00"):
    """While the outcome is being found out, the same key asks again."""
    patience = time.monotonic() + 60
    while True:
        try:
            return gateway.transaction.sale({
                "amount": amount, "order_id": f"{prefix}-{name}", "payment_method_token": token, "api_request_key": f"{prefix}-{name}".replace(" ", "-"),
                "merchant_account_id": f'sandbox_{case["currency"].lower()}', "options": {"submit_for_settlement": submit},
                **(MANDATE if case["mandate"] else {})})
        except GatewayTimeoutError:
            if time.monotonic() > patience:
                raise
        time.sleep(0.05)


def night():
    """Where the taker gives back a part only of what is settled, which happens at night, the night comes now."""
    if case["night"]:
        urllib.request.urlopen(urllib.request.Request(case["night"], b'{"settle": "now"}', {"Content-Type": "application/json"})).close()


def pay(name, submit=True):
    paid = good(asked(name, submit))
    assert paid.status == ("submitted_for_settlement" if submit else "authorized") and paid.type == "sale", paid.status
    assert paid.amount == Decimal("20.00") and paid.currency_iso_code == case["currency"] and paid.order_id == f"{prefix}-{name}", paid
    return paid.id


def take(name, amount):
    taken = good(gateway.transaction.submit_for_settlement(pay(name, submit=False), amount))
    assert taken.status == "submitted_for_settlement" and taken.amount == Decimal(amount or "20.00"), taken


def give_back(name, amount):
    paid = pay(name)
    night()
    back = good(gateway.transaction.refund(paid, amount))
    assert back.type == "credit" and back.amount == Decimal(amount or "20.00") and back.refunded_transaction_id == paid, back


def sale():
    pay("sale")
    return {"captured": 2000}


def authorise():
    pay("authorise", submit=False)
    return {"held": 2000}


def capture():
    take("capture", None)
    return {"captured": 2000}


def partial_capture():
    take("partial capture", "8.00")
    return {"captured": 800}


def captures_in_parts():
    held = pay("captures in parts", submit=False)
    for amount in ("5.00", "7.00"):
        part = good(gateway.transaction.submit_for_partial_settlement(held, amount))
        assert part.amount == Decimal(amount) and part.authorized_transaction_id == held, part
    return {"captured": 1200, "held": 800}


def refund():
    give_back("refund", None)
    return {"captured": 2000, "refunded": 2000}


def partial_refund():
    give_back("partial refund", "5.00")
    return {"captured": 2000, "refunded": 500}


def void():
    assert good(gateway.transaction.void(pay("void", submit=False))).status == "voided"
    return {}


def retrieve():
    paid = pay("retrieve")
    seen = gateway.transaction.find(paid)
    # Settled, where the night came in between.
    assert seen.status in ("submitted_for_settlement", "settled") and (seen.id, seen.amount) == (paid, Decimal("20.00")), seen
    return {"captured": 2000}


def decline():
    result = asked("decline", True, EMPTY, f'{case["decline_amount"] // 100}.00')
    if result.is_success:
        raise AssertionError("a card without money was charged")
    if not result.transaction:
        good(result)
    assert result.transaction.status == "processor_declined", result.transaction.status
    assert result.transaction.processor_response_code == case["code"], result.transaction.processor_response_code
    return {}


def error():
    result = gateway.transaction.submit_for_settlement(pay("error"))
    if result.is_success:
        raise AssertionError("a captured payment was captured again")
    assert result.errors.deep_errors and result.errors.deep_errors[0].code == "91507", result
    return {"captured": 2000}


for operation in (sale, authorise, capture, partial_capture, captures_in_parts, refund, partial_refund, void, retrieve, decline, error):
    name = operation.__name__.replace("_", " ")
    if bool(case["only"]) != (operation is captures_in_parts):
        continue
    line = {"operation": name, "reference": f"{prefix}-{name}"}
    try:
        line |= {"told": operation()}
    except Refused as refusal:
        line |= {"refused": str(refusal)}
    except BraintreeError as refusal:
        line |= {"refused": type(refusal).__name__}
    except Exception as failure:
        line |= {"failed": f"{type(failure).__name__}: {failure}"}
    print(json.dumps(line), flush=True)
