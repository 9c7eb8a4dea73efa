//! SIGKILL of the real binary at every durable write, every step of an exchange with a gateway and every answer of a
//! payment; then a restart, an application that asks again with the same keys, and an audit: the books of all simulators,
//! what was told before and after, and the ledger must agree.
//!
//! The places are not listed here: a run of the same payment without a SIGKILL records them.

mod application;
mod judge;
mod scenario;

use std::time::Duration;

use futures_util::StreamExt as _;
use sentinel::failpoint::{AT, LOG};
use tokio::time::Instant;

use super::audit::at_rest;
use crate::support::patience::{REST, within};
use crate::support::shop::Shop;
use crate::support::wire::{attempt, get};
use application::Came;
use scenario::Scenario;

/// Runs at once.
const AT_ONCE: usize = 4;

/// How one run went.
struct Run {
    killed: bool,
    /// From the restart to the application's last definite answer.
    recovered: Duration,
}

/// Where the process logs the places it passes.
fn log_of(dir: &std::path::Path) -> (String, String) {
    let path = dir.join("places").display().to_string();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    (path, text)
}

/// Waits until everything is settled, or the process is dead.
async fn rest(shop: &mut Shop) -> bool {
    let rests = within(REST, async || {
        let _ = attempt(shop.admin, get("/live", "")).await;
        match shop.sentinel.ended() {
            true => Some(false),
            false => at_rest(&shop.ledger(), None).then_some(true),
        }
    });
    let rests = rests.await;
    rests.unwrap_or_else(|| panic!("a payment does not come to rest:\n{}", shop.sentinel.log()))
}

/// The places that the payment passes when nobody kills it.
async fn places(scenario: &Scenario) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = log_of(dir.path());
    let mut shop = scenario.shop(&[(LOG, &log)]).await;
    let mut application = scenario.application(&shop).await;
    // Nobody kills it: what became of it is found out, however long that takes here.
    application.gives_up = None;
    // What the process passes before it is asked for the payment belongs to none.
    let starting = log_of(dir.path()).1.lines().count();
    assert_eq!(application.run(&shop).await, Came::Through, "{}", shop.sentinel.log());
    assert!(rest(&mut shop).await);
    let judged = judge::judge(&shop, &application, scenario.at_once, 0).await;
    assert_eq!(judged, Ok(()), "{}: nobody was killed", scenario.name);
    let (_, text) = log_of(dir.path());
    let places: Vec<String> = text
        .lines()
        .skip(starting)
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    assert!(places.len() > 10, "{}: {places:?}", scenario.name);
    places
}

/// One payment, killed at a place, and once more `again` places after the restart.
async fn killed_at(scenario: &Scenario, place: &str, again: Option<u64>) -> Run {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = log_of(dir.path());
    let mut shop = scenario.shop(&[(LOG, &log), (AT, place)]).await;
    if shop.sentinel.ended() {
        // On a busy machine its start passed the ledger's places more often: no payment was killed.
        shop = shop.crash();
    }
    let mut application = scenario.application(&shop).await;
    if application.run(&shop).await == Came::Cut {
        shop.sentinel.wait();
    }
    let mut killed = !rest(&mut shop).await;
    // Whatever was down is up again.
    for gateway in shop.sandbox.gateways() {
        gateway.clear_faults();
    }
    if let Some(again) = again.filter(|_| killed) {
        let at = format!("any#{again}");
        shop = shop.crash_again(&[(LOG, &log), (AT, &at)]);
        // Where it passes fewer places than that, it is killed from here a moment later.
        let ends = shop.sentinel.until_it_ends("the second SIGKILL");
        let _ = tokio::time::timeout(Duration::from_secs(2), ends).await;
    }
    let mut acknowledged = judge::acknowledged(&log_of(dir.path()).1);
    if killed {
        shop = shop.crash();
    }
    let mut begun = Instant::now();
    let mut came = application.run(&shop).await;
    if came == Came::Cut && !killed {
        // The place lay behind what looked like rest: late truth passed it while the application asked again.
        shop.sentinel.wait();
        killed = true;
        acknowledged = judge::acknowledged(&log_of(dir.path()).1);
        shop = shop.crash();
        begun = Instant::now();
        came = application.run(&shop).await;
    }
    let recovered = begun.elapsed();
    let judged = match came {
        Came::Undecided => judge::undecided(&shop, &application, acknowledged).await,
        came => {
            assert_eq!(came, Came::Through, "{}", shop.sentinel.log());
            assert!(rest(&mut shop).await, "it ended by itself:\n{}", shop.sentinel.log());
            judge::judge(&shop, &application, scenario.at_once, acknowledged).await
        }
    };
    if let Err(wrong) = judged {
        let lines: Vec<String> = shop
            .ledger()
            .prepare("SELECT kind, payload FROM events ORDER BY position")
            .and_then(|mut statement| {
                let rows = statement.query_map([], |row| {
                    Ok(format!("{} {}", row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                })?;
                rows.collect()
            })
            .expect("events");
        panic!(
            "{}: killed at {place}, again {again:?}: {wrong}\n{}",
            scenario.name,
            lines.join("\n")
        );
    }
    let ended = shop.sentinel.kill();
    let verified = judge::verify(ended.path()).await;
    assert!(verified.is_ok(), "{}: killed at {place}: {verified:?}", scenario.name);
    Run { killed, recovered }
}

/// How many runs there were, and in how many the place was reached.
#[derive(Clone, Copy, Default)]
struct Reached {
    runs: usize,
    killed: usize,
}

impl Reached {
    /// A place that depends on the moment may not be reached again, but they are few.
    fn judge(self, name: &str) {
        let Self { runs, killed } = self;
        assert!(killed * 10 >= runs * 7, "{name}: {killed} of {runs}");
    }
}

/// Kills a scenario at every `stride`-th place from `phase` on, and prints its row. `twice` for a second SIGKILL.
async fn kill_everywhere(scenario: &Scenario, stride: usize, phase: usize, twice: bool) -> Reached {
    let places = places(scenario).await;
    let chosen: Vec<(String, Option<u64>)> = places
        .iter()
        .enumerate()
        .filter(|(index, _)| index % stride == phase % stride)
        // Recovery passes about as many places as a payment: the second one wanders over all of them.
        .map(|(index, place)| (place.clone(), twice.then_some(1 + (index as u64 * 7) % 24)))
        .collect();
    let runs: Vec<Run> = futures_util::stream::iter(&chosen)
        .map(|(place, again)| killed_at(scenario, place, *again))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let killed = runs.iter().filter(|run| run.killed).count();
    let mut recovered: Vec<Duration> = runs.iter().filter(|run| run.killed).map(|run| run.recovered).collect();
    recovered.sort_unstable();
    let at = |share: usize| {
        let index = (recovered.len() * share / 100).min(recovered.len().saturating_sub(1));
        recovered.get(index).copied().unwrap_or_default().as_millis()
    };
    println!(
        "| {} | {} | {} | {killed} | 0 | 0 | {} | {} |",
        scenario.name,
        places.len(),
        if twice { "twice" } else { "once" },
        at(50),
        at(99)
    );
    Reached {
        runs: runs.len(),
        killed,
    }
}

fn header() {
    println!("| payment | places | killed | SIGKILLs | double charges | records lost | recovered, ms: p50 | p99 |");
    println!("|---|---|---|---|---|---|---|---|");
}

/// A slice: every scenario, a few places each, another few each time a place is added or goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_killed_anywhere_is_taken_once_and_told_truly() {
    header();
    // Of each scenario there are two or three runs: a share means something over all of them.
    let mut all = Reached::default();
    for (index, scenario) in scenario::all().iter().enumerate() {
        if scenario.sliced {
            let reached = kill_everywhere(scenario, 29, index * 5, false).await;
            all.runs += reached.runs;
            all.killed += reached.killed;
        }
    }
    all.judge("all scenarios");
}

/// The whole list; `tests/kill/run` runs it and explains the variables.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes three quarters of an hour: tests/kill/run"]
async fn everywhere() {
    let only = std::env::var("KILL_ONLY").unwrap_or_default();
    let stride = std::env::var("KILL_STRIDE")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    let twice = std::env::var("KILL_TWICE").as_deref() != Ok("no");
    header();
    for scenario in scenario::all().iter().filter(|scenario| scenario.name.contains(&only)) {
        for twice in [false, true].into_iter().take(1 + usize::from(twice)) {
            let reached = kill_everywhere(scenario, stride, 0, twice).await;
            reached.judge(&scenario.name);
        }
    }
}
