//! Where applications take webhooks.

use std::sync::Arc;
use std::time::Duration;

use super::Reader;
use super::gateway::plain;
use crate::config::model::{Credentials, Dialect, Endpoint, GatewayConfig, Notify, Pool, Secret, Webhook};
use crate::config::{defaults, raw};

/// An application takes its webhooks one after the other.
const CONNECTIONS: usize = 4;
/// How long a connection to an application is kept idle.
const IDLE: Duration = Duration::from_secs(5);

/// What is told of a payment is kept for seven days by default.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

impl Reader<'_> {
    /// Reads where a route's application takes webhooks. `own` is the application's own gateway.
    pub(super) fn notify(
        &mut self,
        at: &str,
        typed: raw::Notify,
        (route, dialect): (&str, Dialect),
        own: Option<&Arc<GatewayConfig>>,
        fails_over: bool,
    ) -> Option<Notify> {
        if dialect == Dialect::Custom {
            return None;
        }
        if !fails_over && !self.broken("ledger") {
            self.hinted(
                at,
                "is of no use where payments go nowhere else",
                "a route fails over with a `ledger`, two gateways and a `failover` mode",
            );
        }
        let secret = typed.secret.map(|secret| secret.0);
        let hex = |text: &str| text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (&secret, dialect) {
            (Some(_), Dialect::Braintree) => self.hinted(
                format!("{at}.secret"),
                "is not what braintree's applications verify with",
                "leave it out: the account's public_key and private_key sign",
            ),
            (None, Dialect::Braintree) => {}
            (None, _) => self.hinted(
                at,
                "needs a `secret`",
                "the one that the application verifies its webhooks with",
            ),
            (Some(secret), _) if secret.is_empty() => self.problem(format!("{at}.secret"), "is empty"),
            (Some(secret), Dialect::Adyen) if !hex(secret) => self.hinted(
                format!("{at}.secret"),
                "is not a key in hexadecimal",
                "copy the HMAC key from Adyen's Customer Area",
            ),
            _ => {}
        }
        if let Some(own) = own {
            if dialect == Dialect::Paypal && own.webhook.webhook_id.is_none() {
                self.hinted(
                    at,
                    format!(
                        "needs gateways.{}.webhook.webhook_id: it is a part of what is signed",
                        own.name
                    ),
                    "the id of the application's webhook at PayPal",
                );
            }
            if dialect == Dialect::Braintree && own.credentials.is_empty() {
                let message = format!("needs the credentials of gateways.{}: their keys sign", own.name);
                self.problem(at, message);
            }
        }
        let give_up = self.duration(&format!("{at}.give_up"), typed.give_up, defaults::NOTIFY_GIVE_UP);
        if give_up.is_zero() || give_up > LONGEST {
            self.hinted(
                format!("{at}.give_up"),
                "is out of bounds",
                "1s to 7d: then what is told of a payment is erased",
            );
        }
        let Some((endpoint, target)) = destination(&typed.url) else {
            self.hinted(
                format!("{at}.url"),
                "is not an address that webhooks can be posted to",
                "write http://host:port/path or https://host/path",
            );
            return None;
        };
        let to = Arc::new(GatewayConfig {
            name: format!("notify {route}"),
            dialect: Dialect::Custom,
            endpoint,
            pool: Pool {
                max_idle: CONNECTIONS,
                max_connections: CONNECTIONS,
                max_streams: 1,
                prewarm: 0,
                idle: IDLE,
                max_age: defaults::POOL_MAX_AGE,
                connect_timeout: defaults::CONNECT_TIMEOUT,
            },
            credentials: Credentials::default(),
            settings: std::collections::BTreeMap::new(),
            webhook: Webhook::default(),
            takes: None,
            custom: None,
        });
        Some(Notify {
            url: typed.url,
            to,
            target,
            secret: secret.map(Secret::new),
            give_up,
        })
    }
}

/// The application is on this machine or in the same network: no address is too private for it.
fn destination(text: &str) -> Option<(Endpoint, String)> {
    let uri: http::Uri = text.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let endpoint = Endpoint {
        allow_private: true,
        ..plain(tls, host, port, "")
    };
    (!host.is_empty() && target.starts_with('/')).then(|| (endpoint, target.to_owned()))
}
