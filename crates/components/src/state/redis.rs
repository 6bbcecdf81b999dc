//! State in Redis.

mod change;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open, Result,
    state::{Delete, Features, Get, Item, Operation, Set, StateStore},
};
use redis::{Cmd, Pipeline, Value};

use self::change::{Change, SCRIPT};
use super::change::{conflict, expire_time, summary};
use crate::client::redis::{Redis as Client, Script, reply, settings, unexpected};

const DATA: &str = "data";
const VERSION: &str = "version";

settings! {
    /// State in a Redis server, in the layout of Layotto in Go and of Dapr, so that their sidecars
    /// can share it. For state that several processes read and write fast; how much a crash may
    /// lose is up to the server's persistence.
    pub struct Config {
        /// How many seconds an item lives whose write does not say it. Default: for ever.
        pub ttl_in_seconds: Option<i64>,
    }
}

/// A state store in Redis: a hash for each key, with the fields `data`, `version` (the etag) and
/// `first-write` where the last write must be known.
pub struct Redis {
    client: Arc<Client>,
    script: Script,
    ttl: Option<i64>,
}

impl Open for Redis {
    const TYPE: &'static str = "redis";
    type Config = Config;

    async fn open(config: Config, cx: Context) -> Result<Self> {
        Ok(Self {
            client: Client::shared(config.given(&cx).connection(&cx)?, &cx).await?,
            script: Script::new(SCRIPT),
            ttl: config.ttl_in_seconds,
        })
    }
}

impl Redis {
    /// Asks what a key holds.
    async fn read(&self, key: &str) -> Result<Vec<Value>> {
        let mut commands = Pipeline::with_capacity(2);
        for command in read(key) {
            commands.add_command(command);
        }
        self.client.pipe(key, &commands).await
    }

    /// The item of a key that [`read`] was answered for.
    async fn item(&self, key: &str, replies: Vec<Value>) -> Result<Option<Item>> {
        let mut held = held(replies)?;
        if matches!(held, Held::Other) {
            // It may have been made between the two commands.
            held = self::held(self.read(key).await?)?;
        }
        match held {
            Held::Nothing => Ok(None),
            Held::Item(item) => Ok(Some(item)),
            Held::NoHash => self.plain(key).await,
            Held::Other => Err(Error::internal(format!(
                "required hash field '{DATA}' or '{VERSION}' was not found"
            ))),
        }
    }

    /// What another program wrote as a plain text: it has no etag.
    async fn plain(&self, key: &str) -> Result<Option<Item>> {
        match self.client.run(key, Cmd::new().arg("GET").arg(key)).await? {
            Value::Nil => Ok(None),
            Value::BulkString(value) => Ok(Some(Item {
                value: value.into(),
                ..Item::default()
            })),
            other => Err(unexpected(&other)),
        }
    }
}

impl Redis {
    /// Makes all changes, or none.
    async fn make(&self, changes: &[Change]) -> Result<()> {
        let call = change::call(&self.script, changes);
        let reply = match changes.iter().any(Change::is_strong) {
            true => self.client.call_replicated(&call).await?,
            false => self.client.call(&call).await?,
        };
        made(&reply)
    }

    /// Makes every change that is allowed; the error names the keys of those that were not.
    async fn make_each(&self, changes: Vec<Change>) -> Result<()> {
        let each = changes.chunks(1);
        let outcomes = if changes.iter().any(Change::is_strong) || changes.len() == 1 {
            let mut outcomes = Vec::with_capacity(changes.len());
            for change in each {
                let outcome = self.make(change).await;
                let is_late = matches!(&outcome, Err(error) if error.kind() == ErrorKind::Timeout);
                outcomes.push(outcome);
                // The others would be as late.
                if is_late {
                    break;
                }
            }
            outcomes
        } else {
            let calls: Vec<_> = each.map(|change| change::call(&self.script, change)).collect();
            let replies = self.client.call_each(&calls).await.into_iter();
            replies.map(|reply| made(&reply?)).collect()
        };
        let mut refused = Vec::new();
        for (change, outcome) in changes.iter().zip(outcomes) {
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    refused.push((change.key.as_str(), error))
                }
                Err(error) => return Err(error),
            }
        }
        summary(&refused)
    }
}

/// The script's answer: none was refused, or the number of the one that was.
fn made(reply: &Value) -> Result<()> {
    match reply {
        Value::Int(0) => Ok(()),
        Value::Int(_) => Err(conflict()),
        other => Err(unexpected(other)),
    }
}

/// What `PTTL` answers for a key that does not exist.
const MISSING: i64 = -2;

fn read(key: &str) -> [Cmd; 2] {
    let mut fields = Cmd::with_capacity(4, key.len() + 24);
    fields.arg("HMGET").arg(key).arg(DATA).arg(VERSION);
    let mut expiry = Cmd::with_capacity(2, key.len() + 8);
    expiry.arg("PTTL").arg(key);
    [fields, expiry]
}

/// What a key holds.
enum Held {
    Nothing,
    Item(Item),
    NoHash,
    /// A hash without the fields of an item.
    Other,
}

/// What the answers to [`read`] say.
fn held(mut replies: Vec<Value>) -> Result<Held> {
    let (expiry, fields) = (replies.pop(), replies.pop());
    let (Some(Value::Int(expiry)), Some(fields)) = (expiry, fields) else {
        return Err(Error::internal("redis gave no reply"));
    };
    if let Value::ServerError(error) = &fields
        && error.code() == "WRONGTYPE"
    {
        return Ok(Held::NoHash);
    }
    let Value::Array(fields) = reply(fields)? else {
        return Err(Error::internal("redis gave no fields"));
    };
    Ok(match <[Value; 2]>::try_from(fields) {
        Ok([Value::BulkString(data), Value::BulkString(version)]) => Held::Item(Item {
            value: data.into(),
            etag: Some(String::from_utf8_lossy(&version).into_owned()),
            metadata: expires_in(expiry),
        }),
        Ok([Value::Nil, Value::Nil]) if expiry == MISSING => Held::Nothing,
        _ => Held::Other,
    })
}

/// When an item ends that has so many milliseconds left; nothing for negative ones, and where
/// no calendar has that day.
fn expires_in(millis: i64) -> Metadata {
    if millis < 0 {
        return Metadata::new();
    }
    let end = TimeDelta::try_milliseconds(millis).and_then(|left| Utc::now().checked_add_signed(left));
    let time = end.and_then(|end| u64::try_from(end.timestamp_millis()).ok());
    time.and_then(expire_time)
        .map(|time| ("ttlExpireTime".to_owned(), time))
        .into_iter()
        .collect()
}

#[async_trait]
impl Component for Redis {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }
}

#[async_trait]
impl StateStore for Redis {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
        }
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        let key = &request.key.0;
        self.item(key, self.read(key).await?).await
    }

    async fn set(&self, request: Set) -> Result<()> {
        self.make(&[Change::set(request, self.ttl)?]).await
    }

    async fn delete(&self, request: Delete) -> Result<()> {
        self.make(&[Change::delete(request)]).await
    }

    async fn bulk_get(&self, requests: Vec<Get>, _: usize) -> Result<Vec<Result<Option<Item>>>> {
        let reads = requests.iter().map(|request| {
            let key = request.key.0.as_str();
            (key, read(key).into())
        });
        let replies = self.client.pipe_each(reads.collect()).await;
        let items = requests
            .iter()
            .zip(replies)
            .map(|(request, replies)| async move { self.item(&request.key.0, replies?).await });
        Ok(join_all(items).await)
    }

    async fn bulk_set(&self, requests: Vec<Set>) -> Result<()> {
        let changes = requests.into_iter().map(|request| Change::set(request, self.ttl));
        self.make_each(changes.collect::<Result<_>>()?).await
    }

    async fn bulk_delete(&self, requests: Vec<Delete>) -> Result<()> {
        self.make_each(requests.into_iter().map(Change::delete).collect())
            .await
    }

    async fn transact(&self, operations: Vec<Operation>, _: &Metadata) -> Result<()> {
        let changes = operations
            .into_iter()
            .map(|operation| Change::step(operation, self.ttl));
        let changes: Vec<_> = changes.collect::<Result<_>>()?;
        if changes.is_empty() {
            return Ok(());
        }
        self.client
            .same_slot(changes.iter().map(|change| change.key.as_str()))?;
        self.make(&changes).await
    }
}

#[cfg(test)]
mod tests;
