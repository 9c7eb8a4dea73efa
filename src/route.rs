//! Which route a request belongs to. Pure: listener, host and path in; route and the rest of the path out.
//!
//! A request belongs to the first route, in the order of the configuration, whose listener, host and path prefix all
//! match. Prefixes match whole segments only: `/stripe` owns `/stripe/v1/charges` and `/stripe`, never `/stripey`. The
//! client chooses among routes; it never names an upstream.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::model::{Listen, Route};

/// The routes of one snapshot, grouped by listener so that a request looks only at its own.
#[derive(Debug, Default)]
pub struct Table {
    listeners: Vec<(SocketAddr, Vec<Entry>)>,
}

#[derive(Debug)]
struct Entry {
    index: usize,
    prefix: Box<str>,
    host: Option<Box<str>>,
}

/// A request's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Index of the route in the configuration's list.
    pub index: usize,
    /// Bytes of the path that are the route's prefix; the rest is the gateway's path, or empty for `/`.
    pub prefix_len: usize,
}

impl Table {
    /// Builds the table. `shared` are the listeners that serve every route with a path prefix.
    pub fn new(routes: &[Arc<Route>], shared: &[Listen]) -> Self {
        let mut table = Self::default();
        for (index, route) in routes.iter().enumerate() {
            let entry = || Entry {
                index,
                prefix: route.path_prefix.trim_end_matches('/').into(),
                host: route.host.as_deref().map(|host| host.to_ascii_lowercase().into()),
            };
            for listen in &route.listen {
                // On a listener of its own a route owns every path: SDKs without prefix support come here.
                let mut own = entry();
                if shared.iter().all(|shared| shared.address != listen.address) {
                    own.prefix = "".into();
                }
                table.add(listen.address, own);
            }
            for shared in shared.iter().filter(|shared| !route.listens_at(shared.address)) {
                if !route.path_prefix.is_empty() {
                    table.add(shared.address, entry());
                }
            }
        }
        table
    }

    fn add(&mut self, listener: SocketAddr, entry: Entry) {
        match self.listeners.iter_mut().find(|(address, _)| *address == listener) {
            Some((_, entries)) => entries.push(entry),
            None => self.listeners.push((listener, vec![entry])),
        }
    }

    /// The route of a request, by the listener it came in on, the host it named (port ignored) and its raw path.
    pub fn find(&self, listener: SocketAddr, host: Option<&str>, path: &str) -> Option<Matched> {
        let (_, entries) = self.listeners.iter().find(|(address, _)| *address == listener)?;
        entries
            .iter()
            .find(|entry| {
                owns(&entry.prefix, path)
                    && entry.host.as_deref().is_none_or(|wanted| {
                        host.map(without_port)
                            .is_some_and(|named| named.eq_ignore_ascii_case(wanted))
                    })
            })
            .map(|entry| Matched {
                index: entry.index,
                prefix_len: entry.prefix.len(),
            })
    }

    /// Every listener that has routes.
    pub fn listeners(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|(address, _)| *address)
    }
}

fn owns(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn without_port(host: &str) -> &str {
    // An IPv6 literal keeps its brackets; only what follows them is a port.
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_owns_whole_segments_only() {
        assert!(owns("/stripe", "/stripe/v1/charges"));
        assert!(owns("/stripe", "/stripe"));
        assert!(!owns("/stripe", "/stripey/v1"));
        assert!(owns("", "/v1/charges"));
    }

    #[test]
    fn the_port_is_not_part_of_the_host() {
        assert_eq!(without_port("localhost:8080"), "localhost");
        assert_eq!(without_port("[::1]:8080"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("example.com"), "example.com");
    }
}
