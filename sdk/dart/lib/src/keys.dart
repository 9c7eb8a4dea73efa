import 'dart:math';

/// Keeps the idempotency key of a payment until its outcome is known, so that asking again can never be a second
/// payment. Implement it over durable storage where the application itself may be restarted in between.
abstract interface class SentinelKeyStore {
  /// The key kept under [reference], when there is one.
  Future<String?> read(String reference);

  /// Keeps [key] under [reference], before anything is sent.
  Future<void> write(String reference, String key);

  /// Forgets [reference]: its outcome is known.
  Future<void> remove(String reference);
}

/// Keeps keys for as long as the process lives.
final class MemoryKeyStore implements SentinelKeyStore {
  final Map<String, String> _keys = {};

  @override
  Future<String?> read(String reference) async => _keys[reference];

  @override
  Future<void> write(String reference, String key) async => _keys[reference] = key;

  @override
  Future<void> remove(String reference) async => _keys.remove(reference);
}

final Random _random = Random.secure();

/// A random UUID (RFC 9562, version 4).
String newIdempotencyKey() {
  final bytes = List<int>.generate(16, (_) => _random.nextInt(256));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  final hex = bytes.map((byte) => byte.toRadixString(16).padLeft(2, '0')).join();
  return '${hex.substring(0, 8)}-${hex.substring(8, 12)}-${hex.substring(12, 16)}'
      '-${hex.substring(16, 20)}-${hex.substring(20)}';
}
