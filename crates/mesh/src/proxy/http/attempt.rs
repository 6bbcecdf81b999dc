//! Sends a request to a host of its cluster, and to another one if that fails and may be repaired.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request, request};
use hyper::upgrade::OnUpgrade;
use tokio::time::sleep;

use super::{
    Http,
    flight::Flight,
    headers,
    refusal::Refusal,
    replay::Replay,
    reply::{self, Guards},
    retry::{Retries, Trouble},
    timing::{Over, Phase, Timing},
    tunnel,
};
use crate::{
    body::Body,
    cluster::{Cluster, Host, Outcome, Permit, Pick},
    exchange::{Exchange, Flags},
    filter::Response,
    reply::Kind,
    router::{Forward, Route},
    upstream::{Failure, Fault, Lease, Protocol, Reply},
};

/// How often a request that a host did nothing for is sent again, whatever the policy.
const REPLAYS: u32 = 2;

/// All tries of one request.
pub(super) struct Attempts<'a> {
    http: &'a Http,
    forward: &'a Forward,
    cluster: &'a Arc<Cluster>,
    exchange: &'a Exchange,
    /// `None` once it was sent for the last time.
    head: Option<request::Parts>,
    body: Replay,
    upgrade: Option<(HeaderValue, OnUpgrade)>,
    kind: Kind,
    protocol: Protocol,
    idempotent: bool,
    hash: u64,
    timing: Timing,
    retries: Retries<'a>,
    replays: u32,
    tried: Vec<Arc<Host>>,
    /// For the try that goes on, if it is not the first.
    permit: Option<Permit>,
    done: bool,
}

/// A try that failed.
#[derive(Debug)]
struct Failed {
    trouble: Trouble,
    refusal: Refusal,
    flags: Flags,
    /// The same host may be asked again at once, as it knows nothing of the request.
    untouched: bool,
    /// Nothing can be done.
    last: bool,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(
        http: &'a Http,
        (route, forward): (&Route, &'a Forward),
        protocol: Protocol,
        cluster: &'a Arc<Cluster>,
        exchange: &'a Exchange,
        kind: Kind,
        (mut head, body): (request::Parts, Body),
    ) -> Self {
        let timing = Timing::new(forward, &head, kind, exchange, http.settings.body_idle);
        let hash = forward.hash(&head, exchange);
        let upgrade = upgrade(&mut head, protocol);
        route.edit_request(&mut head, exchange);
        // What filters left there is not for the upstream's connection.
        head.extensions = http::Extensions::new();
        let policy = forward
            .retry
            .as_ref()
            .filter(|_| !exchange.facts().no_retry && upgrade.is_none());
        let retries = Retries::new(policy);
        // Over HTTP/2 the host may say that it did nothing for a request that it has in part.
        let keep = if retries.are_left() || protocol == Protocol::Http2 {
            http.settings.replay_bytes
        } else {
            0
        };
        Self {
            http,
            forward,
            cluster,
            exchange,
            idempotent: head.method.is_idempotent() && head.method != Method::CONNECT,
            head: Some(head),
            body: Replay::new(body, keep),
            upgrade,
            kind,
            protocol,
            hash,
            timing,
            retries,
            replays: REPLAYS,
            tried: Vec::new(),
            permit: None,
            done: false,
        }
    }

    /// The reply, or why there is none.
    pub(super) async fn run(&mut self) -> Result<Response, Refusal> {
        let reply = self.go_on().await;
        self.done = true;
        reply
    }

    async fn go_on(&mut self) -> Result<Response, Refusal> {
        let permit = match self.cluster.limits().try_request() {
            Ok(permit) => permit,
            Err(overflow) => return Err(self.refuse(&Failed::of(&overflow.into()))),
        };
        let mut before: Option<Failed> = None;
        let (mut host, mut fresh) = (None, false);
        loop {
            let chosen = match host.take() {
                Some(host) => host,
                None => match self.choose() {
                    Some(host) => host,
                    None => return Err(before.map_or_else(|| self.no_host(), |failed| self.refuse(&failed))),
                },
            };
            if !self.tried.is_empty() {
                count_retry(&chosen, before.as_ref());
            }
            let mut flight = Flight::begin(&chosen);
            let pause = match self.attempt(&chosen, fresh).await {
                Ok(reply) => match self.may_better(&reply).then(|| self.reserve()).flatten() {
                    Some(pause) => {
                        flight.end();
                        before = None;
                        pause
                    }
                    None => return Ok(self.finish(reply, (permit, flight))),
                },
                Err(failed) => {
                    failed.end(&mut flight);
                    if self.may_replay(&failed) {
                        (host, fresh) = (Some(chosen), true);
                        continue;
                    }
                    match self.may_retry(&failed).then(|| self.reserve()).flatten() {
                        Some(pause) => {
                            before = Some(failed);
                            pause
                        }
                        None => return Err(self.refuse(&failed)),
                    }
                }
            };
            drop(flight);
            fresh = false;
            self.tried.push(chosen);
            sleep(pause).await;
        }
    }

    fn choose(&self) -> Option<Arc<Host>> {
        self.cluster.choose(&Pick {
            hash: self.hash,
            tried: &self.tried,
        })
    }

    /// One try.
    async fn attempt(&mut self, host: &Arc<Host>, fresh: bool) -> Result<Reply, Failed> {
        {
            let mut facts = self.exchange.facts();
            facts.attempts += 1;
            if facts.cluster.is_none() {
                facts.cluster = Some(self.cluster.name.clone());
            }
            facts.upstream_host = Some(host.name.clone());
            facts.host = Some(host.clone());
        }
        self.timing.begin_try();
        let begun = Instant::now();
        let reply = self.exchange_with(host, fresh).await;
        // One that the same host gets once more counts with its last try, or a host that fails would
        // outweigh the others in what it is compared with.
        let counts = |failed: &Failed| failed.trouble.is_the_hosts() && !self.can_replay(failed);
        if reply.as_ref().err().is_none_or(counts) {
            host.record(Outcome {
                status: reply.as_ref().ok().map(|reply| reply.head.status),
                latency: begun.elapsed(),
            });
        }
        if let Err(failed) = &reply {
            tracing::debug!(host = %host.name, ?failed, "try failed");
        }
        reply
    }

    async fn exchange_with(&mut self, host: &Arc<Host>, fresh: bool) -> Result<Reply, Failed> {
        let progress = self.body.progress().cloned();
        let progress = progress.as_ref();
        let lease = host.pool.lease(self.protocol, self.cluster, host, fresh);
        let lease = self.timing.within(Phase::Connection, progress, lease).await;
        let lease = lease
            .map_err(Failed::over)?
            .map_err(|failure| self.failed(failure))?
            .on_behalf_of(self.exchange.connection());
        {
            let mut facts = self.exchange.facts();
            facts.upstream_local = lease.local();
            facts.upstream_connection = Some(lease.connection());
        }
        let request = self.request(host, &lease);
        let risky = lease.is_reused() && self.idempotent && self.body.is_empty();
        let reply = lease.send(request, progress);
        let reply = self.timing.within(Phase::Reply, progress, reply).await;
        match reply.map_err(Failed::over)? {
            Ok(reply) if reply.upgraded.is_some() && self.upgrade.is_none() => {
                Err(self.failed(Failure::new(Fault::Reset, "it changed protocols unasked")))
            }
            Ok(reply) => Ok(reply),
            Err(failure) => {
                let lost = risky && failure.fault == Fault::Terminated;
                let mut failed = self.failed(failure);
                failed.untouched |= lost;
                Err(failed)
            }
        }
    }

    /// The request for one try; the head stays here if there may be another.
    fn request(&mut self, host: &Host, lease: &Lease) -> Request<Body> {
        let again = self.retries.are_left() || self.may_be_replayed(lease);
        let head = if again {
            self.head.clone()
        } else {
            self.head.take()
        };
        let mut head = head.expect("invariant: kept while another try may follow");
        if self.forward.auto_host_rewrite
            && let Some(name) = &host.hostname
        {
            headers::set_host(&mut head, name);
        }
        let body = self.body.body();
        let name = host.hostname.as_ref().unwrap_or(&host.name);
        headers::fit(&mut head, &body, lease.protocol(), lease.is_secure(), name);
        if let Some((to, _)) = &self.upgrade {
            headers::want_upgrade(&mut head.headers, to.clone());
        }
        Request::from_parts(head, body)
    }

    /// Whether it may turn out that the host knows nothing of the request: over HTTP/1 if the
    /// connection was gone before anything was sent, over HTTP/2 if the host says so.
    fn may_be_replayed(&self, lease: &Lease) -> bool {
        match lease.protocol() {
            Protocol::Http1 => lease.is_reused(),
            Protocol::Http2 => self.replays > 0 && self.body.is_whole(),
        }
    }

    /// Whether the host knows nothing of the request, and it can be sent once more.
    fn may_replay(&mut self, failed: &Failed) -> bool {
        let may = self.can_replay(failed);
        self.replays -= u32::from(may);
        may
    }

    fn can_replay(&self, failed: &Failed) -> bool {
        failed.untouched && self.replays > 0 && self.head.is_some() && self.body.is_whole()
    }

    fn may_retry(&self, failed: &Failed) -> bool {
        !failed.last && self.head.is_some() && self.retries.want(failed.trouble) && self.body.is_whole()
    }

    /// Whether another try may better a reply. A body that is still being read stays with its try.
    fn may_better(&self, reply: &Reply) -> bool {
        let status = Trouble::Status(reply.head.status);
        self.head.is_some() && self.retries.want(status) && self.body.is_read() && self.body.is_whole()
    }

    /// Takes a place for another try; the answer is the pause before it. `None`: there is no time
    /// for it, or the cluster has too many.
    fn reserve(&mut self) -> Option<Duration> {
        let pause = self.retries.next();
        if !self.timing.allows(pause) {
            return None;
        }
        self.permit = None;
        self.permit = Some(self.cluster.limits().try_retry().ok()?);
        Some(pause)
    }

    fn finish(&mut self, mut reply: Reply, (permit, flight): (Permit, Flight)) -> Response {
        let mut facts = self.exchange.facts();
        facts.response_received = Some(self.exchange.elapsed());
        drop(facts);
        self.body.release();
        let upgraded = reply.upgraded.take();
        headers::strip_reply(&mut reply.head, upgraded.is_some());
        let mut guards = Guards::new(permit, flight, self.permit.take());
        if let (Some(upstream), Some((_, client))) = (upgraded, self.upgrade.take()) {
            guards.flight.end();
            let tunnel = tunnel::Tunnel::new(client, upstream, self.exchange.clone(), guards);
            tokio::spawn(tunnel.run(self.http.settings.tunnel_idle, self.http.drain.clone()));
            return Response::from_parts(reply.head, Body::empty());
        }
        let body = reply::body(reply.body, guards, &self.timing, self.kind, self.exchange);
        Response::from_parts(reply.head, body)
    }

    fn failed(&self, failure: Failure) -> Failed {
        self.exchange.facts().upstream_failure = Some(failure.told().into());
        Failed::of(&failure)
    }

    fn refuse(&self, failed: &Failed) -> Refusal {
        self.exchange.flag(failed.flags);
        failed.refusal
    }

    fn no_host(&self) -> Refusal {
        self.exchange.flag(Flags::NO_HEALTHY);
        Refusal::NO_HOST
    }
}

impl Drop for Attempts<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.exchange.flag(Flags::DOWNSTREAM_TERMINATE);
        }
    }
}

impl Failed {
    fn of(failure: &Failure) -> Self {
        let (refusal, flags) = Refusal::of(failure);
        let before = matches!(failure.fault, Fault::Connect | Fault::Overflow(_));
        Self {
            trouble: Trouble::Fault(failure.fault),
            refusal,
            flags,
            // To connect again at once would be a retry, which is for the policy to allow.
            untouched: failure.untouched && !before,
            last: false,
        }
    }

    /// Counts how the try ended.
    fn end(&self, flight: &mut Flight) {
        match self.trouble {
            Trouble::Fault(Fault::Connect | Fault::Overflow(_)) => flight.end(),
            Trouble::Fault(Fault::Reset | Fault::Terminated) => flight.lose(),
            Trouble::Timeout if self.flags == Flags::UPSTREAM_TIMEOUT => flight.time_out(),
            _ => {}
        }
    }

    fn over(over: Over) -> Self {
        let late = (Trouble::Timeout, Refusal::TIMEOUT, Flags::UPSTREAM_TIMEOUT);
        let (trouble, refusal, flags) = match over {
            Over::Try | Over::All => late,
            Over::Stalled => (
                Trouble::Fault(Fault::Request),
                Refusal::STALLED,
                Flags::DOWNSTREAM_TERMINATE,
            ),
        };
        Self {
            trouble,
            refusal,
            flags,
            untouched: false,
            last: over != Over::Try,
        }
    }
}

fn count_retry(host: &Host, before: Option<&Failed>) {
    let connect = before.is_some_and(|failed| failed.trouble == Trouble::Fault(Fault::Connect));
    host.count(|stats| {
        stats.request_retry.inc();
        if connect {
            stats.connection_retry.inc();
        }
    });
}

/// What the client wants to upgrade to, where it can be had. The head is stripped.
fn upgrade(head: &mut request::Parts, protocol: Protocol) -> Option<(HeaderValue, OnUpgrade)> {
    let wanted = headers::strip_request(head);
    let client = head.extensions.remove::<OnUpgrade>();
    wanted.zip(client).filter(|_| protocol == Protocol::Http1)
}
