//! What amounts Stripe takes: decimals, minima and the traps in between.

use super::errors::Failure;

const ZERO: [&str; 14] = [
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof",
];
const ZERO_TOO: &str = "xpf";
const THREE: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];
/// Without decimals in life, with two on the API: the last two digits must be zero.
const PADDED: [&str; 2] = ["isk", "ugx"];

/// The smallest amounts, as published for settlement in the same currency; half a unit for the rest.
const MINIMA: [(&str, i64); 18] = [
    ("usd", 50),
    ("aed", 200),
    ("aud", 50),
    ("brl", 50),
    ("cad", 50),
    ("chf", 50),
    ("czk", 1500),
    ("dkk", 250),
    ("eur", 50),
    ("gbp", 30),
    ("hkd", 400),
    ("huf", 17_500),
    ("inr", 50),
    ("jpy", 50),
    ("mxn", 1000),
    ("nok", 300),
    ("pln", 200),
    ("sek", 300),
];

const MAXIMUM: i64 = 99_999_999;

/// Decimal places of an amount on the API.
pub(super) fn exponent(currency: &str) -> u8 {
    if ZERO.contains(&currency) || currency == ZERO_TOO {
        0
    } else if THREE.contains(&currency) {
        3
    } else {
        2
    }
}

/// A currency as Stripe writes it.
pub(super) fn currency(given: &str) -> Result<String, Failure> {
    let lower = given.to_ascii_lowercase();
    if lower.len() == 3
        && lower.bytes().all(|byte| byte.is_ascii_lowercase())
        && !matches!(lower.as_str(), "xxx" | "xts")
    {
        return Ok(lower);
    }
    Err(Failure::invalid(
        "currency",
        &format!("Invalid currency: {given}. Stripe currently supports these currencies: usd, eur, ..."),
    ))
}

/// Refuses an amount that Stripe does not charge.
pub(super) fn chargeable(amount: i64, currency: &str) -> Result<(), Failure> {
    if amount < 1 {
        return Err(Failure::coded(
            "parameter_invalid_integer",
            "amount",
            "This value must be greater than or equal to 1.",
        ));
    }
    let minimum = MINIMA
        .iter()
        .find(|(known, _)| *known == currency)
        .map_or(1, |(_, minimum)| *minimum);
    if amount < minimum {
        return Err(Failure::coded(
            "amount_too_small",
            "amount",
            "Amount must convert to at least 50 cents.",
        ));
    }
    if amount > MAXIMUM {
        return Err(Failure::coded(
            "amount_too_large",
            "amount",
            "Amount must be no more than 999,999.99.",
        ));
    }
    let step = match currency {
        padded if PADDED.contains(&padded) => 100,
        three if THREE.contains(&three) => 10,
        _ => 1,
    };
    if amount % step != 0 {
        return Err(Failure::coded(
            "parameter_invalid_integer",
            "amount",
            &format!("Amounts in {currency} must be divisible by {step}."),
        ));
    }
    Ok(())
}
