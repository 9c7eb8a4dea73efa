//! The canonical model: what a payment request means, whichever dialect it was written in.
//!
//! Strings from outside become these types at the door. A field that a dialect cannot express is a [`Refusal`] when it
//! is encoded, never a silent loss.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::outcome::Decline;
use crate::config::model::Dialect;
use crate::money::{Amount, Currency};

/// What a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Create a payment object without moving money (Stripe intent, PayPal order, Razorpay order).
    Create,
    /// Hold money.
    Authorize,
    /// Take money.
    Sale,
    /// Execute a payment created before.
    Confirm,
    /// Lower what is held before it is captured (Square). Its request is the capture that it announces.
    Edit,
    /// Move held money, all or part of it.
    Capture,
    /// Release held money.
    Void,
    /// Give money back, all or part of it.
    Refund,
    /// Read one payment.
    Retrieve,
    /// Read one refund.
    RetrieveRefund,
    /// List payments.
    List,
    /// Fetch an access token (PayPal). Passed through while the gateway answers, minted while it does not.
    Token,
    /// Ask whether a webhook is genuine (PayPal). Answered for what Sentinel wrote, passed through for the gateway's own.
    Verification,
    /// Anything else: forwarded untouched.
    Opaque,
}

/// The kinds of object that an answer names by an id of the dialect's own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// The payment itself: `pi_...`, PayPal order, Adyen pspReference, Square payment, Razorpay payment.
    Payment,
    /// The gateway's record of one execution: Stripe charge, PayPal capture or authorisation.
    Charge,
    /// A refund.
    Refund,
    /// A capture as an object of its own (PayPal capture of an authorisation, Adyen modification).
    Capture,
    /// A saved instrument as shown in an answer.
    Instrument,
    /// A request id for support (`req_...`, debug id).
    RequestId,
}

/// A payment request in canonical form.
#[derive(Clone, Debug)]
pub enum Request {
    /// Create, authorise, sale or confirm.
    Pay(Box<Pay>),
    /// Capture. `amount` is `None` for everything that is left.
    Capture {
        /// The gateway's own id of what is captured (filled with the owner's id before encoding).
        target: Target,
        /// How much, or all that is left.
        amount: Option<Amount>,
        /// How much in the dialect's minor units, where a request names no currency (Stripe) and the payment's own is
        /// meant: [`Request::in_currency`] makes an amount of it.
        units: Option<i64>,
        /// Whether the rest of the authorisation is released.
        last: bool,
    },
    /// Void.
    Void {
        /// What is voided.
        target: Target,
        /// The merchant's reason, when the dialect carries one.
        reason: Option<String>,
    },
    /// Refund. `amount` is `None` for everything that is left.
    Refund {
        /// What is refunded.
        target: Target,
        /// How much, or all that is left.
        amount: Option<Amount>,
        /// As in a capture.
        units: Option<i64>,
        /// The merchant's reason, when the dialect carries one.
        reason: Option<String>,
        /// The merchant's reference for the refund.
        reference: Option<String>,
        /// Key and value pairs kept with the refund.
        metadata: IndexMap<String, String>,
    },
    /// Read one payment.
    Retrieve {
        /// What is read.
        target: Target,
    },
    /// Read one refund.
    RetrieveRefund {
        /// The refund's id.
        refund: String,
    },
    /// List payments, or refunds of one payment.
    List(ListFilter),
}

impl Request {
    /// Gives a capture or refund that names no currency the payment's own. It must be called before such a request is
    /// encoded: an encoder that finds bare units refuses them.
    pub fn in_currency(&mut self, dialect: Dialect, currency: Currency) -> Result<(), Refusal> {
        if let Self::Capture { amount, units, .. } | Self::Refund { amount, units, .. } = self
            && let Some(bare) = units.take()
        {
            *amount = Some(match dialect {
                // Its decimals are the same for every currency.
                Dialect::Braintree => super::braintree::in_currency(bare, currency)?,
                _ => Amount::from_minor(dialect, bare, currency.code())
                    .map_err(|error| Refusal::Amount(error.to_string()))?,
            });
        }
        Ok(())
    }
}

impl Request {
    /// The payment that is asked for.
    pub fn pay(&self) -> Option<&Pay> {
        match self {
            Self::Pay(pay) => Some(pay),
            _ => None,
        }
    }

    /// What a capture, void or refund acts on.
    pub fn modifies(&self) -> Option<&Target> {
        match self {
            Self::Capture { target, .. } | Self::Void { target, .. } | Self::Refund { target, .. } => Some(target),
            _ => None,
        }
    }
}

/// A payment's ids, as far as the speaker knows them. Before a request is encoded for the owner, `payment` is the
/// [`Observation::payment_id`](super::outcome::Observation::payment_id) of its authorisation or charge, `authorization`
/// the `charge_id` of its authorisation leg, and `charge` the `charge_id` of its charge or capture leg.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The payment object's id.
    pub payment: Option<String>,
    /// The execution's id (Stripe charge, PayPal capture), where it differs.
    pub charge: Option<String>,
    /// The authorisation's id, where it differs (PayPal).
    pub authorization: Option<String>,
    /// What "all that is left" comes to, for gateways that want an amount in every request.
    pub amount: Option<Amount>,
    /// The merchant's order reference, where an application names the payment by it (Adyen's `/cancels`).
    pub reference: Option<String>,
    /// Of a refund: all that was taken, as long as nothing of it was given back. A refund of as much undoes the payment,
    /// which Braintree does by another call than a part.
    #[serde(default)]
    pub untouched: Option<Amount>,
    /// The idempotency key that made the payment, where an application names it so (Square's cancel).
    pub key: Option<String>,
}

/// An order that an application opens before it pays (Razorpay's), as Sentinel opens one in its gateway's stead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id, of the gateway's own form.
    pub id: String,
    /// How much is to be paid.
    pub amount: Amount,
    /// When money is taken, which its payment does not say.
    pub capture: CaptureMode,
    /// The merchant's reference.
    pub receipt: Option<String>,
    /// The merchant's key and value pairs.
    pub metadata: IndexMap<String, String>,
    /// When it was opened, seconds of Unix time.
    pub created: i64,
}

/// Which payments or refunds to list.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Refunds of this payment instead of payments.
    pub refunds_of: Option<String>,
    /// At most this many.
    pub limit: usize,
    /// After this id.
    pub starting_after: Option<String>,
    /// Created at or after, seconds of Unix time.
    pub created_from: Option<i64>,
    /// Created at or before, seconds of Unix time.
    pub created_to: Option<i64>,
}

/// When an authorised amount is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// At once: a sale.
    Automatic,
    /// By a later capture request: an authorisation.
    Manual,
}

/// Who started the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initiator {
    /// The customer is present.
    Customer,
    /// The merchant, on a stored credential, without the customer.
    Merchant,
}

/// A payment to be made.
#[derive(Clone, Debug)]
pub struct Pay {
    /// Create, authorise, sale or confirm.
    pub operation: Operation,
    /// The object that is confirmed.
    pub confirms: Option<String>,
    /// How much. `None` only for a confirm, whose amount stands in the created object.
    pub amount: Option<Amount>,
    /// When money is taken.
    pub capture: CaptureMode,
    /// What is charged. `None` for a create without instrument.
    pub instrument: Option<Instrument>,
    /// The customer id in the dialect's own vault, when one is named.
    pub customer: Option<String>,
    /// Who started it.
    pub initiator: Initiator,
    /// The merchant's order reference.
    pub reference: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Text for the customer's statement.
    pub statement: Option<String>,
    /// The merchant's key and value pairs.
    pub metadata: IndexMap<String, String>,
    /// The buyer, as far as the request tells.
    pub buyer: Buyer,
    /// Where the customer's browser returns after a challenge.
    pub return_url: Option<String>,
    /// The result of a 3-D Secure authentication done elsewhere.
    pub three_ds: Option<ThreeDs>,
    /// The network transaction id of the first payment with a stored credential.
    pub network_transaction_id: Option<String>,
    /// Parameters that only the application's own gateway understands and that forbid taking the payment elsewhere
    /// (Connect parameters, vaulting during payment, ...), by name. Empty when the payment is portable.
    pub unportable: Vec<String>,
}

/// The buyer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buyer {
    /// Full name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Telephone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// The buyer's address on the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Billing address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing: Option<Address>,
    /// Delivery address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping: Option<Address>,
}

/// A postal address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// First line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line1: Option<String>,
    /// Second line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
    /// City.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// State or province.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// ISO 3166-1 alpha-2 country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// What is charged.
#[derive(Clone, Debug)]
pub enum Instrument {
    /// A token of the named dialect's vault (`pm_...`, `tok_...`, vault id, stored payment method id). It means nothing
    /// at any other gateway; the instrument map translates it.
    Token(String),
    /// A raw card. In memory only, never in the ledger.
    Card(Card),
    /// A network token with its cryptogram.
    NetworkToken(NetworkToken),
    /// Something bound to the gateway (wallet order, redirect, bank debit), by its name there. Never portable.
    Bound(String),
}

/// A raw card. Zeroed when dropped; its `Debug` shows nothing.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Card {
    /// The number, digits only.
    pub number: String,
    /// Two digits.
    pub expiry_month: String,
    /// Four digits.
    pub expiry_year: String,
    /// The security code, when sent. Never stored.
    pub cvc: Option<String>,
    /// The holder's name.
    pub holder: Option<String>,
}

impl std::fmt::Debug for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Card([REDACTED])")
    }
}

/// A network token. Zeroed when dropped; its `Debug` shows nothing.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NetworkToken {
    /// The token number, digits only.
    pub number: String,
    /// Two digits.
    pub expiry_month: String,
    /// Four digits.
    pub expiry_year: String,
    /// The cryptogram, good for one use.
    pub cryptogram: Option<String>,
    /// Electronic commerce indicator.
    pub eci: Option<String>,
}

impl std::fmt::Debug for NetworkToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NetworkToken([REDACTED])")
    }
}

/// The result of a 3-D Secure authentication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreeDs {
    /// Protocol version, e.g. `2.2.0`.
    pub version: String,
    /// Electronic commerce indicator.
    pub eci: Option<String>,
    /// Authentication value (CAVV).
    pub cryptogram: String,
    /// Directory server transaction id.
    pub transaction_id: Option<String>,
}

/// What is known of an earlier attempt, for fences and look-ups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierAttempt {
    /// The idempotency key it was sent with.
    pub idempotency_key: Option<String>,
    /// Our reference in it.
    pub reference: Option<String>,
    /// The application's object that it acts on (an intent being confirmed, an order being captured).
    pub object: Option<String>,
    /// The execution's id, once known.
    pub charge: Option<String>,
    /// The amount.
    pub amount: Option<Amount>,
    /// When it was sent, seconds of Unix time.
    pub sent_at: i64,
    /// Whether the attempt was to take money at once.
    pub automatic_capture: bool,
}

/// Where a payment stands, as shown to an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Created; no money moved, no instrument tried.
    Created,
    /// Waits for the customer (3-D Secure, redirect).
    ActionRequired,
    /// Being executed; the truth comes later.
    Processing,
    /// Money is held.
    Authorised,
    /// Money was taken.
    Captured,
    /// The hold was released.
    Voided,
    /// Declined.
    Declined,
}

/// A payment as an answer shows it: everything any dialect needs to write a complete object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// Ids in the application's dialect, minted or native.
    pub ids: ViewIds,
    /// Where it stands.
    pub status: Status,
    /// The full amount.
    pub amount: Amount,
    /// Taken so far.
    pub captured: Amount,
    /// Given back so far.
    pub refunded: Amount,
    /// What is to be taken of the amount, where the application said so and it is not taken yet: a capture that is
    /// accepted and done later, an amount that was lowered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taking: Option<Amount>,
    /// What is still held for another capture, after one that asked to keep the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Amount>,
    /// Captures of a hold that the application asked for, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<CaptureView>,
    /// When money is taken.
    pub capture: CaptureMode,
    /// Created, seconds of Unix time.
    pub created: i64,
    /// Voided, seconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voided_at: Option<i64>,
    /// The application's instrument token, as it sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instrument: Option<String>,
    /// What may be shown of the card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<CardView>,
    /// The application's customer id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Order reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Text for the customer's statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The merchant's key and value pairs.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub metadata: IndexMap<String, String>,
    /// The buyer.
    pub buyer: Buyer,
    /// The last decline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decline: Option<Decline>,
    /// Refunds, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refunds: Vec<RefundView>,
    /// Whether live money is at stake (from the application's key or the configuration).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// Where the customer has to be sent, when [`Status::ActionRequired`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// Network transaction id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_transaction_id: Option<String>,
    /// The issuer's approval code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_code: Option<String>,
}

/// A payment's ids in the application's dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewIds {
    /// Payment object.
    pub payment: String,
    /// Execution (Stripe charge, PayPal capture or authorisation).
    pub charge: String,
    /// The capture that an answer is about, one of [`View::captures`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// Request id for support.
    pub request: String,
}

/// What may be shown of a card: never the number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardView {
    /// `visa`, `mastercard`, `amex`, `discover`, `diners`, `jcb`, `unionpay` or `unknown`.
    pub brand: Option<String>,
    /// Last four digits.
    pub last4: Option<String>,
    /// 1 to 12.
    pub expiry_month: Option<u8>,
    /// Four digits.
    pub expiry_year: Option<u16>,
}

/// A capture as an answer shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaptureView {
    /// Id in the application's dialect.
    pub id: String,
    /// How much.
    pub amount: Amount,
    /// How much of it was given back.
    pub refunded: Amount,
    /// Whether it is proven done; accepted, or in doubt, if not.
    pub done: bool,
    /// Whether it let go of the rest of the hold.
    pub last: bool,
    /// When it was asked for, seconds of Unix time.
    pub created: i64,
}

/// A refund as an answer shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefundView {
    /// Id in the application's dialect.
    pub id: String,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub status: RefundStatus,
    /// Created, seconds of Unix time.
    pub created: i64,
    /// The merchant's reason.
    pub reason: Option<String>,
    /// The merchant's reference.
    pub reference: Option<String>,
    /// Key and value pairs.
    pub metadata: IndexMap<String, String>,
}

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// Accepted, not yet done.
    Pending,
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
}

/// What the application is told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The payment, after the named operation.
    Payment(Operation, Box<View>),
    /// A decline of the payment.
    Declined(Box<View>, Decline),
    /// A refund of the payment.
    Refund(Box<View>, RefundView),
    /// Payments.
    List(Vec<View>),
    /// Refunds of a payment.
    Refunds(Box<View>, Vec<RefundView>),
    /// The outcome is not known yet. Never a plain failure: the SDK must keep its key.
    InDoubt {
        /// Sentinel's id of the payment.
        payment: String,
        /// Whether the SDK should itself ask again now (still running) or the application later (parked).
        running: bool,
        /// The payment as far as it is known, for dialects with a form of their own for it (Adyen's `Received`,
        /// PayPal's pending capture), whose applications then wait for a webhook instead of paying again.
        view: Option<Box<View>>,
    },
}

/// Why a request cannot be carried to a gateway. The label stands in `Sentinel-Failover`, metrics and the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "reason", content = "detail", rename_all = "snake_case")]
pub enum Refusal {
    /// The instrument has no form that the target takes.
    #[error("no portable instrument for this gateway")]
    NoPortableInstrument,
    /// A raw card where the route does not allow one.
    #[error("raw card data is not allowed on this route")]
    CardDataNotAllowed,
    /// The target does not take the currency.
    #[error("currency {0} is not supported by this gateway")]
    Currency(String),
    /// The amount has no exact form at the target.
    #[error("amount has no exact form at this gateway: {0}")]
    Amount(String),
    /// Less or more than the gateway, or the account there, takes.
    #[error("amount is outside of what this gateway takes: {0}")]
    Limit(String),
    /// An operator keeps payments away from the target.
    #[error("an operator keeps payments away from this gateway")]
    ForcedOpen,
    /// A parameter that only the application's own gateway understands.
    #[error("parameter {0} cannot be carried to another gateway")]
    Parameter(String),
    /// The operation does not exist at the target.
    #[error("{0} is not possible at this gateway")]
    Operation(String),
    /// The customer has to act, or already acts, at the first gateway.
    #[error("the customer's action is bound to the first gateway")]
    CustomerAction,
    /// 3-D Secure data that the target has no field for.
    #[error("3-D Secure data cannot be carried to this gateway")]
    ThreeDs,
    /// The body is not what the dialect's API takes.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// The idempotency key breaks the dialect's rules.
    #[error("invalid idempotency key: {0}")]
    IdempotencyKey(String),
    /// The configured account lacks something the request needs.
    #[error("gateway account lacks {0}")]
    Account(String),
}

impl Refusal {
    /// The closed label for headers and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoPortableInstrument => "no_portable_instrument",
            Self::CardDataNotAllowed => "card_data_not_allowed",
            Self::Currency(_) => "currency_not_supported",
            Self::Amount(_) => "amount_not_representable",
            Self::Limit(_) => "amount_out_of_limits",
            Self::ForcedOpen => "breaker_forced_open",
            Self::Parameter(_) => "parameter_not_portable",
            Self::Operation(_) => "operation_not_supported",
            Self::CustomerAction => "customer_action",
            Self::ThreeDs => "three_ds_not_portable",
            Self::Malformed(_) => "malformed_request",
            Self::IdempotencyKey(_) => "invalid_idempotency_key",
            Self::Account(_) => "account_incomplete",
        }
    }
}

impl From<crate::money::MoneyError> for Refusal {
    fn from(error: crate::money::MoneyError) -> Self {
        use crate::money::MoneyError;
        match error {
            MoneyError::Unsupported(currency, _)
            | MoneyError::Contradictory(currency, _)
            | MoneyError::UnknownCurrency(currency) => Self::Currency(currency.code().to_owned()),
            MoneyError::NotExact(..) | MoneyError::Overflow | MoneyError::Mismatch(..) => {
                Self::Amount(error.to_string())
            }
            MoneyError::NotACurrency | MoneyError::Malformed | MoneyError::Negative => {
                Self::Malformed(error.to_string())
            }
        }
    }
}
