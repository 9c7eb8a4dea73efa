// The official Razorpay SDK for Node: every payment operation, against whatever answers at BASE.
//
// usage: razorpay_node.mjs NODE_MODULES BASE REFERENCE
//
// Prints one line of JSON for each order paid, as the Python client does.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, base, prefix] = process.argv.slice(2);
const Razorpay = createRequire(`${modules}/`)("razorpay");

const client = (secret) => {
  const api = new Razorpay({ key_id: "rzp_test_sandbox", key_secret: secret });
  // The SDK has no option for it.
  api.api.rq.defaults.baseURL = base;
  return api;
};
const api = client("sandbox");
const told = (reference, what) => console.log(JSON.stringify({ reference, ...what }));
const refused = (text, call) => assert.rejects(call, (error) => String(error.error?.description).includes(text));

const order = async (name, capture = "automatic") =>
  (await api.orders.create({
    amount: 50000, currency: "INR", receipt: `${prefix}-${name}`,
    payment: { capture, capture_options: { automatic_expiry_period: 12, manual_expiry_period: 7200 } },
  })).id;
const charge = async (orderId, token = "token_1Aa00000000001") =>
  (await api.payments.createRecurringPayment({
    email: "a@example.com", contact: "9000090000", amount: 50000, currency: "INR", order_id: orderId,
    customer_id: "cust_1Aa00000000001", token, recurring: true,
  })).razorpay_payment_id;
const becomes = async (id, status) => {
  for (let tries = 0; ; tries += 1) {
    const payment = await api.payments.fetch(id);
    if (payment.status === status) return payment;
    assert.ok(tries < 200, `${id} is ${payment.status}`);
    await new Promise((later) => setTimeout(later, 20));
  }
};

const heldOrder = await order("authorise", "manual");
assert.equal((await becomes(await charge(heldOrder), "authorized")).captured, false);
told(heldOrder, { held: 50000 });

const capturedOrder = await order("capture", "manual");
const captured = await becomes(await charge(capturedOrder), "authorized");
assert.equal((await api.payments.capture(captured.id, 50000, "INR")).status, "captured");
await refused("already been captured", () => api.payments.capture(captured.id, 50000, "INR"));
told(capturedOrder, { captured: 50000 });

const soldOrder = await order("sale");
const sold = await becomes(await charge(soldOrder), "captured");
for (const amount of [20000, 30000]) {
  const refund = await api.payments.refund(sold.id, { amount, receipt: `${prefix}-${amount}` });
  assert.equal((await api.refunds.fetch(refund.id)).payment_id, sold.id);
}
await refused("fully refunded", () => api.payments.refund(sold.id, { amount: 100 }));
told(soldOrder, { captured: 50000, refunded: 50000 });

const declinedOrder = await order("decline");
const declined = await becomes(await charge(declinedOrder, "token_Declined000001"), "failed");
assert.equal(declined.error_reason, "card_declined");
told(declinedOrder, { held: 0 });

await refused("does not exist", () => api.payments.fetch("pay_00000000000000"));
await refused("Authentication failed", () => client("wrong").payments.fetch(sold.id));
