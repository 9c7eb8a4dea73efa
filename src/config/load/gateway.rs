//! Gateway accounts: endpoint, trust, credentials.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;

use super::Reader;
use crate::config::model::{
    AmountLimits, Credentials, Dialect, Endpoint, GatewayConfig, Pin, PinMode, Pool, Protocol, Secret, Webhook,
};
use crate::config::{defaults, raw, units};
use crate::money::Amount;

/// The credentials without which Sentinel cannot make a request of its own.
pub fn needed(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Stripe => &["secret_key"],
        Dialect::Paypal => &["client_id", "client_secret"],
        Dialect::Braintree => &["merchant_id", "public_key", "private_key"],
        Dialect::Square => &["access_token"],
        Dialect::Razorpay => &["key_id", "key_secret"],
        Dialect::Adyen => &["api_key", "merchant_account"],
        Dialect::Custom => &[],
    }
}

/// The further ones that a dialect may have. Those whose names are plural have a value for each currency.
pub fn optional(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Stripe => &["publishable_key"],
        Dialect::Braintree => &["merchant_accounts"],
        Dialect::Square => &["location_id", "locations"],
        Dialect::Paypal | Dialect::Razorpay | Dialect::Adyen | Dialect::Custom => &[],
    }
}

/// The settings that a dialect reads.
fn settings(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Stripe => &["api_version", "mit_exemption"],
        Dialect::Adyen => &["api_version", "capture", "return_url", "several_captures"],
        Dialect::Paypal => &["domestic_currency"],
        Dialect::Braintree => &["currency", "request_keys"],
        Dialect::Square => &["api_version"],
        Dialect::Razorpay => &["capture", "currencies"],
        Dialect::Custom => &[],
    }
}

/// What a dialect verifies webhooks with, beside its credentials.
fn webhook(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Stripe | Dialect::Adyen | Dialect::Razorpay => &["secret"],
        Dialect::Square => &["secret", "notification_url"],
        Dialect::Paypal => &["webhook_id"],
        Dialect::Braintree | Dialect::Custom => &[],
    }
}

impl Reader<'_> {
    pub(super) fn gateway(&mut self, name: String, gateway: raw::Gateway) -> Option<GatewayConfig> {
        let at = |field: &str| format!("gateways.{name}.{field}");
        let read = self.settings(&name, &gateway);
        let webhook = self.webhook(&name, gateway.dialect, gateway.webhook);
        let takes = gateway.takes.map(|typed| self.takes(&at("takes"), typed));
        let credentials = match gateway.credentials {
            None => Credentials::default(),
            Some(typed) => self.credentials(&name, gateway.dialect, typed),
        };
        let custom = match (gateway.dialect, gateway.custom) {
            (Dialect::Custom, Some(typed)) => self.custom(&name, typed, &credentials),
            (Dialect::Custom, None) => {
                if !self.broken(&format!("gateways.{name}")) {
                    let hint = "add `custom`; examples/custom-gateway shows one";
                    self.hinted(at("dialect"), "nothing says how this gateway is spoken to", hint);
                }
                None
            }
            (_, Some(_)) => {
                self.foreign(at("custom"), gateway.dialect, settings(gateway.dialect));
                None
            }
            (_, None) => None,
        };
        // With a wrong address the rest is checked all the same.
        let (mut endpoint, usable) = match endpoint(&gateway.endpoint) {
            Ok(endpoint) => (endpoint, true),
            Err(wrong) => {
                self.hinted(at("endpoint"), wrong.message, wrong.hint);
                (plain(true, "", 443, ""), false)
            }
        };
        endpoint.roots = gateway.roots.and_then(|file| match self.files.roots(Path::new(&file)) {
            Ok(roots) => Some(Arc::new(roots)),
            Err(message) => {
                self.problem(at("roots"), message);
                None
            }
        });
        endpoint.client_certificate = gateway.client_certificate.and_then(|raw::Identity { cert, key }| {
            self.identity(&at("client_certificate"), Path::new(&cert), Path::new(&key))
        });
        endpoint.pins = self.pins(&at("pins"), &gateway.pins);
        endpoint.pin_mode = gateway.pin_mode.unwrap_or_default();
        endpoint.pins_until = gateway.pins_until.and_then(|day| self.end_of(&at("pins_until"), &day));
        for (field, set) in [
            ("pin_mode", gateway.pin_mode.is_some()),
            ("pins_until", endpoint.pins_until.is_some()),
        ] {
            if set && endpoint.pins.is_empty() {
                self.problem(at(field), "has no meaning without pins");
            }
        }
        endpoint.protocol = gateway.protocol.unwrap_or(defaults::PROTOCOL);
        if usable && !endpoint.tls {
            for (field, set) in [
                ("roots", endpoint.roots.is_some()),
                ("client_certificate", endpoint.client_certificate.is_some()),
                ("pins", !endpoint.pins.is_empty()),
            ] {
                if set {
                    self.problem(at(field), "has no meaning for an http:// endpoint");
                }
            }
        }
        endpoint.allow_private = gateway.allow_private;
        for (index, text) in gateway.addresses.iter().enumerate() {
            endpoint
                .addresses
                .extend(self.address(format!("{}[{index}]", at("addresses")), Some(text)));
        }
        let pool = gateway.pool;
        let pool = Pool {
            max_idle: pool.max_idle.unwrap_or(defaults::MAX_IDLE),
            max_connections: pool.max_connections.unwrap_or(defaults::MAX_CONNECTIONS),
            max_streams: pool.max_streams.unwrap_or(defaults::MAX_STREAMS),
            prewarm: gateway.prewarm.unwrap_or(defaults::PREWARM),
            idle: self.duration(&at("pool.idle"), pool.idle, defaults::POOL_IDLE),
            max_age: self.duration(&at("pool.max_age"), pool.max_age, defaults::POOL_MAX_AGE),
            connect_timeout: self.duration(
                &at("pool.connect_timeout"),
                pool.connect_timeout,
                defaults::CONNECT_TIMEOUT,
            ),
        };
        for (field, value) in [
            ("max_connections", pool.max_connections),
            ("max_streams", pool.max_streams),
        ] {
            if value == 0 {
                self.problem(at(&format!("pool.{field}")), "must be 1 at least");
            }
        }
        if pool.prewarm > pool.max_idle.min(pool.max_connections) {
            self.problem(
                at("prewarm"),
                "is more than pool.max_idle or pool.max_connections allow",
            );
        }
        usable.then(|| GatewayConfig {
            name: name.clone(),
            dialect: gateway.dialect,
            endpoint,
            pool,
            credentials,
            settings: read,
            takes,
            webhook,
            custom,
        })
    }

    fn takes(&mut self, path: &str, typed: BTreeMap<String, raw::Takes>) -> BTreeMap<String, AmountLimits> {
        let mut takes = BTreeMap::new();
        for (currency, typed) in typed {
            let here = format!("{path}.{currency}");
            self.is_currency(here.clone(), &currency);
            let mut amount = |field: &str, text: Option<String>| {
                let read = Amount::from_decimal(Dialect::Custom, text.as_deref()?, &currency);
                if read.is_err() {
                    let hint = "write it as 1.00, with the currency's decimals";
                    self.hinted(format!("{here}.{field}"), "is not an amount of this currency", hint);
                }
                read.ok()
            };
            let limits = AmountLimits {
                min: amount("min", typed.min),
                max: amount("max", typed.max),
            };
            if let (Some(min), Some(max)) = (limits.min, limits.max)
                && min.units > max.units
            {
                self.problem(here, "min is more than max");
            }
            takes.insert(currency, limits);
        }
        takes
    }

    fn credentials(&mut self, name: &str, dialect: Dialect, typed: raw::Credentials) -> Credentials {
        let secret = |secret: Option<raw::Secret>| secret.map(|secret| secret.0);
        let single = [
            ("secret_key", secret(typed.secret_key)),
            ("publishable_key", secret(typed.publishable_key)),
            ("client_id", secret(typed.client_id)),
            ("client_secret", secret(typed.client_secret)),
            ("merchant_id", secret(typed.merchant_id)),
            ("public_key", secret(typed.public_key)),
            ("private_key", secret(typed.private_key)),
            ("access_token", secret(typed.access_token)),
            ("location_id", typed.location_id),
            ("key_id", secret(typed.key_id)),
            ("key_secret", secret(typed.key_secret)),
            ("api_key", secret(typed.api_key)),
            ("merchant_account", typed.merchant_account),
        ];
        let by_currency = [
            ("merchant_accounts", typed.merchant_accounts),
            ("locations", typed.locations),
        ];
        let here = format!("gateways.{name}.credentials");
        let (needed, optional) = (needed(dialect), optional(dialect));
        // One that is misspelt or of the wrong kind was told already.
        let told = self.broken(&here);
        let mut values = BTreeMap::new();
        for (field, value) in single {
            match value {
                None if needed.contains(&field) && !told => {
                    self.problem(here.clone(), format!("{} credentials need `{field}`", dialect.name()));
                }
                None => {}
                Some(_) if !needed.contains(&field) && !optional.contains(&field) => {
                    self.foreign(format!("{here}.{field}"), dialect, &[needed, optional].concat());
                }
                Some(value) if value.is_empty() => self.problem(format!("{here}.{field}"), "is empty"),
                Some(value) => {
                    values.insert(field.to_owned(), value);
                }
            }
        }
        for (field, entries) in by_currency {
            if !entries.is_empty() && !optional.contains(&field) {
                self.foreign(format!("{here}.{field}"), dialect, &[needed, optional].concat());
            }
            for (currency, value) in entries {
                self.is_currency(format!("{here}.{field}.{currency}"), &currency);
                values.insert(format!("{field}.{currency}"), value);
            }
        }
        if dialect != Dialect::Custom && !typed.values.is_empty() {
            self.foreign(format!("{here}.values"), dialect, &[needed, optional].concat());
        }
        for (field, value) in typed.values {
            if value.0.is_empty() {
                self.problem(format!("{here}.values.{field}"), "is empty");
            }
            values.insert(field, value.0);
        }
        Credentials::new(values)
    }

    pub(super) fn is_currency(&mut self, path: String, typed: &str) {
        if typed.len() != 3 || !typed.bytes().all(|byte| byte.is_ascii_uppercase()) {
            self.hinted(path, "is not a currency", "write its ISO 4217 code, as in USD");
        }
    }

    fn foreign(&mut self, path: String, dialect: Dialect, known: &[&str]) {
        let known = match known {
            [] => "it reads none".to_owned(),
            known => format!("it reads {}", known.join(", ")),
        };
        self.hinted(
            path,
            format!("the {} dialect does not read this", dialect.name()),
            known,
        );
    }

    fn settings(&mut self, name: &str, gateway: &raw::Gateway) -> BTreeMap<String, String> {
        let known = settings(gateway.dialect);
        let capture = gateway.capture.map(|capture| match capture {
            raw::Capture::Automatic => "automatic".to_owned(),
            raw::Capture::Manual => "manual".to_owned(),
        });
        let typed = [
            ("api_version", gateway.api_version.clone()),
            ("capture", capture),
            ("return_url", gateway.return_url.clone()),
            ("mit_exemption", gateway.mit_exemption.map(|yes| yes.to_string())),
            ("domestic_currency", gateway.domestic_currency.clone()),
            ("currency", gateway.currency.clone()),
            ("currencies", gateway.currencies.as_ref().map(|codes| codes.join(","))),
            ("several_captures", gateway.several_captures.map(|yes| yes.to_string())),
            ("request_keys", gateway.request_keys.map(|yes| yes.to_string())),
        ];
        let mut values = BTreeMap::new();
        for (field, value) in typed {
            let Some(value) = value else { continue };
            if known.contains(&field) {
                values.insert(field.to_owned(), value);
            } else {
                self.foreign(format!("gateways.{name}.{field}"), gateway.dialect, known);
            }
        }
        if let Some(currency) = &gateway.currency {
            self.is_currency(format!("gateways.{name}.currency"), currency);
        }
        for (index, code) in gateway.currencies.iter().flatten().enumerate() {
            let here = format!("gateways.{name}.currencies[{index}]");
            self.is_currency(here.clone(), code);
            // Nothing of it is unlike nothing of a currency that the gateway does not take.
            if code.len() == 3 && Amount::from_minor(gateway.dialect, 0, code).is_err() {
                self.problem(here, format!("the {} dialect does not take it", gateway.dialect.name()));
            }
        }
        // Whoever reads an application's request has no credentials at hand, and these are none.
        if gateway.dialect == Dialect::Braintree
            && let Some(credentials) = &gateway.credentials
        {
            let accounts = credentials.merchant_accounts.iter();
            values.extend(accounts.map(|(currency, id)| (format!("merchant_accounts.{currency}"), id.clone())));
        }
        values
    }

    fn webhook(&mut self, name: &str, dialect: Dialect, typed: raw::Webhook) -> Webhook {
        let known = webhook(dialect);
        let secrets: Vec<Secret> = typed
            .secret
            .into_vec()
            .into_iter()
            .map(|secret| Secret::new(secret.0))
            .collect();
        for (field, set) in [
            ("secret", !secrets.is_empty()),
            ("webhook_id", typed.webhook_id.is_some()),
            ("notification_url", typed.notification_url.is_some()),
        ] {
            if set && !known.contains(&field) {
                self.foreign(format!("gateways.{name}.webhook.{field}"), dialect, known);
            }
        }
        if secrets.iter().any(|secret| secret.expose().is_empty()) {
            self.problem(format!("gateways.{name}.webhook.secret"), "is empty");
        }
        Webhook {
            secrets,
            webhook_id: typed.webhook_id,
            notification_url: typed.notification_url,
        }
    }

    fn pins(&mut self, path: &str, typed: &[String]) -> Vec<Pin> {
        let mut pins = Vec::new();
        for (index, text) in typed.iter().enumerate() {
            let pin = text
                .strip_prefix("sha256/")
                .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
                .and_then(|bytes| bytes.try_into().ok());
            match pin {
                Some(pin) => pins.push(Pin(pin)),
                None => self.hinted(
                    format!("{path}[{index}]"),
                    "is not a pin",
                    "write sha256/ and the base64 of the SHA-256 of the SubjectPublicKeyInfo",
                ),
            }
        }
        if !typed.is_empty() && typed.len() < defaults::MIN_PINS {
            self.hinted(
                path,
                "one pin is an outage on the day the gateway changes its key",
                "give two at least",
            );
        }
        pins
    }

    /// The end of a day, Unix seconds.
    fn end_of(&mut self, path: &str, typed: &str) -> Option<i64> {
        let day: Option<jiff::civil::Date> = typed.parse().ok();
        let begins = day.and_then(|day| format!("{day}T00:00:00Z").parse::<jiff::Timestamp>().ok());
        if begins.is_none() {
            self.problem(path, "is not a day: write it as 2027-12-31");
        }
        begins.map(|begins| begins.as_second() + 86_400)
    }
}

const ENDPOINT: units::Wrong = units::Wrong {
    message: "is not an endpoint",
    hint: "write https://host, with :port and /base where needed",
};
const TOO_MUCH: units::Wrong = units::Wrong {
    message: "must not hold credentials or a query",
    hint: "credentials have their own fields",
};

fn endpoint(text: &str) -> Result<Endpoint, units::Wrong> {
    let uri: http::Uri = text.parse().map_err(|_| ENDPOINT)?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(ENDPOINT),
    };
    let authority = uri.authority().ok_or(ENDPOINT)?;
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err(TOO_MUCH);
    }
    Ok(plain(
        tls,
        authority.host().trim_matches(['[', ']']),
        authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        uri.path().trim_end_matches('/'),
    ))
}

pub(super) fn plain(tls: bool, host: &str, port: u16, base_path: &str) -> Endpoint {
    Endpoint {
        tls,
        host: host.to_owned(),
        port,
        base_path: base_path.to_owned(),
        roots: None,
        client_certificate: None,
        pins: Vec::new(),
        pin_mode: PinMode::default(),
        pins_until: None,
        protocol: Protocol::default(),
        addresses: Vec::new(),
        allow_private: false,
    }
}
