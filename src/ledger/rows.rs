//! What goes into a ledger and comes out of it.
//!
//! `state`, `kind`, `leg` and the JSON texts are words of the rooms above; the ledger stores them and compares none.

use uuid::Uuid;

/// A new payment, with what must be durable before the first byte of its first attempt (safety.md D1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Sentinel's id for it: a UUIDv7, so that rows are in the order of time.
    pub payment: Uuid,
    /// Applied once; see [`Change::op_id`].
    pub op_id: Uuid,
    /// The tenant, or `local`.
    pub tenant: String,
    /// The route's name.
    pub route: String,
    /// Keyed hash of tenant, route, method and the application's key: [`super::keys::Keys::hash`].
    pub key_hash: [u8; 32],
    /// Keyed hash of the canonical request, without card data.
    pub fingerprint: [u8; 32],
    /// Which rule made the fingerprint.
    pub fp_version: u32,
    /// Units at the currency's canonical exponent. `None` where the request names no amount (a confirm).
    pub amount: Option<i64>,
    /// ISO 4217 code, upper case.
    pub currency: Option<String>,
    /// Keyed hash of tenant and order reference.
    pub order_ref_hash: Option<[u8; 32]>,
    /// Whether no other live payment may have the same order reference.
    pub order_guard: bool,
    /// The gateway tried first.
    pub gateway: String,
    /// When the application stops waiting.
    pub deadline: i64,
    /// How long the opener owns it, from now.
    pub lease_ms: i64,
    /// Label of the state.
    pub state: String,
    /// The folded state, JSON.
    pub folded: String,
    /// What happened; at least one.
    pub events: Vec<NewEvent>,
    /// Attempts planned.
    pub attempts: Vec<NewAttempt>,
    /// Ids known already.
    pub ids: Vec<Id>,
    /// Values to be sealed.
    pub seal: Vec<Sealed>,
}

/// What [`super::Ledger::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The payment is new, durable, and ours.
    New(Position),
    /// The key was seen before: its payment. The caller compares fingerprints.
    Existing(Box<Payment>),
    /// The order guard: another live payment has this order reference.
    OrderTaken(Uuid),
}

/// Where a payment stands in its own history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Grows by one with every change.
    pub version: i64,
    /// The fencing token: grows by one with every change of owner.
    pub epoch: i64,
    /// The sequence number of its last event, from 1.
    pub seq: i64,
}

/// A change to a payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The payment.
    pub payment: Uuid,
    /// Made by the caller (UUIDv7) once for each change, kept when it is sent again; applied once to its payment.
    pub op_id: Uuid,
    /// The version it was computed from.
    pub version: i64,
    /// The epoch it was computed in.
    pub epoch: i64,
    /// Label of the state.
    pub state: String,
    /// The folded state, JSON.
    pub folded: String,
    /// The gateway that has, or is now tried for, the payment.
    pub gateway: String,
    /// Whether nothing more will happen by itself.
    pub terminal: bool,
    /// Whether the outcome is not proven.
    pub in_doubt: bool,
    /// Whether a person has to decide.
    pub manual: bool,
    /// Voids and refunds owed.
    pub obligations: u32,
    /// Whether it holds its order reference against others (a failed payment frees it).
    pub holds_order: bool,
    /// The amount, when it is known only now.
    pub amount: Option<(i64, String)>,
    /// What happened; at least one.
    pub events: Vec<NewEvent>,
    /// Attempts planned.
    pub attempts: Vec<NewAttempt>,
    /// The winner.
    pub winner: Winner,
    /// Ids learned or minted.
    pub ids: Vec<Id>,
    /// Values to be sealed; a value of the same name is replaced.
    pub seal: Vec<Sealed>,
    /// Prolongs the lease by this much from now; 0 leaves it.
    pub lease_ms: i64,
}

/// What a change does to the winner record (safety.md D3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Winner {
    /// Nothing.
    #[default]
    Keep,
    /// Attempt `n` wins; refused when there is a winner.
    Set(u32),
    /// The winner's hold is proven void: there is none now.
    Revoke,
}

/// An event to be recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// Its name, snake case.
    pub kind: String,
    /// JSON.
    pub payload: String,
}

/// An attempt to be recorded before it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewAttempt {
    /// From 1, within the payment.
    pub n: u32,
    /// The configured gateway's name.
    pub gateway: String,
    /// What for.
    pub leg: String,
    /// The idempotency key it carries, or what stands for one; unique with gateway and leg. Kept as a keyed hash, since
    /// applications put e-mail addresses into theirs.
    pub gateway_key: String,
}

/// Whose ids they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// As one tenant's application sees them, in a dialect. No other tenant can look them up.
    Application {
        /// The tenant, or `local`.
        tenant: String,
        /// The dialect's name.
        dialect: String,
    },
    /// As a gateway account names them: for its webhooks.
    Gateway {
        /// The configured gateway's name.
        name: String,
    },
}

/// An id that leads to a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    /// Whose id.
    pub scope: Scope,
    /// The id.
    pub id: String,
    /// What it names (`payment`, `charge`, `refund`, ...).
    pub kind: String,
}

/// A value to be sealed with the payment.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What it is, e.g. `response`.
    pub name: String,
    /// The value in the clear. It is encrypted before it reaches the writer's queue.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({}, {} bytes)", self.name, self.value.len())
    }
}

/// A payment as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its id.
    pub id: Uuid,
    /// The tenant, or `local`.
    pub tenant: String,
    /// The route's name.
    pub route: String,
    /// Keyed hash of its key.
    pub key_hash: [u8; 32],
    /// Keyed hash of its request.
    pub fingerprint: [u8; 32],
    /// Which rule made the fingerprint.
    pub fp_version: u32,
    /// Units at the currency's canonical exponent.
    pub amount: Option<i64>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// Keyed hash of its order reference.
    pub order_ref_hash: Option<[u8; 32]>,
    /// Whether it holds its order reference against others.
    pub holds_order: bool,
    /// The gateway tried first.
    pub first_gateway: String,
    /// The gateway that has, or is now tried for, the payment.
    pub gateway: String,
    /// Label of the state.
    pub state: String,
    /// The folded state, JSON; empty once erased.
    pub folded: String,
    /// Where it stands in its own history.
    pub position: Position,
    /// Who works on it.
    pub owner: Uuid,
    /// Until when.
    pub lease_until: i64,
    /// When the application stopped waiting, or will.
    pub deadline: i64,
    /// When it was opened.
    pub created_at: i64,
    /// When it last changed (leases apart).
    pub updated_at: i64,
    /// Whether nothing more will happen by itself.
    pub terminal: bool,
    /// Whether the outcome is not proven.
    pub in_doubt: bool,
    /// Whether a person has to decide.
    pub manual: bool,
    /// Voids and refunds owed.
    pub obligations: u32,
    /// Whether only key and terminal fact are left.
    pub tombstone: bool,
}

/// An event as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Place among all events, from 1, without gaps.
    pub position: i64,
    /// The payment.
    pub payment: Uuid,
    /// Place within the payment, from 1.
    pub seq: i64,
    /// When it was recorded.
    pub at: i64,
    /// Its name.
    pub kind: String,
    /// JSON; empty once erased.
    pub payload: String,
    /// Its link in the payment's chain.
    pub hash: [u8; 32],
}

/// Which payments to list. Everything is a conjunction; `None` and `false` do not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Tenant.
    pub tenant: Option<String>,
    /// State label.
    pub state: Option<String>,
    /// Tried first at, or now at, this gateway.
    pub gateway: Option<String>,
    /// Route.
    pub route: Option<String>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// Opened at or after.
    pub created_from: Option<i64>,
    /// Opened before.
    pub created_to: Option<i64>,
    /// Only those whose outcome is not proven.
    pub in_doubt: bool,
    /// Only those with open obligations.
    pub owing: bool,
    /// Only those that a person has to decide.
    pub manual: bool,
    /// Only those that are now at another gateway than they were tried at first.
    pub moved: bool,
    /// An id of any scope, or the beginning of Sentinel's own payment id.
    pub text: Option<String>,
    /// Keyed hash of tenant and order reference.
    pub order_ref_hash: Option<[u8; 32]>,
    /// Continue after this payment (older).
    pub before: Option<Uuid>,
    /// At most this many; 0 means 100.
    pub limit: usize,
}

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Terminal payments without obligations last changed before this become tombstones: their sealed values and their
    /// events' payloads are erased.
    pub before: i64,
    /// At most this many payments in one call, so that the writer is not held up.
    pub limit: usize,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sealed values erased.
    pub sealed: usize,
    /// Payments turned into tombstones.
    pub payments: usize,
}

/// How long a document is kept that waits for a payment, or that belongs to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Kept until then in any case, on the ledger's clock.
    pub until: i64,
    /// Kept beyond that while this payment is there and is no tombstone.
    pub payment: Awaited,
}

/// What became of the documents that had waited long enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Removed.
    pub removed: usize,
    /// Kept for their payments.
    pub kept: usize,
}

/// A payment, named before it is opened or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// By its key hash.
    Key([u8; 32]),
    /// By Sentinel's id.
    Id(Uuid),
}

/// A document.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// Its key within its space.
    pub key: String,
    /// Its value, as it was put.
    pub value: String,
    /// From 1; grows by one with every write.
    pub version: i64,
    /// When it was written.
    pub updated_at: i64,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Document({} v{}, {} bytes)",
            self.key,
            self.version,
            self.value.len()
        )
    }
}
