// The official Razorpay SDK for Node, one operation at a time: usage: razorpay_node.mjs NODE_MODULES BASE REFERENCE CASE (see run.py)
//
// Every payment belongs to an order, which is opened first. What is told is told of that order.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix, given] = process.argv.slice(2);
const wanted = JSON.parse(given);
const Razorpay = createRequire(`${modules}/`)("razorpay");
const { validatePaymentVerification } = createRequire(`${modules}/`)("razorpay/dist/utils/razorpay-utils");

const api = new Razorpay({ key_id: "rzp_test_sandbox", key_secret: "sandbox" });
// The SDK has no option for it.
api.api.rq.defaults.baseURL = base;
const [GOOD, EMPTY] = ["token_1Aa00000000001", "token_Declined000001"];
const orders = {};

// The SDK has no call for it, as Razorpay has none.
class Absent extends Error {}

async function order(name, capture = "automatic", amount = 2000) {
  const opened = await api.orders.create({
    amount, currency: wanted.currency, receipt: `${prefix}-${name}`.slice(-40),
    payment: { capture, capture_options: { automatic_expiry_period: 12, manual_expiry_period: 7200 } },
  });
  assert.deepEqual([opened.entity, opened.status, opened.amount_due], ["order", "created", amount]);
  orders[name] = opened.id;
  return opened.id;
}
function begin(orderId, token, amount) {
  const body = {
    email: "a@example.com", contact: "9000090000", amount, currency: wanted.currency, order_id: orderId,
    customer_id: "cust_1Aa00000000001", token,
  };
  if (wanted.mandate) return api.payments.createRecurringPayment({ ...body, recurring: true });
  return api.payments.createPaymentJson({ ...body, method: "card", card: { cvv: "123" }, ip: "203.0.113.7" });
}
async function becomes(id, status) {
  for (const patience = Date.now() + 60_000; ; ) {
    const payment = await api.payments.fetch(id);
    if (payment.status === status) return payment;
    assert.ok(Date.now() < patience, `${id} is ${payment.status}, not ${status}`);
    await new Promise((later) => setTimeout(later, 50));
  }
}
// Where the taker gives back a part only of what is settled, which happens at night, the night comes now.
async function night() {
  if (wanted.night) assert.ok((await fetch(wanted.night, { method: "POST", body: '{"settle": "now"}' })).ok);
}
async function pay(name, { capture = "automatic", token = GOOD, amount = 2000, status } = {}) {
  const orderId = await order(name, capture, amount);
  const begun = await begin(orderId, token, amount);
  if (begun.razorpay_signature) {
    const signed = { order_id: begun.razorpay_order_id, payment_id: begun.razorpay_payment_id };
    assert.ok(signed.order_id === orderId && validatePaymentVerification(signed, begun.razorpay_signature, "sandbox"));
  }
  const paid = await becomes(begun.razorpay_payment_id, status ?? (capture === "automatic" ? "captured" : "authorized"));
  assert.deepEqual([paid.order_id, paid.amount, paid.currency], [orderId, amount, wanted.currency]);
  return paid;
}
async function back(name, id, amount) {
  const made = await api.payments.refund(id, { amount, receipt: `${prefix}-${name}`.slice(-40) });
  assert.deepEqual([made.entity, made.amount, made.payment_id], ["refund", amount, id]);
  assert.equal((await api.refunds.fetch(made.id)).amount, amount);
}

const operations = {
  sale: async () => {
    await pay("sale");
    return { captured: 2000 };
  },
  order: async () => {
    const opened = await order("order");
    assert.equal((await api.orders.fetch(opened)).status, "created");
    assert.equal((await api.orders.fetchPayments(opened)).count, 0);
    return {};
  },
  authorise: async () => {
    assert.equal((await pay("authorise", { capture: "manual" })).captured, false);
    return { held: 2000 };
  },
  capture: async () => {
    const done = await api.payments.capture((await pay("capture", { capture: "manual" })).id, 2000, wanted.currency);
    assert.ok(done.status === "captured" || (await becomes(done.id, "captured")));
    return { captured: 2000 };
  },
  "partial capture": async () => {
    await api.payments.capture((await pay("partial capture", { capture: "manual" })).id, 800, wanted.currency);
    return { captured: 800 };
  },
  "captures in parts": async () => {
    const { id } = await pay("captures in parts", { capture: "manual" });
    for (const amount of [500, 700]) await api.payments.capture(id, amount, wanted.currency);
    return { captured: 1200, held: 800 };
  },
  refund: async () => {
    await back("refund", (await pay("refund")).id, 2000);
    return { captured: 2000, refunded: 2000 };
  },
  "partial refund": async () => {
    const { id } = await pay("partial refund");
    await night();
    await back("partial refund", id, 500);
    return { captured: 2000, refunded: 500 };
  },
  void: async () => {
    throw new Absent("no such call");
  },
  retrieve: async () => {
    const paid = await pay("retrieve");
    assert.equal((await api.payments.fetch(paid.id)).captured, true);
    assert.deepEqual((await api.orders.fetchPayments(paid.order_id)).items.map((one) => one.id), [paid.id]);
    assert.equal((await api.orders.fetch(paid.order_id)).status, "paid");
    return { captured: 2000 };
  },
  decline: async () => {
    try {
      const failed = await pay("decline", { token: EMPTY, amount: wanted.decline_amount, status: "failed" });
      assert.equal(failed.error_reason, wanted.code);
    } catch (error) {
      if (!error.error?.metadata?.payment_id) throw error;
      assert.equal(error.error.reason, wanted.code);
    }
    return {};
  },
  error: async () => {
    const { id } = await pay("error");
    await assert.rejects(api.payments.capture(id, 2000, wanted.currency), (error) => {
      if (error.statusCode !== 400) throw error;
      assert.equal(error.error.code, "BAD_REQUEST_ERROR");
      return true;
    });
    return { captured: 2000 };
  },
};

for (const [operation, run] of Object.entries(operations)) {
  if (Boolean(wanted.only) !== (operation === "captures in parts")) continue;
  const line = { operation };
  try {
    line.told = await run();
  } catch (error) {
    const said = error.error?.description?.match(/\((\w+)\)$/)?.[1] ?? error.error?.description;
    if (said) line.refused = said;
    else if (error instanceof Absent) line.refused = error.message;
    else line.failed = String(error.message ?? JSON.stringify(error));
  }
  console.log(JSON.stringify({ ...line, reference: orders[operation] ?? `${prefix}-${operation}` }));
}
