//! Leases on one Redis: a text that only its owner removes, and the fence beside it.
//!
//! The fence is a hash: the greatest `token` so far, the `owner` of the last grant, what was
//! `granted`, and the `try` that got it. It outlives the lease by [`FENCE`], since the next token
//! must be greater; once it is gone, the clock of the server sees to that.

use std::time::Duration;

use layotto_core::{
    Error, Result,
    lock::{Owned, Status},
};
use redis::Value;

use crate::client::redis::{Call, Redis, Script, beside, unexpected};

/// How long a fence outlives the lease. A server's clock may go back by as much.
const FENCE: Duration = Duration::from_secs(600);

/// Takes the lock when it is free; answers the token. Arguments: owner, lease and life of the fence
/// in seconds, the name of this try. A try with a name has been granted nothing before [`GRANT`].
const TAKE: &str = r"
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  return false
end
local time = redis.call('TIME')
local last = redis.call('HGET', KEYS[2], 'token')
local token = string.format('%.0f', math.max(time[1] * 1000000 + time[2], tonumber(last or 0) + 1))
redis.call('HSET', KEYS[2], 'token', token, 'owner', ARGV[1], 'try', ARGV[4])
if ARGV[4] == '' then
  redis.call('HSET', KEYS[2], 'granted', token)
else
  redis.call('HDEL', KEYS[2], 'granted')
end
redis.call('EXPIRE', KEYS[2], ARGV[3])
return token
";

/// Removes the owner's lock: 1 done, -1 there is none, -2 it is somebody else's.
const RELEASE: &str = r"
local owner = redis.call('GET', KEYS[1])
if not owner then
  return -1
elseif owner ~= ARGV[1] then
  return -2
end
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], 'owner')
return 1
";

/// Has the owner's lease end later or sooner; answers the token granted, or nothing where another
/// program granted the lock. Arguments: owner, lease and life of the fence in seconds.
const EXTEND: &str = r"
local owner = redis.call('GET', KEYS[1])
if not owner then
  return -1
elseif owner ~= ARGV[1] then
  return -2
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
local fence = redis.call('HMGET', KEYS[2], 'owner', 'granted')
if fence[1] ~= owner then
  return false
end
redis.call('EXPIRE', KEYS[2], ARGV[3])
return fence[2]
";

/// Removes a lock that the try has got: one of the same owner's that another try got stays.
/// Arguments: owner, the name of the try.
const UNDO: &str = r"
local fence = redis.call('HMGET', KEYS[2], 'owner', 'try')
if redis.call('GET', KEYS[1]) == ARGV[1] and fence[1] == ARGV[1] and fence[2] == ARGV[2] then
  redis.call('DEL', KEYS[1])
  redis.call('HDEL', KEYS[2], 'owner')
  return 1
end
return 0
";

/// Grants the lock that the try has got under a token; 0 where it has it no more.
/// Arguments: owner, the name of the try, the token.
const GRANT: &str = r"
local fence = redis.call('HMGET', KEYS[2], 'owner', 'try', 'token')
if redis.call('GET', KEYS[1]) ~= ARGV[1] or fence[1] ~= ARGV[1] or fence[2] ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[2], 'granted', ARGV[3])
if tonumber(fence[3]) < tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[2], 'token', ARGV[3])
end
return 1
";

/// What can be done with a lease.
#[derive(Debug)]
pub(in crate::lock) struct Leases {
    take: Script,
    release: Script,
    extend: Script,
    undo: Script,
    grant: Script,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            take: Script::new(TAKE),
            release: Script::new(RELEASE),
            extend: Script::new(EXTEND),
            undo: Script::new(UNDO),
            grant: Script::new(GRANT),
        }
    }
}

impl Leases {
    /// The fencing token; `None` where somebody holds the lock. A try with a name has no more than a
    /// proposal before [`grant`](Self::grant).
    pub(in crate::lock) async fn take(
        &self,
        client: &Redis,
        lock: &Owned,
        expire: Duration,
        name: &str,
    ) -> Result<Option<u64>> {
        let (lease, fence) = seconds(expire);
        let arguments = [&lock.owner, &lease, &fence, name];
        token(run(client, &self.take, lock, &arguments).await?)
    }

    pub(in crate::lock) async fn release(&self, client: &Redis, lock: &Owned) -> Result<Status> {
        let reply = run(client, &self.release, lock, &[&lock.owner]).await?;
        status(&reply).ok_or_else(|| unexpected(&reply))
    }

    /// The fencing token comes along where this program granted the lock.
    pub(in crate::lock) async fn extend(
        &self,
        client: &Redis,
        lock: &Owned,
        expire: Duration,
    ) -> Result<(Status, Option<u64>)> {
        let (lease, fence) = seconds(expire);
        let reply = run(client, &self.extend, lock, &[&lock.owner, &lease, &fence]).await?;
        match status(&reply) {
            Some(status) => Ok((status, None)),
            None => Ok((Status::Success, token(reply)?)),
        }
    }

    /// Takes back what the try called `name` has got.
    pub(in crate::lock) async fn undo(&self, client: &Redis, lock: &Owned, name: &str) -> Result<()> {
        run(client, &self.undo, lock, &[&lock.owner, name])
            .await
            .map(drop)
    }

    /// Grants what the try called `name` has got under `token`; whether it has it.
    pub(in crate::lock) async fn grant(
        &self,
        client: &Redis,
        lock: &Owned,
        name: &str,
        token: u64,
    ) -> Result<bool> {
        let arguments = [&lock.owner, name, &token.to_string()];
        Ok(run(client, &self.grant, lock, &arguments).await? == Value::Int(1))
    }
}

async fn run(client: &Redis, script: &Script, lock: &Owned, arguments: &[&str]) -> Result<Value> {
    let resource = &lock.resource.0;
    let fence = beside(resource, "|||fence", client.is_cluster());
    let call = Call {
        script,
        keys: vec![resource, &fence],
        arguments: arguments.iter().map(|argument| argument.as_bytes()).collect(),
    };
    client.call(&call).await
}

/// The lease, and how long its fence lives, as Redis takes them.
fn seconds(lease: Duration) -> (String, String) {
    (
        lease.as_secs().max(1).to_string(),
        (lease + FENCE).as_secs().to_string(),
    )
}

fn status(reply: &Value) -> Option<Status> {
    match reply {
        Value::Int(1) => Some(Status::Success),
        Value::Int(-1) => Some(Status::Unexist),
        Value::Int(-2) => Some(Status::BelongsToOthers),
        _ => None,
    }
}

fn token(reply: Value) -> Result<Option<u64>> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(token) => {
            let token = std::str::from_utf8(&token)
                .ok()
                .and_then(|text| text.parse().ok());
            let token = token.ok_or_else(|| Error::internal("redis keeps no number as a fencing token"))?;
            Ok(Some(token))
        }
        other => Err(unexpected(&other)),
    }
}
