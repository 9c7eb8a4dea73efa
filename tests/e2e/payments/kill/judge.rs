//! What must hold after a crash: the books of every simulator, the answers and the ledger agree.

use sentinel::ledger::Ledger as _;
use sentinel::ledger::keys::Keys;
use sentinel::ledger::sqlite::{Options, SqliteLedger};

use super::application::Application;
use crate::payments::audit::{AtOnce, most_at_once, owing};
use crate::payments::own::Step;
use crate::support::shop::Shop;

/// The highest position of an event that the ledger acknowledged before the process ended, from the log of places.
pub fn acknowledged(log: &str) -> i64 {
    log.lines()
        .filter(|line| line.starts_with("ledger.committed#"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .max()
        .unwrap_or(0)
}

/// Holds everything against everything. The process must be at rest.
pub async fn judge(shop: &Shop, application: &Application, at_once: AtOnce, acknowledged: i64) -> Result<(), String> {
    let audit = shop.audit().await;
    let owing = owing(&shop.ledger(), None);
    if !audit.violations.is_empty() || (owing.is_empty() && !audit.clean()) {
        return Err(format!("the books: {audit:#?}"));
    }
    let most = most_at_once(&shop.sandbox.books().entries(), &application.order, at_once);
    if most > 1 {
        return Err(format!("{most} effects at once: {:#?}", shop.sandbox.books().entries()));
    }
    // What is owed and waits for its gateway is no second payment: it is recorded, and driven until it is proven.
    let mut live = audit.live(&application.order);
    live.retain(|position| !owing.contains(&position.gateway));
    let ended = matches!(application.steps.last(), Some(Step::Void | Step::Refund));
    let paid = application.told.first().ok_or("no answer")?;
    match (ended, &live[..]) {
        (true, []) => {}
        (false, [one]) if one.gateway == paid.gateway => {
            let taken = application.steps != [Step::Hold];
            if taken && (one.captured, one.held) != (1999, 0) {
                return Err(format!("told that 19.99 was taken: {one:#?}"));
            }
        }
        _ => return Err(format!("told {:?}, live {live:#?}", application.told)),
    }
    records(shop, acknowledged)
}

/// Whether every event that was acknowledged is there.
fn records(shop: &Shop, acknowledged: i64) -> Result<(), String> {
    let (events, last) = shop
        .ledger()
        .query_row("SELECT count(*), max(position) FROM events", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
        .map_err(|error| error.to_string())?;
    if last < acknowledged || events != last {
        return Err(format!(
            "acknowledged up to {acknowledged}, {events} events up to {last}"
        ));
    }
    Ok(())
}

/// What must hold of a payment that nobody can decide: it is there once at most, nothing else was told, and no record is
/// lost.
pub async fn undecided(shop: &Shop, application: &Application, acknowledged: i64) -> Result<(), String> {
    let audit = shop.audit().await;
    let live = audit.live(&application.order);
    if !audit.violations.is_empty() || live.len() > 1 || !application.told.is_empty() {
        return Err(format!("told {:?}, the books: {audit:#?}", application.told));
    }
    records(shop, acknowledged)
}

/// Verifies every chain and seal of a ledger whose process has ended.
pub async fn verify(dir: &std::path::Path) -> Result<u64, String> {
    let path = dir.join("ledger.db");
    let keys = Keys::load_or_create(&SqliteLedger::key_path(&path)).map_err(|error| error.to_string())?;
    let options = Options {
        strict: false,
        ..Options::new(&path)
    };
    let ledger = SqliteLedger::open(&options, keys).map_err(|error| error.to_string())?;
    ledger.verify().await.map_err(|error| error.to_string())
}
