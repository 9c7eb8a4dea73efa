#!/usr/bin/env bash
# Installs what the conformance checks need into ./.tools: the official SDKs for Python and Node, and the Go programs.
# Runs again only what is missing or has changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools="$PWD/.tools"
here="$PWD/tests/conformance"
mkdir -p "$tools/bin"

# fresh NAME FILE...: true when NAME was not installed from exactly these files.
fresh() {
    local stamp="$tools/$1.stamp" sum
    sum=$(cat "${@:2}" | sha256sum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && return 1
    pending="$stamp=$sum"
}
installed() { echo "${pending#*=}" > "${pending%%=*}"; }

if fresh venv "$here/requirements.txt"; then
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    installed
fi
if fresh node "$here/package.json"; then
    mkdir -p "$tools/node"
    cp "$here/package.json" "$tools/node/"
    npm install --silent --no-audit --no-fund --prefix "$tools/node"
    installed
fi
if fresh go "$here"/setup.sh "$here"/*/stripe_go/*; then
    GOBIN="$tools/bin" go install github.com/stripe/stripe-mock@v0.203.0
    GOBIN="$tools/bin" go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
    (cd "$here/forwarding/stripe_go" && go build -o "$tools/bin/stripe_go" .)
    (cd "$here/payments/stripe_go" && go build -o "$tools/bin/stripe_payments_go" .)
    (cd "$here/failover/stripe_go" && go build -o "$tools/bin/stripe_failover_go" .)
    installed
fi
