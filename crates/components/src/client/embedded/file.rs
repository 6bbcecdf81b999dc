//! Finding, making and opening the store's file; a file that is not ours is never touched.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use layotto_core::{Error, ErrorKind, Result};
use redb::{Database, DatabaseError, ReadableDatabase, TableError};
use uuid::Uuid;

use super::{
    CONFIGURATION, FORMAT, GROUP, LOCK, LOCK_END, MESSAGE, MESSAGE_USERS, META, QUEUE_ENTRY, SEQUENCE, STATE,
    STATE_END, Shared,
    backend::{Backend, Unnamed},
};

/// Memory for pages of the file. Small, as a sidecar is: the system caches the file as well.
const CACHE: usize = 4 << 20;

/// Files up to this size are checked whole when they are opened; of a larger one only what a crash
/// left unfinished, since a start must not take minutes.
const CHECKED_WHOLE: u64 = 256 << 20;

/// How often to try for a file in use, and the wait between two tries.
const PATIENCE: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// The one name of the file at `path`, whose folder is made where it is missing.
pub(super) fn locate(path: &Path) -> Result<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let name = path
        .file_name()
        .ok_or_else(|| Error::invalid(format!("{} does not name a file", path.display())))?;
    fs::create_dir_all(folder)
        .and_then(|()| folder.canonicalize())
        .map(|folder| folder.join(name))
        .map_err(|error| unusable(path, "its folder cannot be used", error))
}

/// Opens the file at `path`, made new where there is none.
///
/// Waits a little for a file in use: the component that this one replaces, or the process that this
/// one succeeds, may be about to let go of it.
pub(super) async fn open(path: &Path, shared: &Arc<Shared>) -> Result<Database> {
    for _ in 0..PATIENCE {
        match attempt(path, shared).await? {
            Some(db) => return Ok(db),
            None => tokio::time::sleep(PAUSE).await,
        }
    }
    Err(in_use(path))
}

/// Opens the file, away from the runtime's threads: checking it may take a while. `None` where
/// somebody else uses it.
async fn attempt(path: &Path, shared: &Arc<Shared>) -> Result<Option<Database>> {
    let (file, shared) = (path.to_owned(), Arc::clone(shared));
    tokio::task::spawn_blocking(move || open_now(&file, &shared))
        .await
        // redb panics on some damage instead of reporting it.
        .map_err(|panic| damaged(path).with_source(panic))?
}

fn open_now(path: &Path, shared: &Arc<Shared>) -> Result<Option<Database>> {
    if !path.exists() {
        return create(path, shared);
    }
    let db = match open_existing(path, shared) {
        Ok(db) => db,
        Err(DatabaseError::DatabaseAlreadyOpen) => return Ok(None),
        Err(DatabaseError::Storage(redb::StorageError::Io(error))) if !is_damage(&error) => {
            return Err(unusable(path, "it cannot be opened", error));
        }
        Err(error) => return Err(damaged(path).with_source(error)),
    };
    check_format(path, &db)?;
    Ok(Some(db))
}

fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

/// Makes a complete empty store beside `path` and gives it that name, so that a crash leaves either
/// no file or a whole one. `None` where somebody else was faster: their file is never replaced.
fn create(path: &Path, shared: &Arc<Shared>) -> Result<Option<Database>> {
    let mut fresh = path.as_os_str().to_owned();
    // Not shared with another process that makes the same store.
    fresh.push(format!(".{}.new", Uuid::new_v4().simple()));
    let fresh = PathBuf::from(fresh);
    let unnamed = Unnamed::new(true.into());
    let made = create_unnamed(&fresh, shared, &unnamed)
        .map_err(|error| unusable(&fresh, "it cannot be made", error))
        .and_then(|db| match give_name(&fresh, path) {
            Ok(()) => Ok(Some(db)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(unusable(path, "it cannot be made", error)),
        });
    // Gone already where it was renamed, or never there.
    fs::remove_file(&fresh).unwrap_or_default();
    unnamed.store(false, Ordering::SeqCst);
    made
}

fn give_name(fresh: &Path, path: &Path) -> io::Result<()> {
    File::open(fresh)?.sync_all()?;
    // Unlike a rename, a link never replaces.
    match fs::hard_link(fresh, path) {
        Err(error) if lacks_links(&error) => fs::rename(fresh, path)?,
        linked => linked?,
    }
    sync_folder(path)
}

/// Whether the file system may have no links, as FAT.
fn lacks_links(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, Unsupported};
    matches!(error.kind(), PermissionDenied | Unsupported)
}

fn create_unnamed(path: &Path, shared: &Arc<Shared>, unnamed: &Unnamed) -> Result<Database, redb::Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let backend = Backend::new(file, Arc::clone(shared), Arc::clone(unnamed))?;
    let db = Database::builder()
        .set_cache_size(CACHE)
        .create_with_backend(backend)?;
    write_format(&db)?;
    Ok(db)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_format(db: &Database) -> Result<(), redb::Error> {
    let tx = db.begin_write()?;
    tx.open_table(META)?.insert("format", FORMAT)?;
    // Every table exists from the start: readers need not ask.
    tx.open_table(STATE)?;
    tx.open_table(STATE_END)?;
    tx.open_table(LOCK)?;
    tx.open_table(LOCK_END)?;
    tx.open_table(SEQUENCE)?;
    tx.open_table(CONFIGURATION)?;
    tx.open_table(MESSAGE)?;
    tx.open_table(MESSAGE_USERS)?;
    tx.open_table(GROUP)?;
    tx.open_table(QUEUE_ENTRY)?;
    Ok(tx.commit()?)
}

fn open_existing(path: &Path, shared: &Arc<Shared>) -> Result<Database, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    if size == 0 {
        // redb would take it for a new file, and what it held would be gone without a word.
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty").into());
    }
    Database::builder()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(size <= CHECKED_WHOLE)
        .create_with_backend(Backend::new(file, Arc::clone(shared), Unnamed::default())?)
}

fn check_format(path: &Path, db: &Database) -> Result<()> {
    let read = || -> Result<Option<u64>, redb::Error> {
        match db.begin_read()?.open_table(META) {
            Ok(meta) => Ok(redb::ReadableTable::get(&meta, "format")?.map(|format| format.value())),
            Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let refusal = match read().map_err(|error| damaged(path).with_source(error))? {
        Some(FORMAT) => return Ok(()),
        Some(newer) if newer > FORMAT => {
            format!("a newer version wrote it (format {newer}, this one knows {FORMAT})")
        }
        Some(unknown) => format!("its format {unknown} is unknown"),
        None => "another program wrote it".to_owned(),
    };
    Err(Error::new(
        ErrorKind::FailedPrecondition,
        format!(
            "embedded store {}: {refusal}; it is left as it is",
            path.display()
        ),
    ))
}

/// The refusal of a file that cannot be trusted.
pub(super) fn damaged(path: &Path) -> Error {
    Error::new(
        ErrorKind::DataLoss,
        format!(
            "embedded store {}: the file is damaged, or is no store; it is left as it is: restore it from a \
             backup, or move it away to start empty",
            path.display()
        ),
    )
}

fn in_use(path: &Path) -> Error {
    let holder = holder(path).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Error::new(
        ErrorKind::FailedPrecondition,
        format!("embedded store {}: {holder} uses the file", path.display()),
    )
}

fn unusable(path: &Path, problem: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let cause = cause.into();
    Error::new(
        ErrorKind::FailedPrecondition,
        format!("embedded store {}: {problem}: {cause}", path.display()),
    )
    .with_source(cause)
}

/// A call that failed because the store did.
pub(super) fn failed(path: &Path, cause: redb::Error) -> Error {
    tracing::error!(path = %path.display(), error = %cause, "the embedded store failed");
    match cause {
        redb::Error::Corrupted(_) => damaged(path),
        _ => Error::unavailable(format!("embedded store {} failed", path.display())),
    }
    .with_source(cause)
}

/// The process that holds a lock on the file at `path`, where the system tells.
fn holder(path: &Path) -> Option<u32> {
    let inode = fs::metadata(path).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`
        let fields: Vec<_> = line.split_whitespace().collect();
        let held = fields.get(5)?.rsplit(':').next()? == inode;
        fields.get(4)?.parse().ok().filter(|pid| held && *pid != 0)
    })
}
