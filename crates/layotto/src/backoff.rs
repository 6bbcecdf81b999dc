//! Pacing of repeated tries.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubling waits from half a second to half a minute.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    wait: Duration,
    next: Option<Instant>,
}

impl Backoff {
    /// Whether the time for another try has come; if so, the wait for the one after begins.
    pub fn is_due(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.next.is_some_and(|next| next > now) {
            return false;
        }
        state.wait = (state.wait * 2).clamp(FIRST, LONGEST);
        state.next = Some(now + state.wait);
        true
    }

    /// Forgets failures.
    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}
