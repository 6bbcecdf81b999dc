//! The dump files of one directory: readable by their owner alone, bounded in size and number,
//! never written through a symbolic link.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::fs::{Access, OFlags, access};

use super::config::Limits;

/// Where upstream dumps.
const UPSTREAM: &str = "/home/admin/logs/mosn/dump";

/// How much is gathered before it is written.
const BLOCK: usize = 256 * 1024;

/// One of the files, under upstream's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Traffic,
    Portraits,
    Memory,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traffic => "dump_tcp_copy.log",
            Self::Portraits => "dump_portrait_data.log",
            Self::Memory => "dump_mem_dump.log",
        }
    }
}

/// The directories that are dumped to; listeners that dump to the same one share it.
#[derive(Debug)]
pub(super) struct Directories {
    upstream: PathBuf,
    pub(super) own: PathBuf,
    open: Mutex<HashMap<PathBuf, Arc<Directory>>>,
}

/// A directory of dump files.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    files: Mutex<Files>,
}

/// The files that are open.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    open: HashMap<Kind, Dump>,
    /// The hash of the configuration that the last memory dump told.
    pub(super) config: Option<u64>,
}

/// One open file.
#[derive(Debug)]
struct Dump {
    file: File,
    /// With what is still gathered.
    size: u64,
    gathered: Vec<u8>,
}

impl Directories {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self {
            upstream: UPSTREAM.into(),
            own: data_dir.join("dump"),
            open: Mutex::default(),
        }
    }

    /// The configured directory, else upstream's if it can be written, else the one in the data
    /// directory.
    pub(super) fn open(&self, configured: Option<&Path>) -> io::Result<Arc<Directory>> {
        if let Some(path) = configured {
            return self.at(path);
        }
        self.at(&self.upstream).or_else(|error| {
            let (upstream, own) = (self.upstream.display(), self.own.display());
            tracing::info!(%error, "{upstream} cannot be written: traffic is dumped to {own}");
            self.at(&self.own)
        })
    }

    fn at(&self, path: &Path) -> io::Result<Arc<Directory>> {
        prepare(path)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = open
            .entry(path.to_owned())
            .or_insert_with(|| Directory::new(path));
        Ok(directory.clone())
    }
}

/// Makes a directory for its owner alone, where it is missing.
fn prepare(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    access(path, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(())
}

impl Directory {
    fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            files: Mutex::new(Files {
                directory: path.to_owned(),
                open: HashMap::new(),
                config: None,
            }),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files, for one batch of lines; ends with [`Files::flush`]. Files that were moved or
    /// removed since the last batch are begun anew.
    pub(super) fn files(&self) -> MutexGuard<'_, Files> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files
            .open
            .retain(|kind, dump| dump.is_at(&self.path.join(kind.name())));
        files
    }
}

impl Files {
    /// Appends a line to a file, in a new one where the limit would be passed. The line is gathered
    /// until [`flush`](Self::flush).
    pub(super) fn append(&mut self, kind: Kind, line: &[u8], limits: Limits) -> io::Result<()> {
        let size = self.size(kind)?;
        if size > 0 && size + line.len() as u64 > limits.file_bytes {
            self.rotate(kind, limits.files)?;
        }
        let dump = self.dump(kind)?;
        dump.size += line.len() as u64;
        dump.gathered.extend_from_slice(line);
        match dump.gathered.len() {
            BLOCK.. => dump.flush(),
            _ => Ok(()),
        }
    }

    /// The size of a file; 0 where there is none.
    pub(super) fn size(&mut self, kind: Kind) -> io::Result<u64> {
        self.dump(kind).map(|dump| dump.size)
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for dump in self.open.values_mut() {
            outcome = outcome.and(dump.flush());
        }
        outcome
    }

    /// Forgets what could not be written.
    pub(super) fn reset(&mut self) {
        self.open.clear();
    }

    fn dump(&mut self, kind: Kind) -> io::Result<&mut Dump> {
        use std::collections::hash_map::Entry;

        match self.open.entry(kind) {
            Entry::Occupied(dump) => Ok(dump.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(Dump::open(&self.directory.join(kind.name()))?)),
        }
    }

    /// Renames `x` to `x.1`, `x.1` to `x.2` and so on; the last one is removed.
    fn rotate(&mut self, kind: Kind, files: u32) -> io::Result<()> {
        if let Some(mut dump) = self.open.remove(&kind) {
            dump.flush()?;
        }
        let current = self.directory.join(kind.name());
        let numbered = |number: u32| self.directory.join(format!("{}.{number}", kind.name()));
        if files == 1 {
            return fs::remove_file(current);
        }
        for number in (1..files - 1).rev() {
            if_there(fs::rename(numbered(number), numbered(number + 1)))?;
        }
        if_there(fs::rename(current, numbered(1)))
    }
}

fn if_there(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

impl Dump {
    fn open(path: &Path) -> io::Result<Self> {
        // A named pipe is opened without waiting for its reader, and then refused.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600);
        let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() > 1 {
            let text = format!("{} is not a plain file of one name", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if metadata.mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        Ok(Self {
            file,
            size: metadata.len(),
            gathered: Vec::new(),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.file.write_all(&self.gathered);
        self.gathered.clear();
        outcome
    }

    fn is_at(&self, path: &Path) -> bool {
        let same =
            |here: fs::Metadata, there: fs::Metadata| (here.dev(), here.ino()) == (there.dev(), there.ino());
        match (self.file.metadata(), fs::symlink_metadata(path)) {
            (Ok(here), Ok(there)) => same(here, there),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        file_bytes: 10,
        files: 3,
    };

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn append(directory: &Directory, line: &str) -> io::Result<()> {
        let mut files = directory.files();
        files.append(Kind::Traffic, line.as_bytes(), LIMITS)?;
        files.flush()
    }

    fn directory(path: &Path) -> Arc<Directory> {
        Directories::new(path).open(Some(path)).unwrap()
    }

    // deviation: D061
    #[test]
    fn only_the_owner_can_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b");
        let directory = directory(&path);
        append(&directory, "x\n").unwrap();
        assert_eq!(
            (mode(&path), mode(&path.join("dump_tcp_copy.log"))),
            (0o700, 0o600)
        );
    }

    #[test]
    fn a_file_that_others_could_read_is_closed_to_them() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("dump_tcp_copy.log");
        fs::write(&path, "old\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        append(&directory(home.path()), "new\n").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
    }

    #[test]
    fn keeps_as_many_files_as_configured_of_the_configured_size() {
        let home = tempfile::tempdir().unwrap();
        let directory = directory(home.path());
        for line in [
            "aaaa\n", "bbbb\n", "cccc\n", "dddd\n", "eeee\n", "ffff\n", "gggg\n",
        ] {
            append(&directory, line).unwrap();
        }
        let read = |name| fs::read_to_string(home.path().join(name)).unwrap();
        assert_eq!(read("dump_tcp_copy.log"), "gggg\n");
        assert_eq!(read("dump_tcp_copy.log.1"), "eeee\nffff\n");
        assert_eq!(read("dump_tcp_copy.log.2"), "cccc\ndddd\n");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3);
    }

    #[test]
    fn one_file_is_begun_anew() {
        let home = tempfile::tempdir().unwrap();
        let directory = directory(home.path());
        let limits = Limits { files: 1, ..LIMITS };
        let mut files = directory.files();
        for line in ["aaaaaa\n", "bbbbbb\n"] {
            files.append(Kind::Traffic, line.as_bytes(), limits).unwrap();
        }
        files.flush().unwrap();
        assert_eq!(
            fs::read_to_string(home.path().join("dump_tcp_copy.log")).unwrap(),
            "bbbbbb\n"
        );
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "mine\n").unwrap();
        let (soft, hard) = (home.path().join("soft"), home.path().join("hard"));
        for path in [&soft, &hard] {
            fs::create_dir(path).unwrap();
        }
        std::os::unix::fs::symlink(&victim, soft.join("dump_tcp_copy.log")).unwrap();
        fs::hard_link(&victim, hard.join("dump_tcp_copy.log")).unwrap();
        assert!(append(&directory(&soft), "x\n").is_err());
        assert!(append(&directory(&hard), "x\n").is_err());
        assert_eq!(fs::read_to_string(victim).unwrap(), "mine\n");
    }

    #[test]
    fn a_file_that_was_removed_is_begun_anew() {
        let home = tempfile::tempdir().unwrap();
        let directory = directory(home.path());
        let path = home.path().join("dump_tcp_copy.log");
        append(&directory, "a\n").unwrap();
        fs::remove_file(&path).unwrap();
        append(&directory, "b\n").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "b\n");
    }

    #[test]
    fn the_data_directory_stands_in_for_upstreams() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        let directories = Directories {
            upstream: home.path().join("file/dump"),
            ..Directories::new(home.path())
        };
        assert_eq!(directories.open(None).unwrap().path(), home.path().join("dump"));
        let directories = Directories {
            upstream: home.path().join("upstream"),
            ..Directories::new(home.path())
        };
        assert_eq!(
            directories.open(None).unwrap().path(),
            home.path().join("upstream")
        );
    }
}
