//! What a model is made of: a plan's mode and policy, two gateways as they are and as they are believed to be, how much
//! may go wrong, and for the unsafe variants one twist of the environment.

use sentinel::config::model::Mode;
use sentinel::gateway::{FenceStrength, Leg};
use sentinel::money::Amount;
use sentinel::payment::core::{Intent, Plan, PlannedGateway, Policy};

use super::gateway::{Facts, How};

/// The names by which the plan knows the two gateways.
pub const NAMES: [&str; 2] = ["alpha", "beta"];
/// How long the gateways keep keys, in hours.
pub const KEY_HOURS: u32 = 24;

/// How much may go wrong. Whatever is counted here is spent; delay, loss and timeouts are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// SIGKILLs.
    pub kills: u8,
    /// Take-overs of the lease while its owner lives.
    pub takes: u8,
    /// Repeats by the application.
    pub retries: u8,
    /// Requests that the network delivers twice.
    pub copies: u8,
    /// Closed connections of the application.
    pub disconnects: u8,
    /// Hedge timers.
    pub hedges: u8,
    /// Follow-ups of the application, repeats included.
    pub follow_ups: u8,
    /// Holds that the gateway lets expire.
    pub expiries: u8,
    /// Customers who complete an object on their own.
    pub completions: u8,
    /// Acknowledged ledger writes that are lost.
    pub losses: u8,
    /// Payments that grow older than the route allows.
    pub aged: u8,
    /// Words of a person who has seen the gateways' books.
    pub persons: u8,
    /// Webhooks.
    pub webhooks: u8,
    /// Refunds that were made and come back.
    pub returns: u8,
}

/// One change of the shell or of the environment around the production step. None of them exists outside the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Twist {
    /// A timeout is reported as "not sent".
    TimeoutIsNotSent,
    /// Requests leave before their records are durable.
    SendsFirst,
    /// Answers leave before their records are durable.
    AnswersFirst,
    /// Successes are told before their records are durable; failures are not.
    SuccessFirst,
    /// "In doubt" is told as "failed".
    GiveUpIsFailed,
    /// Every replica makes keys of its own.
    FreshKeys,
    /// The ledger appends whatever the version and epoch.
    BlindAppend,
    /// "Nothing found" is read as "can never be".
    NotFoundIsNever,
    /// A payment is continued under the route's present plan instead of its own.
    PlanNotPinned,
    /// After a crash, what was planned and not heard of is taken for not sent.
    RecoveryAssumesUnsent,
    /// "Rejected" of a second sending is believed of both.
    ResentIsBelieved,
    /// Obligations are not loaded after a crash.
    ObligationsForgotten,
    /// The capture leaves before the winner is durable.
    CaptureFirst,
    /// When the application asks again, whatever is not known is taken for not executed, and another round begins.
    ReopensInDoubt,
    /// Another round begins by itself, without the application.
    ReopensUnasked,
    /// A capture or refund that is not heard of is taken for not done when the next one is asked for.
    DoubtIsNothing,
    /// The amount in an answer is not read.
    AmountUnread,
    /// A person looks at the books while requests are still on their way.
    PersonGuesses,
}

/// One model.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The mode of the plan.
    pub mode: Mode,
    /// What the application asks for.
    pub intent: Intent,
    /// The plan's policy.
    pub policy: Policy,
    /// The gateways as they are.
    pub facts: [Facts; 2],
    /// The fences that the plan believes in.
    pub believed: [FenceStrength; 2],
    /// How long the plan believes that keys are kept, in hours.
    pub believed_hours: u32,
    /// Whether the plan knows of declined objects that stay open.
    pub believed_open: bool,
    /// The orders of gateways in which the route may be configured when the payment is opened.
    pub orders: &'static [[u8; 2]],
    /// How a gateway may decide.
    pub how: &'static [How],
    /// Whether a request may provably not leave.
    pub unsent: bool,
    /// Whether it may do so on a reused connection.
    pub reused: bool,
    /// Whether the end of the key window may come.
    pub clock: bool,
    /// Whether a replica without a ledger passes the request through to the first gateway.
    pub direct: bool,
    /// The follow-ups of the application, with how many tenths of the payment they are for; 0 is all that is left.
    pub follow_ups: &'static [(Leg, u8)],
    /// How much may go wrong.
    pub budget: Budget,
    /// The twist, if there is one.
    pub twist: Option<Twist>,
    /// Whether the inner rules are judged, too; off for unsafe variants.
    pub strict: bool,
    /// Whether every payment comes to its end without a person, once nothing more goes wrong.
    pub resolves: bool,
    /// Whether it is the version of another scenario in which more goes wrong.
    pub deep: bool,
    /// Whether contradicting proofs are possible although everybody keeps to the rules.
    pub conflicts: bool,
}

/// The route's order never changes.
pub const FIXED: &[[u8; 2]] = &[[0, 1]];
/// The route's order may be the other one for another replica.
pub const EITHER: &[[u8; 2]] = &[[0, 1], [1, 0]];

impl Scenario {
    /// A model with gateways believed to be what they are.
    pub fn new(name: &'static str, mode: Mode, facts: [Facts; 2]) -> Self {
        Self {
            name,
            mode,
            intent: Intent::Sale,
            policy: Policy::default(),
            facts,
            believed: [facts[0].fence, facts[1].fence],
            believed_hours: KEY_HOURS,
            believed_open: true,
            orders: EITHER,
            how: &[How::Plain, How::Hard, How::Busy],
            unsent: true,
            reused: false,
            clock: false,
            direct: false,
            follow_ups: &[],
            budget: Budget {
                kills: 1,
                takes: 1,
                retries: 1,
                ..Budget::default()
            },
            twist: None,
            strict: true,
            resolves: facts.iter().all(|facts| facts.fence == FenceStrength::F3),
            conflicts: false,
            deep: false,
        }
    }

    /// The same with changes.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The plan that a request gets.
    pub fn plan(&self, order: usize) -> Plan {
        let gateway = |index: u8| {
            let at = usize::from(index);
            let (facts, fence) = (self.facts[at], self.believed[at]);
            PlannedGateway {
                name: NAMES[at].to_owned(),
                fence,
                lookup: fence >= FenceStrength::F1,
                manual_capture: true,
                void: true,
                idempotency_hours: if facts.keys { self.believed_hours } else { 0 },
                modification_hours: if facts.keys { self.believed_hours } else { 0 },
                declines_stay_open: facts.stays_open && self.believed_open,
                native: index == 0,
            }
        };
        Plan {
            mode: self.mode,
            intent: self.intent,
            amount: amount(),
            gateways: self.orders[order].into_iter().map(gateway).collect(),
            policy: self.policy,
        }
        .settled()
    }
}

/// What every payment asks for.
pub fn amount() -> Option<Amount> {
    tenths(WHOLE)
}

/// All of a payment, in tenths.
pub const WHOLE: u8 = 10;

/// So many tenths of what every payment asks for.
pub fn tenths(tenths: u8) -> Option<Amount> {
    let currency = "EUR".to_owned().try_into().ok()?;
    let units = 100 * i64::from(tenths);
    Some(Amount { units, currency })
}
