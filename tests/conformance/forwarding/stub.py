"""A gateway stub that writes down what reached it, raw, and answers each SDK's call in its gateway's shape.

usage: stub.py RECORDING   prints its port
"""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from framing import read_body

recording = open(sys.argv[1], "a", buffering=1)

MONEY = {"amount": 100, "currency": "USD"}
ANSWERS = [
    ("/v1/oauth2/token", 200, {"access_token": "A21AAtest", "token_type": "Bearer", "expires_in": 32400, "scope": "x", "app_id": "APP-1", "nonce": "n"}),
    ("/v2/checkout/orders", 201, {"id": "5O190127TN364715T", "status": "CREATED", "links": []}),
    ("/v2/payments", 200, {"payment": {"id": "sq_1", "status": "COMPLETED", "amount_money": MONEY}}),
    ("/v1/orders", 200, {"id": "order_DBJOWzybf0sJbb", "entity": "order", "amount": 50000, "currency": "INR", "status": "created"}),
    ("/v72/payments", 200, {"pspReference": "993617895204576J", "resultCode": "Authorised", "merchantReference": "order-123"}),
]
BRAINTREE = b"<?xml version='1.0'?><transaction><id>bt1</id><status>authorized</status><amount>10.00</amount><type>sale</type></transaction>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = read_body(self)
        recording.write(json.dumps({
            "method": self.command, "target": self.path, "body": body.decode("latin-1"),
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
        }) + "\n")
        status, content, kind = 404, b"{}", "application/json"
        if "/merchants/" in self.path:
            status, content, kind = 201, BRAINTREE, "application/xml"
        for prefix, code, answer in ANSWERS:
            if self.path.startswith(prefix):
                status, content = code, json.dumps(answer).encode()
        self.send_response(status)
        if kind == "application/xml":
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
