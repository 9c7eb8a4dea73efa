/// Sends payments through an API Sentinel sidecar.
///
/// ```dart
/// final sentinel = APISentinel();
/// await sentinel.initialize(SentinelConfig(
///   apiKey: Platform.environment['SENTINEL_API_KEY']!,
///   sentinelBaseUrl: 'http://localhost:8080',
///   primaryGateway: 'stripe',
///   secondaryGateway: 'paypal',
///   primaryBaseUrl: 'https://api.stripe.com/v1',
///   secondaryBaseUrl: 'https://api.paypal.com/v2',
/// ));
/// final response = await sentinel.postWithFailover(
///   endpoint: '/charges',
///   data: {'amount': '5000', 'currency': 'usd', 'source': token},
/// );
/// ```
library;

export 'src/client.dart' show APISentinel;
export 'src/config.dart' show SentinelConfig;
export 'src/errors.dart';
export 'src/keys.dart' show MemoryKeyStore, SentinelKeyStore;
export 'src/response.dart' show SentinelResponse;
