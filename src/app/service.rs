//! What the service manager is told (sd_notify(3)), where there is one: readiness, reloads, stopping, a line of status,
//! and the watchdog's pings. Without `NOTIFY_SOCKET` every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use super::control::Control;

/// The service manager's view of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// It serves; the text says what.
    Ready(&'a str),
    /// It reads its configuration again. [`State::Ready`] must follow, whatever came of it.
    Reloading,
    /// It takes leave; the text says what it still waits for.
    Stopping(&'a str),
    /// Nothing but a new line of status.
    Status(&'a str),
}

/// Tells the service manager.
pub fn tell(state: State<'_>) {
    // One line: whatever follows a line break would be read as another message.
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    let told = match state {
        State::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&line(status))]),
        // `Type=notify-reload` demands the clock in the same message (systemd 253).
        State::Reloading => {
            NotifyState::monotonic_usec_now().and_then(|clock| sd_notify::notify(&[NotifyState::Reloading, clock]))
        }
        State::Stopping(status) => sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&line(status))]),
        State::Status(status) => sd_notify::notify(&[NotifyState::Status(&line(status))]),
    };
    if let Err(error) = told {
        tracing::debug!(%error, "no service manager was told");
    }
}

/// Pings the watchdog, where one is asked for (`WATCHDOG_USEC`), as long as this runtime and every worker turn. A stuck
/// worker holds payments that nobody else can finish: the pings stop, and the service manager restarts the process.
pub async fn ping_watchdog(control: std::sync::Arc<Control>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    // Half of the limit, as sd_watchdog_enabled(3) asks; a beat may be as old as the other half, and the worker's own
    // beat every second must fit in.
    let mut pings = tokio::time::interval(limit / 2);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let late = (limit / 2).max(Duration::from_secs(2));
    let mut silent = false;
    loop {
        pings.tick().await;
        let stuck = control.stuck_workers(late);
        if stuck.is_empty() {
            silent = false;
            if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
                tracing::debug!(%error, "the watchdog was not told");
            }
        } else if !silent {
            silent = true;
            tracing::error!(workers = ?stuck, "workers are stuck: the watchdog is not told any more that all is well");
            tell(State::Status(&format!("Stuck workers: {stuck:?}")));
        }
    }
}
