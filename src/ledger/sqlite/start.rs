//! Opening the file: everything that is refused before the first payment.
//!
//! A ledger that starts has exactly one process on it, lies on a file system that keeps what it acknowledged, is written
//! by a SQLite without the WAL-reset bug, was made with this key, is not newer than this program, and is whole: pages,
//! chain and end of chain. Damage is never repaired silently.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use uuid::Uuid;

use super::super::keys::Keys;
use super::chain::{self, Chain};
use super::schema;

/// The oldest SQLite without the WAL-reset corruption (fixed in 3.51.3, 2026-03).
const OLDEST_SQLITE: i32 = 3_051_003;

/// Why a ledger does not start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has it.
    #[error("ledger {path} is in use by process {holder}; one ledger belongs to one sentinel", path = .path.display())]
    InUse {
        /// The ledger.
        path: PathBuf,
        /// The process's id as it wrote it, or `unknown`.
        holder: String,
    },
    /// Its file system does not keep what it acknowledges.
    #[error("ledger {path} is on {kind}, which can lose acknowledged writes; put it on a local disk", path = .path.display())]
    FileSystem {
        /// The ledger.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// SQLite is too old.
    #[error("this program was built with SQLite {0}, which can corrupt a ledger; 3.51.3 is the oldest that is safe")]
    OldSqlite(String),
    /// The file is something else.
    #[error("the file is not a sentinel ledger")]
    NotALedger,
    /// A newer program wrote it.
    #[error("this ledger was written by a newer sentinel (schema {found}, this one knows {known}); run that one")]
    Newer {
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// An older program wrote it, and nothing has brought it up yet.
    #[error(
        "this ledger was written by an older sentinel (schema {found}); `sentinel run` brings it up when it starts"
    )]
    Older {
        /// Its schema.
        found: i64,
    },
    /// The key is another one.
    #[error("the key is not the one this ledger was made with; nothing in it could be found or opened again")]
    WrongKey,
    /// The file lost its content, or was replaced.
    #[error(
        "the ledger file is not the one that was here before ({0}); restore it, or remove the .lock file beside it to accept the loss"
    )]
    Replaced(&'static str),
    /// The file is damaged.
    #[error("the ledger is damaged: {0}; restore it from a backup")]
    Damaged(String),
    /// The file or its directory cannot be used.
    #[error("ledger {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite refuses.
    #[error("ledger: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for StartError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt) => Self::Damaged(error.to_string()),
            Some(NotADatabase) => Self::NotALedger,
            _ => Self::Sqlite(error),
        }
    }
}

/// The hold on a ledger: while it lives no other process starts on the same file.
#[derive(Debug)]
pub(super) struct Hold {
    file: File,
    /// The identity of the ledger that was here before, when there was one.
    former: Option<Uuid>,
    path: PathBuf,
}

impl Hold {
    pub fn take(path: &Path) -> Result<Self, StartError> {
        let io = |source| StartError::Io {
            path: path.to_owned(),
            source,
        };
        let lock = path.with_added_extension("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock)
            .map_err(io)?;
        let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        let mut lines = text.lines();
        let holder = lines.next().unwrap_or("unknown").to_owned();
        if taken.is_err() {
            return Err(StartError::InUse {
                path: path.to_owned(),
                holder,
            });
        }
        let former = lines.next().and_then(|id| Uuid::try_parse(id).ok());
        Ok(Self {
            file,
            former,
            path: lock,
        })
    }

    /// Writes who holds it and which ledger it is.
    fn sign(&mut self, ledger: Uuid) -> Result<(), StartError> {
        let text = format!("{}\n{ledger}\n", std::process::id());
        let signed = self
            .file
            .rewind()
            .and_then(|()| self.file.set_len(0))
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.sync_all());
        signed.map_err(|source| StartError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// Refuses file systems whose acknowledgement means nothing, by the magic number of statfs(2).
pub(super) fn check_file_system(path: &Path) -> Result<(), StartError> {
    let io = |error: rustix::io::Errno| StartError::Io {
        path: path.to_owned(),
        source: error.into(),
    };
    let magic = rustix::fs::statfs(directory(path)).map_err(io)?.f_type;
    // The width of f_type differs between platforms; the numbers are 32 bits wide.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
    let kind = match magic as u32 {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "SMB",
        0x6573_5546 => "FUSE",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x794c_7630 => "overlayfs",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x5346_414f => "AFS",
        _ => return Ok(()),
    };
    Err(StartError::FileSystem {
        path: path.to_owned(),
        kind,
    })
}

/// The directory of a file.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// A connection with this ledger's settings.
pub(super) fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA mmap_size = 0;
         PRAGMA cache_size = -16384;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         PRAGMA secure_delete = FAST;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA synchronous = FULL;",
    )?;
    Ok(connection)
}

/// Opens, checks and migrates. Answers the writer's connection and the end of the chain.
pub(super) fn open(path: &Path, keys: &Keys, hold: &mut Hold) -> Result<(Connection, Chain), StartError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(StartError::OldSqlite(rusqlite::version().to_owned()));
    }
    let io = |source| StartError::Io {
        path: path.to_owned(),
        source,
    };
    // Made here and not by SQLite, so that no other user can read it, and so that its name is durable.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => File::open(directory(path))
            .and_then(|directory| directory.sync_all())
            .map_err(io)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(io(source)),
    }
    let mut connection = connect(path)?;
    let version = schema::version(&connection)?;
    if version.is_none() && hold.former.is_some() {
        return Err(StartError::Replaced("it is empty"));
    }
    // Named with the answer checked: a file system without shared memory would silently stay in another mode.
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StartError::Damaged(format!("journal mode is {mode}, not wal")));
    }
    if version.is_some() {
        quick_check(&connection)?;
    }
    schema::migrate(&mut connection, version.unwrap_or(0), schema::VERSION)?;
    let ledger = identify(&connection, keys, hold)?;
    let chain = chain::end(&connection, keys)?;
    hold.sign(ledger)?;
    Ok((connection, chain))
}

fn quick_check(connection: &Connection) -> Result<(), StartError> {
    let mut statement = connection.prepare("PRAGMA quick_check(4)")?;
    let findings = statement
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    if findings == ["ok"] {
        Ok(())
    } else {
        Err(StartError::Damaged(findings.join("; ")))
    }
}

/// Compares key and identity, or sets them in a new ledger.
fn identify(connection: &Connection, keys: &Keys, hold: &Hold) -> Result<Uuid, StartError> {
    let read = |name: &str| {
        connection
            .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
                row.get::<_, Vec<u8>>(0)
            })
            .optional()
    };
    match (read("key_check")?, read("ledger")?) {
        (Some(check), Some(id)) => {
            if check != keys.check_value() {
                return Err(StartError::WrongKey);
            }
            let id = Uuid::from_slice(&id).map_err(|_| StartError::Damaged("its identity is not a UUID".to_owned()))?;
            match hold.former {
                Some(former) if former != id => Err(StartError::Replaced("it is another ledger")),
                _ => Ok(id),
            }
        }
        (None, None) => {
            if hold.former.is_some() {
                return Err(StartError::Replaced("it has no identity"));
            }
            let events: i64 = connection.query_row("SELECT count(*) FROM payments", [], |row| row.get(0))?;
            if events != 0 {
                return Err(StartError::Damaged("its key check value is gone".to_owned()));
            }
            let id = Uuid::now_v7();
            let check = keys.check_value();
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('key_check', ?1), ('ledger', ?2)",
                rusqlite::params![&check[..], id.as_bytes()],
            )?;
            Ok(id)
        }
        _ => Err(StartError::Damaged(
            "its key check value or identity is gone".to_owned(),
        )),
    }
}

/// Whether a ledger was made with this key. Only reads.
pub(super) fn same_key(connection: &Connection, keys: &Keys) -> Result<(), StartError> {
    let check: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE name = 'key_check'", [], |row| row.get(0))
        .optional()?;
    match check {
        Some(check) if check == keys.check_value() => Ok(()),
        Some(_) => Err(StartError::WrongKey),
        None => Err(StartError::Damaged("its key check value is gone".to_owned())),
    }
}
