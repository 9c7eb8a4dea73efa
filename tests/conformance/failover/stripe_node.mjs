// The official Stripe SDK for Node, one operation at a time: usage: stripe_node.mjs NODE_MODULES BASE REFERENCE DECLINE_CODE
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix, declineCode] = process.argv.slice(2);
const required = createRequire(`${modules}/`)("stripe");
const Stripe = required.default ?? required.Stripe ?? required;
const { hostname, port } = new URL(base);
const stripe = new Stripe("sk_test_sandbox", { host: hostname, port, protocol: "http", maxNetworkRetries: 0 });

const GOOD = { sentinel_adyen: "shopper-1/8415698462516992", sentinel_paypal: "8kk845" };
const EMPTY = { sentinel_adyen: "shopper-2/DECLINED00000012", sentinel_paypal: "DECLINE-5120" };
const key = (name) => ({ idempotencyKey: `${prefix}-${name}` });

async function pay(name, capture = "automatic", method = "pm_card_visa", tokens = GOOD) {
  const paid = await stripe.paymentIntents.create(
    {
      amount: 2000, currency: "usd", payment_method: method, confirm: true, capture_method: capture,
      allowed_payment_method_types: ["card"], metadata: { order_id: `${prefix}-${name}`, ...tokens },
    },
    key(name),
  );
  assert.equal(paid.status, capture === "automatic" ? "succeeded" : "requires_capture");
  assert.equal(paid.metadata.order_id, `${prefix}-${name}`);
  return paid;
}
const moved = (status) => assert.ok(["succeeded", "processing", "pending"].includes(status), status);

const operations = {
  create: async () => {
    assert.equal((await pay("create")).amount_received, 2000);
    return { captured: 2000 };
  },
  "create only": async () => {
    const params = { amount: 2000, currency: "usd", allowed_payment_method_types: ["card"], metadata: { order_id: `${prefix}-create only` } };
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
  refund: async () => {
    const back = await stripe.refunds.create({ payment_intent: (await pay("refund")).id }, key("r1"));
    assert.equal(back.amount, 2000);
    moved(back.status);
    return { captured: 2000, refunded: 2000 };
  },
  "partial refund": async () => {
    const back = await stripe.refunds.create({ payment_intent: (await pay("partial refund")).id, amount: 500 }, key("r2"));
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
    await assert.rejects(pay("decline", "automatic", "pm_card_chargeDeclinedInsufficientFunds", EMPTY), (error) => {
      if (error.type !== "StripeCardError") throw error;
      assert.equal(error.decline_code, declineCode);
      return true;
    });
    return {};
  },
  error: async () => {
    const held = await pay("error", "manual");
    await stripe.paymentIntents.cancel(held.id, {}, key("v2"));
    await assert.rejects(stripe.paymentIntents.capture(held.id, {}, key("c3")), (error) => {
      assert.equal(error.type, "StripeInvalidRequestError");
      if (error.code !== "payment_intent_unexpected_state") throw error;
      return true;
    });
    return {};
  },
};

for (const [operation, run] of Object.entries(operations)) {
  const line = { operation, reference: `${prefix}-${operation}` };
  try {
    line.told = await run();
  } catch (error) {
    if (error.type?.startsWith("Stripe")) line.refused = error.code ?? error.type;
    else line.failed = String(error.message ?? error);
  }
  console.log(JSON.stringify(line));
}
