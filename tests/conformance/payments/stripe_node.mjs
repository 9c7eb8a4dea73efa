// The official Stripe SDK for Node: every payment operation, against whatever answers at BASE.
//
// usage: stripe_node.mjs NODE_MODULES BASE REFERENCE
//
// Prints one line of JSON for each payment made, in cents, as the Python client does.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix] = process.argv.slice(2);
const required = createRequire(`${modules}/`)("stripe");
const Stripe = required.default ?? required.Stripe ?? required;
const { hostname, port, protocol } = new URL(base);
const client = (key) => new Stripe(key, { host: hostname, port, protocol: protocol.replace(":", ""), maxNetworkRetries: 0 });
const stripe = client("sk_test_sandbox");

const key = (name) => ({ idempotencyKey: `${prefix}-${name}` });
const told = (name, what) => console.log(JSON.stringify({ reference: `${prefix}-${name}`, ...what }));
const pay = (name, { method = "pm_card_visa", capture = "automatic", ...more } = {}) =>
  stripe.paymentIntents.create(
    {
      amount: 2000, currency: "usd", payment_method: method, confirm: true, capture_method: capture,
      allowed_payment_method_types: ["card"], metadata: { order_id: `${prefix}-${name}` }, ...more,
    },
    key(name),
  );
const refused = (promise, type, fields) =>
  assert.rejects(promise, (error) => {
    assert.equal(error.type, type);
    for (const [name, value] of Object.entries(fields)) assert.equal(error[name], value, name);
    assert.match(error.requestId, /^req_/);
    return true;
  });

const sale = await pay("sale", { expand: ["latest_charge"] });
assert.equal(sale.status, "succeeded");
assert.equal(sale.latest_charge.payment_method_details.card.last4, "4242");
assert.equal(sale.lastResponse.statusCode, 200);
const again = await pay("sale", { expand: ["latest_charge"] });
assert.equal(again.id, sale.id, "the same key is the same payment");
assert.equal(again.lastResponse.headers["idempotent-replayed"], "true");
await refused(pay("sale", { amount: 2001 }), "StripeIdempotencyError", { statusCode: 400 });
const part = await stripe.refunds.create({ payment_intent: sale.id, amount: 500 }, key("r1"));
assert.equal(part.status, "succeeded");
const rest = await stripe.refunds.create({ payment_intent: sale.id }, key("r2"));
assert.equal((await stripe.refunds.retrieve(rest.id)).amount, 1500);
const refunds = await stripe.refunds.list({ payment_intent: sale.id }).autoPagingToArray({ limit: 10 });
assert.deepEqual(refunds.map((one) => one.id), [rest.id, part.id]);
assert.equal((await stripe.charges.retrieve(sale.latest_charge.id)).refunded, true);
await refused(stripe.refunds.create({ payment_intent: sale.id }, key("r3")), "StripeInvalidRequestError", { code: "charge_already_refunded" });
told("sale", { captured: 2000, refunded: 2000 });

const held = await pay("authorise", { capture: "manual" });
assert.equal(held.status, "requires_capture");
assert.equal(held.amount_capturable, 2000);
told("authorise", { held: 2000 });

const toCapture = await pay("capture", { capture: "manual" });
const taken = await stripe.paymentIntents.capture(toCapture.id, { amount_to_capture: 800 }, key("c1"));
assert.equal(taken.amount_received, 800);
const seen = await stripe.paymentIntents.retrieve(taken.id, { expand: ["latest_charge", "payment_method"] });
assert.equal(seen.latest_charge.amount_captured, 800);
assert.equal(seen.payment_method.card.brand, "visa");
told("capture", { captured: 800 });

const toVoid = await pay("void", { capture: "manual" });
const voided = await stripe.paymentIntents.cancel(toVoid.id, { cancellation_reason: "abandoned" }, key("v1"));
assert.equal(voided.status, "canceled");
await refused(stripe.paymentIntents.capture(toVoid.id, {}, key("c2")), "StripeInvalidRequestError", { code: "payment_intent_unexpected_state" });
told("void", { held: 0 });

const later = await stripe.paymentIntents.create(
  { amount: 2000, currency: "usd", allowed_payment_method_types: ["card"], metadata: { order_id: `${prefix}-confirm` } }, key("later"));
await refused(stripe.paymentIntents.confirm(later.id, { payment_method: "pm_card_visa_chargeDeclined" }, key("confirm-1")), "StripeCardError", { code: "card_declined", decline_code: "generic_decline" });
assert.equal((await stripe.paymentIntents.confirm(later.id, { payment_method: "pm_card_mastercard" }, key("confirm-2"))).status, "succeeded");
told("confirm", { captured: 2000 });

const customer = await stripe.customers.create({ email: "jenny@example.com" }, key("customer"));
const method = await stripe.paymentMethods.create({ type: "card", card: { token: "tok_visa" } }, key("method"));
await stripe.paymentMethods.attach(method.id, { customer: customer.id }, key("attach"));
assert.equal((await stripe.paymentMethods.list({ customer: customer.id, type: "card" })).data[0].id, method.id);
const saved = await pay("saved", { method: method.id, customer: customer.id, off_session: true });
assert.equal(saved.customer, customer.id);
assert.equal((await stripe.paymentIntents.list({ customer: customer.id, limit: 5 })).data[0].id, saved.id);
told("saved", { captured: 2000 });

await refused(pay("decline", { method: "pm_card_chargeDeclinedInsufficientFunds" }), "StripeCardError", { statusCode: 402, decline_code: "insufficient_funds" });
told("decline", { held: 0 });

const challenge = await pay("challenge", { method: "pm_card_authenticationRequired", return_url: "https://shop.example/back" });
assert.equal(challenge.next_action.type, "redirect_to_url");
told("challenge", { held: 0 });

const legacy = await stripe.charges.create({ amount: 1000, currency: "usd", source: "tok_visa", capture: false, metadata: { order_id: `${prefix}-charge` } }, key("charge"));
assert.equal((await stripe.charges.capture(legacy.id, { amount: 400 }, key("charge-c"))).amount_captured, 400);
told("charge", { captured: 400 });

await refused(stripe.paymentIntents.create({ currency: "usd" }, key("missing")), "StripeInvalidRequestError", { code: "parameter_missing", param: "amount" });
await refused(stripe.paymentIntents.retrieve("pi_nobody"), "StripeInvalidRequestError", { code: "resource_missing", statusCode: 404 });
await refused(client("sk_test_wrong").balance.retrieve(), "StripeAuthenticationError", { statusCode: 401 });
assert.equal((await stripe.balance.retrieve()).object, "balance");
const events = await stripe.events.list({ limit: 100 });
assert.ok(events.data.some((event) => event.type === "payment_intent.succeeded"));
