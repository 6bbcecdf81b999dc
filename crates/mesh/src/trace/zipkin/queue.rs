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
pub struct Batches {
    spans: mpsc::Receiver<Record>,
    gathered: Vec<Record>,
    due: Instant,
}

/// A queue and its other end.
pub fn queue() -> (Queue, Batches) {
    let (sender, spans) = mpsc::channel(CAPACITY);
    let queue = Queue {
        spans: sender,
        dropped: Arc::default(),
    };
    let batches = Batches {
        spans,
        gathered: Vec::new(),
        due: Instant::now(),
    };
    (queue, batches)
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
    /// Up to 100 spans, a second after the first at the latest; `None`: the queue is closed, and
    /// empty. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Vec<Record>> {
        if self.gathered.is_empty() {
            self.gathered.push(self.spans.recv().await?);
            self.due = Instant::now() + LINGER;
        }
        while self.gathered.len() < BATCH {
            let room = BATCH - self.gathered.len();
            match timeout_at(self.due, self.spans.recv_many(&mut self.gathered, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        Some(std::mem::take(&mut self.gathered))
    }

    /// Takes no further spans: those in the queue are the last.
    pub fn close(&mut self) {
        self.spans.close();
    }
}
