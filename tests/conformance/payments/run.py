"""Drives every payment operation with the official SDKs against the sandbox, and compares what each SDK was told with the
books.

usage: run.py SENTINEL TOOLS
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from ports import free_port

sentinel, tools = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
here = pathlib.Path(__file__).parent
python, modules = tools / "venv/bin/python", tools / "node/node_modules"
failures = []

sandbox = subprocess.Popen([sentinel, "sandbox", "--free-ports", "--json"], stdout=subprocess.PIPE, text=True)
served = json.loads(sandbox.stdout.readline())


def ask(path):
    with urllib.request.urlopen(served["control"] + path, timeout=60) as answer:
        return json.load(answer)


def difference(line):
    """What the SDK was told against the books, once what happens later has happened."""
    patience = time.monotonic() + 60
    while True:
        mine = [position for position in ask("/audit")["positions"] if position["order"] == line["reference"]]
        booked = {what: sum(position[what] for position in mine) for what in ("held", "captured", "refunded")}
        wanted = {what: line.get(what, 0) for what in booked}
        if booked == wanted:
            return None
        if time.monotonic() > patience:
            return f"{line['reference']}: told {wanted}, booked {booked}"
        time.sleep(0.02)


class Sentinel:
    """The binary between an application that speaks to `first` and the simulators of `first` and `second`."""

    def __init__(self, first, second):
        self.dir = tempfile.TemporaryDirectory()
        listen, admin = free_port(), free_port()
        accounts = {
            "braintree": "request_keys: true, currency: USD, credentials: { merchant_id: sandbox, public_key: sandbox, private_key: sandbox, merchant_accounts: { USD: sandbox_usd } }",
            "stripe": "credentials: { secret_key: sk_test_sandbox }",
        }
        gateways = "".join(
            f"  {name}: {{ dialect: {name}, endpoint: '{served['gateways'][name]['url']}', allow_private: true, {accounts[name]} }}\n"
            for name in (first, second))
        config = pathlib.Path(self.dir.name) / "sentinel.yaml"
        config.write_text(
            f"listeners: {{ admin: 127.0.0.1:{admin} }}\nledger: {{ sqlite: '{self.dir.name}/ledger.db', strict: false }}\n"
            f"gateways:\n{gateways}routes:\n"
            f"  - {{ name: {first}, listen: 127.0.0.1:{listen}, dialect: {first}, gateways: [{first}, {second}], failover: {{ require_certificate: false }} }}\n")
        self.process = subprocess.Popen([sentinel, "run", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{listen}"
        patience = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", listen), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > patience or self.process.poll() is not None:
                    sys.exit("sentinel does not listen")
                time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.dir.cleanup()


def down(gateway, is_down):
    request = urllib.request.Request(
        f"{served['control']}/gateways/{gateway}/faults",
        data=b'{"fault": "refuse"}' if is_down else None, method="POST" if is_down else "DELETE")
    urllib.request.urlopen(request, timeout=60).close()


def drive(name, gateway, *argv):
    before = ask(f"/gateways/{gateway}/requests")
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=600)
    calls = len(ask(f"/gateways/{gateway}/requests")) - len(before)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    wrong = [text for text in map(difference, told) if text]
    good = done.returncode == 0 and told and not wrong
    print(f"{name:20} {calls:3} calls  {len(told):2} payments  {'as the books say' if good else 'FAILED'}", flush=True)
    if not good:
        failures.append(name)
        print("\n".join(wrong), done.stderr[-3000:], sep="\n")


try:
    url = {name: gateway["url"] for name, gateway in served["gateways"].items()}
    drive("stripe, Python", "stripe", python, here / "stripe_python.py", url["stripe"], "stripe-python")
    drive("stripe, Node", "stripe", "node", here / "stripe_node.mjs", modules, url["stripe"], "stripe-node")
    drive("stripe, Go", "stripe", tools / "bin/stripe_payments_go", url["stripe"], "stripe-go")
    drive("adyen, Python", "adyen", python, here / "adyen_python.py", url["adyen"] + "/v71", "adyen-python")
    drive("adyen, Node", "adyen", "node", here / "adyen_node.mjs", modules, url["adyen"] + "/v71", "adyen-node")
    drive("paypal, Python", "paypal", python, here / "paypal_python.py", url["paypal"], "paypal-python")
    drive("paypal, Node", "paypal", "node", here / "paypal_node.mjs", modules, url["paypal"], "paypal-node")
    bt_python, bt_node = [python, here / "braintree_python.py"], ["node", here / "braintree_node.mjs", modules]
    drive("braintree, Python", "braintree", *bt_python, url["braintree"], "bt-python")
    drive("braintree, Node", "braintree", *bt_node, url["braintree"], "bt-node")
    with Sentinel("braintree", "stripe") as between:
        print("through Sentinel:")
        drive("braintree, Python", "braintree", *bt_python, between.url, "bt-python-through")
        drive("braintree, Node", "braintree", *bt_node, between.url, "bt-node-through")
        print("through Sentinel, Braintree down, taken by Stripe:")
        down("braintree", True)
        drive("braintree, Python", "stripe", *bt_python, between.url, "bt-python-elsewhere", "elsewhere")
        drive("braintree, Node", "stripe", *bt_node, between.url, "bt-node-elsewhere", "elsewhere")
        down("braintree", False)
    drive("razorpay, Python", "razorpay", python, here / "razorpay_python.py", url["razorpay"], "razorpay-python")
    drive("razorpay, Node", "razorpay", "node", here / "razorpay_node.mjs", modules, url["razorpay"], "razorpay-node")
    drive("square, Python", "square", python, here / "square_python.py", url["square"], "square-python")
    drive("square, Node", "square", "node", here / "square_node.mjs", modules, url["square"], "square-node")
    audit = ask("/audit")
    if not audit["clean"]:
        failures.append("audit")
        print(audit["doubled"], audit["violations"])
finally:
    sandbox.send_signal(signal.SIGTERM)
    sandbox.wait(timeout=60)

if failures:
    sys.exit(f"not as the books say: {', '.join(failures)}")
