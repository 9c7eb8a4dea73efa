/// Why a payment did not succeed. Switch over it: the kinds differ in what may be done next.
sealed class SentinelException implements Exception {
  /// An error with a message for people.
  const SentinelException(this.message, {this.statusCode, this.body});

  /// What happened and what to do, for people.
  final String message;

  /// The status of the last answer, when there was one.
  final int? statusCode;

  /// The last answer's body, decoded, when it was JSON.
  final Map<String, Object?>? body;

  @override
  String toString() => message;
}

/// The gateway declined: the customer's bank said no. No money moved; a new payment with another card is fine.
final class SentinelDeclined extends SentinelException {
  /// A decline.
  const SentinelDeclined(super.message, {super.statusCode, super.body, this.code});

  /// The gateway's own code, e.g. `card_declined`.
  final String? code;
}

/// The request was refused for what it says: a missing field, a bad key, a reused idempotency key. No money moved.
final class SentinelRejected extends SentinelException {
  /// A refusal.
  const SentinelRejected(super.message, {super.statusCode, super.body, this.code});

  /// The gateway's or Sentinel's own code, when there is one.
  final String? code;
}

/// The customer has to do something first (3-D Secure). The payment exists; `body` says where to send the customer.
final class SentinelActionRequired extends SentinelException {
  /// An action that is asked for.
  const SentinelActionRequired(super.message, {super.statusCode, super.body});
}

/// It is not known whether money moved. **Never send it again under a new key**: call again with [idempotencyKey], or
/// with the same `reference`, and Sentinel tells the outcome as soon as it is proven.
final class SentinelInDoubt extends SentinelException {
  /// An unknown outcome.
  const SentinelInDoubt(
    super.message, {
    super.statusCode,
    super.body,
    required this.idempotencyKey,
    this.payment,
  });

  /// The key that asks about this payment.
  final String idempotencyKey;

  /// Sentinel's id of the payment, for support.
  final String? payment;
}

/// No gateway got the payment. No money moved, and the same call may be made again.
final class SentinelUnavailable extends SentinelException {
  /// Nothing was sent.
  const SentinelUnavailable(super.message, {super.statusCode, super.body});
}
