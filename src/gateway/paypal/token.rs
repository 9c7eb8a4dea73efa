//! Access tokens, in both directions.
//!
//! A token of Sentinel's own is `A21SNT.<seed>.<expiry>.<mac>`, where the mac is HMAC-SHA256 of seed and expiry under
//! the account's client secret. It needs no memory to be known again, nobody without the secret can make one, and it is
//! given only to an application that showed the account's own client id and secret. PayPal's tokens begin with `A21AA`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::gateway::canonical::Refusal;
use crate::gateway::{AccessToken, Account, Credential, Head, Incoming, Outgoing, Reply, json};

/// Where tokens are fetched.
pub(super) const PATH: &str = "/v1/oauth2/token";

/// Marks Sentinel's own tokens.
const PREFIX: &str = "A21SNT.";

/// How long one of Sentinel's own is good for, in seconds. Shorter than PayPal's nine hours, so that applications come
/// back for a real one soon after an outage.
const LIFETIME: i64 = 900;

/// The request that fetches a token. `Err` names the credential that is missing.
pub fn request(account: &Account) -> Result<Outgoing, Refusal> {
    let mut authorization = HeaderValue::from_str(&basic(account)?)
        .map_err(|_| Refusal::Account("client_id and client_secret in plain ASCII".to_owned()))?;
    authorization.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(Outgoing {
        method: Method::POST,
        target: PATH.to_owned(),
        headers,
        body: Bytes::from_static(b"grant_type=client_credentials"),
    })
}

fn basic(account: &Account) -> Result<Zeroizing<String>, Refusal> {
    let get = |name: &str| {
        account
            .credentials
            .get(name)
            .ok_or_else(|| Refusal::Account(name.to_owned()))
    };
    let pair = Zeroizing::new(format!("{}:{}", get("client_id")?, get("client_secret")?));
    Ok(Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
}

/// Reads the answer to [`request`].
pub fn read(answer: &Incoming) -> Option<AccessToken> {
    if answer.status != StatusCode::OK {
        return None;
    }
    let mut body = json::object(&answer.body)?;
    let kind = body.get("token_type").and_then(Value::as_str)?;
    if !kind.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let expires_in = body.get("expires_in").and_then(Value::as_u64)?;
    match body.shift_remove("access_token")? {
        Value::String(value) if !value.is_empty() => Some(AccessToken {
            value: Zeroizing::new(value),
            expires_in,
        }),
        _ => None,
    }
}

pub(super) fn mint(head: &Head, body: &[u8], account: &Account, seed: &[u8; 16], now: i64) -> Reply {
    let grant = form_urlencoded::parse(body).any(|(name, value)| name == "grant_type" && value == "client_credentials");
    if !grant {
        return identity_error(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "Grant Type is unsupported",
        );
    }
    let shown = head
        .headers
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let known = basic(account).is_ok_and(|wanted| bool::from(wanted.as_bytes().ct_eq(shown)));
    let secret = account.credentials.get("client_secret").filter(|_| known);
    let Some(secret) = secret else {
        return identity_error(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            "Client Authentication failed",
        );
    };
    let expiry = now.saturating_add(LIFETIME);
    let seed: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!("{PREFIX}{seed}.{expiry}.{}", tag(secret, &seed, expiry));
    reply(
        StatusCode::OK,
        &json!({
            "scope": "https://uri.paypal.com/services/payments/payment",
            "access_token": token,
            "token_type": "Bearer",
            "app_id": "APP-SENTINEL",
            "expires_in": LIFETIME,
            "nonce": format!("{}{}", super::render::timestamp(now), seed),
        }),
    )
}

fn tag(secret: &str, seed: &str, expiry: i64) -> String {
    // HMAC takes a key of any length.
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mac| {
        let mac = mac.chain_update(format!("sentinel token {seed} {expiry}"));
        mac.finalize().into_bytes()
    });
    let bytes = mac.unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn credential(headers: &HeaderMap, account: &Account, now: i64) -> Credential {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let minted = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        let (scheme, token) = text.split_once(' ')?;
        let token = token
            .trim()
            .strip_prefix(PREFIX)
            .filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
        Some(token.to_owned())
    };
    let (first, more) = (
        values.next().and_then(minted),
        values.any(|value| minted(value).is_some()),
    );
    let Some(token) = first else {
        // A second header is no way to slip one through.
        return if more { Credential::Refused } else { Credential::Native };
    };
    let mut parts = token.split('.');
    let (seed, expiry, mac, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(seed), Some(expiry), Some(mac), None) = (seed, expiry.and_then(|text| text.parse().ok()), mac, rest)
    else {
        return Credential::Refused;
    };
    let Some(secret) = account.credentials.get("client_secret") else {
        return Credential::Refused;
    };
    let genuine = bool::from(tag(secret, seed, expiry).as_bytes().ct_eq(mac.as_bytes()));
    if genuine && now < expiry && !more {
        Credential::Minted
    } else {
        Credential::Refused
    }
}

/// PayPal's identity service has an error shape of its own.
fn identity_error(status: StatusCode, error: &str, description: &str) -> Reply {
    reply(status, &json!({"error": error, "error_description": description}))
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Reply::new(Bytes::from(body.to_string()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
