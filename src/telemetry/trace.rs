//! W3C Trace Context (Recommendation, level 1): who asked, and who asked them.
//!
//! A request that carries a valid `traceparent` is logged under its trace id; one without gets an id of its own, so that
//! every log line can be found by it. While Sentinel exports no spans, both headers go to the gateway as they came: a
//! parent that nobody can look up would only tear the trace. With spans exported, [`TraceContext::put`] names the
//! attempt's own span. `baggage` never goes along: it is the application's own context, and gateways are another
//! company.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where a request stands in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The whole trace; never zero.
    pub trace: u128,
    /// The present span; never zero.
    pub span: u64,
    /// The span that caused it; zero for none.
    pub parent: u64,
    /// The flags: bit 0 is "sampled".
    pub flags: u8,
}

impl TraceContext {
    /// A new trace, not sampled: nobody asked for it to be kept.
    pub fn fresh() -> Self {
        Self {
            trace: fastrand::u128(1..),
            span: fastrand::u64(1..),
            parent: 0,
            flags: 0,
        }
    }

    /// Continues the trace of the request's headers with a span of its own, or begins one.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        // Two of them are as good as none (section 3.2 allows one).
        match (values.next().and_then(|value| parse(value.as_bytes())), values.next()) {
            (Some((trace, parent, flags)), None) => Self {
                trace,
                span: fastrand::u64(1..),
                parent,
                flags,
            },
            _ => Self::fresh(),
        }
    }

    /// A span below this one, for one attempt.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            trace: self.trace,
            span: fastrand::u64(1..),
            parent: self.span,
            flags: self.flags,
        }
    }

    /// Whether the trace is to be kept.
    pub const fn sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Makes the headers of a request to a gateway name this span. A `tracestate` that came
    /// without a valid `traceparent` goes too (section 3.3).
    pub fn put(&self, headers: &mut HeaderMap) {
        if self.parent == 0 {
            headers.remove(TRACESTATE);
        }
        let mut text = [0; 55];
        self.write(&mut text);
        // Always visible ASCII.
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            headers.insert(TRACEPARENT, value);
        }
    }

    fn write(&self, out: &mut [u8; 55]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        out[..3].copy_from_slice(b"00-");
        for (i, slot) in out[3..35].iter_mut().enumerate() {
            *slot = HEX[(self.trace >> (124 - 4 * i)) as usize & 15];
        }
        out[35] = b'-';
        for (i, slot) in out[36..52].iter_mut().enumerate() {
            *slot = HEX[(self.span >> (60 - 4 * i)) as usize & 15];
        }
        out[52] = b'-';
        out[53] = HEX[usize::from(self.flags >> 4)];
        out[54] = HEX[usize::from(self.flags & 15)];
    }

    /// The trace id as 32 hexadecimal digits.
    pub const fn id(&self) -> TraceId {
        TraceId(self.trace)
    }
}

/// A trace id that prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `version-trace-parent-flags`; later versions may be longer (section 3.2.3), version `ff` and zero ids are invalid.
fn parse(value: &[u8]) -> Option<(u128, u64, u8)> {
    let version = hex(value.get(..2)?)?;
    let parts_end = value.get(55);
    if version == 0xff || (version == 0 && value.len() != 55) || parts_end.is_some_and(|b| *b != b'-') {
        return None;
    }
    if [value.get(2)?, value.get(35)?, value.get(52)?]
        .iter()
        .any(|b| **b != b'-')
    {
        return None;
    }
    let trace = hex(value.get(3..35)?)?;
    let parent = u64::try_from(hex(value.get(36..52)?)?).ok()?;
    let flags = u8::try_from(hex(value.get(53..55)?)?).ok()?;
    // Of a later version only the flag that is known here may be used.
    let flags = if version == 0 { flags } else { flags & 1 };
    (trace != 0 && parent != 0).then_some((trace, parent, flags))
}

/// Small letters only, as the recommendation demands.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |sum, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn a_valid_trace_goes_on_under_a_new_span() {
        let mut map = headers(&[("traceparent", VALID), ("tracestate", "congo=t61rcWkgMzE")]);
        let context = TraceContext::of(&map);
        assert_eq!(context.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.parent, 0x00f0_67aa_0ba9_02b7);
        assert!(context.sampled());
        let attempt = context.child();
        attempt.put(&mut map);
        let sent = map.get("traceparent").unwrap().to_str().unwrap();
        assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && sent.ends_with("-01"));
        assert_ne!(sent, VALID);
        assert_eq!(map.get("tracestate").unwrap(), "congo=t61rcWkgMzE");
        assert_eq!(TraceContext::of(&map).parent, attempt.span);
    }

    #[test]
    fn an_invalid_one_begins_anew_and_its_state_does_not_go_along() {
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            let mut map = headers(&[("traceparent", bad), ("tracestate", "a=b")]);
            let context = TraceContext::of(&map);
            assert_eq!((context.parent, context.sampled()), (0, false), "{bad}");
            context.put(&mut map);
            assert!(map.get("tracestate").is_none());
        }
        let twice = headers(&[("traceparent", VALID), ("traceparent", VALID)]);
        assert_eq!(TraceContext::of(&twice).parent, 0);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("cc{}-what-the-future-brings", &VALID[2..]);
        let context = TraceContext::of(&headers(&[("traceparent", &later)]));
        assert_eq!(context.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace in 1u128.., span in 1u64.., flags in any::<u8>()) {
            let mut map = HeaderMap::new();
            TraceContext { trace, span, parent: 1, flags }.put(&mut map);
            prop_assert_eq!(parse(map.get("traceparent").unwrap().as_bytes()), Some((trace, span, flags)));
        }

        #[test]
        fn nothing_from_outside_breaks_it(value in prop::collection::vec(any::<u8>(), 0..80)) {
            parse(&value);
        }
    }
}
