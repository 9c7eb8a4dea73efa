//! Random walks over the same world, deeper than any exhaustive search: everything goes wrong in one run, the rules are
//! judged after every step, and then the world is calmed down and the payment has to come to its end.
//!
//! A run is a function of its seed.

use super::act::{self, Broken};
use super::calm;
use super::scenario::Scenario;
use super::shell::Shell;
use super::walked::Walked;
use super::world::{Act, Ev, Leaves, World};

/// A broken rule and how it came to it.
pub struct Failure {
    /// The rule.
    pub rule: Broken,
    /// The seed of the run.
    pub seed: u64,
    /// What happened.
    pub acts: Vec<Act>,
}

/// What many runs came to.
#[derive(Default)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Steps of all runs, calm ones left out.
    pub steps: u64,
    /// Runs that only a person can end.
    pub open: u64,
    /// What was walked.
    pub walked: Walked,
}

/// The longest run.
const STEPS: usize = 160;

/// Runs a scenario from many seeds.
pub fn runs(scenario: &Scenario, seeds: std::ops::Range<u64>) -> (Tally, Option<Failure>) {
    let shell = Shell::new(scenario);
    let mut tally = Tally::default();
    for seed in seeds {
        tally.runs += 1;
        if let Some(failure) = run(&shell, seed, &mut tally) {
            return (tally, Some(failure));
        }
    }
    (tally, None)
}

fn run(shell: &Shell<'_>, seed: u64, tally: &mut Tally) -> Option<Failure> {
    let mut random = fastrand::Rng::with_seed(seed);
    // Some runs are nearly calm and get far, others are stormy and stay early.
    let trouble = random.u32(1..=20);
    let mut world = World::new(shell.scenario);
    let mut acts = Vec::new();
    for _ in 0..STEPS {
        let enabled = act::enabled(shell, &world);
        let Some(act) = pick(&mut random, &enabled, trouble) else {
            break;
        };
        acts.push(act);
        tally.steps += 1;
        let (after, broken) = act::apply(shell, &world, act, &mut tally.walked);
        if let Some(rule) = broken {
            return Some(Failure { rule, seed, acts });
        }
        world = after;
    }
    match calm::down(shell, &world, &mut tally.walked) {
        calm::End::Finished => None,
        calm::End::Open(more) if shell.scenario.resolves => {
            acts.extend(more);
            let rule = "I7 every payment comes to its end";
            Some(Failure { rule, seed, acts })
        }
        calm::End::Open(_) => {
            tally.open += 1;
            None
        }
        calm::End::Broken(rule, more) => {
            acts.extend(more);
            Some(Failure { rule, seed, acts })
        }
    }
}

fn pick(random: &mut fastrand::Rng, enabled: &[Act], trouble: u32) -> Option<Act> {
    let weight = |act: &Act| match act {
        Act::Run(_, Leaves::Yes) => 60,
        Act::Deliver(..) | Act::Reply(_) | Act::Open(..) => 30,
        Act::Take(_) | Act::Work(..) | Act::Tell(_, Ev::Timer(_)) => 15,
        Act::Tell(..) | Act::Webhook(..) | Act::Complete(..) | Act::DirectTimeout => 5,
        _ => trouble,
    };
    let total: u32 = enabled.iter().map(weight).sum();
    let mut at = random.u32(0..total.max(1));
    enabled.iter().copied().find(|act| {
        let own = weight(act);
        let here = at < own;
        at = at.saturating_sub(own);
        here
    })
}
