// The stage: simulated gateways, and a Sentinel before them with its dashboard.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Below the range that the system takes ports from by itself: one of those need not be free any more when it is used.
const free = () =>
  new Promise((resolve) => {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = createServer();
    server.on("error", () => resolve(free()));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(port)));
  });

async function until(what, look) {
  const end = Date.now() + 60_000;
  for (;;) {
    try {
      const found = await look();
      if (found) return found;
    } catch {}
    if (Date.now() > end) throw new Error(`not within 60 s: ${what}`);
    await new Promise((next) => setTimeout(next, 100));
  }
}

export { until };

export async function open(sentinel) {
  const dir = mkdtempSync(join(tmpdir(), "sentinel-dashboard-"));
  const [shared, stripe, admin, dashboard, control, atStripe, atAdyen] = await Promise.all(Array.from({ length: 7 }, free));
  const children = [];
  const start = (args, name) => {
    const child = spawn(sentinel, args, { cwd: dir, stdio: ["ignore", "pipe", "pipe"] });
    child.log = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => { child.log += text; });
    child.on("exit", (code) => { if (code) console.error(`${name} ended with ${code}\n${child.log}`); });
    children.push(child);
    return child;
  };
  start(["sandbox", "--control", `${control}`, "-g", `stripe=${atStripe}`, "-g", `adyen=${atAdyen}`], "sandbox");
  const config = `listeners: { shared: 127.0.0.1:${shared}, admin: 127.0.0.1:${admin}, dashboard: 127.0.0.1:${dashboard} }
ledger: { sqlite: ${dir}/ledger.db, strict: false }
accounts: { dashboard: "http://127.0.0.1:${dashboard}", collect: { gateway: stripe } }
gateways:
  stripe: { dialect: stripe, endpoint: http://127.0.0.1:${atStripe}, allow_private: true, credentials: { secret_key: sk_test_sandbox } }
  adyen: { dialect: adyen, endpoint: http://127.0.0.1:${atAdyen}, allow_private: true, capture: automatic, credentials: { api_key: sandbox, merchant_account: AcmeECOM } }
routes:
  - name: checkout
    listen: 127.0.0.1:${stripe}
    dialect: stripe
    gateways: [stripe, adyen]
    failover: { require_certificate: false, attempt_timeout: 1500ms, deadline: 4s }
    breaker: { consecutive: 1000, min_calls: 100000 }
`;
  const file = join(dir, "sentinel.yaml");
  writeFileSync(file, config);
  start(["run", "--config", file], "sentinel");
  await until("sentinel is ready", async () => (await fetch(`http://127.0.0.1:${admin}/ready`)).ok);
  await until("the sandbox answers", async () => (await fetch(`http://127.0.0.1:${control}/gateways`)).ok);
  const base = `http://127.0.0.1:${dashboard}`;
  return {
    base,
    admin: `http://127.0.0.1:${admin}`,
    api: `http://127.0.0.1:${shared}/api/v1`,
    file,
    config,
    async fault(gateway, fault) {
      const place = `http://127.0.0.1:${control}/gateways/${gateway}/faults`;
      const answer = fault ? await fetch(place, { method: "POST", body: JSON.stringify(fault) }) : await fetch(place, { method: "DELETE" });
      if (!answer.ok) throw new Error(`a fault was refused: ${await answer.text()}`);
    },
    async pay(key, { amount = 1999, token = "pm_card_visa", authorization = "Bearer sk_test_shop" } = {}) {
      const form = new URLSearchParams({ amount, currency: "eur", confirm: "true", payment_method: token, "payment_method_types[0]": "card" });
      form.append("metadata[order_id]", key);
      const answer = await fetch(`http://127.0.0.1:${stripe}/v1/payment_intents`, {
        method: "POST",
        headers: {
          Authorization: authorization,
          "Idempotency-Key": key,
          "Sentinel-Instrument": "adyen=shopper-1/8415698462516992",
          "Content-Type": "application/x-www-form-urlencoded",
        },
        body: form,
      });
      await answer.arrayBuffer();
      return { status: answer.status, payment: answer.headers.get("sentinel-payment"), gateway: answer.headers.get("sentinel-gateway"), failover: answer.headers.get("sentinel-failover") };
    },
    async close() {
      for (const child of children) child.kill("SIGKILL");
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
