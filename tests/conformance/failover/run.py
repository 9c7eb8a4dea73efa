"""The matrix: official SDKs as clients of a sidecar, operation by operation, for each of the six gateways as the
application's own and each as the one that takes its payments: with the own gateway healthy, and with it down and each of
the others in its place.

usage: run.py SENTINEL TOOLS [DIALECT...]

Nothing of an application is for Sentinel: what it charges elsewhere stands in the instrument map, which is imported for
its tenant, or is a card number. Every answer is parsed by the SDK, and what it reported is held against the books of the
gateway that has the payment. A cell says `works`, or `refused` with the reason as the SDK told it. Refusals are listed in
refusals.json with their cause; one that is not, or one that is listed and does not come, is a failure, and so is a cell
that nothing is said of.

One hold captured in parts is an operation of its own, for which an account of Adyen's has to be set up: it goes to an account
that is, on routes of their own. Adyen's official SDK for Go, which the Go module proxy does not have, is built against a
checkout of it: ADYEN_GO_SDK=/path/to/adyen-go-api-library; without one its rows are skipped, and that is said.

Clients are called with BASE REFERENCE CASE, a case being JSON: `only`, the operation that is meant where it is not all the
others; `currency`; `mandate`, whether the merchant charges what
the shopper agreed to before; `card`, whether a number is sent where the dialect has a choice; `own`, whether the own
gateway takes it; and for the payment to be declined `decline_amount`, `number`, `holder`, and the `code` that is told. They
print a line of JSON for each operation: its name, the reference that books know it by, and `told`, `refused` or `failed`.
"""

import concurrent.futures
import json
import os
import pathlib
import re
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

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from ports import free_port

sentinel, tools = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
here = pathlib.Path(__file__).parent
python, modules = tools / "venv/bin/python", tools / "node/node_modules"
GATEWAYS = ("stripe", "adyen", "paypal", "braintree", "square", "razorpay")
PARTS = "captures in parts"
OPERATIONS = ("sale", "authorise", "capture", "partial capture", PARTS, "void", "refund", "partial refund", "retrieve", "decline", "error")
# What a dialect has beside them.
MORE = {"stripe": ("create only", "list"), "paypal": ("create only",), "razorpay": ("order",)}
CLIENTS = [
    ("stripe, Python", "stripe", lambda: (python, here / "stripe_python.py")),
    ("stripe, Node", "stripe", lambda: ("node", here / "stripe_node.mjs", modules)),
    ("stripe, Go", "stripe", lambda: (tools / "bin/stripe_failover_go",)),
    ("adyen, Python", "adyen", lambda: (python, here / "adyen_python.py")),
    ("adyen, Node", "adyen", lambda: ("node", here / "adyen_node.mjs", modules)),
    ("adyen, Go", "adyen", lambda: (tools / "adyen_go/adyen_failover_go",)),
    ("paypal, Python", "paypal", lambda: (python, here / "paypal_python.py")),
    ("paypal, Node", "paypal", lambda: ("node", here / "paypal_node.mjs", modules)),
    ("braintree, Python", "braintree", lambda: (python, here / "braintree_python.py")),
    ("braintree, Node", "braintree", lambda: ("node", here / "braintree_node.mjs", modules)),
    ("square, Python", "square", lambda: (python, here / "square_python.py")),
    ("square, Node", "square", lambda: ("node", here / "square_node.mjs", modules)),
    ("razorpay, Python", "razorpay", lambda: (python, here / "razorpay_python.py")),
    ("razorpay, Node", "razorpay", lambda: ("node", here / "razorpay_node.mjs", modules)),
]
# A good card and one that is declined, as saved in each vault; at Braintree the amount decides, and any token is a card.
VAULTS = {
    "stripe": ("pm_card_visa", "pm_card_chargeDeclinedInsufficientFunds", "stripe", ""),
    "adyen": ("8415698462516992", "DECLINED00000012", "AcmeECOM", "shopper-1"),
    "paypal": ("8kk845", "DECLINE-5120", "sandbox", ""),
    "braintree": ("tok_4111", "tok_empty", "sandbox", ""),
    "square": ("ccof:customer-card-id-ok", "ccof:customer-card-id-declined", "L88917AVBK2S5", "CUST1"),
    "razorpay": ("token_1Aa00000000001", "token_Declined000001", "rzp_test_sandbox", "cust_1Aa00000000001"),
}
ACCOUNTS = {
    "stripe": "credentials: { secret_key: sk_test_sandbox }",
    # Adyen tells by webhook that a capture is done.
    "adyen": "capture: automatic, credentials: { api_key: sandbox, merchant_account: AcmeECOM }, webhook: { secret: 00ff }",
    "paypal": "credentials: { client_id: sandbox, client_secret: sandbox }",
    "braintree": "request_keys: true, credentials: { merchant_id: sandbox, public_key: sandbox, private_key: sandbox, "
                 "merchant_accounts: { EUR: sandbox_eur, INR: sandbox_inr } }",
    "square": "credentials: { access_token: sandbox, location_id: L88917AVBK2S5 }",
    "razorpay": "capture: automatic, credentials: { key_id: rzp_test_sandbox, key_secret: sandbox }",
}
# What declines where, for applications that send cards: Stripe decides by number, Adyen and PayPal by the holder's name.
CARDS = {"stripe": ("4000000000009995", "Jane Doe"), "adyen": ("4242424242424242", "NOT_ENOUGH_BALANCE"),
         "paypal": ("4242424242424242", "CCREJECT-IF"), "braintree": ("4111111111111111", "Jane Doe")}
# What an application is told of it: PayPal declines an order without saying why, Square and Razorpay without reason.
EMPTY = ("stripe", "adyen", "braintree")
CODES = {
    "stripe": lambda taker: "insufficient_funds" if taker in EMPTY else "generic_decline",
    "braintree": lambda taker: "2001" if taker in EMPTY else "2000",
    "square": lambda taker: "INSUFFICIENT_FUNDS" if taker in EMPTY else "GENERIC_DECLINE",
    "razorpay": lambda taker: "insufficient_funds" if taker in EMPTY else "card_declined",
}
# What is asked for where a first failure is to open the breaker.
PROBES = {"paypal": "/v2/checkout/orders/BREAKER", "razorpay": "/v1/payments/pay_00000000000000"}
# Clients at a time: they mostly wait.
places = threading.Semaphore(2 * (os.cpu_count() or 1))


def case(own, taker, settings, only):
    # Razorpay charges mandates in rupees for others. Its own application charges them too, but for PayPal and Square, which
    # take no rupees: there it charges saved cards in euros.
    mandate = taker == "razorpay" or own == "razorpay" and taker not in ("paypal", "square")
    number, holder = CARDS.get(taker, ("", ""))
    return {
        "only": only, "currency": "INR" if mandate else "EUR", "mandate": mandate, "card": taker in CARDS,
        "night": settings if taker == "braintree" else "",
        "decline_amount": 200_100 if taker == "braintree" else 2000, "number": number, "holder": holder,
        "code": CODES.get(own, lambda taker: "")(taker)}


def ask(url, method="GET", body=None, **headers):
    if isinstance(body, dict):
        body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, method=method, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class Shop:
    """The simulators, the sidecar between them and the applications of one dialect, and its tenant's instrument map."""

    def __init__(self, own):
        self.own, self.others = own, [other for other in GATEWAYS if other != own]
        self.directory = tempfile.TemporaryDirectory()
        self.sandbox = subprocess.Popen([sentinel, "sandbox", "--free-ports", "--json"], stdout=subprocess.PIPE, text=True)
        served = json.loads(self.sandbox.stdout.readline())
        several = subprocess.Popen([sentinel, "sandbox", "--free-ports", "--json", "-g", "adyen", "--set", "adyen.multiple_captures=true"], stdout=subprocess.PIPE, text=True)
        self.sandboxes = [self.sandbox, several]
        self.control, several = served["control"], json.loads(several.stdout.readline())
        self.controls = [self.control, several["control"]]
        self.urls = {name: gateway["url"] for name, gateway in served["gateways"].items()}
        self.urls["adyen_parts"] = several["gateways"]["adyen"]["url"]
        self.ports = {other: free_port() for other in self.others}
        # Only where Adyen has a part in it another account is needed.
        self.parts = {other: free_port() if "adyen" in (own, other) else port for other, port in self.ports.items()}
        self.admin, self.shared, self.webhooks = (f"127.0.0.1:{free_port()}" for _ in range(3))
        config = pathlib.Path(self.directory.name) / "sentinel.yaml"
        config.write_text(self.config(""))
        log = open(pathlib.Path(self.directory.name) / "log", "w")
        self.sidecar = subprocess.Popen([sentinel, "run", "--config", config], stdout=log, stderr=log)
        self.ready()
        api = f"http://{self.shared}/api/v1"
        account = ask(f"{api}/customers/register", "POST", {"email": "a@example.com", "password": "YourSecurePassword123!", "companyName": "Acme"})
        imported = ask(f"{api}/instruments/import", "POST", self.instruments(), **{
            "Authorization": f'Bearer {account["token"]}', "Content-Type": "text/csv"})
        assert not imported["rejected"] and imported["kept"] == (4 if own == "adyen" else 2), imported
        config.write_text(self.config(f'    tenant: {account["customerId"]}\n'))
        ask(f"http://{self.admin}/reload", "POST")
        for control, name in zip(self.controls, ("adyen", "adyen_parts")):
            ask(f"{control}/gateways/adyen/settings", "POST", {"webhook_secret": "00ff"})
            ask(f"{control}/gateways/adyen/webhooks", "PUT", {"url": f"http://{self.webhooks}/{name}"})

    def config(self, tenant):
        # A first failure opens the breaker of PayPal and Razorpay, and it stays open: then Sentinel gives out the tokens that
        # the one's SDKs fetch, and opens the orders that the other's applications open.
        breaker = "consecutive: 1, open: 600s, open_max: 600s" if self.own in PROBES else "consecutive: 1000, min_calls: 10000"
        accounts = {**ACCOUNTS, "adyen_parts": f"several_captures: true, {ACCOUNTS['adyen']}"}
        gateways = "".join(
            f"  {name}: {{ dialect: {name.partition('_')[0]}, endpoint: '{self.urls[name]}', allow_private: true, {account} }}\n"
            for name, account in accounts.items())

        def named(gateway, parts):
            return "adyen_parts" if parts and gateway == "adyen" else gateway

        ports = [(other, port, False) for other, port in self.ports.items()]
        ports += [(other, port, True) for other, port in self.parts.items() if port != self.ports[other]]
        routes = "".join(
            f"  - name: {self.own}-{other}{'-parts' if parts else ''}\n    listen: 127.0.0.1:{port}\n    dialect: {self.own}\n"
            f"    gateways: [{named(self.own, parts)}, {named(other, parts)}]\n{tenant}"
            f"    failover: {{ require_certificate: false, raw_cards: true }}\n    breaker: {{ {breaker} }}\n"
            for other, port, parts in ports)
        return (f"listeners: {{ admin: {self.admin}, shared: {self.shared}, webhooks: {self.webhooks} }}\n"
                f"ledger: {{ sqlite: '{self.directory.name}/ledger.db', strict: false }}\ngateways:\n{gateways}routes:\n{routes}")

    def instruments(self):
        """The same two cards in every vault."""
        lines = ["gateway,token,target,target_token,target_account,target_customer"]
        def names(gateway):
            return ("adyen", "adyen_parts") if gateway == "adyen" else (gateway,)

        for which in (0, 1):
            for other in self.others:
                account, customer = VAULTS[other][2:]
                lines += [
                    f"{mine},{VAULTS[self.own][which]},{theirs},{VAULTS[other][which]},{account},{customer}"
                    for mine in names(self.own) for theirs in names(other)]
        return "\n".join(lines).encode()

    def ready(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                return ask(f"http://{self.admin}/version")
            except OSError:
                if time.monotonic() > deadline or self.sidecar.poll() is not None:
                    raise
                time.sleep(0.02)

    def down(self):
        """Takes the own gateway down, and opens the breaker where that takes a failure."""
        for control, name in zip(self.controls, (self.own, "adyen_parts")):
            if not name.startswith(self.own):
                continue
            ask(f"{control}/gateways/{self.own}/faults", "POST", {"fault": "refuse"})
            address = urllib.parse.urlsplit(self.urls[name])
            refused = False
            while not refused:
                try:
                    socket.create_connection((address.hostname, address.port), timeout=5).close()
                except OSError as error:
                    # What the system had taken just before ends some other way.
                    refused = isinstance(error, ConnectionRefusedError)
        for port in {*self.ports.values(), *self.parts.values()} if self.own in PROBES else ():
            while self.status(f"http://127.0.0.1:{port}{PROBES[self.own]}") != 503:
                time.sleep(0.02)

    @staticmethod
    def status(url):
        try:
            ask(url)
            return 200
        except urllib.error.HTTPError as refusal:
            return refusal.code

    def difference(self, line, taker):
        """What the SDK was told against the books, once what happens later has happened."""
        patience = time.monotonic() + 60
        while True:
            positions = [position for control in self.controls for position in ask(control + "/audit")["positions"]]
            mine = [position for position in positions if position["order"] == line["reference"]]
            live = [position for position in mine if position["held"] > 0 or position["captured"] > 0]
            booked = {what: sum(position[what] for position in live) for what in ("held", "captured", "refunded")}
            # What was refused may have followed a payment that was made.
            wanted = {what: line["told"].get(what, 0) for what in booked} if "told" in line else booked
            if booked == wanted and all(position["gateway"] == taker for position in live) and len(live) <= 1:
                return None
            if time.monotonic() > patience:
                return f"told {wanted} at {taker}, booked {mine}"
            time.sleep(0.02)

    def cells(self, name, command, taker):
        """What came of each operation of one SDK, with one gateway taking the payments."""
        prefix = f"{name.replace(', ', '-').lower()}-{taker}"
        found, lines, said = {}, [], ""
        for ports, only in ((self.ports, ""), (self.parts, PARTS)):
            base = f"http://127.0.0.1:{ports.get(taker, ports[self.others[0]])}"
            argv = [str(arg) for arg in (*command(), base, prefix, json.dumps(case(self.own, taker, f"{self.control}/gateways/{taker}/settings", only)))]
            with places:
                done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
            lines += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            said += done.stderr[-500:]
        for line in lines:
            if "failed" in line:
                found[line["operation"]] = f"FAILED: {line['failed']}"
            elif wrong := self.difference(line, taker):
                found[line["operation"]] = f"FAILED: {wrong}"
            else:
                found[line["operation"]] = f"refused: {line['refused']}" if "refused" in line else "works"
        for operation in OPERATIONS + MORE.get(self.own, ()):
            found.setdefault(operation, f"FAILED: nothing was said; {said}")
        return found

    def run(self, clients):
        """All cells of its dialect, by client and taker, and what is wrong with the books."""
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            def all_of(takers):
                jobs = {(name, taker): pool.submit(self.cells, name, command, taker) for name, _, command in clients for taker in takers}
                return {which: job.result() for which, job in jobs.items()}
            cells = all_of([self.own])
            self.down()
            cells |= all_of(self.others)
        audits = [ask(control + "/audit") for control in self.controls]
        return cells, [f"the books of {self.own}: {audit['doubled']} {audit['violations']}" for audit in audits if not audit["clean"]]

    def close(self):
        for process in (self.sidecar, *self.sandboxes):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)
        self.directory.cleanup()


def opened(own):
    """A shop. A port that was free may be taken before the sidecar has it: then all begins again, with others."""
    for _ in range(2):
        try:
            return Shop(own)
        except OSError:
            continue
    return Shop(own)


def dialect(own):
    shop = opened(own)
    try:
        return shop.run([client for client in CLIENTS if client[1] == own])
    finally:
        shop.close()


def expected():
    """The listed refusals by own gateway, taker and operation."""
    listed = {}
    for refusal in json.loads((here / "refusals.json").read_text()):
        for own in refusal["own"]:
            for taker in refusal["taker"]:
                for operation in refusal["operations"]:
                    which = (own, own if taker == "own" else taker, operation)
                    assert which not in listed, f"{which} is listed twice"
                    if taker != own:
                        listed[which] = refusal["told"]
    return listed


def adyen_go():
    """Builds the client of Adyen's SDK for Go against a checkout of the SDK; why not, where there is none."""
    sdk = os.environ.get("ADYEN_GO_SDK")
    if not sdk:
        return "ADYEN_GO_SDK names no checkout of adyen-go-api-library, which the Go module proxy does not have"
    module = re.search(r"^module (\S+)$", (pathlib.Path(sdk) / "go.mod").read_text(), re.M)[1]
    place = tools / "adyen_go"
    place.mkdir(exist_ok=True)
    (place / "go.mod").write_text(
        f"module sentinel.test/adyen_failover_go\n\ngo 1.23\n\nrequire {module} v{module.rpartition('v')[2]}.0.0\n\nreplace {module} => {pathlib.Path(sdk).resolve()}\n")
    program = (here / "adyen_go/main.go").read_text()
    (place / "main.go").write_text(re.sub(r"github\.com/adyen/adyen-go-api-library/v\d+", module, program))
    subprocess.run(["go", "build", "-mod=mod", "-o", place / "adyen_failover_go", "."], cwd=place, check=True)
    return None


started = time.monotonic()
chosen = sys.argv[3:] or GATEWAYS
if "adyen" in chosen and (absent := adyen_go()):
    print(f"adyen, Go: skipped: {absent}.")
    CLIENTS = [client for client in CLIENTS if client[0] != "adyen, Go"]
with concurrent.futures.ThreadPoolExecutor(len(GATEWAYS)) as shops:
    found, failures = {}, []
    for cells, wrong in shops.map(dialect, chosen):
        found |= cells
        failures += wrong

listed, counts = expected(), {"works": 0, "refused": 0, "FAILED": 0}
for name, own, _ in CLIENTS:
    if own not in chosen:
        continue
    takers = [own, *(other for other in GATEWAYS if other != own)]
    print(f"\n{name:20}" + "".join(f"{'own gateway' if taker == own else taker:28}" for taker in takers))
    for operation in OPERATIONS + MORE.get(own, ()):
        row = [found[name, taker][operation] for taker in takers]
        print(f"  {operation:18}" + "".join(f"{cell[:27]:28}" for cell in row).rstrip())
        for taker, cell in zip(takers, row):
            counts[cell.split(":")[0]] += 1
            told = listed.get((own, taker, operation))
            wanted = "works" if told is None else f"refused: {told}"
            if cell != wanted:
                failures.append(f"{name}, {operation}, {taker}: {cell}; expected {wanted}")

print("\nRefused, and why:")
for refusal in json.loads((here / "refusals.json").read_text()):
    if set(refusal["own"]) & set(chosen):
        print(f"  {', '.join(refusal['own'])} -> {', '.join(refusal['taker'])}, {', '.join(refusal['operations'])}: {refusal['told']}\n    {refusal['why']}")
print(f"\n{sum(counts.values())} cells: {counts['works']} work, {counts['refused']} are refused. {time.monotonic() - started:.0f} s.")
if failures:
    sys.exit("\n".join(["", *failures]))
print("Every answer was parsed, and every report is what the owner's books say.")
