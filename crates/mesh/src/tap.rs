//! Taps: network filters that look at the bytes which clients send. A tap never changes, delays or
//! ends a connection.

pub mod tcpcopy;

use std::fmt;

use crate::connection::Info;

/// Watches the connections of a listener: what is read from them in clear text, after TLS and
/// before the protocol.
pub trait ReadTap: Send + Sync {
    /// Called once for a connection, before its first byte is shown. `None`: it is not watched.
    fn open(&self, connection: &Info) -> Option<Box<dyn ConnectionTap>>;
}

/// Watches one connection; dropped when the connection ends.
pub trait ConnectionTap: Send {
    /// Called with the bytes of each read, in order and without gaps. Must not block: the bytes are
    /// served once this returns.
    fn read(&mut self, bytes: &[u8]);
}

impl fmt::Debug for dyn ReadTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadTap")
    }
}

impl fmt::Debug for dyn ConnectionTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionTap")
    }
}
