/// Where Sentinel is, and which gateways the application speaks to.
final class SentinelConfig {
  /// A configuration. Nothing is contacted and nothing is checked before `APISentinel.initialize`.
  const SentinelConfig({
    required this.apiKey,
    required this.sentinelBaseUrl,
    required this.primaryGateway,
    required this.secondaryGateway,
    required this.primaryBaseUrl,
    required this.secondaryBaseUrl,
    this.attemptTimeout = const Duration(seconds: 35),
    this.maxRetries = 4,
    this.deadline = const Duration(seconds: 90),
  });

  /// The Sentinel API key (`sk_...`). It belongs on a server: who holds it can take payments in your name.
  final String apiKey;

  /// Sentinel's address, e.g. `http://localhost:8080`. Plain http is accepted for loopback addresses only.
  final String sentinelBaseUrl;

  /// The gateway whose API the application speaks: `stripe`, `paypal`, `braintree`, `square`, `razorpay`, `adyen`, or
  /// the name of a custom one.
  final String primaryGateway;

  /// The gateway that takes the payment when the first one cannot.
  final String secondaryGateway;

  /// The base URL that the application used before, e.g. `https://api.stripe.com/v1`. Only its path is used: the
  /// requests go to Sentinel.
  final String primaryBaseUrl;

  /// The second gateway's base URL. Sentinel knows how to reach it; this package never calls it, because only the
  /// sidecar can know whether a payment may be sent there.
  final String secondaryBaseUrl;

  /// How long to wait for one answer. Longer than Sentinel's own deadline for a payment, so that Sentinel is the one
  /// to say what is known. Default 35 s.
  final Duration attemptTimeout;

  /// How often the same request, with the same idempotency key, is sent again. Default 4.
  final int maxRetries;

  /// How long all attempts may take together. Default 90 s.
  final Duration deadline;

  @override
  String toString() => 'SentinelConfig($primaryGateway -> $secondaryGateway at $sentinelBaseUrl)';
}
