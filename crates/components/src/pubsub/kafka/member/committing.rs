//! Committing: tells the broker where the group is.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use layotto_core::Error;
use rdkafka::consumer::{CommitMode, Consumer};
use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{LAST_COMMIT, PAUSE, Session, answer};
use crate::{
    client::kafka::failure,
    pubsub::kafka::{
        consumer::{GroupConsumer, Lent},
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
        let consumer = self.client.lend();
        let sending = commit(consumer, marks, self.is_in_doubt, Arc::clone(&self.turn));
        self.committing = Some(sending.boxed());
        true
    }

    /// What was sent came to its end. Returns whether the broker has all of it.
    pub(super) fn committed(&mut self, commit: Commit) -> bool {
        self.committing = None;
        for (partition, mark) in commit.noted {
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
        self.is_in_doubt = commit.failure.is_some();
        let Some(error) = commit.failure else {
            return true;
        };
        // Partitions that went to others are not this member's to speak of.
        tracing::debug!(group = self.member.group, %error, "offsets were not committed");
        self.plan_commit(PAUSE);
        false
    }

    /// Commits all there is, before the group is left.
    pub(super) async fn say_last(&mut self) {
        let said = async {
            loop {
                let was_on_its_way = self.committing.is_some();
                if !self.commit(true) {
                    return;
                }
                let Some(commit) = answer(&mut self.committing).await else {
                    return;
                };
                // What was sent before was not all there is.
                if !self.committed(commit) && !was_on_its_way {
                    return;
                }
            }
        };
        if timeout(LAST_COMMIT, said).await.is_err() {
            tracing::warn!(
                group = self.member.group,
                "the last offsets were not committed in time"
            );
        }
    }
}

/// Offsets that were sent.
pub(super) struct Commit {
    /// Those that the broker has.
    noted: Vec<(Partition, Mark)>,
    /// Why it has not all of them.
    failure: Option<Error>,
}

impl Commit {
    fn failed(error: Error) -> Self {
        Self {
            noted: Vec::new(),
            failure: Some(error),
        }
    }
}

/// Sends offsets once those before are through, also where nobody waits for them any more: the
/// library tries again by itself, and offsets that it tries again could overtake later ones. Only a
/// thread that waits learns when it is done with them, however long that takes.
async fn commit(
    consumer: Lent,
    marks: Vec<(Partition, Mark)>,
    is_in_doubt: bool,
    turn: Arc<Mutex<()>>,
) -> Commit {
    let turn = turn.lock_owned().await;
    let sending = spawn_blocking(move || {
        let commit = send(&consumer, marks, is_in_doubt);
        drop(turn);
        commit
    });
    let failed = |panic| Commit::failed(Error::internal("cannot send offsets").with_source(panic));
    sending.await.unwrap_or_else(failed)
}

/// Sends offsets until they are noted or refused. What the broker has of them it is asked where the
/// library does not say so of all, and where it may yet come upon others that it was sent before.
fn send(consumer: &GroupConsumer, marks: Vec<(Partition, Mark)>, is_in_doubt: bool) -> Commit {
    let list = offsets::list(marks.iter().map(|(partition, mark)| (partition, *mark)));
    let sent = list.and_then(|list| consumer.commit(&list, CommitMode::Sync));
    let mut failure = sent
        .err()
        .map(|error| failure::of("the broker did not take offsets", error));
    if failure.is_none() && !is_in_doubt {
        return Commit {
            noted: marks,
            failure,
        };
    }
    match offsets::noted(consumer, &marks) {
        Ok(noted) => {
            if noted.len() < marks.len() {
                failure.get_or_insert(Error::unavailable("the broker did not note all offsets"));
            }
            Commit { noted, failure }
        }
        Err(error) => {
            let unknown = || failure::of("the broker does not say what it noted", error);
            Commit::failed(failure.unwrap_or_else(unknown))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::pubsub::kafka::tests::member_of;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_partition_that_is_refused_holds_up_no_other() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 2, 1).unwrap();
        let client = member_of("g", &cluster.bootstrap_servers());
        let consumer = Arc::clone(&client.consumer);
        let mark = |offset| Mark { offset, attempts: 2 };
        // There is no partition 7.
        let marks = [0, 7, 1].map(|number| (("t".to_owned(), number), mark(5)));
        let sent = spawn_blocking(move || {
            let commit = send(&consumer, marks.to_vec(), false);
            let known = offsets::committed(&consumer, [&marks[0].0, &marks[2].0].into_iter());
            (commit, known)
        });
        let (commit, known) = sent.await.unwrap();
        let noted: HashMap<_, _> = commit.noted.into_iter().collect();
        assert_eq!(noted.len(), 2, "{noted:?}");
        assert_eq!(noted, known.unwrap());
        assert!(commit.failure.is_some());
        client.close(Instant::now() + Duration::from_secs(10)).await;
    }
}
