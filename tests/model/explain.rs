//! A trace, told so that a person can follow it.

use std::fmt::Write as _;

use sentinel::gateway::Leg;
use sentinel::payment::core::{Record, Verdict};

use super::act;
use super::gateway::{How, Message};
use super::scenario::{NAMES, Scenario};
use super::shell::Shell;
use super::walked::Walked;
use super::world::{Act, Ev, Leaves, Move, OUTSIDER, Queue, World};

/// The trace of a scenario, one line a step.
pub fn trace(scenario: &Scenario, acts: &[Act]) -> String {
    let shell = Shell::new(scenario);
    let mut world = World::new(scenario);
    let mut text = String::new();
    for (index, act) in acts.iter().enumerate() {
        // A run that never ends repeats itself.
        if index < 200 {
            let _ = writeln!(text, "    {:>3}  {}", index + 1, line(&shell, &world, *act));
        }
        world = act::apply(&shell, &world, *act, &mut Walked::default()).0;
    }
    let _ = writeln!(text, "         told: {:?}", world.told);
    for (g, gateway) in world.gateways.iter().enumerate() {
        let lives: Vec<_> = gateway.objects.iter().map(|object| object.life).collect();
        let _ = writeln!(text, "         {}: {lives:?}", NAMES[g]);
    }
    let _ = writeln!(
        text,
        "         ledger: {:?}, winner {:?}",
        world.ledger.state.phase, world.ledger.state.winner
    );
    text
}

fn who(replica: u8) -> String {
    if replica == OUTSIDER {
        return "the pass-through".to_owned();
    }
    format!("replica {}", [b'A', b'B'][usize::from(replica)] as char)
}

fn message(message: &Message) -> String {
    let from = who(message.from);
    format!("{:?} (attempt {}, from {from})", message.leg, message.n)
        .to_lowercase()
        .replace("replica a", "replica A")
        .replace("replica b", "replica B")
}

fn line(shell: &Shell<'_>, w: &World, act: Act) -> String {
    match act {
        Act::Open(r, order) => {
            let [first, second] = shell.scenario.orders[usize::from(order)];
            let names = (NAMES[usize::from(first)], NAMES[usize::from(second)]);
            format!(
                "{} gets the request; its route says {}, then {}",
                who(r),
                names.0,
                names.1
            )
        }
        Act::Run(r, leaves) => run(shell, w, r, leaves),
        Act::Kill(r) => format!("{} is killed", who(r)),
        Act::Take(r) => format!("{} takes the lease and loads the payment", who(r)),
        Act::Deliver(index, how, copy) => {
            let m = w.net[usize::from(index)];
            let g = usize::from(m.to);
            let copy = if copy { " (a copy is still on its way)" } else { "" };
            let deed = match how {
                How::Plain if w.gateways[g].undecided(&m, &shell.scenario.facts[g]) => "executes",
                How::Plain => "answers",
                How::Soft => "declines (soft)",
                How::Hard => "declines (hard)",
                How::Busy => "is too busy for",
                How::Ask => "asks the customer about",
                How::Less => "executes half of",
                How::Lie => "executes, and its edge claims to have refused,",
            };
            format!("{} {deed} the {}{copy}", NAMES[g], message(&m))
        }
        Act::Reply(index) => {
            let reply = w.replies[usize::from(index)];
            let accepted = if reply.answer.0.pending { ", accepted only" } else { "" };
            format!(
                "{} hears of attempt {}: {:?}{accepted}",
                who(reply.to),
                reply.n,
                reply.answer.0.outcome
            )
        }
        Act::Timeout(r, n) => format!("{} gives up waiting for attempt {n}", who(r)),
        Act::Tell(r, ev) => match ev {
            Ev::Retry => format!("the application asks again at {}", who(r)),
            Ev::Deadline => format!("the application's deadline passes at {}", who(r)),
            Ev::Disconnected => format!("the application hangs up on {}", who(r)),
            Ev::Timer(n) => format!("{}'s pause about attempt {n} is over", who(r)),
            Ev::Hedge(n) => format!("{} finds attempt {n} slow", who(r)),
            Ev::FollowUp(index) => {
                let (leg, tenths) = shell.scenario.follow_ups[usize::from(index)];
                let of = match tenths {
                    0 => "all that is left".to_owned(),
                    part => format!("{part}/10"),
                };
                format!(
                    "the application asks {} for follow-up {index} ({leg:?} of {of})",
                    who(r)
                )
            }
            Ev::Aged => format!("{} finds the payment too old for a machine", who(r)),
            Ev::Person(word) => format!("a person says at {}: {word:?}", who(r)),
            Ev::Expired => format!("{} waits no longer for the application", who(r)),
            other => format!("{}: {other:?}", who(r)),
        },
        Act::Webhook(r, g, leg) => format!(
            "a webhook of {} about its {leg:?} reaches {}",
            NAMES[usize::from(g)],
            who(r)
        ),
        Act::Expire(g, _) => format!("{} lets the hold expire", NAMES[usize::from(g)]),
        Act::Return(g, _) => format!("a refund of {} comes back", NAMES[usize::from(g)]),
        Act::Complete(g, _) => format!("the customer completes the object at {}", NAMES[usize::from(g)]),
        Act::Work(g, _) => format!("{} does what it had accepted", NAMES[usize::from(g)]),
        Act::Clock if w.clock == 0 => "80 % of the key window pass".to_owned(),
        Act::Clock => "the key window is over; gateways forget keys".to_owned(),
        Act::Direct => "a replica without the ledger passes the request through to alpha".to_owned(),
        Act::DirectTimeout => "the pass-through is given up".to_owned(),
        Act::Lose => "the ledger loses its last append".to_owned(),
    }
}

fn run(shell: &Shell<'_>, w: &World, r: u8, leaves: Leaves) -> String {
    let replica = &w.replicas[usize::from(r)];
    match replica.queue.as_ref().and_then(Queue::head) {
        Some(Move::Persist { base, records, .. }) => {
            let records: Vec<String> = records.iter().map(record).collect();
            let lost = if *base == w.ledger.durable {
                ""
            } else {
                " - but was not first"
            };
            format!("{} writes {}{lost}", who(r), records.join(", "))
        }
        Some(Move::Send(send, _)) => {
            let held = replica.held.as_ref();
            let to = held.and_then(|held| shell.gateway(&held.state, send.gateway));
            let to = to.map_or("nowhere", |to| NAMES[usize::from(to)]);
            let leg = leg(send.leg);
            let failed = match leaves {
                Leaves::Yes => "",
                Leaves::No => ", which provably does not leave",
                Leaves::Reused => ", which provably does not leave on a reused connection",
            };
            format!("{} sends attempt {} ({leg}) to {to}{failed}", who(r), send.n)
        }
        Some(Move::Answer(verdict)) => format!("{} tells the application: {}", who(r), say(*verdict)),
        Some(Move::AnswerFollowUp(_, done)) => format!("{} tells of the follow-up: {done:?}", who(r)),
        None => String::new(),
    }
}

fn leg(leg: Leg) -> String {
    format!("{leg:?}").to_lowercase()
}

fn say(verdict: Verdict) -> String {
    match verdict {
        Verdict::Succeeded { n } => format!("succeeded (attempt {n})"),
        Verdict::Authorised { n } => format!("authorised (attempt {n})"),
        Verdict::ActionRequired { n } => format!("action required (attempt {n})"),
        Verdict::Failed { why, .. } => format!("failed ({why:?})"),
        Verdict::InDoubt { .. } => "in doubt".to_owned(),
    }
}

fn record(record: &Record) -> String {
    match record {
        Record::IntentOpened { .. } => "IntentOpened".to_owned(),
        Record::AttemptPlanned { n, leg: l, of, .. } => {
            let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
            format!("AttemptPlanned({n}: {}{of})", leg(*l))
        }
        Record::AttemptResent { n, .. } => format!("AttemptResent({n})"),
        Record::AttemptObserved { n, finding, .. } => format!("AttemptObserved({n}: {:?})", finding.outcome),
        Record::Decision(decision) => format!("{decision:?}"),
        Record::ObligationOpened { target, cause } => format!("ObligationOpened({target}: {cause:?})"),
        Record::ObligationClosed { target, proof } => format!("ObligationClosed({target}: {proof:?})"),
        Record::ResponseSealed { verdict } => format!("ResponseSealed({})", say(*verdict)),
        Record::FollowUpOpened { leg: l, .. } => format!("FollowUpOpened({})", leg(*l)),
        Record::Abandoned => "Abandoned".to_owned(),
        Record::LeaseTaken { epoch, .. } => format!("LeaseTaken({epoch})"),
        Record::ManualHold { reason } => format!("ManualHold({reason:?})"),
        Record::ManualResolved { resolution, .. } => format!("ManualResolved({resolution:?})"),
    }
}
