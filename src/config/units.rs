//! Durations, shares and sizes as people write them.

use std::time::Duration;

/// Why a text is not what it should be. It never repeats the text, which may have come from the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What it is not.
    pub message: &'static str,
    /// How it is written.
    pub hint: &'static str,
}

const DURATION: Wrong = Wrong {
    message: "is not a duration",
    hint: "write a number and ms, s, m, h or d, as in 250ms or 5s",
};
const LONG: Wrong = Wrong {
    message: "is longer than 400 days",
    hint: "",
};
const SHARE: Wrong = Wrong {
    message: "is not a share",
    hint: "write a percentage between 0% and 100%, as in 50%",
};
const EXACT_SHARE: Wrong = Wrong {
    message: "is not a percentage that can be kept exactly",
    hint: "write 0% to 100% with at most four decimals, as in 2% or 1.25%",
};
const SIZE: Wrong = Wrong {
    message: "is not a size",
    hint: "write bytes, or a number and KiB, MiB or GiB, as in 1MiB",
};
const QUANTILE: Wrong = Wrong {
    message: "is not a quantile",
    hint: "write p50 to p99, or off",
};

/// `250ms`, `5s`, `2m`, `1h`, `7d`; `0` alone for none.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or(DURATION)?;
    let number: u64 = text[..split].parse().map_err(|_| DURATION)?;
    let unit = match &text[split..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(DURATION),
    };
    let millis = number.checked_mul(unit).filter(|millis| *millis <= 400 * 86_400_000);
    millis.map(Duration::from_millis).ok_or(LONG)
}

/// `50%`, as 0.5.
///
/// # Errors
/// What was expected.
pub fn share(text: &str) -> Result<f64, Wrong> {
    let number = text.trim().strip_suffix('%').ok_or(SHARE)?;
    let number: f64 = number.parse().map_err(|_| SHARE)?;
    if (0.0..=100.0).contains(&number) {
        Ok(number / 100.0)
    } else {
        Err(SHARE)
    }
}

/// `2%` or `1.25%`, exactly: millionths of the whole. Amounts of money are multiplied by it, so no float is in between.
///
/// # Errors
/// What was expected.
pub fn exact_share(text: &str) -> Result<u32, Wrong> {
    let number = text.trim().strip_suffix('%').ok_or(EXACT_SHARE)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() > 3 || part.len() > 4 {
        return Err(EXACT_SHARE);
    }
    let parsed = format!("{whole}{part:0<4}").parse::<u32>().map_err(|_| EXACT_SHARE)?;
    if parsed > 1_000_000 {
        return Err(EXACT_SHARE);
    }
    Ok(parsed)
}

/// `64KiB`, `1MiB`, or plain bytes.
///
/// # Errors
/// What was expected.
pub fn size(text: &str) -> Result<usize, Wrong> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..split].parse().map_err(|_| SIZE)?;
    let factor = match &text[split..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(SIZE),
    };
    number.checked_mul(factor).ok_or(SIZE)
}

/// `p95`, as 0.95; `off` for none.
///
/// # Errors
/// What was expected.
pub fn quantile(text: &str) -> Result<Option<f64>, Wrong> {
    if text == "off" {
        return Ok(None);
    }
    let number = text.strip_prefix('p').ok_or(QUANTILE)?;
    let number: u32 = number.parse().map_err(|_| QUANTILE)?;
    if (50..=99).contains(&number) {
        Ok(Some(f64::from(number) / 100.0))
    } else {
        Err(QUANTILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly_or_refused() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(
            duration("5").is_err()
                && duration("-5s").is_err()
                && duration("5 s").is_err()
                && duration("99999999h").is_err()
        );
        assert_eq!(share("50%"), Ok(0.5));
        assert!(share("0.5").is_err() && share("101%").is_err() && share("NaN%").is_err());
        assert_eq!(exact_share("2%"), Ok(20_000));
        assert_eq!(exact_share("1.25%"), Ok(12_500));
        assert_eq!(exact_share("100%"), Ok(1_000_000));
        for wrong in ["2", "-2%", "2.%", ".5%", "1.00001%", "100.1%", "1e1%", "2,5%", "1001%"] {
            assert!(exact_share(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert!(size("1MB").is_err() && size("99999999999GiB").is_err());
        assert_eq!(quantile("p95"), Ok(Some(0.95)));
        assert_eq!(quantile("off"), Ok(None));
        assert!(quantile("p100").is_err());
    }
}
