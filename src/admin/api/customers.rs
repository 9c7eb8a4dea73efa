//! Registering, sessions, and the profile.

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::Reply;
use super::call::{Call, json, nothing, time};
use super::problem::{Code, Problem};
use crate::account::tenant::{Profile, Registration, Tenant};
use crate::account::token::Session;
use crate::config::model::{Dialect, RegistrationPolicy};

/// A new account.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The account's id.
    pub customer_id: String,
    /// The address to log in with.
    pub email: String,
    /// The company.
    pub company_name: String,
    /// The first API key, for production. It is shown this once.
    pub api_key: String,
    /// The token of the first session (JWT).
    pub token: String,
    /// How it is sent: `Authorization: Bearer`.
    pub token_type: &'static str,
    /// Seconds that the token is good for.
    pub expires_in: i64,
    /// What the next token is had for, once.
    pub refresh_token: String,
    /// Where the dashboard is.
    pub dashboard_url: String,
}

/// The tokens of a session.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionTokens {
    /// The account's id.
    pub customer_id: String,
    /// The token (JWT).
    pub token: String,
    /// How it is sent: `Authorization: Bearer`.
    pub token_type: &'static str,
    /// Seconds that the token is good for.
    pub expires_in: i64,
    /// What the next token is had for, once.
    pub refresh_token: String,
}

impl SessionTokens {
    fn of(customer_id: String, session: Session) -> Self {
        Self {
            customer_id,
            token: session.access,
            token_type: "Bearer",
            expires_in: session.expires_in,
            refresh_token: session.refresh,
        }
    }
}

/// Makes an account.
pub async fn register(call: Call) -> Result<Reply, Problem> {
    let runtime = call.api().runtime();
    let config = &runtime.config.accounts;
    let open = match config.registration {
        RegistrationPolicy::Open => true,
        RegistrationPolicy::Loopback => call.listener().ip().is_loopback(),
        RegistrationPolicy::Closed => false,
    };
    if !open {
        return Err(Problem::new(
            Code::RegistrationClosed,
            "this Sentinel takes no registrations from here; whoever runs it can set accounts.registration",
        ));
    }
    let asked: Registration = call.json()?;
    let registered = call.api().accounts().register(asked, call.from()).await?;
    let account = Account {
        customer_id: registered.tenant.id,
        email: registered.tenant.email,
        company_name: registered.tenant.company_name,
        api_key: registered.key.secret,
        token: registered.session.access,
        token_type: "Bearer",
        expires_in: registered.session.expires_in,
        refresh_token: registered.session.refresh,
        dashboard_url: config.dashboard.clone(),
    };
    json(StatusCode::CREATED, &account)
}

/// What logging in takes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The address.
    pub email: String,
    /// The password.
    pub password: String,
}

impl Drop for Login {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

/// Opens a session.
pub async fn login(call: Call) -> Result<Reply, Problem> {
    let mut asked: Login = call.json()?;
    let password = std::mem::take(&mut asked.password);
    let (tenant, session) = call.api().accounts().login(&asked.email, password, call.from()).await?;
    json(StatusCode::OK, &SessionTokens::of(tenant.id, session))
}

/// What refreshing takes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Refresh {
    /// The refresh token of the session, which this uses up.
    pub refresh_token: String,
}

/// The next token of a session.
pub async fn refresh(call: Call) -> Result<Reply, Problem> {
    let asked: Refresh = call.json()?;
    let session = call.api().accounts().refresh(&asked.refresh_token, call.from()).await?;
    let caller = call.api().accounts().session(&session.access)?;
    json(StatusCode::OK, &SessionTokens::of(caller.tenant, session))
}

/// Ends the session.
pub async fn logout(call: Call) -> Result<Reply, Problem> {
    call.api().accounts().logout(call.caller()?, call.from()).await?;
    Ok(nothing())
}

/// What changing the password takes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PasswordChange {
    /// The password until now.
    pub current_password: String,
    /// The password from now on: 12 characters or more.
    #[schemars(length(min = 12, max = 256))]
    pub new_password: String,
}

impl Drop for PasswordChange {
    fn drop(&mut self) {
        self.current_password.zeroize();
        self.new_password.zeroize();
    }
}

/// Changes the password.
pub async fn change_password(call: Call) -> Result<Reply, Problem> {
    let mut asked: PasswordChange = call.json()?;
    let (old, new) = (
        std::mem::take(&mut asked.current_password),
        std::mem::take(&mut asked.new_password),
    );
    let caller = call.caller()?;
    let accounts = call.api().accounts();
    let session = accounts.change_password(caller, old, new, call.from()).await?;
    json(StatusCode::OK, &SessionTokens::of(caller.tenant.clone(), session))
}

/// An account as its owner sees it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileView {
    /// The account's id.
    pub customer_id: String,
    /// The address to log in with.
    pub email: String,
    /// The company.
    pub company_name: String,
    /// Where its payments go first.
    pub primary_gateway: Option<String>,
    /// Where they go when that one fails.
    pub secondary_gateway: Option<String>,
    /// When the account was made (RFC 3339).
    pub created_at: String,
    /// Where the dashboard is.
    pub dashboard_url: String,
}

fn view(call: &Call, tenant: Tenant) -> ProfileView {
    ProfileView {
        customer_id: tenant.id,
        email: tenant.email,
        company_name: tenant.company_name,
        primary_gateway: tenant.profile.primary_gateway,
        secondary_gateway: tenant.profile.secondary_gateway,
        created_at: time(tenant.created_at),
        dashboard_url: call.api().runtime().config.accounts.dashboard.clone(),
    }
}

/// Shows the profile.
pub async fn profile(call: Call) -> Result<Reply, Problem> {
    let tenant = call.api().accounts().tenant(&call.caller()?.tenant).await?;
    json(StatusCode::OK, &view(&call, tenant))
}

/// Chooses gateways.
pub async fn set_profile(call: Call) -> Result<Reply, Problem> {
    let asked: Profile = call.json()?;
    let runtime = call.api().runtime();
    let known = |name: &str| {
        Dialect::SIX.iter().any(|dialect| dialect.name() == name) || runtime.config.gateways.contains_key(name)
    };
    let accounts = call.api().accounts();
    let tenant = accounts.set_profile(call.caller()?, asked, known, call.from()).await?;
    call.api().engine().tenant_changed(&tenant.id);
    json(StatusCode::OK, &view(&call, tenant))
}
