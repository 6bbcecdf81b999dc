//! A door for fuzz targets; there only when they are built.

use super::{Framing, Phase, State};

/// The guard of a connection's framing.
#[derive(Debug)]
pub struct Guard(Framing);

impl Guard {
    /// A guard that keeps no more than `max_head` bytes of a line.
    pub fn new(max_head: usize) -> Self {
        Self(Framing::new(max_head))
    }

    /// Takes the next bytes; an error says where in them the refused line begins.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), usize> {
        self.0.check(bytes).map_err(|fault| fault.at)
    }

    /// How many heads have ended.
    pub fn heads(&self) -> usize {
        self.0.heads as usize
    }

    /// Whether the last request has ended and no other has begun.
    pub fn is_between(&self) -> bool {
        self.0.phase() == Phase::Between
    }

    /// Whether the next byte belongs to a body or its framing.
    pub fn is_in_body(&self) -> bool {
        self.0.phase() == Phase::Body
    }

    /// Whether the next byte is one of a body's content.
    pub fn is_in_data(&self) -> bool {
        matches!(self.0.state, State::Data(_) | State::ChunkData(_))
    }

    /// How many bytes there is room kept for.
    pub fn kept(&self) -> usize {
        self.0.line.capacity()
    }
}
