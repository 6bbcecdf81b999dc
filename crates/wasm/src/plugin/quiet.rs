//! When a function has had no calls for a while.

use std::time::{Duration, Instant};

/// How long nobody calls a function that rests.
const QUIET: Duration = Duration::from_secs(5);

/// What the last look saw.
#[derive(Debug)]
pub(super) struct Quiet {
    calls: u64,
    since: Instant,
    rests: bool,
}

impl Quiet {
    /// It has just begun.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            calls: 0,
            since: now,
            rests: false,
        }
    }

    /// Takes note of how many calls there were; whether this look is the first to find that there were
    /// none for long enough.
    pub(super) fn begins(&mut self, calls: u64, is_running: bool, now: Instant) -> bool {
        if is_running || calls != self.calls {
            *self = Self {
                calls,
                ..Self::new(now)
            };
            return false;
        }
        let begins = !self.rests && now.saturating_duration_since(self.since) >= QUIET;
        self.rests |= begins;
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_once_after_each_call() {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        let mut at = start;
        assert!(!quiet.begins(0, false, at), "too soon");
        at += QUIET;
        assert!(quiet.begins(0, false, at));
        assert!(!quiet.begins(0, false, at + QUIET), "it rests already");
        assert!(!quiet.begins(1, true, at), "it was called");
        at += QUIET;
        assert!(!quiet.begins(1, true, at), "it runs");
        assert!(!quiet.begins(1, false, at + QUIET / 2), "it has only just ended");
        assert!(quiet.begins(1, false, at + QUIET));
    }
}
