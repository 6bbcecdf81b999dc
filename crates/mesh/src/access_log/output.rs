//! Where lines end up: a file that is rolled, or a stream of the process. Everything here blocks.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use chrono::{DateTime, Local};

use super::roller::Roller;

/// The group may read what clients did, others not.
const MODE: u32 = 0o640;

#[derive(Debug)]
pub(super) enum Output {
    File(Rolled),
    Stdout,
    Stderr,
}

/// A file, and when it is put aside.
#[derive(Debug)]
pub(super) struct Rolled {
    path: PathBuf,
    file: File,
    roller: Roller,
    /// Devices and pipes are not put aside.
    regular: bool,
    size: u64,
    period: i64,
}

impl Output {
    pub(super) fn open(path: &Path, roller: &Roller) -> io::Result<Self> {
        match path.to_str() {
            Some("stdout") => Ok(Self::Stdout),
            Some("stderr") => Ok(Self::Stderr),
            _ => Rolled::open(path, roller).map(Self::File),
        }
    }

    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(lines, SystemTime::now()),
            Self::Stdout => io::stdout().lock().write_all(lines),
            Self::Stderr => io::stderr().lock().write_all(lines),
        }
    }

    /// Opens the path anew, as another program has moved the file away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(file) = self {
            *file = Rolled::open(&file.path, &file.roller)?;
        }
        Ok(())
    }
}

impl Rolled {
    fn open(path: &Path, roller: &Roller) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(MODE)
            .open(path)?;
        let metadata = file.metadata()?;
        let written = metadata.modified().unwrap_or_else(|_| SystemTime::now());
        Ok(Self {
            path: path.to_owned(),
            file,
            roller: roller.clone(),
            regular: metadata.is_file(),
            size: metadata.len(),
            period: period(roller, written),
        })
    }

    fn write(&mut self, lines: &[u8], now: SystemTime) -> io::Result<()> {
        let more = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let too_large = self.roller.max_bytes.is_some_and(|max| self.size + more > max);
        let period = period(&self.roller, now);
        if self.regular && self.size > 0 && (too_large || period != self.period) {
            // Lines go on into the file that is open, until it is due the next time.
            self.size = 0;
            if let Err(error) = self.roll(now) {
                tracing::warn!(path = %self.path.display(), %error, "access log not put aside");
            }
        }
        self.period = period;
        self.size += more;
        self.file.write_all(lines)
    }

    fn roll(&mut self, now: SystemTime) -> io::Result<()> {
        let stamp = DateTime::<Local>::from(now).format("%Y-%m-%d_%H-%M-%S%.3f");
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".{stamp}"));
        match fs::rename(&self.path, &aside) {
            // Another program has put it aside already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        *self = Self::open(&self.path, &self.roller)?;
        self.tidy(now)
    }

    /// Deletes what was put aside and is too old or too much. Names sort by time.
    fn tidy(&self, now: SystemTime) -> io::Result<()> {
        let mut aside = self.aside()?;
        aside.sort_unstable_by(|a, b| b.cmp(a));
        for (index, path) in aside.iter().enumerate() {
            let modified = fs::metadata(path).and_then(|metadata| metadata.modified())?;
            let age = now.duration_since(modified).unwrap_or_default();
            let old = self.roller.age.is_some_and(|max| age > max);
            if old || self.roller.keep.is_some_and(|keep| index >= keep) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The files whose name is this one's and a time.
    fn aside(&self) -> io::Result<Vec<PathBuf>> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let is_aside = |path: &PathBuf| {
            let found = path.file_name().unwrap_or_default().to_string_lossy();
            let stamp = found.strip_prefix(&*name).and_then(|rest| rest.strip_prefix('.'));
            stamp.is_some_and(is_stamp)
        };
        let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        let paths: io::Result<Vec<_>> = paths.collect();
        Ok(paths?.into_iter().filter(is_aside).collect())
    }
}

/// Whether a text looks like `2006-01-02_15-04-05.000`.
fn is_stamp(text: &str) -> bool {
    let shape = text.chars().map(|character| {
        if character.is_ascii_digit() {
            '0'
        } else {
            character
        }
    });
    shape.eq("0000-00-00_00-00-00.000".chars())
}

/// The number of the roller's period that `time` is in, by local time.
fn period(roller: &Roller, time: SystemTime) -> i64 {
    let Some(hours) = roller.every_hours else { return 0 };
    let local = DateTime::<Local>::from(time).naive_local();
    local.and_utc().timestamp().div_euclid(i64::from(hours) * 3600)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_file_is_made_for_owner_and_group_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/a.log");
        let mut output = Output::open(&path, &Roller::default()).unwrap();
        output.write(b"one\n").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        drop(output);
        Output::open(&path, &Roller::default())
            .unwrap()
            .write(b"two\n")
            .unwrap();
        assert_eq!(read(&path), "one\ntwo\n");
    }

    #[test]
    fn a_file_that_would_grow_too_large_is_put_aside_and_few_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let other = folder.path().join("a.log.txt");
        fs::write(&other, "not ours").unwrap();
        let roller = Roller {
            max_bytes: Some(10),
            keep: Some(2),
            every_hours: None,
            age: None,
        };
        let mut file = Rolled::open(&path, &roller).unwrap();
        let begin = SystemTime::now();
        for index in 0..6 {
            let now = begin + Duration::from_secs(index);
            file.write(format!("line {index}\n").as_bytes(), now).unwrap();
        }
        assert_eq!(read(&path), "line 5\n");
        let mut aside = file.aside().unwrap();
        aside.sort();
        let aside: Vec<_> = aside.iter().map(|path| read(path)).collect();
        assert_eq!(aside, ["line 3\n", "line 4\n"]);
        assert_eq!(read(&other), "not ours");
    }

    #[test]
    fn no_line_is_lost_where_a_file_cannot_be_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("deep");
        let path = deep.join("a.log");
        let mut file = Rolled::open(&path, &Roller::default()).unwrap();
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 3600);
        file.write(b"one\n", now).unwrap();
        fs::rename(&path, deep.join("moved")).unwrap();
        file.write(b"two\n", now + day).unwrap();
        assert_eq!(read(&path), "two\n");
        // A folder that is a file can neither hold the old nor the new one.
        let moved = folder.path().join("moved");
        fs::rename(&deep, &moved).unwrap();
        fs::write(&deep, "").unwrap();
        file.write(b"three\n", now + 2 * day).unwrap();
        file.write(b"four\n", now + 2 * day).unwrap();
        assert_eq!(read(&moved.join("a.log")), "two\nthree\nfour\n");
    }

    #[test]
    fn a_file_is_put_aside_when_its_hours_are_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut file = Rolled::open(&path, &Roller::default()).unwrap();
        let now = SystemTime::now();
        file.write(b"today\n", now).unwrap();
        file.write(b"today too\n", now).unwrap();
        assert_eq!(file.aside().unwrap().len(), 0);
        file.write(b"tomorrow\n", now + Duration::from_secs(24 * 3600))
            .unwrap();
        assert_eq!(read(&path), "tomorrow\n");
        assert_eq!(file.aside().unwrap().len(), 1);
    }

    #[test]
    fn devices_are_never_moved() {
        let roller = Roller {
            max_bytes: Some(1),
            ..Roller::default()
        };
        let mut output = Output::open(Path::new("/dev/null"), &roller).unwrap();
        output.write(b"a line\n").unwrap();
        output.write(b"a line\n").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
