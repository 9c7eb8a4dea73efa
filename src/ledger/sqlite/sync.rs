//! Making transactions durable while the next one is being made.
//!
//! With `synchronous=FULL` SQLite syncs its log inside COMMIT, and the writer waits for the disk while changes wait for the
//! writer. Here COMMIT writes, and the very same fdatasync(2) of the log follows it: in the writer's own thread when
//! nothing waits, else in a thread of its own while the writer makes the next transaction. What is promised stays what
//! FULL promises: nothing is acknowledged, and nothing that a reader saw is handed out ([`Durable::settle`]), before the
//! sync that covers it has returned. Everything else that FULL and NORMAL sync, the log's first page and each copy of the
//! log into the file, SQLite does itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::time::Instant;

use super::super::LedgerError;
use super::chain::Chain;
use super::writer::Work;
use super::{Fatal, Gauges, start};
use crate::failpoint;

/// Which transactions are durable, by their number.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// The last one that readers may see.
    written: AtomicU64,
    reached: Mutex<Reached>,
    moved: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    durable: u64,
    failed: bool,
}

impl Durable {
    /// A transaction is about to be committed: readers may see it from now on.
    pub fn writing(&self) -> u64 {
        self.written.fetch_add(1, SeqCst) + 1
    }

    /// It was not committed after all.
    pub fn taken_back(&self) {
        // Under the lock: a reader that has just looked must not miss the call.
        let _reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        self.written.fetch_sub(1, SeqCst);
        self.moved.notify_all();
    }

    /// Everything up to this transaction is durable, or the disk has failed.
    fn reach(&self, number: u64, failed: bool) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.durable = reached.durable.max(number);
        reached.failed |= failed;
        self.moved.notify_all();
    }

    /// Waits until all that a reader can have seen is durable. `false` when it never will be.
    pub fn settle(&self) -> bool {
        let seen = self.written.load(SeqCst);
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |reached: &mut Reached| !reached.failed && reached.durable < seen.min(self.written.load(SeqCst));
        let reached = self.moved.wait_while(reached, waits);
        let reached = *reached.unwrap_or_else(PoisonError::into_inner);
        reached.durable >= seen || !reached.failed
    }
}

/// A transaction that was committed and waits for the disk.
pub(super) struct Written {
    pub number: u64,
    /// When it was begun.
    pub begun: Instant,
    /// The end of the chain in it.
    pub chain: Chain,
    pub works: Vec<Box<dyn Work>>,
}

/// What both threads sync with.
struct Disk {
    log: File,
    durable: Arc<Durable>,
    gauges: Arc<Gauges>,
    on_fatal: Fatal,
}

impl Disk {
    /// Syncs the log once, and answers everything that is covered by it.
    fn sync(&self, written: Vec<Written>) {
        let last = written.iter().map(|written| written.number).max().unwrap_or(0);
        let result = match self.gauges.fatal.load(Relaxed) {
            false => self.log.sync_data().map_err(|error| error.to_string()),
            true => Err("the disk failed before".to_owned()),
        };
        let failure = result.err();
        self.durable
            .reach(if failure.is_none() { last } else { 0 }, failure.is_some());
        if let Some(failure) = &failure
            && !self.gauges.fatal.swap(true, Relaxed)
        {
            (self.on_fatal)(failure);
        }
        for Written {
            begun, chain, works, ..
        } in written
        {
            if failure.is_none() {
                failpoint::pass_with("ledger.committed", chain.position);
                self.gauges.committed(begun.elapsed(), works.len(), &chain);
            }
            let failure = failure.clone().map(LedgerError::Fatal);
            works.into_iter().for_each(|work| work.answer(failure.clone()));
        }
        failpoint::pass("ledger.answered");
    }
}

/// The writer's way to the disk.
pub(super) struct Syncer {
    disk: Arc<Disk>,
    /// One transaction may wait for the sync of the one before; the writer waits with a third, and more come together.
    waiting: Option<SyncSender<Written>>,
    /// Transactions handed over and not yet done with. While there are any the writer syncs nothing itself: the kernel tells
    /// of a failed write once, and of two syncs at a time only one would hear of it.
    under_way: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Opens the log beside SQLite, which has made it by now and keeps it while the ledger is open.
    pub fn start(
        database: &Path,
        durable: Arc<Durable>,
        gauges: Arc<Gauges>,
        on_fatal: Fatal,
    ) -> std::io::Result<Self> {
        let mut name = database.as_os_str().to_owned();
        name.push("-wal");
        let log = File::open(PathBuf::from(name))?;
        // Its name must be as durable as what it holds.
        File::open(start::directory(database))?.sync_all()?;
        let disk = Arc::new(Disk {
            log,
            durable,
            gauges,
            on_fatal,
        });
        let under_way = Arc::new(AtomicUsize::new(0));
        let (waiting, written) = sync_channel(1);
        let thread = std::thread::Builder::new().name("ledger-sync".to_owned()).spawn({
            let (disk, under_way) = (Arc::clone(&disk), Arc::clone(&under_way));
            move || run(&disk, &written, &under_way)
        })?;
        Ok(Self {
            disk,
            waiting: Some(waiting),
            under_way,
            thread: Some(thread),
        })
    }

    /// Makes a transaction durable and answers for it; beside the writer when that has `more` to do.
    pub fn take(&self, written: Written, more: bool) {
        let Some(waiting) = self
            .waiting
            .as_ref()
            .filter(|_| more || self.under_way.load(SeqCst) > 0)
        else {
            return self.disk.sync(vec![written]);
        };
        self.under_way.fetch_add(1, SeqCst);
        if let Err(back) = waiting.send(written) {
            // The thread is gone, which only a panic explains.
            self.disk.sync(vec![back.0]);
        }
    }

    /// Waits for what is under way.
    pub fn finish(&mut self) {
        self.waiting = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(disk: &Disk, waiting: &Receiver<Written>, under_way: &AtomicUsize) {
    while let Ok(first) = waiting.recv() {
        let mut all = vec![first];
        all.extend(waiting.try_iter());
        let count = all.len();
        disk.sync(all);
        under_way.fetch_sub(count, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_waits_for_what_it_may_have_seen_and_for_nothing_else() {
        let durable = Arc::new(Durable::default());
        assert!(durable.settle(), "nothing was written");
        let first = durable.writing();
        durable.reach(first, false);
        assert!(durable.settle());
        durable.writing();
        durable.taken_back();
        assert!(durable.settle(), "what was taken back is not waited for");
        let second = durable.writing();
        let reader = std::thread::spawn({
            let durable = Arc::clone(&durable);
            move || durable.settle()
        });
        durable.reach(second, false);
        assert!(reader.join().expect("ends"));
        durable.writing();
        durable.reach(0, true);
        assert!(!durable.settle(), "the disk failed before it was durable");
    }
}
