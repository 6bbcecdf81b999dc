//! Locks over several Redis servers that know nothing of each other (Redlock).

mod election;
mod poll;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesUnordered};
use layotto_core::{
    Component, Context, Error, ErrorKind, Open, Result,
    lock::{Grant, LockStore, Owned, Status},
};
use redis::{Cmd, Value};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::{
    election::{Election, Vote, Winners},
    poll::{Poll, Question},
};
use super::redis::lease::Leases;
use crate::client::redis::{Redis as Client, settings};

settings! {
    @hosts {
        /// The servers as `host:port`, with commas between: three or five, each a primary of its
        /// own. Without a port 6379.
        #[serde(alias = "redisHost")]
        pub redis_hosts
    }
    required "redisHosts";
    /// Locks over several Redis servers that do not replicate each other: a lock is held where most
    /// of them grant it. The loss of a minority, with its memory, neither ends a lock nor grants it
    /// twice. For locks that must outlive a server; clocks must not run apart by a tenth of a lease.
    pub struct Config {}
}

/// How often a lock is tried for that nobody got, or that took too long to get.
const TURNS: u32 = 4;
/// The turn from which on a server that is alone in holding the lock counts for one: until then
/// its holder may be about to get the others.
const ALONE: u32 = 2;
/// The longest wait for a server that others can stand in for.
const FIRST: Duration = Duration::from_millis(250);
/// How long the servers that did not answer yet are waited for, where the others made a majority.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// A lock store over several Redis servers.
pub struct RedisCluster {
    servers: Arc<Servers>,
    /// What a server is told is carried through by a task, though its caller goes away or has heard
    /// enough from the others.
    tasks: TaskTracker,
}

/// The servers, and what is done with leases there.
struct Servers {
    clients: Vec<Arc<Client>>,
    leases: Leases,
    winners: Arc<Winners>,
}

impl Open for RedisCluster {
    const TYPE: &'static str = "redis_cluster";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let mut clients = Vec::new();
        for connection in config.given(&cx).connections(&cx)? {
            clients.push(Client::shared(connection, &cx).await?);
        }
        if clients.is_empty() {
            return Err(Error::invalid(
                "redisHosts: expected servers such as \"127.0.0.1:6379,127.0.0.1:6380,127.0.0.1:6381\"",
            ));
        }
        Ok(Self {
            servers: Arc::new(Servers {
                clients,
                leases: Leases::default(),
                winners: Arc::default(),
            }),
            tasks: cx.tasks,
        })
    }
}

impl Servers {
    fn count(&self) -> usize {
        self.clients.len()
    }

    /// How many are most of them.
    fn quorum(&self) -> usize {
        self.count() / 2 + 1
    }

    /// Whether somebody holds the lock, or is about to, at most servers.
    async fn hold(&self, lock: &Owned) -> bool {
        let key = &lock.resource.0;
        let mut exists = Cmd::new();
        exists.arg("EXISTS").arg(key);
        let looking = self.clients.iter().map(|client| client.run(key, &exists));
        let mut looking: FuturesUnordered<_> = looking.collect();
        let held = async {
            let mut held = 0;
            while let Some(answer) = looking.next().await {
                held += usize::from(matches!(answer, Ok(Value::Int(1))));
                if held >= self.quorum() {
                    return true;
                }
            }
            false
        };
        timeout(FIRST, held).await.unwrap_or(false)
    }
}

/// A short time, another one for each that asks.
fn pause(turn: u32) -> Duration {
    let random = Uuid::new_v4().as_u64_pair().1 as u32;
    Duration::from_millis(5 << turn).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[async_trait]
impl Component for RedisCluster {
    /// Most servers must be there.
    async fn ping(&self) -> Result<()> {
        let pings = self.servers.clients.iter().map(|client| client.ping());
        let mut pings: FuturesUnordered<_> = pings.collect();
        let (mut there, mut failure) = (0, None);
        while let Some(answer) = pings.next().await {
            match answer {
                Ok(()) => there += 1,
                Err(error) => failure = Some(error),
            }
            if there >= self.servers.quorum() {
                return Ok(());
            }
        }
        Err(failure.unwrap_or_else(|| Error::internal("no server was asked")))
    }
}

#[async_trait]
impl LockStore for RedisCluster {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        // What is left of the lease, and the drift of clocks, must not be eaten up by asking.
        let most = expire / 10;
        let mut outcome = Ok(Grant::Busy);
        for turn in 0..TURNS {
            let begun = Instant::now();
            let mut election = Election::new(&self.servers, &self.tasks, lock, expire);
            let vote = timeout(most, election.hold(turn < ALONE)).await;
            let in_time = begun.elapsed() <= most;
            outcome = match vote {
                Ok(Ok(Vote::Won(token))) if in_time => {
                    election.keep();
                    let fencing_token = Some(token);
                    return Ok(Grant::Acquired { fencing_token });
                }
                Ok(Ok(Vote::Lost)) => return Ok(Grant::Busy),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Vote::Split(Some(error)))) => Err(error),
                Ok(Ok(Vote::Split(None))) => Ok(Grant::Busy),
                Ok(Ok(Vote::Won(_))) | Err(_) => {
                    let text = format!("the lock could not be had within {most:?}, a tenth of its lease");
                    Err(Error::new(ErrorKind::Timeout, text))
                }
            };
            // Gives back what it got.
            drop(election);
            sleep(pause(turn)).await;
        }
        outcome
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        self.servers.winners.release(lock);
        let poll = Poll::hold(&self.servers, &self.tasks, lock, Question::Release).await?;
        Ok(match poll.perhaps(Status::Success) {
            true => Status::Success,
            false => poll.refusal(),
        })
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        let begun = Instant::now();
        let poll = Poll::hold(&self.servers, &self.tasks, lock, Question::Extend(expire)).await?;
        if poll.most(Status::Success) && begun.elapsed() <= expire / 10 {
            return Ok((Status::Success, poll.token()));
        }
        if poll.perhaps(Status::Success) {
            return Err(Error::unavailable(
                "too few servers answered in time to keep the lock",
            ));
        }
        if poll.may_have_extended() {
            // What is left of a lock that was lost must not last longer for it.
            Poll::hold(&self.servers, &self.tasks, lock, Question::Release).await?;
        }
        Ok((poll.refusal(), None))
    }
}

#[cfg(test)]
mod tests;
