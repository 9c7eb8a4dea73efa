//! What the credential of an application's request shows: whether it moves live money.
//!
//! Some gateways serve both modes at one address, and the key alone decides (`sk_test_`, `rzp_live_`). A payment of the one
//! mode is never taken with credentials of the other: customers would be charged for a test, or goods given away for one.
//! Nor does a fence in the one mode prove anything about the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use zeroize::Zeroizing;

/// The user of `Basic`, or the token of `Bearer`; `None` where there is not exactly one header that has either.
pub fn basic_or_bearer(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Zeroizing::new(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = Zeroizing::new(STANDARD.decode(rest).ok()?);
    let user = std::str::from_utf8(&pair).ok()?.split(':').next()?;
    Some(Zeroizing::new(user.to_owned()))
}

/// Whether a key of one of these kinds is a live one; `None` where it is no such key.
pub fn live(key: &str, kinds: &[&str]) -> Option<bool> {
    let (kind, rest) = key.split_once('_')?;
    let (mode, _) = rest.split_once('_')?;
    match mode {
        _ if !kinds.contains(&kind) => None,
        "live" => Some(true),
        "test" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_its_mode_or_nothing() {
        let shown = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            live(&basic_or_bearer(&headers)?, &["sk", "rk"])
        };
        assert_eq!(shown(&["Bearer sk_live_1"]), Some(true));
        assert_eq!(shown(&["bearer rk_test_1"]), Some(false));
        assert_eq!(shown(&["Basic c2tfbGl2ZV8xOg=="]), Some(true), "curl's -u");
        for nothing in [
            &["Bearer pk_live_1"] as &[&str],
            &["Bearer sk_snt_live_1"],
            &["Bearer sk_1"],
            &["Digest sk_live_1"],
            &["Basic !"],
            &["Bearer sk_live_1", "Bearer sk_test_1"],
            &[],
        ] {
            assert_eq!(shown(nothing), None, "{nothing:?}");
        }
    }
}
