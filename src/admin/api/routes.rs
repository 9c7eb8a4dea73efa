//! Every endpoint, declared once. A new room's endpoints are one more list here.

use axum::http::StatusCode;
use serde_json::json;

use super::endpoint::{Endpoint, Needs};
use super::problem::Code;
use super::{audit, credentials, customers, docs, figures, instruments, keys, statements, status};
use crate::account::api_key::Scope;
use crate::account::tenant::{Profile, Registration};

/// All of them.
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = account();
    all.extend(api_keys());
    all.extend(gateways());
    all.extend(analytics());
    all.extend(billing());
    all.extend(instrument_map());
    all.extend(about());
    all
}

fn account() -> Vec<Endpoint> {
    const GROUP: &str = "Account";
    vec![
        Endpoint::post("/api/v1/customers/register", "register", customers::register)
            .about(
                GROUP,
                "Make an account",
                "Answers with a production API key, which is shown this once, the token of a first session, and where the \
                 dashboard is. Open on loopback listeners, closed elsewhere unless `accounts.registration` says otherwise.",
            )
            .for_whom(Needs::Nothing)
            .takes::<Registration>(json!({
                "email": "your-email@company.com",
                "password": "YourSecurePassword123!",
                "companyName": "Your Company Name"
            }))
            .answers::<customers::Account>(StatusCode::CREATED, "The account, its key and its session")
            .fails(&[Code::RegistrationClosed, Code::AddressTaken, Code::TooManyRequests]),
        Endpoint::post("/api/v1/customers/login", "login", customers::login)
            .about(
                GROUP,
                "Log in",
                "A wrong password and an address without an account answer alike. After five wrong passwords the address \
                 is locked for a minute, and for longer with each further one.",
            )
            .for_whom(Needs::Nothing)
            .takes::<customers::Login>(json!({
                "email": "your-email@company.com",
                "password": "YourSecurePassword123!"
            }))
            .answers::<customers::SessionTokens>(StatusCode::OK, "A session")
            .fails(&[Code::Unauthorized, Code::TooManyRequests]),
        Endpoint::post("/api/v1/customers/refresh", "refresh", customers::refresh)
            .about(
                GROUP,
                "Get the session's next token",
                "A refresh token is good once. One that is used a second time ends its session: one of the two was a thief.",
            )
            .for_whom(Needs::Nothing)
            .takes::<customers::Refresh>(json!({ "refreshToken": "YOUR_REFRESH_TOKEN" }))
            .answers::<customers::SessionTokens>(StatusCode::OK, "The same session, with new tokens")
            .fails(&[Code::Unauthorized, Code::TooManyRequests]),
        Endpoint::post("/api/v1/customers/logout", "logout", customers::logout)
            .about(GROUP, "End the session", "Its tokens are refused from then on.")
            .answers_nothing("It has ended"),
        Endpoint::put("/api/v1/customers/password", "changePassword", customers::change_password)
            .about(GROUP, "Change the password", "Ends every session, and answers with a new one.")
            .takes::<customers::PasswordChange>(json!({
                "currentPassword": "YourSecurePassword123!",
                "newPassword": "another long passphrase"
            }))
            .answers::<customers::SessionTokens>(StatusCode::OK, "A new session; all others have ended")
            .fails(&[Code::TooManyRequests, Code::Conflict]),
        Endpoint::get("/api/v1/customers/profile", "getProfile", customers::profile)
            .about(GROUP, "Show the profile", "")
            .answers::<customers::ProfileView>(StatusCode::OK, "The profile"),
        Endpoint::put("/api/v1/customers/profile", "setProfile", customers::set_profile)
            .about(
                GROUP,
                "Choose gateways",
                "Out of stripe, paypal, braintree, square, razorpay, adyen, and the other gateways that this Sentinel has; \
                 `GET /api/v1/status` names them. What is left out is unset.",
            )
            .takes::<Profile>(json!({ "primaryGateway": "stripe", "secondaryGateway": "paypal" }))
            .answers::<customers::ProfileView>(StatusCode::OK, "The profile as it is now")
            .fails(&[Code::Conflict]),
        Endpoint::get("/api/v1/audit", "listAudit", audit::list)
            .about(GROUP, "Show what was done about the account", "By whom, when, and from which address.")
            .asks::<audit::Page>()
            .answers::<audit::Trail>(StatusCode::OK, "The trail, the newest first"),
    ]
}

fn api_keys() -> Vec<Endpoint> {
    const GROUP: &str = "API keys";
    const ID: &str = "The key's id";
    vec![
        Endpoint::post("/api/v1/keys", "createKey", keys::issue)
            .about(GROUP, "Make a key", "The key itself is shown this once.")
            .takes::<keys::Asked>(json!({ "name": "checkout, staging", "mode": "test", "scopes": ["payments"] }))
            .answers::<keys::NewlyIssued>(StatusCode::CREATED, "The key"),
        Endpoint::get("/api/v1/keys", "listKeys", keys::list)
            .about(GROUP, "List the keys", "With those that were revoked or replaced.")
            .answers::<keys::Keys>(StatusCode::OK, "The keys, the newest first"),
        Endpoint::post("/api/v1/keys/{id}/rotate", "rotateKey", keys::rotate)
            .about(
                GROUP,
                "Replace a key",
                "The new key is good at once and has the old one's name, mode and scopes; the old one is good for the \
                 overlap, so that no deployment is without a key.",
            )
            .parameter("id", ID)
            .takes::<keys::Rotation>(json!({ "overlapHours": 24 }))
            .answers::<keys::NewlyIssued>(StatusCode::CREATED, "The new key")
            .fails(&[Code::NotFound, Code::Conflict]),
        Endpoint::post("/api/v1/keys/{id}/revoke", "revokeKey", keys::revoke)
            .about(
                GROUP,
                "Revoke a key",
                "At once. Revoking a revoked key changes nothing.",
            )
            .parameter("id", ID)
            .answers::<keys::Key>(StatusCode::OK, "The key as it is now")
            .fails(&[Code::NotFound]),
    ]
}

fn gateways() -> Vec<Endpoint> {
    const GROUP: &str = "Gateway credentials";
    const GATEWAY: &str = "The gateway, as `GET /api/v1/status` names it";
    vec![
        Endpoint::get("/api/v1/credentials", "listCredentials", credentials::list)
            .about(GROUP, "List what is stored", "Names only: no value is ever shown.")
            .answers::<credentials::StoredList>(StatusCode::OK, "What is stored for which gateway"),
        Endpoint::put("/api/v1/credentials/{gateway}", "storeCredentials", credentials::store)
            .about(
                GROUP,
                "Store a gateway's credentials",
                "In place of what was stored. A request that carries a Sentinel API key is sent to the gateway with these.",
            )
            .parameter("gateway", GATEWAY)
            .takes::<credentials::Asked>(json!({ "credentials": { "secret_key": "sk_live_your_stripe_key" } }))
            .answers::<credentials::StoredView>(StatusCode::OK, "What is stored now")
            .fails(&[Code::NotFound]),
        Endpoint::delete("/api/v1/credentials/{gateway}", "deleteCredentials", credentials::delete)
            .about(GROUP, "Delete a gateway's credentials", "")
            .parameter("gateway", GATEWAY)
            .asks::<credentials::Which>()
            .answers_nothing("They are deleted")
            .fails(&[Code::NotFound]),
    ]
}

fn analytics() -> Vec<Endpoint> {
    const GROUP: &str = "Figures";
    const READS: Needs = Needs::Scope(Scope::Analytics);
    vec![
        Endpoint::get("/api/v1/metrics/overview", "getOverview", figures::overview)
            .about(
                GROUP,
                "What a period came to",
                "An event is a payment that failed at its first gateway for another reason than that gateway's own decline; it is \
                 recovered when that gateway provably did not execute it and another one holds or took the money. Payments count \
                 in the hour in which they were opened (UTC). A key for staging reads staging's figures.",
            )
            .for_whom(READS)
            .asks::<figures::Span>()
            .answers::<figures::OverviewView>(StatusCode::OK, "The overview"),
        Endpoint::get("/api/v1/analytics/events", "listEvents", figures::events)
            .about(GROUP, "List events, or download them", "The newest first. Cursors stay good while payments arrive.")
            .for_whom(READS)
            .asks::<figures::EventsWanted>()
            .answers::<figures::Events>(StatusCode::OK, "A page of events, or all of them as a file")
            .answers_as::<String>(StatusCode::OK, "All events, as a file", "text/csv")
            .answers_as::<String>(StatusCode::OK, "All events, as a file", "application/x-ndjson"),
        Endpoint::get("/api/v1/analytics/events/{id}", "getEvent", figures::event)
            .about(GROUP, "Show what happened to one payment", "With the evidence that every step rests on.")
            .for_whom(READS)
            .parameter("id", "Sentinel's id of the payment: the header `Sentinel-Payment`")
            .answers::<figures::EventDetail>(StatusCode::OK, "The payment and its timeline")
            .fails(&[Code::NotFound]),
        Endpoint::get("/api/v1/analytics/gateways", "compareGateways", figures::gateways)
            .about(GROUP, "Compare the gateways", "By whole days (UTC).")
            .for_whom(READS)
            .asks::<figures::Span>()
            .answers::<figures::Gateways>(StatusCode::OK, "The gateways"),
    ]
}

fn billing() -> Vec<Endpoint> {
    const GROUP: &str = "Billing";
    const READS: Needs = Needs::Scope(Scope::Billing);
    vec![
        Endpoint::get("/api/v1/billing/statements", "listStatements", statements::list)
            .about(
                GROUP,
                "List the statements",
                "One a month (UTC) and currency. A month is closed after its end and changes no more; the running one is \
                 computed anew each time.",
            )
            .for_whom(READS)
            .answers::<statements::Statements>(StatusCode::OK, "The statements, the newest month first"),
        Endpoint::get("/api/v1/billing/statements/{month}/{currency}", "getStatement", statements::show)
            .about(GROUP, "Show a statement with its lines, or download it", "Every line names its payment and the event of its timeline.")
            .for_whom(READS)
            .parameter("month", "The month, as in `2026-11`")
            .parameter("currency", "ISO 4217")
            .asks::<statements::Wanted>()
            .answers::<statements::Detailed>(StatusCode::OK, "The statement with up to 1000 lines, or all lines as a file")
            .answers_as::<String>(StatusCode::OK, "All lines, as a file", "text/csv")
            .fails(&[Code::NotFound]),
        Endpoint::get("/api/v1/billing/instrument", "getBillingInstrument", statements::paid_with)
            .about(GROUP, "Show whether there is something to pay fees with", "The token is never told back.")
            .answers::<statements::PaidWithView>(StatusCode::OK, "Whether a token is stored"),
        Endpoint::put("/api/v1/billing/instrument", "setBillingInstrument", statements::pay_with)
            .about(
                GROUP,
                "Say what fees are paid with",
                "A token of the operator's gateway. Where this Sentinel collects fees, that of a closed statement is charged \
                 to it once; after a decline it is tried again when another token is stored.",
            )
            .takes::<statements::PayWith>(json!({ "token": "pm_1", "customer": "cus_1" }))
            .answers::<statements::PaidWithView>(StatusCode::OK, "It is stored"),
        Endpoint::delete("/api/v1/billing/instrument", "deleteBillingInstrument", statements::pay_with_nothing)
            .about(GROUP, "Forget what fees are paid with", "")
            .answers_nothing("It is forgotten")
            .fails(&[Code::NotFound]),
    ]
}

fn instrument_map() -> Vec<Endpoint> {
    const GROUP: &str = "Instruments";
    const MAY: Needs = Needs::Scope(Scope::Instruments);
    vec![
        Endpoint::get("/api/v1/instruments", "listInstruments", instruments::list)
            .about(GROUP, "List the instrument map", "")
            .for_whom(MAY)
            .asks::<instruments::Page>()
            .answers::<instruments::Instruments>(StatusCode::OK, "A page of it"),
        Endpoint::put("/api/v1/instruments", "putInstrument", instruments::put)
            .about(
                GROUP,
                "Say which saved token at another gateway stands for an application's token",
                "With it a payment with that token can be taken elsewhere. Card numbers are refused: this is a map of tokens.",
            )
            .for_whom(MAY)
            .asks::<instruments::ForMode>()
            .takes::<instruments::Instrument>(json!({
                "gateway": "stripe",
                "token": "pm_1",
                "targets": { "adyen": { "token": "8415698462516992", "account": "AcmeECOM", "customer": "shopper-1" } }
            }))
            .answers_nothing("It is kept, in place of an earlier one with the same token"),
        Endpoint::delete("/api/v1/instruments", "deleteInstrument", instruments::delete)
            .about(GROUP, "Forget an instrument", "")
            .for_whom(MAY)
            .asks::<instruments::Which>()
            .asked_as("gateway=stripe&token=pm_1")
            .answers_nothing("It is forgotten")
            .fails(&[Code::NotFound]),
        Endpoint::post("/api/v1/instruments/import", "importInstruments", instruments::import)
            .about(
                GROUP,
                "Import a file of instruments",
                "CSV with the columns `gateway,token,target,target_token,target_account` and, when wanted, \
                 `target_customer`, or one JSON object a line. Lines that are not taken are named; the others are kept.",
            )
            .for_whom(MAY)
            .asks::<instruments::ForMode>()
            .takes_text(
                "text/csv",
                instruments::IMPORT,
                "gateway,token,target,target_token,target_account\nstripe,pm_1,adyen,8415698462516992,AcmeECOM\n",
            )
            .takes_text(
                "application/x-ndjson",
                instruments::IMPORT,
                "{\"gateway\":\"stripe\",\"token\":\"pm_1\",\"targets\":{\"adyen\":{\"token\":\"8415698462516992\",\"account\":\"AcmeECOM\"}}}\n",
            )
            .answers::<instruments::Imported>(StatusCode::OK, "What was kept, and what was not"),
    ]
}

fn about() -> Vec<Endpoint> {
    const GROUP: &str = "Status and documentation";
    vec![
        Endpoint::get("/api/v1/status", "getStatus", status::status)
            .about(
                GROUP,
                "Show how this Sentinel and its gateways are doing",
                "For status pages.",
            )
            .for_whom(Needs::Nothing)
            .answers::<status::Status>(StatusCode::OK, "How it is doing"),
        Endpoint::get("/api/v1/openapi.json", "getOpenapi", docs::document)
            .about(GROUP, "This document", "OpenAPI 3.1.")
            .for_whom(Needs::Nothing)
            .answers::<serde_json::Map<String, serde_json::Value>>(StatusCode::OK, "The document"),
        Endpoint::get("/api/v1/docs", "getDocs", docs::html)
            .about(GROUP, "The documentation, as a page", "")
            .for_whom(Needs::Nothing)
            .answers_as::<String>(StatusCode::OK, "The page", "text/html"),
        Endpoint::get("/api/v1/docs/style.css", "getDocsStyle", docs::style)
            .about(GROUP, "The page's style", "")
            .for_whom(Needs::Nothing)
            .answers_as::<String>(StatusCode::OK, "The style", "text/css"),
    ]
}
