// The official Stripe SDK for Node, one operation at a time: usage: stripe_node.mjs NODE_MODULES BASE REFERENCE CASE (see run.py)
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix, given] = process.argv.slice(2);
const wanted = JSON.parse(given);
const required = createRequire(`${modules}/`)("stripe");
const Stripe = required.default ?? required.Stripe ?? required;
const { hostname, port } = new URL(base);
const stripe = new Stripe("sk_test_sandbox", { host: hostname, port, protocol: "http", maxNetworkRetries: 0 });

const [GOOD, EMPTY] = ["pm_card_visa", "pm_card_chargeDeclinedInsufficientFunds"];
const SHOPPER = { receipt_email: "a@example.com", shipping: { name: "A", phone: "9000090000", address: { line1: "1 Street" } } };
const key = (name) => ({ idempotencyKey: `${prefix}-${name}` });

// While the outcome is being found out, the same key asks again.
async function decided(call) {
  for (const patience = Date.now() + 60_000; ; ) {
    try {
      return await call();
    } catch (error) {
      if (!error.headers?.["sentinel-outcome"]?.startsWith("unknown") || Date.now() > patience) throw error;
    }
    await new Promise((later) => setTimeout(later, 50));
  }
}
// Where the taker gives back a part only of what is settled, which happens at night, the night comes now.
async function night() {
  if (wanted.night) assert.ok((await fetch(wanted.night, { method: "POST", body: '{"settle": "now"}' })).ok);
}
async function pay(name, capture = "automatic", method = GOOD, amount = 2000) {
  const params = {
    amount, currency: wanted.currency.toLowerCase(), payment_method: method, confirm: true, capture_method: capture,
    allowed_payment_method_types: ["card"], metadata: { order_id: `${prefix}-${name}` },
    ...(wanted.mandate ? { ...SHOPPER, off_session: true } : {}),
  };
  const paid = await decided(() => stripe.paymentIntents.create(params, key(name)));
  assert.equal(paid.status, capture === "automatic" ? "succeeded" : "requires_capture");
  assert.equal(paid.metadata.order_id, `${prefix}-${name}`);
  return paid;
}
const moved = (status) => assert.ok(["succeeded", "processing", "pending"].includes(status), status);

const operations = {
  sale: async () => {
    assert.equal((await pay("sale")).amount_received, 2000);
    return { captured: 2000 };
  },
  "create only": async () => {
    const params = { amount: 2000, currency: "eur", allowed_payment_method_types: ["card"], metadata: { order_id: `${prefix}-create only` } };
    assert.equal((await stripe.paymentIntents.create(params, key("create only"))).status, "requires_payment_method");
    return {};
  },
  authorise: async () => {
    assert.equal((await pay("authorise", "manual")).amount_capturable, 2000);
    return { held: 2000 };
  },
  capture: async () => {
    moved((await stripe.paymentIntents.capture((await pay("capture", "manual")).id, {}, key("c1"))).status);
    return { captured: 2000 };
  },
  "partial capture": async () => {
    const held = await pay("partial capture", "manual");
    const taken = await stripe.paymentIntents.capture(held.id, { amount_to_capture: 800 }, key("c2"));
    assert.ok(taken.status === "processing" || taken.amount_received === 800, JSON.stringify(taken));
    return { captured: 800 };
  },
  "captures in parts": async () => {
    const held = await pay("captures in parts", "manual");
    for (const amount_to_capture of [500, 700]) {
      const taken = await stripe.paymentIntents.capture(held.id, { amount_to_capture, final_capture: false }, key(`p${amount_to_capture}`));
      assert.ok(["requires_capture", "processing"].includes(taken.status), taken.status);
    }
    return { captured: 1200, held: 800 };
  },
  refund: async () => {
    const back = await stripe.refunds.create({ payment_intent: (await pay("refund")).id }, key("r1"));
    assert.equal(back.amount, 2000);
    moved(back.status);
    return { captured: 2000, refunded: 2000 };
  },
  "partial refund": async () => {
    const paid = await pay("partial refund");
    await night();
    const back = await stripe.refunds.create({ payment_intent: paid.id, amount: 500 }, key("r2"));
    assert.equal(back.amount, 500);
    moved(back.status);
    return { captured: 2000, refunded: 500 };
  },
  void: async () => {
    assert.equal((await stripe.paymentIntents.cancel((await pay("void", "manual")).id, {}, key("v1"))).status, "canceled");
    return {};
  },
  retrieve: async () => {
    const paid = await pay("retrieve");
    const seen = await stripe.paymentIntents.retrieve(paid.id, { expand: ["latest_charge"] });
    assert.deepEqual([seen.id, seen.status, seen.latest_charge.amount_captured], [paid.id, "succeeded", 2000]);
    return { captured: 2000 };
  },
  list: async () => {
    const paid = await pay("list");
    const found = [];
    for await (const one of stripe.paymentIntents.list({ limit: 100 })) found.push(one.id);
    assert.ok(found.includes(paid.id), "the payment is not in the list");
    return { captured: 2000 };
  },
  decline: async () => {
    await assert.rejects(pay("decline", "automatic", EMPTY, wanted.decline_amount), (error) => {
      if (error.type !== "StripeCardError") throw error;
      assert.equal(error.decline_code, wanted.code);
      return true;
    });
    return {};
  },
  error: async () => {
    const paid = await pay("error");
    await assert.rejects(stripe.paymentIntents.capture(paid.id, {}, key("c3")), (error) => {
      assert.equal(error.type, "StripeInvalidRequestError");
      if (error.code !== "payment_intent_unexpected_state") throw error;
      return true;
    });
    return { captured: 2000 };
  },
};

for (const [operation, run] of Object.entries(operations)) {
  if (Boolean(wanted.only) !== (operation === "captures in parts")) continue;
  const line = { operation, reference: `${prefix}-${operation}` };
  try {
    line.told = await run();
  } catch (error) {
    // Why no other gateway was asked, or else the code of the error, or the parameter that it is about.
    const unavailable = error.headers?.["sentinel-failover"]?.split("reason=")[1];
    if (error.type?.startsWith("Stripe")) line.refused = unavailable ?? error.code ?? error.param ?? error.type;
    else line.failed = String(error.message ?? error);
  }
  console.log(JSON.stringify(line));
}
