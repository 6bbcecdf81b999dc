//! TLS at both ends: certificates chosen by name and protocol, peers verified, files reloaded.
//!
//! Files are looked at before each handshake, and read anew when they changed: that needs no task
//! and no watch, follows the symbolic links of a `ConfigMap`, and costs a few `stat` calls beside
//! the arithmetic of a handshake, on a thread where they may block. Files that do not fit together leave the last good ones in use.

pub mod client;
pub mod config;
mod material;
mod reload;
pub mod server;
mod settings;
mod verify;

pub use self::config::TlsContext;

#[cfg(test)]
pub(crate) mod testing;
