//! Ids of Stripe's form, made from seeds: the same payment always has the same ids.

use sha2::{Digest, Sha256};

use crate::gateway::canonical::ObjectKind;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `len` base-62 digits of a digest. Up to 42 digits are independent: 250 bits.
fn digits(domain: &str, parts: &[&[u8]], len: usize) -> String {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    for part in parts {
        hash.update([0]);
        hash.update(part);
    }
    let mut number: Vec<u8> = hash.finalize().to_vec();
    let mut text = String::with_capacity(len);
    for _ in 0..len {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or_default();
            rest = value % 62;
        }
        text.push(DIGITS.get(rest as usize).copied().map_or('0', char::from));
    }
    text
}

/// Mints an id.
pub fn mint(kind: ObjectKind, seed: &[u8; 16]) -> String {
    match kind {
        ObjectKind::Payment => format!("pi_3{}", digits("payment", &[seed], 23)),
        ObjectKind::Charge => format!("ch_3{}", digits("charge", &[seed], 23)),
        ObjectKind::Refund => format!("re_3{}", digits("refund", &[seed], 23)),
        // A capture is no object of its own at Stripe; its balance transaction is what names it.
        ObjectKind::Capture => format!("txn_3{}", digits("capture", &[seed], 23)),
        ObjectKind::Instrument => format!("pm_1{}", digits("instrument", &[seed], 23)),
        ObjectKind::RequestId => format!("req_{}", digits("request", &[seed], 14)),
    }
}

/// The client secret of a minted intent. It opens nothing: no browser can confirm an intent that Stripe does not know.
pub fn client_secret(intent: &str) -> String {
    format!("{intent}_secret_{}", digits("client_secret", &[intent.as_bytes()], 25))
}

/// A request id for an answer that no payment stands behind.
pub fn request_id(parts: &[&[u8]]) -> String {
    format!("req_{}", digits("own_error", parts, 14))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_have_stripes_form_and_differ_by_kind_and_seed() {
        let mut seen = HashSet::new();
        for seed in 0..200_u8 {
            for kind in [
                ObjectKind::Payment,
                ObjectKind::Charge,
                ObjectKind::Refund,
                ObjectKind::Instrument,
            ] {
                let id = mint(kind, &[seed; 16]);
                assert_eq!(id.len(), 27, "{id}");
                assert_eq!(id, mint(kind, &[seed; 16]));
                assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
                assert!(seen.insert(id.get(3..).map(str::to_owned)));
            }
        }
    }
}
