//! A file that is being written: below a root it appears whole or not at all where its flags ask
//! for new content, and is written in place where they keep the old.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write,
    os::fd::{AsFd, OwnedFd},
};

use layotto_core::Result;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, linkat, openat, renameat, statat, unlinkat},
    io::Errno,
};
use uuid::Uuid;

use super::{failure::Failure, open_flags::OpenFlags, reach::Reach};

/// How the name of a file ends whose content is not complete yet; lists leave it out.
pub(super) const PART: &str = ".layotto-part";

/// A file that is being written. Dropped before it is finished, a new file vanishes.
pub(super) struct Upload {
    file: File,
    name: String,
    part: Option<Part>,
}

impl Upload {
    /// Opens file `name` as `flags` say.
    pub(super) fn open(reach: &Reach, name: String, flags: OpenFlags) -> Result<Self> {
        match place(reach, &name, flags) {
            Ok((file, part)) => Ok(Self { file, name, part }),
            Err(failure) => Err(failure.during("open", &name)),
        }
    }

    /// Appends `piece` to what was written so far.
    pub(super) fn write(mut self, piece: &[u8]) -> Result<Self> {
        match self.file.write_all(piece) {
            Ok(()) => Ok(self),
            Err(error) => Err(Failure::from(error).during("write", &self.name)),
        }
    }

    /// Ends the upload: a new file gets its name.
    pub(super) fn finish(self) -> Result<()> {
        let Some(part) = self.part else { return Ok(()) };
        // First the content, or a loss of power could leave the name with neither old nor new.
        let synced = self.file.sync_all().map_err(Failure::from);
        synced.map_err(|failure| failure.during("write", &self.name))?;
        part.finish()
            .map_err(|errno| Failure::Os(errno).during("open", &self.name))
    }
}

fn place(reach: &Reach, name: &str, flags: OpenFlags) -> Result<(File, Option<Part>), Failure> {
    let in_place = |reach: &Reach| {
        // Without NONBLOCK, opening a named pipe would wait for its reader.
        let file = reach.open(name, flags.flags | OFlags::NONBLOCK, flags.mode)?;
        reach.admit(&file)?;
        Ok((File::from(file), None))
    };
    let Reach::Below(root) = reach else {
        return in_place(reach);
    };
    let inside = root.inside(name)?;
    let Some(last) = inside.file_name() else {
        return Err(Failure::Os(Errno::ISDIR));
    };
    let create = flags.flags.contains(OFlags::CREATE);
    let directory = root.parent(&inside, create)?;
    let present = match statat(&directory, last, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Some(found),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(errno.into()),
    };
    if !asks_for_new(flags.flags, present.as_ref()) {
        return in_place(reach);
    }
    if present.is_some() {
        // Refuses what may not be written, as opening it in place would.
        let kept = flags.flags.difference(OFlags::CREATE | OFlags::TRUNC);
        reach.admit(reach.open(name, kept | OFlags::NONBLOCK, Mode::empty())?)?;
    }
    match Part::create(directory, last, flags, present.as_ref())? {
        Some((file, part)) => Ok((file, Some(part))),
        None => in_place(reach),
    }
}

/// Whether nothing of what is there is meant to stay.
fn asks_for_new(flags: OFlags, present: Option<&Stat>) -> bool {
    let writes = matches!(flags & OFlags::ACCMODE, OFlags::WRONLY | OFlags::RDWR);
    let replaces = match present {
        // Links are followed and shared files written, so that other names keep their meaning.
        Some(found) => {
            flags.contains(OFlags::TRUNC)
                && !flags.contains(OFlags::CREATE | OFlags::EXCL)
                && FileType::from_raw_mode(found.st_mode).is_file()
                && found.st_nlink == 1
        }
        None => flags.contains(OFlags::CREATE),
    };
    // Of several who append, each must find what the others wrote.
    writes && replaces && !flags.contains(OFlags::APPEND)
}

/// A new file, under a name of its own until its content is complete.
struct Part {
    directory: OwnedFd,
    name: String,
    target: OsString,
    exclusive: bool,
}

impl Part {
    /// `None` where the file could not take over the owner of the one it replaces.
    fn create(
        directory: OwnedFd,
        target: &OsStr,
        flags: OpenFlags,
        present: Option<&Stat>,
    ) -> Result<Option<(File, Self)>, Failure> {
        let part = Self {
            name: format!(".{}{PART}", Uuid::new_v4().simple()),
            target: target.to_owned(),
            exclusive: flags.flags.contains(OFlags::EXCL),
            directory,
        };
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let flags_of_part = flags.flags.difference(OFlags::TRUNC) | new;
        let file = openat(&part.directory, &part.name, flags_of_part, flags.mode)?;
        if let Some(present) = present {
            let own = fstat(&file)?;
            if (own.st_uid, own.st_gid) != (present.st_uid, present.st_gid) {
                return Ok(None);
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(present.st_mode & 0o777))?;
        }
        Ok(Some((file.into(), part)))
    }

    fn finish(self) -> rustix::io::Result<()> {
        let directory = self.directory.as_fd();
        if self.exclusive {
            // Unlike a rename, a link never replaces; the name of the part goes with `self`.
            return linkat(directory, &self.name, directory, &self.target, AtFlags::empty());
        }
        renameat(directory, &self.name, directory, &self.target)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        match unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            // Renamed: the upload is complete.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => tracing::warn!(part = self.name, %errno, "part of a broken upload stays behind"),
        }
    }
}
