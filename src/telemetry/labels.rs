//! The closed sets behind labels that come from outside: a method or status from a peer must not make a new series.

/// A request's method as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// Any other.
    Other,
}

impl Method {
    /// Every label.
    pub const ALL: [Self; 8] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
        Self::Options,
        Self::Other,
    ];

    /// By name.
    pub fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "other",
        }
    }
}

/// What an attempt at a gateway was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The first attempt of a request.
    First,
    /// The same request again.
    Retry,
    /// A second read while the first is late.
    Hedge,
    /// A payment taken at another gateway.
    Failover,
    /// Making a late execution impossible.
    Fence,
    /// Asking what became of an attempt.
    Lookup,
    /// A void or refund that is owed.
    Obligation,
    /// A harmless call of a half-open breaker.
    Probe,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::First,
        Self::Retry,
        Self::Hedge,
        Self::Failover,
        Self::Fence,
        Self::Lookup,
        Self::Obligation,
        Self::Probe,
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Failover => "failover",
            Self::Fence => "fence",
            Self::Lookup => "lookup",
            Self::Obligation => "obligation",
            Self::Probe => "probe",
        }
    }
}

/// Statuses that have a label of their own; others share their class. The first six are the classes.
const CODES: [&str; 36] = [
    "other", "1xx", "2xx", "3xx", "4xx", "5xx", "200", "201", "202", "204", "206", "301", "302", "303", "304", "307",
    "308", "400", "401", "402", "403", "404", "405", "408", "409", "410", "413", "422", "424", "429", "431", "500",
    "501", "502", "503", "504",
];

/// The number of different status labels.
pub const CODE_LABELS: usize = CODES.len();

/// The index of a status' label; 0 is "none of HTTP's".
pub fn code_index(status: u16) -> usize {
    let exact = match status {
        200 => 6,
        201 => 7,
        202 => 8,
        204 => 9,
        206 => 10,
        301 => 11,
        302 => 12,
        303 => 13,
        304 => 14,
        307 => 15,
        308 => 16,
        400 => 17,
        401 => 18,
        402 => 19,
        403 => 20,
        404 => 21,
        405 => 22,
        408 => 23,
        409 => 24,
        410 => 25,
        413 => 26,
        422 => 27,
        424 => 28,
        429 => 29,
        431 => 30,
        500 => 31,
        501 => 32,
        502 => 33,
        503 => 34,
        504 => 35,
        _ => 0,
    };
    match (exact, status / 100) {
        (0, class @ 1..=5) => usize::from(class),
        (index, _) => index,
    }
}

/// The label of an index.
pub fn code_name(index: usize) -> &'static str {
    CODES.get(index).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_own_label_or_its_class() {
        for status in 0..=u16::MAX {
            let name = code_name(code_index(status));
            match name {
                "other" => assert!(!(100..600).contains(&status)),
                class if class.ends_with("xx") => assert_eq!(class[..1], status.to_string()[..1]),
                exact => assert_eq!(exact, status.to_string()),
            }
        }
        for own in &CODES[6..] {
            assert_eq!(code_name(code_index(own.parse().unwrap())), *own);
        }
    }

    #[test]
    fn methods_are_a_closed_set() {
        for method in Method::ALL {
            assert_eq!(Method::of(method.name()), method);
        }
        assert_eq!(Method::of("get"), Method::Other);
        assert_eq!(Method::of("PROPFIND"), Method::Other);
    }
}
