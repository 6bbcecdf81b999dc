//! How many requests are served at a time: a number that changes while some are served and others wait.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The places of a plug-in.
pub(super) struct Places {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
}

struct Size {
    places: usize,
    /// How many of those that are taken are to go when they are given back.
    owed: usize,
}

/// One that is taken, until this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new(places: usize) -> Arc<Self> {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            free: Arc::new(Semaphore::new(places)),
            size: Mutex::new(Size { places, owed: 0 }),
        })
    }

    /// Takes one, which may take `wait`; `None`: none became free.
    pub(super) async fn take(self: &Arc<Self>, wait: Duration) -> Option<Place> {
        let free = self.free.clone();
        let permit = match free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => timeout(wait, free.acquire_owned()).await.ok()?.ok()?,
        };
        Some(Place {
            places: self.clone(),
            permit: Some(permit),
        })
    }

    /// How many there are.
    pub(super) fn number(&self) -> usize {
        self.size().places
    }

    /// Changes how many there are. Those that are taken stay until they are given back; whoever waits
    /// gets the new ones.
    pub(super) fn resize(&self, places: usize) {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        let size = &mut *self.size();
        if places < size.places {
            let fewer = size.places - places;
            size.owed += fewer - self.free.forget_permits(fewer);
        } else {
            let more = places - size.places;
            let kept = more.min(size.owed);
            size.owed -= kept;
            self.free.add_permits(more - kept);
        }
        size.places = places;
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let permit = self.permit.take();
        let size = &mut *self.places.size();
        if size.owed == 0 {
            drop(permit);
            return;
        }
        size.owed -= 1;
        permit.into_iter().for_each(OwnedSemaphorePermit::forget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn fewer_places_hold_for_those_that_come_next() {
        let places = Places::new(3);
        let first = places.take(WAIT).await.unwrap();
        let second = places.take(WAIT).await.unwrap();
        places.resize(1);
        assert!(places.take(WAIT).await.is_none());
        drop(first);
        assert!(places.take(WAIT).await.is_none(), "the second has the only one");
        drop(second);
        let third = places.take(WAIT).await.unwrap();
        assert!(places.take(WAIT).await.is_none());
        places.resize(2);
        assert!(places.take(WAIT).await.is_some());
        drop(third);
        assert_eq!((places.number(), places.free.available_permits()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_a_new_place() {
        let places = Places::new(1);
        let _first = places.take(WAIT).await.unwrap();
        let (second, ()) = tokio::join!(places.take(WAIT), async { places.resize(2) });
        assert!(second.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn places_that_were_to_go_may_stay() {
        let places = Places::new(2);
        let taken = [places.take(WAIT).await.unwrap(), places.take(WAIT).await.unwrap()];
        places.resize(1);
        places.resize(2);
        drop(taken);
        assert_eq!(places.free.available_permits(), 2);
    }
}
