//! The truth: two gateways that obey their documented semantics exactly, however late and however often a request comes.
//!
//! What the core believes of a gateway stands in its plan. What is true of it stands here, and the oracle looks only here.

use sentinel::gateway::outcome::{DeclineClass, Outcome, Rejection};
use sentinel::gateway::{FenceStrength, Leg};

use super::scenario::WHOLE;

/// Facts about a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What its fence is worth.
    pub fence: FenceStrength,
    /// Whether the fence cancels the object it finds. Otherwise it claims the key of one that never came, and cancels only
    /// once the id is known.
    pub cancels: bool,
    /// Whether it remembers idempotency keys.
    pub keys: bool,
    /// Whether captures, voids and refunds are accepted first and done later.
    pub later: bool,
    /// Whether a declined object can still be completed by the customer.
    pub stays_open: bool,
    /// Whether an authorisation is captured at once, whatever was asked for.
    pub captures_at_once: bool,
    /// Whether what it refused before execution is refused for ever under that key.
    pub keeps_refusals: bool,
    /// Whether it captures and refunds whatever it is asked to, however much that comes to.
    pub unchecked: bool,
}

impl Facts {
    /// Claims keys for ever; the shape of a charge API with idempotency keys.
    pub const TOMBSTONE: Self = Self {
        fence: FenceStrength::F3,
        cancels: false,
        keys: true,
        later: false,
        stays_open: false,
        captures_at_once: false,
        keeps_refusals: false,
        unchecked: false,
    };
    /// Cancels for ever, whether or not the original has arrived; the shape of a two-step object API.
    pub const CANCEL: Self = Self {
        cancels: true,
        ..Self::TOMBSTONE
    };
    /// Cancels what it finds, and says the same when it found nothing.
    pub const WEAK: Self = Self {
        fence: FenceStrength::F2,
        cancels: true,
        ..Self::TOMBSTONE
    };
    /// Can be asked by reference, nothing more.
    pub const ASKED: Self = Self {
        fence: FenceStrength::F1,
        ..Self::TOMBSTONE
    };
    /// Neither keys nor questions.
    pub const MUTE: Self = Self {
        fence: FenceStrength::F0,
        keys: false,
        ..Self::TOMBSTONE
    };
}

/// An idempotency key, as the gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyId {
    /// The application's own.
    Application,
    /// A function of the payment.
    Derived(Leg, u16),
    /// Never seen before. Also the identity of an execution where the gateway knows no keys.
    Fresh(u16),
}

/// A request on its way. Delay is unbounded: nothing but delivery or the end of the key window removes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// Which gateway.
    pub to: u8,
    /// Which replica sent it.
    pub from: u8,
    /// The attempt.
    pub n: u16,
    /// What for.
    pub leg: Leg,
    /// Its own key.
    pub key: KeyId,
    /// The key of the attempt that takes the payment and that this one acts on or asks about.
    pub target: KeyId,
    /// Whether it names the object's id.
    pub by_id: bool,
    /// How many tenths of the payment; 0 for all that is left.
    pub tenths: u8,
    /// The modification asked about, if it is one.
    pub about: Option<(Leg, KeyId)>,
    /// The clock when it was sent.
    pub sent: u8,
}

/// How a gateway treats a request that it may decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// As it should.
    Plain,
    /// Declines; another card network path may do better.
    Soft,
    /// Declines for good.
    Hard,
    /// Refuses before execution; nothing is stored.
    Busy,
    /// The customer has to act.
    Ask,
    /// Executes for half of what was asked for, and says so.
    Less,
    /// Executes, and an intermediary says that it refused.
    Lie,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// The key is claimed; nothing was executed and nothing will be.
    Tomb,
    /// The key is kept with a refusal; nothing was executed.
    Refused,
    /// Cancelled before it had an effect.
    Cancelled,
    /// Declined.
    Declined(DeclineClass),
    /// Waits for the customer.
    Asked,
    /// Money is held.
    Held,
    /// Money was taken.
    Taken,
    /// The hold was released.
    Gone,
    /// The money was given back.
    Back,
}

/// A payment object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// Its key.
    pub key: KeyId,
    /// The attempt that made it; 0 when Sentinel's core did not.
    pub n: u16,
    /// What became of it.
    pub life: Life,
    /// Modifications done.
    pub done: Vec<KeyId>,
    /// Modifications accepted and not yet done, and for how much.
    pub later: Vec<(KeyId, u8)>,
    /// Tenths of the payment that were taken.
    pub taken: u8,
    /// Tenths that were given back.
    pub back: u8,
    /// Refunds that may come back, and what each gave back.
    pub given: Vec<(KeyId, u8)>,
    /// Refunds that came back.
    pub undone: Vec<KeyId>,
    /// Whether it is for less than was asked for.
    pub less: bool,
    /// The clock at its making.
    pub born: u8,
    /// Whether its key is forgotten.
    pub forgotten: bool,
    /// Whether the gateway or the customer, not Sentinel, ended or completed it.
    pub foreign: bool,
}

impl Object {
    fn new(key: KeyId, n: u16, life: Life, born: u8) -> Self {
        Self {
            key,
            n,
            life,
            done: Vec::new(),
            later: Vec::new(),
            taken: if life == Life::Taken { WHOLE } else { 0 },
            back: 0,
            given: Vec::new(),
            undone: Vec::new(),
            less: false,
            born,
            forgotten: false,
            foreign: false,
        }
    }

    /// What anybody who looks learns.
    pub fn fact(&self) -> Outcome {
        match self.life {
            // A tombstone is not the payment: whoever looks for the payment finds nothing.
            Life::Tomb | Life::Refused => Outcome::Unknown,
            Life::Cancelled | Life::Gone => Outcome::Fenced,
            Life::Declined(class) => Outcome::Declined(class),
            Life::Asked => Outcome::ActionRequired,
            Life::Held => Outcome::Authorised,
            Life::Taken | Life::Back => Outcome::Succeeded,
        }
    }

    /// Whether there is only a key, and no payment that anybody could see.
    pub fn hidden(&self) -> bool {
        matches!(self.life, Life::Tomb | Life::Refused)
    }

    /// Whether a modification waits to be done.
    pub fn waits(&self, key: KeyId) -> bool {
        self.later.iter().any(|(known, _)| *known == key)
    }

    /// Sentinel's own refunds, whose return is a person's business, have the first number.
    fn gave(&mut self, key: KeyId, nth: u16, tenths: u8) {
        if nth > 0 {
            self.given.push((key, tenths));
        }
    }

    fn modify(&mut self, key: KeyId, tenths: u8, facts: &Facts) -> bool {
        let KeyId::Derived(leg, nth) = key else { return false };
        let left = self.taken.saturating_sub(self.back);
        let next = match (leg, self.life) {
            _ if self.done.contains(&key) => return true,
            (Leg::Capture, Life::Held) => {
                self.taken = if tenths == 0 { WHOLE } else { tenths };
                Life::Taken
            }
            (Leg::Capture, Life::Taken) if facts.unchecked => {
                self.taken += tenths;
                Life::Taken
            }
            (Leg::Void, Life::Held) => Life::Gone,
            (Leg::Void, Life::Asked) => Life::Cancelled,
            (Leg::Void, Life::Gone | Life::Cancelled) => self.life,
            (Leg::Refund, Life::Taken) if facts.unchecked || tenths <= left => {
                let units = if tenths == 0 { left } else { tenths };
                self.back += units;
                self.gave(key, nth, units);
                if self.back >= self.taken {
                    Life::Back
                } else {
                    Life::Taken
                }
            }
            (Leg::Refund, Life::Back) if facts.unchecked => {
                self.back += tenths;
                self.gave(key, nth, tenths);
                Life::Back
            }
            _ => return false,
        };
        self.life = next;
        self.done.push(key);
        self.done.sort_unstable();
        true
    }
}

/// One gateway's books for this payment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gateway {
    /// Its objects.
    pub objects: Vec<Object>,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The outcome.
    pub outcome: Outcome,
    /// Accepted only.
    pub pending: bool,
    /// A fence found its key taken.
    pub arrived: bool,
    /// The object's id is in it.
    pub id: bool,
    /// It came on a reused connection.
    pub reused: bool,
    /// It tells of less than was asked for.
    pub less: bool,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            pending: false,
            arrived: false,
            id: false,
            reused: false,
            less: false,
        }
    }
}

impl Gateway {
    /// The payment object of a key: the payment itself rather than the tombstone that another request left.
    pub fn find(&self, key: KeyId) -> Option<usize> {
        let found = |tomb| {
            let mut objects = self.objects.iter();
            objects.rposition(|object| object.key == key && object.hidden() == tomb)
        };
        found(false).or_else(|| found(true))
    }

    /// Whether a request would be decided on now (rather than replayed or simply looked up).
    pub fn undecided(&self, message: &Message, facts: &Facts) -> bool {
        matches!(message.leg, Leg::Charge | Leg::Auth) && (!facts.keys || self.remembered(message.key).is_none())
    }

    fn remembered(&self, key: KeyId) -> Option<&Object> {
        self.objects
            .iter()
            .find(|object| object.key == key && !object.forgotten)
    }

    /// Takes a request in.
    pub fn serve(&mut self, message: &Message, how: How, facts: &Facts, clock: u8) -> Answer {
        if how == How::Busy {
            if facts.keeps_refusals && matches!(message.leg, Leg::Charge | Leg::Auth) {
                self.objects
                    .push(Object::new(message.key, message.n, Life::Refused, clock));
            }
            return Outcome::Rejected(Rejection::Transient).into();
        }
        match message.leg {
            Leg::Charge | Leg::Auth => {
                let outcome = self.pay(message, how, facts, clock);
                let made = self.find(message.key).map(|found| &self.objects[found]);
                Answer {
                    id: !matches!(outcome, Outcome::Rejected(_)),
                    less: made.is_some_and(|object| object.less),
                    ..outcome.into()
                }
            }
            Leg::Fence => self.fence(message, facts, clock),
            Leg::Lookup => {
                let found = self.find(message.target).map(|found| &self.objects[found]);
                Answer {
                    id: found.is_some_and(|object| !object.hidden()),
                    less: message.about.is_none() && found.is_some_and(|object| object.less),
                    ..self.look_up(message).into()
                }
            }
            Leg::Capture | Leg::Void | Leg::Refund => self.modify(message, facts),
        }
    }

    fn pay(&mut self, message: &Message, how: How, facts: &Facts, clock: u8) -> Outcome {
        if let Some(object) = self.remembered(message.key).filter(|_| facts.keys) {
            return match object.life {
                // The key came with other parameters before, or what it made is closed.
                Life::Tomb | Life::Cancelled => Outcome::Rejected(Rejection::Request),
                Life::Refused => Outcome::Rejected(Rejection::Transient),
                // The stored answer again, whatever happened since.
                Life::Gone => Outcome::Authorised,
                _ => object.fact(),
            };
        }
        let life = match how {
            How::Soft => Life::Declined(DeclineClass::Soft),
            How::Hard => Life::Declined(DeclineClass::Hard),
            How::Ask => Life::Asked,
            _ if message.leg == Leg::Auth && !facts.captures_at_once => Life::Held,
            _ => Life::Taken,
        };
        let key = if facts.keys {
            message.key
        } else {
            KeyId::Fresh(message.n)
        };
        let object = Object {
            less: how == How::Less,
            ..Object::new(key, message.n, life, clock)
        };
        let told = match how {
            How::Lie => Outcome::Rejected(Rejection::Transient),
            _ if message.leg == Leg::Auth && life == Life::Taken => Outcome::Authorised,
            _ => object.fact(),
        };
        self.objects.push(object);
        told
    }

    fn fence(&mut self, message: &Message, facts: &Facts, clock: u8) -> Answer {
        let target = message.target;
        let claimed = |object: &Object| object.key == target && !object.forgotten;
        let found = if message.by_id {
            self.find(target)
        } else {
            self.objects.iter().position(claimed)
        };
        let Some(found) = found else {
            if facts.fence == FenceStrength::F3 {
                // Cancelling makes an object that everybody can see; claiming a key does not.
                let life = if facts.cancels { Life::Cancelled } else { Life::Tomb };
                self.objects.push(Object::new(target, 0, life, clock));
            }
            // The weak one says so, too: it found nothing to cancel, and a late original still executes.
            return Answer {
                id: facts.cancels && facts.fence == FenceStrength::F3,
                ..Outcome::Fenced.into()
            };
        };
        let object = &mut self.objects[found];
        if !facts.cancels && !message.by_id && object.life != Life::Tomb {
            // Claiming a used key only tells that the original came; what became of it has to be looked up.
            return Answer {
                arrived: true,
                ..Outcome::Unknown.into()
            };
        }
        let outcome = match object.life {
            Life::Tomb => Outcome::Fenced,
            Life::Asked => {
                object.life = Life::Cancelled;
                Outcome::Fenced
            }
            Life::Declined(_) if facts.stays_open => {
                object.life = Life::Cancelled;
                Outcome::Fenced
            }
            Life::Held => {
                object.life = Life::Gone;
                Outcome::Fenced
            }
            _ => object.fact(),
        };
        Answer {
            id: !object.hidden(),
            less: object.less,
            ..outcome.into()
        }
    }

    fn look_up(&self, message: &Message) -> Outcome {
        let Some(object) = self.find(message.target).map(|index| &self.objects[index]) else {
            return Outcome::Unknown;
        };
        match message.about {
            None => object.fact(),
            Some((_, key)) if object.undone.contains(&key) => Outcome::Declined(DeclineClass::Hard),
            Some((_, key)) if object.done.contains(&key) => Outcome::Succeeded,
            Some((Leg::Capture, _)) if matches!(object.life, Life::Gone | Life::Cancelled) => Outcome::Fenced,
            Some(_) => Outcome::Unknown,
        }
    }

    fn modify(&mut self, message: &Message, facts: &Facts) -> Answer {
        let refused = Answer::from(Outcome::Rejected(Rejection::Request));
        let Some(index) = self.find(message.target) else {
            return refused;
        };
        let object = &mut self.objects[index];
        if facts.later && !object.done.contains(&message.key) {
            let possible = object.clone().modify(message.key, message.tenths, facts);
            if possible && !object.waits(message.key) {
                object.later.push((message.key, message.tenths));
                object.later.sort_unstable();
            }
            let accepted = Answer {
                pending: true,
                ..Outcome::Unknown.into()
            };
            return if possible { accepted } else { refused };
        }
        if object.modify(message.key, message.tenths, facts) {
            Outcome::Succeeded.into()
        } else {
            refused
        }
    }

    /// A refund that was made comes back from the customer's bank.
    pub fn come_back(&mut self, object: usize) {
        let object = &mut self.objects[object];
        let Some((key, units)) = object.given.pop() else { return };
        object.back -= units;
        object.undone.push(key);
        object.undone.sort_unstable();
        if object.life == Life::Back && object.back < object.taken {
            object.life = Life::Taken;
        }
    }

    /// Does what was accepted earlier.
    pub fn work(&mut self, object: usize, facts: &Facts) {
        let object = &mut self.objects[object];
        for (key, tenths) in std::mem::take(&mut object.later) {
            object.modify(key, tenths, facts);
        }
    }
}
