//! Removing what was kept for a second step that never came, and what is past its retention.
//!
//! Orders and intents that were opened here move nothing and are no payments: those that nobody pays would stay for ever.
//! Each is kept with the time until which its gateway would know it, and with the name of the payment that would be its
//! own; the ledger removes what is past its time and has no payment, and nothing else. Settled payments that nobody moved
//! for as long as `ledger.retention` says become tombstones: their keys and how they ended stay.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use crate::ledger::LedgerError;
use crate::ledger::rows::Retention;
use crate::telemetry::event::LedgerSwept;

/// How often: what is removed is months old, so that minutes are soon.
const EVERY: Duration = Duration::from_secs(600);
/// The pause after the ledger was too busy, or between two portions: payments come first.
const PAUSE: Duration = Duration::from_secs(1);
/// Looked at in one transaction: some milliseconds of the writer's time.
const PORTION: usize = 200;

/// Removes what is over, from then on until the process ends; `pause` is what [`portion`] said at the start.
pub async fn run(engine: Arc<Engine>, retention: Duration, mut pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        pause = portion(&engine, retention).await;
    }
}

/// Removes a portion of what is over. When to go on.
pub async fn portion(engine: &Engine, retention: Duration) -> Duration {
    match sweep(engine, retention).await {
        Ok(true) => PAUSE,
        Ok(false) => EVERY,
        Err(error) => {
            tracing::debug!(%error, "the ledger could not be swept; trying again");
            PAUSE
        }
    }
}

/// One portion. Whether there may be more.
async fn sweep(engine: &Engine, retention: Duration) -> Result<bool, LedgerError> {
    let ledger = engine.ledger();
    let waited = ledger.sweep_waiting(PORTION).await?;
    let age = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let past = Retention {
        before: ledger.now().saturating_sub(age),
        limit: PORTION,
    };
    let payments = ledger.sweep(past).await?.payments;
    let removed = waited.removed + payments;
    if removed > 0 {
        LedgerSwept {
            metrics: engine.metrics(),
            removed,
        }
        .emit();
    }
    Ok(waited.removed + waited.kept == PORTION || payments == PORTION)
}
