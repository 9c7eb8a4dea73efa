"""Official SDKs as clients of a sidecar, operation by operation: first with their own gateway healthy, then with it down
and each of the other two taking the payment.

usage: run.py SENTINEL TOOLS

Every answer is parsed by the SDK, and what it reported is held against the books of the gateway that has the payment. A
cell says `works`, or `refused: <reason>` as the SDK told it. Refusals are listed below; one that is not, or one that is
listed and does not come, is a failure.
"""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sentinel, tools = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
here = pathlib.Path(__file__).parent
python, modules = tools / "venv/bin/python", tools / "node/node_modules"
GATEWAYS = ("stripe", "adyen", "paypal")
OPERATIONS = ("create", "create only", "authorise", "capture", "partial capture", "refund", "partial refund", "void",
              "retrieve", "list", "decline", "error")
# What declines where, for applications that send cards: Stripe decides by number, Adyen and PayPal by the holder's name.
DECLINES = {"stripe": ("4000000000009995", "Jane Doe"), "adyen": ("4242424242424242", "NOT_ENOUGH_BALANCE"),
            "paypal": ("4242424242424242", "CCREJECT-IF")}
# What an application of Stripe's is told of it: PayPal declines an order without saying why.
DECLINE_CODES = {"stripe": "insufficient_funds", "adyen": "insufficient_funds", "paypal": "generic_decline"}
CLIENTS = [
    ("stripe, Python", "stripe", lambda base, *rest: (python, here / "stripe_python.py", base, *rest)),
    ("stripe, Node", "stripe", lambda base, *rest: ("node", here / "stripe_node.mjs", modules, base, *rest)),
    ("stripe, Go", "stripe", lambda base, *rest: (tools / "bin/stripe_failover_go", base, *rest)),
    ("adyen, Python", "adyen", lambda base, *rest: (python, here / "adyen_python.py", base + "/v71", *rest)),
    ("adyen, Node", "adyen", lambda base, *rest: ("node", here / "adyen_node.mjs", modules, base + "/v71", *rest)),
    ("paypal, Python", "paypal", lambda base, *rest: (python, here / "paypal_python.py", base, *rest)),
    ("paypal, Node", "paypal", lambda base, *rest: ("node", here / "paypal_node.mjs", modules, base, *rest)),
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def ask(url, method="GET", body=None):
    request = urllib.request.Request(url, method=method, data=body and json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read()
    return json.loads(text) if text else None


sandbox = subprocess.Popen([sentinel, "sandbox", "--free-ports", "--json", *(f"--gateway={name}" for name in GATEWAYS)], stdout=subprocess.PIPE, text=True)
served = json.loads(sandbox.stdout.readline())
control, url = served["control"], {name: gateway["url"] for name, gateway in served["gateways"].items()}
directory = tempfile.TemporaryDirectory()
routes = {(own, other): free_port() for own in GATEWAYS for other in GATEWAYS if own != other}
admin = f"127.0.0.1:{free_port()}"


def route(own, other, port):
    # A first failure opens PayPal's breaker, and it stays open: then Sentinel gives out the tokens that the SDKs fetch.
    breaker = "consecutive: 1, open: 600s, open_max: 600s" if own == "paypal" else "consecutive: 1000, min_calls: 10000"
    return (f"  - name: {own}-{other}\n    listen: 127.0.0.1:{port}\n    dialect: {own}\n    gateways: [{own}, {other}]\n"
            f"    failover: {{ require_certificate: false, raw_cards: true }}\n    breaker: {{ {breaker} }}\n")


config = pathlib.Path(directory.name) / "sentinel.yaml"
config.write_text(f"""
listeners: {{ admin: {admin} }}
ledger: {{ sqlite: '{directory.name}/ledger.db', strict: false }}
gateways:
  stripe: {{ dialect: stripe, endpoint: '{url["stripe"]}', allow_private: true, credentials: {{ secret_key: sk_test_sandbox }} }}
  adyen: {{ dialect: adyen, endpoint: '{url["adyen"]}', allow_private: true, capture: automatic, credentials: {{ api_key: sandbox, merchant_account: AcmeECOM }} }}
  paypal: {{ dialect: paypal, endpoint: '{url["paypal"]}', allow_private: true, credentials: {{ client_id: sandbox, client_secret: sandbox }} }}
routes:
""" + "".join(route(own, other, port) for (own, other), port in routes.items()))
sidecar = subprocess.Popen([sentinel, "run", "--config", config], stderr=open(pathlib.Path(directory.name) / "log", "w"))


def ready():
    deadline = time.monotonic() + 20
    while True:
        try:
            return ask(f"http://{admin}/version")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def difference(line, owner):
    """What the SDK was told against the books, once what happens later has happened."""
    patience = time.monotonic() + 5
    while True:
        mine = [position for position in ask(control + "/audit")["positions"] if position["order"] == line["reference"]]
        live = [position for position in mine if position["held"] > 0 or position["captured"] > 0]
        booked = {what: sum(position[what] for position in live) for what in ("held", "captured", "refunded")}
        # What was refused may have followed a payment that was made.
        wanted = {what: line["told"].get(what, 0) for what in booked} if "told" in line else booked
        if booked == wanted and all(position["gateway"] == owner for position in live) and len(live) <= 1:
            return None
        if time.monotonic() > patience:
            return f"told {wanted} at {owner}, booked {mine}"
        time.sleep(0.02)


def cells(argv, owner):
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=240)
    found = {}
    for line in map(json.loads, filter(lambda line: line.startswith("{"), done.stdout.splitlines())):
        if "failed" in line:
            found[line["operation"]] = f"FAILED: {line['failed']}"
        elif wrong := difference(line, owner):
            found[line["operation"]] = f"FAILED: {wrong}"
        else:
            found[line["operation"]] = f"refused: {line['refused']}" if "refused" in line else "works"
    if done.returncode or not found:
        found["create"] = f"FAILED: {done.stderr[-500:]}"
    return found


EXPECTED = json.loads((here / "refusals.json").read_text())
failures = []
try:
    ready()
    for name, own, command in CLIENTS:
        others = [other for other in GATEWAYS if other != own]
        columns, declines = {}, (lambda gateway: (DECLINE_CODES[gateway],) if own == "stripe" else DECLINES[gateway])
        for taker in (own, *others):
            base = f"http://127.0.0.1:{routes[own, others[0] if taker == own else taker]}"
            ask(f"http://{admin}/breakers/{own}-{others[0] if taker == own else taker}/{own}/reset", "POST")
            prefix = f"{name.replace(', ', '-').lower()}-{taker}"
            if taker != own:
                ask(f"{control}/gateways/{own}/faults", "POST", {"fault": "refuse"})
                if own == "paypal":
                    try:
                        ask(base + "/v2/checkout/orders/BREAKER")
                    except urllib.error.HTTPError:
                        pass
            columns["own" if taker == own else taker] = cells(command(base, prefix, *declines(taker)), taker)
            if taker != own:
                ask(f"{control}/gateways/{own}/faults", "DELETE")
        print(f"\n{name:19}" + "".join(f"{'own gateway' if column == 'own' else f'{own} down: {column}':38}" for column in columns))
        for operation in OPERATIONS:
            row = [columns[column].get(operation, "-") for column in columns]
            print(f"  {operation:17}" + "".join(f"{cell[:36]:38}" for cell in row))
            for column, cell in zip(columns, row):
                wanted = EXPECTED.get(own, {}).get(operation, {}).get(column, "works" if cell != "-" else "-")
                if cell != wanted:
                    failures.append(f"{name}, {operation}, {column}: {cell}; expected {wanted}")
    audit = ask(control + "/audit")
    if not audit["clean"]:
        failures.append(f"the books: {audit['doubled']} {audit['violations']}")
finally:
    for process in (sidecar, sandbox):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)
    directory.cleanup()

print("\nRefused, while the own gateway is down:")
for own, operations in EXPECTED.items():
    for operation, refusal in operations.items():
        print(f"  {own}, {operation}: {refusal['why']}")
if failures:
    sys.exit("\n".join(["", *failures]))
print("\nEvery answer was parsed, and every report is what the owner's books say.")
