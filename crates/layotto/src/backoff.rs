//! Pacing of repeated tries.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubling waits from half a second to half a minute, each cut by up to a half at random so that
/// many sidecars do not try at once.
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
        state.next = Some(now + cut(state.wait));
        true
    }

    /// Forgets failures.
    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

fn cut(wait: Duration) -> Duration {
    let (_, random) = Uuid::new_v4().as_u64_pair();
    wait.mul_f64(1.0 - (random % 1000) as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_their_bound_and_differ_between_processes() {
        let backoff = Backoff::default();
        assert!(backoff.is_due());
        assert!(!backoff.is_due());
        for wait in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].map(Duration::from_millis) {
            tokio::time::advance(wait).await;
            assert!(backoff.is_due(), "{wait:?}");
            assert!(!backoff.is_due());
        }
        backoff.reset();
        assert!(backoff.is_due());
        let waits: Vec<_> = std::iter::repeat_with(|| cut(LONGEST)).take(20).collect();
        assert!(waits.iter().all(|wait| (LONGEST / 2..=LONGEST).contains(wait)));
        assert!(waits.iter().collect::<HashSet<_>>().len() > 1);
    }
}
