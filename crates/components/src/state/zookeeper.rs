//! State in ZooKeeper, in the nodes that Go Layotto uses.
//!
//! An item is a persistent node under `keyPrefixPath`; its etag is the node's version.

mod transaction;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, future::join_all, stream};
use layotto_core::{
    Component, Context, Error, ErrorKind, GoDuration, Metadata, Open, Result,
    state::{Consistency, Delete, Features, Get, Item, Operation, Set, StateStore},
};
use schemars::JsonSchema;
use serde::Deserialize;
use zookeeper_client::{Client, Error as Cause};

use self::write::Write;
use super::change;
use crate::client::zookeeper::{Ensemble, Failure, Unused, node, settings::settings};

/// What a request holds besides path and data.
const HEADER: usize = 128;

settings! {
    /// State in ZooKeeper, shared with other sidecars, those in Go included. For a little state that
    /// must be there when a server is not; each write is one of the whole ensemble. Items do not end.
    pub struct Config {
        /// The servers, `host:port`, with commas in between.
        pub servers: String,
        /// How long the servers keep a session whose connection is gone.
        pub session_timeout: GoDuration,
        /// The path of the node under which the items are; made when it is missing. Default the root.
        #[serde(default)]
        pub key_prefix_path: String,
        /// The most bytes of a request: as many as the servers take by `jute.maxbuffer`. Default
        /// 1048575, as theirs.
        #[serde(default)]
        pub max_conn_buffer_size: MaxRequest,
        /// Not used: an answer may be as large as it is.
        #[serde(default)]
        pub max_buffer_size: Unused,
    }
}

/// The most bytes of a request.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct MaxRequest(pub usize);

impl Default for MaxRequest {
    fn default() -> Self {
        Self(0xF_FFFF)
    }
}

/// A state store in ZooKeeper.
pub struct Zookeeper {
    ensemble: Arc<Ensemble>,
    /// The path of the node under which the items are; empty for the root.
    parent: String,
    max_request: usize,
}

impl Open for Zookeeper {
    const TYPE: &'static str = "zookeeper";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let (servers, access) = (config.servers.split(','), config.access(&cx)?);
        Ok(Self {
            ensemble: Ensemble::shared(servers, config.session_timeout.0, access, &cx).await?,
            parent: parent(&config.key_prefix_path)?,
            max_request: config.max_conn_buffer_size.0,
        })
    }
}

/// `path` with a slash before each of its parts.
fn parent(path: &str) -> Result<String> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    let mut parent = String::new();
    for part in parts {
        if node(part) != part {
            return Err(Error::invalid("keyPrefixPath holds what no node can be named"));
        }
        parent.push('/');
        parent.push_str(part);
    }
    Ok(parent)
}

impl Zookeeper {
    fn path(&self, key: &str) -> String {
        format!("{}/{}", self.parent, node(key))
    }

    /// Fails for a request that the servers would answer by closing the connection of everybody.
    fn check_size(&self, bytes: usize) -> Result<()> {
        if bytes + HEADER <= self.max_request {
            return Ok(());
        }
        let what = format!(
            "the request is larger than maxConnBufferSize, {} bytes",
            self.max_request
        );
        Err(Error::invalid(what))
    }

    async fn write(&self, write: &Write) -> Result<()> {
        let path = self.path(&write.key);
        let bytes = path.len() + write.size();
        self.check_size(bytes)?;
        let (step, parent) = (write.step.clone(), self.parent.clone());
        let make = |session: Client| async move { step.make(&session, &path, &parent).await };
        match self.ensemble.call(bytes, make).await {
            Ok(()) => Ok(()),
            Err(Failure::Zookeeper(Cause::BadVersion | Cause::NoNode | Cause::NodeExists)) => {
                Err(change::conflict())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Makes every change that is allowed; those of different keys are under way together.
    async fn write_each(&self, writes: Vec<Write>) -> Result<()> {
        let mut refused = Vec::new();
        for turn in write::turns(&writes) {
            let made = join_all(turn.iter().map(|write| self.write(write))).await;
            for (write, made) in turn.into_iter().zip(made) {
                match made {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::Conflict => {
                        refused.push((write.key.as_str(), error));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        change::summary(&refused)
    }
}

#[async_trait]
impl Component for Zookeeper {
    async fn ping(&self) -> Result<()> {
        self.ensemble.ping().await
    }
}

#[async_trait]
impl StateStore for Zookeeper {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: false,
        }
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        let path = self.path(&request.key.0);
        let is_strong = request.consistency == Consistency::Strong;
        let read = |session: Client| async move {
            if !is_strong {
                return session.get_data(&path).await;
            }
            // Both are on their way at once, and answered in this order by a server that may lag.
            let (synced, read) = futures::join!(session.sync(&path), session.get_data(&path));
            synced.and(read)
        };
        match self.ensemble.call(0, read).await {
            Ok((value, stat)) => Ok(Some(change::item(value.into(), stat.version, 0))),
            Err(Failure::Zookeeper(Cause::NoNode)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn bulk_get(&self, requests: Vec<Get>, _: usize) -> Result<Vec<Result<Option<Item>>>> {
        // One connection takes them all, one after the other without waiting.
        let reads = stream::iter(requests).map(|request| async move { self.get(&request).await });
        Ok(reads.buffered(write::AT_ONCE).collect().await)
    }

    async fn set(&self, request: Set) -> Result<()> {
        self.write(&Write::set(request)?).await
    }

    async fn delete(&self, request: Delete) -> Result<()> {
        self.write(&Write::delete(request)?).await
    }

    async fn bulk_set(&self, requests: Vec<Set>) -> Result<()> {
        let writes = requests.into_iter().map(Write::set).collect::<Result<_>>()?;
        self.write_each(writes).await
    }

    async fn bulk_delete(&self, requests: Vec<Delete>) -> Result<()> {
        let writes = requests.into_iter().map(Write::delete).collect::<Result<_>>()?;
        self.write_each(writes).await
    }

    async fn transact(&self, operations: Vec<Operation>, _: &Metadata) -> Result<()> {
        let writes: Vec<Write> = operations
            .into_iter()
            .map(Write::operation)
            .collect::<Result<_>>()?;
        self.carry_out(&writes).await
    }
}

#[cfg(test)]
mod tests;
