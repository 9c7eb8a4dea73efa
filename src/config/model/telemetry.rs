//! What leaves the process for those who watch it.

/// Where spans are exported to (OTLP/HTTP, JSON), and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// The collector's host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What stands before `/v1/traces`; empty or begins with `/` and does not end with one.
    pub path: String,
    /// What the process calls itself (`service.name`).
    pub service: String,
    /// The share of traces that begin at Sentinel and are kept, 0 to 1. Of the others the application has decided.
    pub share: f64,
}
