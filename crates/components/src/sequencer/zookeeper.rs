//! Ids from ZooKeeper: the version of a node that is set once for each id, as Go Layotto has it.
//!
//! There the node is ephemeral, and ids begin anew when the process that made it ends. Here it is
//! persistent, and an ephemeral one is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open, Result,
    key_prefix::PrefixedKey,
    sequencer::{BiggerThan, Features, Sequencer},
};
use zookeeper_client::{Client, Error as Cause, Stat};

use super::exhausted;
use crate::client::zookeeper::{Ensemble, PERSISTENT, Seconds, Unused, node, settings::settings};

settings! {
    /// Ids from ZooKeeper, for sidecars on any number of machines: never repeated, whatever ends a
    /// sidecar or a server. Each id, also a weak one, is a write of the whole ensemble.
    pub struct Config {
        /// The servers, `host:port`, with `;` in between.
        pub zookeeper_hosts: String,
        /// Not used, as with Go Layotto.
        #[serde(default)]
        pub zookeeper_password: Unused,
        /// How many seconds the servers keep a session whose connection is gone. Default 5.
        #[serde(default, rename = "SessionTimeout")]
        pub session_timeout: Seconds,
        /// Not used: the log has its own levels.
        #[serde(default, rename = "LogInfo")]
        pub log_info: Unused,
    }
}

/// A sequencer in ZooKeeper.
pub struct Zookeeper {
    ensemble: Arc<Ensemble>,
    /// Each id of a key must be greater.
    bounds: Mutex<HashMap<PrefixedKey, i64>>,
}

impl Open for Zookeeper {
    const TYPE: &'static str = "zookeeper";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let (servers, access) = (config.zookeeper_hosts.split(';'), config.access(&cx)?);
        Ok(Self {
            ensemble: Ensemble::shared(servers, config.session_timeout.into(), access, &cx).await?,
            bounds: Mutex::default(),
        })
    }
}

impl Zookeeper {
    async fn ensure(&self, key: &PrefixedKey, bound: i64) -> Result<()> {
        if bound <= 0 {
            return Ok(());
        }
        let path = path(key);
        let look = |session: Client| async move {
            // As new as what another sidecar did before.
            let (synced, stat) = futures::join!(session.sync(&path), session.check_stat(&path));
            synced.and(stat)
        };
        let stat = self.ensemble.call(0, look).await?;
        let violated = |found: String| {
            let message = format!(
                "zookeeper sequencer error: can not satisfy biggerThan guarantee.key: {}, {found}",
                key.0
            );
            Err(Error::new(ErrorKind::FailedPrecondition, message))
        };
        match stat {
            None => violated("current key does not exist".to_owned()),
            Some(stat) if i64::from(stat.version) < bound => violated(format!("current id:{}", stat.version)),
            Some(stat) => check_persistent(key, &stat),
        }
    }

    fn bound(&self, key: &PrefixedKey) -> i64 {
        let bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        bounds.get(key).copied().unwrap_or_default()
    }
}

fn path(key: &PrefixedKey) -> String {
    format!("/{}", node(&key.0))
}

/// Sets the node, which is made where there is none; its version is the id.
async fn count(session: Client, path: String) -> Result<Stat, Cause> {
    loop {
        match session.set_data(&path, &[], None).await {
            Err(Cause::NoNode) => {}
            counted => return counted,
        }
        match session.create(&path, &[], &PERSISTENT).await {
            Ok(_) | Err(Cause::NodeExists) => {}
            Err(cause) => return Err(cause),
        }
    }
}

fn check_persistent(key: &PrefixedKey, stat: &Stat) -> Result<()> {
    if stat.ephemeral_owner == 0 {
        return Ok(());
    }
    let message = format!(
        "the node of key {} is ephemeral, as Go Layotto makes it: its ids begin anew when the process that made it ends. \
         Stop that process, or use another key prefix",
        key.0
    );
    Err(Error::new(ErrorKind::FailedPrecondition, message))
}

#[async_trait]
impl Component for Zookeeper {
    async fn ping(&self) -> Result<()> {
        self.ensemble.ping().await
    }
}

#[async_trait]
impl Sequencer for Zookeeper {
    fn features(&self) -> Features {
        Features { segments: false }
    }

    async fn next_id(&self, key: &PrefixedKey, _: &Metadata) -> Result<i64> {
        let path = path(key);
        let stat = self.ensemble.call(0, |session| count(session, path)).await?;
        check_persistent(key, &stat)?;
        // Beyond the greatest number of 32 bits the server goes on with the least.
        if stat.version <= 0 {
            return Err(exhausted());
        }
        let (id, bound) = (i64::from(stat.version), self.bound(key));
        if id <= bound {
            let message = format!("id {id} of key {} is not bigger than {bound}", key.0);
            return Err(Error::new(ErrorKind::FailedPrecondition, message));
        }
        Ok(id)
    }

    async fn ensure_bigger_than(&self, bounds: &BiggerThan) -> Result<()> {
        self.bounds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(bounds.clone());
        for (key, bound) in bounds {
            self.ensure(key, *bound).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
