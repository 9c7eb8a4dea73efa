//! Copying the write-ahead log into the main file, off the commit path.
//!
//! SQLite would do it inside the commit that fills the log's thousandth page, and that commit's callers would wait for
//! several milliseconds. Here a thread of its own copies in the background (a PASSIVE checkpoint waits for nobody and
//! blocks nobody). The log starts again from its beginning only when everything in it was copied; under steady load the
//! background never quite catches up, so when the log is large the writer copies the rest itself, in a moment in which the
//! background has left little of it: whoever waits for the writer meanwhile waits for these pages.
//!
//! The log's file begins longer than the log ([`make_room`]), and never gets shorter while the ledger is open: a commit that
//! makes a file longer has to write its length, too, which takes the disk longer than writing where there is room.

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::Gauges;
use super::start;

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
/// Room in the log's file from the start on: some hundred commits.
const ROOM: u64 = 16 << 20;

/// Makes room in the log's file, before anybody writes to it. What lies beyond the log's end is nothing to SQLite, and
/// zeros least of all. Without room on the disk the file stays as it is: commits are then slower.
pub(super) fn make_room(database: &Path) -> std::io::Result<()> {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let mut file = OpenOptions::new().write(true).open(PathBuf::from(name))?;
    let length = file.seek(SeekFrom::End(0))?;
    let zeros = vec![0; 1 << 18];
    let mut at = length;
    while at < ROOM {
        let piece = (ROOM - at).min(zeros.len() as u64);
        if let Err(error) = file.write_all(&zeros[..piece as usize]) {
            file.set_len(length)?;
            return Err(error);
        }
        at += piece;
    }
    file.sync_all()
}

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
    pub fn start(path: PathBuf, gauges: Arc<Gauges>) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("ledger-checkpoint".to_owned())
            .spawn(move || background(&path, &woken, &gauges))?;
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

fn background(path: &std::path::Path, woken: &Receiver<()>, gauges: &Gauges) {
    let Ok(connection) = start::connect(path) else { return };
    while woken.recv().is_ok() {
        // While changes keep coming, only a long log is worth the disk's time; when they stop, any log is.
        let mut quiet = gauges.commits.load(Relaxed);
        loop {
            match look(&connection, "NOOP") {
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
