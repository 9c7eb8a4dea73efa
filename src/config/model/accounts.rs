//! Tenants: who may register, and what they pay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of the route by which fees are collected.
pub const FEES: &str = "fees";
/// Whose books the collected fees are in: no tenant has such a name.
pub const OPERATOR: &str = "operator";

/// How tenants are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// Whether their API is served under `/api/v1` on the shared listeners. Never without a ledger.
    pub api: bool,
    /// Who may register.
    pub registration: RegistrationPolicy,
    /// Host names accepted on loopback listeners beside the loopback names (DNS rebinding).
    pub hosts: Vec<String>,
    /// The dashboard's address, as a tenant's browser reaches it.
    pub dashboard: String,
    /// What is charged for recovered revenue.
    pub fee: Fee,
    /// The gateway at which fees are collected: the operator's own account. `None` where that is nobody's business here.
    pub collect: Option<String>,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationPolicy {
    /// Whoever reaches a loopback listener.
    Loopback,
    /// Whoever reaches a shared listener.
    Open,
    /// Nobody.
    Closed,
}

/// A share of an amount, exact: millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fee {
    /// Millionths of the amount; 2 % is 20 000.
    pub millionths: u32,
}
