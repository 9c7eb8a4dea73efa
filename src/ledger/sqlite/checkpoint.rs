//! Copying the write-ahead log into the main file, off the commit path.
//!
//! SQLite would do it inside the commit that fills the log's thousandth page, and that commit's callers would wait for
//! several milliseconds. Here a thread of its own copies in the background (a PASSIVE checkpoint waits for nobody and
//! blocks nobody). The log starts again from its beginning only when everything in it was copied; under steady load the
//! background never quite catches up, so when the log is large the writer copies the rest itself, in a moment in which the
//! background has left little of it: whoever waits for the writer meanwhile waits for these pages.
//!
//! The log's file is longer than the log, by [`Room`], and never gets shorter while the ledger is open: a commit that makes a
//! file longer has to write its length and where its new blocks are, too, which takes the disk two to three times as long
//! as writing where there is room.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::room::Room;
use super::{Fatal, Gauges, start};

/// Pages in the log at which the background begins to copy: 4 MiB.
const BEGIN: i64 = 1024;
/// Pages in the log from which on the writer copies the rest when it is small: 64 MiB.
const FORCE: i64 = 16 * 1024;
/// A small rest: 1 MiB, a few milliseconds.
const SMALL: i64 = 256;
/// Pages in the log from which on the writer copies any rest: 192 MiB.
const MOST: i64 = 3 * FORCE;
/// Commits between two looks at the log's length.
const LOOK: u64 = 16;
/// How long the writer must be quiet before the rest is copied at leisure.
const IDLE: Duration = Duration::from_millis(500);
const PAGE: u64 = 4096;
/// Changes in one commit from which on no room is made for the log: so many share what a longer file costs, and all of them
/// would wait for the disk beside the one who makes room.
const MANY: usize = 8;

/// The writer's side.
pub(super) struct Pacer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    commits: u64,
    /// Whether a copy was asked for since the log was last found short.
    asked: bool,
    /// Whether the log was large when it was looked at last: every commit may then be the moment.
    large: bool,
}

impl Pacer {
    /// Starts the background thread with a connection of its own.
    pub fn start(path: PathBuf, gauges: Arc<Gauges>, room: Arc<Room>, on_fatal: Fatal) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("ledger-checkpoint".to_owned())
            .spawn(move || background(&path, &woken, &gauges, &room, &on_fatal))?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            commits: 0,
            asked: false,
            large: false,
        })
    }

    /// Called after every commit, when its answers are out.
    pub fn after_commit(&mut self, connection: &Connection, gauges: &Gauges) {
        self.commits += 1;
        if !self.large && !self.commits.is_multiple_of(LOOK) {
            // The background's idle copy needs to know only that something was written.
            if !self.asked {
                self.ask();
            }
            return;
        }
        let Some((log, copied)) = look(connection, "NOOP") else {
            return;
        };
        gauges
            .wal_bytes
            .store(u64::try_from(log - copied).unwrap_or(0) * PAGE, Relaxed);
        let rest = log - copied;
        self.large = log >= FORCE;
        if self.large && (rest <= SMALL || log >= MOST) {
            // Negative where the background is at it at this very moment.
            self.large = look(connection, "PASSIVE").is_none_or(|(log, copied)| log < 0 || log > copied);
        } else if self.large || rest >= BEGIN {
            self.ask();
        }
    }

    fn ask(&mut self) {
        if let Some(wake) = &self.wake {
            self.asked = !matches!(wake.try_send(()), Err(TrySendError::Disconnected(())));
        }
    }

    /// Stops the background and copies everything.
    pub fn finish(&mut self, connection: &Connection) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = look(connection, "TRUNCATE");
    }
}

/// A checkpoint of the given kind: pages in the log, and pages of it already copied.
fn look(connection: &Connection, kind: &str) -> Option<(i64, i64)> {
    connection
        .query_row(&format!("PRAGMA wal_checkpoint({kind})"), [], |row| {
            Ok((row.get(1)?, row.get(2)?))
        })
        .ok()
}

fn background(path: &std::path::Path, woken: &Receiver<()>, gauges: &Gauges, room: &Room, on_fatal: &Fatal) {
    let Ok(connection) = start::connect(path) else { return };
    while woken.recv().is_ok() {
        // While changes keep coming, only a long log is worth the disk's time; when they stop, any log is.
        let mut quiet = gauges.commits.load(Relaxed);
        loop {
            let looked = look(&connection, "NOOP");
            if let Some((log, _)) = looked
                && log >= BEGIN
                && gauges.batch.load(Relaxed) < MANY
                && let Err(failure) = room.make(u64::try_from(log).unwrap_or(0) * PAGE)
            {
                // An error of the disk is the last word of all that it was told (safety.md D8).
                if !gauges.fatal.swap(true, Relaxed) {
                    on_fatal(&failure.to_string());
                }
                return;
            }
            match looked {
                // Of a large log as much as there is, so that the writer finds little of it left.
                Some((log, copied)) if log - copied >= BEGIN || (log >= FORCE && log > copied) => {
                    let _ = look(&connection, "PASSIVE");
                }
                Some((log, copied)) if log > copied => {}
                _ => break,
            }
            match woken.recv_timeout(IDLE) {
                Ok(()) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    let commits = gauges.commits.load(Relaxed);
                    if commits == quiet {
                        let _ = look(&connection, "PASSIVE");
                        gauges.wal_bytes.store(0, Relaxed);
                        break;
                    }
                    quiet = commits;
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
