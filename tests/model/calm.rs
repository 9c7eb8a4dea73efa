//! The liveness half: from any world, once nothing more goes wrong, the payment comes to its end.

use sentinel::payment::core::{Phase, Why};

use super::act::{self, Broken};
use super::gateway::How;
use super::shell::Shell;
use super::walked::Walked;
use super::world::{Act, Ev, Leaves, World};

/// How a calmed world ended.
pub enum End {
    /// Settled, nothing owed; or held for a person by a rule that says so.
    Finished,
    /// Still open when nothing moves any more: the price of a weak fence.
    Open(Vec<Act>),
    /// A rule broke on the way.
    Broken(Broken, Vec<Act>),
}

/// More than any calm run needs.
const STEPS: usize = 300;

/// Lets everything arrive, and lets nothing more go wrong.
pub fn down(shell: &Shell<'_>, world: &World, walked: &mut Walked) -> End {
    let mut w = world.clone();
    let mut acts = Vec::new();
    // The application asks until it knows; that is what keeps its key for.
    w.budget = super::scenario::Budget {
        retries: 4,
        completions: 1,
        follow_ups: 6,
        webhooks: 4,
        ..Default::default()
    };
    for _ in 0..STEPS {
        if over(&w) {
            return End::Finished;
        }
        let Some(act) = choose(shell, &w) else {
            return End::Open(acts);
        };
        acts.push(act);
        let (after, broken) = act::apply(shell, &w, act, walked);
        if let Some(rule) = broken {
            return End::Broken(rule, acts);
        }
        w = after;
    }
    End::Open(acts)
}

fn over(w: &World) -> bool {
    let state = &w.ledger.state;
    let quiet = w.net.is_empty() && w.replies.is_empty() && w.replicas.iter().all(|r| r.queue.is_none());
    quiet && (state.phase == Phase::Manual || state.finished() || state.phase == Phase::New)
}

/// The first of what is left to happen, in an order in which answers come before time-outs and the application comes last.
fn choose(shell: &Shell<'_>, w: &World) -> Option<Act> {
    let rank = |act: &Act| match act {
        Act::Run(_, Leaves::Yes) => 0,
        Act::Reply(_) => 1,
        Act::Deliver(_, How::Plain, false) => 2,
        Act::Work(..) | Act::Complete(..) => 3,
        Act::Take(_) => 4,
        Act::DirectTimeout => 5,
        Act::Timeout(..) => 6,
        Act::Tell(_, Ev::Retry) if wanting(w) => 7,
        Act::Tell(_, Ev::Timer(_)) => 8,
        Act::Webhook(..) => 9,
        Act::Tell(r, Ev::FollowUp(index)) if doubted(w, *r, *index) => 9,
        Act::Tell(_, Ev::Expired) => 10,
        _ => u8::MAX,
    };
    let acts = act::enabled(shell, w);
    acts.into_iter().filter(|act| rank(act) < u8::MAX).min_by_key(rank)
}

/// Whether the application has no final answer yet.
fn wanting(w: &World) -> bool {
    w.told.is_empty() && !w.ledger.state.phase.settled()
}

/// Whether the application was not told what became of a follow-up that it asked for.
fn doubted(w: &World, r: u8, index: u8) -> bool {
    let request = Some(format!("follow-up {index}"));
    let Some(held) = &w.replicas[usize::from(r)].held else {
        return false;
    };
    let asked = held.state.follow_ups.iter().position(|known| known.request == request);
    let mut attempts = held.state.attempts.iter().rev();
    let why = asked.map(|asked| Why::FollowUp(asked as u16));
    attempts
        .find(|attempt| Some(attempt.why) == why)
        .is_some_and(|attempt| attempt.known.unknown())
}
