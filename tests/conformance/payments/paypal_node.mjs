// The official PayPal SDK for Node: every payment operation, against whatever answers at BASE.
//
// usage: paypal_node.mjs NODE_MODULES BASE REFERENCE
//
// The SDK's address is fixed; the application hands it a transport that goes to BASE. Prints one line of JSON for each
// payment made, in cents, as the Python client does.
import assert from "node:assert/strict";
import http from "node:http";
import { createRequire } from "node:module";

const [modules, base, prefix] = process.argv.slice(2);
const { ApiError, CheckoutPaymentIntent, Client, Environment, OrdersController, PaymentsController } = createRequire(`${modules}/`)("@paypal/paypal-server-sdk");

const { hostname, port, pathname } = new URL(base);
const path = pathname.replace(/\/$/, "");
const transport = {
  request: (options, callback) =>
    http.request({ ...options, protocol: "http:", hostname, host: hostname, port, path: path + options.path, agent: undefined }, callback),
};
const client = new Client({
  clientCredentialsAuthCredentials: { oAuthClientId: "sandbox", oAuthClientSecret: "sandbox" },
  environment: Environment.Sandbox,
  unstable_httpClientOptions: { transport },
});
const [orders, payments] = [new OrdersController(client), new PaymentsController(client)];
const prefer = "return=representation";
const money = (value) => ({ currencyCode: "USD", value });

async function create(name, intent, holder = "Jane Doe") {
  const { result } = await orders.createOrder({
    body: {
      intent,
      purchaseUnits: [{ amount: money("20.00"), invoiceId: `${prefix}-${name}`, customId: `${prefix}-${name}-op` }],
      paymentSource: { card: { name: holder, number: "4012888888881881", expiry: "2030-02", securityCode: "123" } },
    },
    paypalRequestId: `${prefix}-${name}`,
    prefer,
  });
  return result;
}
const told = (name, what) => console.log(JSON.stringify({ reference: `${prefix}-${name}`, ...what }));

const sale = await create("sale", CheckoutPaymentIntent.Capture);
const capture = sale.purchaseUnits[0].payments.captures[0];
assert.equal(sale.status, "COMPLETED");
assert.equal(capture.status, "COMPLETED");
assert.equal(capture.amount.value, "20.00");
assert.equal((await create("sale", CheckoutPaymentIntent.Capture)).id, sale.id, "the same request id is the same order");
const refund = (name, value) => payments.refundCapturedPayment({ captureId: capture.id, paypalRequestId: `${prefix}-${name}`, prefer, body: { amount: money(value) } });
assert.equal((await refund("r1", "5.00")).result.status, "COMPLETED");
const rest = (await refund("r2", "15.00")).result;
assert.equal((await payments.getRefund({ refundId: rest.id })).result.amount.value, "15.00");
assert.equal((await payments.getCapturedPayment({ captureId: capture.id })).result.status, "REFUNDED");
told("sale", { captured: 2000, refunded: 2000 });

const held = await create("capture", CheckoutPaymentIntent.Authorize);
const authorizationId = held.purchaseUnits[0].payments.authorizations[0].id;
assert.equal((await payments.getAuthorizedPayment({ authorizationId })).result.status, "CREATED");
const taken = await payments.captureAuthorizedPayment({ authorizationId, paypalRequestId: `${prefix}-c1`, prefer, body: { amount: money("8.00"), finalCapture: true } });
assert.equal(taken.result.status, "COMPLETED");
assert.equal((await orders.getOrder({ id: held.id })).result.purchaseUnits[0].payments.captures[0].id, taken.result.id);
told("capture", { captured: 800 });

const voided = await create("void", CheckoutPaymentIntent.Authorize);
const voidedId = voided.purchaseUnits[0].payments.authorizations[0].id;
await payments.voidPayment({ authorizationId: voidedId, prefer });
assert.equal((await payments.getAuthorizedPayment({ authorizationId: voidedId })).result.status, "VOIDED");
told("void", { held: 0 });

await assert.rejects(create("decline", CheckoutPaymentIntent.Capture, "CCREJECT-IF"), (error) => {
  assert.ok(error instanceof ApiError);
  assert.equal(error.statusCode, 422);
  assert.equal(error.result.details[0].issue, "INSTRUMENT_DECLINED");
  return true;
});
told("decline", { held: 0 });
await assert.rejects(orders.getOrder({ id: "NOSUCHORDER000000" }), (error) => error.statusCode === 404 && error.result.name === "RESOURCE_NOT_FOUND");
