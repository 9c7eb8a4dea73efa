//! The embedded ledger: SQLite in one file, one process, one writer.
//!
//! WAL, and every transaction synced before it is acknowledged, as with `synchronous=FULL` ([`sync`]). SQLite is the most
//! tested engine there is, its cost of a third of a millisecond is lost in a gateway's two hundred, and one file is what an
//! operator can copy, look into and trust. The library is built in, never the system's.
//!
//! Threads: the [`writer`] with group commit, one that syncs what it wrote, a few readers ([`read`]), and one that copies
//! the log into the file ([`checkpoint`]). The queues between have bounds; a full one is [`LedgerError::Busy`], an honest 503.
//! Dropping the [`SqliteLedger`] waits until everything accepted is committed.

mod apply;
mod chain;
mod checkpoint;
mod codec;
pub mod file;
mod ids;
mod names;
mod read;
mod recent;
mod room;
mod schema;
mod sealed;
mod start;
mod sync;
mod writer;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::keys::Keys;
use super::rows::{
    Change, Document, Event, Filter, Id, Open, Opened, Payment, Position, Retention, Scope, Sealed, Swept, Waited,
    Waiting,
};
use super::{Answer, Health, Ledger, LedgerError};
use apply::Ready;
use ids::Named;
use names::Known;
pub use start::StartError;
use sync::Durable;
use writer::{Context, Task, Work, Writer};

/// The writer's page cache, as SQLite wants it: 4 MiB.
const WRITER_CACHE: i64 = -4096;

/// What to do when the disk has failed: the program's own way of ending at once (safety.md D8).
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How a ledger is opened.
#[derive(Clone)]
pub struct Options {
    /// The database file. Its directory must exist.
    pub path: PathBuf,
    /// Refuses file systems that can lose acknowledged writes (NFS, SMB, FUSE, tmpfs, overlay). Default true.
    pub strict: bool,
    /// Changes that may wait for the writer. Default 4096: a tenth of a second of the writer's pace.
    pub queue: usize,
    /// Reading threads. Default 2.
    pub readers: usize,
    /// Bytes of disk kept free for the payments already open: below it, new ones are refused. Default 32 MiB.
    pub reserve: u64,
    /// Pages that the file may have; `None` for no limit of its own.
    pub max_pages: Option<u32>,
    /// Called once when the disk has failed, before the waiting callers are told.
    pub on_fatal: Fatal,
}

impl Options {
    /// The defaults for a file. A failed disk is only reported until [`Options::on_fatal`] is set.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            strict: true,
            queue: 4096,
            readers: 2,
            reserve: 32 << 20,
            max_pages: None,
            on_fatal: Arc::new(|_| {}),
        }
    }
}

/// What the threads tell about themselves.
#[derive(Default)]
struct Gauges {
    commit_us: AtomicU64,
    batch: AtomicUsize,
    commits: AtomicU64,
    wal_bytes: AtomicU64,
    position: AtomicI64,
    full: AtomicBool,
    fatal: AtomicBool,
    /// The latest time given out or recorded.
    clock: AtomicI64,
}

impl Gauges {
    /// The time now, never behind one given out before.
    fn tick(&self, recorded: i64) -> i64 {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let now = i64::try_from(wall).unwrap_or(i64::MAX).max(recorded);
        self.clock.fetch_max(now, Relaxed).max(now)
    }

    fn committed(&self, took: Duration, batch: usize, chain: &chain::Chain) {
        self.commit_us
            .store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.batch.store(batch, Relaxed);
        self.commits.fetch_add(1, Relaxed);
        self.position.store(chain.position, Relaxed);
    }
}

/// The embedded ledger.
pub struct SqliteLedger {
    keys: Arc<Keys>,
    owner: Uuid,
    gauges: Arc<Gauges>,
    capacity: usize,
    changes: Option<mpsc::Sender<Box<dyn Work>>>,
    questions: Option<mpsc::Sender<read::Question>>,
    threads: Vec<JoinHandle<()>>,
    watch: SpaceWatch,
    names: Arc<names::Names>,
    durable: Arc<Durable>,
    /// Let go last, when no thread touches the file any more.
    _hold: start::Hold,
}

impl std::fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteLedger")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// Looks at the free space now and then, on the caller's thread: one statvfs(2) a second.
struct SpaceWatch {
    directory: PathBuf,
    reserve: u64,
    looked_at: AtomicI64,
}

impl SpaceWatch {
    fn look(&self, gauges: &Gauges, now: i64) {
        let last = self.looked_at.load(Relaxed);
        if now - last < 1000 || self.looked_at.compare_exchange(last, now, Relaxed, Relaxed).is_err() {
            return;
        }
        if let Ok(space) = rustix::fs::statvfs(&self.directory) {
            gauges
                .full
                .store(space.f_bavail.saturating_mul(space.f_frsize) < self.reserve, Relaxed);
        }
    }
}

/// Makes the directory of a ledger's file where it is missing: for its owner alone, and for one level only.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(path: &Path) -> Result<(), StartError> {
    let directory = start::directory(path);
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(source) if !directory.is_dir() => Err(StartError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Whether what a ledger acknowledges at this path is kept (safety.md D8): whether [`Options::strict`] would open it.
///
/// # Errors
/// When its file system can lose acknowledged writes.
pub fn is_kept(path: &Path) -> Result<(), StartError> {
    start::check_file_system(path)
}

impl SqliteLedger {
    /// Opens the ledger, or makes it. Blocks: it reads the whole file once.
    pub fn open(options: &Options, keys: Keys) -> Result<Self, StartError> {
        let path = &options.path;
        if options.strict {
            start::check_file_system(path)?;
        }
        let mut hold = start::Hold::take(path)?;
        let (connection, chain) = start::open(path, &keys, &mut hold)?;
        if let Some(pages) = options.max_pages {
            connection.pragma_update(None, "max_page_count", pages)?;
        }
        let gauges = Arc::new(Gauges::default());
        gauges.position.store(chain.position, Relaxed);
        gauges.tick(chain.at);
        let keys = Arc::new(keys);
        let owner = Uuid::now_v7();
        let (questions, asked) = mpsc::channel(options.queue);
        let mut threads = read::start(path, &keys, options.readers.max(1), asked)?;
        let (changes, queue) = mpsc::channel(options.queue);
        let io = |source| StartError::Io {
            path: path.clone(),
            source,
        };
        let durable = Arc::new(Durable::default());
        // The sync that FULL would do inside each commit is the syncer's.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // SQLite walks through all of its cache after a transaction that has split a page, and what a payment needs beside
        // the ends of tables is anywhere. A transaction larger than the cache is kept in memory, not written twice.
        connection.pragma_update(None, "cache_size", WRITER_CACHE)?;
        connection.pragma_update(None, "cache_spill", false)?;
        let (settled, measured, fatal) = (Arc::clone(&durable), Arc::clone(&gauges), Arc::clone(&options.on_fatal));
        let room = Arc::new(room::Room::open(path).map_err(io)?);
        let writer = Writer {
            connection,
            keys: Arc::clone(&keys),
            chain,
            recent: recent::Recent::default(),
            owner,
            gauges: Arc::clone(&gauges),
            pacer: checkpoint::Pacer::start(
                path.clone(),
                Arc::clone(&gauges),
                Arc::clone(&room),
                Arc::clone(&options.on_fatal),
            )
            .map_err(io)?,
            room,
            syncer: sync::Syncer::start(path, settled, measured, fatal).map_err(io)?,
            durable: Arc::clone(&durable),
            on_fatal: Arc::clone(&options.on_fatal),
            queue,
        };
        let thread = std::thread::Builder::new().name("ledger-write".to_owned());
        threads.push(thread.spawn(move || writer.run()).map_err(io)?);
        Ok(Self {
            keys,
            owner,
            gauges,
            capacity: options.queue,
            changes: Some(changes),
            questions: Some(questions),
            threads,
            watch: SpaceWatch {
                directory: start::directory(path).to_owned(),
                reserve: options.reserve,
                looked_at: AtomicI64::new(0),
            },
            names: Arc::default(),
            durable,
            _hold: hold,
        })
    }

    /// The key file's usual place: beside the ledger.
    pub fn key_path(path: &Path) -> PathBuf {
        path.with_added_extension("key")
    }

    /// Hands a change to the writer.
    fn change<T, F>(&self, run: F) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: FnMut(&mut Context<'_>) -> Result<T, LedgerError> + Send + 'static,
    {
        let (task, answer) = Task::new(run);
        let sent = match &self.changes {
            Some(changes) => changes.try_send(Box::new(task)).map_err(refused),
            None => Err(LedgerError::Closed),
        };
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(LedgerError::Closed))
        })
    }

    /// Hands a question to the readers.
    fn ask<T, F>(&self, question: F) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection, &Keys) -> Result<T, LedgerError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let durable = Arc::clone(&self.durable);
        let question: read::Question = Box::new(move |connection, keys| {
            let mut answer = question(connection, keys);
            if !durable.settle() {
                answer = Err(LedgerError::Fatal(
                    "the disk failed before what was read was durable".to_owned(),
                ));
            }
            // A caller that has gone away needs no answer.
            let _ = reply.send(answer);
        });
        let sent = match &self.questions {
            Some(questions) => questions.try_send(question).map_err(refused),
            None => Err(LedgerError::Closed),
        };
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(LedgerError::Closed))
        })
    }

    /// Writes a document.
    fn put(
        &self,
        space: &'static str,
        key: String,
        value: &str,
        expected: Option<i64>,
        waiting: Option<Waiting>,
    ) -> Answer<'_, i64> {
        self.names.note(space, &key);
        match self.keys.seal(&document_place(space, &key), value.as_bytes()) {
            Ok(sealed) => self.change(move |context| {
                apply::put_document(context, (space, &key), &sealed, expected, waiting.as_ref())
            }),
            Err(_) => failed(LedgerError::Invalid("the system gives no random bytes")),
        }
    }

    /// Does on the caller's thread what needs no ledger.
    fn ready(&self, payment: Uuid, values: &mut Vec<Sealed>, ids: &mut Vec<Id>) -> Result<Ready, LedgerError> {
        let seal = |value: Sealed| {
            let sealed = self.keys.seal(&sealed::place(payment, &value.name), &value.value);
            let sealed = sealed.map_err(|_| LedgerError::Invalid("the system gives no random bytes"))?;
            Ok((value.name, sealed))
        };
        Ok(Ready {
            sealed: std::mem::take(values).into_iter().map(seal).collect::<Result<_, _>>()?,
            named: Named::new(ids),
        })
    }
}

/// Where a document belongs.
fn document_place(space: &str, key: &str) -> String {
    format!("document/{space}/{key}")
}

fn refused<T>(error: TrySendError<T>) -> LedgerError {
    match error {
        TrySendError::Full(_) => LedgerError::Busy,
        TrySendError::Closed(_) => LedgerError::Closed,
    }
}

fn failed<'a, T: Send + 'a>(error: LedgerError) -> Answer<'a, T> {
    Box::pin(std::future::ready(Err(error)))
}

impl Drop for SqliteLedger {
    fn drop(&mut self) {
        self.changes = None;
        self.questions = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Ledger for SqliteLedger {
    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn owner(&self) -> Uuid {
        self.owner
    }

    fn now(&self) -> i64 {
        self.gauges.tick(0)
    }

    fn open(&self, mut open: Open) -> Answer<'_, Opened> {
        self.watch.look(&self.gauges, self.now());
        match self.ready(open.payment, &mut open.seal, &mut open.ids) {
            Ok(ready) => self.change(move |context| apply::open(context, &open, &ready)),
            Err(error) => failed(error),
        }
    }

    fn append(&self, mut change: Change) -> Answer<'_, Position> {
        match self.ready(change.payment, &mut change.seal, &mut change.ids) {
            Ok(ready) => self.change(move |context| apply::append(context, &change, &ready)),
            Err(error) => failed(error),
        }
    }

    fn get(&self, payment: Uuid) -> Answer<'_, Option<Payment>> {
        self.ask(move |connection, keys| read::get(connection, keys, payment))
    }

    fn get_all(&self, payments: Vec<Uuid>) -> Answer<'_, Vec<Payment>> {
        self.ask(move |connection, keys| read::get_all(connection, keys, &payments))
    }

    fn by_key(&self, key_hash: [u8; 32]) -> Answer<'_, Option<Payment>> {
        self.ask(move |connection, keys| read::by_key(connection, keys, &key_hash))
    }

    fn by_id(&self, scope: Scope, id: String) -> Answer<'_, Option<(Payment, String)>> {
        self.ask(move |connection, keys| read::by_id(connection, keys, &scope, &id))
    }

    fn ids(&self, payment: Uuid) -> Answer<'_, Vec<Id>> {
        self.ask(move |connection, _| ids::of(connection, payment))
    }

    fn events(&self, payment: Uuid) -> Answer<'_, Vec<Event>> {
        self.ask(move |connection, keys| read::events(connection, keys, payment))
    }

    fn events_after(&self, position: i64, limit: usize) -> Answer<'_, Vec<Event>> {
        self.ask(move |connection, _| read::events_after(connection, position, limit))
    }

    fn unseal(&self, payment: Uuid, name: String) -> Answer<'_, Option<Vec<u8>>> {
        self.ask(move |connection, keys| sealed::read(connection, keys, payment, &name))
    }

    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Vec<Payment>> {
        self.ask(move |connection, keys| read::unfinished(connection, keys, after, limit))
    }

    fn list(&self, filter: Filter) -> Answer<'_, Vec<Payment>> {
        self.ask(move |connection, keys| read::list(connection, keys, &filter))
    }

    fn take_lease(&self, payment: Uuid, ttl_ms: i64) -> Answer<'_, Option<Payment>> {
        self.change(move |context| apply::take_lease(context, payment, ttl_ms))
    }

    fn renew_lease(&self, payment: Uuid, epoch: i64, ttl_ms: i64) -> Answer<'_, bool> {
        self.change(move |context| apply::renew_lease(context, payment, epoch, ttl_ms))
    }

    fn sweep(&self, retention: Retention) -> Answer<'_, Swept> {
        self.change(move |context| apply::sweep(context, &retention))
    }

    fn put_document(&self, space: &'static str, key: String, value: String, expected: Option<i64>) -> Answer<'_, i64> {
        self.put(space, key, &value, expected, None)
    }

    fn put_waiting(
        &self,
        space: &'static str,
        key: String,
        value: String,
        expected: Option<i64>,
        waiting: Waiting,
    ) -> Answer<'_, i64> {
        self.put(space, key, &value, expected, Some(waiting))
    }

    fn sweep_waiting(&self, limit: usize) -> Answer<'_, Waited> {
        self.change(move |context| apply::sweep_waiting(context, limit))
    }

    fn document(&self, space: &'static str, key: String) -> Answer<'_, Option<Document>> {
        match self.names.look(space, &key) {
            Known::Absent => Box::pin(std::future::ready(Ok(None))),
            Known::Perhaps => self.ask(move |connection, keys| read::document(connection, keys, space, &key)),
            Known::Unread => {
                let names = Arc::clone(&self.names);
                self.ask(move |connection, keys| {
                    names.were_read(space, read::document_keys(connection, space, names::MOST));
                    read::document(connection, keys, space, &key)
                })
            }
        }
    }

    fn documents(
        &self,
        space: &'static str,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Answer<'_, Vec<Document>> {
        self.ask(move |connection, keys| read::documents(connection, keys, space, &prefix, after.as_deref(), limit))
    }

    fn delete_document(&self, space: &'static str, key: String) -> Answer<'_, bool> {
        self.change(move |context| apply::delete_document(context, space, &key))
    }

    fn verify(&self) -> Answer<'_, u64> {
        self.ask(read::verify)
    }

    fn health(&self) -> Health {
        let gauges = &self.gauges;
        Health {
            commit_us: gauges.commit_us.load(Relaxed),
            batch: gauges.batch.load(Relaxed),
            commits: gauges.commits.load(Relaxed),
            queue: self
                .changes
                .as_ref()
                .map_or(0, |changes| changes.max_capacity() - changes.capacity()),
            queue_capacity: self.capacity,
            wal_bytes: gauges.wal_bytes.load(Relaxed),
            position: gauges.position.load(Relaxed),
            full: gauges.full.load(Relaxed),
            fatal: gauges.fatal.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
