//! HTTP/2: a connection carries many requests at a time; there are as few as the hosts' limits on
//! streams allow.

mod body;
mod life;
mod link;
mod pump;
mod window;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::time::Instant;

use self::life::Life;
pub(super) use self::{body::Body, link::Lease};
use super::{
    About, Failure, Fault, Protocol, connect,
    open::Open,
    sweep::{self, Sweep},
    wait::{Grants, Queue, Waiting},
};
use crate::cluster::{Cluster, Host, Permit};

/// After how many requests that were given up a connection gets no others. h2 forgets streams that it
/// reset when there are many, answers what the host still sends on each with another reset, and
/// gives the whole connection up in the end, with all that others have on it.
pub(super) const MOST_GIVEN_UP: usize = 8192;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    links: Vec<Link>,
    /// Whether a connection is being made.
    making: bool,
    /// Connections that exist, retired ones too.
    open: usize,
    waiting: Queue<Grant>,
    swept: bool,
    closed: bool,
}

/// A connection that takes requests.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Bytes>,
    /// Clones of it that requests gave back: a clone and its drop take h2's lock.
    spare: Vec<SendRequest<Bytes>>,
    about: About,
    life: Arc<Life>,
    active: usize,
    /// How many streams the host allowed when we last looked.
    room: usize,
    /// Requests that it may still begin.
    left: u32,
    /// Requests that were given up.
    given_up: usize,
    reused: bool,
    idle_since: Instant,
    idle_timeout: Option<Duration>,
}

#[derive(Debug)]
enum Grant {
    /// Send over this.
    Lease(Box<Lease>),
    /// Look again.
    Look,
    /// The connection that this waited for could not be made.
    Failed(Arc<str>),
}

/// The place of the connection that is being made.
#[derive(Debug)]
struct Making(Option<Arc<Pool>>);

/// An open connection in the count of its pool.
#[derive(Debug)]
struct Counted {
    pool: Weak<Pool>,
    number: u64,
    life: Arc<Life>,
    /// `None` until it is greeted.
    open: Option<Open>,
    _permit: Option<Permit>,
}

enum Step {
    Take(Lease),
    Make(Making, Option<Permit>),
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
                Step::Take(lease) => return Ok(lease),
                // Boxed, as a greeting takes much room and is seldom.
                Step::Make(making, permit) => {
                    return Box::pin(self.make(cluster, host, making, permit)).await;
                }
                Step::Wait(grant) => Waiting::new(self, grant),
            };
            if pending.is_none() {
                pending = Some(cluster.limits().try_pending()?);
            }
            match wait.granted().await {
                Some(Grant::Lease(lease)) => return Ok(*lease),
                Some(Grant::Look) => {}
                Some(Grant::Failed(why)) => return Err(Failure::new(Fault::Connect, &*why)),
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
        // A connection ends with its last request, once nobody can begin another one.
        let links = std::mem::take(&mut state.links);
        drop(state);
        links.into_iter().for_each(Link::retire);
    }

    fn step(self: &Arc<Self>, cluster: &Cluster, fresh: bool) -> Step {
        let mut state = self.state();
        if !fresh && let Some(lease) = self.take(&mut state) {
            return Step::Take(lease);
        }
        if state.making {
            return Step::Wait(state.waiting.push());
        }
        let permit = cluster.limits().try_connection().ok();
        if permit.is_none() {
            // There is no fresh one to be had, and nobody wakes who waits beside one with room.
            if let Some(lease) = self.take(&mut state) {
                return Step::Take(lease);
            }
            // As over HTTP/1.1, a pool may have one in spite of the limit.
            if !state.links.is_empty() {
                return Step::Wait(state.waiting.push());
            }
        }
        state.making = true;
        Step::Make(Making(Some(self.clone())), permit)
    }

    /// A place on the first connection that has one. Connections that are dead are forgotten.
    fn take(self: &Arc<Self>, state: &mut State) -> Option<Lease> {
        loop {
            let index = state.links.iter_mut().position(Link::has_room)?;
            let link = &mut state.links[index];
            let Some(lease) = link.lease(self.clone()) else {
                drop(state.links.swap_remove(index));
                continue;
            };
            if link.left == 0 {
                state.links.swap_remove(index).retire();
            }
            return Some(lease);
        }
    }

    /// A request over connection `number` is done.
    fn release(self: &Arc<Self>, number: u64, sender: SendRequest<Bytes>) {
        let mut state = self.state();
        let Some(link) = state.links.iter_mut().find(|link| link.about.number == number) else {
            return;
        };
        link.spare.push(sender);
        let idle = link.freed(1);
        self.freed(state, idle);
    }

    /// The host of connection `number` is told that `count` requests are given up. Their places are
    /// free only now: to the host, they were under way.
    fn told(self: &Arc<Self>, number: u64, count: usize) {
        let mut state = self.state();
        let Some(index) = state.links.iter().position(|link| link.about.number == number) else {
            return;
        };
        let link = &mut state.links[index];
        link.given_up += count;
        let idle = link.freed(count);
        let worn = (link.given_up >= MOST_GIVEN_UP).then(|| state.links.swap_remove(index));
        self.freed(state, idle);
        if let Some(link) = worn {
            link.retire();
        }
    }

    /// Places became free, or, where all of a connection's are, `idle`.
    fn freed(self: &Arc<Self>, mut state: MutexGuard<'_, State>, idle: bool) {
        if idle && !state.swept {
            state.swept = sweep::begin(self);
        }
        self.serve(state);
    }

    /// Serves those who wait, as far as connections have room. The lock is released before leases
    /// that nobody took are dropped, as they take it themselves.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut back = None;
        while !state.waiting.is_empty() && back.is_none() {
            let Some(lease) = self.take(&mut state) else {
                break;
            };
            back = state.waiting.grant(Grant::Lease(Box::new(lease))).err();
        }
        // The last connection may have been found dead, though its streams are not done.
        if state.links.is_empty() && !state.making {
            drop(state.waiting.grant(Grant::Look));
        }
        drop(state);
        drop(back);
    }

    async fn make(
        self: &Arc<Self>,
        cluster: &Cluster,
        host: &Host,
        making: Making,
        permit: Option<Permit>,
    ) -> Result<Lease, Failure> {
        let made = connect::connect(cluster, host, Protocol::Http2, async |stream| {
            let about = About::of(&stream);
            let counted = Counted::new(self, about.number, permit);
            let life = counted.life.clone();
            let sender = link::greet(stream, counted, host).await?;
            Ok::<_, io::Error>(Link::new(sender, about, life, cluster))
        });
        match made.await {
            Ok(link) => Ok(self.made(link, making)),
            Err(failure) => Err(making.failed(failure)),
        }
    }

    /// Takes in a connection, leases it to the one who made it, then to those who wait.
    fn made(self: &Arc<Self>, mut link: Link, mut making: Making) -> Lease {
        making.0 = None;
        let lease = link.lease_first(self.clone());
        let mut state = self.state();
        state.making = false;
        if link.left > 0 && !state.closed {
            state.links.push(link);
        } else {
            link.retire();
        }
        self.serve(state);
        // Whoever is first of those for whom there was no room makes the next one.
        drop(self.state().waiting.grant(Grant::Look));
        lease
    }

    fn gone(&self, number: u64) {
        let mut state = self.state();
        state.open -= 1;
        let link = state.links.iter().position(|link| link.about.number == number);
        let link = link.map(|index| state.links.swap_remove(index));
        if !state.making {
            drop(state.waiting.grant(Grant::Look));
        }
        drop(state);
        drop(link);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grants<Grant> for Arc<Pool> {
    fn give_back(&self, grant: Grant) {
        match grant {
            // Its drop releases the place, which serves the next.
            Grant::Lease(lease) => drop(lease),
            Grant::Look => drop(self.state().waiting.grant(Grant::Look)),
            Grant::Failed(_) => {}
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
        let links = std::mem::take(&mut state.links);
        let (kept, dead): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| !link.is_expired(now));
        state.links = kept;
        state.swept = !state.links.is_empty();
        let more = state.swept;
        drop(state);
        dead.into_iter().for_each(Link::retire);
        more
    }
}

impl Link {
    fn new(sender: SendRequest<Bytes>, about: About, life: Arc<Life>, cluster: &Cluster) -> Self {
        Self {
            room: sender.current_max_send_streams(),
            sender,
            spare: Vec::new(),
            about,
            life,
            active: 0,
            left: cluster.max_requests_per_connection().unwrap_or(u32::MAX),
            given_up: 0,
            reused: false,
            idle_since: Instant::now(),
            idle_timeout: cluster.idle_timeout(),
        }
    }

    /// `count` places are free; whether all are, and not for ever.
    fn freed(&mut self, count: usize) -> bool {
        self.active -= count;
        let idle = self.active == 0 && self.idle_timeout.is_some();
        if idle {
            self.idle_since = Instant::now();
        }
        idle
    }

    /// Where a host lowered its limit since, h2 holds back what is too much.
    fn has_room(&mut self) -> bool {
        if self.active >= self.room {
            self.room = self.sender.current_max_send_streams();
        }
        self.active < self.room
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.active == 0
            && self
                .idle_timeout
                .is_some_and(|limit| now - self.idle_since >= limit)
    }

    /// A place for a request; `None` once the host said farewell.
    fn lease(&mut self, pool: Arc<Pool>) -> Option<Lease> {
        let mut sender = self.spare.pop().unwrap_or_else(|| self.sender.clone());
        let mut cx = Context::from_waker(Waker::noop());
        match sender.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return None,
            // What it began last was given up, and is not even open.
            Poll::Pending => sender = self.sender.clone(),
        }
        Some(self.lend(sender, pool))
    }

    /// The first place, for the one who made the connection.
    fn lease_first(&mut self, pool: Arc<Pool>) -> Lease {
        self.lend(self.sender.clone(), pool)
    }

    fn lend(&mut self, sender: SendRequest<Bytes>, pool: Arc<Pool>) -> Lease {
        let place = link::Place::new(pool, self.about.number, self.life.clone(), sender);
        let lease = Lease::new(self.about, self.reused, place);
        self.active += 1;
        self.left -= 1;
        self.reused = true;
        lease
    }

    /// Lets the connection end once its requests are done.
    fn retire(self) {
        self.life.retire();
    }
}

impl Making {
    /// Those who wait for the same connection fail with the one who made it: one after the other
    /// they would all wait for the same time-out.
    fn failed(mut self, failure: Failure) -> Failure {
        let Some(pool) = self.0.take() else {
            return failure;
        };
        let why: Arc<str> = failure.told().into();
        let mut state = pool.state();
        state.making = false;
        while state.waiting.grant(Grant::Failed(why.clone())).is_ok() {}
        failure
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            let mut state = pool.state();
            state.making = false;
            drop(state.waiting.grant(Grant::Look));
        }
    }
}

impl Counted {
    fn new(pool: &Arc<Pool>, number: u64, permit: Option<Permit>) -> Self {
        pool.state().open += 1;
        Self {
            pool: Arc::downgrade(pool),
            number,
            life: Arc::default(),
            open: None,
            _permit: permit,
        }
    }

    /// The host is told that `count` requests are given up.
    fn told(&self, count: usize) {
        if let Some(pool) = self.pool.upgrade() {
            pool.told(self.number, count);
        }
        self.life.told(count);
    }

    /// The connection has ended; `broken`: not as it should.
    fn end(mut self, broken: bool) {
        if let Some(open) = &mut self.open {
            open.set_lost(broken || !self.life.is_retired());
            open.set_busy(self.life.requests() > 0);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.life.end();
        // The place is free for who is told.
        self._permit = None;
        self.open = None;
        if let Some(pool) = self.pool.upgrade() {
            pool.gone(self.number);
        }
    }
}
