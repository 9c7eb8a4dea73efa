//! What one payment adds to the figures: a function of its events, and of nothing else.
//!
//! The definitions of the product stand here, once:
//!
//! - A payment **failed at its first gateway** when that gateway did not execute it: the request never arrived, was refused
//!   for the gateway's or the account's sake, was made impossible by a fence, or nothing is known of it. The gateway's own
//!   decline is not such a failure (unless it only said that it was busy), nor is a request that no gateway would take.
//! - It is **recovered** when it failed at its first gateway, provably without effect there, and another gateway holds or
//!   took the money.
//! - **Recovered revenue** is what was captured of recovered payments. Refunds of them are counted beside it.
//! - **Recovery time** runs from the moment the first gateway's failure was known to the moment the other gateway's success was.
//!
//! What is billed follows step by step: every event that changes what was captured or refunded of a recovered payment
//! leaves a [`Line`], so that the lines of a payment always add up to what is billable of it now.

#[cfg(test)]
mod tests;

use uuid::Uuid;

use crate::gateway::outcome::{Outcome, Rejection};
use crate::ledger::rows::{Event, Payment};
use crate::money::Currency;
use crate::payment::core::{Failure, Phase, Record, State};

/// What one payment adds to one figure: what it is about (a gateway, or nothing for the whole), the figure, its label.
pub type Figure = (String, &'static str, String);

/// One payment, folded up to an event.
#[derive(Clone, Debug)]
pub struct Fold {
    /// Place of the first event among all: the order of payments, and what cursors are made of.
    pub n: i64,
    /// The payment.
    pub id: Uuid,
    /// Its tenant.
    pub tenant: String,
    /// Its route.
    pub route: String,
    /// The last event taken in.
    pub seq: i64,
    /// When it was opened.
    pub opened_at: i64,
    /// Its state.
    pub state: State,
    /// Lines not yet written.
    pub lines: Vec<Line>,
    /// How long each attempt's own exchange took, in milliseconds.
    took: Vec<Option<i64>>,
    /// When the first gateway's failure was known.
    failed_at: Option<i64>,
    /// When the winner's effect was known.
    won_at: Option<i64>,
    /// What the lines so far add up to.
    captured: i64,
    refunded: i64,
    /// The payloads were erased: only the row is left to tell what became of it.
    erased: Option<Box<Row>>,
}

/// What a row tells of a payment whose events were erased.
#[derive(Clone, Debug)]
struct Row {
    outcome: PaymentOutcome,
    first: String,
    gateway: String,
    amount: Option<i64>,
    currency: Option<String>,
}

/// One movement of what is billable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The event that caused it, within the payment.
    pub seq: i64,
    /// When.
    pub at: i64,
    /// What it is.
    pub kind: LineKind,
    /// Units of the currency; what is taken off is negative.
    pub units: i64,
    /// The currency.
    pub currency: String,
    /// The gateway that took the money.
    pub gateway: String,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineKind {
    /// Captured of a recovered payment.
    Recovered,
    /// Refunded of a recovered payment.
    Refunded,
    /// The payment turned out not to be recovered (two proofs contradict each other, or a person said so).
    Reversed,
    /// The same of a refund.
    RefundReversed,
}

impl LineKind {
    /// The word in rows and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Refunded => "refunded",
            Self::Reversed => "reversed",
            Self::RefundReversed => "refund_reversed",
        }
    }
}

/// What became of a payment, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaymentOutcome {
    /// Under way.
    Pending,
    /// The outcome is not proven.
    InDoubt,
    /// The customer has to act.
    ActionRequired,
    /// Money is held.
    Authorised,
    /// Money was taken.
    Succeeded,
    /// The hold was released as the application asked.
    Voided,
    /// A gateway declined.
    Declined,
    /// No gateway executed it.
    Failed,
    /// A person has to decide.
    Manual,
}

impl PaymentOutcome {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::InDoubt,
        Self::ActionRequired,
        Self::Authorised,
        Self::Succeeded,
        Self::Voided,
        Self::Declined,
        Self::Failed,
        Self::Manual,
    ];

    /// The word in rows, filters and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InDoubt => "in_doubt",
            Self::ActionRequired => "action_required",
            Self::Authorised => "authorised",
            Self::Succeeded => "succeeded",
            Self::Voided => "voided",
            Self::Declined => "declined",
            Self::Failed => "failed",
            Self::Manual => "manual",
        }
    }

    /// The outcome of this name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == word)
    }

    fn of(state: &State) -> Self {
        match state.phase {
            Phase::InDoubt { .. } | Phase::Fencing { .. } => Self::InDoubt,
            Phase::ActionRequired { .. } => Self::ActionRequired,
            Phase::Authorised { .. } => Self::Authorised,
            Phase::Succeeded { .. } => Self::Succeeded,
            Phase::Voided { .. } => Self::Voided,
            Phase::Failed {
                why: Failure::Declined, ..
            } => Self::Declined,
            Phase::Failed { .. } => Self::Failed,
            Phase::Manual => Self::Manual,
            _ if state.parked => Self::InDoubt,
            _ => Self::Pending,
        }
    }
}

/// The row of a payment in lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What became of it.
    pub outcome: PaymentOutcome,
    /// The gateway tried first.
    pub first_gateway: String,
    /// The gateway that has it, or was tried last.
    pub gateway: String,
    /// Whether it failed at its first gateway, and why.
    pub failure: Option<&'static str>,
    /// Whether it is recovered.
    pub recovered: bool,
    /// Milliseconds.
    pub recovery_ms: Option<i64>,
    /// Units of the currency.
    pub amount: Option<i64>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// Captured for certain.
    pub captured: i64,
    /// Refunded for certain.
    pub refunded: i64,
    /// Attempts to take the payment.
    pub attempts: u32,
}

impl Fold {
    /// A payment of which nothing is known but its row. `first` is its first event.
    pub fn new(row: &Payment, first: &Event) -> Self {
        Self {
            n: first.position,
            id: row.id,
            tenant: row.tenant.clone(),
            route: row.route.clone(),
            seq: 0,
            opened_at: row.created_at,
            state: State::default(),
            lines: Vec::new(),
            took: Vec::new(),
            failed_at: None,
            won_at: None,
            captured: 0,
            refunded: 0,
            erased: row.tombstone.then(|| {
                Box::new(Row {
                    outcome: match row.state.as_str() {
                        "fencing" => PaymentOutcome::InDoubt,
                        word => PaymentOutcome::parse(word).unwrap_or(PaymentOutcome::Pending),
                    },
                    first: row.first_gateway.clone(),
                    gateway: row.gateway.clone(),
                    amount: row.amount,
                    currency: row.currency.clone(),
                })
            }),
        }
    }

    /// Takes the next event in. `false` when it is a record that this program cannot read.
    pub fn take(&mut self, event: &Event) -> bool {
        self.seq = event.seq;
        // The ledger's own note of a lease is no record of the core, and an erased payload tells nothing.
        if event.kind == "lease_taken" || event.payload.is_empty() {
            return true;
        }
        let Ok(record) = Record::read(&event.payload) else {
            return false;
        };
        self.state.fold(&record);
        match &record {
            Record::AttemptPlanned { .. } => self.took.push(None),
            Record::AttemptObserved {
                n,
                evidence: Some(exchange),
                ..
            } => {
                if let Some(took) = usize::from(*n).checked_sub(1).and_then(|at| self.took.get_mut(at)) {
                    *took = i64::try_from(exchange.took.as_millis()).ok();
                }
            }
            _ => {}
        }
        if self.failed_at.is_none() && self.failure().is_some() {
            self.failed_at = Some(event.at);
        }
        let won = self.state.winner.and_then(|n| self.state.attempt(n));
        if self.won_at.is_none() && won.is_some_and(|attempt| attempt.known.effect()) {
            self.won_at = Some(event.at);
        }
        self.bill(event);
        true
    }

    /// Leaves lines for what changed of what is billable.
    fn bill(&mut self, event: &Event) {
        let (captured, refunded) = match self.recovered() {
            true => {
                let books = self.state.books();
                (books.captured, books.refunded)
            }
            false => (0, 0),
        };
        let (more, back) = (captured - self.captured, refunded - self.refunded);
        (self.captured, self.refunded) = (captured, refunded);
        if (more, back) == (0, 0) {
            return;
        }
        let Some(currency) = self.currency() else { return };
        let gateway = self.gateway().to_owned();
        let kinds = [
            (more, LineKind::Recovered, LineKind::Reversed),
            (-back, LineKind::RefundReversed, LineKind::Refunded),
        ];
        for (units, up, down) in kinds {
            if units != 0 {
                self.lines.push(Line {
                    seq: event.seq,
                    at: event.at,
                    kind: if units > 0 { up } else { down },
                    units,
                    currency: currency.code().to_owned(),
                    gateway: gateway.clone(),
                });
            }
        }
    }

    fn currency(&self) -> Option<Currency> {
        let winner = self.state.winner.and_then(|n| self.state.attempt(n));
        let amount = self
            .state
            .plan
            .amount
            .or_else(|| winner.and_then(|winner| winner.amount));
        amount.map(|amount| amount.currency)
    }

    /// The gateway that has it, or was tried last.
    fn gateway(&self) -> &str {
        let winner = self.state.winner.and_then(|n| self.state.attempt(n));
        let attempt = winner.or_else(|| self.state.pays().next_back().map(|(_, attempt)| attempt));
        let planned = attempt.map_or(self.state.plan.gateways.first(), |attempt| {
            self.state.gateway_of(attempt)
        });
        planned.map_or("", |planned| &planned.name)
    }

    /// Why it failed at its first gateway, when it did.
    pub fn failure(&self) -> Option<&'static str> {
        let mut pays = self.state.pays();
        let Some((_, attempt)) = pays.rfind(|(_, attempt)| attempt.gateway == 0) else {
            // The first gateway was passed over and another was asked.
            return self.state.pays().next().map(|_| "not_sent");
        };
        match attempt.known.outcome() {
            Outcome::NotSent => Some("not_sent"),
            Outcome::Rejected(Rejection::Transient) => Some("gateway_busy"),
            Outcome::Rejected(Rejection::Account) => Some("account_refused"),
            Outcome::Declined(_) if attempt.gateway_side => Some("gateway_busy"),
            Outcome::Fenced => Some("no_answer_fenced"),
            Outcome::Unknown if attempt.observed => Some("no_answer"),
            Outcome::Conflict => Some("contradiction"),
            _ => None,
        }
    }

    /// Whether it is recovered.
    pub fn recovered(&self) -> bool {
        let held = matches!(
            self.state.phase,
            Phase::Authorised { .. } | Phase::Succeeded { .. } | Phase::Voided { .. }
        );
        let winner = self.state.winner.and_then(|n| self.state.attempt(n));
        let elsewhere = winner.is_some_and(|winner| winner.gateway > 0 && winner.known.effect());
        let without_effect = self
            .state
            .pays()
            .filter(|(_, attempt)| attempt.gateway == 0)
            .all(|(_, attempt)| attempt.known.no_effect());
        held && elsewhere && without_effect && self.failure().is_some()
    }

    /// The row for lists.
    pub fn fact(&self) -> Fact {
        if let Some(row) = &self.erased {
            return Fact {
                outcome: row.outcome,
                first_gateway: row.first.clone(),
                gateway: row.gateway.clone(),
                failure: None,
                recovered: false,
                recovery_ms: None,
                amount: row.amount,
                currency: row.currency.clone(),
                captured: 0,
                refunded: 0,
                attempts: 0,
            };
        }
        let winner = self.state.winner.and_then(|n| self.state.attempt(n));
        let amount = winner.and_then(|winner| winner.amount).or(self.state.plan.amount);
        let books = self.state.books();
        let recovered = self.recovered();
        Fact {
            outcome: PaymentOutcome::of(&self.state),
            first_gateway: self
                .state
                .plan
                .gateways
                .first()
                .map_or_else(String::new, |first| first.name.clone()),
            gateway: self.gateway().to_owned(),
            failure: self.failure(),
            recovered,
            recovery_ms: match (recovered, self.failed_at, self.won_at) {
                (true, Some(failed), Some(won)) => Some((won - failed).max(0)),
                _ => None,
            },
            amount: amount.map(|amount| amount.units),
            currency: self.currency().map(|currency| currency.code().to_owned()),
            captured: books.captured,
            refunded: books.refunded,
            attempts: u32::try_from(self.state.pays().count()).unwrap_or(u32::MAX),
        }
    }

    /// What it adds to the figures.
    pub fn figures(&self) -> Vec<(Figure, i64)> {
        let fact = self.fact();
        let mut figures = Vec::with_capacity(16);
        let mut add = |about: &str, figure: &'static str, label: &str, n: i64| {
            if n != 0 {
                figures.push(((about.to_owned(), figure, label.to_owned()), n));
            }
        };
        let currency = fact.currency.as_deref().unwrap_or("");
        add("", "payments", "", 1);
        add("", "outcome", fact.outcome.name(), 1);
        add("", "captured", currency, fact.captured);
        if fact.failure.is_some() {
            add("", "failed", "", 1);
        }
        if fact.recovered {
            add("", "recovered", "", 1);
            add("", "recovered_in", currency, 1);
            add("", "recovery_ms", "", fact.recovery_ms.unwrap_or(0));
            add("", "revenue", currency, fact.captured);
            add("", "refunded", currency, fact.refunded);
            add(&fact.gateway, "recovered", "", 1);
            add(&fact.gateway, "revenue", currency, fact.captured);
        }
        if let Some(failure) = fact.failure {
            add(&fact.first_gateway, "lost", failure, 1);
        }
        for (n, attempt) in self.state.pays() {
            let Some(planned) = self.state.gateway_of(attempt) else {
                continue;
            };
            let outcome = attempt.known.outcome();
            if attempt.pending() {
                continue;
            }
            add(&planned.name, "attempts", attempt_outcome(outcome), 1);
            if let Outcome::Declined(class) = outcome {
                add(&planned.name, "declines", class.name(), 1);
            }
            let answered = !matches!(outcome, Outcome::NotSent | Outcome::Unknown | Outcome::Fenced);
            let took = self.took.get(usize::from(n).saturating_sub(1)).copied().flatten();
            if let Some(took) = took.filter(|_| answered) {
                add(&planned.name, "latency", &bucket(took).to_string(), 1);
            }
        }
        figures
    }
}

/// The word of an attempt's outcome.
pub const fn attempt_outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotSent => "not_sent",
        Outcome::Rejected(_) => "rejected",
        Outcome::Declined(_) => "declined",
        Outcome::Fenced => "fenced",
        Outcome::ActionRequired => "action_required",
        Outcome::Authorised => "authorised",
        Outcome::Succeeded => "succeeded",
        Outcome::Unknown => "unknown",
        Outcome::Conflict => "conflict",
    }
}

/// The bucket of a duration, named by its lower bound: eight to the octave, so that a quantile is within an eighth.
fn bucket(ms: i64) -> i64 {
    let ms = ms.max(0);
    let top = 63_u32.saturating_sub(ms.leading_zeros());
    if top < 4 { ms } else { ms >> (top - 3) << (top - 3) }
}
