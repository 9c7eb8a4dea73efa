"""The official Stripe SDK for Python, unmodified but for the base URL: prints what each call answered.

usage: stripe_python.py BASE_URL
"""

import hashlib
import json
import sys

import stripe

client = stripe.StripeClient("sk_test_123", base_addresses={"api": sys.argv[1]})
v1 = client.v1

CALLS = {
    "payment_intents.create": lambda: v1.payment_intents.create(
        {"amount": 2000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True,
         "payment_method_types": ["card"], "metadata": {"order_id": "6735", "näme": "Jürgen & Söhne"}},
        {"idempotency_key": "conformance-1"}),
    "payment_intents.create_expand": lambda: v1.payment_intents.create(
        {"amount": 2000, "currency": "usd", "expand": ["customer", "latest_charge"]}),
    "payment_intents.retrieve": lambda: v1.payment_intents.retrieve("pi_123", {"expand": ["payment_method"]}),
    "payment_intents.update": lambda: v1.payment_intents.update("pi_123", {"metadata": {"a": ""}}),
    "payment_intents.confirm": lambda: v1.payment_intents.confirm("pi_123", {"payment_method": "pm_card_visa"}),
    "payment_intents.capture": lambda: v1.payment_intents.capture("pi_123", {"amount_to_capture": 750}),
    "payment_intents.cancel": lambda: v1.payment_intents.cancel("pi_123"),
    "payment_intents.list": lambda: v1.payment_intents.list({"limit": 3, "created": {"gte": 1}}),
    "payment_intents.search": lambda: v1.payment_intents.search({"query": "metadata['order_id']:'6735'"}),
    "charges.create": lambda: v1.charges.create({"amount": 5000, "currency": "usd", "source": "tok_visa"}),
    "charges.retrieve": lambda: v1.charges.retrieve("ch_123"),
    "charges.capture": lambda: v1.charges.capture("ch_123"),
    "charges.list": lambda: v1.charges.list({"limit": 2}),
    "refunds.create": lambda: v1.refunds.create({"payment_intent": "pi_123", "amount": 500}),
    "refunds.retrieve": lambda: v1.refunds.retrieve("re_123"),
    "refunds.list": lambda: v1.refunds.list({"payment_intent": "pi_123"}),
    "customers.create": lambda: v1.customers.create({"email": "jenny@example.com", "address": {"line1": "1 Main", "city": "Köln"}}),
    "customers.retrieve": lambda: v1.customers.retrieve("cus_123"),
    "customers.delete": lambda: v1.customers.delete("cus_123"),
    "payment_methods.attach": lambda: v1.payment_methods.attach("pm_123", {"customer": "cus_123"}),
    "setup_intents.create": lambda: v1.setup_intents.create({"payment_method_types": ["card"]}),
    "checkout.sessions.create": lambda: v1.checkout.sessions.create(
        {"mode": "payment", "success_url": "https://shop.example/ok?a=1&b=2",
         "line_items": [{"price": "price_123", "quantity": 2}, {"price": "price_456", "quantity": 1}]}),
    "subscriptions.create": lambda: v1.subscriptions.create({"customer": "cus_123", "items": [{"price": "price_123"}]}),
    "balance.retrieve": lambda: v1.balance.retrieve(),
    "error.unknown_parameter": lambda: v1.payment_intents.create({"amount": 2000, "currency": "usd", "bogus": "x"}),
    "error.missing_parameter": lambda: v1.payment_intents.create({"currency": "usd"}),
}

for name, call in CALLS.items():
    try:
        answer = call().last_response
        body, status = answer.body, answer.code
    except stripe.StripeError as error:
        body, status = error.http_body, error.http_status
    if isinstance(body, bytes):
        body = body.decode()
    print(json.dumps({"call": name, "status": status, "bytes": len(body), "sha256": hashlib.sha256(body.encode()).hexdigest()}))
