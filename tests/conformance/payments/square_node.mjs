// The official Square SDK for Node: every payment operation, against whatever answers at BASE.
//
// usage: square_node.mjs NODE_MODULES BASE REFERENCE
//
// Prints one line of JSON for each payment made, as the Python client does.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix] = process.argv.slice(2);
const { SquareClient, SquareError } = createRequire(`${modules}/`)("square");

const client = (token) => new SquareClient({ token, baseUrl: base });
const api = client("sandbox");
const money = (amount) => ({ amount: BigInt(amount), currency: "EUR" });
const pay = async (name, { autocomplete = true, sourceId = "cnon:card-nonce-ok", amount = 1000, ...more } = {}) =>
  (await api.payments.create({
    sourceId, autocomplete, idempotencyKey: `${prefix}-${name}`, referenceId: `${prefix}-${name}`,
    amountMoney: money(amount), ...more,
  })).payment;
const told = (name, what) => console.log(JSON.stringify({ reference: `${prefix}-${name}`, ...what }));
const refused = (code, call) =>
  assert.rejects(call, (error) => error instanceof SquareError && error.errors.some((one) => one.code === code));

const held = await pay("authorise", { autocomplete: false });
assert.equal(held.status, "APPROVED");
assert.equal(held.amountMoney.amount, 1000n);
assert.equal((await pay("authorise", { autocomplete: false })).id, held.id, "the same key is the same payment");
told("authorise", { held: 1000 });

const partly = await pay("capture-less", { autocomplete: false });
const { payment: lowered } = await api.payments.update({
  paymentId: partly.id, idempotencyKey: `${prefix}-lower`, payment: { amountMoney: money(600) },
});
assert.equal(lowered.amountMoney.amount, 600n);
assert.equal((await api.payments.complete({ paymentId: partly.id })).payment.status, "COMPLETED");
told("capture-less", { captured: 600 });

const sold = await pay("sale");
assert.equal(sold.status, "COMPLETED");
for (const [part, amount] of [["1", 300], ["2", 700]]) {
  const { refund } = await api.refunds.refundPayment({
    idempotencyKey: `${prefix}-r${part}`, paymentId: sold.id, amountMoney: money(amount),
  });
  assert.equal(refund.status, "PENDING");
  assert.equal((await api.refunds.get({ refundId: refund.id })).refund.paymentId, sold.id);
}
told("sale", { captured: 1000, refunded: 1000 });

const voided = await pay("void", { autocomplete: false });
assert.equal((await api.payments.cancel({ paymentId: voided.id })).payment.status, "CANCELED");
told("void", { held: 0 });

await pay("void-by-key", { autocomplete: false });
await api.payments.cancelByIdempotencyKey({ idempotencyKey: `${prefix}-void-by-key` });
told("void-by-key", { held: 0 });

await refused("GENERIC_DECLINE", () => pay("decline", { sourceId: "cnon:card-nonce-declined" }));
told("decline", { held: 0 });
await refused("VALUE_TOO_LOW", () => pay("error", { amount: -1 }));
await refused("NOT_FOUND", () => api.payments.get({ paymentId: "nosuchpayment" }));
await refused("UNAUTHORIZED", () => client("wrong").payments.get({ paymentId: held.id }));
