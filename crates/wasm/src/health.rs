//! Whether a function works: one that traps again and again rests for a while, longer each time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// So many traps in a row, and it rests.
const TRAPS: u32 = 5;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// The state of one function.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    traps: u32,
    rests: Option<Instant>,
}

impl Health {
    /// Whether a call may go to it; after a rest one call at a time tries.
    pub(crate) fn admits(&self) -> bool {
        let state = &mut *self.state();
        let Some(until) = state.rests else {
            return true;
        };
        let over = Instant::now() >= until;
        if over {
            state.rests = Some(Instant::now() + rest(state.traps));
        }
        over
    }

    /// A call went well. Whether it was down before.
    pub(crate) fn worked(&self) -> bool {
        std::mem::take(&mut *self.state()).rests.is_some()
    }

    /// A call ended in a trap.
    pub(crate) fn trapped(&self) {
        let state = &mut *self.state();
        state.traps = state.traps.saturating_add(1);
        if state.traps >= TRAPS {
            state.rests = Some(Instant::now() + rest(state.traps));
        }
    }

    /// Whether it is not resting, nor was before the call that would tell.
    pub(crate) fn up(&self) -> bool {
        self.state().rests.is_none()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rest(traps: u32) -> Duration {
    let doubled = traps.saturating_sub(TRAPS).min(20);
    (SHORTEST * 2_u32.saturating_pow(doubled)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rests_after_traps_in_a_row_and_longer_each_time() {
        let health = Health::default();
        for _ in 0..TRAPS - 1 {
            health.trapped();
        }
        assert!(health.admits() && health.up());
        health.trapped();
        assert!(!health.admits() && !health.up());
        advance(SHORTEST).await;
        assert!(health.admits(), "one tries");
        assert!(!health.admits(), "and no other");
        health.trapped();
        advance(SHORTEST).await;
        assert!(!health.admits(), "twice as long");
        advance(SHORTEST).await;
        assert!(health.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_went_well_ends_it() {
        let health = Health::default();
        for _ in 0..TRAPS {
            health.trapped();
        }
        assert!(health.worked(), "it was down");
        assert!(health.admits() && health.up());
        health.trapped();
        assert!(health.admits(), "counted anew");
        assert!(!health.worked(), "it was not down");
    }

    #[test]
    fn a_rest_is_bounded() {
        assert_eq!(rest(u32::MAX), LONGEST);
    }
}
