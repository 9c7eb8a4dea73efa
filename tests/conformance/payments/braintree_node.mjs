// The official Braintree SDK for Node, which speaks JSON where the others speak XML: every payment operation, against
// whatever answers at BASE.
//
// usage: braintree_node.mjs NODE_MODULES BASE REFERENCE [elsewhere]
//
// Prints one line of JSON for each payment made, in cents, as the Python client does.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix, mode] = process.argv.slice(2);
const braintree = createRequire(`${modules}/`)("braintree");
const { hostname, port } = new URL(base);
const elsewhere = mode === "elsewhere";
const environment = new braintree.Environment(hostname, port, base, false, hostname, port);
const gateway = new braintree.BraintreeGateway({ environment, merchantId: "sandbox", publicKey: "sandbox", privateKey: "sandbox" });
const { transaction } = gateway;

// The custom field names the same card at the other gateway, for whoever carries the payment there.
const sale = (name, submitForSettlement, more = {}) =>
  transaction.sale({
    amount: "20.00",
    orderId: `${prefix}-${name}`,
    paymentMethodToken: "tok_4111",
    customFields: { sentinel_stripe: "pm_card_visa" },
    apiRequestKey: `${prefix}-${name}`,
    options: { submitForSettlement },
    ...more,
  });
const told = (name, what) => console.log(JSON.stringify({ reference: `${prefix}-${name}`, ...what }));
const first = (result) => result.errors.deepErrors()[0].code;

const result = await sale("sale", true);
assert.ok(result.success, result.message);
const paid = result.transaction;
assert.equal(paid.status, "submitted_for_settlement");
assert.equal(paid.amount, "20.00");
assert.equal(paid.currencyIsoCode, "USD");
assert.equal(paid.orderId, `${prefix}-sale`);
assert.equal((await sale("sale", true)).transaction.id, paid.id, "the same key is the same transaction");
if (!elsewhere) {
  assert.equal(first(await transaction.refund(paid.id, "5.00")), "91506");
  await gateway.testing.settle(paid.id);
}
const part = await transaction.refund(paid.id, "5.00");
assert.ok(part.success, part.message);
assert.equal(part.transaction.type, "credit");
assert.equal(part.transaction.refundedTransactionId, paid.id);
assert.ok((await transaction.refund(paid.id, { amount: "15.00" })).success);
const found = await transaction.find(paid.id);
assert.equal(found.status, "settled");
assert.equal(found.refundIds.length, 2);
told("sale", { captured: 2000, refunded: 2000 });

const held = (await sale("capture", false)).transaction;
assert.equal(held.status, "authorized");
const taken = await transaction.submitForSettlement(held.id, "8.00");
assert.ok(taken.success, taken.message);
assert.equal(taken.transaction.amount, "8.00");
told("capture", { captured: 800 });

const hold = (await sale("void", false)).transaction;
assert.equal((await transaction.void(hold.id)).transaction.status, "voided");
told("void", { held: 0 });

const undo = (await sale("undo", true)).transaction;
assert.equal((await transaction.void(undo.id)).transaction.status, "voided");
told("undo", { captured: 2000, refunded: 2000 });

if (!elsewhere) {
  const declined = await sale("decline", true, { amount: "2046.00" });
  assert.equal(declined.success, false);
  assert.equal(declined.transaction.status, "processor_declined");
  assert.equal(declined.transaction.processorResponseCode, "2046");
  told("decline", { held: 0 });
  assert.equal(first(await sale("wrong", true, { amount: "1.001" })), "81503");
  assert.equal(first(await sale("sale", true, { amount: "21.00" })), "915232");
  await assert.rejects(transaction.find("nosuchid"), (error) => error.type === "notFoundError");
} else {
  const declined = await sale("decline", true, { customFields: { sentinel_stripe: "pm_card_chargeDeclinedInsufficientFunds" } });
  assert.equal(declined.success, false);
  assert.equal(declined.transaction.processorResponseCode, "2001");
  told("decline", { held: 0 });
}
