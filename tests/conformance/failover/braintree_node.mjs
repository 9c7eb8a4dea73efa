// The official Braintree SDK for Node, which speaks JSON where the others speak XML, one operation at a time.
//
// usage: braintree_node.mjs NODE_MODULES BASE REFERENCE CASE     (see run.py)
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix, given] = process.argv.slice(2);
const wanted = JSON.parse(given);
const braintree = createRequire(`${modules}/`)("braintree");
const { hostname, port } = new URL(base);
const environment = new braintree.Environment(hostname, port, base, false, hostname, port);
const gateway = new braintree.BraintreeGateway({ environment, merchantId: "sandbox", publicKey: "sandbox", privateKey: "sandbox" });
const { transaction } = gateway;
const [GOOD, EMPTY] = ["tok_4111", "tok_empty"];
const MANDATE = { transactionSource: "unscheduled", customer: { email: "a@example.com", phone: "9000090000" } };

class Refused extends Error {}
function good(result) {
  if (!result.success) throw new Refused(result.message?.match(/\((\w+)\)$/)?.[1] ?? result.message);
  return result.transaction;
}
// While the outcome is being found out, the same key asks again.
async function asked(name, submitForSettlement, paymentMethodToken = GOOD, amount = "20.00") {
  for (const patience = Date.now() + 60_000; ; ) {
    try {
      return await transaction.sale({
        amount, orderId: `${prefix}-${name}`, paymentMethodToken, apiRequestKey: `${prefix}-${name}`.replaceAll(" ", "-"),
        merchantAccountId: `sandbox_${wanted.currency.toLowerCase()}`, options: { submitForSettlement }, ...(wanted.mandate ? MANDATE : {}),
      });
    } catch (error) {
      if (error.type !== "gatewayTimeoutError" || Date.now() > patience) throw error;
    }
    await new Promise((later) => setTimeout(later, 50));
  }
}
// Where the taker gives back a part only of what is settled, which happens at night, the night comes now.
async function night() {
  if (wanted.night) assert.ok((await fetch(wanted.night, { method: "POST", body: '{"settle": "now"}' })).ok);
}
async function pay(name, submit = true) {
  const paid = good(await asked(name, submit));
  assert.equal(paid.status, submit ? "submitted_for_settlement" : "authorized");
  assert.deepEqual([paid.amount, paid.currencyIsoCode, paid.orderId], ["20.00", wanted.currency, `${prefix}-${name}`]);
  return paid.id;
}
async function take(name, amount) {
  const held = await pay(name, false);
  const taken = good(await (amount ? transaction.submitForSettlement(held, amount) : transaction.submitForSettlement(held)));
  assert.deepEqual([taken.status, taken.amount], ["submitted_for_settlement", amount ?? "20.00"]);
}
async function giveBack(name, amount) {
  const paid = await pay(name);
  await night();
  const back = good(await (amount ? transaction.refund(paid, amount) : transaction.refund(paid)));
  assert.deepEqual([back.type, back.amount, back.refundedTransactionId], ["credit", amount ?? "20.00", paid]);
}

const operations = {
  sale: async () => {
    await pay("sale");
    return { captured: 2000 };
  },
  authorise: async () => {
    await pay("authorise", false);
    return { held: 2000 };
  },
  capture: async () => {
    await take("capture");
    return { captured: 2000 };
  },
  "partial capture": async () => {
    await take("partial capture", "8.00");
    return { captured: 800 };
  },
  "captures in parts": async () => {
    const held = await pay("captures in parts", false);
    for (const amount of ["5.00", "7.00"]) {
      const part = good(await transaction.submitForPartialSettlement(held, amount));
      assert.deepEqual([part.amount, part.authorizedTransactionId], [amount, held]);
    }
    return { captured: 1200, held: 800 };
  },
  refund: async () => {
    await giveBack("refund");
    return { captured: 2000, refunded: 2000 };
  },
  "partial refund": async () => {
    await giveBack("partial refund", "5.00");
    return { captured: 2000, refunded: 500 };
  },
  void: async () => {
    assert.equal(good(await transaction.void(await pay("void", false))).status, "voided");
    return {};
  },
  retrieve: async () => {
    const paid = await pay("retrieve");
    const seen = await transaction.find(paid);
    assert.deepEqual([seen.id, seen.amount], [paid, "20.00"]);
    // Settled, where the night came in between.
    assert.ok(["submitted_for_settlement", "settled"].includes(seen.status), seen.status);
    return { captured: 2000 };
  },
  decline: async () => {
    const result = await asked("decline", true, EMPTY, `${wanted.decline_amount / 100}.00`);
    assert.ok(!result.success, "a card without money was charged");
    if (!result.transaction) good(result);
    assert.deepEqual([result.transaction.status, result.transaction.processorResponseCode], ["processor_declined", wanted.code]);
    return {};
  },
  error: async () => {
    const result = await transaction.submitForSettlement(await pay("error"));
    assert.ok(!result.success, "a captured payment was captured again");
    assert.equal(result.errors.deepErrors()[0]?.code, "91507");
    return { captured: 2000 };
  },
};

for (const [operation, run] of Object.entries(operations)) {
  if (Boolean(wanted.only) !== (operation === "captures in parts")) continue;
  const line = { operation, reference: `${prefix}-${operation}` };
  try {
    line.told = await run();
  } catch (error) {
    if (error instanceof Refused) line.refused = error.message;
    else if (error.type) line.refused = error.type[0].toUpperCase() + error.type.slice(1);
    else line.failed = String(error.message ?? error);
  }
  console.log(JSON.stringify(line));
}
