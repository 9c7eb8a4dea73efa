"""Drives the official SDKs with and without Sentinel and compares, byte for byte.

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

sentinel, tools = map(pathlib.Path, sys.argv[1:3])
here = pathlib.Path(__file__).parent
python = str(tools / "venv/bin/python")
failures = []
running = []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*argv, **kwargs):
    process = subprocess.Popen([str(arg) for arg in argv], **kwargs)
    running.append(process)
    return process


def wait_for(port):
    patience = time.monotonic() + 20
    while time.monotonic() < patience:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def lines(*argv, **kwargs):
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{argv[0]} failed:\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def compare(name, direct, through):
    same = sum(a == b for a, b in zip(direct, through))
    verdict = "same" if direct == through else "DIFFERENT"
    print(f"{name:32} {len(direct):3} calls  {same:3} byte for byte  {verdict}")
    if direct != through:
        failures.append(name)
        for a, b in zip(direct, through):
            if a != b:
                print("   direct ", json.dumps(a)[:600])
                print("   through", json.dumps(b)[:600])


def config(routes):
    text = "listeners: { admin: 127.0.0.1:%d }\ngateways:\n" % free_port()
    for name, dialect, port, upstream in routes:
        text += f"  {name}: {{ dialect: {dialect}, endpoint: 'http://127.0.0.1:{upstream}', allow_private: true }}\n"
    text += "routes:\n"
    for name, dialect, port, upstream in routes:
        text += f"  - {{ name: {name}, listen: '127.0.0.1:{port}', dialect: {dialect}, gateways: [{name}] }}\n"
    file = tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False)
    file.write(text)
    file.close()
    return file.name


try:
    mock = free_port()
    start(tools / "bin/stripe-mock", "-http-port", mock, "-https-port", free_port(), stdout=subprocess.DEVNULL)
    recording = tempfile.NamedTemporaryFile("r", suffix=".jsonl")
    stub_process = start(python, here / "stub.py", recording.name, stdout=subprocess.PIPE, text=True)
    stub = int(stub_process.stdout.readline())
    names = ["paypal", "braintree", "square", "razorpay", "adyen"]
    ports = {name: free_port() for name in ["stripe", *names]}
    start(sentinel, "run", "--config", config(
        [("stripe", "stripe", ports["stripe"], mock)] + [(name, name, ports[name], stub) for name in names]))
    for port in (mock, stub, *ports.values()):
        wait_for(port)

    node = dict(os.environ, CONFORMANCE_NODE=str(tools / "node/node_modules"))
    go = tools / "bin/stripe_go"
    for name, client, argument in [
        ("stripe, Python", (python, here / "stripe_python.py"), "http://127.0.0.1:{}"),
        ("stripe, Node", ("node", here / "stripe_node.mjs"), "{}"),
        ("stripe, Go", (go,), "http://127.0.0.1:{}"),
    ]:
        direct = lines(*client, argument.format(mock), env=node)
        through = lines(*client, argument.format(ports["stripe"]), env=node)
        compare(name, direct, through)

    def recorded(targets):
        recording.seek(0, os.SEEK_END)
        lines(python, here / "others_python.py", *targets)
        text = recording.read()
        requests = [json.loads(line) for line in text.splitlines()]
        for request in requests:
            # Connection management belongs to each hop; Host names the hop's own target.
            request["headers"] = [header for header in request["headers"] if header[0] not in ("connection", "host", "keep-alive")]
        return requests

    direct = recorded([stub] * 5)
    through = recorded([ports[name] for name in names])
    for name, words in [("paypal", "/v1/oauth2 /v2/checkout"), ("braintree", "/merchants"), ("square", "/v2/payments"),
                        ("razorpay", "/v1/orders"), ("adyen", "/v72")]:
        pick = lambda all: [request for request in all if request["target"].startswith(tuple(words.split()))]
        if not pick(direct):
            failures.append(name)
        compare(f"{name}, Python: what the gateway got", pick(direct), pick(through))
finally:
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait(timeout=20)

if failures:
    sys.exit(f"not transparent: {', '.join(failures)}")
