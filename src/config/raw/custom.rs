//! A custom gateway as it is typed: what is sent to it, and what its answers mean.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::OneOrMany;

/// A gateway that Sentinel has no dialect of: JSON over HTTP, described here. Texts are templates: `{amount}`, `{reference}`,
/// `{credential.secret_key}` and so on stand for what a request is about.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// How amounts are written: `minor` for whole minor units by ISO 4217, `decimal` for text such as `10.00`.
    pub amounts: Amounts,
    /// The currencies that it takes, by ISO 4217. Leave out those whose decimals it does not write as ISO does.
    pub currencies: Vec<String>,
    /// Headers of every request, for example `Authorization: Bearer {credential.secret_key}`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its idempotency keys. Default: it has none, and nothing is sent twice.
    pub idempotency: Option<Idempotency>,
    /// What is charged, as JSON, by kind; a request names it as `{instrument}`. A kind that is not here is refused.
    pub instruments: Instruments,
    /// What it is asked.
    pub requests: Requests,
    /// What its answers mean.
    pub answers: Answers,
    /// Statuses that say: refused, and never executed. Any other status but a payment's proves nothing.
    #[serde(default)]
    pub refusals: Refusals,
    /// Its decline codes: class, then canonical name, then codes. Default for a code that is not here: `hard`.
    #[serde(default)]
    pub declines: Declines,
    /// Whether less than was authorised can be captured. Default false.
    pub partial_capture: Option<bool>,
    /// Whether a part can be refunded. Default false.
    pub partial_refund: Option<bool>,
}

/// How amounts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Amounts {
    /// Whole minor units, a JSON number.
    Minor,
    /// Text with ISO 4217's decimals.
    Decimal,
}

/// Idempotency keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// The header that carries the key.
    pub header: String,
    /// How long keys are kept, in hours. Take the shortest that its documents name.
    pub hours: u32,
    /// The longest key, in characters. Default 36.
    pub max_length: Option<usize>,
}

/// What is charged, by kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instruments {
    /// A saved token, `{token}`.
    pub token: Option<String>,
    /// A raw card, `{card.number}` and so on; only on routes that allow raw cards.
    pub card: Option<String>,
    /// A network token, `{card.number}` and `{card.cryptogram}`.
    pub network_token: Option<String>,
}

/// What it is asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// Takes money at once.
    pub sale: Call,
    /// Holds money. Default: it cannot.
    pub authorize: Option<Call>,
    /// Takes what is held, `{amount}` of `{id}`. Default: it cannot.
    pub capture: Option<Call>,
    /// Releases what is held. Default: it cannot.
    pub void: Option<Call>,
    /// Gives `{amount}` of `{id}` back.
    pub refund: Call,
    /// Reads a payment by `{id}`. Default: it cannot.
    pub retrieve: Option<Call>,
    /// Lists the payments of a `{reference}`. Default: it cannot.
    pub find: Option<Call>,
    /// A call that moves no money and shows that the gateway answers. Default: none.
    pub probe: Option<Call>,
}

/// One request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Its method. Default POST.
    pub method: Option<Method>,
    /// Its path, with its query where it has one: `/payments/{id}/captures`.
    pub path: String,
    /// Its JSON body, as text in which `"{name}"` stands for a value: `{ "amount": "{amount}" }`. A member whose value is
    /// not known is left out. Default: none.
    pub body: Option<String>,
}

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Makes.
    Post,
    /// Puts.
    Put,
    /// Changes.
    Patch,
    /// Deletes.
    Delete,
}

/// What its answers mean: JSON pointers (RFC 6901) into them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// A header that every answer of its own has, and no page of a proxy before it: without it nothing is believed.
    pub native_header: String,
    /// Where a payment's id stands.
    pub id: String,
    /// Where its state stands.
    pub status: String,
    /// Where its amount stands.
    pub amount: String,
    /// Where its currency stands.
    pub currency: String,
    /// Where Sentinel's reference comes back.
    pub reference: Option<String>,
    /// Where the decline code stands.
    pub decline_code: Option<String>,
    /// Where its text stands.
    pub decline_message: Option<String>,
    /// Where the customer has to be sent.
    pub redirect: Option<String>,
    /// Where the network's transaction id stands.
    pub network_transaction_id: Option<String>,
    /// Where the issuer's approval code stands.
    pub approval_code: Option<String>,
    /// Where the card's last four digits stand.
    pub card_last4: Option<String>,
    /// Statuses of HTTP under which a payment is answered, declined ones too. Default 200, 201 and 202.
    #[serde(default)]
    pub statuses: Vec<u16>,
    /// What its words for a state mean.
    pub states: States,
    /// What they mean after a sale, where that is something else: a word for "authorised" that will be captured by itself.
    #[serde(default)]
    pub sale_states: States,
    /// Captures, voids and refunds.
    #[serde(default)]
    pub modifications: Modifications,
    /// Where `find` lists payments. Default: the answer itself is the list.
    pub list: Option<String>,
}

/// What words for a state mean. A word that is nowhere proves nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct States {
    /// Money is held.
    #[serde(default)]
    pub authorised: OneOrMany<String>,
    /// Money was taken, or will be without anybody asking.
    #[serde(default)]
    pub succeeded: OneOrMany<String>,
    /// Declined.
    #[serde(default)]
    pub declined: OneOrMany<String>,
    /// Released; nothing is held or taken any more, and nothing will be.
    #[serde(default)]
    pub voided: OneOrMany<String>,
    /// The customer has to act.
    #[serde(default)]
    pub action_required: OneOrMany<String>,
    /// Accepted, and not known yet.
    #[serde(default)]
    pub pending: OneOrMany<String>,
}

/// How captures, voids and refunds are answered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Modifications {
    /// Where the modification's id stands.
    pub id: Option<String>,
    /// Statuses that say: done. Default 200 and 201.
    #[serde(default)]
    pub done: Vec<u16>,
    /// Statuses that say: accepted, and done later. Default 202.
    #[serde(default)]
    pub accepted: Vec<u16>,
    /// Where its state stands, for a gateway that answers one of these statuses to what it refuses, too. The word decides
    /// then, and not the status; one that is nowhere proves nothing.
    pub status: Option<String>,
    /// What its words for that state mean.
    #[serde(default)]
    pub states: ModificationStates,
}

/// What words for the state of a capture, void or refund mean.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModificationStates {
    /// It is done.
    #[serde(default)]
    pub done: OneOrMany<String>,
    /// It is accepted, and done later.
    #[serde(default)]
    pub accepted: OneOrMany<String>,
    /// It is refused, and was never executed.
    #[serde(default)]
    pub refused: OneOrMany<String>,
}

/// Statuses that say: refused, and never executed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refusals {
    /// The account is at fault: key, permission, set-up.
    #[serde(default)]
    pub account: Vec<u16>,
    /// The request is wrong: no gateway will do better.
    #[serde(default)]
    pub request: Vec<u16>,
    /// It is busy or limits. Not 429, where it also means that the same key is in use.
    #[serde(default)]
    pub transient: Vec<u16>,
}

/// Decline codes by class.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declines {
    /// May be tried elsewhere where a route allows it.
    #[serde(default)]
    pub soft: BTreeMap<String, OneOrMany<String>>,
    /// Not worth another try.
    #[serde(default)]
    pub hard: BTreeMap<String, OneOrMany<String>>,
    /// Fraud: never tried elsewhere, and the reason is not told.
    #[serde(default)]
    pub fraud: BTreeMap<String, OneOrMany<String>>,
    /// The gateway or issuer was not available.
    #[serde(default)]
    pub retry_later: BTreeMap<String, OneOrMany<String>>,
    /// The account is not set up for it.
    #[serde(default)]
    pub config: BTreeMap<String, OneOrMany<String>>,
    /// Proves nothing: a duplicate, for example.
    #[serde(default)]
    pub ambiguous: BTreeMap<String, OneOrMany<String>>,
}
