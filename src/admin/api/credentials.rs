//! A tenant's own credentials for its gateways: written, used and deleted, never read back.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reply;
use super::call::{Call, json, not_found, nothing, time};
use super::problem::Problem;
use crate::account::api_key::Mode;
use crate::account::audit::Action;
use crate::account::credentials::{self, GatewayCredentials, Stored};
use crate::config::model::Dialect;

/// What is stored for a gateway, without any value.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredView {
    /// The gateway.
    gateway: String,
    /// For which keys' payments it is used.
    mode: Mode,
    /// The names of what is stored.
    fields: Vec<String>,
    /// When it was stored (RFC 3339).
    updated_at: String,
}

impl StoredView {
    fn of(stored: Stored) -> Self {
        Self {
            gateway: stored.gateway,
            mode: stored.mode,
            fields: stored.fields,
            updated_at: time(stored.updated_at),
        }
    }
}

/// What is stored for all gateways.
#[derive(Serialize, JsonSchema)]
pub struct StoredList {
    /// By gateway and mode.
    credentials: Vec<StoredView>,
}

/// What storing takes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// For which keys' payments they are: `live` or `test`. Default `live`.
    #[serde(default = "live")]
    mode: Mode,
    /// The credentials by name. stripe: `secret_key`; paypal: `client_id`, `client_secret`; braintree: `merchant_id`,
    /// `public_key`, `private_key`; square: `access_token`, `location_id`; razorpay: `key_id`, `key_secret`; adyen:
    /// `api_key`, `merchant_account`; a custom gateway: those that its description names.
    #[schemars(length(min = 1, max = 16))]
    credentials: BTreeMap<String, String>,
}

fn live() -> Mode {
    Mode::Live
}

/// Which credentials.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// `live` or `test`. Default `live`.
    mode: Option<Mode>,
}

/// Lists what is stored.
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let stored = credentials::list(&**call.api().ledger(), &call.caller()?.tenant).await?;
    let credentials = stored.into_iter().map(StoredView::of).collect();
    json(StatusCode::OK, &StoredList { credentials })
}

/// Stores credentials.
pub async fn store(call: Call) -> Result<Reply, Problem> {
    let asked: Asked = call.json()?;
    let gateway = call.parameter(0);
    let runtime = call.api().runtime();
    let configured = runtime.config.gateways.get(gateway);
    let given = GatewayCredentials(asked.credentials);
    match configured.and_then(|gateway| gateway.custom.as_ref()) {
        Some(description) => given.fit_custom(&description.credentials())?,
        None => {
            let dialect = configured
                .map(|gateway| gateway.dialect)
                .or_else(|| Dialect::SIX.into_iter().find(|dialect| dialect.name() == gateway))
                .ok_or_else(|| not_found("gateway; GET /api/v1/status names them"))?;
            given.fit(dialect)?;
        }
    }
    let (ledger, caller) = (&**call.api().ledger(), call.caller()?);
    credentials::store(ledger, &caller.tenant, asked.mode, gateway, &given).await?;
    call.api().engine().tenant_changed(&caller.tenant);
    let action = Action::CredentialsStored {
        gateway: gateway.to_owned(),
    };
    call.api().accounts().note(caller, action, call.from()).await?;
    let stored = credentials::list(ledger, &caller.tenant).await?;
    let stored = stored
        .into_iter()
        .find(|stored| stored.gateway == gateway && stored.mode == asked.mode)
        .ok_or_else(|| not_found("gateway"))?;
    json(StatusCode::OK, &StoredView::of(stored))
}

/// Deletes credentials.
pub async fn delete(call: Call) -> Result<Reply, Problem> {
    let which: Which = call.query()?;
    let gateway = call.parameter(0);
    let (ledger, caller) = (&**call.api().ledger(), call.caller()?);
    let mode = which.mode.unwrap_or(Mode::Live);
    if !credentials::delete(ledger, &caller.tenant, mode, gateway).await? {
        return Err(not_found("gateway with credentials"));
    }
    call.api().engine().tenant_changed(&caller.tenant);
    let action = Action::CredentialsDeleted {
        gateway: gateway.to_owned(),
    };
    call.api().accounts().note(caller, action, call.from()).await?;
    Ok(nothing())
}
