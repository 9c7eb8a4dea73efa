// The official Adyen SDK for Node, one operation at a time.
//
// usage: adyen_node.mjs NODE_MODULES BASE REFERENCE DECLINED_NUMBER DECLINED_HOLDER     (BASE with the version)
//
// The SDK's own transport speaks https only; the application hands it another one.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix, badNumber, badHolder] = process.argv.slice(2);
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

const merchantAccount = "AcmeECOM";
const checkout = new CheckoutAPI(new Client({ apiKey: "sandbox", environment: EnvironmentEnum.TEST }, new PlainHttp()));
// Each access makes a new object: these two are kept.
const [payments, modifications] = [checkout.PaymentsApi, checkout.ModificationsApi];
payments.baseUrl = base;
modifications.baseUrl = base;
const amount = (value) => ({ currency: "USD", value });

async function pay(name, { manual = false, number = "4242424242424242", holder = "J. Smith", result = "Authorised" } = {}) {
  const answer = await payments.payments(
    {
      amount: amount(2000), reference: `${prefix}-${name}`, merchantAccount, returnUrl: "https://shop.example/return",
      paymentMethod: { type: "scheme", number, expiryMonth: "03", expiryYear: "2030", cvc: "737", holderName: holder },
      ...(manual ? { additionalData: { manualCapture: "true" } } : { captureDelayHours: 0 }),
    },
    { idempotencyKey: `${prefix}-${name}` },
  );
  assert.equal(answer.resultCode, result);
  assert.equal(answer.merchantReference, `${prefix}-${name}`);
  return answer;
}
async function modified(call, name, psp, value) {
  const body = { merchantAccount, reference: `${prefix}-${name}-m`, ...(value ? { amount: amount(value) } : {}) };
  const answer = await modifications[call](psp, body, { idempotencyKey: `${prefix}-${name}-m` });
  assert.equal(answer.status, "received");
  assert.equal(answer.paymentPspReference, psp);
}

const operations = {
  create: async () => {
    assert.equal((await pay("create")).amount.value, 2000);
    return { captured: 2000 };
  },
  authorise: async () => {
    await pay("authorise", { manual: true });
    return { held: 2000 };
  },
  capture: async () => {
    await modified("captureAuthorisedPayment", "capture", (await pay("capture", { manual: true })).pspReference, 2000);
    return { captured: 2000 };
  },
  "partial capture": async () => {
    await modified("captureAuthorisedPayment", "partial capture", (await pay("partial capture", { manual: true })).pspReference, 800);
    return { captured: 800 };
  },
  refund: async () => {
    await modified("refundCapturedPayment", "refund", (await pay("refund")).pspReference, 2000);
    return { captured: 2000, refunded: 2000 };
  },
  "partial refund": async () => {
    await modified("refundCapturedPayment", "partial refund", (await pay("partial refund")).pspReference, 500);
    return { captured: 2000, refunded: 500 };
  },
  void: async () => {
    await modified("cancelAuthorisedPaymentByPspReference", "void", (await pay("void", { manual: true })).pspReference);
    return {};
  },
  decline: async () => {
    assert.ok((await pay("decline", { number: badNumber, holder: badHolder, result: "Refused" })).refusalReasonCode);
    return {};
  },
  error: async () => {
    const body = { merchantAccount, amount: amount(1) };
    await assert.rejects(modifications.captureAuthorisedPayment("NOSUCHPAYMENT000", body, { idempotencyKey: `${prefix}-error` }), (error) => {
      if (error.statusCode !== 422) throw error;
      assert.equal(error.errorCode, "167");
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
    if (error instanceof HttpClientException) line.refused = error.errorCode ?? `status ${error.statusCode}`;
    else line.failed = String(error.message ?? error);
  }
  console.log(JSON.stringify(line));
}
