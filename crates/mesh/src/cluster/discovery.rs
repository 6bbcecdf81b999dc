//! Where the hosts of a cluster come from, if not from its configuration alone.

pub(super) mod dns;
