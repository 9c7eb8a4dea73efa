//! Room in the log's file, ahead of the log.
//!
//! A commit that makes the log's file longer waits for the disk two to three times as long as one that finds room: the
//! file's length and the places of its new blocks are then part of what has to be durable. So there is room from the start
//! on, and under load the background that copies the log makes more, before the log gets there. What lies beyond the log's
//! end is nothing to SQLite, and zeros least of all.
//!
//! Invariant: nobody but the holder of [`Room::hold`] makes the file longer. SQLite writes the log within a commit only, as
//! the writer's connection never spills its cache (`cache_spill`), and the writer holds it then; zeros are written at the
//! file's very end, which nobody moves meanwhile. So they never stand where SQLite has written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Room from the start on: some hundred commits. A quiet ledger's log begins anew before it needs more.
const BEGIN: u64 = 16 << 20;
/// Room ahead of a log that grows faster than it is copied.
const AHEAD: u64 = 32 << 20;
/// What is written at a time: a commit waits for as much at most.
const PIECE: u64 = 256 << 10;

/// The log's file.
#[derive(Debug)]
pub(super) struct Room {
    file: File,
    longer: Mutex<()>,
    /// The disk had none left. Commits are then slower, no more.
    none_left: AtomicBool,
}

impl Room {
    /// Opens the log beside SQLite, which has made it by now, and makes room before anybody writes to it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(database: &Path) -> io::Result<Self> {
        let mut name = database.as_os_str().to_owned();
        name.push("-wal");
        let room = Self {
            file: OpenOptions::new().write(true).open(PathBuf::from(name))?,
            longer: Mutex::default(),
            none_left: AtomicBool::new(false),
        };
        while room.lengthen(BEGIN)? {}
        room.file.sync_all()?;
        Ok(room)
    }

    /// Held while a commit writes the log.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.longer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room ahead of a log of so many bytes, piece by piece: what is not durable yet, the next commit has to wait for.
    ///
    /// # Errors
    /// When the disk fails. That it is full is none.
    pub fn make(&self, log: u64) -> io::Result<()> {
        while self.lengthen(log.saturating_add(AHEAD))? {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Makes the file a piece longer, unless it is as long as this.
    fn lengthen(&self, wanted: u64) -> io::Result<bool> {
        if self.none_left.load(Relaxed) {
            return Ok(false);
        }
        let _held = self.hold();
        let length = self.file.metadata()?.len();
        if length >= wanted {
            return Ok(false);
        }
        if let Err(error) = self.file.write_all_at(&vec![0; PIECE as usize], length) {
            tracing::debug!(%error, "the ledger's log has no room ahead of it");
            self.none_left.store(true, Relaxed);
            self.file.set_len(length)?;
            return Ok(false);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_behind_whatever_was_written_and_never_over_it() {
        let directory = tempfile::tempdir().expect("directory");
        let log = directory.path().join("ledger.db-wal");
        std::fs::write(&log, b"a log").expect("written");
        let room = Room::open(&directory.path().join("ledger.db")).expect("opened");
        let file = OpenOptions::new().read(true).write(true).open(&log).expect("opened");
        assert!(file.metadata().expect("there").len() >= BEGIN);
        // A log that now and then runs away from its room: each piece stands far behind the one before it.
        let piece = |n: u64| [u8::try_from(n + 1).expect("small"); 512];
        std::thread::scope(|threads| {
            threads.spawn(|| (0..24).for_each(|mib| room.make(mib << 20).expect("made")));
            for n in 0..64 {
                let _held = room.hold();
                file.write_all_at(&piece(n), n << 20).expect("written");
            }
        });
        for n in 0..64 {
            let mut found = [0; 512];
            file.read_exact_at(&mut found, n << 20).expect("read");
            assert_eq!(found, piece(n), "piece {n}");
        }
        room.make(64 << 20).expect("made");
        assert!(file.metadata().expect("there").len() >= (64 << 20) + AHEAD);
    }
}
