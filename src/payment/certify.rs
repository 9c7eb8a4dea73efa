//! Trying, at a real account in test mode or at a simulator, what the safety of failover rests on (safety.md 2.10: A1 and
//! A2; 4.2, suite 9).
//!
//! Every request is written by the adapter that writes it for payments, and every answer is read by the one that reads
//! theirs: what is certified is this pair, not a copy of it. A fence is worth what the weakest of the assumptions under
//! it is worth; [`strength`] says which one that leaves.
//!
//! It refuses live accounts ([`test_account`]): every check makes payments. It concludes nothing from an account that
//! does not approve the test payment.

pub mod certificate;
mod checks;
mod keys;
mod two_step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;

use super::engine::Wire;
use crate::config::model::{Dialect, Endpoint, GatewayConfig};
use crate::gateway::canonical::{
    Buyer, CaptureMode, Card, EarlierAttempt, Initiator, Instrument, Operation, Pay, Refusal, Request,
};
use crate::gateway::outcome::{Observation, Outcome};
use crate::gateway::{AccessToken, Account, Auth, FenceStrength, Gateway, Leg, Outgoing, Stopped};
use crate::money::Amount;
use certificate::{Certificate, Certificates, Check, Missing, Subject};

/// How long one request may take: gateways in test mode are slow at times.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Requests that one request may need before it can be written, at most.
const PREPARATIONS: usize = 4;

/// What each test payment costs, in minor units; refused amounts have magic values in some test environments.
const CENTS: i64 = 1099;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// Sentinel does not write this dialect.
    #[error("payments in {0} are not understood, so there is nothing to certify")]
    Dialect(&'static str),
    /// There are no credentials.
    #[error("the gateway has no credentials in the configuration, so nothing can be asked there")]
    NoCredentials,
    /// The adapter refuses to write the test payment.
    #[error("the test payment cannot be written: {0:?}")]
    Refused(Refusal),
    /// No access token.
    #[error("the gateway gives no access token: {0}")]
    NoToken(String),
    /// The account declines what every test account approves.
    #[error(
        "the test payment was not approved ({0}), so nothing can be said; name an instrument that this account approves \
         with --instrument"
    )]
    NotApproved(String),
}

/// A gateway's account that is known to be for tests.
#[derive(Clone, Debug)]
pub struct TestAccount(Arc<GatewayConfig>);

impl TestAccount {
    /// Takes an account that shows that it is for tests. `said` is a person's word on it, which counts for a custom gateway
    /// only: of the others it is known how their test accounts look.
    ///
    /// # Errors
    /// How it is known not to be for tests, or why that cannot be told.
    pub fn of(config: &Arc<GatewayConfig>, said: bool) -> Result<Self, String> {
        match config.dialect {
            Dialect::Custom if said => {}
            _ => test_account(config)?,
        }
        Ok(Self(Arc::clone(config)))
    }

    /// Its configuration.
    pub fn config(&self) -> &Arc<GatewayConfig> {
        &self.0
    }
}

/// Whether an account is one for tests: `Err` says how it is known not to be, or why that cannot be told.
fn test_account(config: &GatewayConfig) -> Result<(), String> {
    let key = config.credentials.get("secret_key").unwrap_or_default();
    if ["sk_live_", "rk_live_"].iter().any(|live| key.starts_with(live)) {
        return Err(
            "its key is a live key; certifying makes payments, so it takes a test key (sk_test_...)".to_owned(),
        );
    }
    if is_local(&config.endpoint) {
        return Ok(());
    }
    let host = config.endpoint.host.as_str();
    match config.dialect {
        Dialect::Stripe if ["sk_test_", "rk_test_"].iter().any(|test| key.starts_with(test)) => Ok(()),
        Dialect::Stripe => Err("its key is no test key (sk_test_...)".to_owned()),
        Dialect::Adyen if host.ends_with("-test.adyen.com") => Ok(()),
        Dialect::Adyen => Err(format!(
            "{host} is not Adyen's test environment (checkout-test.adyen.com)"
        )),
        Dialect::Paypal if host.ends_with(".sandbox.paypal.com") => Ok(()),
        Dialect::Paypal => Err(format!("{host} is not PayPal's sandbox (api-m.sandbox.paypal.com)")),
        Dialect::Braintree if host.ends_with(".sandbox.braintree-api.com") => Ok(()),
        Dialect::Square if host.ends_with(".squareupsandbox.com") => Ok(()),
        Dialect::Razorpay if config.account().starts_with("rzp_test_") => Ok(()),
        Dialect::Custom => Err(format!(
            "nothing tells whether the account of a custom gateway at {host} is for tests; say it by --test-account {}, or \
             name by --with a configuration where it is a simulator (sentinel sandbox --custom)",
            config.name
        )),
        Dialect::Braintree | Dialect::Square | Dialect::Razorpay => Err(format!(
            "nothing tells that this account of {} is for tests",
            config.dialect.name()
        )),
    }
}

/// Whether a gateway is a simulator on this machine.
pub fn is_local(endpoint: &Endpoint) -> bool {
    let host = endpoint.host.trim_matches(['[', ']']);
    let named = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match endpoint.addresses.as_slice() {
        [] => named,
        fixed => fixed.iter().all(|address| address.ip().is_loopback()),
    }
}

/// The fence that a set of checks leaves: every check that a strength needs has to hold. A gateway can always be asked.
pub fn strength(declared: FenceStrength, checks: &[Check]) -> FenceStrength {
    let earned = |strength: FenceStrength| checks.iter().all(|check| check.holds || check.needed_for > strength);
    [FenceStrength::F3, FenceStrength::F2]
        .into_iter()
        .find(|strength| earned(*strength))
        .unwrap_or(FenceStrength::F1)
        .min(declared)
}

/// The fence that is believed where a certificate is wanted, and the reason in words: what it says where one counts, no
/// more than a weak one where none does.
pub fn believed(declared: FenceStrength, kept: Result<Certificate, Missing>) -> (FenceStrength, String) {
    match kept {
        Ok(certificate) => (certificate.strength.min(declared), "certified".to_owned()),
        Err(missing) => (FenceStrength::F2.min(declared), format!("its certificate: {missing}")),
    }
}

/// Now, in Unix milliseconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Certificates<'_> {
    /// What a certificate of a gateway has to be about, to count for it as it is configured.
    pub fn subject(&self, config: &GatewayConfig) -> Subject {
        let default = crate::gateway::at(config).map_or("", Gateway::api_version);
        Subject {
            gateway: config.name.clone(),
            dialect: config.dialect.name().to_owned(),
            endpoint: config.endpoint.url(),
            account: self.account(config.dialect.name(), config.account()),
            api_version: config
                .settings
                .get("api_version")
                .map_or(default, String::as_str)
                .to_owned(),
        }
    }
}

/// One account on trial.
pub struct Trial {
    config: Arc<GatewayConfig>,
    gateway: &'static dyn Gateway,
    wire: Wire,
    token: Option<AccessToken>,
    instrument: Instrument,
    /// ISO 4217.
    currency: String,
    /// What every key and reference of this run begins with: nothing of an earlier run is met again.
    run: String,
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trial({} as {})", self.config.name, self.run)
    }
}

impl Trial {
    /// Prepares one. It has to be used on a thread that runs a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    /// When the account may be a live one, or cannot be asked.
    pub async fn of(account: &TestAccount, instrument: Option<String>, currency: String) -> Result<Self, CertifyError> {
        let config = account.config();
        let gateway = crate::gateway::at(config).ok_or(CertifyError::Dialect(config.dialect.name()))?;
        if config.credentials.is_empty() {
            return Err(CertifyError::NoCredentials);
        }
        let mut trial = Self {
            config: Arc::clone(config),
            gateway,
            wire: Wire::default(),
            token: None,
            instrument: instrument.map_or_else(|| usual(config.dialect), Instrument::Token),
            // Short: the shortest keys that any gateway takes have 36 characters.
            run: uuid::Uuid::new_v4().simple().to_string().split_at(12).0.to_owned(),
            currency,
        };
        let account = trial.account("token", "token");
        if let Auth::Token { request } = gateway.authentication(&account).map_err(CertifyError::Refused)? {
            let exchanged = trial.exchange(request).await;
            let token = exchanged.as_ref().ok().and_then(|answer| gateway.read_token(answer));
            trial.token = Some(token.ok_or_else(|| {
                CertifyError::NoToken(exchanged.map_or_else(|note| note, |answer| format!("status {}", answer.status)))
            })?);
        }
        Ok(trial)
    }

    /// Tries every assumption.
    ///
    /// # Errors
    /// When the account approves no payment at all.
    pub async fn run(&self) -> Result<Vec<Check>, CertifyError> {
        let mut checks = Vec::new();
        if self.config.dialect == Dialect::Braintree {
            let keys = self.request_keys().await;
            // Every payment with a key would be refused: there is nothing more to find out.
            let refused = !keys.holds && self.declared() == FenceStrength::F3;
            checks.push(keys);
            if refused {
                return Ok(checks);
            }
        }
        checks.extend(self.idempotency().await?);
        checks.extend(self.fences().await);
        match self.config.dialect {
            Dialect::Stripe => checks.extend(self.two_step().await),
            Dialect::Custom => checks.extend(self.look().await),
            _ => {}
        }
        Ok(checks)
    }

    /// The strongest fence that the dialect knows.
    pub fn declared(&self) -> FenceStrength {
        self.gateway.capabilities_of(&self.config.settings).fence
    }

    fn account(&self, key: &str, reference: &str) -> Account {
        Account {
            gateway: self.config.name.clone(),
            credentials: self.config.credentials.clone(),
            idempotency_key: self.named(key),
            reference: self.named(reference),
            settings: self.config.settings.clone(),
            token: self.token.clone(),
            prepared: BTreeMap::new(),
        }
    }

    /// A key or reference of this run.
    fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    fn amount(&self, cents: i64) -> Option<Amount> {
        Amount::from_minor(self.config.dialect, cents, &self.currency).ok()
    }

    /// The test payment.
    fn payment(&self, capture: CaptureMode, cents: i64) -> Request {
        Request::Pay(Box::new(Pay {
            operation: match capture {
                CaptureMode::Automatic => Operation::Sale,
                CaptureMode::Manual => Operation::Authorize,
            },
            confirms: None,
            amount: self.amount(cents),
            capture,
            instrument: Some(self.instrument.clone()),
            customer: None,
            initiator: Initiator::Customer,
            reference: None,
            description: Some("Sentinel certifies this test account".to_owned()),
            statement: None,
            metadata: IndexMap::new(),
            buyer: Buyer::default(),
            return_url: None,
            three_ds: None,
            network_transaction_id: None,
            unportable: Vec::new(),
        }))
    }

    /// One request and its whole answer; `Err` is what became of it.
    async fn exchange(&self, outgoing: Outgoing) -> Result<crate::gateway::Incoming, String> {
        let exchanged = self
            .wire
            .exchange(&self.config, outgoing, TIMEOUT, false, async || true)
            .await;
        exchanged
            .answer
            .ok_or_else(|| format!("no answer: {}", exchanged.evidence.note))
    }

    /// Sends and reads.
    async fn asked(&self, leg: Leg, request: Option<&Request>, reference: &str, outgoing: Outgoing) -> Observation {
        match self.exchange(outgoing).await {
            Ok(answer) => {
                let reference = self.named(reference);
                self.gateway.observe(leg, request, Some(&reference), &answer)
            }
            Err(note) => Observation::bare(Outcome::Unknown, &note),
        }
    }

    /// A request that the adapter writes. One that it refuses was not sent.
    async fn written(&self, leg: Leg, request: &Request, name: &str, reference: &str) -> Observation {
        let mut account = self.account(name, reference);
        if let Some(ended) = self.prepared(request, &mut account).await {
            return ended;
        }
        match self.gateway.encode(request, &account) {
            Ok(outgoing) => self.asked(leg, Some(request), reference, outgoing).await,
            Err(refusal) => Observation::bare(Outcome::NotSent, refusal.label()),
        }
    }

    /// Sends what has to be answered before the request can be written; `Some` when that ends it.
    async fn prepared(&self, request: &Request, account: &mut Account) -> Option<Observation> {
        let unsent = |why: &str| Some(Observation::bare(Outcome::NotSent, why));
        for _ in 0..PREPARATIONS {
            let before = match self.gateway.before(request, account) {
                Ok(before) => before?,
                Err(refusal) => return unsent(refusal.label()),
            };
            let answer = match self.exchange(before).await {
                Ok(answer) => answer,
                Err(note) => return unsent(&note),
            };
            match self.gateway.prepared(request, account, &answer) {
                Ok(()) => {}
                Err(Stopped::Decided(seen)) => return Some(*seen),
                Err(Stopped::Unsent) => return unsent("not_prepared"),
            }
        }
        unsent("not_prepared")
    }

    /// Pays, under a key and reference of this name.
    async fn pay(&self, name: &str, capture: CaptureMode, cents: i64) -> Observation {
        let request = self.payment(capture, cents);
        let leg = match capture {
            CaptureMode::Automatic => Leg::Charge,
            CaptureMode::Manual => Leg::Auth,
        };
        self.written(leg, &request, name, name).await
    }

    /// What is known of a payment of this name whose answer was lost.
    fn earlier(&self, name: &str, capture: CaptureMode) -> EarlierAttempt {
        EarlierAttempt {
            idempotency_key: Some(self.named(name)),
            reference: Some(self.named(name)),
            amount: self.amount(CENTS),
            sent_at: now() / 1000,
            automatic_capture: capture == CaptureMode::Automatic,
            ..EarlierAttempt::default()
        }
    }

    /// Fences a payment of this name, as if its answer had been lost. `None` where the gateway has no such fence.
    async fn fence(&self, name: &str, capture: CaptureMode) -> Option<Observation> {
        let (mark, request) = (format!("{name}-mark"), self.payment(capture, CENTS));
        let account = self.account(&format!("{name}-fence"), &mark);
        let outgoing = self.gateway.fence(&self.earlier(name, capture), &account)?;
        let seen = self.asked(Leg::Fence, Some(&request), &mark, outgoing.clone()).await;
        if seen.outcome == Outcome::Unknown && !seen.arrived && !seen.pending {
            // Some fences tell only when they are asked again whether the first one holds.
            return Some(self.asked(Leg::Fence, Some(&request), &mark, outgoing).await);
        }
        Some(seen)
    }

    /// Looks a payment of this name up, as if its answer had been lost.
    async fn found(&self, name: &str, capture: CaptureMode) -> Option<Observation> {
        let request = self.payment(capture, CENTS);
        let account = self.account(&format!("{name}-look"), name);
        let outgoing = self.gateway.lookup(&self.earlier(name, capture), &account)?;
        Some(self.asked(Leg::Lookup, Some(&request), name, outgoing).await)
    }
}

/// What every test account approves, by the gateways' own documentation.
fn usual(dialect: Dialect) -> Instrument {
    let card = |number: &str| {
        Instrument::Card(Card {
            number: number.to_owned(),
            expiry_month: "03".to_owned(),
            expiry_year: "2030".to_owned(),
            cvc: Some("737".to_owned()),
            holder: Some("J. Smith".to_owned()),
        })
    };
    match dialect {
        Dialect::Stripe => Instrument::Token("pm_card_visa".to_owned()),
        Dialect::Paypal => card("4012888888881881"),
        Dialect::Braintree => Instrument::Token("fake-valid-nonce".to_owned()),
        Dialect::Square => Instrument::Token("cnon:card-nonce-ok".to_owned()),
        _ => card("4111111111111111"),
    }
}

/// Whether money is held or taken by what was answered.
fn is_live(seen: &Observation) -> bool {
    matches!(
        seen.outcome,
        Outcome::Succeeded | Outcome::Authorised | Outcome::ActionRequired
    )
}

/// An observation in a few words.
fn words(seen: &Observation) -> String {
    match &seen.payment_id {
        Some(id) => format!("{:?} by {} ({id})", seen.outcome, seen.rule),
        None => format!("{:?} by {}", seen.outcome, seen.rule),
    }
}

fn check(name: &str, needed_for: FenceStrength, holds: bool, seen: String) -> Check {
    Check {
        name: name.to_owned(),
        holds,
        needed_for,
        // What a gateway writes is cut: it is shown on terminals and kept.
        seen: seen.chars().filter(|c| !c.is_control()).take(200).collect(),
    }
}

#[cfg(test)]
mod tests;
