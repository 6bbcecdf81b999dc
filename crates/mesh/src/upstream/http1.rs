//! HTTP/1.1: a connection carries one request at a time, and is kept for further ones.

mod body;
mod link;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use self::link::{Link, Place};
pub(super) use self::{body::Body, link::Lease};
use super::{
    Failure, Fault, Protocol, connect,
    sweep::{self, Sweep},
    wait::{Grants, Queue, Waiting},
};
use crate::cluster::{Cluster, Host, Permit};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The one used last is last, and taken first.
    idle: Vec<Idle>,
    /// Connections that exist or are being made.
    open: usize,
    waiting: Queue<Grant>,
    swept: bool,
    closed: bool,
}

#[derive(Debug)]
struct Idle {
    link: Box<Link>,
    since: Instant,
}

#[derive(Debug)]
enum Grant {
    /// Use this.
    Link(Box<Link>),
    /// A connection is gone: look again.
    Look,
}

enum Step {
    Take(Lease),
    Connect(Place, Option<Permit>),
    Wait(tokio::sync::oneshot::Receiver<Grant>),
}

impl Pool {
    pub(super) async fn lease(
        self: &Arc<Self>,
        cluster: &Cluster,
        host: &Host,
        fresh: bool,
    ) -> Result<Lease, Failure> {
        let mut pending = None;
        loop {
            let wait = match self.step(cluster, fresh) {
                Step::Take(mut lease) => match lease.is_alive() {
                    true => return Ok(lease),
                    false => continue,
                },
                // Boxed, as it takes much room and is seldom.
                Step::Connect(place, permit) => return Box::pin(make(cluster, host, place, permit)).await,
                Step::Wait(grant) => Waiting::new(self, grant),
            };
            if pending.is_none() {
                pending = Some(cluster.limits().try_pending()?);
            }
            match wait.granted().await {
                Some(Grant::Link(link)) => {
                    let mut lease = Lease::new(link, Place::taken(self.clone()));
                    if lease.is_alive() {
                        return Ok(lease);
                    }
                }
                Some(Grant::Look) => {}
                None => return Err(Failure::new(Fault::Connect, "the pool is closed")),
            }
        }
    }

    pub(super) fn open(&self) -> usize {
        self.state().open
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        state.open -= idle.len();
        drop(state);
        drop(idle);
    }

    /// One look at the pool. A pool without any connection may make one in spite of the limit:
    /// others of the cluster use it up, and nothing of ours would ever become free.
    fn step(self: &Arc<Self>, cluster: &Cluster, fresh: bool) -> Step {
        let mut state = self.state();
        if !fresh && let Some(idle) = state.idle.pop() {
            drop(state);
            let lease = Lease::new(idle.link, Place::taken(self.clone()));
            let expired = cluster
                .idle_timeout()
                .is_some_and(|limit| idle.since.elapsed() >= limit);
            return match expired {
                true => Step::Take(lease.expire()),
                false => Step::Take(lease),
            };
        }
        let permit = cluster.limits().try_connection().ok();
        if permit.is_none() && state.open > 0 {
            // Whoever wants a fresh one gets the place of an idle one.
            return match state.idle.pop() {
                Some(idle) => {
                    drop(state);
                    let (link, place) = (idle.link, Place::taken(self.clone()));
                    Step::Connect(place, link.close())
                }
                None => Step::Wait(state.waiting.push()),
            };
        }
        state.open += 1;
        Step::Connect(Place::taken(self.clone()), permit)
    }

    /// Takes back a connection that is free.
    fn put(self: &Arc<Self>, link: Box<Link>) {
        let mut state = self.state();
        if state.closed {
            state.open -= 1;
            drop(state);
            return drop(link);
        }
        let Err(Grant::Link(link)) = state.waiting.grant(Grant::Link(link)) else {
            return;
        };
        state.idle.push(Idle {
            link,
            since: Instant::now(),
        });
        if !state.swept {
            state.swept = sweep::begin(self);
        }
    }

    /// A connection is gone, or was never made.
    fn gone(&self) {
        let mut state = self.state();
        state.open -= 1;
        drop(state.waiting.grant(Grant::Look));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grants<Grant> for Arc<Pool> {
    fn give_back(&self, grant: Grant) {
        match grant {
            Grant::Link(link) => self.put(link),
            Grant::Look => drop(self.state().waiting.grant(Grant::Look)),
        }
    }

    fn forget(&self) {
        self.state().waiting.forget();
    }
}

impl Sweep for Pool {
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let (mut kept, mut dead) = (Vec::with_capacity(state.idle.len()), Vec::new());
        for mut idle in state.idle.drain(..) {
            let limit = idle.link.idle_timeout.unwrap_or(Duration::MAX);
            match now - idle.since < limit && idle.link.is_alive() {
                true => kept.push(idle),
                false => dead.push(idle),
            }
        }
        state.idle = kept;
        state.open -= dead.len();
        state.swept = !state.idle.is_empty();
        let more = state.swept;
        drop(state);
        drop(dead);
        more
    }
}

async fn make(
    cluster: &Cluster,
    host: &Host,
    place: Place,
    permit: Option<Permit>,
) -> Result<Lease, Failure> {
    let link = connect::connect(cluster, host, Protocol::Http1, async |stream| {
        Link::over(stream, cluster, host, permit).await
    });
    Ok(Lease::new(Box::new(link.await?), place))
}

#[cfg(test)]
impl Pool {
    /// Whether there are idle connections, and all of them are dead.
    pub(super) fn idle_are_dead(&self) -> bool {
        let mut state = self.state();
        !state.idle.is_empty() && state.idle.iter_mut().all(|idle| !idle.link.is_alive())
    }
}
