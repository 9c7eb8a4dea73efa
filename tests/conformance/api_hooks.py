"""How schemathesis writes what it does not know by itself."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()
