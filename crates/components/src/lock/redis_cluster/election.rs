//! Who gets a lock: one try, put to every server.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use layotto_core::{Error, Result, lock::Owned};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{FIRST, STRAGGLERS, Servers};

/// What came of a try.
pub(super) enum Vote {
    /// Most servers granted it, under this token.
    Won(u64),
    /// Somebody else has the lock.
    Lost,
    /// Nobody is known to have most of the servers: several ask at once, or some are away, for this
    /// reason.
    Split(Option<Error>),
}

/// A try to get a lock. Unless it is [kept](Self::keep), what it got is given back when it is
/// dropped, also what a slow server grants later.
pub(super) struct Election {
    servers: Arc<Servers>,
    tasks: TaskTracker,
    candidate: Arc<Candidate>,
    verdict: watch::Sender<Verdict>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    /// How many servers were asked.
    asked: usize,
}

struct Candidate {
    lock: Owned,
    expire: Duration,
    /// What tells this try from the owner's others.
    name: String,
    /// The owner gave the lock back: what a slow server grants from now on is given back, too.
    released: AtomicBool,
    winners: Arc<Winners>,
}

/// The tries that got their locks, while there are servers that did not answer them yet.
#[derive(Default)]
pub(super) struct Winners(Mutex<HashMap<Name, Weak<Candidate>>>);

/// Resource and owner.
type Name = (String, String);

impl Winners {
    /// The owner gives the lock back. To be called before any server is told.
    pub(super) fn release(&self, lock: &Owned) {
        let found = self.all().remove(&name(lock));
        if let Some(candidate) = found.and_then(|candidate| candidate.upgrade()) {
            candidate.released.store(true, SeqCst);
        }
    }

    fn add(&self, candidate: &Arc<Candidate>) {
        let of = Arc::downgrade(candidate);
        self.all().insert(name(&candidate.lock), of);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Name, Weak<Candidate>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(lock: &Owned) -> Name {
    (lock.resource.0.clone(), lock.owner.clone())
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let mut all = self.winners.all();
        let name = name(&self.lock);
        // Another try of the owner's may have its place by now.
        if all.get(&name).is_some_and(|other| other.strong_count() == 0) {
            all.remove(&name);
        }
    }
}

/// What the servers are told once they have answered.
#[derive(Debug, Clone, Copy, Default)]
struct Verdict {
    /// The token under which the lock is granted.
    token: Option<u64>,
    /// The lock is the owner's for good.
    kept: bool,
}

enum Event {
    /// A server proposes a token, or refuses.
    Taken(Result<Option<u64>>),
    /// A server knows under which token the lock is granted; or the try has it no more.
    Granted(Result<bool>),
}

impl Election {
    pub(super) fn new(servers: &Arc<Servers>, tasks: &TaskTracker, lock: &Owned, expire: Duration) -> Self {
        // As many events as there can be: nobody waits for a place.
        let (sender, events) = mpsc::channel(2 * servers.count());
        Self {
            servers: Arc::clone(servers),
            tasks: tasks.clone(),
            candidate: Arc::new(Candidate {
                lock: lock.clone(),
                expire,
                name: Uuid::new_v4().simple().to_string(),
                released: AtomicBool::default(),
                winners: Arc::clone(&servers.winners),
            }),
            verdict: watch::Sender::default(),
            events,
            sender,
            asked: 0,
        }
    }

    /// Asks one server before all others: whoever is refused there leaves them to who is not, so
    /// that many that ask at once do not split the servers among them. One that does not answer is
    /// not waited for. One that is alone in refusing counts for one, unless the caller is `patient`
    /// with a holder that may be about to get the others.
    pub(super) async fn hold(&mut self, patient: bool) -> Result<Vote> {
        let (quorum, spare) = (self.servers.quorum(), self.spare());
        let (mut tokens, mut refusals, mut failures) = (Vec::new(), 0, Vec::new());
        let mut is_first = true;
        self.ask(1);
        // Until there is a majority, or can be none.
        while tokens.len() < quorum && refusals + failures.len() <= spare {
            let patience = match is_first {
                true => FIRST.min(self.candidate.expire / 40),
                false => self.candidate.expire,
            };
            match timeout(patience, self.events.recv()).await {
                Ok(Some(Event::Taken(Err(error)))) => {
                    failures.push(error);
                    // The next one is the first then.
                    self.ask(1);
                    continue;
                }
                Ok(Some(Event::Taken(Ok(Some(token))))) => tokens.push(token),
                Ok(Some(Event::Taken(Ok(None)))) => {
                    if is_first && self.servers.hold(&self.candidate.lock).await {
                        return Ok(Vote::Lost);
                    }
                    if is_first && patient {
                        return Ok(Vote::Split(failures.pop()));
                    }
                    refusals += 1;
                }
                Ok(Some(Event::Granted(_)) | None) | Err(_) => {}
            }
            is_first = false;
            self.ask(self.servers.count());
        }
        if tokens.len() >= quorum {
            let token = tokens.into_iter().max().unwrap_or_default();
            return Ok(match self.confirm(token, refusals + failures.len()).await? {
                true => Vote::Won(token),
                false => Vote::Split(None),
            });
        }
        match failures.pop() {
            Some(error) if failures.len() >= spare => Err(error),
            _ if refusals >= quorum => Ok(Vote::Lost),
            failure => Ok(Vote::Split(failure)),
        }
    }

    /// Leaves the lock with its owner.
    pub(super) fn keep(self) {
        self.candidate.winners.add(&self.candidate);
        self.verdict.send_modify(|verdict| verdict.kept = true);
    }

    /// How many servers a majority can do without.
    fn spare(&self) -> usize {
        self.servers.count() - self.servers.quorum()
    }

    /// Asks up to `more` of the servers that were not asked yet.
    fn ask(&mut self, more: usize) {
        let until = self.servers.count().min(self.asked + more);
        for server in self.asked..until {
            let (servers, candidate) = (Arc::clone(&self.servers), Arc::clone(&self.candidate));
            let (verdict, events) = (self.verdict.subscribe(), self.sender.clone());
            // After its end the lease needs no care any more.
            let limit = candidate.expire;
            self.tasks.spawn(timeout(limit, async move {
                candidate.stand(&servers, server, verdict, &events).await;
            }));
        }
        self.asked = until;
    }

    /// Writes the token to most servers, so that the next grant, which has one of them in common,
    /// gets a greater one. So many servers are `lost` for it already.
    async fn confirm(&mut self, token: u64, mut lost: usize) -> Result<bool> {
        self.verdict.send_modify(|verdict| verdict.token = Some(token));
        let mut confirmed = 0;
        while confirmed < self.servers.quorum() {
            match self.events.recv().await {
                Some(Event::Granted(Ok(true))) => confirmed += 1,
                Some(Event::Granted(Ok(false)) | Event::Taken(Ok(None))) => lost += 1,
                Some(Event::Granted(Err(error)) | Event::Taken(Err(error))) => {
                    lost += 1;
                    if lost > self.spare() {
                        return Err(error);
                    }
                }
                Some(Event::Taken(Ok(Some(_)))) => {}
                None => return Ok(false),
            }
            if lost > self.spare() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Candidate {
    /// Asks one server for the lock and then does what the verdict says.
    async fn stand(
        &self,
        servers: &Servers,
        server: usize,
        mut verdict: watch::Receiver<Verdict>,
        events: &mpsc::Sender<Event>,
    ) {
        let Some(client) = servers.clients.get(server) else {
            return;
        };
        let leases = &servers.leases;
        let (mut taken, mut released) = (false, false);
        tokio::select! {
            answer = leases.take(client, &self.lock, self.expire, &self.name) => {
                if let Ok(None) = answer {
                    drop(events.send(Event::Taken(answer)).await);
                    return;
                }
                taken = answer.is_ok();
                // Too late for the server to be told by who gave the lock back.
                released = self.released.load(SeqCst);
                // Nobody may listen any more.
                drop(events.send(Event::Taken(answer)).await);
            }
            () = over(verdict.clone()) => {}
        }
        if taken && let Some(token) = granted(&mut verdict).await {
            let granted = leases.grant(client, &self.lock, &self.name, token).await;
            drop(events.send(Event::Granted(granted)).await);
        }
        while verdict.changed().await.is_ok() {}
        let kept = taken && !released && verdict.borrow().kept;
        if !kept && let Err(error) = leases.undo(client, &self.lock, &self.name).await {
            tracing::debug!(%error, "a lock that was not got in time stays until its lease ends");
        }
    }
}

/// The token under which the lock is granted, if it is.
async fn granted(verdict: &mut watch::Receiver<Verdict>) -> Option<u64> {
    let verdict = verdict.wait_for(|verdict| verdict.token.is_some()).await;
    verdict.ok().and_then(|verdict| verdict.token)
}

/// Waits until nobody waits for the answer of a slow server any more.
async fn over(mut verdict: watch::Receiver<Verdict>) {
    while verdict.changed().await.is_ok() {}
    if verdict.borrow().kept {
        sleep(STRAGGLERS).await;
    }
}

#[cfg(test)]
mod tests {
    use layotto_core::{
        Context, Open, Settings,
        key_prefix::PrefixedKey,
        lock::{LockStore, Status},
    };
    use layotto_testkit::{needs, server::redis};

    use super::{
        super::{Config, RedisCluster},
        *,
    };

    async fn locks(hosts: &str) -> RedisCluster {
        let settings = Settings::from_iter([("redisHosts", hosts)]);
        let config: Config = settings.parse().unwrap().config;
        let cx = Context::standalone("test", std::env::temp_dir());
        RedisCluster::open(config, cx).await.unwrap()
    }

    fn lock() -> Owned {
        Owned {
            resource: PrefixedKey("r".to_owned()),
            owner: "a".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_failed_before_grants_nothing_later() {
        let locks = locks("127.0.0.1:1,127.0.0.1:2,127.0.0.1:3").await;
        let mut election = Election::new(&locks.servers, &locks.tasks, &lock(), Duration::from_secs(30));
        // All were asked, and this is what comes of it.
        election.asked = locks.servers.count();
        for event in [
            Event::Taken(Err(Error::unavailable("it is away"))),
            Event::Taken(Ok(Some(1))),
            Event::Taken(Ok(Some(2))),
            Event::Granted(Ok(true)),
            Event::Granted(Ok(false)),
        ] {
            election.sender.try_send(event).ok().unwrap();
        }
        let vote = timeout(Duration::from_secs(3), election.hold(true)).await;
        assert!(matches!(vote, Ok(Ok(Vote::Split(None)))), "two of three are lost");
    }

    #[tokio::test]
    async fn a_server_that_grants_after_the_owner_gave_the_lock_back_keeps_nothing() {
        needs!(redis::PROGRAM);
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(redis::start(&[]).await.unwrap());
        }
        let hosts: Vec<_> = servers
            .iter()
            .map(|server| server.address().to_string())
            .collect();
        let locks = locks(&hosts.join(",")).await;
        let mut election = Election::new(&locks.servers, &locks.tasks, &lock(), Duration::from_secs(30));
        election.ask(2);
        let mut token = 0;
        for _ in 0..2 {
            let Some(Event::Taken(Ok(Some(one)))) = election.events.recv().await else {
                panic!("a free lock is not granted");
            };
            token = token.max(one);
        }
        assert!(election.confirm(token, 0).await.unwrap());
        let (candidate, verdict) = (Arc::clone(&election.candidate), election.verdict.subscribe());
        let events = election.sender.clone();
        election.keep();
        assert_eq!(locks.unlock(&lock()).await.unwrap(), Status::Success);
        candidate.stand(&locks.servers, 2, verdict, &events).await;
        let held = redis::cli(&servers[2], &["exists", "r"]).unwrap();
        assert_eq!(held.trim(), "0");
        drop(candidate);
        assert!(locks.servers.winners.all().is_empty());
    }
}
