//! A record in the process: from the partition it came from to its verdict.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{Metadata, Result};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    part::Fetched,
    producer::{Position, Producer, Record},
};
use crate::pubsub::{
    delivery::{Source, Stored},
    queue::{Entry, Place},
};

/// The first record of a partition that is not done: while it is in hand, its partition waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    key: Option<Bytes>,
    data: Bytes,
    /// Deliveries begun.
    attempts: AtomicU32,
    /// Deliveries that failed.
    failures: AtomicU32,
    is_running: AtomicBool,
    /// The group is done with it.
    done: CancellationToken,
    /// The partition went to another member of the group.
    lost: CancellationToken,
}

impl Held {
    pub(super) fn new(topic: Arc<str>, partition: i32, fetched: Fetched, attempts: u32) -> Self {
        Self {
            topic,
            partition,
            offset: fetched.offset,
            key: fetched.key,
            data: fetched.data,
            attempts: attempts.into(),
            failures: attempts.into(),
            is_running: false.into(),
            done: CancellationToken::new(),
            lost: CancellationToken::new(),
        }
    }

    /// Whether a handler has it now.
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }

    /// Whether the group is done with it.
    pub(super) fn is_done(&self) -> bool {
        self.done.is_cancelled()
    }

    /// Deliveries begun.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Deliveries that failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Another member of the group delivers it from now on.
    pub(super) fn lose(&self) {
        self.lost.cancel();
    }

    /// Waits for its end; whether the group is done with it.
    pub(super) async fn ended(&self) -> bool {
        tokio::select! {
            biased;
            () = self.done.cancelled() => true,
            () = self.lost.cancelled() => false,
        }
    }
}

/// The records that a member of a group holds.
pub(super) struct Records {
    pub(super) producer: Arc<Producer>,
    /// A failure is to be noted.
    pub(super) failed: Notify,
}

#[async_trait]
impl Source for Records {
    type Body = Arc<Held>;

    fn id(&self, entry: &Entry<Arc<Held>>) -> String {
        let Held {
            topic,
            partition,
            offset,
            ..
        } = &*entry.body;
        let position = Position {
            topic,
            partition: *partition,
            offset: *offset,
        };
        position.to_string()
    }

    fn load(&self, entry: &Entry<Arc<Held>>) -> Result<Option<Stored>> {
        let held = &entry.body;
        if held.lost.is_cancelled() {
            return Ok(None);
        }
        held.attempts.store(entry.attempts, Ordering::Relaxed);
        held.is_running.store(true, Ordering::Relaxed);
        Ok(Some(Stored {
            topic: held.topic.to_string(),
            data: held.data.clone(),
            metadata: Metadata::new(),
        }))
    }

    async fn lost(&self, entry: &Entry<Arc<Held>>) {
        entry.body.lost.cancelled().await;
    }

    async fn settle(&self, _: &Place, entry: &Entry<Arc<Held>>) -> Result<()> {
        entry.body.done.cancel();
        Ok(())
    }

    async fn note_failure(&self, _: &Place, entry: &Entry<Arc<Held>>) -> Result<()> {
        let held = &entry.body;
        held.failures.store(entry.attempts, Ordering::Relaxed);
        held.is_running.store(false, Ordering::Relaxed);
        self.failed.notify_one();
        Ok(())
    }

    async fn move_to(&self, to: &str, _: &Place, entry: &Entry<Arc<Held>>, _: usize) -> Result<()> {
        let held = &entry.body;
        if held.lost.is_cancelled() {
            return Ok(());
        }
        let record = Record {
            topic: to,
            key: held.key.as_deref(),
            data: &held.data,
        };
        self.producer.send(record).await?;
        held.done.cancel();
        Ok(())
    }

    async fn leave(&self, _: &Place) -> Result<()> {
        Ok(())
    }
}
