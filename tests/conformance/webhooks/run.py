"""Holds Sentinel's webhooks against the official SDKs' own verification: each dialect's payment is taken by another
gateway, and what the application is sent has to be what its SDK believes, untampered, and nothing else.

usage: run.py SENTINEL TOOLS
"""

import base64
import http.server
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import braintree
import razorpay
import square.utils.webhooks_helper as square_webhooks
import stripe
from Adyen.util import is_valid_hmac_notification

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from ports import free_port

sentinel, tools = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
modules = tools / "node/node_modules"
failures = []
SECRETS = {"stripe": "whsec_conformance", "adyen": "00ff" * 16, "square": "square-key", "razorpay": "razorpay-secret",
           "paypal": "paypal-secret"}
WEBHOOK_ID = "WH-CONFORMANCE"
NOTIFICATION_URL = "https://shop.example/square"
TOKENS = ("stripe=pm_card_visa; adyen=shopper-1/8415698462516992; paypal=8kk845; "
          "square=CUST1/ccof:customer-card-id-ok")

received = {name: queue.Queue() for name in (*SECRETS, "braintree")}


class Application(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        received[self.path.strip("/")].put((dict(self.headers.items()), body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


application = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
threading.Thread(target=application.serve_forever, daemon=True).start()
sandbox = subprocess.Popen([sentinel, "sandbox", "--free-ports", "--json"], stdout=subprocess.PIPE, text=True)
served = json.loads(sandbox.stdout.readline())


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(served["control"] + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


ports = {name: free_port() for name in received}
hooks = free_port()
directory = tempfile.TemporaryDirectory()
accounts = {
    "stripe": "credentials: { secret_key: sk_test_sandbox }",
    "adyen": f"capture: automatic, credentials: {{ api_key: sandbox, merchant_account: AcmeECOM }}, webhook: {{ secret: {SECRETS['adyen']} }}",
    "paypal": f"credentials: {{ client_id: sandbox, client_secret: sandbox }}, webhook: {{ webhook_id: {WEBHOOK_ID} }}",
    "braintree": "request_keys: true, credentials: { merchant_id: sandbox, public_key: sandbox, private_key: sandbox, merchant_accounts: { EUR: sandbox_eur } }",
    "square": f"credentials: {{ access_token: sandbox, location_id: L88917AVBK2S5 }}, webhook: {{ secret: {SECRETS['square']}, notification_url: '{NOTIFICATION_URL}' }}",
    "razorpay": "capture: automatic, credentials: { key_id: rzp_test_sandbox, key_secret: sandbox }",
}
second = {"stripe": "adyen", "adyen": "stripe", "paypal": "stripe", "braintree": "adyen", "square": "stripe", "razorpay": "stripe"}


def gateway(name):
    return f"  {name}: {{ dialect: {name}, endpoint: '{served['gateways'][name]['url']}', allow_private: true, {accounts[name]} }}\n"


def route(name):
    secret = f", secret: {SECRETS[name]}" if name in SECRETS else ""
    url = f"http://127.0.0.1:{application.server_port}/{name}"
    return (f"  - {{ name: {name}, listen: 127.0.0.1:{ports[name]}, dialect: {name}, gateways: [{name}, {second[name]}], "
            f"failover: {{ require_certificate: false }}, notify: {{ url: '{url}'{secret} }} }}\n")


config = pathlib.Path(directory.name) / "sentinel.yaml"
config.write_text(
    f"listeners: {{ webhooks: 127.0.0.1:{hooks} }}\nledger: {{ sqlite: '{directory.name}/ledger.db', strict: false }}\n"
    f"gateways:\n{''.join(map(gateway, accounts))}routes:\n{''.join(map(route, received))}")
process = subprocess.Popen([sentinel, "run", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def listening():
    patience = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", ports["stripe"]), timeout=1).close()
        except OSError:
            if time.monotonic() > patience or process.poll() is not None:
                sys.exit("sentinel does not listen")
            time.sleep(0.02)


def send(name, path, body, headers=(), kind="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{ports[name]}{path}", data=data, method="POST")
    request.add_header("Content-Type", kind)
    request.add_header("Sentinel-Instrument", TOKENS)
    for header, value in headers:
        request.add_header(header, value)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{name} {path}: {error.code} {error.read()[:500]}") from None


def basic(pair):
    return ("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())


def believed(check):
    """Whether the SDK takes it: some say it, some raise."""
    try:
        return check() is not False
    except Exception:
        return False


def heard(name, count):
    return [received[name].get(timeout=60) for _ in range(count)]


def lower(headers):
    return {key.lower(): value for key, value in headers.items()}


def node(program, *args):
    done = subprocess.run(["node", "--input-type=commonjs", "-e", program, *map(str, args)], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "NODE_PATH": str(modules)})
    return done.returncode == 0 and done.stdout.strip() == "true"


def judge(title, messages, wanted, kind, *checks):
    """Every check is (what, function of headers and body); each has to believe what came, and not what was changed."""
    kinds = [kind(body) for _, body in messages]
    wrong = [] if kinds == wanted else [f"told {kinds}, not {wanted}"]
    for what, check in checks:
        for headers, body in messages:
            headers = lower(headers)
            changed = body.replace(b"1999", b"1998").replace(b"19.99", b"19.98")
            changed = changed if changed != body else body[:-4] + b"AAAA"
            if not believed(lambda: check(headers, body)):
                wrong.append(f"{what} does not believe {body[:300]}")
            if believed(lambda: check(headers, changed)):
                wrong.append(f"{what} believes what was changed")
    print(f"{title:10} {', '.join(what for what, _ in checks):62} {'; '.join(wanted):60} {'believed' if not wrong else 'FAILED'}", flush=True)
    if wrong:
        failures.append(title)
        print("\n".join(wrong))


def stripe_case():
    form = (b"amount=1999&currency=eur&confirm=true&payment_method=pm_card_visa&payment_method_types[0]=card"
            b"&metadata[order_id]=order-stripe")
    send("stripe", "/v1/payment_intents", form, [("Authorization", "Bearer sk_test_shop"), ("Idempotency-Key", "stripe-1")],
         "application/x-www-form-urlencoded")
    messages = heard("stripe", 2)
    js = """const Stripe = require('stripe'); const stripe = new Stripe('sk_test_shop');
        stripe.webhooks.constructEvent(process.argv[1], process.argv[2], process.argv[3]); console.log('true')"""
    judge("stripe", messages, ["charge.succeeded", "payment_intent.succeeded"], lambda body: json.loads(body)["type"],
          ("Webhook.construct_event (Python)", lambda h, b: stripe.Webhook.construct_event(b, h["stripe-signature"], SECRETS["stripe"])),
          ("constructEvent (Node)", lambda h, b: node(js, b.decode(), h["stripe-signature"], SECRETS["stripe"])))


def adyen_case():
    sale = {"amount": {"currency": "EUR", "value": 1999}, "reference": "order-adyen", "merchantAccount": "AcmeECOM",
            "returnUrl": "https://shop.example/return", "shopperReference": "shopper-1", "shopperInteraction": "ContAuth",
            "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415698462516992"},
            "recurringProcessingModel": "CardOnFile"}
    send("adyen", "/v71/payments", sale, [("X-API-Key", "sandbox"), ("Idempotency-Key", "adyen-1")])
    js = """const { hmacValidator: Validator } = require('@adyen/api-library');
        const item = JSON.parse(process.argv[1]).notificationItems[0].NotificationRequestItem;
        console.log(new Validator().validateHMAC(item, process.argv[2]))"""
    judge("adyen", heard("adyen", 1), ["AUTHORISATION"],
          lambda body: json.loads(body)["notificationItems"][0]["NotificationRequestItem"]["eventCode"],
          ("is_valid_hmac_notification (Python)", lambda h, b: is_valid_hmac_notification(json.loads(b), SECRETS["adyen"])),
          ("HmacValidator (Node)", lambda h, b: node(js, b.decode(), SECRETS["adyen"])))


def square_case():
    sale = {"source_id": "ccof:customer-card-id-ok", "customer_id": "CUST1", "idempotency_key": "square-1",
            "amount_money": {"amount": 1999, "currency": "EUR"}, "autocomplete": True, "reference_id": "order-square"}
    send("square", "/v2/payments", sale, [("Authorization", "Bearer sandbox")])
    name = "x-square-hmacsha256-signature"
    js = """const { WebhooksHelper } = require('square');
        WebhooksHelper.verifySignature({ requestBody: process.argv[1], signatureHeader: process.argv[2],
            signatureKey: process.argv[3], notificationUrl: process.argv[4] }).then((holds) => console.log(holds))"""
    judge("square", heard("square", 2), ["payment.created", "payment.updated"], lambda body: json.loads(body)["type"],
          ("verify_signature (Python)", lambda h, b: square_webhooks.verify_signature(
              request_body=b.decode(), signature_header=h[name], signature_key=SECRETS["square"], notification_url=NOTIFICATION_URL)),
          ("WebhooksHelper (Node)", lambda h, b: node(js, b.decode(), h[name], SECRETS["square"], NOTIFICATION_URL)))


def razorpay_case():
    down("razorpay", False)
    auth = basic("rzp_test_sandbox:sandbox")
    order = json.loads(send("razorpay", "/v1/orders", {"amount": 199900, "currency": "INR", "receipt": "r-1"}, [auth]))
    down("razorpay", True)
    send("razorpay", "/v1/payments/create/recurring", {
        "email": "a@example.com", "contact": "9000090000", "amount": 199900, "currency": "INR", "order_id": order["id"],
        "customer_id": "cust_1Aa00000000001", "token": "token_1Aa00000000001", "recurring": True}, [auth])
    client = razorpay.Client(auth=("rzp_test_sandbox", "sandbox"))
    js = """const { validateWebhookSignature } = require('razorpay/dist/utils/razorpay-utils');
        console.log(validateWebhookSignature(process.argv[1], process.argv[2], process.argv[3]))"""
    judge("razorpay", heard("razorpay", 1), ["payment.captured"], lambda body: json.loads(body)["event"],
          ("verify_webhook_signature (Python)", lambda h, b: client.utility.verify_webhook_signature(
              b.decode(), h["x-razorpay-signature"], SECRETS["razorpay"])),
          ("validateWebhookSignature (Node)", lambda h, b: node(js, b.decode(), h["x-razorpay-signature"], SECRETS["razorpay"])))


def paypal_case():
    down("paypal", False)
    body = b"grant_type=client_credentials"
    token = json.loads(send("paypal", "/v1/oauth2/token", body, [basic("sandbox:sandbox")], "application/x-www-form-urlencoded"))
    bearer = ("Authorization", f"Bearer {token['access_token']}")
    down("paypal", True)
    sale = {"intent": "CAPTURE", "purchase_units": [{"amount": {"currency_code": "EUR", "value": "19.99"}, "invoice_id": "order-paypal"}],
            "payment_source": {"card": {"vault_id": "8kk845"}}}
    send("paypal", "/v2/checkout/orders", sale, [bearer, ("PayPal-Request-Id", "paypal-1")])

    def asked(headers, body):
        """No SDK verifies by itself: they ask, as PayPal documents it."""
        question = {"auth_algo": headers["paypal-auth-algo"], "cert_url": headers["paypal-cert-url"],
                    "transmission_id": headers["paypal-transmission-id"], "transmission_sig": headers["paypal-transmission-sig"],
                    "transmission_time": headers["paypal-transmission-time"], "webhook_id": WEBHOOK_ID,
                    "webhook_event": json.loads(body)}
        answer = json.loads(send("paypal", "/v1/notifications/verify-webhook-signature", question, [bearer]))
        return answer["verification_status"] == "SUCCESS"

    judge("paypal", heard("paypal", 1), ["PAYMENT.CAPTURE.COMPLETED"], lambda body: json.loads(body)["event_type"],
          ("verify-webhook-signature, answered by Sentinel", asked))


def braintree_case():
    """Of a card's payment Braintree notifies nobody, and so does Sentinel; of a refund that fails later it does."""
    gate = braintree.BraintreeGateway(braintree.Configuration(
        braintree.Environment.Sandbox, merchant_id="sandbox", public_key="sandbox", private_key="sandbox"))
    auth = [basic("sandbox:sandbox"), ("X-ApiVersion", "6"), ("Accept", "application/xml")]
    sale = ("<transaction><amount>19.99</amount><payment_method_token>tok_4111</payment_method_token>"
            "<merchant_account_id>sandbox_eur</merchant_account_id><order_id>order-braintree</order_id>"
            "<api_request_key>braintree-1</api_request_key>"
            "<options><submit_for_settlement type=\"boolean\">true</submit_for_settlement></options><type>sale</type></transaction>")
    answer = send("braintree", "/merchants/sandbox/transactions", sale.encode(), auth, "application/xml").decode()
    transaction = answer.split("<id>")[1].split("<")[0]
    # Somebody gives all of it back by hand: what Adyen then accepts, it cannot do.
    effects = json.loads(control("GET", "/books"))
    taken = next(effect["payment"] for effect in effects if "order-braintree" in (effect.get("order") or ""))
    whole = {"merchantAccount": "AcmeECOM", "amount": {"currency": "EUR", "value": 1999}, "reference": "by-hand"}
    by_hand = urllib.request.Request(f"{served['gateways']['adyen']['url']}/v71/payments/{taken}/refunds",
                                     data=json.dumps(whole).encode(), method="POST",
                                     headers={"X-API-Key": "sandbox", "Content-Type": "application/json"})
    urllib.request.urlopen(by_hand, timeout=60).close()
    refund = b"<transaction><amount>5.00</amount></transaction>"
    send("braintree", f"/merchants/sandbox/transactions/{transaction}/refund", refund, auth, "application/xml")

    def parse(body):
        form = dict(urllib.parse.parse_qsl(body.decode()))
        return gate.webhook_notification.parse(form["bt_signature"], form["bt_payload"])

    js = """const braintree = require('braintree'); const form = new URLSearchParams(process.argv[1]);
        const gateway = new braintree.BraintreeGateway({ environment: braintree.Environment.Sandbox, merchantId: 'sandbox',
            publicKey: 'sandbox', privateKey: 'sandbox' });
        gateway.webhookNotification.parse(form.get('bt_signature'), form.get('bt_payload'))
            .then((told) => console.log(told.kind === 'refund_failed')).catch(() => console.log(false))"""
    judge("braintree", heard("braintree", 1), ["refund_failed"], lambda body: parse(body).kind,
          ("webhook_notification.parse (Python)", lambda h, b: parse(b)),
          ("webhookNotification.parse (Node)", lambda h, b: node(js, b.decode())))


def down(name, is_down):
    if is_down:
        control("POST", f"/gateways/{name}/faults", {"fault": "refuse"})
    else:
        control("DELETE", f"/gateways/{name}/faults")


try:
    listening()
    control("POST", "/gateways/adyen/settings", {"webhook_secret": SECRETS["adyen"]})
    control("PUT", "/gateways/adyen/webhooks", {"url": f"http://127.0.0.1:{hooks}/adyen"})
    for case, own in [(stripe_case, "stripe"), (adyen_case, "adyen"), (square_case, "square"), (paypal_case, "paypal"),
                      (razorpay_case, "razorpay"), (braintree_case, "braintree")]:
        down(own, True)
        try:
            case()
        except Exception as error:
            failures.append(own)
            print(f"{own}: {type(error).__name__}: {error}")
        down(own, False)
finally:
    process.terminate()
    process.wait(timeout=60)
    sandbox.send_signal(signal.SIGTERM)
    sandbox.wait(timeout=60)
    directory.cleanup()

if failures:
    sys.exit(f"not believed: {', '.join(failures)}")
