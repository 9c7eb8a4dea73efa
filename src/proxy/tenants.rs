//! Requests that carry a Sentinel API key instead of the gateway's own credentials.
//!
//! The key may stand wherever the gateway's SDK puts its credentials: as a bearer token, as either half of HTTP Basic, or
//! in `X-API-Key`. It is verified, taken out, and the tenant's own credentials are put in as the dialect carries them; the
//! request is then forwarded, or taken as a payment, in the tenant's name. A request that carries anything else passes as
//! it is, in the name of `local` or of the tenant that the route is bound to.
//!
//! # What it refuses
//!
//! - A key that is not valid, has not the scope, or belongs to another tenant than the route.
//! - Whatever still has a key anywhere in its head after the exchange: no gateway ever sees one.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use memchr::memmem;
use serde_json::json;
use zeroize::Zeroizing;

use super::reason::{Reason, Turned};
use super::runtime::RouteState;
use crate::account::api_key::{PREFIX, Scope};
use crate::account::{AccountError, Accounts, Caller, tenant_of};
use crate::config::model::{Credentials, Dialect};
use crate::gateway;
use crate::payment::engine::{At, Desk, Route};
use crate::resilience::Faults;

/// Where Adyen's SDKs put their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Where PayPal's SDKs fetch their access tokens.
const PAYPAL_TOKEN: &str = "/v1/oauth2/token";
/// How long an access token is good at PayPal, in seconds.
const PAYPAL_TOKEN_LIFE: u32 = 32_400;

/// Who may send what for whom.
#[derive(Debug)]
pub struct Tenants {
    accounts: Arc<Accounts>,
    desk: Rc<Desk>,
}

/// What became of a request.
pub enum Admitted {
    /// It goes on, as a payment by this route where it is one.
    Goes(Option<Arc<Route>>),
    /// It was answered.
    Answered(Response<Bytes>),
}

/// Whether a request needs a closer look. Everything else costs two look-ups here.
pub fn concerns<B>(route: &RouteState, request: &Request<B>) -> bool {
    route.config.tenant.is_some()
        || sent(request.headers()).is_some()
        || request
            .uri()
            .path_and_query()
            .is_some_and(|target| holds_key(target.as_str().as_bytes()))
}

/// What a tenant's own request to a gateway is made of.
struct Theirs<'a> {
    books: &'a str,
    credentials: &'a Credentials,
    faults: &'a Arc<Faults>,
}

impl Tenants {
    /// The tenants of these accounts.
    pub fn new(accounts: Arc<Accounts>, desk: Rc<Desk>) -> Self {
        Self { accounts, desk }
    }

    /// Admits a request in a tenant's name, and exchanges its credentials.
    ///
    /// # Errors
    /// Why it is not admitted. Nothing was sent.
    pub async fn admit(
        &self,
        route: &RouteState,
        faults: &Arc<Faults>,
        request: &mut Request<Incoming>,
    ) -> Result<Admitted, Reason> {
        let engine = self.desk.engine();
        let bound = route.config.tenant.as_deref();
        let Some(key) = sent(request.headers()) else {
            if in_head(request) {
                return Err(Reason::Tenant(Turned::KeyMisplaced));
            }
            let payments = match (&route.payments, bound) {
                (Some(payments), Some(books)) => Some(engine.made_of(payments, books).await.map_err(|e| trouble(&e))?),
                (payments, _) => payments.clone(),
            };
            return Ok(Admitted::Goes(payments));
        };
        let caller = self.accounts.key(&key).await.map_err(|error| match error {
            AccountError::Unauthorised(_) => Reason::Tenant(Turned::KeyInvalid),
            error => trouble(&error),
        })?;
        if !caller.may(Scope::Payments) || bound.is_some_and(|owner| owner != tenant_of(&caller.tenant).0) {
            return Err(Reason::Tenant(Turned::KeyForbidden));
        }
        let books = caller.own_books();
        let dialect = route.config.dialect;
        if dialect == Dialect::Paypal && request.uri().path() == PAYPAL_TOKEN {
            return Ok(Admitted::Answered(paypal_token(&key)));
        }
        let payments = match &route.payments {
            Some(payments) => Some(
                engine
                    .made_of(payments, &books)
                    .await
                    .map_err(|error| trouble(&error))?,
            ),
            None => None,
        };
        let credentials = self.credentials(route, &caller, &books).await?;
        request.headers_mut().remove(header::AUTHORIZATION);
        request.headers_mut().remove(API_KEY);
        let theirs = Theirs {
            books: &books,
            credentials: &credentials,
            faults,
        };
        let token_needed = payments.is_none();
        self.put(route, request.headers_mut(), &theirs, token_needed).await?;
        if in_head(request) {
            return Err(Reason::Tenant(Turned::KeyMisplaced));
        }
        Ok(Admitted::Goes(payments))
    }

    /// The tenant's credentials for the gateway that speaks the application's dialect.
    async fn credentials(&self, route: &RouteState, caller: &Caller, books: &str) -> Result<Credentials, Reason> {
        let party = self.desk.engine().party(books).await.map_err(|error| trouble(&error))?;
        if let Some(theirs) = party.credentials(&route.gateway.name) {
            return Ok(theirs.clone());
        }
        let configured = &route.gateway.credentials;
        let lent = route.config.lend_credentials && !Caller::is_staging(books);
        let theirs = route.config.tenant.as_deref() == Some(books) || lent;
        match theirs && !configured.is_empty() {
            true => Ok(configured.clone()),
            false => {
                tracing::debug!(
                    tenant = caller.tenant,
                    gateway = route.gateway.name,
                    "no credentials are stored"
                );
                Err(Reason::Tenant(Turned::NoCredentials))
            }
        }
    }

    /// Puts credentials in, as the dialect carries them.
    async fn put(
        &self,
        route: &RouteState,
        headers: &mut HeaderMap,
        theirs: &Theirs<'_>,
        token_needed: bool,
    ) -> Result<(), Reason> {
        let credentials = theirs.credentials;
        let named = |name: &str| credentials.get(name).unwrap_or_default();
        let basic = |user: &str, password: &str| {
            let pair = Zeroizing::new(format!("{user}:{password}"));
            Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        };
        let bearer = |token: &str| Zeroizing::new(format!("Bearer {token}"));
        let (field, text) = match route.config.dialect {
            Dialect::Stripe => (header::AUTHORIZATION, bearer(named("secret_key"))),
            Dialect::Square => (header::AUTHORIZATION, bearer(named("access_token"))),
            Dialect::Adyen => (API_KEY, Zeroizing::new(named("api_key").to_owned())),
            Dialect::Braintree => (header::AUTHORIZATION, basic(named("public_key"), named("private_key"))),
            Dialect::Razorpay => (header::AUTHORIZATION, basic(named("key_id"), named("key_secret"))),
            Dialect::Paypal => match self.paypal(route, theirs).await {
                Some(token) => (header::AUTHORIZATION, bearer(&token)),
                // PayPal is down, or refuses the account. A payment may yet be taken elsewhere.
                None if !token_needed => return Ok(()),
                None => return Err(Reason::Tenant(Turned::NoToken)),
            },
            Dialect::Custom => return Err(Reason::Tenant(Turned::NoCredentials)),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| Reason::Tenant(Turned::NoCredentials))?;
        value.set_sensitive(true);
        headers.insert(field, value);
        Ok(())
    }

    /// An access token of the tenant's own.
    async fn paypal(&self, route: &RouteState, theirs: &Theirs<'_>) -> Option<Zeroizing<String>> {
        let at = At {
            config: Arc::clone(&route.gateway),
            gateway: gateway::for_dialect(Dialect::Paypal)?,
            tenant: theirs.books.into(),
            credentials: theirs.credentials.clone(),
            breaker: Arc::clone(&route.breaker),
            metrics: Arc::clone(&route.at_gateway),
            native: true,
            route: Arc::clone(&route.metrics),
            faults: Arc::clone(theirs.faults),
            questions: Arc::default(),
        };
        self.desk.token(&at).await.map(|token| token.value)
    }
}

fn trouble(error: &AccountError) -> Reason {
    tracing::warn!(%error, "a tenant's request needs the ledger");
    Reason::Tenant(Turned::Unavailable)
}

/// What an SDK of PayPal's is answered that fetches a token with a Sentinel key: the key, which is a bearer token itself.
/// It ends when the key is revoked, and nothing has to be remembered.
fn paypal_token(key: &str) -> Response<Bytes> {
    let body = json!({
        "scope": "https://uri.paypal.com/services/payments/payment",
        "access_token": key,
        "token_type": "Bearer",
        "app_id": "API-SENTINEL",
        "expires_in": PAYPAL_TOKEN_LIFE,
        "nonce": "",
    });
    let mut reply = Response::new(Bytes::from(body.to_string()));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// The Sentinel key of a request, where its SDK puts credentials.
fn sent(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let own = |text: &str| text.starts_with(PREFIX).then(|| Zeroizing::new(text.to_owned()));
    let api_key = headers.get(API_KEY).and_then(|value| value.to_str().ok()).and_then(own);
    api_key.or_else(|| {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, rest) = value.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return own(rest);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = Zeroizing::new(STANDARD.decode(rest).ok()?);
        let pair = std::str::from_utf8(&decoded).ok()?;
        let (user, password) = pair.split_once(':').unwrap_or((pair, ""));
        own(user).or_else(|| own(password))
    })
}

fn holds_key(bytes: &[u8]) -> bool {
    memmem::find(bytes, PREFIX.as_bytes()).is_some()
}

/// Whether a key stands anywhere in a request's head.
fn in_head<B>(request: &Request<B>) -> bool {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    holds_key(target.as_bytes()) || request.headers().values().any(|value| holds_key(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        sent(&headers).map(|key| key.to_string())
    }

    #[test]
    fn a_key_is_found_wherever_an_sdk_puts_credentials_and_nothing_else_is_taken_for_one() {
        let key = "sk_snt_live_abc";
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for value in [
            format!("Bearer {key}"),
            format!("bearer  {key}"),
            basic(&format!("{key}:")),
            basic(&format!("{key}:x")),
            basic(&format!("x:{key}")),
            basic(key),
        ] {
            assert_eq!(carried("authorization", &value).as_deref(), Some(key), "{value}");
        }
        assert_eq!(carried("x-api-key", key).as_deref(), Some(key));
        for value in [
            "Bearer sk_live_1",
            "Basic c2tfbGl2ZTo=",
            "Digest sk_snt_live_abc",
            "Bearer",
            "Basic %%",
        ] {
            assert_eq!(carried("authorization", value), None, "{value}");
        }
    }
}
