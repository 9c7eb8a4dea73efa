"""Follows what `sentinel env` and `sentinel ca` print, literally, with the official SDKs against a running Sentinel.

usage: run.py SENTINEL TOOLS

Each program is a preamble, the printed lines as they are, and one call. The gateway behind Sentinel is a stub that answers in
the gateway's shape and writes down what reached it: a recipe is good when the SDK accepts the answer and exactly the
expected request went through Sentinel. A language whose toolchain is absent is said to be skipped, and so is every recipe that
has no check here."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from ports import free_port

sentinel, tools = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2]).resolve()
GATEWAYS = ["stripe", "paypal", "braintree", "square", "razorpay", "adyen"]
LANGUAGES = ["python", "node", "go", "java", "ruby", "php", "dotnet"]
BRAINTREE = b"<?xml version='1.0'?><transaction><id>bt1</id><status>authorized</status><amount>10.00</amount><type>sale</type></transaction>"
ANSWERS = [
    ("/v1/customers", {"id": "cus_1", "object": "customer"}),
    ("/v1/oauth2/token", {"access_token": "A21AAtest", "token_type": "Bearer", "expires_in": 32400, "scope": "x"}),
    ("/v2/checkout/orders", {"id": "5O190127TN364715T", "status": "CREATED", "links": []}),
    ("/v2/payments", {"payment": {"id": "sq_1", "status": "COMPLETED"}}),
    ("/v1/orders", {"id": "order_1", "entity": "order", "amount": 50000, "currency": "INR", "status": "created"}),
    ("/v7", {"pspReference": "993617895204576J", "resultCode": "Authorised"}),
]
# What must arrive, by gateway.
ARRIVES = {
    "stripe": r"POST /v1/customers$", "paypal": r"POST /v2/checkout/orders$", "braintree": r"POST /merchants/m1/transactions$",
    "square": r"POST /v2/payments$", "razorpay": r"POST /v1/orders$", "adyen": r"POST /v7\d/payments$",
}
seen = []


class Stub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        if self.headers.get("transfer-encoding"):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("content-length") or 0))
        seen.append(f"{self.command} {self.path.split('?')[0]}")
        content, kind = b"{}", "application/json"
        for prefix, answer in ANSWERS:
            if self.path.startswith(prefix):
                content = json.dumps(answer).encode()
        self.send_response(201 if "/merchants/" in self.path or "/checkout/" in self.path else 200)
        if "/merchants/" in self.path:
            content, kind = gzip.compress(BRAINTREE), "application/xml"
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def log_message(self, *_):
        pass


ADYEN_BODY = """"amount": {"currency": "EUR", "value": 1000}, "reference": "order-123", "merchantAccount": "AcmeECOM",
  "returnUrl": "https://shop.example/return", "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "M5N7TQ4TG5PFWR50"}"""
# (before the printed lines, after them)
PROGRAMS = {
    ("stripe", "python"): ("import stripe\nsecret_key = 'sk_test_1'\n", "assert client.v1.customers.create({'email': 'a@example.com'}).id == 'cus_1'\n"),
    ("paypal", "python"): ("", """
from paypalserversdk.http.auth.o_auth_2 import ClientCredentialsAuthCredentials
from paypalserversdk.models.amount_with_breakdown import AmountWithBreakdown
from paypalserversdk.models.order_request import OrderRequest
from paypalserversdk.models.purchase_unit_request import PurchaseUnitRequest
from paypalserversdk.paypal_serversdk_client import PaypalServersdkClient
client = PaypalServersdkClient(client_credentials_auth_credentials=ClientCredentialsAuthCredentials("id", "secret"))
unit = PurchaseUnitRequest(amount=AmountWithBreakdown(currency_code="USD", value="20.00"))
answer = client.orders.create_order({"body": OrderRequest(intent="CAPTURE", purchase_units=[unit])})
assert answer.body.id == "5O190127TN364715T"
"""),
    ("braintree", "python"): ("import braintree\n", """
gateway = braintree.BraintreeGateway(braintree.Configuration(environment=environment, merchant_id="m1", public_key="p", private_key="k"))
assert gateway.transaction.sale({"amount": "10.00", "payment_method_nonce": "fake-valid-nonce"}).transaction.id == "bt1"
"""),
    ("square", "python"): ("from square import Square\ntoken = 't'\n", """
answer = client.payments.create(source_id="cnon:card-nonce-ok", idempotency_key="k1", amount_money={"amount": 100, "currency": "USD"})
assert answer.payment.id == "sq_1"
"""),
    ("razorpay", "python"): ("import razorpay\nkey_id, key_secret = 'rzp_test_1', 's'\n",
                             "assert client.order.create({'amount': 50000, 'currency': 'INR'})['id'] == 'order_1'\n"),
    ("adyen", "python"): ("import Adyen\nady = Adyen.Adyen(xapikey='key', platform='test')\n",
                          "answer = ady.checkout.payments_api.payments({" + ADYEN_BODY + "})\nassert answer.message['resultCode'] == 'Authorised'\n"),
    ("stripe", "node"): ("const Stripe = require('stripe'); const secretKey = 'sk_test_1';\n",
                         "stripe.customers.create({email: 'a@example.com'}).then((c) => { if (c.id !== 'cus_1') throw c; });\n"),
    ("paypal", "node"): ("const {Client, OrdersController} = require('@paypal/paypal-server-sdk');\n", """
new OrdersController(client).createOrder({body: {intent: 'CAPTURE', purchaseUnits: [{amount: {currencyCode: 'USD', value: '20.00'}}]}})
  .then(({result}) => { if (result.id !== '5O190127TN364715T') throw result; });
"""),
    ("braintree", "node"): ("const braintree = require('braintree');\n", """
const gateway = new braintree.BraintreeGateway({environment, merchantId: 'm1', publicKey: 'p', privateKey: 'k'});
gateway.transaction.sale({amount: '10.00', paymentMethodNonce: 'fake-valid-nonce'}).then((r) => { if (r.transaction.id !== 'bt1') throw r; });
"""),
    ("square", "node"): ("const {SquareClient} = require('square'); const token = 't';\n", """
client.payments.create({sourceId: 'cnon:card-nonce-ok', idempotencyKey: 'k1', amountMoney: {amount: 100n, currency: 'USD'}})
  .then((r) => { if (r.payment.id !== 'sq_1') throw r; });
"""),
    ("razorpay", "node"): ("const Razorpay = require('razorpay'); const key_id = 'rzp_test_1', key_secret = 's';\n",
                           "rzp.orders.create({amount: 50000, currency: 'INR'}).then((o) => { if (o.id !== 'order_1') throw o; });\n"),
    ("adyen", "node"): ("""const {Client, Config, EnvironmentEnum, CheckoutAPI} = require('@adyen/api-library');
const {PaymentsApi} = require('@adyen/api-library/lib/src/services/checkout/paymentsApi');
const {ModificationsApi} = require('@adyen/api-library/lib/src/services/checkout/modificationsApi');
const client = new Client({apiKey: 'key', environment: 'TEST'});
""", "payments.payments({" + ADYEN_BODY + "}).then((r) => { if (r.resultCode !== 'Authorised') throw r; });\n"),
    ("stripe", "go"): ("""package main

import "github.com/stripe/stripe-go/v82"
import "github.com/stripe/stripe-go/v82/customer"

func main() {
stripe.Key = "sk_test_1"
""", """c, err := customer.New(&stripe.CustomerParams{Email: stripe.String("a@example.com")})
if err != nil || c.ID != "cus_1" { panic(err) }
}
"""),
    ("razorpay", "go"): ("""package main

import razorpay "github.com/razorpay/razorpay-go"

func main() {
keyID, keySecret := "rzp_test_1", "s"
""", """order, err := client.Order.Create(map[string]interface{}{"amount": 50000, "currency": "INR"}, nil)
if err != nil || order["id"] != "order_1" { panic(err) }
}
"""),
    ("stripe", "java"): ("""import com.stripe.StripeClient;
import com.stripe.param.CustomerCreateParams;
public class Main { public static void main(String[] a) throws Exception {
String secretKey = "sk_test_1";
""", """if (!client.v1().customers().create(CustomerCreateParams.builder().setEmail("a@example.com").build()).getId().equals("cus_1")) throw new Exception();
}}
"""),
    ("braintree", "java"): ("""import com.braintreegateway.*;
import java.math.BigDecimal;
public class Main { public static void main(String[] a) throws Exception {
""", """BraintreeGateway gateway = new BraintreeGateway(environment, "m1", "p", "k");
TransactionRequest sale = new TransactionRequest().amount(new BigDecimal("10.00")).paymentMethodNonce("fake-valid-nonce");
if (!gateway.transaction().sale(sale).getTarget().getId().equals("bt1")) throw new Exception();
}}
"""),
    ("square", "java"): ("""import com.squareup.square.SquareClient;
import com.squareup.square.types.*;
public class Main { public static void main(String[] a) throws Exception {
String token = "t";
""", """CreatePaymentRequest request = CreatePaymentRequest.builder().sourceId("cnon:card-nonce-ok").idempotencyKey("k1")
  .amountMoney(Money.builder().amount(100L).currency(Currency.USD).build()).build();
if (!client.payments().create(request).getPayment().get().getId().get().equals("sq_1")) throw new Exception();
}}
"""),
    ("adyen", "java"): ("""import com.adyen.Client;
import com.adyen.enums.Environment;
import com.adyen.model.checkout.*;
import com.adyen.service.checkout.*;
public class Main { public static void main(String[] a) throws Exception {
Client client = new Client("key", Environment.TEST);
""", """PaymentRequest request = new PaymentRequest().reference("order-123").merchantAccount("AcmeECOM").returnUrl("https://shop.example/return")
  .amount(new Amount().currency("EUR").value(1000L))
  .paymentMethod(new CheckoutPaymentMethod(new CardDetails().storedPaymentMethodId("M5N7TQ4TG5PFWR50")));
if (!payments.payments(request).getPspReference().equals("993617895204576J")) throw new Exception();
}}
"""),
}
# The certificate of Sentinel's TLS listener, by the lines of `sentinel ca` for each client.
TRUST = {("adyen", "node"): "node", ("adyen", "python"): "python (requests)", ("square", "python"): "python (httpx)", ("stripe", "go"): "ruby, php, go"}


def free(count):
    """Ports that nobody has, no two alike."""
    return [free_port() for _ in range(count)]


def execute(language, program, folder, env):
    folder.mkdir()
    if language == "python":
        (folder / "main.py").write_text(program)
        command = [str(tools / "venv/bin/python"), "main.py"]
    elif language == "node":
        (folder / "main.cjs").write_text(program)
        command, env = ["node", "main.cjs"], dict(env, NODE_PATH=str(tools / "node/node_modules"))
    elif language == "go":
        shutil.copytree(Path(__file__).parent / "go", folder, dirs_exist_ok=True)
        (folder / "main.go").write_text(program)
        command = ["go", "run", "."]
    else:
        (folder / "Main.java").write_text(program)
        command = ["java", "-cp", f"{tools}/java/*", "Main.java"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def main(work):
    stub = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    stub.daemon_threads = True
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    instructions = subprocess.run([sentinel, "ca", "--dir", str(work / "tls")], capture_output=True, text=True, check=True).stdout
    admin, *ports = free(1 + 2 * len(GATEWAYS))
    plain, tls = dict(zip(GATEWAYS, ports)), dict(zip(GATEWAYS, ports[len(GATEWAYS):]))
    lines = [f"listeners: {{ admin: '127.0.0.1:{admin}' }}", f"local_ca: {work / 'tls'}", "gateways:"]
    lines += [f"  {g}: {{ dialect: {g}, endpoint: 'http://127.0.0.1:{stub.server_port}', allow_private: true }}" for g in GATEWAYS]
    lines += ["routes:"]
    lines += [f"  - {{ name: {g}, dialect: {g}, gateways: [{g}], listen: ['127.0.0.1:{plain[g]}', {{ address: '127.0.0.1:{tls[g]}', tls: local_ca }}] }}"
              for g in GATEWAYS]
    (work / "sentinel.yaml").write_text("\n".join(lines) + "\n")
    process = subprocess.Popen([sentinel, "run", "--config", str(work / "sentinel.yaml")], stderr=open(work / "log", "w"))
    failures, passed, unrun = [], 0, []
    try:
        patience = time.monotonic() + 60
        while subprocess.run([sentinel, "health", "--admin", f"127.0.0.1:{admin}"], capture_output=True).returncode:
            assert time.monotonic() < patience, (work / "log").read_text()
            time.sleep(0.1)
        runs = {"python": (tools / "venv").exists(), "node": (tools / "node/node_modules").exists(),
                "go": shutil.which("go"), "java": shutil.which("java") and (tools / "java").exists()}
        for gateway in GATEWAYS:
            for language in LANGUAGES:
                for secure in (False, True):
                    needed = (gateway, language) == ("adyen", "node")
                    if secure and (gateway, language) not in TRUST or needed and not secure:
                        continue
                    port = (tls if secure else plain)[gateway]
                    ask = [sentinel, "env", gateway, "--lang", language, "--port", str(port)]
                    told = subprocess.run(ask, capture_output=True, text=True)
                    if told.returncode:
                        continue
                    if (gateway, language) not in PROGRAMS or not runs.get(language):
                        unrun.append(f"{gateway}/{language}" + ("" if (gateway, language) in PROGRAMS else " (no check)"))
                        continue
                    recipe, env = told.stdout, dict(os.environ)
                    name = f"{gateway}/{language}" + (" over TLS" if secure else "")
                    if secure:
                        if not needed:
                            recipe = recipe.replace("http://", "https://")
                        found = re.search(rf"^  {re.escape(TRUST[gateway, language])}\s+(\w+)=(\S+)", instructions, re.M)
                        env[found[1]] = found[2]
                    if (gateway, language) == ("paypal", "node"):
                        credentials = "clientCredentialsAuthCredentials: {oAuthClientId: 'id', oAuthClientSecret: 'secret'},"
                        recipe = recipe.replace("// ...your credentials and environment...", credentials)
                    before, after = PROGRAMS[gateway, language]
                    seen.clear()
                    try:
                        done = execute(language, before + recipe + after, work / name.replace("/", "-").replace(" ", "-"), env)
                        said = (done.stderr or done.stdout)[-1500:] if done.returncode else ""
                    except subprocess.TimeoutExpired:
                        said = "no end in 300 s"
                    arrived = [one for one in seen if re.match(ARRIVES[gateway], one)]
                    if said or len(arrived) != 1:
                        failures.append(f"{name}: {said or 'the SDK is content'}; arrived: {seen}")
                        print(f"{name}: FAILED", flush=True)
                    else:
                        passed += 1
                        print(f"{name}: {arrived[0]}", flush=True)
    finally:
        process.terminate()
        process.wait()
        stub.shutdown()
    print("skipped, for want of a check or of the language's tools: " + ", ".join(unrun))
    print("\n".join(failures))
    print(f"recipes: {passed} passed, {len(failures)} failed")
    return 1 if failures or passed == 0 else 0


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(Path(folder)))
