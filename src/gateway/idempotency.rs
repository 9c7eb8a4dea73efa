//! Idempotency keys as headers carry them.
//!
//! A key that two parties could read differently is a way around every guarantee that rests on it: two headers, an empty
//! one, bytes outside visible ASCII. Those are refused here, never repaired.

use http::HeaderMap;

use super::canonical::Refusal;

/// The key in the header `name`, which must be the only one, 1 to `max` bytes of visible ASCII (spaces inside allowed).
pub fn header_key(headers: &HeaderMap, name: &str, max: usize) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::IdempotencyKey(format!("more than one {name} header")));
    }
    let bytes = value.as_bytes();
    if bytes.is_empty() {
        return Err(Refusal::IdempotencyKey("empty".to_owned()));
    }
    if bytes.len() > max {
        return Err(Refusal::IdempotencyKey(format!("longer than {max} bytes")));
    }
    if !bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
        || bytes.first() == Some(&b' ')
        || bytes.last() == Some(&b' ')
    {
        return Err(Refusal::IdempotencyKey("not visible ASCII".to_owned()));
    }
    Ok(std::str::from_utf8(bytes).ok().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn with(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_one_plain_key_is_a_key() {
        let key = |values: &[&[u8]]| header_key(&with(values), "idempotency-key", 64);
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&[b"order 1"]), Ok(Some("order 1".to_owned())));
        for bad in [
            &[b"a".as_slice(), b"a"] as &[&[u8]],
            &[b""],
            &[b"\xc3\xa9"],
            &[b"a\tb"],
            &[b" a"],
            &[b"a "],
            &[&[b'a'; 65]],
        ] {
            assert!(matches!(key(bad), Err(Refusal::IdempotencyKey(_))), "{bad:?}");
        }
    }
}
