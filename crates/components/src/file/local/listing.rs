//! What is said of files: lists, sizes, times and modes.

use std::{collections::HashMap, ffi::CString};

use chrono::DateTime;
use layotto_core::{
    Metadata, Result,
    file::{Entry, List, Page, Stat},
};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use super::{failure::Failure, reach::Reach, upload::PART};

/// A page of directory `request.directory`.
pub(super) fn list(reach: &Reach, request: &List) -> Result<Page> {
    let directory = &request.directory;
    let fd = reach
        .open(directory, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
        .map_err(|failure| failure.during("open", directory))?;
    let names = names(&fd).map_err(|errno| Failure::Os(errno).during("readdirent", directory))?;
    let start = match request.marker.as_str() {
        "" => 0,
        // A marker that is no file of the directory ends the list.
        marker => match names.binary_search_by(|name| name.as_bytes().cmp(marker.as_bytes())) {
            Ok(found) => found + 1,
            Err(_) => names.len(),
        },
    };
    let most = usize::try_from(request.page_size).ok().filter(|most| *most > 0);
    let end = most.map_or(names.len(), |most| names.len().min(start.saturating_add(most)));
    let page = names.get(start..end).unwrap_or_default();
    let mut files = Vec::with_capacity(page.len());
    for name in page {
        match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => files.push(entry(name, &found)),
            // Deleted since its name was read.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Failure::Os(errno).during("lstat", directory)),
        }
    }
    let marker = page.last().map(|name| name.to_string_lossy().into_owned());
    Ok(Page {
        files,
        marker: marker.unwrap_or_default(),
        is_truncated: end < names.len(),
    })
}

fn names(directory: impl rustix::fd::AsFd) -> rustix::io::Result<Vec<CString>> {
    let found = rustix::fs::fstat(&directory)?;
    if !FileType::from_raw_mode(found.st_mode).is_dir() {
        return Err(Errno::NOTDIR);
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." && !name.to_bytes().ends_with(PART.as_bytes()) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn entry(name: &CString, found: &rustix::fs::Stat) -> Entry {
    Entry {
        name: name.to_string_lossy().into_owned(),
        size: found.st_size,
        last_modified: modified(found),
        metadata: Metadata::new(),
    }
}

/// What is said of one file.
pub(super) fn stat(found: &rustix::fs::Stat) -> Stat {
    let is_dir = FileType::from_raw_mode(found.st_mode).is_dir();
    let metadata = [
        ("FileMode", go_mode(found.st_mode).to_string()),
        ("IsDir", is_dir.to_string()),
    ];
    Stat {
        size: found.st_size,
        last_modified: modified(found),
        metadata: HashMap::from(metadata.map(|(key, value)| (key.to_owned(), vec![value]))),
    }
}

fn modified(found: &rustix::fs::Stat) -> String {
    go_time(found.st_mtime, u32::try_from(found.st_mtime_nsec).unwrap_or(0))
}

/// A time in UTC as Go prints it: <https://pkg.go.dev/time#Time.String>.
fn go_time(seconds: i64, nanos: u32) -> String {
    let time = DateTime::from_timestamp(seconds, nanos).unwrap_or_default();
    let whole = time.format("%Y-%m-%d %H:%M:%S");
    let fraction = format!(".{:09}", time.timestamp_subsec_nanos());
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{whole}{fraction} +0000 UTC")
}

/// The mode bits of Go's `io/fs.FileMode`, which differ from Unix above the permissions.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(unix, _)| mode & unix != 0);
    special.fold(kind | mode & 0o777, |bits, (_, go)| bits | go)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_go_prints_them() {
        for (seconds, nanos, expected) in [
            (
                1_795_557_255,
                798_264_596,
                "2026-11-24 21:54:15.798264596 +0000 UTC",
            ),
            (1_795_557_255, 528_972_000, "2026-11-24 21:54:15.528972 +0000 UTC"),
            (0, 0, "1970-01-01 00:00:00 +0000 UTC"),
        ] {
            assert_eq!(go_time(seconds, nanos), expected);
        }
    }

    #[test]
    fn modes_are_those_of_go() {
        assert_eq!(go_mode(0o100_644), 420);
        assert_eq!(go_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
    }
}
