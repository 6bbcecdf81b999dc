//! `FileMode` and `FileFlag`: how a file that is written is opened.

use layotto_core::{Error, Metadata, Result};
use rustix::fs::{Mode, OFlags};

const MODE: &str = "FileMode";
const FLAG: &str = "FileFlag";

/// What a caller may ask for; anything else could make the name mean something other than a
/// regular file.
const ALLOWED: OFlags = OFlags::ACCMODE
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::TRUNC)
    .union(OFlags::APPEND)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC)
    .union(OFlags::NOCTTY)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::LARGEFILE);

/// How a file is opened to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenFlags {
    /// Permissions of a file that is made, before the process' umask.
    pub(super) mode: Mode,
    /// The flags of `open(2)`.
    pub(super) flags: OFlags,
}

impl OpenFlags {
    /// Reads both from the metadata of a call, where they are decimal numbers.
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let required = |key, name| {
            let text = metadata.get(key);
            text.ok_or_else(|| Error::invalid(format!("{name} is required for put file")))
        };
        let (mode, flag) = (required(MODE, "fileMode")?, required(FLAG, "fileFlag")?);
        let mode = parse_mode(mode)
            .map_err(|reason| wrong(format!("fileMode value:strconv.ParseUint: {reason}")))?;
        let flags =
            parse_flag(flag).map_err(|reason| wrong(format!("fileFlag value:strconv.Atoi: {reason}")))?;
        let other = flags.difference(ALLOWED);
        if !other.is_empty() {
            let other = other.bits();
            return Err(wrong(format!(
                "fileFlag value:the bits {other:#o} are not supported"
            )));
        }
        // Only permissions: a set-user-id file made on a caller's word would hand out our rights.
        let mode = Mode::from_bits_truncate(mode & 0o777);
        Ok(Self { mode, flags })
    }
}

fn wrong(what: String) -> Error {
    Error::invalid(format!("wrong {what} in metadata"))
}

fn parse_mode(text: &str) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("parsing {text:?}: invalid syntax"));
    }
    text.parse()
        .map_err(|_| format!("parsing {text:?}: value out of range"))
}

fn parse_flag(text: &str) -> Result<OFlags, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("parsing {text:?}: invalid syntax"));
    }
    let number: Option<u32> = text.parse().ok();
    number
        .map(OFlags::from_bits_retain)
        .ok_or_else(|| format!("parsing {text:?}: value out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mode: Option<&str>, flag: Option<&str>) -> Result<OpenFlags> {
        let given = [(MODE, mode), (FLAG, flag)];
        let given = given
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        OpenFlags::from_metadata(&given.collect())
    }

    #[test]
    fn decimal_numbers_are_open_flags() {
        let flags = read(Some("511"), Some("66")).unwrap();
        assert_eq!(flags.flags, OFlags::RDWR | OFlags::CREATE);
        assert_eq!(flags.mode, Mode::from_bits_truncate(0o777));
        let flags = read(Some("420"), Some("1089")).unwrap();
        assert_eq!(flags.flags, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND);
    }

    #[test]
    fn missing_and_malformed_numbers_are_refused_in_upstreams_words() {
        for (mode, flag, expected) in [
            (None, Some("66"), "fileMode is required for put file"),
            (Some("511"), None, "fileFlag is required for put file"),
            (
                Some("rwx"),
                Some("66"),
                "wrong fileMode value:strconv.ParseUint: parsing \"rwx\": invalid syntax in metadata",
            ),
            (
                Some("511"),
                Some("abc"),
                "wrong fileFlag value:strconv.Atoi: parsing \"abc\": invalid syntax in metadata",
            ),
            (
                Some("99999999999"),
                Some("66"),
                "wrong fileMode value:strconv.ParseUint: parsing \"99999999999\": value out of range in metadata",
            ),
        ] {
            assert_eq!(read(mode, flag).unwrap_err().message(), expected);
        }
    }

    #[test]
    fn flags_that_are_not_about_regular_files_are_refused() {
        for other in [OFlags::PATH, OFlags::DIRECTORY, OFlags::TMPFILE, OFlags::DIRECT] {
            let error = read(Some("511"), Some(&other.bits().to_string())).unwrap_err();
            assert!(error.message().contains("not supported"), "{error}");
        }
    }

    #[test]
    fn no_file_is_made_that_runs_as_somebody_else() {
        let set_user_id = (0o4755_u32).to_string();
        assert_eq!(read(Some(&set_user_id), Some("66")).unwrap().mode.bits(), 0o755);
    }
}
