//! etcd: the client that components of all kinds share.
//!
//! Speaks etcd's API v3 over one HTTP/2 connection to one of the nodes, and goes over to another
//! when that one is away, knows no leader, or stops answering. A request is repeated only where it
//! cannot have been carried out, or where the caller says that twice is as good as once.
//! Nothing is connected before the first request.

mod failure;
mod lease;
mod link;
mod session;
mod settings;
mod tls;
mod token;
mod watch;
pub(crate) mod wire;

use std::{sync::Arc, time::Duration};

use layotto_core::{Context, Error, ErrorKind, Result};
use prost::Message;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

pub use self::settings::{Endpoints, Settings};
use self::{
    failure::Failure,
    link::Link,
    session::{Manner, Session},
    settings::Target,
    token::Token,
    wire::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseRevokeRequest, LeaseRevokeResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    },
};
pub(crate) use self::{
    failure::was_refused,
    lease::{Lease, random_id},
    watch::{Ended, Watching},
};

/// The longest lease that etcd grants, in seconds.
const LONGEST_LEASE: i64 = 9_000_000_000;
/// Leases that are revoked at once; what finds no place ends by its own time.
const REVOCATIONS: usize = 1024;
/// How long a lease that is no longer needed is tried to be revoked.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a grant that nobody waited for may take to be carried out.
const LATE_GRANT: Duration = Duration::from_secs(1);
/// How often a chosen id may be taken already.
const GRANTS: usize = 8;

/// A client of one cluster, shared by the components that reach it in the same way.
pub(crate) struct Client {
    link: Link,
    token: Token,
    revocations: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// Whether a request may be made again when nobody knows whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice may be more than once.
    Never,
    /// Twice is as good as once.
    Safe,
}

/// How a call is to be made.
#[derive(Clone, Copy)]
struct Call {
    path: &'static str,
    repeat: Repeat,
    needs_leader: bool,
}

impl Client {
    /// The client for `settings`, shared with the other components that have the same; `key` is
    /// the name of the nodes' setting.
    pub(crate) async fn shared(settings: &Settings, key: &str, cx: &Context) -> Result<Arc<Self>> {
        let target = Target::new(settings, key, cx)?;
        let name = target.fingerprint();
        cx.shared
            .get_or_open(&name, async || Ok(Self::new(target, cx)))
            .await
    }

    fn new(target: Target, cx: &Context) -> Self {
        Self {
            token: Token::new(target.credentials.clone()),
            link: Link::new(target, cx),
            revocations: Arc::new(Semaphore::new(REVOCATIONS)),
            tasks: cx.tasks.clone(),
        }
    }

    /// Whether the cluster is there. Until the first request, that something listens at a node is
    /// enough; then a majority must answer a read of `key`, whether the user may read it or not.
    pub(crate) async fn ping(&self, key: &str) -> Result<()> {
        if !self.link.is_used() {
            return self.link.reach().await;
        }
        let request = RangeRequest {
            keys_only: true,
            ..RangeRequest::one(key.to_owned())
        };
        match self.call::<_, RangeResponse>(read(false), request).await {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            other => other.map(drop),
        }
    }

    /// Reads keys; where the request is serializable, from a node that may lag behind.
    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.call(read(request.serializable), request).await
    }

    /// Reads many ranges at once. All of them or none are serializable.
    pub(crate) async fn read(&self, ranges: Vec<RangeRequest>) -> Result<TxnResponse> {
        let serializable = ranges.iter().all(|range| range.serializable);
        let request = TxnRequest {
            success: ranges.into_iter().map(Into::into).collect(),
            ..TxnRequest::default()
        };
        let call = Call {
            path: "/etcdserverpb.KV/Txn",
            ..read(serializable)
        };
        self.call(call, request).await
    }

    /// Carries out a transaction.
    pub(crate) async fn txn(&self, request: TxnRequest, repeat: Repeat) -> Result<TxnResponse> {
        self.call(write("/etcdserverpb.KV/Txn", repeat), request).await
    }

    /// A lease of `seconds`, or a little more where that is less than the nodes' least time.
    /// `choose` gives its id, again where the id is taken.
    pub(crate) async fn grant(
        self: &Arc<Self>,
        seconds: u64,
        mut choose: impl FnMut() -> i64,
    ) -> Result<Lease> {
        let ttl = i64::try_from(seconds)
            .unwrap_or(LONGEST_LEASE)
            .clamp(1, LONGEST_LEASE);
        for _ in 0..GRANTS {
            let mut lease = Lease::new(Arc::clone(self), choose());
            let request = LeaseGrantRequest { ttl, id: lease.id() };
            let call = write("/etcdserverpb.Lease/LeaseGrant", Repeat::Never);
            match self.try_call::<_, LeaseGrantResponse>(call, request).await {
                Ok(granted) => {
                    lease.granted = granted.ttl;
                    return Ok(lease);
                }
                Err(Failed::Answer(failure)) if failure.is_lease_taken() => {
                    // Not ours to revoke.
                    lease.keep();
                }
                Err(failed) => return Err(failed.into()),
            }
        }
        Err(Error::internal("etcd: no lease id is free"))
    }

    /// Sets the time of a lease back to what was granted, in seconds; `None` where it is gone.
    pub(crate) async fn keep_alive(&self, lease: i64) -> Result<Option<i64>> {
        let call = write("/etcdserverpb.Lease/LeaseKeepAlive", Repeat::Safe);
        let mut tries = Tries::new(&self.link);
        let answer = loop {
            let (session, manner) = self.ready(call).await?;
            match keep_alive_over(&session, &manner, call.path, lease).await {
                Ok(answer) => break answer,
                Err(failure) => self.judge(call, (&session, &manner), failure, &mut tries).await?,
            }
        };
        Ok((answer.ttl > 0).then_some(answer.ttl))
    }

    /// Revokes a lease that is no longer needed, in the background. Where that fails, it ends by
    /// its own time.
    pub(crate) fn revoke_later(self: &Arc<Self>, lease: i64) {
        self.revoke_in_background(lease, false);
    }

    /// `may_come`: nobody waited for the grant, so that it may yet be carried out.
    fn revoke_in_background(self: &Arc<Self>, lease: i64, may_come: bool) {
        let Ok(place) = Arc::clone(&self.revocations).try_acquire_owned() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let client = Arc::clone(self);
        let revoke = async move {
            let revoking = async {
                if !client.revoke(lease).await? && may_come {
                    sleep(LATE_GRANT).await;
                    client.revoke(lease).await?;
                }
                Ok::<_, Error>(())
            };
            match timeout(REVOCATION_TIMEOUT, revoking).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a lease is left to its time"),
                Err(_) => tracing::debug!("a lease is left to its time"),
            }
            drop(place);
        };
        self.tasks.spawn_on(revoke, &runtime);
    }

    /// Whether there was such a lease.
    async fn revoke(&self, lease: i64) -> Result<bool> {
        let call = write("/etcdserverpb.Lease/LeaseRevoke", Repeat::Safe);
        let request = LeaseRevokeRequest { id: lease };
        match self.try_call::<_, LeaseRevokeResponse>(call, request).await {
            Ok(_) => Ok(true),
            Err(Failed::Answer(failure)) if failure.is_lease_gone() => Ok(false),
            Err(failed) => Err(failed.into()),
        }
    }

    async fn call<Q, A>(&self, call: Call, request: Q) -> Result<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        Ok(self.try_call(call, request).await?)
    }

    async fn try_call<Q, A>(&self, call: Call, request: Q) -> Result<A, Failed>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut tries = Tries::new(&self.link);
        loop {
            let (session, manner) = self.ready(call).await?;
            match session.unary(call.path, request.clone(), &manner).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.judge(call, (&session, &manner), failure, &mut tries).await?,
            }
        }
    }

    async fn ready(&self, call: Call) -> Result<(Session, Manner)> {
        let session = self.link.session().await?;
        let manner = Manner {
            token: self.token.get(&session).await?,
            needs_leader: call.needs_leader,
        };
        Ok((session, manner))
    }

    /// What follows from a failure: another try, or the end of the call.
    async fn judge(
        &self,
        call: Call,
        (session, manner): (&Session, &Manner),
        failure: Failure,
        tries: &mut Tries,
    ) -> Result<(), Failed> {
        if failure.is_about_the_token() && self.token.is_needed() && !tries.has_new_token {
            self.token.forget(manner.token.as_ref()).await;
            tries.has_new_token = true;
            return Ok(());
        }
        let had_no_effect = failure.had_no_effect();
        let is_transient = had_no_effect || failure.is_transient();
        let has_another = self.link.nodes() > 1 || !failure.is_answer();
        if is_transient && has_another {
            self.link.leave(session);
        }
        tries.left -= 1;
        let is_safe = had_no_effect || call.repeat == Repeat::Safe;
        if is_transient && is_safe && has_another && tries.left > 0 {
            return Ok(());
        }
        Err(Failed::Answer(failure))
    }
}

/// What is left of a call's tries.
struct Tries {
    left: usize,
    has_new_token: bool,
}

impl Tries {
    /// One for each node, and one more over a new connection where there is one node.
    fn new(link: &Link) -> Self {
        Self {
            left: link.nodes().max(2),
            has_new_token: false,
        }
    }
}

async fn keep_alive_over(
    session: &Session,
    manner: &Manner,
    path: &'static str,
    lease: i64,
) -> Result<LeaseKeepAliveResponse, Failure> {
    let requests = futures::stream::iter([LeaseKeepAliveRequest { id: lease }]);
    let mut answers = session.streaming(path, requests, manner).await?;
    let answer = answers.message().await?;
    answer.ok_or_else(|| tonic::Status::unavailable("etcdserver: no answer to a keep-alive").into())
}

/// Why there is no answer.
enum Failed {
    /// The call was made.
    Answer(Failure),
    /// It was not.
    Before(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Answer(failure) => failure.into_error(),
            Failed::Before(error) => error,
        }
    }
}

fn read(serializable: bool) -> Call {
    Call {
        path: "/etcdserverpb.KV/Range",
        repeat: Repeat::Safe,
        needs_leader: !serializable,
    }
}

fn write(path: &'static str, repeat: Repeat) -> Call {
    Call {
        path,
        repeat,
        needs_leader: true,
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
