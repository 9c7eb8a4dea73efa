import 'errors.dart';

/// What became of a payment.
final class SentinelResponse {
  /// A result. Exactly one of [success] and [error] is set.
  const SentinelResponse({
    this.success,
    this.error,
    this.gatewayUsed,
    this.failoverUsed = false,
    this.recoveryTime,
    this.payment,
    this.statusCode,
    required this.idempotencyKey,
    required this.attempts,
  });

  /// The gateway's answer, in the shape of the primary gateway, when the payment succeeded; else `null`.
  final Map<String, Object?>? success;

  /// Why it did not succeed; `null` when it did.
  final SentinelException? error;

  /// The gateway that took the payment, or answered last.
  final String? gatewayUsed;

  /// Whether another gateway than the first took it.
  final bool failoverUsed;

  /// How long the failover took, in milliseconds; `null` without one.
  final int? recoveryTime;

  /// Sentinel's id of the payment, when it follows it.
  final String? payment;

  /// The status of the last answer; `null` when there was none.
  final int? statusCode;

  /// The key under which the payment was sent.
  final String idempotencyKey;

  /// How often the request was sent.
  final int attempts;
}
