//! Reads a stream over a connection of its own, since the server waits for entries.

use std::time::Duration;

use layotto_core::{Error, Result};
use redis::Cmd;
use tokio::time::sleep;

use super::{
    entry,
    member::{Member, Start},
    stream::Whose,
};
use crate::client::{pace::Backoff, redis::Dedicated};

/// How long the server waits for entries. Whoever ends a subscription waits for it, too: entries that
/// were on their way then would be taken for entries that are being handled.
const BLOCK: Duration = Duration::from_secs(1);
/// The pauses after connections that failed.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
/// How long an answer is awaited that nobody wants any more.
const LATE: Duration = Duration::from_secs(2);
/// Entries looked at in one step.
const BATCH: usize = 100;

/// Reads for a consumer.
pub(super) struct Reader<'a> {
    member: &'a Member,
    /// Where to go on, without a group.
    position: String,
    failures: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(member: &'a Member) -> Self {
        let position = match &member.start {
            Start::Group => String::new(),
            Start::After(id) => id.clone(),
        };
        Self {
            member,
            position,
            failures: 0,
        }
    }

    /// Reads until nobody wants the events any more.
    pub(super) async fn run(mut self) {
        while !self.member.is_over() {
            if let Err(error) = self.connect_and_read().await {
                self.note(&error);
                tokio::select! {
                    () = sleep(PAUSES.after(self.failures)) => {}
                    () = self.member.unwanted() => {}
                }
            }
        }
    }

    fn note(&mut self, error: &Error) {
        let place = &self.member.consumer.place;
        if self.failures == 0 {
            tracing::warn!(topic = place.topic, group = place.group, %error, "cannot read from redis, and goes on trying");
        } else {
            tracing::debug!(topic = place.topic, group = place.group, %error, "cannot read from redis");
        }
        self.failures = self.failures.saturating_add(1);
    }

    async fn connect_and_read(&mut self) -> Result<()> {
        let streams = &self.member.records.streams;
        let topic = &self.member.consumer.place.topic;
        let mut connection = streams.client.open(topic, BLOCK).await?;
        if let Start::Group = self.member.start {
            self.join_again().await?;
        }
        while self.has_room().await {
            let entries = self.read(&mut connection).await?;
            if self.failures > 0 {
                self.failures = 0;
                tracing::info!(topic, "reads from redis again");
            }
            if let Some(last) = entries.last() {
                self.position.clone_from(&last.id);
            }
            self.member.deliver(entries);
            if self.member.is_over() {
                break;
            }
        }
        Ok(())
    }

    /// Sees to it that there is a group, as the server may have lost its memory, and gets what an
    /// earlier connection was lost with.
    async fn join_again(&self) -> Result<()> {
        let (consumer, records) = (&self.member.consumer, &self.member.records);
        records.streams.make_group(&consumer.place).await?;
        let mut from = "-".to_owned();
        loop {
            let known = records.hand.ids();
            let claimed = records
                .streams
                .claim(consumer, Whose::Own, &from, BATCH, &known)
                .await?;
            let mut entries = claimed.entries;
            for entry in &mut entries {
                // The delivery that the server counted did not take place.
                entry.attempts = entry.attempts.saturating_sub(1);
            }
            self.member.deliver(entries);
            match claimed.next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Waits until more can be read; `false` where nobody wants it.
    async fn has_room(&self) -> bool {
        let hand = &self.member.records.hand;
        while hand.places() == 0 {
            tokio::select! {
                () = hand.room.notified() => {}
                () = self.member.unwanted() => return false,
            }
        }
        true
    }

    async fn read(&self, connection: &mut Dedicated) -> Result<Vec<entry::Entry>> {
        let command = self.command(self.member.records.hand.places().max(1));
        let late = async {
            loop {
                self.member.unwanted().await;
                sleep(LATE).await;
                if self.member.is_over() {
                    return Error::unavailable("redis does not answer");
                }
            }
        };
        tokio::select! {
            reply = connection.run(&command) => entry::read(reply?),
            error = late => Err(error),
        }
    }

    fn command(&self, count: usize) -> Cmd {
        let consumer = &self.member.consumer;
        let mut command = Cmd::new();
        let from = match self.member.start {
            Start::Group => {
                command.arg("XREADGROUP").arg("GROUP");
                command.arg(&consumer.place.group).arg(&consumer.name);
                ">"
            }
            Start::After(_) => {
                command.arg("XREAD");
                &self.position
            }
        };
        command.arg("COUNT").arg(count);
        command.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        command.arg("STREAMS").arg(&consumer.place.topic).arg(from);
        command
    }
}
