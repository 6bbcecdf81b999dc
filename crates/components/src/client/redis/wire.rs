//! A connection as those have it who send over it, and how many wait for answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use redis::{Cmd, Pipeline, RedisResult, Value, aio::MultiplexedConnection};

/// Clones are the same connection.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) connection: MultiplexedConnection,
    pub(super) calls: Calls,
}

impl Wire {
    /// Runs a command.
    pub(super) async fn run(&mut self, command: &Cmd) -> RedisResult<Value> {
        let _waiting = self.calls.begin();
        self.connection.send_packed_command(command).await
    }

    /// Runs commands at once; a reply may be an error.
    pub(super) async fn run_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let _waiting = self.calls.begin();
        self.connection
            .send_packed_commands(commands, 0, commands.len())
            .await
    }
}

/// Above the number of callers that wait: how often there was none any more.
const LULL: u64 = 1 << 32;

/// The callers that wait for answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<AtomicU64>);

/// A time in which somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy(u64);

/// A caller that waits, until this is dropped.
pub(super) struct Waiting<'a>(&'a Calls);

impl Calls {
    /// Somebody begins to wait.
    pub(super) fn begin(&self) -> Waiting<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// The time that goes on now; `None` where nobody waits.
    pub(super) fn busy(&self) -> Option<Busy> {
        let state = self.0.load(Ordering::Relaxed);
        match state % LULL {
            0 => None,
            _ => Some(Busy(state / LULL)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let one_less = |state: u64| match (state - 1) % LULL {
            0 => Some((state - 1).wrapping_add(LULL)),
            _ => Some(state - 1),
        };
        let counted = self
            .0
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        debug_assert!(counted.is_ok());
    }
}
