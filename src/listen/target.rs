//! What a request target, a host and an HTTP/2 request may look like. Pure.
//!
//! The path is checked and never changed: signatures and webhooks depend on its bytes. What is refused are the bytes that
//! servers normalise differently: dot segments (plain, percent-encoded, or with a `;` parameter), encoded slashes and
//! backslashes, encoded control bytes, broken percent-encodings, and the first bytes of overlong UTF-8. The query passes
//! as it is, raw brackets included (stripe-node sends them), but for control bytes, spaces, bytes above ASCII and `#`.

use http::{HeaderName, Request, Version, header};

use super::refusal::Violation;

/// Checks a target in origin form: path and query.
pub fn check_target(target: &[u8]) -> Result<(), Violation> {
    if target.first() != Some(&b'/') {
        return Err(Violation::Target);
    }
    let mut at = 0;
    while at < target.len() {
        let Some(plain) = target[at..].iter().position(|b| !PLAIN[*b as usize]) else {
            break;
        };
        at += plain;
        match target[at] {
            b'/' => {
                if begins_dot(&target[at + 1..]) && is_dot_segment(&target[at + 1..]) {
                    return Err(Violation::Path);
                }
                at += 1;
            }
            b'%' => {
                let decoded = decode(&target[at..]).ok_or(Violation::Path)?;
                if decoded < 0x20 || matches!(decoded, b'/' | b'\\' | 0x7f | 0xc0 | 0xc1) {
                    return Err(Violation::Path);
                }
                at += 3;
            }
            b'?' => return check_query(&target[at + 1..]),
            b'\\' => return Err(Violation::Path),
            _ => return Err(Violation::Target),
        }
    }
    Ok(())
}

fn check_query(query: &[u8]) -> Result<(), Violation> {
    let bad = query
        .iter()
        .fold(false, |bad, &b| bad | (b <= b' ') | (b >= 0x7f) | (b == b'#'));
    if bad { Err(Violation::Target) } else { Ok(()) }
}

/// Bytes of a path that need no second look: visible ASCII but for `/ % ? # \`.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = !matches!(byte as u8, b'/' | b'%' | b'?' | b'#' | b'\\');
        byte += 1;
    }
    table
};

/// Bytes of a host's name: letters, digits, `.`, `-`, `_`. Anything else ends it, and only a port may follow.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        byte += 1;
    }
    table
};

fn begins_dot(segment: &[u8]) -> bool {
    matches!(segment, [b'.', ..] | [b'%', b'2', b'e' | b'E', ..])
}

/// Whether the segment at the start of `rest` is `.` or `..` once decoded and without parameters.
fn is_dot_segment(mut rest: &[u8]) -> bool {
    let mut dots = 0;
    loop {
        match rest {
            [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => {
                dots += 1;
                rest = tail;
            }
            [] | [b'/' | b'?' | b';' | b'#' | b'\\', ..] | [b'%', b'3', b'b' | b'B', ..] => {
                return dots == 1 || dots == 2;
            }
            _ => return false,
        }
    }
}

fn decode(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    Some((char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?) as u8)
}

/// Checks `host[:port]`: letters, digits, `.`, `-`, `_`, or an IPv6 address in brackets, and a decimal port.
pub fn check_host(host: &[u8]) -> Result<(), Violation> {
    let (name, port) = if host.first() == Some(&b'[') {
        let end = host.iter().position(|b| *b == b']').ok_or(Violation::Host)?;
        let inner = &host[1..end];
        let text = std::str::from_utf8(inner).map_err(|_| Violation::Host)?;
        text.parse::<std::net::Ipv6Addr>().map_err(|_| Violation::Host)?;
        (inner, &host[end + 1..])
    } else {
        let end = host.iter().position(|b| !NAME[*b as usize]).unwrap_or(host.len());
        let name = &host[..end];
        (name, &host[end..])
    };
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => {
            !digits.is_empty()
                && digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0')) <= 65_535
        }
        _ => false,
    };
    if name.is_empty() || name.len() > 255 || !port_ok {
        Err(Violation::Host)
    } else {
        Ok(())
    }
}

/// Splits an absolute-form target into authority and the rest in origin form. `None` when it is not `http` or `https`, or
/// has no path.
pub fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = strip_scheme(target, b"http://").or_else(|| strip_scheme(target, b"https://"))?;
    let slash = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(slash);
    (origin.first() == Some(&b'/')).then_some((authority, origin))
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = target.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Whether a header name is a framing or host header written with underscores, which CGI-like servers read as one.
pub(super) fn is_alias(name: &[u8]) -> bool {
    const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];
    name.contains(&b'_')
        && FRAMING.iter().any(|framing| {
            framing.len() == name.len()
                && framing.iter().zip(name).all(|(f, n)| {
                    let n = if *n == b'_' { b'-' } else { n.to_ascii_lowercase() };
                    *f == n
                })
        })
}

/// Whether a method is served. Custom methods of upper-case letters and `-` pass: what Sentinel does not understand it
/// forwards.
pub(super) fn check_method(method: &[u8]) -> Result<(), Violation> {
    match method {
        b"GET" | b"POST" | b"PUT" | b"PATCH" | b"DELETE" | b"HEAD" | b"OPTIONS" => Ok(()),
        b"CONNECT" | b"TRACE" | b"TRACK" | b"PRI" => Err(Violation::MethodUnsupported),
        _ if method.is_empty() || method.len() > 24 => Err(Violation::Method),
        _ if method.iter().all(|b| b.is_ascii_uppercase() || *b == b'-') => Ok(()),
        _ => Err(Violation::Method),
    }
}

/// Checks the value of a `Connection` header: it must not name a header whose removal changes what a request means.
pub(super) fn check_connection(value: &[u8]) -> Result<(), Violation> {
    const KEPT: [&str; 9] = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "authorization",
        "idempotency-key",
        "paypal-request-id",
        "x-api-key",
    ];
    for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
        if KEPT.iter().any(|kept| kept.as_bytes().eq_ignore_ascii_case(option)) {
            return Err(Violation::ConnectionOption);
        }
    }
    Ok(())
}

/// Checks a request that arrived by HTTP/2, where framing is the protocol's own, by the same rules as the guard's for
/// HTTP/1.1. Connection-specific headers were refused by the h2 crate (RFC 9113 8.2.2); what it lets pass is caught here.
pub fn check_request<B>(request: &Request<B>) -> Result<(), Violation> {
    debug_assert!(request.version() == Version::HTTP_2);
    check_method(request.method().as_str().as_bytes())?;
    let uri = request.uri();
    check_target(uri.path_and_query().map_or("", |target| target.as_str()).as_bytes())?;
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Violation::HostRepeated);
    }
    match (uri.authority(), host) {
        (None, None) => return Err(Violation::HostMissing),
        (Some(authority), host) => {
            check_host(authority.as_str().as_bytes())?;
            if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())) {
                return Err(Violation::Host);
            }
        }
        (None, Some(host)) => check_host(host.as_bytes())?,
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Violation::ContentLengthRepeated);
    }
    for name in headers.keys() {
        if is_alias(name.as_str().as_bytes()) {
            return Err(Violation::HeaderAlias);
        }
    }
    let specific = |name: &HeaderName| headers.contains_key(name);
    if specific(&header::CONNECTION) || specific(&header::TRANSFER_ENCODING) || specific(&header::UPGRADE) {
        return Err(Violation::TransferEncoding);
    }
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Violation::Expectation),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_pass_with_their_bytes_untouched_or_not_at_all() {
        for good in [
            "/",
            "/v1/payment_intents/pi_1?expand[0]=charges&expand[1]=a..b/../c",
            "/v1/a.b/..c/...//x",
            "/merchants/m/transactions/a%20b%252e",
            "/.well-known/x",
            "/%e2%82%ac",
            "/v1/metadata[a[b]]|^`{}\"",
        ] {
            assert_eq!(check_target(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "/..",
            "/.",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e%2E/x",
            "/.%2e",
            "/..;/x",
            "/a/..;x=1",
            "/..%3bx/y",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%0A",
            "/%",
            "/%2",
            "/%zz",
            "/a%7f",
            "/%c0%ae%c0%ae/",
            "/../?x",
            "/..?x",
        ] {
            assert_eq!(check_target(bad.as_bytes()), Err(Violation::Path), "{bad}");
        }
        for bad in [
            "", "a", "*", "http:/", "/a b", "/a#b", "/a?b#c", "/a\tb", "/a?b\x01", "/\u{e9}", "/?\u{e9}", "/a?b c",
        ] {
            assert_eq!(check_target(bad.as_bytes()), Err(Violation::Target), "{bad}");
        }
    }

    #[test]
    fn hosts_are_a_name_and_a_port_and_nothing_else() {
        for good in [
            "localhost",
            "127.0.0.1:8081",
            "[::1]:8081",
            "[::1]",
            "api.stripe.com",
            "a_b-c.d:1",
        ] {
            assert_eq!(check_host(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:",
            "a:99999",
            "a:123456",
            "user@host",
            "a b",
            "a,b",
            "a/b",
            "[::1",
            "[x]",
            "[::1]x",
            "a:80:80",
            "a%00",
            "a?b",
            "a#b",
            "a\\b",
        ] {
            assert_eq!(check_host(bad.as_bytes()), Err(Violation::Host), "{bad}");
        }
    }

    #[test]
    fn an_underscore_does_not_smuggle_a_framing_header() {
        assert!(is_alias(b"Content_Length") && is_alias(b"transfer_Encoding"));
        assert!(!is_alias(b"content-length") && !is_alias(b"idempotency_key"));
    }
}
