//! A Redis Cluster: which server has which slot, and what is done when one has it no more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use layotto_core::{Error, Result};
use redis::{Cmd, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::time::{Instant, sleep};

use super::{
    failure,
    link::{Place, Spacing},
    server::{Batch, Held, Lane, Server, Trouble},
    settings::{Address, Connection},
};

/// How often one call is sent on to another server.
const REDIRECTS: u32 = 5;
/// The least time between two looks at the slots.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many servers are asked for the slots at once.
const ASKED: usize = 6;
/// How long a server may take to tell the slots.
const PATIENCE: Duration = Duration::from_secs(1);
/// The wait before a call is tried again while its slot moves.
const MOVING: Duration = Duration::from_millis(20);

/// The servers of a cluster.
pub(super) struct Cluster {
    settings: Arc<Connection>,
    spacing: Arc<Spacing>,
    servers: Mutex<HashMap<Address, Arc<Server>>>,
    map: RwLock<Arc<Map>>,
    /// When the slots were looked at last; held while somebody does.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

/// Which server has which slots: first, last, server; in order.
#[derive(Default)]
struct Map(Vec<(u16, u16, Arc<Server>)>);

impl Map {
    fn owner(&self, slot: u16) -> Option<&Arc<Server>> {
        let next = self.0.partition_point(|(first, ..)| *first <= slot);
        let (_, last, server) = self.0.get(next.checked_sub(1)?)?;
        (slot <= *last).then_some(server)
    }
}

/// What to do with a batch that its server did not carry out.
enum Next {
    /// The slot has moved for good.
    Moved(Address),
    /// The slot is moving; this key has moved.
    Ask(Address),
    /// The slot is moving; the keys are in both places.
    Wait,
    /// The server does not serve the slot any more.
    Look,
}

/// A server, and its batches with their places among all.
type Part = (Arc<Server>, Vec<usize>, Vec<Vec<Cmd>>);

impl Cluster {
    pub(super) fn new(settings: Arc<Connection>) -> Self {
        Self {
            settings,
            spacing: Arc::default(),
            servers: Mutex::default(),
            map: RwLock::default(),
            looked: tokio::sync::Mutex::default(),
        }
    }

    /// Sends `batch`, whose keys are all in `slot`, to the server that has it.
    pub(super) async fn exchange(
        &self,
        slot: u16,
        lane: Lane,
        batch: Batch<'_>,
    ) -> Result<(Vec<Value>, Held)> {
        let (mut map, mut target) = self.owner(slot).await?;
        let mut asking = None;
        for _ in 0..REDIRECTS {
            let sent = match &asking {
                None => target.exchange(lane, batch).await,
                Some(asking) => target.exchange(lane, Batch::Many(asking)).await,
            };
            let (mut replies, held) = match sent {
                Ok(sent) => sent,
                Err(Trouble::Unsent(error)) => {
                    // Another may have taken over.
                    let (newer, other) = self.newer(slot, &map).await.map_err(|_| error_copy(&error))?;
                    if Arc::ptr_eq(&other, &target) {
                        return Err(error);
                    }
                    (map, target, asking) = (newer, other, None);
                    continue;
                }
                Err(trouble) => return Err(trouble.into()),
            };
            if asking.is_some() {
                replies = replies.into_iter().skip(1).step_by(2).collect();
            }
            let Some(next) = replies.iter().find_map(|reply| next(reply, &target)) else {
                return Ok((replies, held));
            };
            asking = None;
            match next {
                Next::Moved(address) => {
                    self.look(&map).await.ok();
                    (map, target) = (self.map(), self.server(address));
                }
                Next::Ask(address) => {
                    target = self.server(address);
                    asking = Some(batch.asking());
                }
                Next::Wait => sleep(MOVING).await,
                Next::Look => match self.newer(slot, &map).await {
                    Ok((newer, other)) if !Arc::ptr_eq(&other, &target) => (map, target) = (newer, other),
                    _ => return Ok((replies, held)),
                },
            }
        }
        Err(Error::unavailable("the cluster moves the keys of this call"))
    }

    /// Sends many batches, in one round trip to each server; each has its own replies. Those that a
    /// server did not carry out are sent on one by one.
    pub(super) async fn exchange_each(&self, requests: Vec<(u16, Vec<Cmd>)>) -> Vec<Result<Vec<Value>>> {
        let mut parts: Vec<Part> = Vec::new();
        let mut outcomes: Vec<Option<Result<Vec<Value>>>> = Vec::with_capacity(requests.len());
        for (at, (slot, commands)) in requests.iter().enumerate() {
            outcomes.push(None);
            let server = match self.server_of(*slot).await {
                Ok(server) => server,
                Err(error) => {
                    outcomes[at] = Some(Err(error));
                    continue;
                }
            };
            match parts.iter_mut().find(|(other, ..)| Arc::ptr_eq(other, &server)) {
                Some((_, places, batches)) => {
                    places.push(at);
                    batches.push(commands.clone());
                }
                None => parts.push((server, vec![at], vec![commands.clone()])),
            }
        }
        let seen = self.map();
        let sent = parts.into_iter().map(|(server, places, batches)| async move {
            let replies = server.exchange_each(batches).await;
            (server, places, replies)
        });
        for (server, places, sent) in join_all(sent).await {
            for (at, sent) in places.into_iter().zip(sent) {
                let again = match &sent {
                    Ok(replies) => match replies.iter().find_map(|reply| next(reply, &server)) {
                        Some(Next::Look) => self.has_left(requests[at].0, &server, &seen).await,
                        other => other.is_some(),
                    },
                    Err(trouble) => matches!(trouble, Trouble::Unsent(_)),
                };
                outcomes[at] = match again {
                    true => None,
                    false => Some(sent.map_err(Into::into)),
                };
            }
        }
        let mut all = Vec::with_capacity(outcomes.len());
        for (outcome, (slot, commands)) in outcomes.into_iter().zip(requests) {
            all.push(match outcome {
                Some(outcome) => outcome,
                None => self.exchange_commands(slot, commands).await,
            });
        }
        all
    }

    /// Whether `slot` is with another server now.
    async fn has_left(&self, slot: u16, server: &Arc<Server>, seen: &Arc<Map>) -> bool {
        let now = self.newer(slot, seen).await;
        now.is_ok_and(|(_, other)| !Arc::ptr_eq(&other, server))
    }

    async fn exchange_commands(&self, slot: u16, commands: Vec<Cmd>) -> Result<Vec<Value>> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command);
        }
        let (replies, _) = self.exchange(slot, Lane::Shared, Batch::Many(&pipeline)).await?;
        Ok(replies)
    }

    /// The server that has `slot`.
    pub(super) async fn server_of(&self, slot: u16) -> Result<Arc<Server>> {
        self.owner(slot).await.map(|(_, server)| server)
    }

    async fn owner(&self, slot: u16) -> Result<(Arc<Map>, Arc<Server>)> {
        let map = self.map();
        match map.owner(slot).cloned() {
            Some(server) => Ok((map, server)),
            None => self.newer(slot, &map).await,
        }
    }

    /// The server that has `slot` in a map newer than `seen`, if there is one.
    async fn newer(&self, slot: u16, seen: &Arc<Map>) -> Result<(Arc<Map>, Arc<Server>)> {
        self.look(seen).await?;
        let map = self.map();
        let server = map.owner(slot).cloned();
        let server = server.ok_or_else(|| Error::unavailable("no server of the cluster has this key now"))?;
        Ok((map, server))
    }

    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The server at `address`, made when it is new.
    fn server(&self, address: Address) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.entry(address).or_insert_with_key(|address| {
            let place = Place::Server(address.clone());
            Arc::new(Server::new(place, &self.settings, &self.spacing))
        });
        Arc::clone(server)
    }

    /// Looks at the slots anew, unless somebody did since `seen` or a moment ago.
    async fn look(&self, seen: &Arc<Map>) -> Result<()> {
        let mut looked = self.looked.lock().await;
        if !Arc::ptr_eq(&self.map(), seen) || looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let map = self.ask_any(seen).await;
        *looked = Some(Instant::now());
        let map = Arc::new(map?);
        *self.map.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&map);
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // Calls under way keep theirs.
        servers.retain(|_, server| map.0.iter().any(|(.., owner)| Arc::ptr_eq(owner, server)));
        Ok(())
    }

    /// Asks the servers of the last map, then those of the settings, some at once, until one tells.
    async fn ask_any(&self, seen: &Map) -> Result<Map> {
        let mut asked: Vec<Arc<Server>> = Vec::new();
        let known = seen.0.iter().map(|(.., server)| Arc::clone(server));
        let given = self
            .settings
            .addresses
            .iter()
            .map(|address| self.server(address.clone()));
        for server in known.chain(given) {
            if !asked.iter().any(|other| Arc::ptr_eq(other, &server)) {
                asked.push(server);
            }
        }
        let mut left = asked.iter();
        let first = left.by_ref().take(ASKED);
        let mut asking: FuturesUnordered<_> = first.map(|server| self.ask(server)).collect();
        let mut last = None;
        while let Some(told) = asking.next().await {
            match told {
                Ok(map) => return Ok(map),
                Err(error) => last = Some(error),
            }
            asking.extend(left.next().map(|server| self.ask(server)));
        }
        Err(last.unwrap_or_else(|| Error::unavailable("no server of the cluster is known")))
    }

    async fn ask(&self, server: &Server) -> Result<Map> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let asking = server.exchange(Lane::Shared, Batch::One(&command));
        let told = tokio::time::timeout(PATIENCE, asking).await;
        let (mut replies, _) =
            told.map_err(|_| Error::unavailable("a server of the cluster does not answer"))??;
        let told = failure::reply(replies.pop().unwrap_or(Value::Nil))?;
        let map = self.read(&told, server);
        match map.0.is_empty() {
            true => Err(Error::unavailable("the cluster has no slots")),
            false => Ok(map),
        }
    }

    fn read(&self, told: &Value, teller: &Server) -> Map {
        let Value::Array(ranges) = told else {
            return Map::default();
        };
        let range = |range: &Value| {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range.as_slice() else {
                return None;
            };
            let [host, Value::Int(port), ..] = primary.as_slice() else {
                return None;
            };
            let address = address(host, &port.to_string(), teller)?;
            Some((
                u16::try_from(*first).ok()?,
                u16::try_from(*last).ok()?,
                self.server(address),
            ))
        };
        let mut ranges: Vec<_> = ranges.iter().filter_map(range).collect();
        ranges.sort_by_key(|(first, ..)| *first);
        Map(ranges)
    }
}

/// The address that a server tells; without a host, or with `?`, it is the teller's own.
fn address(host: &Value, port: &str, teller: &Server) -> Option<Address> {
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => "",
    };
    match (host, teller.place()) {
        ("" | "?", Place::Server(own)) => Address::of(&own.host, port),
        (host, _) => Address::of(host, port),
    }
}

fn next(reply: &Value, server: &Server) -> Option<Next> {
    let Value::ServerError(error) = reply else {
        return None;
    };
    let error = RedisError::from(error.clone());
    let target = || {
        let (target, _) = error.redirect_node()?;
        let (host, port) = target.rsplit_once(':')?;
        address(&Value::SimpleString(host.to_owned()), port, server)
    };
    match error.kind() {
        redis::ErrorKind::Server(ServerErrorKind::Moved) => target().map(Next::Moved),
        redis::ErrorKind::Server(ServerErrorKind::Ask) => target().map(Next::Ask),
        redis::ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Next::Wait),
        redis::ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::ClusterDown) => {
            Some(Next::Look)
        }
        _ => None,
    }
}

impl Batch<'_> {
    /// The same for a server that takes the slot over: each command after `ASKING`.
    fn asking(self) -> Pipeline {
        let mut pipeline = Pipeline::new();
        let mut add = |command: &Cmd| {
            pipeline.cmd("ASKING").add_command(command.clone());
        };
        match self {
            Batch::One(command) => add(command),
            Batch::Many(commands) => commands.cmd_iter().for_each(&mut add),
        }
        pipeline
    }
}

fn error_copy(error: &Error) -> Error {
    Error::new(error.kind(), error.message())
}
