//! What the service manager is told (sd_notify(3)), where there is one: readiness, reloads, stopping, a line of status,
//! and the watchdog's pings. Without `NOTIFY_SOCKET` every call does nothing.
//!
//! Nobody who tells waits: a manager that does not read its socket must not hold up signals, reloads and operators. What
//! it has to know (readiness, stopping) is queued for a thread that waits in their place; a ping is only worth its
//! moment, so one that cannot be delivered at once is dropped, as it would say of a later moment what it cannot know.

use std::collections::VecDeque;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
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

/// States that may wait for a manager that does not read. Past that the oldest go: the newest is the one that is true.
const WAITING: usize = 64;

/// States on their way to the manager.
#[derive(Debug, Default)]
struct Queue {
    states: Mutex<States>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct States {
    waiting: VecDeque<String>,
    /// One was taken out, and is not delivered yet.
    under_way: bool,
}

impl Queue {
    fn push(&self, state: String) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.waiting.len() == WAITING {
            states.waiting.pop_front();
            tracing::debug!("the service manager does not read what it is told");
        }
        states.waiting.push_back(state);
        self.moved.notify_all();
    }

    /// The next state, once the one before it is delivered.
    fn next(&self) -> String {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.under_way = false;
        self.moved.notify_all();
        loop {
            match states.waiting.pop_front() {
                Some(state) => {
                    states.under_way = true;
                    return state;
                }
                None => states = self.moved.wait(states).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Waits until everything is delivered, but not for longer than this.
    fn settle(&self, limit: Duration) {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self
            .moved
            .wait_timeout_while(states, limit, |states| states.under_way || !states.waiting.is_empty());
    }
}

static QUEUE: OnceLock<Option<Arc<Queue>>> = OnceLock::new();

/// How long the process stays for a manager that has not read of its leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells the service manager.
pub fn tell(state: State<'_>) {
    let Some(queue) = QUEUE.get_or_init(|| manager().and_then(deliver_to)) else {
        return;
    };
    match message(state) {
        Ok(message) => queue.push(message),
        Err(error) => tracing::debug!(%error, "no service manager was told"),
    }
}

/// Gives a manager that reads slowly a moment to hear everything. The last thing that a process does.
pub fn farewell() {
    if let Some(Some(queue)) = QUEUE.get() {
        queue.settle(FAREWELL);
    }
}

/// Where the service manager listens (sd_notify(3): a path, or an abstract name behind `@`).
fn manager() -> Option<SocketAddr> {
    let name = std::env::var_os("NOTIFY_SOCKET")?;
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    address
        .inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET names no socket"))
        .ok()
}

/// A queue, and a thread that delivers one state after the other, however long the manager takes.
fn deliver_to(manager: SocketAddr) -> Option<Arc<Queue>> {
    let queue = Arc::<Queue>::default();
    let states = Arc::clone(&queue);
    let deliver = move || {
        loop {
            let state = states.next();
            let told = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(state.as_bytes(), &manager));
            if let Err(error) = told {
                tracing::debug!(%error, "no service manager was told");
            }
        }
    };
    match std::thread::Builder::new().name("service".to_owned()).spawn(deliver) {
        Ok(_) => Some(queue),
        Err(error) => {
            tracing::warn!(%error, "the service manager cannot be told anything");
            None
        }
    }
}

fn message(state: State<'_>) -> std::io::Result<String> {
    // One line: whatever follows a line break would be read as another message.
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    let written = |states: &[NotifyState<'_>]| states.iter().map(|state| format!("{state}\n")).collect();
    Ok(match state {
        State::Ready(status) => written(&[NotifyState::Ready, NotifyState::Status(&line(status))]),
        // `Type=notify-reload` demands the clock in the same message (systemd 253).
        State::Reloading => written(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]),
        State::Stopping(status) => written(&[NotifyState::Stopping, NotifyState::Status(&line(status))]),
        State::Status(status) => written(&[NotifyState::Status(&line(status))]),
    })
}

/// Says that all is well now, or nothing when that cannot be said at once.
fn ping() -> std::io::Result<()> {
    let Some(manager) = manager() else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let message = format!("{}\n", NotifyState::Watchdog);
    socket.send_to_addr(message.as_bytes(), &manager).map(drop)
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
            if let Err(error) = ping() {
                tracing::debug!(%error, "the watchdog was not told");
            }
        } else if !silent {
            silent = true;
            tracing::error!(workers = ?stuck, "workers are stuck: the watchdog is not told any more that all is well");
            tell(State::Status(&format!("Stuck workers: {stuck:?}")));
        }
    }
}
