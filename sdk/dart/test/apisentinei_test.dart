import 'dart:async';
import 'dart:convert';

import 'package:apisentinei/apisentinei.dart';
import 'package:http/http.dart' as http;
import 'package:http/testing.dart';
import 'package:test/test.dart';

const config = SentinelConfig(
  apiKey: 'sk_test_key',
  sentinelBaseUrl: 'http://localhost:8080',
  primaryGateway: 'stripe',
  secondaryGateway: 'paypal',
  primaryBaseUrl: 'https://api.stripe.com/v1',
  secondaryBaseUrl: 'https://api.paypal.com/v2',
);

/// A client whose answers come from [answers], one after the other; what it got is in [seen].
Future<APISentinel> clientOf(
  List<http.Response Function(http.Request)> answers,
  List<http.Request> seen, {
  SentinelKeyStore? keyStore,
  SentinelConfig using = config,
}) async {
  var next = 0;
  final mock = MockClient((request) async {
    if (request.url.path.endsWith('/api/v1/status')) {
      return http.Response('{"status":"ok"}', 200);
    }
    seen.add(request);
    return answers[next++](request);
  });
  final sentinel = APISentinel(httpClient: mock, keyStore: keyStore);
  expect(await sentinel.initialize(using), isTrue);
  return sentinel;
}

http.Response json(int status, Object body, [Map<String, String> headers = const {}]) =>
    http.Response(jsonEncode(body), status, headers: {'content-type': 'application/json', 'retry-after': '0', ...headers});

void main() {
  test('a payment goes to the primary gateway through Sentinel, form-encoded, with the key', () async {
    final seen = <http.Request>[];
    final sentinel = await clientOf([(_) => json(200, {'id': 'ch_1', 'status': 'succeeded'})], seen);
    final response = await sentinel.postWithFailover(
      endpoint: '/charges',
      data: {
        'amount': '5000',
        'currency': 'usd',
        'metadata': {'order': 'a b'},
        'expand': ['customer'],
      },
    );
    expect(response.success?['id'], 'ch_1');
    expect(response.error, isNull);
    expect(response.failoverUsed, isFalse);
    expect(response.gatewayUsed, 'stripe');
    final request = seen.single;
    expect(request.url.toString(), 'http://localhost:8080/stripe/v1/charges');
    expect(request.headers['authorization'], 'Bearer sk_test_key');
    expect(request.headers['idempotency-key'], response.idempotencyKey);
    expect(request.body, 'amount=5000&currency=usd&metadata[order]=a+b&expand[0]=customer');
  });

  test('a failover is told with the gateway and the time it took', () async {
    final sentinel = await clientOf([
      (_) => json(200, {'id': 'ch_2', 'status': 'succeeded'}, {
            'sentinel-gateway': 'paypal',
            'sentinel-failover': 'true; reason=not_sent',
            'sentinel-recovery-time': '840',
          }),
    ], []);
    final response = await sentinel.postWithFailover(endpoint: 'charges', data: {'amount': 5000});
    expect(response.gatewayUsed, 'paypal');
    expect(response.failoverUsed, isTrue);
    expect(response.recoveryTime, 840);
  });

  test('what is sent again is the same request under the same key', () async {
    final seen = <http.Request>[];
    final sentinel = await clientOf([
      (_) => json(409, {'error': {'message': 'in progress'}}, {'sentinel-outcome': 'unknown'}),
      (_) => throw http.ClientException('reset'),
      (_) => json(200, {'id': 'ch_3'}),
    ], seen);
    final response = await sentinel.postWithFailover(endpoint: '/charges', data: {'amount': 1});
    expect(response.success?['id'], 'ch_3');
    expect(response.attempts, 3);
    expect(seen.map((request) => request.headers['idempotency-key']).toSet(), hasLength(1));
    expect(seen.map((request) => request.body).toSet(), hasLength(1));
  });

  test('an unknown outcome is in doubt, and its reference keeps the key until it is known', () async {
    final seen = <http.Request>[];
    final store = MemoryKeyStore();
    const once = SentinelConfig(
      apiKey: 'sk_test_key',
      sentinelBaseUrl: 'http://localhost:8080',
      primaryGateway: 'stripe',
      secondaryGateway: 'paypal',
      primaryBaseUrl: 'https://api.stripe.com/v1',
      secondaryBaseUrl: 'https://api.paypal.com/v2',
      maxRetries: 0,
    );
    final sentinel = await clientOf([
      (_) => json(504, {'error': {'message': 'unknown'}}, {'sentinel-outcome': 'unknown', 'sentinel-payment': 'p1'}),
      (_) => json(200, {'id': 'ch_4'}),
      (_) => json(200, {'id': 'ch_5'}),
    ], seen, keyStore: store, using: once);
    Future<SentinelResponse> pay() =>
        sentinel.postWithFailover(endpoint: '/charges', data: {'amount': 1}, reference: 'order-7');
    final first = await pay();
    expect(first.error, isA<SentinelInDoubt>().having((error) => error.payment, 'payment', 'p1'));
    final second = await pay();
    expect(second.success?['id'], 'ch_4');
    expect(second.idempotencyKey, first.idempotencyKey);
    final third = await pay();
    expect(third.idempotencyKey, isNot(first.idempotencyKey));
  });

  test('not sent is no doubt, unless an earlier attempt may have arrived', () async {
    final refused = {'error': {'message': 'circuit open'}};
    final none = await clientOf(
      [for (var n = 0; n < 5; n++) (_) => json(503, refused, {'sentinel-outcome': 'not_sent'})],
      [],
    );
    final unavailable = await none.postWithFailover(endpoint: '/charges', data: {'amount': 1});
    expect(unavailable.error, isA<SentinelUnavailable>());
    final after = await clientOf(
      [
        (_) => json(504, refused, {'sentinel-outcome': 'unknown'}),
        for (var n = 0; n < 4; n++) (_) => json(503, refused, {'sentinel-outcome': 'not_sent'}),
      ],
      [],
    );
    final doubt = await after.postWithFailover(endpoint: '/charges', data: {'amount': 1});
    expect(doubt.error, isA<SentinelInDoubt>());
  });

  test('declines and refusals have types of their own and are not sent again', () async {
    final seen = <http.Request>[];
    final sentinel = await clientOf([
      (_) => json(402, {'error': {'type': 'card_error', 'code': 'card_declined', 'message': 'Declined.'}}),
      (_) => json(400, {'error': {'type': 'invalid_request_error', 'message': 'Missing amount.'}}),
      (_) => json(200, {'id': 'pi_1', 'status': 'requires_action'}),
    ], seen);
    final declined = await sentinel.postWithFailover(endpoint: '/charges', data: {'amount': 1});
    expect(declined.error, isA<SentinelDeclined>().having((error) => error.code, 'code', 'card_declined'));
    expect('${declined.error}', 'Declined.');
    final rejected = await sentinel.postWithFailover(endpoint: '/charges', data: {});
    expect(rejected.error, isA<SentinelRejected>());
    final action = await sentinel.postWithFailover(endpoint: '/payment_intents', data: {'amount': 1});
    expect(action.error, isA<SentinelActionRequired>());
    expect(seen, hasLength(3));
  });

  test('an amount is never a double, however deep', () async {
    final sentinel = await clientOf([], []);
    Future<void> pay(Map<String, Object?> data) => sentinel.postWithFailover(endpoint: '/charges', data: data);
    await expectLater(pay({'amount': 19.99}), throwsArgumentError);
    await expectLater(
      pay({
        'items': [
          {'price': 1.5},
        ],
      }),
      throwsArgumentError,
    );
  });

  test('gateways other than Stripe get JSON, and PayPal its own key header', () async {
    final seen = <http.Request>[];
    const paypal = SentinelConfig(
      apiKey: 'sk_test_key',
      sentinelBaseUrl: 'http://localhost:8080/',
      primaryGateway: 'paypal',
      secondaryGateway: 'stripe',
      primaryBaseUrl: 'https://api.paypal.com/v2/',
      secondaryBaseUrl: 'https://api.stripe.com/v1',
    );
    final sentinel = await clientOf([(_) => json(201, {'id': 'O1', 'status': 'COMPLETED'})], seen, using: paypal);
    final response = await sentinel.postWithFailover(
      endpoint: '/checkout/orders',
      data: {'intent': 'CAPTURE'},
      idempotencyKey: 'k-1',
    );
    expect(response.success?['id'], 'O1');
    expect(seen.single.url.toString(), 'http://localhost:8080/paypal/v2/checkout/orders');
    expect(seen.single.headers['paypal-request-id'], 'k-1');
    expect(seen.single.body, '{"intent":"CAPTURE"}');
  });

  test('a configuration that cannot work is refused, with the field named', () async {
    SentinelConfig changed({String key = 'sk_x', String base = 'http://localhost:8080', String second = 'paypal'}) =>
        SentinelConfig(
          apiKey: key,
          sentinelBaseUrl: base,
          primaryGateway: 'stripe',
          secondaryGateway: second,
          primaryBaseUrl: 'https://api.stripe.com/v1',
          secondaryBaseUrl: 'https://api.paypal.com/v2',
        );
    for (final bad in [
      changed(key: 'pk_1'),
      changed(base: 'localhost:8080'),
      changed(base: 'http://sentinel.example.com'),
      changed(second: 'stripe'),
      changed(second: '../x'),
    ]) {
      await expectLater(APISentinel().initialize(bad), throwsArgumentError);
    }
    await expectLater(
      APISentinel().postWithFailover(endpoint: '/charges', data: const {}),
      throwsStateError,
    );
  });

  test('a Sentinel that is not up yet does not keep the application from starting', () async {
    final sentinel = APISentinel(httpClient: MockClient((_) async => throw http.ClientException('refused')));
    expect(await sentinel.initialize(config), isFalse);
    expect(sentinel.isInitialized, isTrue);
  });
}
