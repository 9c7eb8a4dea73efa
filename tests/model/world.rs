//! The state of everything: ledger, replicas, network, gateways, and what the application was told.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use sentinel::gateway::Leg;
use sentinel::payment::core::{Record, Resolution, Send, State, Verdict};

use super::gateway::{Answer, Gateway, How, KeyId, Message};
use super::hash;
use super::scenario::{Budget, Scenario};

/// A state of the core behind its hash.
///
/// Versions are replaced by the durable content itself: an append succeeds when the ledger still holds the very content
/// that the step started from. That admits at least every append that the version admits. Counts of sendings matter to
/// the core only as "one" or "more", so that they are cut at two. Both keep the state space finite.
#[derive(Clone, Debug)]
pub struct Held {
    /// The state.
    pub state: Rc<State>,
    /// Of the whole state.
    pub hash: u64,
    /// Of what the ledger would hold of it.
    pub durable: u64,
}

impl Held {
    /// Normalises and hashes.
    pub fn new(mut state: State) -> Self {
        state.version = 0;
        for attempt in &mut state.attempts {
            attempt.sends = attempt.sends.min(2);
        }
        state.here.in_flight.sort_unstable();
        state.here.waiting.sort_unstable();
        state.here.fenced_last.sort_unstable();
        let hash = hash::of(&state);
        let mut durable = state.clone();
        durable.here = sentinel::payment::core::Here::default();
        let durable = hash::of(&durable);
        Self {
            state: Rc::new(state),
            hash,
            durable,
        }
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// An event for the core, small enough to be a part of a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ev {
    /// The payment is opened under this order of the route.
    Open(u8),
    /// The application asks again.
    Retry,
    /// An exchange ended.
    Observed {
        /// The attempt.
        n: u16,
        /// What was found.
        answer: Answer,
    },
    /// A webhook spoke.
    Webhook {
        /// The attempt that it is about.
        n: u16,
        /// What it says.
        answer: Answer,
    },
    /// The hedge delay passed.
    Hedge(u16),
    /// The application's deadline passed.
    Deadline,
    /// The application went away.
    Disconnected,
    /// A pause is over.
    Timer(u16),
    /// The application's follow-up of this index.
    FollowUp(u8),
    /// Loaded, and the lease taken.
    Recovered,
    /// The application may ask no more.
    Expired,
    /// Too old for a machine.
    Aged,
    /// A person's word.
    Person(Resolution),
}

/// One of the actions of a step, ready to be carried out.
#[derive(Clone, Debug)]
pub enum Move {
    /// Append.
    Persist {
        /// The content that it was made from.
        base: u64,
        /// What the ledger holds afterwards.
        after: Held,
        /// The records.
        records: Rc<[Record]>,
        /// The event that led here.
        event: Ev,
    },
    /// Send, and when that was decided: a process that pauses before it sends is a slow network.
    Send(Send, u8),
    /// Tell the application.
    Answer(Verdict),
    /// Tell the application of a follow-up: its key, and whether it was done (`Some(false)`: it was not and never will).
    AnswerFollowUp(Option<KeyId>, Option<bool>),
}

impl Move {
    fn feed(&self, hasher: &mut hash::Fold) {
        match self {
            Self::Persist { base, after, .. } => (0u8, base, after.durable).hash(hasher),
            Self::Send(send, clock) => (1u8, send.n, clock).hash(hasher),
            Self::Answer(verdict) => (2u8, verdict).hash(hasher),
            Self::AnswerFollowUp(key, done) => (3u8, key, done).hash(hasher),
        }
    }
}

/// The actions that a replica has yet to carry out.
#[derive(Clone, Debug)]
pub struct Queue {
    /// All of the step.
    pub moves: Rc<[Move]>,
    /// The next one.
    pub at: usize,
}

impl Queue {
    /// The next action.
    pub fn head(&self) -> Option<&Move> {
        self.moves.get(self.at)
    }
}

impl Hash for Queue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut inner = hash::Fold::default();
        for action in &self.moves[self.at..] {
            action.feed(&mut inner);
        }
        state.write_u64(inner.finish());
    }
}

/// A process.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// What it holds of the payment.
    pub held: Option<Held>,
    /// What it has yet to do.
    pub queue: Option<Queue>,
    /// Exchanges whose end it has not heard.
    pub open: Vec<u16>,
    /// The epoch of the lease that it took, or believes to take.
    pub lease: Option<u64>,
}

/// A gateway's answer on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reply {
    /// To which replica.
    pub to: u8,
    /// For which attempt.
    pub n: u16,
    /// What it says.
    pub answer: Said,
}

/// An answer with an order, so that replies can be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Said(pub Answer);

impl PartialOrd for Said {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Said {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        hash::of(&self.0).cmp(&hash::of(&other.0))
    }
}

/// What the application was told for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Told {
    /// Money was taken at this gateway.
    Taken(u8),
    /// Money is held at this gateway.
    Held(u8),
    /// No effect.
    Failed,
    /// No effect, for nobody executed it: asked again, it may yet have one.
    NotExecuted,
}

/// The pass-through of a replica that cannot reach the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direct {
    /// Not used.
    #[default]
    Unused,
    /// On its way.
    Sent,
    /// Answered, or given up.
    Over,
}

/// Who sends what passes the ledger by.
pub const OUTSIDER: u8 = 2;

/// Everything.
#[derive(Clone, Debug)]
pub struct World {
    /// What the ledger holds.
    pub ledger: Held,
    /// What it held before the last append, while that may be lost.
    pub before: Option<Held>,
    /// The replicas.
    pub replicas: [Replica; 2],
    /// Requests on their way, sorted.
    pub net: Vec<Message>,
    /// Answers on their way, sorted.
    pub replies: Vec<Reply>,
    /// The truth.
    pub gateways: [Gateway; 2],
    /// What the application was told for good, sorted.
    pub told: Vec<Told>,
    /// Follow-ups of which the application was told that they did not and will not happen.
    pub refused: Vec<KeyId>,
    /// Follow-ups of which the application was told that they were done.
    pub done: Vec<KeyId>,
    /// Whether the application asked for the end of its payment.
    pub ended: bool,
    /// Whether a person had a word in it.
    pub spoken: bool,
    /// 0; 1 when no key may be replayed any more; 2 when keys are forgotten.
    pub clock: u8,
    /// The pass-through.
    pub direct: Direct,
    /// What may yet go wrong.
    pub budget: Budget,
}

impl World {
    /// Nothing has happened.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            ledger: Held::new(State::default()),
            before: None,
            replicas: <[Replica; 2]>::default(),
            net: Vec::new(),
            replies: Vec::new(),
            gateways: <[Gateway; 2]>::default(),
            told: Vec::new(),
            refused: Vec::new(),
            done: Vec::new(),
            ended: false,
            spoken: false,
            clock: 0,
            direct: Direct::Unused,
            budget: scenario.budget,
        }
    }

    /// The same for worlds that differ only in which replica is which.
    pub fn fingerprint(&self) -> u64 {
        let common = hash::of(&(
            (&self.ledger, &self.before, &self.gateways, &self.told),
            (
                &self.refused,
                &self.done,
                self.ended,
                self.spoken,
                self.clock,
                self.direct,
                self.budget,
            ),
        ));
        self.fold([0, 1], common).min(self.fold([1, 0], common))
    }

    fn fold(&self, names: [u8; 2], common: u64) -> u64 {
        let name = |replica: u8| names.get(usize::from(replica)).copied().unwrap_or(replica);
        let mut hasher = hash::Fold::default();
        hasher.write_u64(common);
        for index in names {
            let replica = &self.replicas[usize::from(index)];
            (&replica.held, &replica.queue, &replica.open, replica.lease).hash(&mut hasher);
        }
        let net = self.net.iter().fold(0u64, |sum, message| {
            sum.wrapping_add(hash::of(&Message {
                from: name(message.from),
                ..*message
            }))
        });
        let replies = self.replies.iter().fold(0u64, |sum, reply| {
            sum.wrapping_add(hash::of(&Reply {
                to: name(reply.to),
                ..*reply
            }))
        });
        (net, replies).hash(&mut hasher);
        hasher.finish()
    }

    /// Whether the owner of the lease holds the payment as the ledger knows it, or is about to change it from there. One
    /// that does not finds out when it renews its lease, and loads the payment again.
    pub fn owned(&self) -> bool {
        self.replicas.iter().any(|replica| {
            let current = match replica.queue.as_ref().and_then(Queue::head) {
                Some(Move::Persist { base, .. }) => *base == self.ledger.durable,
                _ => replica
                    .held
                    .as_ref()
                    .is_some_and(|held| held.durable == self.ledger.durable),
            };
            replica.lease == Some(self.ledger.state.epoch) && current
        })
    }
}

/// Something that may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// A request of the application reaches a replica that finds no such payment.
    Open(u8, u8),
    /// A replica carries out its next action; a sending may fail before it left.
    Run(u8, Leaves),
    /// A replica dies.
    Kill(u8),
    /// A replica takes the lease.
    Take(u8),
    /// The network delivers a request; whether a copy stays behind.
    Deliver(u8, How, bool),
    /// The network delivers an answer.
    Reply(u8),
    /// A replica gives an exchange up.
    Timeout(u8, u16),
    /// Something else happens to a replica.
    Tell(u8, Ev),
    /// A webhook of a gateway about this leg reaches a replica.
    Webhook(u8, u8, Leg),
    /// A gateway lets a hold expire.
    Expire(u8, u8),
    /// A refund of this gateway's object comes back.
    Return(u8, u8),
    /// The customer completes an object.
    Complete(u8, u8),
    /// A gateway does what it had accepted.
    Work(u8, u8),
    /// Time passes.
    Clock,
    /// The request passes the ledger by.
    Direct,
    /// The pass-through is given up.
    DirectTimeout,
    /// The last append is lost.
    Lose,
}

/// How a sending begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaves {
    /// It leaves.
    Yes,
    /// Provably not.
    No,
    /// Provably not, on a connection used before.
    Reused,
}
