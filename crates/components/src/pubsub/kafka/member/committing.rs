//! Committing: tells the broker where the group is.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use layotto_core::{Error, Result};
use rdkafka::consumer::{CommitMode, Consumer};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{Commit, LAST_COMMIT, PAUSE, Session, answer};
use crate::{
    client::kafka::failure,
    pubsub::kafka::{
        consumer::GroupConsumer,
        offsets::{self, Mark, Partition},
    },
};

impl Session<'_> {
    pub(super) fn plan_commit(&mut self, wait: Duration) {
        self.commit_at.get_or_insert(Instant::now() + wait);
    }

    /// Sends what the broker does not know yet, after what is on its way. `false` where there is
    /// nothing to wait for.
    pub(super) fn commit(&mut self, is_last: bool) -> bool {
        if self.committing.is_some() {
            return true;
        }
        self.commit_at = None;
        if self.member.is_ephemeral {
            return false;
        }
        let unsaid = self
            .parts
            .iter()
            .filter_map(|(partition, part)| Some((partition, part.unsaid(is_last)?)));
        let marks: Vec<_> = unsaid
            .map(|(partition, mark)| (partition.clone(), mark))
            .collect();
        if marks.is_empty() {
            return false;
        }
        self.committing = Some(commit(Arc::clone(&self.client.consumer), marks).boxed());
        true
    }

    /// The broker answered. Returns whether it took the offsets.
    pub(super) fn committed(&mut self, (marks, result): Commit) -> bool {
        self.committing = None;
        if let Err(error) = result {
            // Partitions that went to others are not this member's to speak of.
            tracing::debug!(group = self.member.group, %error, "offsets were not committed");
            self.plan_commit(PAUSE);
            return false;
        }
        for (partition, mark) in marks {
            let Some(part) = self.parts.get_mut(&partition) else {
                continue;
            };
            let is_first = !part.is_pinned();
            part.said(mark);
            if is_first {
                self.pinned().insert(partition);
            }
        }
        self.accept();
        true
    }

    /// Commits all there is, before the group is left.
    pub(super) async fn say_last(&mut self) {
        let said = async {
            while self.commit(true) {
                let Some(commit) = answer(&mut self.committing).await else {
                    return true;
                };
                if !self.committed(commit) {
                    return false;
                }
            }
            true
        };
        if timeout(LAST_COMMIT, said).await.is_err() {
            tracing::warn!(
                group = self.member.group,
                "the last offsets were not committed in time"
            );
        }
    }
}

/// Sends offsets, and asks the broker for them. What became of them the library tells nobody but a
/// thread that waits for as long as that takes; the question has an end.
async fn commit(consumer: Arc<GroupConsumer>, marks: Vec<(Partition, Mark)>) -> Commit {
    let list = offsets::list(marks.iter().map(|(partition, mark)| (partition, *mark)));
    let sent = list.and_then(|list| consumer.commit(&list, CommitMode::Async));
    let noted = match sent {
        Ok(()) => are_noted(consumer, &marks).await,
        Err(error) => Err(failure::of("offsets cannot be sent", error)),
    };
    (marks, noted)
}

async fn are_noted(consumer: Arc<GroupConsumer>, marks: &[(Partition, Mark)]) -> Result<()> {
    let partitions: Vec<_> = marks.iter().map(|(partition, _)| partition.clone()).collect();
    // Behind the offsets on their connection: what it finds is what became of them.
    let asked = spawn_blocking(move || offsets::committed(&consumer, partitions.iter())).await;
    let known = asked
        .map_err(|panic| Error::internal("cannot ask for offsets").with_source(panic))?
        .map_err(|error| failure::of("the broker does not say what it noted", error))?;
    match marks
        .iter()
        .all(|(partition, mark)| known.get(partition) == Some(mark))
    {
        true => Ok(()),
        false => Err(Error::unavailable("the broker did not note the offsets")),
    }
}
