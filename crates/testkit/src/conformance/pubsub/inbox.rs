//! A handler that records what it gets and answers as it is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use layotto_core::{
    Error,
    pubsub::{Handler, Message, Outcome},
};
use tokio::sync::{Semaphore, watch};

use crate::conformance::{DEADLINE, check::within};

/// How the inbox handles a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Ack,
    Retry,
    Drop,
    /// Ack once [`Inbox::open`] was called.
    Held,
    /// No end until the future is dropped.
    Never,
}

/// What was delivered, and when.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) message: Message,
    pub(super) at: Instant,
}

pub(super) struct Inbox {
    answer: Box<dyn Fn(&Message) -> Answer + Send + Sync>,
    seen: watch::Sender<Vec<Delivery>>,
    gate: Semaphore,
    running: AtomicUsize,
    most: AtomicUsize,
    given_up: watch::Sender<usize>,
}

impl Inbox {
    pub(super) fn new(answer: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            answer: Box::new(answer),
            seen: watch::Sender::new(Vec::new()),
            gate: Semaphore::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            given_up: watch::Sender::new(0),
        })
    }

    pub(super) fn acking() -> Arc<Self> {
        Self::new(|_| Answer::Ack)
    }

    /// Lets every held message end, now and later.
    pub(super) fn open(&self) {
        self.gate.close();
    }

    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        self.seen.borrow().clone()
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        self.seen
            .borrow()
            .iter()
            .map(|delivery| delivery.message.clone())
            .collect()
    }

    /// The most calls that ran at once.
    pub(super) fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Waits for `count` deliveries; all so far.
    pub(super) async fn wait_for(&self, count: usize) -> Result<Vec<Message>, String> {
        let mut seen = self.seen.subscribe();
        let arrived = seen.wait_for(|all| all.len() >= count);
        let awaited = format!("{count} deliveries");
        // What came is not looked at here: a second look would wait for whoever adds to it, and that
        // one for the first.
        let arrived = within(DEADLINE, &awaited, arrived).await.map(drop);
        match arrived {
            Ok(()) => Ok(self.messages()),
            Err(late) => Err(format!("{late}; there were {}", self.seen.borrow().len())),
        }
    }

    /// Waits until a call was dropped before its end.
    pub(super) async fn wait_given_up(&self) -> Result<(), String> {
        let mut given_up = self.given_up.subscribe();
        let dropped = given_up.wait_for(|count| *count > 0);
        within(DEADLINE, "the handler's call being dropped", dropped)
            .await?
            .map(drop)
            .map_err(|e| e.to_string())
    }

    /// What came until nothing came for `quiet`.
    pub(super) async fn settle(&self, quiet: Duration) -> Vec<Message> {
        let mut seen = self.seen.subscribe();
        seen.mark_unchanged();
        while let Ok(Ok(())) = tokio::time::timeout(quiet, seen.changed()).await {}
        self.messages()
    }
}

/// Counts a call that is running, and one that was dropped before its end.
struct Running<'a> {
    inbox: &'a Inbox,
    ended: bool,
}

impl<'a> Running<'a> {
    fn new(inbox: &'a Inbox) -> Self {
        let running = inbox.running.fetch_add(1, Ordering::SeqCst) + 1;
        inbox.most.fetch_max(running, Ordering::SeqCst);
        Self { inbox, ended: false }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.inbox.running.fetch_sub(1, Ordering::SeqCst);
        if !self.ended {
            self.inbox.given_up.send_modify(|count| *count += 1);
        }
    }
}

#[async_trait]
impl Handler for Inbox {
    async fn handle(&self, message: Message) -> Outcome {
        let mut running = Running::new(self);
        let answer = (self.answer)(&message);
        let at = Instant::now();
        self.seen.send_modify(|all| all.push(Delivery { message, at }));
        match answer {
            // A closed gate is an open one: waiting ends with an error, at once.
            Answer::Held => drop(self.gate.acquire().await),
            Answer::Never => std::future::pending().await,
            Answer::Ack | Answer::Retry | Answer::Drop => {}
        }
        running.ended = true;
        match answer {
            Answer::Retry => Outcome::Retry(Error::unavailable("not now")),
            Answer::Drop => Outcome::Drop,
            _ => Outcome::Ack,
        }
    }
}
