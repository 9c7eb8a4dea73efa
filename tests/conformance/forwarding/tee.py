"""Stands before a gateway and writes down every request it got and every answer it gave.

usage: tee.py RECORDING PORT   prints its own port
"""

import hashlib
import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from framing import read_body

recording = open(sys.argv[1], "a", buffering=1)
port = int(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = read_body(self)
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        gateway = http.client.HTTPConnection("127.0.0.1", port)
        gateway.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            if name not in ("accept-encoding", "content-length", "transfer-encoding"):
                gateway.putheader(name, value)
        if body:
            gateway.putheader("Content-Length", str(len(body)))
        gateway.endheaders(body)
        answer = gateway.getresponse()
        content = answer.read()
        recording.write(json.dumps({
            "method": self.command, "target": self.path, "body": body.decode("latin-1"), "headers": headers,
            "answer": {"status": answer.status, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
        }) + "\n")
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "date", "transfer-encoding", "content-length"):
                self.send_header(name, value)
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
