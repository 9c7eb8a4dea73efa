//! How Braintree signs notifications: HMAC-SHA1 in hexadecimal, under the SHA-1 of the private key, beside the public key
//! that names it. The payload is base64 in lines, and signed as it is sent.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::gateway::announcement::hex;

/// The characters of a line of base64 (RFC 2045 section 6.8 allows 76, Ruby writes 60).
const LINE: usize = 60;

/// A payload: base64 in lines, each with its end.
pub(super) fn payload(xml: &str) -> String {
    let text = STANDARD.encode(xml);
    let mut lines = String::with_capacity(text.len() + text.len() / LINE + 1);
    for line in text.as_bytes().chunks(LINE) {
        lines.extend(line.iter().copied().map(char::from));
        lines.push('\n');
    }
    lines
}

fn key(private_key: &str) -> hmac::Key {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, private_key.as_bytes());
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, digest.as_ref())
}

/// `public_key|signature`.
pub(super) fn sign(public_key: &str, private_key: &str, payload: &[u8]) -> String {
    let tag = hmac::sign(&key(private_key), payload);
    format!("{public_key}|{}", hex(tag.as_ref()))
}

/// Whether one of the pairs, joined by `&`, is this key's signature of the payload.
pub(super) fn holds(pairs: &str, public_key: &str, private_key: &str, payload: &[u8]) -> bool {
    let key = key(private_key);
    pairs
        .split('&')
        .filter_map(|pair| pair.split_once('|'))
        .filter(|(named, _)| *named == public_key)
        .filter_map(|(_, signature)| unhex(signature))
        .any(|given| hmac::verify(&key, payload, &given).is_ok())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.chunks(2).map(pair).collect()
}
