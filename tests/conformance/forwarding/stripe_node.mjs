// The official Stripe SDK for Node, unmodified but for host, port and protocol: prints what each call answered.
// usage: stripe_node.mjs PORT
import crypto from 'node:crypto';
import http from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(process.env.CONFORMANCE_NODE + '/');
const Stripe = require('stripe');
const stripe = new (Stripe.default ?? Stripe)('sk_test_123', {
  host: '127.0.0.1', port: Number(process.argv[2]), protocol: 'http', maxNetworkRetries: 0,
});

// The SDK parses the body away; the raw bytes are overheard as the response emits them. Listening would start the flow
// before the SDK listens.
let raw = null;
const emit = http.IncomingMessage.prototype.emit;
http.IncomingMessage.prototype.emit = function (event, ...args) {
  if (event === 'data') (this.overheard ??= []).push(Buffer.from(args[0]));
  if (event === 'end') raw = { status: this.statusCode, body: Buffer.concat(this.overheard ?? []) };
  return emit.call(this, event, ...args);
};

const calls = {
  'payment_intents.create': () => stripe.paymentIntents.create(
    { amount: 2000, currency: 'usd', payment_method: 'pm_card_visa', confirm: true, payment_method_types: ['card'],
      metadata: { order_id: '6735', 'a b': 'Jürgen & Söhne' } }, { idempotencyKey: 'conformance-1' }),
  'payment_intents.retrieve': () => stripe.paymentIntents.retrieve('pi_123', { expand: ['payment_method', 'customer'] }),
  'payment_intents.confirm': () => stripe.paymentIntents.confirm('pi_123', { payment_method: 'pm_card_visa' }),
  'payment_intents.capture': () => stripe.paymentIntents.capture('pi_123', { amount_to_capture: 750 }),
  'payment_intents.cancel': () => stripe.paymentIntents.cancel('pi_123'),
  'payment_intents.list': () => stripe.paymentIntents.list({ limit: 3, created: { gte: 1 } }),
  'charges.create': () => stripe.charges.create({ amount: 5000, currency: 'usd', source: 'tok_visa' }),
  'charges.retrieve': () => stripe.charges.retrieve('ch_123'),
  'charges.list': () => stripe.charges.list({ limit: 2 }),
  'refunds.create': () => stripe.refunds.create({ payment_intent: 'pi_123', amount: 500 }),
  'refunds.retrieve': () => stripe.refunds.retrieve('re_123'),
  'refunds.list': () => stripe.refunds.list({ payment_intent: 'pi_123' }),
  'customers.create': () => stripe.customers.create({ email: 'jenny@example.com', address: { line1: '1 Main', city: 'Köln' } }),
  'customers.del': () => stripe.customers.del('cus_123'),
  'payment_methods.attach': () => stripe.paymentMethods.attach('pm_123', { customer: 'cus_123' }),
  'setup_intents.create': () => stripe.setupIntents.create({ payment_method_types: ['card'] }),
  'checkout.sessions.create': () => stripe.checkout.sessions.create(
    { mode: 'payment', success_url: 'https://shop.example/ok?a=1&b=2',
      line_items: [{ price: 'price_123', quantity: 2 }, { price: 'price_456', quantity: 1 }] }),
  'balance.retrieve': () => stripe.balance.retrieve(),
  'error.unknown_parameter': () => stripe.paymentIntents.create({ amount: 2000, currency: 'usd', bogus: 'x' }),
  'error.missing_parameter': () => stripe.paymentIntents.create({ currency: 'usd' }),
};

for (const [call, run] of Object.entries(calls)) {
  raw = null;
  try { await run(); } catch (error) { if (!raw) throw error; }
  console.log(JSON.stringify({ call, status: raw.status, bytes: raw.body.length,
    sha256: crypto.createHash('sha256').update(raw.body).digest('hex') }));
}
