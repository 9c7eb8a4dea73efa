//! Breadth first, exhaustive, with the shortest trace to whatever breaks a rule.
//!
//! Only fingerprints and parents of visited worlds are kept; worlds live for one level. A trace is found by walking the
//! parents back and acting it out again from the start.

use super::act::{self, Broken};
use super::calm;
use super::hash::Map;
use super::scenario::Scenario;
use super::shell::Shell;
use super::walked::Walked;
use super::world::{Act, World};

/// How far to look.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Distinct states.
    pub states: usize,
    /// From one state in so many the world is calmed down, to see that the payment comes to its end. 0: never.
    pub calm_every: u64,
}

/// What was found.
pub struct Report {
    /// Distinct states.
    pub states: usize,
    /// The deepest level that was explored whole.
    pub depth: usize,
    /// Whether there was nothing left to explore.
    pub complete: bool,
    /// How long it took.
    pub seconds: f64,
    /// The broken rule and the shortest way to it.
    pub broken: Option<(Broken, Vec<Act>)>,
    /// Worlds that were calmed down.
    pub calmed: usize,
    /// Of them, those whose payment stayed open: only a person can end it.
    pub open: usize,
    /// What was walked.
    pub walked: Walked,
}

/// Explores a scenario.
pub fn explore(scenario: &Scenario, limits: Limits) -> Report {
    let begun = tokio::time::Instant::now();
    let shell = Shell::new(scenario);
    let root = World::new(scenario);
    let mut report = Report {
        states: 1,
        depth: 0,
        complete: false,
        seconds: 0.0,
        broken: None,
        calmed: 0,
        open: 0,
        walked: Walked::default(),
    };
    let mut seen: Map<u64, ()> = Map::default();
    let mut parents: Vec<(u32, Act)> = vec![(0, Act::Clock)];
    seen.insert(root.fingerprint(), ());
    let mut level = vec![(0u32, root)];
    'levels: while !level.is_empty() {
        let mut next = Vec::new();
        for (index, world) in level {
            for act in act::enabled(&shell, &world) {
                let (after, broken) = act::apply(&shell, &world, act, &mut report.walked);
                if let Some(rule) = broken {
                    report.broken = Some((rule, trace(&parents, index, act)));
                    break 'levels;
                }
                let fingerprint = after.fingerprint();
                if seen.insert(fingerprint, ()).is_some() {
                    continue;
                }
                if limits.calm_every > 0 && fingerprint % limits.calm_every == 0 {
                    report.calmed += 1;
                    match calm::down(&shell, &after, &mut report.walked) {
                        calm::End::Finished => {}
                        calm::End::Open(acts) if scenario.resolves => {
                            let mut trace = trace(&parents, index, act);
                            trace.extend(acts);
                            report.broken = Some(("I7 every payment comes to its end", trace));
                            break 'levels;
                        }
                        calm::End::Open(_) => report.open += 1,
                        calm::End::Broken(rule, acts) => {
                            let mut trace = trace(&parents, index, act);
                            trace.extend(acts);
                            report.broken = Some((rule, trace));
                            break 'levels;
                        }
                    }
                }
                parents.push((index, act));
                next.push((parents.len() as u32 - 1, after));
                if seen.len() >= limits.states {
                    break 'levels;
                }
            }
        }
        report.depth += 1;
        report.complete = next.is_empty();
        level = next;
    }
    report.states = seen.len();
    report.seconds = begun.elapsed().as_secs_f64();
    report
}

fn trace(parents: &[(u32, Act)], mut index: u32, last: Act) -> Vec<Act> {
    let mut acts = vec![last];
    while index != 0 {
        let (parent, act) = parents[index as usize];
        acts.push(act);
        index = parent;
    }
    acts.reverse();
    acts
}
