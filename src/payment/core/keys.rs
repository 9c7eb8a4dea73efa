//! Idempotency keys at gateways are a function of the payment (safety rule D6): every replica, and every start after a
//! crash, meets the same lock. A fresh key on a retry is a double charge.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::gateway::Leg;

/// Which key an attempt carries. The ledger stores this, never the key itself: applications' keys sometimes contain
/// personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "key", rename_all = "snake_case")]
pub enum Key {
    /// The application's own, verbatim: an application that speaks to the gateway directly meets the same lock.
    Application,
    /// Made by [`derive`] from the payment, the gateway, the leg and `nth`.
    Derived {
        /// The n-th follow-up of this leg; 0 for Sentinel's own attempts; see [`Key::BY_ID`] for fences.
        nth: u16,
    },
}

impl Key {
    /// Marks a fence that names its target's object. Until the object's id is known, a fence claims its target's key. The
    /// two differ in what they prove and in what they can end, so that they are never sent as one attempt.
    pub const BY_ID: Self = Self::Derived { nth: 1 };

    /// The mark of a fence, by whether its target's id is known.
    pub(super) const fn fence(by_id: bool) -> Self {
        if by_id { Self::BY_ID } else { Self::Derived { nth: 0 } }
    }
}

/// How many characters of base32 a derived key has: 180 bits, and short enough for every gateway but those that the
/// capabilities name.
pub const KEY_LEN: usize = 36;

/// The key of an attempt: base32(HMAC-SHA-256(secret, payment, gateway, leg, nth)), the first `max` characters of at
/// most [`KEY_LEN`]. `max` is the gateway's limit; 0 means that the gateway takes none, and gives an empty key.
pub fn derive(secret: &[u8], payment: &str, gateway: &str, leg: Leg, nth: u16, max: usize) -> String {
    // HMAC takes keys of any length; an error is impossible, and an empty key would be visible at once.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    let leg = match leg {
        Leg::Charge => "charge",
        Leg::Auth => "auth",
        Leg::Capture => "capture",
        Leg::Void => "void",
        Leg::Refund => "refund",
        Leg::Fence => "fence",
        Leg::Lookup => "lookup",
    };
    for part in [
        payment.as_bytes(),
        gateway.as_bytes(),
        leg.as_bytes(),
        &nth.to_be_bytes(),
    ] {
        // Lengths are part of the input, so that no two tuples give the same bytes.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    let mut text = base32(&mac.finalize().into_bytes());
    text.truncate(KEY_LEN.min(max));
    text
}

/// RFC 4648 base32 in lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0u16, 0u8);
    for &byte in bytes {
        buffer = (buffer << 8) | u16::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(ALPHABET[usize::from((buffer >> bits) & 31)] as char);
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(ALPHABET[usize::from((buffer << (5 - bits)) & 31)] as char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_follows_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(plain.as_bytes()), text);
        }
    }

    #[test]
    fn a_key_is_a_function_of_the_payment_and_nothing_else() {
        let key = |payment, gateway, leg, nth| derive(b"secret", payment, gateway, leg, nth, 255);
        let base = key("p1", "adyen", Leg::Charge, 0);
        assert_eq!(base.len(), KEY_LEN);
        assert_eq!(base, key("p1", "adyen", Leg::Charge, 0));
        let others = [
            key("p2", "adyen", Leg::Charge, 0),
            key("p1", "stripe", Leg::Charge, 0),
            key("p1", "adyen", Leg::Auth, 0),
            key("p1", "adyen", Leg::Charge, 1),
            key("p1a", "dyen", Leg::Charge, 0),
            derive(b"other", "p1", "adyen", Leg::Charge, 0, 255),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(*other, base);
            assert!(!others[..i].contains(other));
        }
        assert_eq!(derive(b"secret", "p1", "adyen", Leg::Charge, 0, 20), base[..20]);
        assert_eq!(derive(b"secret", "p1", "adyen", Leg::Charge, 0, 0), "");
    }
}
