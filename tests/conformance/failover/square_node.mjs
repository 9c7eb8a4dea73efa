// The official Square SDK for Node, one operation at a time: usage: square_node.mjs NODE_MODULES BASE REFERENCE CASE (see run.py)
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix, given] = process.argv.slice(2);
const wanted = JSON.parse(given);
const { SquareClient, SquareError } = createRequire(`${modules}/`)("square");

const api = new SquareClient({ token: "sandbox", baseUrl: base, maxRetries: 0 });
const [GOOD, EMPTY] = ["ccof:customer-card-id-ok", "ccof:customer-card-id-declined"];
const MANDATE = { customerDetails: { customerInitiated: false }, buyerEmailAddress: "a@example.com", buyerPhoneNumber: "9000090000" };
// The SDK has no call for it, as Square has none.
class Absent extends Error {}
const money = (amount) => ({ amount: BigInt(amount), currency: wanted.currency });

// Why no other gateway was asked, or else what Sentinel says beside Square's own code, or else that.
const reason = (error) => {
  const unavailable = error.rawResponse?.headers.get("sentinel-failover")?.split("reason=")[1];
  if (unavailable) return unavailable;
  const [first] = error.errors ?? [];
  return first?.detail?.match(/\((\w+)\)$/)?.[1] ?? first?.code ?? `status ${error.statusCode}`;
};
// While the outcome is being found out, the same key asks again.
async function decided(call) {
  for (const patience = Date.now() + 60_000; ; ) {
    try {
      const { payment } = await call();
      if (payment.status !== "PENDING" || Date.now() > patience) return payment;
    } catch (error) {
      if (error.statusCode !== 504 || Date.now() > patience) throw error;
    }
    await new Promise((later) => setTimeout(later, 50));
  }
}
// Where the taker gives back a part only of what is settled, which happens at night, the night comes now.
async function night() {
  if (wanted.night) assert.ok((await fetch(wanted.night, { method: "POST", body: '{"settle": "now"}' })).ok);
}
async function pay(name, { autocomplete = true, sourceId = GOOD, amount = 2000 } = {}) {
  const paid = await decided(() => api.payments.create({
    sourceId, customerId: "CUST1", autocomplete, idempotencyKey: `${prefix}-${name}`, referenceId: `${prefix}-${name}`,
    amountMoney: money(amount), ...(wanted.mandate ? MANDATE : {}),
  }));
  assert.equal(paid.status, autocomplete ? "COMPLETED" : "APPROVED");
  assert.equal(paid.referenceId, `${prefix}-${name}`);
  assert.deepEqual(paid.amountMoney, money(amount));
  return paid;
}
async function back(name, paymentId, amount) {
  const { refund } = await api.refunds.refundPayment({ idempotencyKey: `${prefix}-${name}-r`, paymentId, amountMoney: money(amount) });
  assert.ok(["PENDING", "COMPLETED"].includes(refund.status), refund.status);
  assert.equal(refund.paymentId, paymentId);
  assert.equal((await api.refunds.get({ refundId: refund.id })).refund.amountMoney.amount, BigInt(amount));
}

const operations = {
  sale: async () => {
    await pay("sale");
    return { captured: 2000 };
  },
  authorise: async () => {
    assert.equal((await pay("authorise", { autocomplete: false })).cardDetails.status, "AUTHORIZED");
    return { held: 2000 };
  },
  capture: async () => {
    const { payment } = await api.payments.complete({ paymentId: (await pay("capture", { autocomplete: false })).id });
    // Accepted, where the gateway captures later.
    assert.ok(["COMPLETED", "PENDING"].includes(payment.status), payment.status);
    return { captured: 2000 };
  },
  "partial capture": async () => {
    const paymentId = (await pay("partial capture", { autocomplete: false })).id;
    const { payment: lowered } = await api.payments.update({ paymentId, idempotencyKey: `${prefix}-lower`, payment: { amountMoney: money(800) } });
    assert.deepEqual([lowered.status, lowered.amountMoney.amount], ["APPROVED", 800n]);
    assert.equal((await api.payments.get({ paymentId })).payment.amountMoney.amount, 800n);
    const { payment } = await api.payments.complete({ paymentId });
    assert.ok(["COMPLETED", "PENDING"].includes(payment.status), payment.status);
    assert.equal(payment.amountMoney.amount, 800n);
    return { captured: 800 };
  },
  "captures in parts": async () => {
    throw new Absent("no such call");
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
    const { payment } = await api.payments.cancel({ paymentId: (await pay("void", { autocomplete: false })).id });
    assert.equal(payment.status, "CANCELED");
    return {};
  },
  retrieve: async () => {
    const paid = await pay("retrieve");
    const { payment } = await api.payments.get({ paymentId: paid.id });
    assert.deepEqual([payment.id, payment.status, payment.amountMoney.amount], [paid.id, "COMPLETED", 2000n]);
    return { captured: 2000 };
  },
  decline: async () => {
    await assert.rejects(pay("decline", { sourceId: EMPTY, amount: wanted.decline_amount }), (error) => {
      if (error.errors?.[0].category !== "PAYMENT_METHOD_ERROR") throw error;
      assert.equal(error.errors[0].code, wanted.code);
      assert.equal(error.body.payment.status, "FAILED");
      return true;
    });
    return {};
  },
  error: async () => {
    const paymentId = (await pay("error")).id;
    await assert.rejects(api.payments.complete({ paymentId }), (error) => {
      if (error.statusCode !== 400) throw error;
      assert.equal(error.errors[0].category, "INVALID_REQUEST_ERROR");
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
    if (error instanceof SquareError) line.refused = reason(error);
    else if (error instanceof Absent) line.refused = error.message;
    else line.failed = String(error.message ?? error);
  }
  console.log(JSON.stringify(line));
}
