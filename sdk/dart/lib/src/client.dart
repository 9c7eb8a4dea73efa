import 'dart:async';
import 'dart:convert';
import 'dart:math';

import 'package:http/http.dart' as http;

import 'config.dart';
import 'encode.dart';
import 'errors.dart';
import 'keys.dart';
import 'response.dart';

/// Sends payments through an API Sentinel sidecar.
///
/// One instance serves the whole application. Every payment carries an idempotency key; when a request has to be sent
/// again, it is the same request under the same key, so it can never become a second payment.
class APISentinel {
  /// A client. [httpClient] and [keyStore] are for tests and for durable keys; without them, both are the package's own.
  APISentinel({http.Client? httpClient, SentinelKeyStore? keyStore})
      : _http = httpClient ?? http.Client(),
        _keys = keyStore ?? MemoryKeyStore();

  final http.Client _http;
  final SentinelKeyStore _keys;
  final Random _random = Random();

  SentinelConfig? _config;
  late Uri _base;
  late String _path;

  /// Whether [initialize] has completed.
  bool get isInitialized => _config != null;

  /// Checks the configuration and whether Sentinel answers.
  ///
  /// Throws an [ArgumentError] for a configuration that cannot work. A Sentinel that does not answer yet is no error:
  /// the sidecar may start after the application. Returns whether it answered.
  Future<bool> initialize(SentinelConfig config) async {
    _base = _checkedBase(config);
    _path = _trimmed(Uri.parse(config.primaryBaseUrl).path);
    _config = config;
    try {
      final answer = await _http.get(_base.resolve('${_base.path}/api/v1/status')).timeout(const Duration(seconds: 2));
      return answer.statusCode == 200;
    } on TimeoutException {
      return false;
    } on Exception {
      return false;
    }
  }

  /// Takes a payment at the primary gateway, and at the secondary when Sentinel finds that safe.
  ///
  /// [endpoint] and [data] are the primary gateway's own (`/charges`, `/payment_intents`, ...). Amounts are ints of minor
  /// units or text; a double anywhere in [data] is an [ArgumentError].
  ///
  /// [reference] is the application's own name for this payment (an order number). A call with the same reference uses
  /// the same idempotency key until the outcome is known. [idempotencyKey] sets the key outright. With neither, the key
  /// is random and lives as long as the call.
  Future<SentinelResponse> postWithFailover({
    required String endpoint,
    required Map<String, Object?> data,
    String? reference,
    String? idempotencyKey,
  }) async {
    final config = _config;
    if (config == null) {
      throw StateError('call initialize() before postWithFailover()');
    }
    final encoded = encodeBody(config.primaryGateway, data);
    final key = await _keyFor(reference, idempotencyKey);
    final url = _urlOf(config, endpoint);
    final deadline = DateTime.now().add(config.deadline);
    var mayHaveArrived = false;
    for (var attempt = 1;; attempt++) {
      final reply = await _send(config, url, encoded, key);
      // What was unknown once stays unknown until an answer settles it: a later "not sent" speaks of that attempt only.
      mayHaveArrived = mayHaveArrived || reply.mayHaveArrived;
      final pause = _pause(attempt, reply);
      final again = reply.retry && attempt <= config.maxRetries && DateTime.now().add(pause).isBefore(deadline);
      if (again) {
        await Future<void>.delayed(pause);
        continue;
      }
      final response = _result(config, reply, key, attempt, mayHaveArrived);
      if (reference != null && response.error is! SentinelInDoubt) {
        await _keys.remove(reference);
      }
      return response;
    }
  }

  /// Closes the connections.
  void close() => _http.close();

  Future<String> _keyFor(String? reference, String? given) async {
    if (given != null) {
      if (given.isEmpty || given.length > 255) {
        throw ArgumentError.value(given, 'idempotencyKey', 'must have 1 to 255 characters');
      }
      return given;
    }
    if (reference == null) {
      return newIdempotencyKey();
    }
    final kept = await _keys.read(reference);
    if (kept != null) {
      return kept;
    }
    final key = newIdempotencyKey();
    await _keys.write(reference, key);
    return key;
  }

  Uri _urlOf(SentinelConfig config, String endpoint) {
    final path = endpoint.startsWith('/') ? endpoint : '/$endpoint';
    return _base.resolve('${_base.path}/${config.primaryGateway}$_path$path');
  }

  Future<_Reply> _send(
    SentinelConfig config,
    Uri url,
    ({String contentType, String body}) encoded,
    String key,
  ) async {
    final request = http.Request('POST', url)
      ..followRedirects = false
      ..headers['content-type'] = encoded.contentType
      ..headers['authorization'] = 'Bearer ${config.apiKey}'
      ..headers['user-agent'] = 'apisentinei-dart/1.0.0'
      ..bodyBytes = utf8.encode(encoded.body);
    request.headers[_keyHeader(config.primaryGateway)] = key;
    try {
      final streamed = await _http.send(request).timeout(config.attemptTimeout);
      final answer = await http.Response.fromStream(streamed).timeout(config.attemptTimeout);
      return _Reply.of(answer);
    } on TimeoutException {
      return const _Reply.lost('Sentinel did not answer in time');
    } on Exception catch (error) {
      // Not even a refused connection is told apart here: the platforms word it differently, and the key makes asking
      // again safe in either case.
      return _Reply.lost('the connection to Sentinel failed: $error');
    }
  }

  /// PayPal's API has a header of its own for the key.
  static String _keyHeader(String gateway) => gateway == 'paypal' ? 'paypal-request-id' : 'idempotency-key';

  Duration _pause(int attempt, _Reply reply) {
    final asked = reply.retryAfter;
    if (asked != null) {
      return asked;
    }
    final ceiling = 250 * pow(2, min(attempt, 6) - 1).toInt();
    return Duration(milliseconds: ceiling ~/ 2 + _random.nextInt(ceiling ~/ 2 + 1));
  }

  SentinelResponse _result(SentinelConfig config, _Reply reply, String key, int attempts, bool mayHaveArrived) {
    final error = _error(reply, key, mayHaveArrived);
    return SentinelResponse(
      success: error == null ? reply.body ?? const <String, Object?>{} : null,
      error: error,
      gatewayUsed: reply.gateway ?? (reply.statusCode == null ? null : config.primaryGateway),
      failoverUsed: reply.failover,
      recoveryTime: reply.recoveryTime,
      payment: reply.payment,
      statusCode: reply.statusCode,
      idempotencyKey: key,
      attempts: attempts,
    );
  }

  SentinelException? _error(_Reply reply, String key, bool mayHaveArrived) {
    final status = reply.statusCode;
    final message = reply.message;
    SentinelInDoubt inDoubt(String text) => SentinelInDoubt(
          text,
          statusCode: status,
          body: reply.body,
          idempotencyKey: key,
          payment: reply.payment,
        );
    if (status == null) {
      return inDoubt('$message; ask again with the same key');
    }
    if (reply.outcome == 'unknown' || reply.outcome == 'in_doubt') {
      return inDoubt(message ?? 'the outcome is not known yet; ask again with the same key');
    }
    if (status >= 200 && status < 300) {
      return switch (reply.body?['status']) {
        'requires_action' || 'PAYER_ACTION_REQUIRED' => SentinelActionRequired(
            'the customer has to authenticate',
            statusCode: status,
            body: reply.body,
          ),
        'requires_payment_method' || 'canceled' || 'failed' || 'FAILED' || 'DECLINED' => SentinelDeclined(
            message ?? 'the payment was declined',
            statusCode: status,
            body: reply.body,
            code: reply.code,
          ),
        _ => null,
      };
    }
    if (reply.outcome == 'not_sent') {
      return mayHaveArrived
          ? inDoubt('an earlier attempt may have arrived; ask again with the same key')
          : SentinelUnavailable(message ?? 'no gateway could be reached', statusCode: status, body: reply.body);
    }
    if (status == 402 || reply.errorType == 'card_error') {
      return SentinelDeclined(message ?? 'the payment was declined', statusCode: status, body: reply.body, code: reply.code);
    }
    if (status >= 500 || status == 409 || status == 429 || status == 408) {
      return inDoubt(message ?? 'the gateway failed with status $status; ask again with the same key');
    }
    return SentinelRejected(message ?? 'refused with status $status', statusCode: status, body: reply.body, code: reply.code);
  }

  static Uri _checkedBase(SentinelConfig config) {
    if (!config.apiKey.startsWith('sk_')) {
      throw ArgumentError('apiKey is a Sentinel API key and starts with sk_');
    }
    for (final (name, gateway) in [
      ('primaryGateway', config.primaryGateway),
      ('secondaryGateway', config.secondaryGateway),
    ]) {
      if (!RegExp(r'^[a-z0-9][a-z0-9_-]*$').hasMatch(gateway)) {
        throw ArgumentError.value(gateway, name, 'is a gateway as Sentinel names it: lower-case letters, digits, - and _');
      }
    }
    if (config.primaryGateway == config.secondaryGateway) {
      throw ArgumentError.value(config.secondaryGateway, 'secondaryGateway', 'is the primary gateway');
    }
    for (final (name, url) in [
      ('sentinelBaseUrl', config.sentinelBaseUrl),
      ('primaryBaseUrl', config.primaryBaseUrl),
      ('secondaryBaseUrl', config.secondaryBaseUrl),
    ]) {
      final parsed = Uri.tryParse(url);
      if (parsed == null || !(parsed.isScheme('http') || parsed.isScheme('https')) || parsed.host.isEmpty) {
        throw ArgumentError.value(url, name, 'is not an http or https URL');
      }
    }
    final base = Uri.parse(config.sentinelBaseUrl);
    const loopback = {'localhost', '127.0.0.1', '::1', '10.0.2.2'};
    if (base.isScheme('http') && !loopback.contains(base.host)) {
      throw ArgumentError.value(
        config.sentinelBaseUrl,
        'sentinelBaseUrl',
        'sends the API key in clear text; use https, or the sidecar on localhost',
      );
    }
    return base.replace(path: _trimmed(base.path));
  }

  static String _trimmed(String path) => path.endsWith('/') ? path.substring(0, path.length - 1) : path;
}

/// One answer, or none.
final class _Reply {
  const _Reply.lost(this.message)
      : statusCode = null,
        body = null,
        headers = const {};

  const _Reply._(this.statusCode, this.body, this.headers, this.message);

  factory _Reply.of(http.Response answer) {
    Map<String, Object?>? body;
    try {
      final decoded = jsonDecode(utf8.decode(answer.bodyBytes));
      if (decoded is Map<String, Object?>) {
        body = decoded;
      }
    } on FormatException {
      body = null;
    }
    return _Reply._(answer.statusCode, body, answer.headers, _messageOf(body));
  }

  final int? statusCode;
  final Map<String, Object?>? body;
  final Map<String, String> headers;
  final String? message;

  String? get outcome => headers['sentinel-outcome']?.split(';').first.trim();
  String? get gateway => headers['sentinel-gateway'];
  String? get payment => headers['sentinel-payment'];
  bool get failover => headers['sentinel-failover']?.split(';').first.trim() == 'true';
  int? get recoveryTime => int.tryParse(headers['sentinel-recovery-time'] ?? '');

  Duration? get retryAfter {
    final seconds = int.tryParse(headers['retry-after'] ?? '');
    return seconds == null || seconds < 0 || seconds > 60 ? null : Duration(seconds: seconds);
  }

  Map<Object?, Object?>? get _errorObject => switch (body?['error']) {
        final Map<Object?, Object?> error => error,
        _ => null,
      };

  String? get errorType => _errorObject?['type']?.toString();

  String? get code => (_errorObject?['code'] ?? body?['code'] ?? body?['errorCode'] ?? body?['name'])?.toString();

  bool get mayHaveArrived => statusCode == null || outcome == 'unknown' || outcome == 'in_doubt';

  /// Whether the same request may be sent again under the same key: no answer, not sent, not settled yet, or the
  /// gateway's own trouble.
  bool get retry {
    final status = statusCode;
    if (status == null) {
      return true;
    }
    final should = headers['stripe-should-retry'];
    if (should == 'true') {
      return true;
    }
    if (should == 'false') {
      return false;
    }
    return status == 408 || status == 409 || status == 429 || status >= 500;
  }

  static String? _messageOf(Map<String, Object?>? body) {
    final error = body?['error'];
    final inner = error is Map<Object?, Object?> ? error['message'] ?? error['description'] : null;
    return (inner ?? body?['message'] ?? body?['detail'] ?? body?['error_description'])?.toString();
  }
}
