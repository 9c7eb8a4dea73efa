//! Places where a test may end the process as SIGKILL does.
//!
//! Every durable write, every step of an exchange with a gateway and every answer to an application passes one, before and
//! after. A test runs a payment once with [`LOG`] set and reads from that file which places there are: none can be
//! forgotten. Then it runs the payment again for each of them with [`AT`] set, restarts, and audits the books.
//!
//! Only debug builds listen to these variables. In a release build a place is an empty function.

/// Names a file to which a line is added for each place passed: `place#n detail`, n counted from 1.
pub const LOG: &str = "SENTINEL_FAILPOINT_LOG";

/// `place#n`: the process ends at the n-th passing of the place. `any#n`: at the n-th passing of any.
pub const AT: &str = "SENTINEL_FAILPOINT_AT";

/// Passes a place.
#[inline]
pub fn pass(place: &'static str) {
    pass_with(place, 0);
}

/// Passes a place, with a number for the log.
#[cfg(not(debug_assertions))]
#[inline]
pub fn pass_with(_place: &'static str, _detail: i64) {}

#[cfg(debug_assertions)]
pub use armed::pass_with;

#[cfg(debug_assertions)]
mod armed {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// What the environment asks for.
    struct Armed {
        log: Option<File>,
        at: Option<(String, u64)>,
        passed: Mutex<BTreeMap<&'static str, u64>>,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let (log, at) = (std::env::var_os(super::LOG), std::env::var(super::AT).ok());
        if log.is_none() && at.is_none() {
            return None;
        }
        let log = log.and_then(|path| File::options().create(true).append(true).open(path).ok());
        let at = at.and_then(|at| {
            let (place, nth) = at.rsplit_once('#')?;
            Some((place.to_owned(), nth.parse().ok()?))
        });
        Some(Armed {
            log,
            at,
            passed: Mutex::default(),
        })
    });

    /// Passes a place, with a number for the log.
    pub fn pass_with(place: &'static str, detail: i64) {
        let Some(armed) = &*ARMED else { return };
        // Held while the line is written, so that nothing passes after the place of the end.
        let mut passed = armed.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = |place| {
            let count = passed.entry(place).or_default();
            *count += 1;
            *count
        };
        let (nth, of_all) = (count(place), count("any"));
        if let Some(mut log) = armed.log.as_ref() {
            let _ = log.write_all(format!("{place}#{nth} {detail}\n").as_bytes());
        }
        let due = armed
            .at
            .as_ref()
            .is_some_and(|(wanted, at)| (wanted == place && *at == nth) || (wanted == "any" && *at == of_all));
        if due {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal has ended every thread before this returns; nothing may come after it in any case.
            std::process::abort();
        }
    }
}
