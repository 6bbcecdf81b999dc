//! The connections for calls that wait for replicas. A wait holds up what comes after it on the same
//! connection, so that one caller at a time has one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layotto_core::{Error, ErrorKind, Result};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::link::{Leased, Link};

/// How many there are, where so many are needed at once.
const MOST: usize = 16;

/// All of them.
pub(super) struct Turns {
    idle: Arc<Mutex<Vec<Link>>>,
    places: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new(link: impl FnMut() -> Link) -> Self {
        let idle = std::iter::repeat_with(link).take(MOST).collect();
        Self {
            idle: Arc::new(Mutex::new(idle)),
            places: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// Waits until `until` for a turn, on a link that is connected where one is idle.
    pub(super) async fn take(&self, until: Instant) -> Result<Turn> {
        let place = timeout_at(until, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(not_written("too many calls wait for replicas"));
        };
        let link = {
            let mut idle = idle(&self.idle);
            match idle.iter().rposition(Link::is_up) {
                Some(up) => Some(idle.remove(up)),
                None => idle.pop(),
            }
        };
        Ok(Turn {
            link: link.expect("invariant: whoever has a place finds a connection"),
            idle: Arc::clone(&self.idle),
            asking: None,
            _place: place,
        })
    }
}

/// The error of a call that had no connection in time.
pub(super) fn not_written(why: &str) -> Error {
    Error::new(ErrorKind::Timeout, format!("not written: {why}"))
}

fn idle(idle: &Mutex<Vec<Link>>) -> MutexGuard<'_, Vec<Link>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One caller's turn on one of them. Where it ends before an answer has come, the connection does, too:
/// the next one would wait for that answer.
pub(super) struct Turn {
    pub(super) link: Link,
    idle: Arc<Mutex<Vec<Link>>>,
    asking: Option<Leased>,
    _place: OwnedSemaphorePermit,
}

impl Turn {
    /// Something is asked over `leased`.
    pub(super) fn asks(&mut self, leased: &Leased) {
        self.asking = Some(leased.clone());
    }

    /// It is answered.
    pub(super) fn is_answered(&mut self) {
        self.asking = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(leased) = &self.asking {
            self.link.end(leased);
        }
        idle(&self.idle).push(self.link.clone());
    }
}
