//! Numbers as text, strictly: ASCII digits, at most one point, no sign, no exponent, no blank, no leading zero.

use super::MoneyError;

/// Reads an integer.
pub(super) fn integer(text: &str) -> Result<i64, MoneyError> {
    let digits = text.as_bytes();
    let leading_zero = digits.len() > 1 && digits[0] == b'0';
    if digits.is_empty() || leading_zero {
        return Err(MoneyError::Malformed);
    }
    number(digits.iter())
}

/// Reads a decimal with at most `exponent` decimals as an integer of that many decimals.
pub(super) fn scaled(text: &str, exponent: u32) -> Result<i64, MoneyError> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(MoneyError::Malformed),
        None => (text, ""),
    };
    let missing = (exponent as usize)
        .checked_sub(fraction.len())
        .ok_or(MoneyError::Malformed)?;
    integer(whole)?;
    number(
        whole
            .as_bytes()
            .iter()
            .chain(fraction.as_bytes())
            .chain(std::iter::repeat_n(&b'0', missing)),
    )
}

/// Writes an integer of `exponent` decimals.
pub(super) fn write(value: i64, exponent: u32) -> String {
    if exponent == 0 {
        return value.to_string();
    }
    let unit = 10_i64.pow(exponent);
    format!(
        "{}.{:0width$}",
        value / unit,
        (value % unit).abs(),
        width = exponent as usize
    )
}

fn number<'a>(digits: impl Iterator<Item = &'a u8>) -> Result<i64, MoneyError> {
    digits.into_iter().try_fold(0_i64, |value, digit| {
        if !digit.is_ascii_digit() {
            return Err(MoneyError::Malformed);
        }
        value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .ok_or(MoneyError::Overflow)
    })
}
