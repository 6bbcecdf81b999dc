//! Writes that are answered when every replica has them.

use std::time::Duration;

use layotto_core::{Error, ErrorKind, Result};
use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::{
    Redis, failure,
    failure::{reply, unexpected},
    one,
    script::{self, Call},
    server::{Batch, Held, Lane},
};

/// How long such a call waits: first for a connection, then for the replicas.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// What the replicas have of that at least.
const FOR_REPLICAS: Duration = Duration::from_millis(250);

impl Redis {
    /// Calls a script that writes, and waits until every replica has what it wrote. Fails with
    /// [`ErrorKind::Timeout`] where that takes too long: the error says whether the primary has it.
    pub(crate) async fn call_replicated(&self, call: &Call<'_>) -> Result<Value> {
        let until = Instant::now() + WAIT;
        let (value, role, mut held) = self.write(call, until - FOR_REPLICAS).await?;
        let replicas = replicas(&role)?;
        if replicas == 0 {
            return Ok(value);
        }
        let left = until.saturating_duration_since(Instant::now());
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas).arg(left.max(FOR_REPLICAS).as_millis() as u64);
        let Value::Int(reached) = ask(&mut held, &wait).await? else {
            return Err(Error::internal("redis does not say how many replicas it reached"));
        };
        let reached = usize::try_from(reached).unwrap_or_default();
        if reached >= replicas {
            return Ok(value);
        }
        // One that went away in the meantime is none any more.
        let role = ask(&mut held, &redis::cmd("ROLE")).await?;
        if reached >= self::replicas(&role)? {
            return Ok(value);
        }
        let text = format!("written, but only {reached} of {replicas} replicas have it after {WAIT:?}");
        Err(Error::new(ErrorKind::Timeout, text))
    }

    /// Calls a script. The role of the server comes along, and the connection, which nobody else has.
    async fn write(&self, call: &Call<'_>, until: Instant) -> Result<(Value, Value, Held)> {
        let lane = Lane::Waiting(until);
        let write = with_role(call.by_digest());
        let (mut replies, mut held) = self.exchange(call.key(), lane, Batch::Many(&write)).await?;
        if replies.iter().any(script::is_unknown) {
            // It might wait for its own turn.
            drop(held);
            let write = with_role(call.in_full());
            (replies, held) = self.exchange(call.key(), lane, Batch::Many(&write)).await?;
        }
        let [value, role] = <[Value; 2]>::try_from(replies).map_err(|_| failure::missing())?;
        Ok((reply(value)?, reply(role)?, held))
    }
}

fn with_role(command: Cmd) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.add_command(command).cmd("ROLE");
    pipeline
}

async fn ask(held: &mut Held, command: &Cmd) -> Result<Value> {
    one(held.send(Batch::One(command)).await?)
}

/// How many replicas a server says that it has.
fn replicas(role: &Value) -> Result<usize> {
    match role {
        Value::Array(role) => match role.as_slice() {
            [_, _, Value::Array(replicas)] => Ok(replicas.len()),
            _ => Ok(0),
        },
        other => Err(unexpected(other)),
    }
}
