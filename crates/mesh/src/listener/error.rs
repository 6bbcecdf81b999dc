//! Why a listener could not be bound.

use std::{error, fmt, io};

use super::Config;
use crate::Address;

/// A listener could not be bound; the text names listener, address and reason.
#[derive(Debug)]
pub struct BindError {
    listener: String,
    address: Address,
    cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    InUse,
    NotASocket,
    Unresolved(io::Error),
    DirectoryBusy,
    Io(io::Error),
}

impl BindError {
    pub(super) fn new(config: &Config, cause: Cause) -> Self {
        Self {
            listener: config.name.clone(),
            address: config.address.clone(),
            cause,
        }
    }

    /// Whether another listener, of this process or another, holds the address.
    pub fn is_in_use(&self) -> bool {
        matches!(self.cause, Cause::InUse)
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse,
            _ => Self::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for Cause {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            listener,
            address,
            cause,
        } = self;
        write!(f, "listener \"{listener}\": cannot listen on {address}: {cause}")
    }
}

/// The reason is part of the text, as an address is nothing without it.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("address already in use"),
            Self::NotASocket => f.write_str("a file that is not a socket is there"),
            Self::Unresolved(error) => write!(f, "the host cannot be looked up: {error}"),
            Self::DirectoryBusy => f.write_str("another process keeps the directory locked"),
            Self::Io(error) => match error.kind() {
                io::ErrorKind::PermissionDenied => f.write_str("permission denied"),
                io::ErrorKind::AddrNotAvailable => f.write_str("no interface has this address"),
                io::ErrorKind::NotFound => f.write_str("no such directory"),
                _ => error.fmt(f),
            },
        }
    }
}

impl error::Error for BindError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.cause {
            Cause::Io(error) | Cause::Unresolved(error) => Some(error),
            Cause::InUse | Cause::NotASocket | Cause::DirectoryBusy => None,
        }
    }
}
