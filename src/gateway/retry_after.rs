//! `Retry-After` (RFC 9110 10.2.3), in either of its forms.
//!
//! A date is counted from the answer's own `Date`: both were written by one clock, and how far it is from this machine's
//! does not matter. A date without that, or one that is past, says nothing.

use http::{HeaderMap, header};
use jiff::Timestamp;

/// After how many seconds an answer says that it is worth asking again.
pub fn seconds(headers: &HeaderMap) -> Option<u64> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let said = text(header::RETRY_AFTER)?;
    if said.bytes().all(|byte| byte.is_ascii_digit()) {
        return said.parse().ok();
    }
    let wait = date(said)?.as_second() - date(text(header::DATE)?)?.as_second();
    u64::try_from(wait).ok()
}

/// A date as HTTP writes it.
fn date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_nothing_else() {
        let read = |said: &str, date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, said.parse().expect("a value"));
            if !date.is_empty() {
                headers.insert(header::DATE, date.parse().expect("a value"));
            }
            seconds(&headers)
        };
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(read("120", ""), Some(120));
        assert_eq!(read(" 0 ", ""), Some(0));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(30));
        assert_eq!(read("Mon, 07 Nov 1994 08:49:37 GMT", now), Some(86_400));
        assert_eq!(read(now, now), Some(0));
        for (said, date) in [
            ("Sun, 06 Nov 1994 08:49:07 GMT", now),
            ("Sun, 06 Nov 1994 08:50:07 GMT", ""),
            ("Sun, 06 Nov 1994 08:50:07 GMT", "yesterday"),
            ("soon", now),
            ("-1", now),
            ("1.5", now),
            ("", now),
            ("99999999999999999999999", now),
        ] {
            assert_eq!(read(said, date), None, "{said} {date}");
        }
        assert_eq!(seconds(&HeaderMap::new()), None);
    }
}
