// The official Adyen SDK for Node, one operation at a time.
//
// usage: adyen_node.mjs NODE_MODULES BASE REFERENCE CASE     (see run.py)
//
// The SDK's own transport speaks https only; the application hands it another one.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix, given] = process.argv.slice(2);
const wanted = JSON.parse(given);
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
payments.baseUrl = `${base}/v71`;
modifications.baseUrl = `${base}/v71`;
const amount = (value) => ({ currency: wanted.currency, value });

// While the outcome is being found out, the same key asks again.
async function decided(call) {
  for (const patience = Date.now() + 60_000; ; ) {
    try {
      const answer = await call();
      if (answer.resultCode !== "Received" || Date.now() > patience) return answer;
    } catch (error) {
      if (!["704", "903"].includes(error.errorCode) || Date.now() > patience) throw error;
    }
    await new Promise((later) => setTimeout(later, 50));
  }
}
function source(good) {
  if (wanted.card) {
    const [number, holderName] = good ? ["4242424242424242", "J. Smith"] : [wanted.number, wanted.holder];
    return { paymentMethod: { type: "scheme", number, expiryMonth: "03", expiryYear: "2030", cvc: "737", holderName } };
  }
  const [storedPaymentMethodId, shopperReference] = good ? ["8415698462516992", "shopper-1"] : ["DECLINED00000012", "shopper-2"];
  const how = wanted.mandate
    ? { shopperInteraction: "ContAuth", recurringProcessingModel: "UnscheduledCardOnFile", shopperEmail: "a@example.com", telephoneNumber: "9000090000" }
    : { shopperInteraction: "Ecommerce", recurringProcessingModel: "CardOnFile" };
  return { paymentMethod: { type: "scheme", storedPaymentMethodId }, shopperReference, ...how };
}
// Where the taker gives back a part only of what is settled, which happens at night, the night comes now.
async function night() {
  if (wanted.night) assert.ok((await fetch(wanted.night, { method: "POST", body: '{"settle": "now"}' })).ok);
}
async function pay(name, { manual = false, good = true, value = 2000, result = "Authorised" } = {}) {
  const body = {
    amount: amount(value), reference: `${prefix}-${name}`, merchantAccount, returnUrl: "https://shop.example/return", ...source(good),
    ...(manual ? { additionalData: { manualCapture: "true" } } : { captureDelayHours: 0 }),
  };
  const answer = await decided(() => payments.payments(body, { idempotencyKey: `${prefix}-${name}` }));
  assert.equal(answer.resultCode, result);
  assert.equal(answer.merchantReference, `${prefix}-${name}`);
  return answer;
}
async function modified(call, name, psp, value) {
  const body = { merchantAccount, reference: `${prefix}-${name}-m`, ...(value ? { amount: amount(value) } : {}) };
  const answer = await modifications[call](psp, body, { idempotencyKey: `${prefix}-${name}-m${value}` });
  assert.equal(answer.status, "received");
  assert.equal(answer.paymentPspReference, psp);
}

const operations = {
  sale: async () => {
    assert.equal((await pay("sale")).amount.value, 2000);
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
  "captures in parts": async () => {
    const held = (await pay("captures in parts", { manual: true })).pspReference;
    for (const value of [500, 700]) await modified("captureAuthorisedPayment", "captures in parts", held, value);
    return { captured: 1200, held: 800 };
  },
  refund: async () => {
    await modified("refundCapturedPayment", "refund", (await pay("refund")).pspReference, 2000);
    return { captured: 2000, refunded: 2000 };
  },
  "partial refund": async () => {
    const paid = (await pay("partial refund")).pspReference;
    await night();
    await modified("refundCapturedPayment", "partial refund", paid, 500);
    return { captured: 2000, refunded: 500 };
  },
  void: async () => {
    await modified("cancelAuthorisedPaymentByPspReference", "void", (await pay("void", { manual: true })).pspReference);
    return {};
  },
  // Adyen has no call that shows a payment: the same request under the same key is how it is asked about.
  retrieve: async () => {
    assert.equal((await pay("retrieve")).pspReference, (await pay("retrieve")).pspReference);
    return { captured: 2000 };
  },
  decline: async () => {
    assert.ok((await pay("decline", { good: false, value: wanted.decline_amount, result: "Refused" })).refusalReasonCode);
    return {};
  },
  error: async () => {
    const held = (await pay("error", { manual: true })).pspReference;
    await assert.rejects(modified("captureAuthorisedPayment", "error", held, -1), (error) => {
      if (![400, 422].includes(error.statusCode)) throw error;
      assert.ok(error.errorCode);
      return true;
    });
    return { held: 2000 };
  },
};

for (const [operation, run] of Object.entries(operations)) {
  if (Boolean(wanted.only) !== (operation === "captures in parts")) continue;
  const line = { operation, reference: `${prefix}-${operation}` };
  try {
    line.told = await run();
  } catch (error) {
    if (error instanceof HttpClientException) line.refused = error.errorCode ?? `status ${error.statusCode}`;
    else line.failed = String(error.message ?? error);
  }
  console.log(JSON.stringify(line));
}
