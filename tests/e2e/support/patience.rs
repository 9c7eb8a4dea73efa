//! Waiting for what happens by itself: a gateway's late word, a look-up's pause, recovery's next round.
//!
//! What the product or a simulator tells (a log line, an event of a stream, `quiet`, a metric) is waited for there. What is
//! only seen by asking is asked for here, again and again: each asking is a round trip through the process under test, so
//! that waiting makes progress there, and no pause is guessed.

use std::time::Duration;

use tokio::time::Instant;

/// How long that may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a payment may take to come to rest there: recovery looks again in longer and longer pauses.
pub const REST: Duration = Duration::from_secs(120);

/// Asks until there is an answer.
pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = within(PATIENCE, ask).await;
    answer.unwrap_or_else(|| panic!("not in time: {what}"))
}

/// Asks until there is an answer, or for so long.
pub async fn within<T>(long: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let patience = Instant::now() + long;
    loop {
        let answer = ask().await;
        if answer.is_some() || Instant::now() > patience {
            return answer;
        }
    }
}
