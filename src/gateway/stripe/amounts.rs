//! What amounts Stripe charges.

use crate::config::model::Dialect;
use crate::gateway::canonical::Refusal;
use crate::money::Amount;

/// The largest amount, in Stripe's minor units, that every currency takes.
const MAXIMUM: i64 = 99_999_999;

/// The smallest charges, in Stripe's minor units, as published for accounts that settle in the same currency. For one
/// that settles in another the converted minimum of that one holds, which cannot be known here: what is below the
/// published figure is not promised to be taken.
const MINIMA: [(&str, i64); 23] = [
    ("AED", 200),
    ("AUD", 50),
    ("BRL", 50),
    ("CAD", 50),
    ("CHF", 50),
    ("CZK", 1500),
    ("DKK", 250),
    ("EUR", 50),
    ("GBP", 30),
    ("HKD", 400),
    ("HUF", 17_500),
    ("INR", 50),
    ("JPY", 50),
    ("MXN", 1000),
    ("MYR", 200),
    ("NOK", 300),
    ("NZD", 50),
    ("PLN", 200),
    ("RON", 200),
    ("SEK", 300),
    ("SGD", 50),
    ("THB", 1000),
    ("USD", 50),
];

/// An amount in Stripe's minor units: of a charge, a capture or a refund.
pub(super) fn minor(amount: Amount) -> Result<i64, Refusal> {
    match amount.to_minor(Dialect::Stripe)? {
        0 => Err(Refusal::Amount("nothing".to_owned())),
        units if units > MAXIMUM => Err(Refusal::Limit("larger than Stripe takes".to_owned())),
        units => Ok(units),
    }
}

/// The same of a new charge, which has a minimum.
pub(super) fn chargeable(amount: Amount) -> Result<i64, Refusal> {
    let units = minor(amount)?;
    let least = MINIMA.iter().find(|(code, _)| *code == amount.currency.code());
    match least {
        Some((_, least)) if units < *least => Err(Refusal::Limit("smaller than Stripe charges".to_owned())),
        _ => Ok(units),
    }
}
