//! Tells the server what a consumer is doing: what is done, that the rest is being handled; and takes
//! over what other consumers left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use layotto_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    delay::LOOK,
    groups::Setup,
    member::Member,
    stream::{Mark, Whose},
};
use crate::pubsub::queue::Place;

/// How often the server hears that entries are being handled, where others wait for long: a Go
/// sidecar of the group may have other settings.
const OFTEN: Duration = Duration::from_secs(20);
/// How often at most.
const SELDOM: Duration = Duration::from_millis(20);
/// How long nothing was heard of a consumer that is taken for one that crashed.
const GONE: Duration = Duration::from_secs(600);
/// The longest time for a question.
const PATIENCE: Duration = Duration::from_secs(10);
/// The wait before the server is told again what it did not hear.
const AGAIN: Duration = Duration::from_millis(200);

/// Keeps the books of a consumer.
pub(super) struct Keeper<'a> {
    member: &'a Member,
    setup: &'a Arc<Setup>,
    /// Whether it was told that the server refuses something.
    is_warned: AtomicBool,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(member: &'a Member, setup: &'a Arc<Setup>) -> Self {
        Self {
            member,
            setup,
            is_warned: false.into(),
        }
    }

    /// Keeps them until `over`.
    pub(super) async fn run(self, over: &CancellationToken) {
        let all = async {
            if self.member.records.is_ephemeral {
                return self.move_what_is_due().await;
            }
            tokio::join!(
                self.acknowledge(),
                self.refresh(),
                self.take_over(),
                self.move_what_is_due()
            );
        };
        over.run_until_cancelled(all).await;
    }

    /// Tells of what is done, together what came to its end in the meantime.
    async fn acknowledge(&self) {
        let (hand, streams) = (&self.member.records.hand, &self.setup.streams);
        loop {
            hand.news.notified().await;
            let done = hand.done();
            if !done.is_empty() {
                let told = Told {
                    member: self.member,
                    done,
                };
                let is_known = self
                    .ask(
                        "tell what is done",
                        streams.acknowledge(&self.member.consumer.place, &told.done),
                    )
                    .await
                    .is_some();
                told.end(is_known);
                if !is_known {
                    sleep(AGAIN).await;
                    hand.news.notify_one();
                }
            }
            let failed = hand.failed();
            if !failed.is_empty() {
                self.tell(&failed).await;
            }
        }
    }

    /// Says every now and then that all in hand is being handled.
    async fn refresh(&self) {
        let silence = self.setup.silence;
        let pause = if silence.is_zero() {
            OFTEN
        } else {
            (silence / 3).clamp(SELDOM, OFTEN)
        };
        loop {
            sleep(pause).await;
            let marks = self.member.records.hand.marks();
            if !marks.is_empty() {
                self.tell(&marks).await;
            }
        }
    }

    async fn tell(&self, marks: &[Mark]) {
        let refreshing = self.setup.streams.refresh(&self.member.consumer, marks);
        if let Some(lost) = self.ask("say what is being handled", refreshing).await
            && !lost.is_empty()
        {
            let place = &self.member.consumer.place;
            tracing::warn!(
                topic = place.topic,
                group = place.group,
                events = lost.len(),
                "other consumers took events over"
            );
            self.member.records.hand.lose(&lost);
        }
    }

    /// Takes over what consumers left that say nothing any more.
    async fn take_over(&self) {
        let Setup {
            silence,
            looks,
            streams,
            ..
        } = &**self.setup;
        self.ask(
            "forget dead consumers",
            streams.sweep(&self.member.consumer.place, GONE),
        )
        .await;
        if silence.is_zero() || looks.is_zero() {
            return;
        }
        let mut at = Instant::now();
        loop {
            self.ask("look for events to take over", self.look(*silence))
                .await;
            at = (at + *looks).max(Instant::now());
            sleep_until(at).await;
        }
    }

    async fn look(&self, silence: Duration) -> Result<()> {
        let hand = &self.member.records.hand;
        let mut from = "-".to_owned();
        loop {
            let count = hand.spare();
            if count == 0 {
                return Ok(());
            }
            let known = hand.ids();
            let claimed = self
                .setup
                .streams
                .claim(&self.member.consumer, Whose::Idle(silence), &from, count, &known)
                .await?;
            if !claimed.entries.is_empty() {
                let place = &self.member.consumer.place;
                tracing::info!(
                    topic = place.topic,
                    group = place.group,
                    events = claimed.entries.len(),
                    "takes over events of a silent consumer"
                );
            }
            self.member.deliver(claimed.entries);
            match claimed.next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    async fn move_what_is_due(&self) {
        let topic = &self.member.consumer.place.topic;
        loop {
            let moving = self.setup.delays.move_due(topic);
            let next = self.ask("move events that are due", moving).await.flatten();
            sleep(next.unwrap_or(LOOK).min(LOOK)).await;
        }
    }

    /// Waits for an answer; `None` where there is none.
    async fn ask<T>(&self, what: &str, question: impl Future<Output = Result<T>>) -> Option<T> {
        let error = match timeout(PATIENCE, question).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error,
            Err(_) => Error::unavailable("redis does not answer"),
        };
        let Place { topic, group } = &self.member.consumer.place;
        // A server that is away, the reader tells of.
        let is_new = error.kind() != ErrorKind::Unavailable && !self.is_warned.swap(true, Ordering::Relaxed);
        if is_new {
            tracing::warn!(topic, group, %error, "cannot {what}, and goes on trying");
        } else {
            tracing::debug!(topic, group, %error, "cannot {what}");
        }
        None
    }
}

/// Ids on their way to the server: taken back where that ends before its answer.
struct Told<'a> {
    member: &'a Member,
    done: Vec<String>,
}

impl Told<'_> {
    fn end(mut self, is_known: bool) {
        let done = std::mem::take(&mut self.done);
        self.member.records.hand.told(done, is_known);
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !self.done.is_empty() {
            self.member
                .records
                .hand
                .told(std::mem::take(&mut self.done), false);
        }
    }
}
