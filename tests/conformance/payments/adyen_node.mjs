// The official Adyen SDK for Node: every payment operation, against whatever answers at BASE.
//
// usage: adyen_node.mjs NODE_MODULES BASE REFERENCE     (BASE with the version: http://127.0.0.1:8086/v71)
//
// The SDK's own transport speaks https only; the application hands it another one. Prints one line of JSON for each
// payment made, as the Python client does.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix] = process.argv.slice(2);
const { CheckoutAPI, Client, EnvironmentEnum, HttpClientException } = createRequire(`${modules}/`)("@adyen/api-library");

class PlainHttp {
  async request(endpoint, json, config, _keyRequired, options = {}) {
    const headers = { "content-type": "application/json", "x-api-key": config.apiKey };
    if (options.idempotencyKey) headers["idempotency-key"] = options.idempotencyKey;
    const answer = await fetch(endpoint, { method: options.method ?? "POST", headers, body: json || undefined });
    const text = await answer.text();
    if (answer.ok) return text;
    const body = JSON.parse(text);
    throw new HttpClientException({ message: body.message, statusCode: answer.status, errorCode: body.errorCode, responseBody: text, apiError: body });
  }
}

const ACCOUNT = "AcmeECOM";
function api(key) {
  const client = new Client({ apiKey: key, environment: EnvironmentEnum.TEST }, new PlainHttp());
  const checkout = new CheckoutAPI(client);
  // Each access makes a new object: these two are kept.
  const [payments, modifications] = [checkout.PaymentsApi, checkout.ModificationsApi];
  payments.baseUrl = base;
  modifications.baseUrl = base;
  return { payments, modifications };
}
const { payments, modifications } = api("sandbox");

const payment = (name, { manual = true, holder = "J. Smith", amount = { currency: "EUR", value: 1000 } } = {}) => ({
  amount, reference: `${prefix}-${name}`, merchantAccount: ACCOUNT, returnUrl: "https://shop.example/return",
  paymentMethod: { type: "scheme", number: "4111111111111111", expiryMonth: "03", expiryYear: "2030", cvc: "737", holderName: holder },
  ...(manual ? { additionalData: { manualCapture: "true" } } : { captureDelayHours: 0 }),
});
const pay = (name, options) => payments.payments(payment(name, options), { idempotencyKey: `${prefix}-${name}` });
const told = (name, what) => console.log(JSON.stringify({ reference: `${prefix}-${name}`, ...what }));
const amount = (value) => ({ merchantAccount: ACCOUNT, amount: { currency: "EUR", value } });
const received = (answer, psp) => {
  assert.equal(answer.status, "received");
  assert.equal(answer.paymentPspReference, psp);
};
const key = (name) => ({ idempotencyKey: `${prefix}-${name}` });

const held = await pay("authorise");
assert.equal(held.resultCode, "Authorised");
assert.equal(held.merchantReference, `${prefix}-authorise`);
assert.equal(held.amount.value, 1000);
assert.equal((await pay("authorise")).pspReference, held.pspReference, "the same key is the same payment");
told("authorise", { held: 1000 });

const captured = await pay("capture");
received(await modifications.captureAuthorisedPayment(captured.pspReference, amount(600), key("c1")), captured.pspReference);
told("capture", { captured: 600 });

const sold = await pay("sale", { manual: false });
assert.equal(sold.resultCode, "Authorised");
received(await modifications.refundCapturedPayment(sold.pspReference, amount(300), key("r1")), sold.pspReference);
received(await modifications.refundCapturedPayment(sold.pspReference, amount(700), key("r2")), sold.pspReference);
told("sale", { captured: 1000, refunded: 1000 });

const voided = await pay("void");
received(await modifications.cancelAuthorisedPaymentByPspReference(voided.pspReference, { merchantAccount: ACCOUNT }, key("v1")), voided.pspReference);
told("void", { held: 0 });

const refused = await pay("decline", { holder: "NOT_ENOUGH_BALANCE" });
assert.equal(refused.resultCode, "Refused");
assert.equal(refused.refusalReasonCode, "12");
told("decline", { held: 0 });

await assert.rejects(pay("error", { amount: { currency: "EUR", value: -1 } }), (error) => error.statusCode === 422 && Boolean(error.errorCode));
await assert.rejects(modifications.captureAuthorisedPayment("NOSUCHPAYMENT000", amount(1), key("unknown")), (error) => error.errorCode === "167");
await assert.rejects(api("wrong").payments.payments(payment("wrong-key")), (error) => error.statusCode === 401);
