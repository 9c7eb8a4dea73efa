//! What crosses the proxy in a head, and what does not (RFC 9110 7.6, safety.md 5.3).
//!
//! Everything end-to-end passes with its value untouched and in its order. Hop-by-hop fields stop here. Fields that
//! only Sentinel may write are removed from requests before ours are added.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Fields that a client may not make hop-by-hop by naming them in `Connection`: dropping them would change what the
/// request means or who it is from.
const PROTECTED: [&str; 8] = [
    "authorization",
    "host",
    "idempotency-key",
    "paypal-request-id",
    "x-api-key",
    "cookie",
    "stripe-account",
    "stripe-signature",
];

/// A head that cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// `Connection` names a field that carries meaning or identity.
    #[error("Connection names a field that must reach the gateway")]
    ProtectedNominated,
}

/// What one look at a head's names found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Something has to go.
    drops: bool,
    /// `Connection` is there, and may name more that has to go.
    connection: bool,
    /// `traceparent` is there.
    traceparent: bool,
}

impl Survey {
    /// Looks at every name once: a look-up for each field of interest costs as much as the whole pass.
    fn of(headers: &HeaderMap, drop: impl Fn(&str) -> bool) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            let name = name.as_str();
            found.drops |= drop(name);
            found.connection |= name == "connection";
            found.traceparent |= name == "traceparent";
        }
        found
    }

    /// Looks at a request's head.
    pub fn of_request(headers: &HeaderMap) -> Self {
        Self::of(headers, stays_here)
    }

    /// Whether the request may name a trace.
    pub const fn names_trace(&self) -> bool {
        self.traceparent
    }

    /// Removes what must not be forwarded from the head of the request that was looked at.
    ///
    /// # Errors
    /// When `Connection` nominates a protected field: silently obeying would strip a key or a credential, silently
    /// ignoring would forward what RFC 9110 says to drop.
    pub fn strip_request(&self, headers: &mut HeaderMap) -> Result<(), HeaderError> {
        if self.drops {
            let nominated = self.nominated(headers);
            for name in &nominated {
                let name = name.as_str();
                if PROTECTED.contains(&name) || name.starts_with("content-") {
                    return Err(HeaderError::ProtectedNominated);
                }
            }
            strip(headers, &nominated, stays_here);
        }
        Ok(())
    }

    fn nominated(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        if !self.connection {
            return Vec::new();
        }
        headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
            .filter(|name| name != header::CONNECTION && name.as_str() != "close")
            .collect()
    }
}

/// Removes hop-by-hop fields, and any `Sentinel-*` field a gateway might have sent, from an answer's head.
pub fn strip_response(headers: &mut HeaderMap) {
    // Trailer fields pass with the body, and HTTP/1.1 sends only those that its head names.
    let drop = |name: &str| (hop_by_hop(name) && name != "trailer") || name.starts_with("sentinel-");
    let found = Survey::of(headers, drop);
    if found.drops {
        strip(headers, &found.nominated(headers), drop);
    }
}

fn hop_by_hop(name: &str) -> bool {
    match name.len() {
        2 => name == "te",
        6 => name == "expect",
        7 => name == "upgrade" || name == "trailer",
        10 => name == "connection" || name == "keep-alive",
        17 => name == "transfer-encoding",
        _ => name.starts_with("proxy-") && name != "proxy-status",
    }
}

/// Fields of a request that end here.
fn stays_here(name: &str) -> bool {
    hop_by_hop(name)
        || match name.as_bytes().first() {
            Some(b's') => name.starts_with("sentinel-"),
            Some(b'b' | b'f' | b'h' | b'x') => forwarded(name),
            _ => false,
        }
}

/// Fields that tell the gateway about the network in front of Sentinel, or about the application's own context: its own
/// business, and forgeable.
fn forwarded(name: &str) -> bool {
    name == "forwarded" || name.starts_with("x-forwarded-") || name == "baggage" || name == "http2-settings"
}

/// `HeaderMap::remove` moves the last field into the hole; to keep the order, the map is rebuilt.
fn strip(headers: &mut HeaderMap, nominated: &[HeaderName], drop: impl Fn(&str) -> bool) {
    let goes = |name: &HeaderName| drop(name.as_str()) || nominated.contains(name);
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut last: Option<HeaderName> = None;
    for (name, value) in std::mem::take(headers) {
        // An iterator over values of one name yields the name once.
        let name = match name {
            Some(name) => last.insert(name).clone(),
            None => match &last {
                Some(name) => name.clone(),
                None => continue,
            },
        };
        if !goes(&name) {
            kept.append(name, value);
        }
    }
    *headers = kept;
}

/// Parses a header value that Sentinel made. Bytes that a header cannot hold become `?`.
pub fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let clean: String = text
            .chars()
            .map(|c| if (' '..='~').contains(&c) { c } else { '?' })
            .collect();
        HeaderValue::from_str(&clean).unwrap_or(HeaderValue::from_static("?"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        map
    }

    fn strip_request(map: &mut HeaderMap) -> Result<(), HeaderError> {
        Survey::of_request(map).strip_request(map)
    }

    fn names(map: &HeaderMap) -> Vec<String> {
        map.iter()
            .map(|(name, value)| format!("{name}:{}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn end_to_end_fields_keep_their_order_and_repetition() {
        let mut headers = map(&[
            ("accept", "a"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("x-many", "1"),
            ("x-many", "2"),
            ("authorization", "Bearer x"),
            ("sentinel-instrument", "y"),
            ("x-forwarded-for", "1.2.3.4"),
            ("te", "trailers"),
            ("baggage", "tier=gold"),
            ("user-agent", "sdk"),
        ]);
        strip_request(&mut headers).unwrap();
        assert_eq!(
            names(&headers),
            [
                "accept:a",
                "x-many:1",
                "x-many:2",
                "authorization:Bearer x",
                "user-agent:sdk"
            ]
        );
    }

    #[test]
    fn a_head_with_nothing_to_drop_passes_as_it_is() {
        let mut headers = map(&[("traceparent", "00-x"), ("proxy-status", "a"), ("x-real", "1")]);
        assert!(Survey::of_request(&headers).names_trace());
        strip_request(&mut headers).unwrap();
        assert_eq!(names(&headers), ["traceparent:00-x", "proxy-status:a", "x-real:1"]);
    }

    #[test]
    fn a_client_cannot_nominate_identity_or_meaning_away() {
        for name in ["Authorization", "idempotency-key", "Content-Length", "host"] {
            let mut headers = map(&[("connection", name)]);
            assert_eq!(
                strip_request(&mut headers),
                Err(HeaderError::ProtectedNominated),
                "{name}"
            );
        }
    }

    #[test]
    fn answers_lose_hop_by_hop_fields_only() {
        let mut headers = map(&[
            ("keep-alive", "timeout=5"),
            ("request-id", "req_1"),
            ("sentinel-payment", "forged"),
        ]);
        strip_response(&mut headers);
        assert_eq!(names(&headers), ["request-id:req_1"]);
    }
}
