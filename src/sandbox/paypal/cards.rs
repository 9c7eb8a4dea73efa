//! What PayPal's sandbox makes of a card, and the decimals PayPal takes.

use serde_json::Value;

/// Cardholder names that choose a processor's answer, as published.
const NAMES: [(&str, &str); 9] = [
    ("CCREJECT-REFUSED", "0500"),
    ("CCREJECT-SF", "9500"),
    ("CCREJECT-EC", "5400"),
    ("CCREJECT-IRC", "5180"),
    ("CCREJECT-IF", "5120"),
    ("CCREJECT-LS", "9520"),
    ("CCREJECT-IA", "1330"),
    ("CCREJECT-BANK_ERROR", "5100"),
    ("CCREJECT-CVV_F", "00N7"),
];

/// The processor's code for a card: `None` when it approves.
pub(super) fn decline(card: &Value) -> Option<String> {
    let text = |name: &str| card.get(name).and_then(Value::as_str).unwrap_or_default();
    if let Some(code) = text("vault_id").strip_prefix("DECLINE-") {
        return Some(code.to_owned());
    }
    NAMES
        .iter()
        .find(|(name, _)| *name == text("name"))
        .map(|(_, code)| (*code).to_owned())
}

pub(super) fn brand(number: &str) -> &'static str {
    match number.as_bytes() {
        [b'4', ..] => "VISA",
        [b'5', ..] | [b'2', ..] => "MASTERCARD",
        [b'3', b'4' | b'7', ..] => "AMEX",
        [b'3', b'6' | b'8', ..] => "DINERS",
        [b'3', ..] => "JCB",
        [b'6', b'3' | b'7', ..] => "MAESTRO",
        _ => "DISCOVER",
    }
}

/// PayPal's currencies, and those of them that take no decimals.
pub(super) fn exponent(currency: &str) -> Option<u8> {
    match currency {
        "HUF" | "JPY" | "TWD" => Some(0),
        "AUD" | "BRL" | "CAD" | "CHF" | "CNY" | "CZK" | "DKK" | "EUR" | "GBP" | "HKD" | "ILS" | "INR" | "MXN"
        | "MYR" | "NOK" | "NZD" | "PHP" | "PLN" | "SEK" | "SGD" | "THB" | "USD" => Some(2),
        _ => None,
    }
}
