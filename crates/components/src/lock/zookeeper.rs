//! Locks in ZooKeeper: an ephemeral node with the owner's name, as Go Layotto has it.
//!
//! Each grant has a session of its own. Closing it is the one way to remove the node of exactly this
//! grant, whatever others do at the same time: a version does not tell two nodes of one path apart.
//! The session's time-out is at least the lease, so that a lock outlives its sidecar for as long as
//! its owner was promised.

mod grants;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Error, ErrorKind, Open, Result,
    lock::{Grant, LockStore, Owned, Status},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zookeeper_client::{Client, Error as Cause};

use self::grants::{Grants, Held};
use crate::client::zookeeper::{EPHEMERAL, Ensemble, Failure, Seconds, Unused, node, settings::settings};

/// The shortest time-out of a session that is asked for. Servers grant no less by default, and a
/// connection needs time to come back.
const SHORTEST: Duration = Duration::from_secs(4);
/// The longest one. Servers grant 40 seconds by default.
const LONGEST: Duration = Duration::from_secs(86_400);

settings! {
    /// Locks in ZooKeeper, shared with other sidecars, those in Go included. Every lock that is held
    /// takes a session, and so a connection, of its own: for few locks that must be had when a server is
    /// not there. Only the sidecar that got a lock can extend it.
    pub struct Config {
        /// The servers, `host:port`, with `;` in between.
        pub zookeeper_hosts: String,
        /// Not used, as with Go Layotto.
        #[serde(default)]
        pub zookeeper_password: Unused,
        /// How many seconds the servers keep a session whose connection is gone; that of a lock has a
        /// time of its own. Default 5.
        #[serde(default, rename = "SessionTimeout")]
        pub session_timeout: Seconds,
        /// Not used: the log has its own levels.
        #[serde(default, rename = "LogInfo")]
        pub log_info: Unused,
    }
}

/// A lock store in ZooKeeper.
pub struct Zookeeper {
    ensemble: Arc<Ensemble>,
    grants: Arc<Grants>,
    name: String,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Open for Zookeeper {
    const TYPE: &'static str = "zookeeper";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        let (servers, access) = (config.zookeeper_hosts.split(';'), config.access(&cx)?);
        let ensemble = Ensemble::shared(servers, config.session_timeout.into(), access, &cx).await?;
        // What is held outlives a component that is opened anew.
        let open = async || Ok(Grants::default());
        let grants = cx.shared.get_or_open(ensemble.servers(), open).await?;
        Ok(Self {
            ensemble,
            grants,
            name: cx.name,
            tasks: cx.tasks,
            shutdown: cx.shutdown,
        })
    }
}

/// What the servers say of a lock.
struct Found {
    owner: Vec<u8>,
    version: i32,
    session: i64,
}

impl Found {
    fn status(found: Option<&Self>, owner: &str) -> Status {
        match found {
            // An owner is a text; a node of somebody else may hold anything.
            Some(found) if found.owner == owner.as_bytes() => Status::Success,
            Some(_) => Status::BelongsToOthers,
            None => Status::Unexist,
        }
    }
}

impl Zookeeper {
    /// What the servers say, as new as what any sidecar did before.
    async fn look(&self, path: &str) -> Result<Option<Found>> {
        let path = path.to_owned();
        let look = |session: Client| async move { look(&session, &path).await };
        Ok(self.ensemble.call(0, look).await?)
    }

    /// What the servers say on the grant's own session; `None` where that is lost.
    async fn look_for(&self, held: &Held, path: &str) -> Result<Option<Option<Found>>> {
        let Some(session) = held.session() else {
            return Ok(None);
        };
        let path = path.to_owned();
        let look = async move { look(&session, &path).await };
        match self.ensemble.bounded(0, look).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Zookeeper(Cause::SessionExpired | Cause::ClientClosed)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The grant of this process to `owner`, if it is the one that the servers have.
    async fn own(&self, path: &str, owner: &str) -> Result<Option<Arc<Held>>> {
        let Some(held) = self.grants.held(path).filter(|held| held.owner == owner) else {
            return Ok(None);
        };
        let found = self.look_for(&held, path).await?.flatten();
        if found.is_some_and(|found| found.session == held.session_id) {
            return Ok(Some(held));
        }
        self.grants.take(path, &held);
        Ok(None)
    }

    /// Makes the node on a session of its own; `None` where there is one already.
    async fn make(&self, path: &str, owner: &str, lease: Duration) -> Result<Option<(Client, i64)>> {
        let session = self.ensemble.open(lease.clamp(SHORTEST, LONGEST)).await?;
        if session.session_timeout() < lease {
            tracing::warn!(
                component = self.name,
                granted = ?session.session_timeout(),
                ?lease,
                "a lock is lost before its lease ends if this sidecar is cut off for longer than the servers \
                 grant a session: raise their maxSessionTimeout"
            );
        }
        match session.create(path, owner.as_bytes(), &EPHEMERAL).await {
            Ok((stat, _)) => Ok(Some((session, stat.czxid))),
            Err(Cause::NodeExists) => Ok(None),
            Err(cause) => Err(Failure::from(cause).into()),
        }
    }
}

async fn look(session: &Client, path: &str) -> Result<Option<Found>, Cause> {
    let (synced, read) = futures::join!(session.sync(path), session.get_data(path));
    match synced.and(read) {
        Ok((owner, stat)) => Ok(Some(Found {
            owner,
            version: stat.version,
            session: stat.ephemeral_owner,
        })),
        Err(Cause::NoNode) => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn path(lock: &Owned) -> String {
    format!("/{}", node(&lock.resource.0))
}

#[async_trait]
impl Component for Zookeeper {
    async fn ping(&self) -> Result<()> {
        self.ensemble.ping().await
    }
}

#[async_trait]
impl LockStore for Zookeeper {
    async fn try_lock(&self, lock: &Owned, expire: Duration) -> Result<Grant> {
        let path = path(lock);
        let asked = path.clone();
        let stat = self
            .ensemble
            .call(0, |session| async move { session.check_stat(&asked).await });
        if stat.await?.is_some() {
            return Ok(Grant::Busy);
        }
        // Of those who try at once in this process one is enough: a session costs a connection. Only
        // now: where ZooKeeper is away nobody knows whether the lock is taken.
        let Some(_turn) = self.grants.turn(&path) else {
            return Ok(Grant::Busy);
        };
        let place = self.grants.place().ok_or_else(|| {
            let what = format!("this sidecar holds {} locks already", grants::MOST);
            Error::new(ErrorKind::ResourceExhausted, what)
        })?;
        let Some((session, token)) = self.make(&path, &lock.owner, expire).await? else {
            return Ok(Grant::Busy);
        };
        let held = Held::new(&lock.owner, token, session, expire, place);
        let watch = self.grants.hold(path, held, self.shutdown.clone());
        self.tasks.spawn(watch);
        Ok(Grant::Acquired {
            fencing_token: u64::try_from(token).ok(),
        })
    }

    async fn unlock(&self, lock: &Owned) -> Result<Status> {
        let path = path(lock);
        if let Some(held) = self.own(&path, &lock.owner).await? {
            if !self.grants.take(&path, &held) {
                return Ok(Status::Unexist);
            }
            held.close().await?;
            return Ok(Status::Success);
        }
        let found = self.look(&path).await?;
        let status = Found::status(found.as_ref(), &lock.owner);
        let Some(found) = found.filter(|_| status == Status::Success) else {
            return Ok(status);
        };
        let delete = |session: Client| async move { session.delete(&path, Some(found.version)).await };
        match self.ensemble.call(0, delete).await {
            Ok(()) => Ok(Status::Success),
            Err(Failure::Zookeeper(Cause::NoNode)) => Ok(Status::Unexist),
            Err(Failure::Zookeeper(Cause::BadVersion)) => Ok(Status::BelongsToOthers),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn keep_alive(&self, lock: &Owned, expire: Duration) -> Result<(Status, Option<u64>)> {
        let path = path(lock);
        if let Some(held) = self.own(&path, &lock.owner).await? {
            if !self.grants.extend(&path, &held, expire) {
                return Ok((Status::Unexist, None));
            }
            return Ok((Status::Success, u64::try_from(held.token).ok()));
        }
        let found = self.look(&path).await?;
        match Found::status(found.as_ref(), &lock.owner) {
            Status::Success => {
                tracing::warn!(
                    component = self.name,
                    resource = lock.resource.0,
                    "the lock was granted by another sidecar, or by an earlier process of this one, and only that one can extend it"
                );
                Ok((Status::InternalError, None))
            }
            status => Ok((status, None)),
        }
    }
}

#[cfg(test)]
mod tests;
