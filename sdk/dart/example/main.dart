import 'dart:io';

import 'package:apisentinei/apisentinei.dart';

Future<void> main() async {
  final sentinel = APISentinel();
  final up = await sentinel.initialize(SentinelConfig(
    apiKey: Platform.environment['SENTINEL_API_KEY'] ?? 'sk_test_key',
    sentinelBaseUrl: 'http://localhost:8080',
    primaryGateway: 'stripe',
    secondaryGateway: 'paypal',
    primaryBaseUrl: 'https://api.stripe.com/v1',
    secondaryBaseUrl: 'https://api.paypal.com/v2',
  ));
  stdout.writeln(up ? 'Sentinel answers.' : 'Sentinel does not answer yet.');

  final response = await sentinel.postWithFailover(
    endpoint: '/charges',
    reference: 'order-1001',
    data: {
      'amount': '100',
      'currency': 'usd',
      'source': 'tok_visa',
      'description': 'API Sentinel Test Transaction',
    },
  );

  switch (response.error) {
    case null:
      stdout.writeln('Paid at ${response.gatewayUsed}: ${response.success?['id']}');
      if (response.failoverUsed) {
        stdout.writeln('Failed over in ${response.recoveryTime} ms');
      }
    case SentinelInDoubt(:final idempotencyKey):
      stdout.writeln('Not known yet. Ask again with the key $idempotencyKey, never with a new one.');
    case SentinelDeclined(:final message, :final code):
      stdout.writeln('Declined ($code): $message');
    case final error:
      stdout.writeln('Not paid: $error');
  }
  sentinel.close();
}
