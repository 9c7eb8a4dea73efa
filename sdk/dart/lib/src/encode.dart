import 'dart:convert';

/// A request's body as the gateway's API wants it.
({String contentType, String body}) encodeBody(String gateway, Map<String, Object?> data) {
  refuseDoubles(data, 'data');
  // Stripe's API is form-encoded; the others speak JSON.
  if (gateway == 'stripe') {
    final pairs = <String>[];
    data.forEach((key, value) => _form(Uri.encodeQueryComponent(key), value, pairs));
    return (contentType: 'application/x-www-form-urlencoded', body: pairs.join('&'));
  }
  return (contentType: 'application/json', body: jsonEncode(data));
}

/// A double is not an amount: `19.99` is stored as 19.989999999999998. Send `'1999'`, `1999`, or the decimal as text.
void refuseDoubles(Object? value, String path) {
  switch (value) {
    case double() when value is! int: // on the web every int is a double, too
      throw ArgumentError.value(
        value,
        path,
        'is a double; send an int of minor units or a decimal as text, because a double cannot hold an amount exactly',
      );
    case Map<Object?, Object?>():
      value.forEach((key, inner) => refuseDoubles(inner, '$path.$key'));
    case Iterable<Object?>():
      var index = 0;
      for (final inner in value) {
        refuseDoubles(inner, '$path[${index++}]');
      }
    default:
      break;
  }
}

void _form(String name, Object? value, List<String> pairs) {
  switch (value) {
    case null:
      break;
    case Map<Object?, Object?>():
      value.forEach((key, inner) => _form('$name[${Uri.encodeQueryComponent('$key')}]', inner, pairs));
    case Iterable<Object?>():
      var index = 0;
      for (final inner in value) {
        _form('$name[${index++}]', inner, pairs);
      }
    default:
      pairs.add('$name=${Uri.encodeQueryComponent('$value')}');
  }
}
