//! TLS at both ends: certificates chosen by name and protocol, peers verified, files reloaded.
