//! What may happen next, and what then is.

use sentinel::gateway::outcome::{Outcome, Rejection};
use sentinel::gateway::{FenceStrength, Leg};
use sentinel::payment::core::{Decision, Intent, Key, Phase, Record, Resolution, Send, Verdict};

use super::gateway::{Answer, How, KeyId, Life, Message, Object};
use super::oracle;
use super::scenario::{Scenario, Twist, WHOLE};
use super::shell::Shell;
use super::walked::Walked;
use super::world::{Act, Direct, Ev, Held, Leaves, Move, OUTSIDER, Queue, Reply, Said, Told, World};

/// A rule was broken.
pub type Broken = &'static str;

const REPLICAS: [u8; 2] = [0, 1];

/// All that may happen next.
pub fn enabled(shell: &Shell<'_>, world: &World) -> Vec<Act> {
    let scenario = shell.scenario;
    let mut acts = Vec::with_capacity(16);
    let opened = world.ledger.state.phase != Phase::New;
    let failed = world.told.contains(&Told::Failed);
    for r in REPLICAS {
        let replica = &world.replicas[usize::from(r)];
        // Replicas that know nothing are interchangeable: one of them speaks for both.
        let twin = r == 1 && blank(&world.replicas[0]) && blank(replica);
        if let Some(Queue { .. }) = &replica.queue {
            acts.push(Act::Run(r, Leaves::Yes));
            if scenario.unsent && matches!(replica.queue.as_ref().and_then(Queue::head), Some(Move::Send(..))) {
                acts.push(Act::Run(r, Leaves::No));
                if scenario.reused {
                    acts.push(Act::Run(r, Leaves::Reused));
                }
            }
        } else {
            if replica.held.is_none() && !twin {
                if !opened {
                    acts.extend((0..scenario.orders.len()).map(|order| Act::Open(r, order as u8)));
                } else if !world.owned() || world.budget.takes > 0 {
                    acts.push(Act::Take(r));
                }
            }
            if let Some(held) = &replica.held {
                tell(world, r, held, &mut acts, scenario);
                let stranger = replica.lease != Some(world.ledger.state.epoch) || held.durable != world.ledger.durable;
                if stranger && opened && (!world.owned() || world.budget.takes > 0) {
                    acts.push(Act::Take(r));
                }
                webhooks(world, r, held, &mut acts);
                persons(world, r, held, scenario, &mut acts);
            }
            acts.extend(replica.open.iter().map(|&n| Act::Timeout(r, n)));
        }
        if world.budget.kills > 0 && !blank(replica) {
            acts.push(Act::Kill(r));
        }
    }
    for (index, reply) in world.replies.iter().enumerate() {
        let to = usize::from(reply.to);
        if world.replicas.get(to).is_none_or(|replica| replica.queue.is_none()) {
            acts.push(Act::Reply(index as u8));
        }
    }
    for (index, message) in world.net.iter().enumerate() {
        if index > 0 && world.net[index - 1] == *message {
            continue;
        }
        deliveries(scenario, world, index as u8, message, &mut acts);
    }
    for (g, gateway) in world.gateways.iter().enumerate() {
        for (o, object) in gateway.objects.iter().enumerate() {
            let at = (g as u8, o as u8);
            if !object.later.is_empty() {
                acts.push(Act::Work(at.0, at.1));
            }
            if world.budget.expiries > 0 && object.life == Life::Held && object.later.is_empty() {
                acts.push(Act::Expire(at.0, at.1));
            }
            if world.budget.returns > 0 && !object.given.is_empty() {
                acts.push(Act::Return(at.0, at.1));
            }
            let completable = match object.life {
                Life::Asked => true,
                // What the application was told is declined is its own to complete.
                Life::Declined(_) => scenario.facts[g].stays_open && !failed,
                _ => false,
            };
            if completable && world.budget.completions > 0 {
                acts.push(Act::Complete(at.0, at.1));
            }
        }
    }
    if scenario.clock && world.clock < 2 && opened {
        acts.push(Act::Clock);
    }
    if scenario.direct && world.direct == Direct::Unused {
        acts.push(Act::Direct);
    }
    if world.direct == Direct::Sent {
        acts.push(Act::DirectTimeout);
    }
    if world.budget.losses > 0 && world.before.is_some() {
        acts.push(Act::Lose);
    }
    acts
}

fn blank(replica: &super::world::Replica) -> bool {
    replica.held.is_none() && replica.queue.is_none() && replica.open.is_empty()
}

fn tell(world: &World, r: u8, held: &Held, acts: &mut Vec<Act>, scenario: &Scenario) {
    let state = &held.state;
    let mut push = |ev| acts.push(Act::Tell(r, ev));
    let live = !matches!(state.phase, Phase::New | Phase::Manual);
    if world.budget.retries > 0 && !state.here.caller {
        push(Ev::Retry);
    }
    if state.here.caller && live && !state.parked && state.told.is_none() {
        push(Ev::Deadline);
    }
    if world.budget.disconnects > 0 && state.here.caller {
        push(Ev::Disconnected);
    }
    for &n in &state.here.waiting {
        push(Ev::Timer(n));
    }
    if world.budget.hedges > 0
        && let Some((n, _)) = state.pays().next_back().filter(|(_, attempt)| attempt.pending())
    {
        push(Ev::Hedge(n));
    }
    if state.phase == Phase::Licensed {
        push(Ev::Expired);
    }
    if world.budget.aged > 0 && live && !state.finished() {
        push(Ev::Aged);
    }
    if world.budget.follow_ups > 0 && !world.told.is_empty() {
        for index in 0..scenario.follow_ups.len() {
            push(Ev::FollowUp(index as u8));
        }
    }
}

/// What a person who has seen the gateways' books may say: the truth, and only once nothing is on its way any more.
fn persons(world: &World, r: u8, held: &Held, scenario: &Scenario, acts: &mut Vec<Act>) {
    let state = &held.state;
    if world.budget.persons == 0 || !(state.parked || state.phase == Phase::Manual) {
        return;
    }
    let moves = |message: &Message| !matches!(message.leg, Leg::Lookup | Leg::Fence);
    let quiet = !world.net.iter().any(moves) && world.replicas.iter().all(|replica| replica.queue.is_none());
    if !quiet && scenario.twist != Some(Twist::PersonGuesses) {
        return;
    }
    let objects = || world.gateways.iter().flat_map(|gateway| &gateway.objects);
    let live = || objects().filter(|object| matches!(object.life, Life::Held | Life::Taken));
    let mut words = vec![Resolution::Continue];
    // Nobody closes a payment of which something can still be completed by its customer, or is yet to be done.
    let open =
        objects().any(|object| matches!(object.life, Life::Asked | Life::Declined(_)) || !object.later.is_empty());
    // A sale has succeeded when the money was taken, not when it is held.
    let done = |object: &Object| object.life == Life::Taken || scenario.intent == Intent::Authorize;
    match (live().next(), live().count()) {
        _ if open => {}
        (None, _) => words.push(Resolution::Failed),
        (Some(only), 1) if only.n > 0 && !only.less && done(only) => words.push(Resolution::Succeeded { n: only.n }),
        _ => {}
    }
    words.extend(live().map(|object| Resolution::Released { n: object.n }));
    let taken = words.into_iter().filter(|word| state.objection(*word).is_none());
    acts.extend(taken.map(|word| Act::Tell(r, Ev::Person(word))));
}

fn webhooks(world: &World, r: u8, held: &Held, acts: &mut Vec<Act>) {
    if world.budget.webhooks == 0 {
        return;
    }
    for g in REPLICAS {
        for leg in [held.state.plan.leg(), Leg::Capture, Leg::Void, Leg::Refund] {
            if webhook(world, held, g, leg).is_some() {
                acts.push(Act::Webhook(r, g, leg));
            }
        }
    }
}

/// What a webhook of a gateway says now.
fn webhook(world: &World, held: &Held, g: u8, leg: Leg) -> Option<(u16, Answer)> {
    let n = held.state.attribute(super::scenario::NAMES[usize::from(g)], leg)?;
    let object = world.gateways[usize::from(g)]
        .objects
        .iter()
        .rev()
        .find(|object| !object.hidden())?;
    let outcome = match (leg, held.state.attempt(n)?.key) {
        (Leg::Charge | Leg::Auth, _) => object.fact(),
        // It names the modification that it is about.
        (Leg::Refund, Key::Derived { nth }) if object.undone.contains(&KeyId::Derived(leg, nth)) => {
            Outcome::Rejected(Rejection::Request)
        }
        (_, Key::Derived { nth }) if object.done.contains(&KeyId::Derived(leg, nth)) => Outcome::Succeeded,
        _ => return None,
    };
    // What is known already is no news.
    let attempt = held.state.attempt(n)?;
    let known = attempt.known.join(outcome.into()) == attempt.known;
    let undone = attempt.undone() && matches!(outcome, Outcome::Rejected(_));
    let gone = undone || attempt.released && matches!(outcome, Outcome::Authorised | Outcome::Fenced);
    let answer = Answer {
        id: leg == held.state.plan.leg(),
        less: object.less && matches!(leg, Leg::Charge | Leg::Auth),
        ..outcome.into()
    };
    (!known && !gone).then_some((n, answer))
}

fn deliveries(scenario: &Scenario, world: &World, index: u8, message: &Message, acts: &mut Vec<Act>) {
    let g = usize::from(message.to);
    let facts = &scenario.facts[g];
    if world.gateways[g].undecided(message, facts) {
        acts.extend(scenario.how.iter().map(|&how| Act::Deliver(index, how, false)));
    } else {
        acts.push(Act::Deliver(index, How::Plain, false));
        let mut objects = world.gateways[g].objects.iter();
        let known = objects.any(|object| object.done.contains(&message.key) || object.waits(message.key));
        let moves = matches!(message.leg, Leg::Capture | Leg::Void | Leg::Refund) && !known;
        if moves && scenario.how.contains(&How::Busy) {
            acts.push(Act::Deliver(index, How::Busy, false));
        }
    }
    let repeatable = facts.keys || !matches!(message.leg, Leg::Charge | Leg::Auth);
    if world.budget.copies > 0 && repeatable {
        acts.push(Act::Deliver(index, How::Plain, true));
    }
}

/// What then is, and the rule that the act itself broke.
pub fn apply(shell: &Shell<'_>, world: &World, act: Act, walked: &mut Walked) -> (World, Option<Broken>) {
    let mut w = world.clone();
    let broken = match act {
        Act::Open(r, order) => {
            let new = Held::new(sentinel::payment::core::State::default());
            w.replicas[usize::from(r)].held = Some(new);
            w.replicas[usize::from(r)].lease = Some(0);
            deliver(shell, &mut w, r, Ev::Open(order))
        }
        Act::Run(r, leaves) => run(shell, &mut w, r, leaves, walked),
        Act::Kill(r) => {
            walked.kill(&w.replicas[usize::from(r)]);
            w.replicas[usize::from(r)] = super::world::Replica::default();
            w.replies.retain(|reply| reply.to != r);
            w.budget.kills = w.budget.kills.saturating_sub(1);
            None
        }
        Act::Take(r) => {
            if w.owned() {
                w.budget.takes = w.budget.takes.saturating_sub(1);
            }
            w.replicas[usize::from(r)].held = Some(w.ledger.clone());
            w.replicas[usize::from(r)].lease = Some(w.ledger.state.epoch + 1);
            deliver(shell, &mut w, r, Ev::Recovered)
        }
        Act::Deliver(index, how, copy) => {
            arrive(shell, &mut w, usize::from(index), how, copy, walked);
            None
        }
        Act::Reply(index) => {
            let reply = w.replies.remove(usize::from(index));
            if reply.to == OUTSIDER {
                w.direct = Direct::Over;
                match reply.answer.0.outcome {
                    Outcome::Succeeded => note(&mut w.told, Told::Taken(0)),
                    Outcome::Authorised => note(&mut w.told, Told::Held(0)),
                    Outcome::Declined(_) => note(&mut w.told, Told::Failed),
                    _ => {}
                }
                None
            } else {
                let ev = Ev::Observed {
                    n: reply.n,
                    answer: reply.answer.0,
                };
                end_exchange(shell, &mut w, reply.to, reply.n, ev)
            }
        }
        Act::Timeout(r, n) => {
            let ev = Ev::Observed {
                n,
                answer: shell.timeout().into(),
            };
            end_exchange(shell, &mut w, r, n, ev)
        }
        Act::Tell(r, ev) => {
            spend(&mut w, ev);
            if ev == Ev::Retry {
                // Whoever asks again wants it done, and takes back that he was told nobody did it.
                w.told.retain(|told| *told != Told::NotExecuted);
            }
            if let Ev::Person(word) = ev {
                walked.mark("a person resolved it");
                w.spoken = true;
                if let Resolution::Released { n } = word {
                    by_hand(&mut w, n);
                }
            }
            if let Ev::FollowUp(index) = ev {
                w.ended |= matches!(shell.scenario.follow_ups[usize::from(index)].0, Leg::Void | Leg::Refund);
                // Whoever asks again takes back that he was told it did not happen.
                let request = Some(format!("follow-up {index}"));
                let held = w.replicas[usize::from(r)].held.as_ref();
                let nth = held.and_then(|held| held.state.follow_ups.iter().position(|known| known.request == request));
                let again = nth.map(|nth| nth as u16 + 1);
                w.refused
                    .retain(|key| !matches!(key, KeyId::Derived(_, nth) if Some(*nth) == again));
            }
            walked.told(&w, r, ev);
            deliver(shell, &mut w, r, ev)
        }
        Act::Webhook(r, g, leg) => {
            w.budget.webhooks = w.budget.webhooks.saturating_sub(1);
            let held = w.replicas[usize::from(r)].held.clone();
            match held.and_then(|held| webhook(&w, &held, g, leg)) {
                Some((n, answer)) => {
                    let ev = Ev::Webhook { n, answer };
                    walked.mark("a webhook spoke");
                    deliver(shell, &mut w, r, ev)
                }
                None => None,
            }
        }
        Act::Expire(g, o) => {
            w.budget.expiries = w.budget.expiries.saturating_sub(1);
            let object = &mut w.gateways[usize::from(g)].objects[usize::from(o)];
            object.life = Life::Gone;
            object.foreign = true;
            walked.mark("a hold expired at its gateway");
            None
        }
        Act::Return(g, o) => {
            w.budget.returns = w.budget.returns.saturating_sub(1);
            w.gateways[usize::from(g)].come_back(usize::from(o));
            walked.mark("a refund came back");
            None
        }
        Act::Complete(g, o) => {
            w.budget.completions = w.budget.completions.saturating_sub(1);
            let auth = shell.scenario.plan(0).leg() == Leg::Auth;
            let object = &mut w.gateways[usize::from(g)].objects[usize::from(o)];
            object.life = if auth { Life::Held } else { Life::Taken };
            object.taken = if auth { 0 } else { WHOLE };
            object.foreign = true;
            walked.mark("the customer completed an object");
            None
        }
        Act::Work(g, o) => {
            w.gateways[usize::from(g)].work(usize::from(o), &shell.scenario.facts[usize::from(g)]);
            None
        }
        Act::Clock => {
            w.clock += 1;
            if w.clock == 2 {
                // The window is longer than any delay of a request that began within its first 80 %.
                w.net.retain(|message| message.sent > 0);
                for (gateway, facts) in w.gateways.iter_mut().zip(shell.scenario.facts) {
                    // An object that is cancelled by its id stays cancelled; only keys are forgotten.
                    let kept = facts.cancels && facts.fence == FenceStrength::F3;
                    for object in &mut gateway.objects {
                        object.forgotten |= object.born == 0 && !kept;
                    }
                }
                walked.mark("gateways forgot their keys");
            }
            None
        }
        Act::Direct => {
            w.direct = Direct::Sent;
            let leg = shell.scenario.plan(0).leg();
            insert(
                &mut w.net,
                Message {
                    to: 0,
                    from: OUTSIDER,
                    n: 0,
                    leg,
                    key: KeyId::Application,
                    target: KeyId::Application,
                    by_id: false,
                    tenths: WHOLE,
                    about: None,
                    sent: w.clock,
                },
            );
            walked.mark("a request passed the ledger by");
            None
        }
        Act::DirectTimeout => {
            w.direct = Direct::Over;
            w.replies.retain(|reply| reply.to != OUTSIDER);
            None
        }
        Act::Lose => {
            w.budget.losses = w.budget.losses.saturating_sub(1);
            if let Some(before) = w.before.take() {
                w.ledger = before;
            }
            None
        }
    };
    let broken = broken.or_else(|| oracle::broken(shell, &w));
    (w, broken)
}

/// A person voids or refunds an effect at its gateway.
fn by_hand(w: &mut World, n: u16) {
    for object in w.gateways.iter_mut().flat_map(|gateway| &mut gateway.objects) {
        if object.n == n && matches!(object.life, Life::Held | Life::Taken) {
            object.life = match object.life {
                Life::Held => Life::Gone,
                _ => Life::Back,
            };
            object.back = object.taken;
            object.foreign = true;
        }
    }
}

fn spend(w: &mut World, ev: Ev) {
    let budget = &mut w.budget;
    match ev {
        Ev::Retry => budget.retries = budget.retries.saturating_sub(1),
        Ev::Disconnected => budget.disconnects = budget.disconnects.saturating_sub(1),
        Ev::Hedge(_) => budget.hedges = budget.hedges.saturating_sub(1),
        Ev::FollowUp(_) => budget.follow_ups = budget.follow_ups.saturating_sub(1),
        Ev::Aged => budget.aged = budget.aged.saturating_sub(1),
        Ev::Person(_) => budget.persons = budget.persons.saturating_sub(1),
        _ => {}
    }
}

fn note<T: Ord>(list: &mut Vec<T>, value: T) {
    if let Err(at) = list.binary_search(&value) {
        list.insert(at, value);
    }
}

fn insert(net: &mut Vec<Message>, message: Message) {
    // A third identical copy adds nothing that two cannot do.
    if net.iter().filter(|known| **known == message).count() < 2 {
        let at = net.partition_point(|known| *known <= message);
        net.insert(at, message);
    }
}

/// Hands an event to a replica's core.
fn deliver(shell: &Shell<'_>, w: &mut World, r: u8, ev: Ev) -> Option<Broken> {
    let clock = w.clock;
    let replica = &mut w.replicas[usize::from(r)];
    let held = replica.held.get_or_insert_with(|| w.ledger.clone());
    let stepped = shell.step(held, ev, clock);
    replica.held = Some(stepped.held.clone());
    replica.queue = (!stepped.moves.is_empty()).then(|| Queue {
        moves: stepped.moves.clone(),
        at: 0,
    });
    None
}

fn end_exchange(shell: &Shell<'_>, w: &mut World, r: u8, n: u16, ev: Ev) -> Option<Broken> {
    w.replicas[usize::from(r)].open.retain(|&open| open != n);
    w.replies.retain(|reply| (reply.to, reply.n) != (r, n));
    deliver(shell, w, r, ev)
}

/// Carries out a replica's next action.
fn run(shell: &Shell<'_>, w: &mut World, r: u8, leaves: Leaves, walked: &mut Walked) -> Option<Broken> {
    let index = usize::from(r);
    let queue = w.replicas[index].queue.as_mut()?;
    let action = queue.head()?.clone();
    queue.at += 1;
    if queue.head().is_none() {
        w.replicas[index].queue = None;
    }
    match action {
        Move::Persist {
            base,
            after,
            records,
            event,
        } => persist(shell, w, r, base, after, &records, event, walked),
        Move::Send(send, decided) => dispatch(shell, w, r, (&send, decided), leaves, walked),
        Move::Answer(verdict) => {
            let held = w.replicas[index].held.clone()?;
            let at = |n| {
                held.state
                    .attempt(n)
                    .and_then(|attempt| shell.gateway(&held.state, attempt.gateway))
            };
            match verdict {
                Verdict::Succeeded { n } => note(&mut w.told, Told::Taken(at(n)?)),
                Verdict::Authorised { n } => note(&mut w.told, Told::Held(at(n)?)),
                Verdict::Failed { .. } if held.state.reopens() => {
                    // Whoever asked again while this answer was on its way hears of the newer one.
                    let ledger = &w.ledger.state;
                    if ledger.told == Some(verdict) && ledger.earlier == held.state.earlier {
                        note(&mut w.told, Told::NotExecuted);
                    } else {
                        walked.mark("an answer was overtaken by another round");
                    }
                }
                Verdict::Failed { .. } => note(&mut w.told, Told::Failed),
                Verdict::ActionRequired { .. } => walked.mark("the customer was asked to act"),
                Verdict::InDoubt { .. } => walked.mark("the application was told in doubt"),
            }
            None
        }
        Move::AnswerFollowUp(Some(key), Some(true)) => {
            note(&mut w.done, key);
            walked.mark("a follow-up was done");
            None
        }
        Move::AnswerFollowUp(Some(key), Some(false)) => {
            note(&mut w.refused, key);
            None
        }
        Move::AnswerFollowUp(..) => None,
    }
}

#[expect(clippy::too_many_arguments, reason = "the fields of the action, taken apart once")]
fn persist(
    shell: &Shell<'_>,
    w: &mut World,
    r: u8,
    base: u64,
    after: Held,
    records: &[Record],
    event: Ev,
    walked: &mut Walked,
) -> Option<Broken> {
    let blind = shell.scenario.twist == Some(Twist::BlindAppend);
    if base != w.ledger.durable && !blind {
        walked.mark("an append lost its race");
        let replica = &mut w.replicas[usize::from(r)];
        replica.queue = None;
        if let Ev::Open(_) = event {
            walked.mark("two replicas opened the payment");
        }
        // Late truth is delivered again to what was loaded; everything else is the new owner's business. A webhook that was
        // not taken is sent again by its gateway.
        if matches!(event, Ev::Observed { .. } | Ev::FollowUp(_)) {
            replica.held = Some(w.ledger.clone());
            // Whoever lost a race owns nothing until he takes the lease again.
            replica.lease = None;
            return deliver(shell, w, r, event);
        }
        replica.held = None;
        replica.lease = None;
        return None;
    }
    let next = if base == w.ledger.durable {
        after
    } else {
        let mut state = (*w.ledger.state).clone();
        records.iter().for_each(|record| state.fold(record));
        Held::new(state)
    };
    let reopened = |record: &Record| matches!(record, Record::Decision(Decision::Reopened { .. }));
    if event == Ev::Retry && records.iter().any(reopened) {
        walked.mark("another round of what nobody executed");
        w.told.retain(|told| *told != Told::NotExecuted);
    }
    let broken = oracle::appended(shell, w, records).or_else(|| oracle::late(event, &next.state));
    walked.appended(&w.ledger.state, &next.state, records, shell);
    let before = std::mem::replace(&mut w.ledger, next);
    if w.budget.losses > 0 {
        w.before = Some(before);
    }
    broken
}

fn dispatch(
    shell: &Shell<'_>,
    w: &mut World,
    r: u8,
    (send, decided): (&Send, u8),
    leaves: Leaves,
    walked: &mut Walked,
) -> Option<Broken> {
    let held = w.replicas[usize::from(r)].held.clone()?;
    let state = &held.state;
    let to = shell.gateway(state, send.gateway)?;
    let broken = oracle::sent(shell, w, send);
    let own = match send.key {
        Key::Derived { nth } => KeyId::Derived(send.leg, nth),
        Key::Application => KeyId::Application,
    };
    let key = shell.key(state, send.n, r).unwrap_or(own);
    // From a look-up of a modification down to the attempt that takes the payment.
    let mut target = key;
    let mut about = None;
    let mut by_id = false;
    let mut of = send.of;
    while let Some(n) = of {
        let attempt = state.attempt(n)?;
        target = shell.key(state, n, r)?;
        of = attempt.of;
        by_id = attempt.ids.payment.is_some();
        if of.is_some() {
            about = Some((attempt.leg, target));
        }
    }
    let replica = &mut w.replicas[usize::from(r)];
    let unfenced = send.leg == Leg::Fence && shell.scenario.facts[usize::from(to)].fence < FenceStrength::F2;
    if !replica.open.contains(&send.n) {
        replica.open.push(send.n);
        replica.open.sort_unstable();
    }
    // The deadline is checked once more before the commit byte: a process that slept through the key window sends nothing.
    let late = decided == 0 && w.clock == 2;
    if leaves == Leaves::Yes && !unfenced && !late {
        insert(
            &mut w.net,
            Message {
                to,
                from: r,
                n: send.n,
                leg: send.leg,
                key,
                target,
                by_id,
                tenths: send.amount.map_or(0, |amount| (amount.units / 100) as u8),
                about,
                sent: decided,
            },
        );
    } else {
        walked.mark("a request provably did not leave");
        reply(
            w,
            r,
            send.n,
            Answer {
                reused: leaves == Leaves::Reused,
                ..Outcome::NotSent.into()
            },
        );
    }
    broken
}

fn reply(w: &mut World, to: u8, n: u16, answer: Answer) {
    let answer = Said(answer);
    note(&mut w.replies, Reply { to, n, answer });
}

/// A request reaches its gateway.
fn arrive(shell: &Shell<'_>, w: &mut World, index: usize, how: How, copy: bool, walked: &mut Walked) {
    let message = w.net[index];
    if copy {
        w.budget.copies = w.budget.copies.saturating_sub(1);
    } else {
        w.net.remove(index);
    }
    let g = usize::from(message.to);
    walked.arrives(w, &message);
    let answer = w.gateways[g].serve(&message, how, &shell.scenario.facts[g], w.clock);
    if copy && matches!(answer.outcome, Outcome::Rejected(_)) {
        // One exchange is refused as a whole; a refused request does not come again by itself.
        w.net.remove(index);
    }
    let waits = match w.replicas.get(usize::from(message.from)) {
        Some(replica) => replica.open.contains(&message.n),
        None => w.direct == Direct::Sent,
    };
    if waits {
        reply(w, message.from, message.n, answer);
    }
}
