//! What can go wrong with a file, and the error that says so in the words of the Go runtime.

use std::io;

use layotto_core::{Error, ErrorKind};
use rustix::io::Errno;

use crate::os_text::os_text;

/// Why a file operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The name leads out of the root.
    Outside,
    /// Not a file or directory but a device, pipe or socket.
    Special,
    /// The operating system refused.
    Os(Errno),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Os(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Failure {
    /// The error of `operation` on file `name`.
    pub(super) fn during(self, operation: &str, name: &str) -> Error {
        let reason = match self {
            Self::Outside => "permission denied: outside of the root".to_owned(),
            Self::Special => "permission denied: not a regular file".to_owned(),
            Self::Os(errno) => os_text(&errno.into()),
        };
        Error::new(self.kind(), format!("{operation} {name}: {reason}"))
    }

    /// The error of describing file `name`, which upstream words without the name.
    pub(super) fn of_stat(self, name: &str) -> Error {
        match self.kind() {
            ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "file does not exist"),
            ErrorKind::PermissionDenied => Error::new(ErrorKind::PermissionDenied, "permission denied"),
            _ => self.during("stat", name),
        }
    }

    fn kind(self) -> ErrorKind {
        match self {
            Self::Outside | Self::Special => ErrorKind::PermissionDenied,
            Self::Os(errno) => match errno {
                Errno::NOENT => ErrorKind::NotFound,
                Errno::EXIST => ErrorKind::AlreadyExists,
                Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorKind::PermissionDenied,
                Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::MFILE | Errno::NFILE => {
                    ErrorKind::ResourceExhausted
                }
                Errno::NOTEMPTY | Errno::BUSY | Errno::TXTBSY => ErrorKind::FailedPrecondition,
                Errno::INVAL
                | Errno::NOTDIR
                | Errno::ISDIR
                | Errno::NAMETOOLONG
                | Errno::LOOP
                | Errno::BADF
                | Errno::NXIO => ErrorKind::InvalidArgument,
                _ => ErrorKind::Internal,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_go() {
        for (errno, expected, kind) in [
            (
                Errno::NOENT,
                "open /x: no such file or directory",
                ErrorKind::NotFound,
            ),
            (Errno::EXIST, "open /x: file exists", ErrorKind::AlreadyExists),
            (
                Errno::ISDIR,
                "open /x: is a directory",
                ErrorKind::InvalidArgument,
            ),
            (
                Errno::ACCESS,
                "open /x: permission denied",
                ErrorKind::PermissionDenied,
            ),
        ] {
            let error = Failure::Os(errno).during("open", "/x");
            assert_eq!((error.message(), error.kind()), (expected, kind));
        }
    }
}
