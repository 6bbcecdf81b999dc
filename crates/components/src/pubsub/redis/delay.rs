//! Events that are not due yet: kept in a sorted set beside their topic, moved to its stream when
//! they are due.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use layotto_core::Result;
use redis::Value;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::stream::Streams;
use crate::client::redis::unexpected;

/// The longest wait for another look: others may have published in the meantime.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// Events moved at once.
const BATCH: &[u8] = b"100";

/// Events that are not due yet.
pub(super) struct Delays {
    streams: Arc<Streams>,
    /// The topics that are looked after, since this process published to them; whether it did again.
    kept: Mutex<HashMap<String, bool>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Delays {
    pub(super) fn new(streams: Arc<Streams>, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            streams,
            kept: Mutex::default(),
            stop,
            tasks,
        }
    }

    fn hold(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an event until it is due; whoever is there then moves it.
    pub(super) async fn add(self: &Arc<Self>, topic: &str, data: &[u8], delay: Duration) -> Result<()> {
        let (millis, token) = (delay.as_millis().to_string(), Uuid::new_v4().simple().to_string());
        let key = self.streams.delayed(topic);
        let arguments = vec![millis.as_bytes(), token.as_bytes(), data];
        self.streams
            .call(&self.streams.scripts.delay, &[&key], arguments)
            .await?;
        self.look_after(topic);
        Ok(())
    }

    /// Moves the events of a topic that are due. Returns how long it may take to the next look;
    /// `None` where nothing waits.
    pub(super) async fn move_due(&self, topic: &str) -> Result<Option<Duration>> {
        let key = self.streams.delayed(topic);
        let length = self.streams.max_len.to_string();
        let arguments = vec![BATCH, length.as_bytes()];
        let reply = self
            .streams
            .call(&self.streams.scripts.due, &[&key, topic], arguments)
            .await?;
        match reply {
            Value::Int(wait) => Ok(u64::try_from(wait).ok().map(Duration::from_millis)),
            other => Err(unexpected(&other)),
        }
    }

    /// Moves the events of a topic from now on, until there are none.
    fn look_after(self: &Arc<Self>, topic: &str) {
        let mut kept = self.hold();
        if let Some(is_asked_again) = kept.get_mut(topic) {
            *is_asked_again = true;
            return;
        }
        kept.insert(topic.to_owned(), false);
        drop(kept);
        let (delays, topic, stop) = (Arc::clone(self), topic.to_owned(), self.stop.clone());
        self.tasks.spawn(async move {
            stop.run_until_cancelled(delays.move_all(&topic)).await;
        });
    }

    async fn move_all(&self, topic: &str) {
        loop {
            let wait = match self.move_due(topic).await {
                Ok(Some(wait)) => wait.min(LOOK),
                Ok(None) if self.is_over(topic) => return,
                Ok(None) => Duration::ZERO,
                Err(error) => {
                    tracing::debug!(topic, %error, "cannot look for events that are due");
                    LOOK
                }
            };
            sleep(wait).await;
        }
    }

    /// Whether nothing was published to a topic since nothing waited; it is not looked after then.
    fn is_over(&self, topic: &str) -> bool {
        let mut kept = self.hold();
        match kept.get_mut(topic) {
            Some(is_asked_again) if *is_asked_again => {
                *is_asked_again = false;
                false
            }
            _ => {
                kept.remove(topic);
                true
            }
        }
    }
}
