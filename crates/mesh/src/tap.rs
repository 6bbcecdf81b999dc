//! Taps: who sees the bytes that a listener reads. A tap never changes, delays or ends a
//! connection.

pub mod tcpcopy;

use crate::connection::Info;

/// Watches the connections of a listener.
pub trait ReadTap: Send + Sync {
    /// Called once for a connection, before its first byte is read. `None`: it is not watched.
    fn open(&self, connection: &Info) -> Option<Box<dyn ConnectionTap>>;
}

/// Watches one connection; dropped when the connection ends.
pub trait ConnectionTap: Send {
    /// Called with the plaintext bytes of each read, in order and without gaps. Must not block:
    /// the bytes are served once this returns.
    fn read(&mut self, bytes: &[u8]);
}
