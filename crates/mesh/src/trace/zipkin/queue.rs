//! The spans that wait to be sent: bounded, and never waited for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::Record;

/// How many spans may wait; what comes beyond is dropped and counted.
const CAPACITY: usize = 4096;

/// How many spans are sent at once.
const BATCH: usize = 100;

/// How long a span may wait for others to be sent with.
const LINGER: Duration = Duration::from_secs(1);

/// Where spans are put; clones share it.
#[derive(Debug, Clone)]
pub struct Queue {
    spans: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// Where they are taken out, many at once.
#[derive(Debug)]
pub struct Batches(mpsc::Receiver<Record>);

/// A queue and its other end.
pub fn queue() -> (Queue, Batches) {
    let (spans, batches) = mpsc::channel(CAPACITY);
    let queue = Queue {
        spans,
        dropped: Arc::default(),
    };
    (queue, Batches(batches))
}

impl Queue {
    pub(super) fn push(&self, span: Record) {
        if self.spans.try_send(span).is_err() {
            self.drop_spans(1);
        }
    }

    /// Counts spans that were taken out and could not be sent.
    pub fn drop_spans(&self, count: usize) {
        self.dropped
            .fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Relaxed);
    }

    /// How many spans were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

impl Batches {
    /// Up to 100 spans, a second after the first at the latest; `None`: the queue is gone, and
    /// empty. Cancelling it loses the spans of the batch that is being gathered.
    pub async fn next(&mut self) -> Option<Vec<Record>> {
        let mut batch = vec![self.0.recv().await?];
        let due = Instant::now() + LINGER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            match timeout_at(due, self.0.recv_many(&mut batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        Some(batch)
    }
}
