//! Ids of Stripe's form, made from seeds: the same payment always has the same ids.

use sha2::{Digest, Sha256};

use crate::gateway::canonical::ObjectKind;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 62 to the fifth.
const FIVE_DIGITS: u64 = 916_132_832;

/// `len` base-62 digits of a digest. Up to 42 digits are independent: 250 bits.
fn digits(domain: &str, parts: &[&[u8]], len: usize) -> String {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    for part in parts {
        hash.update([0]);
        hash.update(part);
    }
    let digest = hash.finalize();
    let (words, _) = digest.as_chunks::<4>();
    let mut number: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    let mut text = String::with_capacity(len);
    while text.len() < len {
        // Five digits at a time: a long division each would be most of what a payment's ids cost.
        let mut rest = 0_u64;
        for word in &mut number {
            let value = (rest << 32) | u64::from(*word);
            *word = u32::try_from(value / FIVE_DIGITS).unwrap_or_default();
            rest = value % FIVE_DIGITS;
        }
        for _ in 0..5.min(len - text.len()) {
            text.push(DIGITS.get((rest % 62) as usize).copied().map_or('0', char::from));
            rest /= 62;
        }
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

/// The id of an event that Sentinel tells of: the `index`th of the same news.
pub fn event(seed: &[u8; 16], index: usize) -> String {
    format!("evt_3{}", digits("event", &[seed, &index.to_be_bytes()], 23))
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
    fn ids_are_for_ever_the_same() {
        assert_eq!(mint(ObjectKind::Payment, &[7; 16]), "pi_3OWZIUMXOHHVzY5NBRtlddUt");
        assert_eq!(mint(ObjectKind::RequestId, &[7; 16]), "req_Yma1B1NwXnvY0p");
    }

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
