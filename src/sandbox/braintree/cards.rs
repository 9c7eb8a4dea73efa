//! What Braintree's sandbox makes of an amount, a nonce and a card.

/// What the processor, or the gateway before it, makes of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Approved,
    Declined(u32),
    /// The processor's network cannot be reached: `failed`.
    Failed,
    Rejected(&'static str),
}

/// By the whole part of an amount, as published.
pub(super) fn by_amount(whole: i64) -> Verdict {
    match whole {
        2000..=2999 => Verdict::Declined(u32::try_from(whole).unwrap_or(2000)),
        3000 => Verdict::Failed,
        5001 => Verdict::Rejected("application_incomplete"),
        _ => Verdict::Approved,
    }
}

/// Nonces that are always there: brand, last four digits, and what comes of them.
pub(super) fn nonce(name: &str) -> Option<(&'static str, &'static str, Verdict)> {
    let approved = Verdict::Approved;
    Some(match name {
        "fake-valid-nonce" | "fake-valid-visa-nonce" => ("Visa", "1881", approved),
        "fake-valid-mastercard-nonce" => ("MasterCard", "4444", approved),
        "fake-valid-amex-nonce" => ("American Express", "0005", approved),
        "fake-valid-discover-nonce" => ("Discover", "1117", approved),
        "fake-processor-declined-visa-nonce" => ("Visa", "1881", Verdict::Declined(2000)),
        "fake-gateway-rejected-fraud-nonce" => ("Visa", "1881", Verdict::Rejected("fraud")),
        _ => return None,
    })
}

pub(super) fn brand(number: &str) -> &'static str {
    match number.as_bytes() {
        [b'4', ..] => "Visa",
        [b'5' | b'2', ..] => "MasterCard",
        [b'3', b'4' | b'7', ..] => "American Express",
        [b'3', b'0' | b'6' | b'8', ..] => "Diners Club",
        [b'3', ..] => "JCB",
        [b'6', b'2', ..] => "UnionPay",
        _ => "Discover",
    }
}

pub(super) fn luhn(number: &str) -> bool {
    let digits = number.bytes().rev().map(|byte| u32::from(byte.wrapping_sub(b'0')));
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    number.bytes().all(|byte| byte.is_ascii_digit()) && sum.is_multiple_of(10)
}

/// The processor's text and type for a code.
pub(super) fn response(code: u32) -> (&'static str, &'static str) {
    let text = match code {
        1000 => return ("Approved", "approved"),
        2000 => "Do Not Honor",
        2001 => "Insufficient Funds",
        2002 => "Limit Exceeded",
        2003 => "Cardholder's Activity Limit Exceeded",
        2004 => "Expired Card",
        2005 => "Invalid Credit Card Number",
        2010 => "Card Issuer Declined CVV",
        2013 => "Possible Stolen Card",
        2014 => "Fraud Suspected",
        2015 => "Transaction Not Allowed",
        2038 => "Processor Declined",
        2046 => "Declined",
        2099 => "Cardholder Authentication Required",
        3000 => "Processor Network Unavailable - Try Again",
        _ => "Processor Declined",
    };
    let soft = matches!(
        code,
        2000 | 2015
            | 2034
            | 2035
            | 2038
            | 2046
            | 2048
            | 2050
            | 2056
            | 2057
            | 2062
            | 2074
            | 2076
            | 2082
            | 2086
            | 2092
            | 2101
            | 2104..=2106
            | 2109..=3000
    );
    (text, if soft { "soft_declined" } else { "hard_declined" })
}

/// Merchant accounts that a fresh simulator has, with their currency and its decimals. The first is the default one.
pub(super) const ACCOUNTS: [(&str, &str, u32); 5] = [
    ("sandbox_usd", "USD", 2),
    ("sandbox_eur", "EUR", 2),
    ("sandbox_gbp", "GBP", 2),
    ("sandbox_jpy", "JPY", 0),
    ("sandbox_inr", "INR", 2),
];
