//! Money: integers of minor units with a currency, exact conversion, and the decline taxonomy.
//!
//! Gateways disagree on how many decimals a currency has on the wire (CLP is 1000 at Stripe and 100000 at Adyen for the
//! same thousand pesos), so an [`Amount`] counts units at the currency's *canonical* exponent: the largest that ISO 4217
//! or any gateway uses for it. Every gateway's amount then has an exact form here, and the way out is exact or refused.
//!
//! Refused: rounding, negative amounts, currencies that a gateway does not take or whose exponent its own documents
//! contradict, amounts off a gateway's step, and every spelling of a number but plain ASCII digits.
//! No float touches an amount.

mod currencies;
mod decimal;
pub mod declines;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::config::model::Dialect;
use currencies::Wire;
pub use declines::DeclineClass;

/// An ISO 4217 code, upper case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code, upper case.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// The code, lower case, as Stripe writes it.
    pub fn lower(&self) -> String {
        self.code().to_ascii_lowercase()
    }

    /// Reads a code in either case. Whether any gateway takes it is decided when an amount is made.
    pub fn parse(code: &str) -> Result<Self, MoneyError> {
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_alphabetic) => {
                Ok(Self(bytes.map(|byte| byte.to_ascii_uppercase())))
            }
            _ => Err(MoneyError::NotACurrency),
        }
    }

    /// Every currency of the table, in the order of its codes.
    pub fn all() -> impl Iterator<Item = Currency> {
        currencies::table().iter().map(|row| row.currency)
    }

    /// How many decimals ISO 4217 gives it; 2 for a code outside the table.
    pub fn iso_exponent(self) -> u32 {
        currencies::find(self).map_or(2, |row| row.iso)
    }

    /// How many decimals [`Amount::units`] counts; 2 for a code outside the table.
    pub fn canonical_exponent(self) -> u32 {
        currencies::find(self).map_or(2, |row| row.canonical)
    }

    /// Whether the gateway takes this currency only inside its own country (PayPal: BRL, CNY, INR, MYR).
    pub fn in_country_only(self, gateway: Dialect) -> bool {
        currencies::find(self).is_some_and(|row| row.in_country_only.contains(&gateway))
    }
}

impl std::fmt::Debug for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl TryFrom<String> for Currency {
    type Error = String;
    fn try_from(code: String) -> Result<Self, String> {
        Self::parse(&code).map_err(|error| error.to_string())
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.code().to_owned()
    }
}

/// Why an amount cannot be read, converted or combined. None of its texts repeats what came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not three ASCII letters.
    #[error("not a currency code")]
    NotACurrency,
    /// Not in the table of currencies.
    #[error("currency {0} is not known")]
    UnknownCurrency(Currency),
    /// The gateway does not take the currency, or does not say so.
    #[error("{1} does not take {0}")]
    Unsupported(Currency, Gateway),
    /// The gateway's own documents give the currency different exponents.
    #[error("{1} documents contradicting exponents for {0}")]
    Contradictory(Currency, Gateway),
    /// The gateway has too few decimals for the amount, or takes only multiples of a step.
    #[error("the amount has no exact form in {0} at {1}")]
    NotExact(Currency, Gateway),
    /// Not plain ASCII digits (with one point, where the gateway writes decimals).
    #[error("the amount is not a plain number")]
    Malformed,
    /// Below zero.
    #[error("the amount is negative")]
    Negative,
    /// Past 2^63 - 1 units.
    #[error("the amount is too large")]
    Overflow,
    /// Two amounts of different currencies were combined.
    #[error("the amounts are in different currencies: {0} and {1}")]
    Mismatch(Currency, Currency),
}

/// A gateway's name inside an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Gateway(pub Dialect);

impl Gateway {
    fn name(self) -> &'static str {
        self.0.name()
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Display for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An amount: `units` at the currency's canonical exponent, which is the largest that any gateway uses for it, so that
/// every gateway's amounts have an exact form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amount {
    /// Minor units at the canonical exponent. Never negative.
    pub units: i64,
    /// The currency.
    pub currency: Currency,
}

impl Amount {
    /// Nothing, in a currency.
    pub const fn zero(currency: Currency) -> Self {
        Self { units: 0, currency }
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.units == 0
    }

    /// Reads minor units as the gateway writes them. A value off the gateway's step is read as it stands: what a
    /// gateway says is a fact. [`Self::to_minor`] is where a step is enforced.
    pub fn from_minor(gateway: Dialect, value: i64, code: &str) -> Result<Self, MoneyError> {
        let currency = Currency::parse(code)?;
        let wire = currencies::wire(gateway, currency)?;
        if value < 0 {
            return Err(MoneyError::Negative);
        }
        let units = value.checked_mul(wire.scale()).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, currency })
    }

    /// Reads minor units written as text (a form field): ASCII digits only, no sign, no leading zero, no exponent.
    pub fn parse_minor(gateway: Dialect, text: &str, code: &str) -> Result<Self, MoneyError> {
        Self::from_minor(gateway, decimal::integer(text)?, code)
    }

    /// Reads minor units from a JSON value, which must be an integer literal: `1000.0`, `1e3` and `"1000"` are refused.
    pub fn json_minor(gateway: Dialect, value: &serde_json::Value, code: &str) -> Result<Self, MoneyError> {
        match value {
            serde_json::Value::Number(number) if number.is_i64() || number.is_u64() => {
                Self::from_minor(gateway, number.as_i64().ok_or(MoneyError::Overflow)?, code)
            }
            _ => Err(MoneyError::Malformed),
        }
    }

    /// The minor units that the gateway expects, or a refusal: never a rounded value.
    pub fn to_minor(self, gateway: Dialect) -> Result<i64, MoneyError> {
        let wire = self.wire(gateway)?;
        let inexact = MoneyError::NotExact(self.currency, Gateway(gateway));
        if self.units % wire.scale() != 0 {
            return Err(inexact);
        }
        let value = self.units / wire.scale();
        if value % wire.step != 0 {
            return Err(inexact);
        }
        Ok(value)
    }

    /// Reads a decimal string as the gateway writes it (PayPal, Braintree): digits, then at most one point with at most
    /// as many decimals as the gateway has for the currency.
    pub fn from_decimal(gateway: Dialect, text: &str, code: &str) -> Result<Self, MoneyError> {
        let currency = Currency::parse(code)?;
        let wire = currencies::wire(gateway, currency)?;
        let value = decimal::scaled(text, wire.exponent)?;
        let units = value.checked_mul(wire.scale()).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, currency })
    }

    /// The decimal string that the gateway expects, with exactly its number of decimals, or a refusal.
    pub fn to_decimal(self, gateway: Dialect) -> Result<String, MoneyError> {
        let value = self.to_minor(gateway)?;
        Ok(decimal::write(value, self.wire(gateway)?.exponent))
    }

    /// The amount for people, with ISO 4217's number of decimals: `20.00`, `500`. An amount finer than that keeps the
    /// decimals it needs, so that nothing is hidden.
    pub fn decimal(self) -> String {
        let canonical = self.currency.canonical_exponent();
        let iso = self.currency.iso_exponent();
        let shed = 10_i64.pow(canonical.saturating_sub(iso));
        if self.units % shed == 0 {
            decimal::write(self.units / shed, iso)
        } else {
            decimal::write(self.units, canonical)
        }
    }

    /// The sum.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let units = self.units.checked_add(other.units).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, ..self })
    }

    /// The difference; refused below zero.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        match self.units.checked_sub(other.units) {
            Some(units) if units >= 0 => Ok(Self { units, ..self }),
            _ => Err(MoneyError::Negative),
        }
    }

    fn same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::Mismatch(self.currency, other.currency))
        }
    }

    fn wire(self, gateway: Dialect) -> Result<Wire, MoneyError> {
        if self.units < 0 {
            return Err(MoneyError::Negative);
        }
        currencies::wire(gateway, self.currency)
    }
}

/// Amounts compare only within a currency.
impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.currency == other.currency).then(|| self.units.cmp(&other.units))
    }
}

impl std::fmt::Debug for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

#[cfg(test)]
mod tests;
