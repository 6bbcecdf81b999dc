//! Taps: network filters that look at the bytes which clients send, and change nothing.

use std::fmt;

use crate::connection::Info;

/// Sees what is read from the connections of a listener, in clear text: after TLS, before the
/// protocol. Called from the task of the connection, so it must neither block nor wait; what takes
/// longer belongs into a bounded queue of its own. [`Info`] names the listener and the local
/// address.
pub trait ReadTap: Send + Sync {
    /// A connection was accepted, and TLS, if it speaks that, agreed on.
    fn connected(&self, _connection: &Info) {}

    /// `bytes` were read from it: in order, each once, in pieces of any size.
    fn read(&self, connection: &Info, bytes: &[u8]);
}

impl fmt::Debug for dyn ReadTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadTap")
    }
}
