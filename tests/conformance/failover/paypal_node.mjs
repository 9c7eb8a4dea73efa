// The official PayPal SDK for Node, one operation at a time.
//
// usage: paypal_node.mjs NODE_MODULES BASE REFERENCE CASE     (see run.py)
//
// The SDK's address is fixed; the application hands it a transport that goes to BASE.
import assert from "node:assert/strict";
import http from "node:http";
import { createRequire } from "node:module";

const [modules, base, prefix, given] = process.argv.slice(2);
const wanted = JSON.parse(given);
const { ApiError, CheckoutPaymentIntent, Client, Environment, OrdersController, PaymentsController } = createRequire(`${modules}/`)("@paypal/paypal-server-sdk");

const { hostname, port } = new URL(base);
const transport = {
  request: (options, callback) => http.request({ ...options, protocol: "http:", hostname, host: hostname, port, agent: undefined }, callback),
};
const client = new Client({
  clientCredentialsAuthCredentials: { oAuthClientId: "sandbox", oAuthClientSecret: "sandbox" },
  environment: Environment.Sandbox,
  unstable_httpClientOptions: { transport },
});
const [orders, payments] = [new OrdersController(client), new PaymentsController(client)];
const prefer = "return=representation";
const money = (value) => ({ currencyCode: wanted.currency, value });

const issue = (error) => JSON.parse(error.body || "{}").details?.[0]?.issue;

function card(good) {
  if (wanted.card) {
    const [number, name] = good ? ["4242424242424242", "Jane Doe"] : [wanted.number, wanted.holder];
    return { name, number, expiry: "2030-02", securityCode: "123" };
  }
  const stored = wanted.mandate ? { storedCredential: { paymentInitiator: "MERCHANT", paymentType: "UNSCHEDULED" } } : {};
  return { vaultId: good ? "8kk845" : "DECLINE-5120", ...stored };
}
// While the outcome is being found out, the same key asks again.
async function decided(call) {
  for (const patience = Date.now() + 60_000; ; ) {
    try {
      const made = (await call()).result;
      const found = made.purchaseUnits[0].payments;
      if ((found?.captures ?? found?.authorizations)?.[0].status !== "PENDING" || Date.now() > patience) return made;
    } catch (error) {
      const asks = error instanceof ApiError && ["PREVIOUS_REQUEST_IN_PROGRESS", "SENTINEL_OUTCOME_PENDING"].includes(issue(error));
      if (!asks || Date.now() > patience) throw error;
    }
    await new Promise((later) => setTimeout(later, 50));
  }
}
// Where the taker gives back a part only of what is settled, which happens at night, the night comes now.
async function night() {
  if (wanted.night) assert.ok((await fetch(wanted.night, { method: "POST", body: '{"settle": "now"}' })).ok);
}
async function order(name, intent, { good = true, value = "20.00", paid = true } = {}) {
  const result = await decided(() => orders.createOrder({
    body: {
      intent,
      purchaseUnits: [{ amount: money(value), invoiceId: `${prefix}-${name}` }],
      payer: { emailAddress: "a@example.com", phone: { phoneNumber: { nationalNumber: "9000090000" } } },
      ...(paid ? { paymentSource: { card: card(good) } } : {}),
    },
    paypalRequestId: `${prefix}-${name}`,
    prefer,
  }));
  assert.equal(result.purchaseUnits[0].invoiceId, `${prefix}-${name}`);
  return result;
}
async function sold(name) {
  const made = await order(name, CheckoutPaymentIntent.Capture);
  const capture = made.purchaseUnits[0].payments.captures[0];
  assert.deepEqual([made.status, capture.status, capture.amount.value], ["COMPLETED", "COMPLETED", "20.00"]);
  return [made, capture.id];
}
async function held(name) {
  const made = await order(name, CheckoutPaymentIntent.Authorize);
  const authorization = made.purchaseUnits[0].payments.authorizations[0];
  assert.deepEqual([made.status, authorization.status, authorization.amount.value], ["COMPLETED", "CREATED", "20.00"]);
  return authorization.id;
}
const take = async (name, authorizationId, value, finalCapture = true) =>
  (await payments.captureAuthorizedPayment({ authorizationId, paypalRequestId: `${prefix}-${name}-c${value}`, prefer, body: { amount: money(value), finalCapture } })).result;
async function giveBack(name, captureId, value) {
  const { result } = await payments.refundCapturedPayment({ captureId, paypalRequestId: `${prefix}-${name}-r`, prefer, ...(value ? { body: { amount: money(value) } } : {}) });
  assert.ok(["COMPLETED", "PENDING"].includes(result.status), result.status);
  assert.equal(result.amount.value, value ?? "20.00");
}

const operations = {
  sale: async () => {
    await sold("sale");
    return { captured: 2000 };
  },
  "create only": async () => {
    assert.equal((await order("create only", CheckoutPaymentIntent.Capture, { paid: false })).status, "CREATED");
    return {};
  },
  authorise: async () => {
    await held("authorise");
    return { held: 2000 };
  },
  capture: async () => {
    assert.equal((await take("capture", await held("capture"), "20.00")).amount.value, "20.00");
    return { captured: 2000 };
  },
  "partial capture": async () => {
    assert.equal((await take("partial capture", await held("partial capture"), "8.00")).amount.value, "8.00");
    return { captured: 800 };
  },
  "captures in parts": async () => {
    const hold = await held("captures in parts");
    const ids = [];
    for (const value of ["5.00", "7.00"]) {
      const taken = await take("captures in parts", hold, value, false);
      assert.equal(taken.amount.value, value);
      ids.push(taken.id);
    }
    assert.notEqual(ids[0], ids[1]);
    assert.equal((await payments.getCapturedPayment({ captureId: ids[0] })).result.amount.value, "5.00");
    return { captured: 1200, held: 800 };
  },
  refund: async () => {
    await giveBack("refund", (await sold("refund"))[1]);
    return { captured: 2000, refunded: 2000 };
  },
  "partial refund": async () => {
    const captureId = (await sold("partial refund"))[1];
    await night();
    await giveBack("partial refund", captureId, "5.00");
    return { captured: 2000, refunded: 500 };
  },
  void: async () => {
    await payments.voidPayment({ authorizationId: await held("void"), prefer });
    return {};
  },
  retrieve: async () => {
    const [made, captureId] = await sold("retrieve");
    assert.equal((await orders.getOrder({ id: made.id })).result.purchaseUnits[0].payments.captures[0].id, captureId);
    assert.equal((await payments.getCapturedPayment({ captureId })).result.amount.value, "20.00");
    return { captured: 2000 };
  },
  decline: async () => {
    await assert.rejects(order("decline", CheckoutPaymentIntent.Capture, { good: false, value: `${wanted.decline_amount / 100}.00` }), (error) => {
      if (error.statusCode !== 422) throw error;
      assert.equal(error.result.details[0].issue, "INSTRUMENT_DECLINED");
      return true;
    });
    return {};
  },
  error: async () => {
    const captureId = (await sold("error"))[1];
    await assert.rejects(giveBack("error", captureId, "20.01"), (error) => {
      if (error.statusCode !== 422) throw error;
      assert.ok(error.result.name && issue(error));
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
    if (error instanceof ApiError) {
      // Why no other gateway was asked, or else the issue of the error.
      line.refused = error.headers?.["sentinel-failover"]?.split("reason=")[1] ?? issue(error) ?? JSON.parse(error.body || "{}").name ?? `status ${error.statusCode}`;
    }
    if (!line.refused) line.failed = String(error.message ?? error);
  }
  console.log(JSON.stringify(line));
}
