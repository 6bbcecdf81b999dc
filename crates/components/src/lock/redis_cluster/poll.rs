//! What the servers say of a lock that somebody may hold.

use std::{sync::Arc, time::Duration};

use layotto_core::{
    Error, Result,
    lock::{Owned, Status},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::TaskTracker;

use super::{STRAGGLERS, Servers};

/// How long a server is told something.
const LIMIT: Duration = Duration::from_secs(10);

/// What a server is asked to do with the owner's lock.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    /// Remove it.
    Release,
    /// Have it end so much later.
    Extend(Duration),
}

/// The status, and the fencing token that the server keeps.
type Answer = (Status, Option<u64>);

/// The answers.
pub(super) struct Poll {
    servers: usize,
    answers: Vec<Answer>,
}

impl Poll {
    /// Asks every server and waits until the answers agree: most servers gave one, and the
    /// stragglers cannot change what it is, or do not come.
    pub(super) async fn hold(
        servers: &Arc<Servers>,
        tasks: &TaskTracker,
        lock: &Owned,
        question: Question,
    ) -> Result<Self> {
        let mut answers = ask(servers, tasks, lock, question);
        let mut poll = Self {
            servers: servers.count(),
            answers: Vec::new(),
        };
        let mut failure = None;
        while !poll.is_decided() {
            let enough = poll.answers.len() >= servers.quorum();
            let next = match enough {
                true => timeout(STRAGGLERS, answers.recv()).await.unwrap_or(None),
                false => answers.recv().await,
            };
            match next {
                Some(Ok(answer)) => poll.answers.push(answer),
                Some(Err(error)) => failure = Some(error),
                None if enough => break,
                None => return Err(failure.unwrap_or_else(|| Error::unavailable("no redis answers"))),
            }
        }
        Ok(poll)
    }

    fn count(&self, status: Status) -> usize {
        self.answers
            .iter()
            .filter(|(answer, _)| *answer == status)
            .count()
    }

    fn missing(&self) -> usize {
        self.servers - self.answers.len()
    }

    fn is_decided(&self) -> bool {
        let all = [Status::Success, Status::Unexist, Status::BelongsToOthers];
        all.into_iter().any(|status| self.most(status))
    }

    /// Whether most servers say `status`.
    pub(super) fn most(&self, status: Status) -> bool {
        self.count(status) > self.servers / 2
    }

    /// Whether most servers say `status`, if those that did not answer do.
    pub(super) fn perhaps(&self, status: Status) -> bool {
        self.count(status) > 0 && self.count(status) + self.missing() > self.servers / 2
    }

    /// Whether some server may have had the lock end later.
    pub(super) fn may_have_extended(&self) -> bool {
        self.count(Status::Success) > 0 || self.missing() > 0
    }

    /// What to tell an owner who does not hold the lock.
    pub(super) fn refusal(&self) -> Status {
        match self.perhaps(Status::BelongsToOthers) {
            true => Status::BelongsToOthers,
            // Whoever has it here and there has no majority either.
            false => Status::Unexist,
        }
    }

    /// The token under which the lock was granted: the one that most servers say. Where that is not
    /// known the greatest: a server that was away may keep that of an earlier grant.
    pub(super) fn token(&self) -> Option<u64> {
        let tokens = self.answers.iter().filter_map(|(_, token)| *token);
        let sayers = |token| tokens.clone().filter(|other| *other == token).count();
        let agreed = tokens.clone().find(|token| sayers(*token) > self.servers / 2);
        agreed.or_else(|| tokens.max())
    }
}

fn ask(
    servers: &Arc<Servers>,
    tasks: &TaskTracker,
    lock: &Owned,
    question: Question,
) -> mpsc::Receiver<Result<Answer>> {
    let (sender, answers) = mpsc::channel(servers.count());
    for client in &servers.clients {
        let (client, lock) = (Arc::clone(client), lock.clone());
        let (servers, sender) = (Arc::clone(servers), sender.clone());
        tasks.spawn(timeout(LIMIT, async move {
            let leases = &servers.leases;
            let answer = match question {
                Question::Release => leases.release(&client, &lock).await.map(|status| (status, None)),
                Question::Extend(lease) => leases.extend(&client, &lock, lease).await,
            };
            // Whoever asked may have heard enough.
            drop(sender.send(answer).await);
        }));
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_an_earlier_grant_that_a_server_kept_is_not_told() {
        for (servers, tokens, told) in [
            (5, vec![Some(1), Some(2), Some(2)], Some(2)),
            (5, vec![Some(1), Some(1), Some(2)], Some(2)),
            (5, vec![Some(3), Some(2), Some(2), Some(2)], Some(2)),
            (3, vec![Some(1), Some(2)], Some(2)),
            (3, vec![None, Some(2)], Some(2)),
            (3, vec![None, None], None),
        ] {
            let answers = tokens.iter().map(|token| (Status::Success, *token)).collect();
            assert_eq!(Poll { servers, answers }.token(), told, "{tokens:?}");
        }
    }
}
