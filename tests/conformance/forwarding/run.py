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

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from ports import free_port

sentinel, tools = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
here = pathlib.Path(__file__).parent
python = str(tools / "venv/bin/python")
failures = []
running = []


def start(*argv, **kwargs):
    process = subprocess.Popen([str(arg) for arg in argv], **kwargs)
    running.append(process)
    return process


def wait_for(port):
    patience = time.monotonic() + 60
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
    if len(direct) != len(through) or not direct:
        verdict = "DIFFERENT"
        failures.append(name)
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


def plain(request):
    """Takes off what differs between any two runs or hops: connection management, Host and the chunked framing belong to
    each hop, white space around a value is not part of it (RFC 9110 5.5), and the SDKs make up keys and report
    durations."""
    made_up = lambda name, value: name == "idempotency-key" and not value.startswith("conformance")
    request["headers"] = [
        [name, "made up" if made_up(name, value) else value.strip()] for name, value in request["headers"]
        if name not in ("connection", "host", "keep-alive", "transfer-encoding", "x-stripe-client-telemetry")]
    return request


try:
    mock = free_port()
    start(tools / "bin/stripe-mock", "-http-port", mock, "-https-port", free_port(), stdout=subprocess.DEVNULL)
    recording = tempfile.NamedTemporaryFile("r", suffix=".jsonl")
    stub_process = start(python, here / "stub.py", recording.name, stdout=subprocess.PIPE, text=True)
    stub = int(stub_process.stdout.readline())
    tee_recording = tempfile.NamedTemporaryFile("r", suffix=".jsonl")
    wait_for(mock)
    tee_process = start(python, here / "tee.py", tee_recording.name, mock, stdout=subprocess.PIPE, text=True)
    tee = int(tee_process.stdout.readline())
    names = ["paypal", "braintree", "square", "razorpay", "adyen"]
    ports = {name: free_port() for name in ["stripe", *names]}
    start(sentinel, "run", "--config", config(
        [("stripe", "stripe", ports["stripe"], tee)] + [(name, name, ports[name], stub) for name in names]))
    for port in (mock, tee, stub, *ports.values()):
        wait_for(port)

    # stripe-mock makes up ids, so two runs differ by themselves. What is compared: the requests that reached the gateway
    # with and without Sentinel, and each answer as the gateway gave it with the bytes that the SDK got.
    node = dict(os.environ, CONFORMANCE_NODE=str(tools / "node/node_modules"))
    go = tools / "bin/stripe_go"
    for name, client, argument in [
        ("stripe, Python", (python, here / "stripe_python.py"), "http://127.0.0.1:{}"),
        ("stripe, Node", ("node", here / "stripe_node.mjs"), "{}"),
        ("stripe, Go", (go,), "http://127.0.0.1:{}"),
    ]:
        def run(port):
            tee_recording.seek(0, os.SEEK_END)
            got = lines(*client, argument.format(port), env=node)
            return got, [plain(json.loads(line)) for line in tee_recording.read().splitlines()]

        _, direct = run(tee)
        got, through = run(ports["stripe"])
        given = [request.pop("answer") for request in through]
        for request in direct:
            request.pop("answer")
        compare(f"{name}: requests", direct, through)
        compare(f"{name}: answers", given, [{key: line[key] for key in ("status", "bytes", "sha256")} for line in got])

    def recorded(targets):
        recording.seek(0, os.SEEK_END)
        lines(python, here / "others_python.py", *targets)
        text = recording.read()
        return [plain(json.loads(line)) for line in text.splitlines()]

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
        process.wait(timeout=60)

if failures:
    sys.exit(f"not transparent: {', '.join(failures)}")
