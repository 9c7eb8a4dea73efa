//! The model check of the payment core: the *production* `payment::core::step` in a world of two replicas, two gateways,
//! one ledger and an application, where everything that may happen is made to happen (safety.md 2.8).
//!
//! - [`explore`] goes through every state that a scenario can reach, breadth first, and gives the shortest trace to a
//!   broken rule. [`calm`] lets a world come to rest, to see that its payment comes to an end.
//! - [`simulate`] walks at random, much deeper, with everything going wrong in one run.
//! - [`catalogue`] holds the scenarios that must be safe, and the unsafe variants that must be caught. A variant is one
//!   twist of the shell, the environment or the configuration: the code under test is always the code that ships.
//!
//! Its own explorer, of a hundred lines, and not a model checking crate: worlds share the core's states by reference, steps
//! are remembered, and only fingerprints are kept, which is what makes ten million states fit.
//!
//! `cargo test --test model` is the quick slice; `tests/model/run` goes the whole way and prints the tables.

mod act;
mod calm;
mod catalogue;
mod explain;
mod explore;
mod gateway;
mod hash;
mod oracle;
mod scenario;
mod shell;
mod simulate;
mod walked;
mod world;

use sentinel::config::model::Mode;
use sentinel::payment::core::Intent;

use explore::{Limits, Report, explore};
use gateway::Facts;
use scenario::Scenario;
use walked::Walked;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

/// Whether `MODEL_ONLY` leaves a scenario in.
fn chosen(scenario: &Scenario) -> bool {
    std::env::var("MODEL_ONLY").map_or(true, |only| scenario.name.contains(&only))
}

/// Explores a scenario that must be safe, prints its row, and fails with the trace where it is not.
fn hold(scenario: &Scenario, limits: Limits, walked: &mut Walked) -> Result<Report, String> {
    let report = explore(scenario, limits);
    walked.add(&report.walked);
    let reach = if report.complete { "all" } else { "bounded" };
    let verdict = match &report.broken {
        None => "holds".to_owned(),
        Some((rule, acts)) => format!("BROKEN: {rule} in {} steps", acts.len()),
    };
    let trouble = format!("{}/{}", scenario.budget.kills, scenario.budget.takes);
    println!(
        "{:<46} {trouble:>5} {:>9} {:>5} {reach:>8} {:>7.1} {:>7}/{:<7} {verdict}",
        scenario.name, report.states, report.depth, report.seconds, report.open, report.calmed,
    );
    match &report.broken {
        None => Ok(report),
        Some((rule, acts)) => Err(format!("{}: {rule}\n{}", scenario.name, explain::trace(scenario, acts))),
    }
}

/// Explores all, and answers the states, the failures and what was walked.
fn all_hold(scenarios: &[Scenario], limits: Limits) -> (usize, Vec<String>, Walked) {
    println!(
        "{:<46} {:>5} {:>9} {:>5} {:>8} {:>7} {:>15} verdict",
        "configuration", "k/t", "states", "depth", "reach", "seconds", "open/calmed",
    );
    let mut walked = Walked::default();
    let mut failures = Vec::new();
    let mut states = 0;
    for scenario in scenarios {
        match hold(scenario, limits, &mut walked) {
            Ok(report) => states += report.states,
            Err(failure) => failures.push(failure),
        }
    }
    println!("{states} distinct states over {} configurations", scenarios.len());
    println!("k/t: kills and take-overs. open/calmed: worlds let come to rest, and those that only a person can end.");
    (states, failures, walked)
}

/// Explores the unsafe variants, prints how each was caught, and answers those that were not.
fn all_caught(limits: Limits, traces: bool) -> (usize, Vec<&'static str>) {
    let mut caught = 0;
    let mut missed = Vec::new();
    for variant in catalogue::unsafe_variants() {
        let scenario = &variant.scenario;
        if !chosen(scenario) {
            continue;
        }
        let report = explore(scenario, limits);
        let (states, seconds) = (report.states, report.seconds);
        match &report.broken {
            Some((rule, acts)) => {
                caught += 1;
                let steps = acts.len();
                println!(
                    "{:<50} {steps:>3} steps {states:>8} states {seconds:>6.1} s  {rule}",
                    scenario.name
                );
                if traces {
                    println!("    {}\n{}", variant.why, explain::trace(scenario, acts));
                }
            }
            None => {
                println!("{:<50} not caught in {states} states", scenario.name);
                missed.push(scenario.name);
            }
        }
    }
    (caught, missed)
}

#[test]
fn every_safe_configuration_holds_as_far_as_the_quick_slice_sees() {
    let limits = Limits {
        states: 10_000,
        calm_every: 64,
    };
    let (_, failures, _) = all_hold(&catalogue::safe(), limits);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn unsafe_variants_are_caught_within_the_quick_slice() {
    let limits = Limits {
        states: 15_000,
        calm_every: 0,
    };
    let (caught, missed) = all_caught(limits, false);
    assert!(caught >= 13, "only {caught} caught; not: {missed:?}");
}

#[test]
#[ignore = "the whole way: tests/model/run"]
fn every_safe_configuration_holds() {
    let limits = Limits {
        states: number("MODEL_STATES").map_or(1_000_000, |states| states as usize),
        calm_every: 32,
    };
    let mut scenarios = catalogue::safe();
    scenarios.extend(catalogue::safe().into_iter().map(catalogue::deep));
    scenarios.retain(chosen);
    let (_, failures, walked) = all_hold(&scenarios, limits);
    for (what, times) in walked.iter() {
        println!("{times:>12} x {what}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let whole = std::env::var("MODEL_ONLY").is_err();
    assert!(
        !whole || walked.missing().is_empty(),
        "never walked: {:?}",
        walked.missing()
    );
}

#[test]
#[ignore = "the whole way: tests/model/run"]
fn every_unsafe_variant_is_caught() {
    let limits = Limits {
        states: number("MODEL_STATES").map_or(1_000_000, |states| states as usize),
        calm_every: 0,
    };
    let (caught, missed) = all_caught(limits, true);
    println!("{caught} unsafe variants caught");
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

fn storms() -> Vec<Scenario> {
    let mut storms = Vec::new();
    for mode in [Mode::Fence, Mode::Gated, Mode::Compensate] {
        for facts in [
            [Facts::TOMBSTONE, Facts::TOMBSTONE],
            [Facts::CANCEL, Facts::WEAK],
            [Facts::WEAK, Facts::ASKED],
            [Facts::MUTE, Facts::CANCEL],
        ] {
            for intent in [Intent::Sale, Intent::Authorize] {
                storms.push(catalogue::storm(mode, facts, intent));
            }
        }
    }
    storms
}

fn simulate(from: u64, runs: u64) -> (simulate::Tally, Vec<String>) {
    let mut total = simulate::Tally::default();
    let mut failures = Vec::new();
    for scenario in storms() {
        let (tally, failure) = simulate::runs(&scenario, from..from + runs);
        total.runs += tally.runs;
        total.steps += tally.steps;
        total.open += tally.open;
        total.walked.add(&tally.walked);
        if let Some(failure) = failure {
            let facts = scenario.facts.map(|facts| (facts.fence, facts.cancels));
            failures.push(format!(
                "{:?} {:?} {facts:?}, seed {}: {} after {} steps\n{}",
                scenario.mode,
                scenario.intent,
                failure.seed,
                failure.rule,
                failure.acts.len(),
                explain::trace(&scenario, &failure.acts),
            ));
        }
    }
    println!(
        "{} runs from seed {from}, {} steps, {} left to a person",
        total.runs, total.steps, total.open
    );
    (total, failures)
}

#[test]
fn simulated_storms_break_no_rule() {
    let from = fastrand::u64(..1 << 40);
    let (_, failures) = simulate(from, 20);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
#[ignore = "the whole way: tests/model/run"]
fn simulated_storms_break_no_rule_in_many_runs() {
    let from = number("MODEL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 40));
    let (total, failures) = simulate(from, number("MODEL_RUNS").unwrap_or(20_000));
    for (what, times) in total.walked.iter() {
        println!("{times:>12} x {what}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
