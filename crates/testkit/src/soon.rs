//! Waiting for what is to happen, but not for ever.

use std::{panic::Location, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// Longest wait for what is to happen: on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what does not tell by itself.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for `awaited`.
///
/// # Panics
/// Where it does not happen in time, at the caller's place.
#[track_caller]
pub fn soon<T>(awaited: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let happened = timeout(PATIENCE, awaited).await;
        happened.unwrap_or_else(|_| panic!("{caller}: it did not happen in time"))
    }
}

/// Looks until `found` is what is wanted.
///
/// # Panics
/// Where it does not get so in time, at the caller's place, with what it stays.
#[track_caller]
pub fn until<T: PartialEq + std::fmt::Debug>(wanted: T, found: impl Fn() -> T) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let begun = Instant::now();
        loop {
            let now = found();
            if now == wanted {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{caller}: it stays {now:?}");
            sleep(LOOK).await;
        }
    }
}
