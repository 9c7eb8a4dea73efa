//! A custom gateway as it was understood: templates taken apart, pointers and codes checked. Data only; what is done with
//! it stands in [`crate::gateway::custom`].

use std::collections::BTreeMap;

/// What a template can stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// One of [`VARIABLES`].
    Known(&'static str),
    /// A credential by its name.
    Credential(String),
}

/// The names that templates know beside `credential.NAME`, and what they stand for.
pub const VARIABLES: [(&str, &str); 33] = [
    ("amount", "the amount, as `amounts` says"),
    ("currency", "ISO 4217, upper case"),
    ("currency_lower", "ISO 4217, lower case"),
    (
        "reference",
        "Sentinel's reference, by which the payment can be found again",
    ),
    ("order", "the merchant's order"),
    ("id", "the payment's id at the gateway"),
    ("key", "the idempotency key"),
    ("instrument", "the instrument, as `instruments` says"),
    ("token", "the saved token"),
    ("card.number", "the card or network token number"),
    ("card.expiry_month", "two digits"),
    ("card.expiry_year", "four digits"),
    ("card.expiry_month_number", "the month as a number"),
    ("card.expiry_year_number", "the year as a number"),
    ("card.cvc", "the security code"),
    ("card.holder", "the holder's name"),
    ("card.cryptogram", "of a network token"),
    ("card.eci", "of a network token"),
    ("description", "free text"),
    ("statement", "text for the customer's statement"),
    ("reason", "the merchant's reason for a void or refund"),
    ("merchant_initiated", "true or false"),
    ("buyer.name", "the buyer's name"),
    ("buyer.email", "the buyer's e-mail address"),
    ("buyer.phone", "the buyer's telephone number"),
    ("buyer.ip", "the buyer's address on the network"),
    ("billing.line1", "of the billing address"),
    ("billing.city", "of the billing address"),
    ("billing.state", "of the billing address"),
    ("billing.postal_code", "of the billing address"),
    ("billing.country", "ISO 3166-1, two letters"),
    ("return_url", "where the customer's browser returns"),
    (
        "network_transaction_id",
        "of the first payment with a stored credential",
    ),
];

impl Variable {
    /// The variable of a name.
    pub fn named(name: &str) -> Option<Self> {
        match name.strip_prefix("credential.") {
            Some(credential) if !credential.is_empty() => Some(Self::Credential(credential.to_owned())),
            _ => VARIABLES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(known, _)| Self::Known(known)),
        }
    }
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A value.
    Value(Variable),
}

/// A text with values in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

impl Template {
    /// The value that the whole template stands for, when it is nothing else.
    pub fn alone(&self) -> Option<&Variable> {
        match self.0.as_slice() {
            [Piece::Value(variable)] => Some(variable),
            _ => None,
        }
    }

    /// Every value in it.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(variable) => Some(variable),
            Piece::Text(_) => None,
        })
    }
}

/// JSON with values in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Text, or a value.
    Text(Template),
    /// A number, boolean or null, as it stands.
    Plain(serde_json::Value),
    /// A list.
    List(Vec<Tree>),
    /// An object.
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Calls `see` with every template in it.
    pub fn each(&self, see: &mut dyn FnMut(&Template)) {
        match self {
            Self::Text(template) => see(template),
            Self::Plain(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.each(see)),
            Self::Object(members) => members.iter().for_each(|(_, member)| member.each(see)),
        }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its method.
    pub method: http::Method,
    /// Path and query.
    pub path: Template,
    /// The body.
    pub body: Option<Tree>,
}

/// How amounts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amounts {
    /// Whole minor units.
    Minor,
    /// Text with decimals.
    Decimal,
}

/// Idempotency keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The header, lower case.
    pub header: http::HeaderName,
    /// How long keys are kept, in hours.
    pub hours: u32,
    /// The longest key.
    pub max_length: usize,
}

/// What a word for a state means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Money is held.
    Authorised,
    /// Money was taken.
    Succeeded,
    /// Declined.
    Declined,
    /// Released for good.
    Voided,
    /// The customer has to act.
    ActionRequired,
    /// Not known yet.
    Pending,
}

/// Words and what they mean.
pub type States = BTreeMap<String, State>;

/// What a status that refuses says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The account is at fault.
    Account,
    /// The request is wrong.
    Request,
    /// The gateway is busy.
    Transient,
}

/// What a decline allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// May be tried elsewhere.
    Soft,
    /// Stop.
    Hard,
    /// Stop, and do not tell why.
    Fraud,
    /// Gateway or issuer not available.
    RetryLater,
    /// The account is not set up for it.
    Config,
    /// Proves nothing.
    Ambiguous,
}

/// The canonical names of declines that a description may use; all of them stand in the table of declines.
pub const DECLINES: [&str; 30] = [
    "authentication_required",
    "avs_failure",
    "call_issuer",
    "card_not_activated",
    "closed_account",
    "currency_not_supported",
    "do_not_honor",
    "do_not_retry",
    "duplicate",
    "expired_card",
    "gateway_risk_block",
    "gateway_unavailable",
    "generic_decline",
    "insufficient_funds",
    "invalid_account",
    "invalid_amount",
    "invalid_cvc",
    "invalid_expiry",
    "invalid_number",
    "invalid_pin",
    "invalid_transaction",
    "issuer_unavailable",
    "limit_exceeded",
    "lost_or_stolen",
    "merchant_setup",
    "not_permitted",
    "pickup_card",
    "processing_error",
    "revoked_mandate",
    "suspected_fraud",
];

/// What a word for the state of a capture, void or refund means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modification {
    /// It is done.
    Done,
    /// It is accepted, and done later.
    Accepted,
    /// It is refused, and was never executed.
    Refused,
}

/// Where things stand in answers: JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// The header of the gateway's own answers, lower case.
    pub native_header: http::HeaderName,
    /// Id.
    pub id: String,
    /// State.
    pub status: String,
    /// Amount.
    pub amount: String,
    /// Currency.
    pub currency: String,
    /// Sentinel's reference.
    pub reference: Option<String>,
    /// Decline code.
    pub decline_code: Option<String>,
    /// Decline text.
    pub decline_message: Option<String>,
    /// Redirect.
    pub redirect: Option<String>,
    /// Network transaction id.
    pub network_transaction_id: Option<String>,
    /// Approval code.
    pub approval_code: Option<String>,
    /// Last four digits.
    pub card_last4: Option<String>,
    /// Statuses under which a payment is answered.
    pub statuses: Vec<u16>,
    /// Words.
    pub states: States,
    /// Words after a sale, where they mean something else.
    pub sale_states: States,
    /// A modification's id.
    pub modification_id: Option<String>,
    /// A modification's state, where the status alone does not say what became of it.
    pub modification_status: Option<String>,
    /// Words for it.
    pub modification_states: BTreeMap<String, Modification>,
    /// Statuses of what is done.
    pub done: Vec<u16>,
    /// Statuses of what is accepted.
    pub accepted: Vec<u16>,
    /// Where `find` lists; empty for the answer itself.
    pub list: String,
}

/// A custom gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Custom {
    /// How amounts are written.
    pub amounts: Amounts,
    /// Currencies, ISO 4217, upper case.
    pub currencies: Vec<String>,
    /// Headers of every request.
    pub headers: Vec<(http::HeaderName, Template)>,
    /// Keys.
    pub idempotency: Option<Idempotency>,
    /// A saved token.
    pub token: Option<Tree>,
    /// A raw card.
    pub card: Option<Tree>,
    /// A network token.
    pub network_token: Option<Tree>,
    /// Takes money.
    pub sale: Call,
    /// Holds money.
    pub authorize: Option<Call>,
    /// Takes what is held.
    pub capture: Option<Call>,
    /// Releases what is held.
    pub void: Option<Call>,
    /// Gives back.
    pub refund: Call,
    /// Reads by id.
    pub retrieve: Option<Call>,
    /// Finds by reference.
    pub find: Option<Call>,
    /// Shows that it answers.
    pub probe: Option<Call>,
    /// Answers.
    pub answers: Answers,
    /// Statuses that refuse.
    pub refusals: BTreeMap<u16, Refusal>,
    /// Decline codes: canonical name and class.
    pub declines: BTreeMap<String, (String, Class)>,
    /// Whether less can be captured.
    pub partial_capture: bool,
    /// Whether a part can be refunded.
    pub partial_refund: bool,
}

impl Custom {
    /// Every call, with its name.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &Call)> {
        [
            ("sale", Some(&self.sale)),
            ("authorize", self.authorize.as_ref()),
            ("capture", self.capture.as_ref()),
            ("void", self.void.as_ref()),
            ("refund", Some(&self.refund)),
            ("retrieve", self.retrieve.as_ref()),
            ("find", self.find.as_ref()),
            ("probe", self.probe.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, call)| Some((name, call?)))
    }

    /// The names of the credentials that it is written with.
    pub fn credentials(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut see = |template: &Template| {
            for variable in template.variables() {
                if let Variable::Credential(name) = variable
                    && !names.contains(name)
                {
                    names.push(name.clone());
                }
            }
        };
        self.headers.iter().for_each(|(_, template)| see(template));
        for (_, call) in self.calls() {
            see(&call.path);
            if let Some(body) = &call.body {
                body.each(&mut see);
            }
        }
        for tree in [&self.token, &self.card, &self.network_token].into_iter().flatten() {
            tree.each(&mut see);
        }
        names
    }

    /// Whether any template of an instrument or payment names this.
    pub fn names(&self, wanted: &str) -> bool {
        let mut found = false;
        let mut see = |template: &Template| {
            found |= template
                .variables()
                .any(|variable| matches!(variable, Variable::Known(name) if *name == wanted));
        };
        let bodies = [Some(&self.sale), self.authorize.as_ref()];
        for body in bodies.into_iter().flatten().filter_map(|call| call.body.as_ref()) {
            body.each(&mut see);
        }
        for tree in [&self.token, &self.card, &self.network_token].into_iter().flatten() {
            tree.each(&mut see);
        }
        found
    }
}
