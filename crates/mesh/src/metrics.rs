//! Counters of the data plane.

/// The counters of the data plane; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics;
