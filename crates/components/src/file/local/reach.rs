//! Which files a name reaches: any, or only those below a root.
//!
//! Below a root the kernel resolves the name in one step (`openat2` with `RESOLVE_BENEATH`), so
//! nothing can be swapped between a check and its use. Where the kernel lacks that, the name is
//! walked directory by directory and symbolic links are refused altogether.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, unlinkat},
    io::Errno,
};

use super::failure::Failure;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The files that names reach.
#[derive(Debug)]
pub(super) enum Reach {
    /// Whatever the process may touch.
    Anywhere,
    /// Files below a root.
    Below(Root),
}

/// A directory that names do not leave.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    resolve: Resolve,
}

/// How a name below a root is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolve {
    /// In one step, by the kernel.
    Kernel,
    /// Directory by directory.
    Walk,
}

impl Reach {
    /// Only what is below `root`, which need not exist yet.
    pub(super) fn below(root: PathBuf) -> io::Result<Self> {
        let probe = openat2(CWD, ".", DIRECTORY, Mode::empty(), ResolveFlags::BENEATH);
        let resolve = match probe {
            // Sandboxes that do not know the call answer PERM.
            Err(Errno::NOSYS | Errno::PERM) => Resolve::Walk,
            _ => Resolve::Kernel,
        };
        Self::below_by(root, resolve)
    }

    pub(super) fn below_by(root: PathBuf, resolve: Resolve) -> io::Result<Self> {
        let path = std::path::absolute(root)?;
        Ok(Self::Below(Root { path, resolve }))
    }

    /// Opens the file `name`.
    pub(super) fn open(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Failure> {
        let flags = flags | OFlags::CLOEXEC;
        match self {
            Self::Anywhere => Ok(openat(CWD, name, flags, mode)?),
            Self::Below(root) => root.open(&root.inside(name)?, flags, mode),
        }
    }

    /// Refuses a file that is open but is a device, pipe or socket below a root.
    pub(super) fn admit(&self, file: impl AsFd) -> Result<(), Failure> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
        match self {
            Self::Below(_) if !kind.is_file() => Err(Failure::Special),
            _ => Ok(()),
        }
    }

    /// Removes the file or empty directory `name`; a symbolic link is removed itself.
    pub(super) fn remove(&self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Anywhere => unlink(CWD, Path::new(name)),
            Self::Below(root) => {
                let inside = root.inside(name)?;
                let last = inside.file_name().ok_or(Failure::Outside)?;
                unlink(root.parent(&inside, false)?.as_fd(), Path::new(last))
            }
        }
    }
}

impl Root {
    /// The path of `name` from the root, free of `..`.
    pub(super) fn inside(&self, name: &str) -> Result<PathBuf, Failure> {
        if name.is_empty() {
            return Err(Failure::Os(Errno::NOENT));
        }
        if name.contains('\0') {
            return Err(Failure::Outside);
        }
        let mut inside = PathBuf::new();
        for part in self.without_root(Path::new(name))?.components() {
            match part {
                Component::Normal(part) => inside.push(part),
                Component::CurDir => {}
                _ => return Err(Failure::Outside),
            }
        }
        if inside.as_os_str().is_empty() {
            inside.push(".");
        }
        Ok(inside)
    }

    fn without_root(&self, name: &Path) -> Result<PathBuf, Failure> {
        if !name.is_absolute() {
            return Ok(name.to_owned());
        }
        if let Ok(inside) = name.strip_prefix(&self.path) {
            return Ok(inside.to_owned());
        }
        // The root itself may be reached through a link, and be named by where that leads.
        let real = fs::canonicalize(&self.path).map_err(|_| Failure::Outside)?;
        let inside = name.strip_prefix(real).map_err(|_| Failure::Outside)?;
        Ok(inside.to_owned())
    }

    /// Opens the directory that `inside` lies in; `make` makes it where it is missing.
    pub(super) fn parent(&self, inside: &Path, make: bool) -> Result<OwnedFd, Failure> {
        let parent = inside.parent().filter(|parent| !parent.as_os_str().is_empty());
        let Some(parent) = parent else {
            if make && !self.path.is_dir() {
                fs::create_dir_all(&self.path)?;
            }
            return self.open(Path::new("."), DIRECTORY, Mode::empty());
        };
        match self.open(parent, DIRECTORY, Mode::empty()) {
            Err(Failure::Os(Errno::NOENT)) if make => {}
            opened => return opened,
        }
        let above = self.parent(parent, true)?;
        let last = parent.file_name().ok_or(Failure::Outside)?;
        match mkdirat(&above, last, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.open(parent, DIRECTORY, Mode::empty()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open(&self, inside: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Failure> {
        let root = openat(CWD, &self.path, DIRECTORY, Mode::empty())?;
        let mode = if flags.contains(OFlags::CREATE) {
            mode
        } else {
            Mode::empty()
        };
        match self.resolve {
            Resolve::Kernel => resolve(root.as_fd(), inside, flags, mode),
            Resolve::Walk => walk(root, inside, flags, mode),
        }
    }
}

fn resolve(root: BorrowedFd<'_>, inside: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Failure> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The kernel gives up with AGAIN when directories are moved while it looks.
    for _ in 0..16 {
        match openat2(root, inside, flags, mode, how) {
            Err(Errno::AGAIN) => {}
            Err(Errno::XDEV | Errno::LOOP) => return Err(Failure::Outside),
            other => return Ok(other?),
        }
    }
    Err(Failure::Os(Errno::AGAIN))
}

fn walk(root: OwnedFd, inside: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Failure> {
    let mut directory = root;
    let mut parts = inside.components().peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let (flags, mode) = if last {
            (flags, mode)
        } else {
            (DIRECTORY, Mode::empty())
        };
        let part = part.as_os_str();
        let opened = match openat(&directory, part, flags | OFlags::NOFOLLOW, mode) {
            Ok(opened) => opened,
            Err(_) if is_link(directory.as_fd(), part.as_ref()) => return Err(Failure::Outside),
            Err(errno) => return Err(errno.into()),
        };
        // PATH opens a link instead of refusing it.
        if FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode).is_symlink() {
            return Err(Failure::Outside);
        }
        directory = opened;
    }
    Ok(directory)
}

fn is_link(directory: BorrowedFd<'_>, name: &Path) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_symlink())
}

/// As Go's `os.Remove`: a file, else a directory; of the two errors the telling one.
fn unlink(directory: BorrowedFd<'_>, name: &Path) -> Result<(), Failure> {
    let Err(as_file) = unlinkat(directory, name, AtFlags::empty()) else {
        return Ok(());
    };
    match unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(()),
        Err(Errno::NOTDIR) => Err(as_file.into()),
        Err(as_directory) => Err(as_directory.into()),
    }
}
