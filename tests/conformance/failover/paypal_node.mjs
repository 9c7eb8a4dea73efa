// The official PayPal SDK for Node, one operation at a time.
//
// usage: paypal_node.mjs NODE_MODULES BASE REFERENCE DECLINED_NUMBER DECLINED_HOLDER
//
// The SDK's address is fixed; the application hands it a transport that goes to BASE.
import assert from "node:assert/strict";
import http from "node:http";
import { createRequire } from "node:module";

const [modules, base, prefix, badNumber, badHolder] = process.argv.slice(2);
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
const money = (value) => ({ currencyCode: "USD", value });

async function order(name, intent, { number = "4242424242424242", holder = "Jane Doe", card = true } = {}) {
  const { result } = await orders.createOrder({
    body: {
      intent,
      purchaseUnits: [{ amount: money("20.00"), invoiceId: `${prefix}-${name}` }],
      ...(card ? { paymentSource: { card: { name: holder, number, expiry: "2030-02", securityCode: "123" } } } : {}),
    },
    paypalRequestId: `${prefix}-${name}`,
    prefer,
  });
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
const take = async (name, authorizationId, value) =>
  (await payments.captureAuthorizedPayment({ authorizationId, paypalRequestId: `${prefix}-${name}-c`, prefer, body: { amount: money(value), finalCapture: true } })).result;
async function giveBack(name, captureId, value) {
  const { result } = await payments.refundCapturedPayment({ captureId, paypalRequestId: `${prefix}-${name}-r`, prefer, ...(value ? { body: { amount: money(value) } } : {}) });
  assert.ok(["COMPLETED", "PENDING"].includes(result.status), result.status);
  assert.equal(result.amount.value, value ?? "20.00");
}

const operations = {
  create: async () => {
    await sold("create");
    return { captured: 2000 };
  },
  "create only": async () => {
    assert.equal((await order("create only", CheckoutPaymentIntent.Capture, { card: false })).status, "CREATED");
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
  refund: async () => {
    await giveBack("refund", (await sold("refund"))[1]);
    return { captured: 2000, refunded: 2000 };
  },
  "partial refund": async () => {
    await giveBack("partial refund", (await sold("partial refund"))[1], "5.00");
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
    await assert.rejects(order("decline", CheckoutPaymentIntent.Capture, { number: badNumber, holder: badHolder }), (error) => {
      if (error.statusCode !== 422) throw error;
      assert.equal(error.result.details[0].issue, "INSTRUMENT_DECLINED");
      return true;
    });
    return {};
  },
  error: async () => {
    const authorizationId = await held("error");
    await payments.voidPayment({ authorizationId, prefer });
    await assert.rejects(take("error", authorizationId, "20.00"), (error) => {
      if (error.statusCode !== 422) throw error;
      assert.ok(error.result.name);
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
    if (error instanceof ApiError) {
      const told = JSON.parse(error.body || "{}");
      line.refused = told.details?.[0]?.issue ?? told.name ?? `status ${error.statusCode}`;
    }
    if (!line.refused) line.failed = String(error.message ?? error);
  }
  console.log(JSON.stringify(line));
}
