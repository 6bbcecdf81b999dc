//! Redis: the client that the components share.
//!
//! One multiplexed connection to each server takes the calls of all; it is made at the first use.
//! What was sent over a connection that is lost fails and is not sent again, since it may have been
//! carried out; the next call finds a new connection, or is told at once that there is none. A call
//! that its caller drops is not sent if it was not yet, else its reply is thrown away.
//!
//! [`Redis::run`], [`Redis::pipe`] and [`Redis::call`] take commands, for the server that has the
//! key: one server, the primary that sentinels name, or a part of a cluster. Commands that keep the
//! server waiting, such as `XREADGROUP BLOCK`, need a connection of their own: [`Redis::open`].

mod cluster;
mod failure;
mod link;
mod script;
mod sentinel;
mod server;
pub(crate) mod settings;
mod slots;
mod strong;
mod switch;
mod tls;
mod transport;
mod turns;
mod watched;
mod wire;

use std::{sync::Arc, time::Duration};

use layotto_core::{Context, Error, ErrorKind, Result};
use redis::{Cmd, Pipeline, Value};

use self::{
    cluster::Cluster,
    link::Place,
    sentinel::Sentinels,
    server::{Batch, Held, Lane, Server},
    settings::Topology,
    transport::Task,
    wire::Wire,
};
pub(crate) use self::{
    failure::{reply, unexpected},
    script::{Call, Script},
    settings::{Connection, settings},
    slots::beside,
};

/// A client; components with equal settings share one.
pub(crate) struct Redis(Servers);

enum Servers {
    One(Server),
    Cluster(Cluster),
}

impl Redis {
    /// The client for `connection`, shared with every other component that has the same settings.
    /// Connects to nothing yet.
    pub(crate) async fn shared(connection: Connection, cx: &Context) -> Result<Arc<Self>> {
        let identity = connection.identity();
        cx.shared
            .get_or_open(&identity, async || Ok(Self::new(connection)))
            .await
    }

    fn new(connection: Connection) -> Self {
        let settings = Arc::new(connection);
        let addresses = &settings.addresses;
        let place = match &settings.topology {
            Topology::Cluster => return Self(Servers::Cluster(Cluster::new(settings))),
            Topology::Sentinels { primary, login } => {
                let settings = Arc::clone(&settings);
                Place::Primary(Arc::new(Sentinels::new(primary.clone(), login.clone(), settings)))
            }
            Topology::Server => Place::Server(addresses[0].clone()),
        };
        Self(Servers::One(Server::new(place, &settings, &Arc::default())))
    }

    /// Whether keys lie in slots, so that those of one call must be in the same.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0, Servers::Cluster(_))
    }

    /// Fails where the keys of one call would lie in different slots of a cluster.
    pub(crate) fn same_slot<'a>(&self, keys: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut slots = keys.map(|key| slots::of(key.as_bytes()));
        let first = slots.next();
        if self.is_cluster() && slots.any(|slot| Some(slot) != first) {
            return Err(Error::invalid(
                "the keys lie in different slots of the cluster: one call takes keys of one slot, \
                 such as those with a common {tag}",
            ));
        }
        Ok(())
    }

    /// Runs one command at the server that has `key`. An error of the server is an error.
    pub(crate) async fn run(&self, key: &str, command: &Cmd) -> Result<Value> {
        let (replies, _) = self.exchange(key, Lane::Shared, Batch::One(command)).await?;
        one(replies)
    }

    /// Runs commands on keys in the slot of `key` in one round trip. Only the first may write:
    /// where the slot moves, all are sent again. A reply may be an error: see [`reply`].
    pub(crate) async fn pipe(&self, key: &str, commands: &Pipeline) -> Result<Vec<Value>> {
        let (replies, _) = self.exchange(key, Lane::Shared, Batch::Many(commands)).await?;
        Ok(replies)
    }

    /// Calls a script.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Value> {
        let (key, command) = (call.key(), call.by_digest());
        let (replies, _) = self.exchange(key, Lane::Shared, Batch::One(&command)).await?;
        if replies.iter().any(script::is_unknown) {
            return self.run(key, &call.in_full()).await;
        }
        one(replies)
    }

    /// Like many [`call`](Self::call)s, of any keys, in one round trip; each has its own outcome.
    pub(crate) async fn call_each(&self, calls: &[Call<'_>]) -> Vec<Result<Value>> {
        let mut outcomes: Vec<Option<Result<Value>>> = calls.iter().map(|_| None).collect();
        let mut left: Vec<usize> = (0..calls.len()).collect();
        while !left.is_empty() {
            let requests = left.iter().filter_map(|at| calls.get(*at));
            let requests = requests.map(|call| (call.key(), vec![call.by_digest()]));
            let sent = self.pipe_each(requests.collect()).await;
            let mut unknown = Vec::new();
            for (at, sent) in left.into_iter().zip(sent) {
                match sent {
                    Ok(replies) if replies.iter().any(script::is_unknown) => unknown.push(at),
                    sent => outcomes[at] = Some(sent.and_then(one)),
                }
            }
            // One takes the script along, then the others need it no more.
            if let Some((first, rest)) = unknown.split_first() {
                outcomes[*first] = Some(self.call(&calls[*first]).await);
                unknown = rest.to_vec();
            }
            left = unknown;
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| one(Vec::new())))
            .collect()
    }

    /// Like many [`pipe`](Self::pipe)s, of any keys, in one round trip to each server.
    pub(crate) async fn pipe_each(&self, requests: Vec<(&str, Vec<Cmd>)>) -> Vec<Result<Vec<Value>>> {
        match &self.0 {
            Servers::One(server) => {
                let requests = requests.into_iter().map(|(_, commands)| commands);
                server
                    .exchange_each(requests.collect())
                    .await
                    .into_iter()
                    .map(|sent| sent.map_err(Into::into))
                    .collect()
            }
            Servers::Cluster(cluster) => {
                let requests = requests.into_iter();
                let requests = requests.map(|(key, commands)| (slots::of(key.as_bytes()), commands));
                cluster.exchange_each(requests.collect()).await
            }
        }
    }

    /// Opens a connection of the caller's own to the server that has `key`, for commands that keep
    /// the server waiting for up to `block`. Fails at once where the server is known to be away.
    pub(crate) async fn open(&self, key: &str, block: Duration) -> Result<Dedicated> {
        // A call over the shared connection finds the way: it follows what has moved.
        let mut exists = redis::cmd("EXISTS");
        exists.arg(key);
        self.exchange(key, Lane::Shared, Batch::One(&exists)).await?;
        let opened = match &self.0 {
            Servers::One(server) => server.open(block).await?,
            Servers::Cluster(cluster) => {
                let server = cluster.server_of(slots::of(key.as_bytes())).await?;
                server.open(block).await?
            }
        };
        Ok(Dedicated {
            wire: opened.wire,
            _task: Task::spawn(opened.driver),
        })
    }

    /// Whether the server is there.
    pub(crate) async fn ping(&self) -> Result<()> {
        match self.run("", &redis::cmd("PING")).await {
            // Who may not ask finds it there all the same.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn exchange(&self, key: &str, lane: Lane, batch: Batch<'_>) -> Result<(Vec<Value>, Held)> {
        match &self.0 {
            Servers::One(server) => Ok(server.exchange(lane, batch).await?),
            Servers::Cluster(cluster) => cluster.exchange(slots::of(key.as_bytes()), lane, batch).await,
        }
    }
}

/// A connection of one user's own; closed when it is dropped, whatever is under way on it.
pub(crate) struct Dedicated {
    wire: Wire,
    _task: Task,
}

impl Dedicated {
    /// Runs one command. After an error of kind [`ErrorKind::Unavailable`] the connection is of no
    /// use any more.
    pub(crate) async fn run(&mut self, command: &Cmd) -> Result<Value> {
        let reply = self.wire.run(command).await;
        failure::reply(reply.map_err(|error| failure::of(&error))?)
    }
}

/// The reply to a single command.
fn one(mut replies: Vec<Value>) -> Result<Value> {
    reply(replies.pop().ok_or_else(failure::missing)?)
}

#[cfg(test)]
mod tests;
