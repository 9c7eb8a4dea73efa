//! Waiting for what happens by itself: a gateway's late word, a look-up's pause, recovery's next round.
//!
//! What the product or a simulator tells (a log line, an event of a stream, `quiet`, a metric) is waited for there. What is
//! only seen by asking is asked for here, again and again: each asking is a round trip through the process under test, so
//! that waiting makes progress there, and no pause is guessed.

use std::time::Duration;

use tokio::time::Instant;

/// How long that may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < patience, "not in time: {what}");
    }
}
