//! Periods of time, as people and programs ask for them. All of them are in UTC.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::{DAY, HOUR};

/// A span of time: `from` belongs to it, `to` does not. Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first millisecond.
    pub from: i64,
    /// The first millisecond after it.
    pub to: i64,
}

/// A text that names no period; it says what does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAPeriod(pub &'static str);

const TIME: NotAPeriod = NotAPeriod("must be a date (2026-11-01), a time (2026-11-01T10:00:00Z) or Unix milliseconds");
const SPAN: NotAPeriod = NotAPeriod("must be 24h, 7d, 30d, 90d, 365d, all or a month (2026-11)");

impl Period {
    /// All of time.
    pub const ALL: Self = Self { from: 0, to: i64::MAX };

    /// From the words of a request; by default the last 30 days and today. Explicit ends go before a named span.
    ///
    /// # Errors
    /// What was expected.
    pub fn read(span: Option<&str>, from: Option<&str>, to: Option<&str>, now: i64) -> Result<Self, NotAPeriod> {
        let named = match span {
            None | Some("") => Self::last(30, now),
            Some("all") => Self::ALL,
            Some("24h") => Self {
                from: now.div_euclid(HOUR) * HOUR - 23 * HOUR,
                to: i64::MAX,
            },
            Some("7d") => Self::last(7, now),
            Some("30d") => Self::last(30, now),
            Some("90d") => Self::last(90, now),
            Some("365d") => Self::last(365, now),
            Some(month) => Month::parse(month).ok_or(SPAN)?.period(),
        };
        let given = from.is_some() || to.is_some();
        let base = if given && span.is_none() { Self::ALL } else { named };
        Ok(Self {
            from: from.map_or(Ok(base.from), time)?,
            to: to.map_or(Ok(base.to), time)?,
        })
    }

    fn last(days: i64, now: i64) -> Self {
        Self {
            from: now.div_euclid(DAY) * DAY - (days - 1) * DAY,
            to: i64::MAX,
        }
    }

    /// The width of the steps that it is counted in: hours up to 62 days, then days.
    pub fn width(self, now: i64) -> i64 {
        if self.to.min(now) - self.from <= 62 * DAY {
            HOUR
        } else {
            DAY
        }
    }
}

fn time(text: &str) -> Result<i64, NotAPeriod> {
    if let Ok(ms) = text.parse::<i64>() {
        return if ms >= 0 { Ok(ms) } else { Err(TIME) };
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let date: Date = text.parse().map_err(|_| TIME)?;
    start_of(date).ok_or(TIME)
}

fn start_of(date: Date) -> Option<i64> {
    let midnight = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    Some(midnight.as_millisecond())
}

/// A time as RFC 3339 writes it, to the millisecond.
pub fn rfc3339(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// A calendar month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i16,
    month: i8,
}

/// The month of a time.
pub fn month_of(ms: i64) -> Month {
    let date = Offset::UTC.to_datetime(Timestamp::from_millisecond(ms).unwrap_or_default());
    Month {
        year: date.year(),
        month: date.month(),
    }
}

impl Month {
    /// `2026-11`.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return None;
        }
        let month = Self {
            year: year.parse().ok()?,
            month: month.parse().ok()?,
        };
        ((1..=12).contains(&month.month) && month.year >= 1970).then_some(month)
    }

    /// As a number that sorts: 202611.
    pub fn number(self) -> i64 {
        i64::from(self.year) * 100 + i64::from(self.month)
    }

    /// From [`Self::number`].
    pub fn from_number(number: i64) -> Option<Self> {
        Some(Self {
            year: i16::try_from(number / 100).ok()?,
            month: i8::try_from(number % 100)
                .ok()
                .filter(|month| (1..=12).contains(month))?,
        })
    }

    /// The month after it.
    #[must_use]
    pub fn next(self) -> Self {
        if self.month == 12 {
            Self {
                year: self.year + 1,
                month: 1,
            }
        } else {
            Self {
                month: self.month + 1,
                ..self
            }
        }
    }

    /// Its span of time.
    pub fn period(self) -> Period {
        let first = |month: Self| {
            Date::new(month.year, month.month, 1)
                .ok()
                .and_then(start_of)
                .unwrap_or(i64::MAX)
        };
        Period {
            from: first(self),
            to: first(self.next()),
        }
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let december = Month::parse("2026-12").unwrap();
        assert_eq!(december.next().to_string(), "2027-01");
        assert_eq!(december.period().to, december.next().period().from);
        assert_eq!(rfc3339(december.period().from), "2026-12-01T00:00:00.000Z");
        assert_eq!(month_of(december.period().to - 1), december);
        assert_eq!(Month::from_number(december.number()), Some(december));
        for wrong in ["2026-13", "2026-1", "26-01", "2026-00", "+026-01", "2026-01-01"] {
            assert_eq!(Month::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn periods_are_read_in_every_spelling() {
        let now = 1_800_000_000_000;
        let day = Period::read(None, Some("2026-11-01"), Some("2026-11-02"), now).unwrap();
        assert_eq!(day.to - day.from, DAY);
        let same = Period::read(None, Some("2026-11-01T00:00:00Z"), Some("1793577600000"), now).unwrap();
        assert_eq!((same.from, same.to), (day.from, 1_793_577_600_000));
        assert_eq!(Period::read(Some("all"), None, None, now), Ok(Period::ALL));
        assert!(Period::read(Some("fortnight"), None, None, now).is_err());
        assert!(Period::read(None, Some("yesterday"), None, now).is_err());
        assert!(Period::read(None, Some("-1"), None, now).is_err());
    }
}
