//! Captures, voids and refunds that the application asks for later.
//!
//! They go to the owner and never anywhere else. Sentinel refuses what its own books prove impossible, counting what is
//! still in doubt as done, so that two requests for the rest of a payment cannot both be sent; everything else is for the
//! owner to judge.

use super::event::{Action, FollowUpVerdict, Impossible};
use super::keys::Key;
use super::record::Record;
use super::state::{Attempt, FollowUp, Phase, State, Why};
use super::turn::Turn;
use crate::gateway::Leg;
use crate::gateway::outcome::{Outcome, Rejection};
use crate::money::Amount;

/// What of a payment's money is where, in units of its currency. Doubtful movements count as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Held or taken at first; `None` when no amount is known.
    pub held: Option<i64>,
    /// Captured for certain.
    pub captured: i64,
    /// Captures whose outcome is not known.
    pub capturing: i64,
    /// Refunded for certain.
    pub refunded: i64,
    /// Refunds whose outcome is not known.
    pub refunding: i64,
}

impl State {
    /// The payment's books, as far as Sentinel's own requests tell.
    pub fn books(&self) -> Books {
        let mut books = Books::default();
        let Some((w, winner)) = self.winner.and_then(|w| Some((w, self.attempt(w)?))) else {
            return books;
        };
        books.held = winner.amount.map(|amount| amount.units);
        let units = |attempt: &Attempt| attempt.amount.map(|amount| amount.units).or(books.held).unwrap_or(0);
        let mut captures = false;
        for attempt in self.attempts.iter().filter(|attempt| attempt.of == Some(w)) {
            let done = attempt.known.outcome() == Outcome::Succeeded;
            let open = attempt.known.unknown();
            match attempt.leg {
                Leg::Capture if done => {
                    captures = true;
                    books.captured = books.captured.saturating_add(units(attempt));
                }
                Leg::Capture if open => {
                    captures = true;
                    books.capturing = books.capturing.saturating_add(units(attempt));
                }
                Leg::Refund if attempt.undone() => {}
                Leg::Refund if done => books.refunded = books.refunded.saturating_add(units(attempt)),
                Leg::Refund if open => books.refunding = books.refunding.saturating_add(units(attempt)),
                _ => {}
            }
        }
        let sale = winner.leg == Leg::Charge && winner.known.effect();
        if sale || (winner.known.outcome() == Outcome::Succeeded && !captures) {
            books.captured = books.held.unwrap_or(0);
        }
        books
    }
}

impl State {
    /// Whether the application asked to keep what a capture leaves of the hold.
    pub fn keeps(&self, capture: &Attempt) -> bool {
        let Why::FollowUp(index) = capture.why else {
            return false;
        };
        let asked = self.follow_ups.get(usize::from(index));
        capture.leg == Leg::Capture && asked.is_some_and(|asked| asked.keeps)
    }

    /// What is still held for later captures, counting what is in doubt as captured: nothing, once a capture was asked for
    /// that lets the rest go.
    pub fn kept(&self) -> i64 {
        let mut captures = self
            .attempts
            .iter()
            .filter(|attempt| attempt.leg == Leg::Capture && attempt.of == self.winner && !attempt.known.no_effect())
            .peekable();
        let books = self.books();
        match (
            captures.peek().is_some() && captures.all(|capture| self.keeps(capture)),
            books.held,
        ) {
            (true, Some(held)) => held - books.captured - books.capturing,
            _ => 0,
        }
    }
}

impl Turn {
    /// The application asks for a follow-up.
    pub(super) fn follow_up(&mut self, asked: FollowUp) {
        let FollowUp {
            request,
            leg,
            amount,
            keeps,
        } = asked.clone();
        let known = request.as_ref().and_then(|key| {
            self.s
                .follow_ups
                .iter()
                .position(|follow_up| follow_up.request.as_ref() == Some(key))
        });
        if let Some(index) = known {
            return self.follow_up_again(index, &asked);
        }
        if let Some(reason) = self.impossible(leg, amount) {
            let verdict = FollowUpVerdict::Impossible(reason);
            self.actions.push(Action::AnswerFollowUp { request, verdict });
            return;
        }
        let Ok(index) = u16::try_from(self.s.follow_ups.len()) else {
            return;
        };
        self.record(Record::FollowUpOpened {
            request,
            leg,
            amount,
            keeps,
        });
        self.send_follow_up(index);
    }

    /// The same key again.
    fn follow_up_again(&mut self, index: usize, asked: &FollowUp) {
        let follow_up = self.s.follow_ups[index].clone();
        let (leg, amount) = (asked.leg, asked.amount);
        if follow_up != *asked {
            let verdict = FollowUpVerdict::Impossible(Impossible::KeyReused);
            self.actions.push(Action::AnswerFollowUp {
                request: follow_up.request,
                verdict,
            });
            return;
        }
        let Ok(index) = u16::try_from(index) else { return };
        let Some((n, attempt)) = self.follow_up_attempt(index) else {
            return;
        };
        match attempt.known.outcome() {
            Outcome::Unknown if self.s.here.in_flight.contains(&n) => {}
            Outcome::Unknown if attempt.accepted => self.answer_follow_up(index, n, &attempt),
            Outcome::Unknown if self.replayable(&attempt) => self.resend(n),
            Outcome::NotSent | Outcome::Rejected(Rejection::Transient) if self.impossible(leg, amount).is_none() => {
                self.send_follow_up(index);
            }
            _ => self.answer_follow_up(index, n, &attempt),
        }
    }

    /// Why Sentinel itself refuses, if it does.
    fn impossible(&self, leg: Leg, amount: Option<Amount>) -> Option<Impossible> {
        let Some(w) = self.s.winner else {
            return Some(match self.s.phase {
                Phase::Failed { .. } | Phase::Licensed | Phase::New => Impossible::NoEffect,
                Phase::Manual => Impossible::Held,
                _ => Impossible::InDoubt,
            });
        };
        match self.s.phase {
            Phase::Manual => return Some(Impossible::Held),
            Phase::Revoking { .. } | Phase::Capturing { .. } => return Some(Impossible::InDoubt),
            Phase::Voided { .. } => return Some(Impossible::WrongState),
            _ => {}
        }
        let books = self.s.books();
        let voiding = self.attacked(w);
        let asked = amount.map(|amount| amount.units);
        match leg {
            Leg::Void if books.captured > 0 || books.capturing > 0 => Some(Impossible::WrongState),
            Leg::Capture if voiding => Some(Impossible::WrongState),
            Leg::Capture => {
                let left = books.held.map(|held| held - books.captured - books.capturing);
                match left {
                    Some(left) if left <= 0 => Some(Impossible::WrongState),
                    left => over(asked, left),
                }
            }
            Leg::Refund => {
                let known = books.held.is_some();
                let left = known.then(|| books.captured - books.refunded - books.refunding);
                over(asked, left)
            }
            _ => None,
        }
    }

    fn send_follow_up(&mut self, index: u16) {
        let Some(follow_up) = self.s.follow_ups.get(usize::from(index)).cloned() else {
            return;
        };
        let Some((w, gateway)) = self.s.winner.and_then(|w| Some((w, self.s.attempt(w)?.gateway))) else {
            return;
        };
        let books = self.s.books();
        // "All that is left" is made explicit, so that a repeat means the same.
        let left = match follow_up.leg {
            Leg::Capture => books.held.map(|held| held - books.captured - books.capturing),
            Leg::Refund => books.held.map(|_| books.captured - books.refunded - books.refunding),
            _ => books.held,
        };
        let currency = self
            .s
            .attempt(w)
            .and_then(|winner| winner.amount)
            .map(|amount| amount.currency);
        let rest = left.zip(currency).map(|(units, currency)| Amount {
            units: units.max(0),
            currency,
        });
        // Sentinel's own modifications of this payment hold number 0 of their leg.
        let nth = index.saturating_add(1);
        let amount = follow_up.amount.or(rest);
        self.plan(
            gateway,
            follow_up.leg,
            Some(w),
            Why::FollowUp(index),
            Key::Derived { nth },
            amount,
        );
    }

    fn follow_up_attempt(&self, index: u16) -> Option<(u16, Attempt)> {
        self.s
            .numbered()
            .rev()
            .find(|(_, attempt)| attempt.why == Why::FollowUp(index))
            .map(|(n, attempt)| (n, attempt.clone()))
    }

    /// Something became known of a follow-up.
    pub(super) fn follow_up_observed(&mut self, index: u16, n: u16) {
        if let Some(attempt) = self.attempt(n) {
            self.answer_follow_up(index, n, &attempt);
        }
    }

    fn answer_follow_up(&mut self, index: u16, n: u16, attempt: &Attempt) {
        let verdict = match attempt.known.outcome() {
            // A refund that failed after it was made.
            Outcome::Succeeded if attempt.undone() => FollowUpVerdict::Refused { n },
            Outcome::Succeeded => FollowUpVerdict::Done { n },
            Outcome::Unknown if attempt.accepted => FollowUpVerdict::Accepted { n },
            // A gateway that has no time now has not refused: it may be asked again, under the same key.
            Outcome::NotSent | Outcome::Rejected(Rejection::Transient) => FollowUpVerdict::NotSent { n },
            Outcome::Rejected(_) | Outcome::Declined(_) | Outcome::Fenced => FollowUpVerdict::Refused { n },
            _ => FollowUpVerdict::InDoubt { n },
        };
        let request = self
            .s
            .follow_ups
            .get(usize::from(index))
            .and_then(|follow_up| follow_up.request.clone());
        self.actions.push(Action::AnswerFollowUp { request, verdict });
    }
}

/// Whether more is asked for than is left, or nothing is left.
fn over(asked: Option<i64>, left: Option<i64>) -> Option<Impossible> {
    let left = left?;
    let too_much = left <= 0 || asked.is_some_and(|asked| asked > left);
    too_much.then_some(Impossible::TooMuch)
}
