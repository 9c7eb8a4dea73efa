"""Drives every payment operation with the official SDKs against the sandbox, and compares what each SDK was told with the
books.

usage: run.py SENTINEL TOOLS
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

sentinel, tools = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
here = pathlib.Path(__file__).parent
python, modules = tools / "venv/bin/python", tools / "node/node_modules"
failures = []

sandbox = subprocess.Popen([sentinel, "sandbox", "--free-ports", "--json"], stdout=subprocess.PIPE, text=True)
served = json.loads(sandbox.stdout.readline())


def ask(path):
    with urllib.request.urlopen(served["control"] + path, timeout=20) as answer:
        return json.load(answer)


def difference(line):
    """What the SDK was told against the books, once what happens later has happened."""
    patience = time.monotonic() + 5
    while True:
        mine = [position for position in ask("/audit")["positions"] if position["order"] == line["reference"]]
        booked = {what: sum(position[what] for position in mine) for what in ("held", "captured", "refunded")}
        wanted = {what: line.get(what, 0) for what in booked}
        if booked == wanted:
            return None
        if time.monotonic() > patience:
            return f"{line['reference']}: told {wanted}, booked {booked}"
        time.sleep(0.02)


def drive(name, gateway, *argv):
    before = ask(f"/gateways/{gateway}/requests")
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=180)
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
    audit = ask("/audit")
    if not audit["clean"]:
        failures.append("audit")
        print(audit["doubled"], audit["violations"])
finally:
    sandbox.send_signal(signal.SIGTERM)
    sandbox.wait(timeout=20)

if failures:
    sys.exit(f"not as the books say: {', '.join(failures)}")
