//! What is asked of the server about streams and their groups. No answer is waited for again: each
//! question may be asked anew, but for [`Streams::add`].

use std::{sync::Arc, time::Duration};

use layotto_core::{Error, ErrorKind, Result};
use redis::Cmd;

use super::{
    entry::{self, Claimed, DATA},
    scripts::Scripts,
};
use crate::{
    client::redis::{Call, Redis as Client, Script, beside, unexpected},
    pubsub::queue::Place,
};

/// How the names of our consumers begin.
pub(super) const CONSUMER: &str = "layotto-";
/// Where a new group begins, as upstream's: with all that the topic has.
const BEGINNING: &str = "0";
/// Ids in one command.
const IDS: usize = 500;

/// The streams of a server.
pub(super) struct Streams {
    pub(super) client: Arc<Client>,
    pub(super) scripts: Scripts,
    /// About how long they may be; 0 for no limit.
    pub(super) max_len: u64,
}

/// A consumer of a group.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) place: Place,
    pub(super) name: String,
}

/// Which entries a consumer takes over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    /// Those that nobody said anything of for so long.
    Idle(Duration),
    /// Its own.
    Own,
}

/// An id, and how often it was delivered.
pub(super) type Mark = (String, u32);

impl Streams {
    /// Appends an event. Returns its id.
    pub(super) async fn add(&self, topic: &str, data: &[u8]) -> Result<String> {
        self.append(topic, &[DATA.as_bytes(), data]).await
    }

    /// Appends an entry. Returns its id.
    pub(super) async fn append(&self, topic: &str, fields: &[&[u8]]) -> Result<String> {
        let size = fields.iter().map(|field| field.len()).sum::<usize>();
        let mut add = Cmd::with_capacity(8, topic.len() + size + 64);
        add.arg("XADD").arg(topic);
        if self.max_len > 0 {
            add.arg("MAXLEN").arg("~").arg(self.max_len);
        }
        add.arg("*");
        for field in fields {
            add.arg(*field);
        }
        entry::text(self.client.run(topic, &add).await?)
    }

    /// Makes the stream and the group where they are missing.
    pub(super) async fn make_group(&self, place: &Place) -> Result<()> {
        let mut create = redis::cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(&place.topic)
            .arg(&place.group)
            .arg(BEGINNING)
            .arg("MKSTREAM");
        match self.client.run(&place.topic, &create).await {
            Err(error) if is(&error, "BUSYGROUP") => Ok(()),
            made => made.map(drop),
        }
    }

    /// The id of the last entry of a stream.
    pub(super) async fn last_id(&self, topic: &str) -> Result<String> {
        let mut last = redis::cmd("XREVRANGE");
        last.arg(topic).arg("+").arg("-").arg("COUNT").arg(1);
        let reply = self.client.run(topic, &last).await?;
        let redis::Value::Array(mut entries) = reply else {
            return Err(unexpected(&reply));
        };
        match entries.pop() {
            None => Ok("0-0".to_owned()),
            Some(redis::Value::Array(entry)) => {
                let id = entry.into_iter().next().unwrap_or(redis::Value::Nil);
                entry::text(id)
            }
            Some(other) => Err(unexpected(&other)),
        }
    }

    /// Has `by` take over up to `count` pending entries after `from`, but for those that are `known`.
    pub(super) async fn claim(
        &self,
        by: &Consumer,
        whose: Whose,
        from: &str,
        count: usize,
        known: &[String],
    ) -> Result<Claimed> {
        let (idle, owner) = match whose {
            Whose::Idle(idle) => (idle.as_millis().to_string(), ""),
            Whose::Own => ("0".to_owned(), by.name.as_str()),
        };
        let asked = count.to_string();
        let mut arguments: Vec<&[u8]> = [&by.place.group, &by.name, &idle, from, &asked, owner]
            .map(str::as_bytes)
            .into();
        arguments.extend(known.iter().map(String::as_bytes));
        let reply = self
            .call(&self.scripts.claim, &[&by.place.topic], arguments)
            .await?;
        entry::claimed(reply, count)
    }

    /// Says that entries are being handled. Returns those that somebody else has.
    pub(super) async fn refresh(&self, consumer: &Consumer, marks: &[Mark]) -> Result<Vec<String>> {
        let mut lost = Vec::new();
        for marks in marks.chunks(IDS) {
            let reply = self.with_marks(&self.scripts.refresh, consumer, marks).await?;
            lost.extend(entry::texts(reply)?);
        }
        Ok(lost)
    }

    /// Leaves the group, where others go on with what is pending.
    pub(super) async fn leave(&self, consumer: &Consumer, marks: &[Mark]) -> Result<()> {
        self.with_marks(&self.scripts.leave, consumer, marks)
            .await
            .map(drop)
    }

    async fn with_marks(&self, script: &Script, consumer: &Consumer, marks: &[Mark]) -> Result<redis::Value> {
        let counts: Vec<String> = marks.iter().map(|(_, count)| count.to_string()).collect();
        let mut arguments = vec![consumer.place.group.as_bytes(), consumer.name.as_bytes()];
        for ((id, _), count) in marks.iter().zip(&counts) {
            arguments.extend([id.as_bytes(), count.as_bytes()]);
        }
        self.call(script, &[&consumer.place.topic], arguments).await
    }

    /// The group is done with entries.
    pub(super) async fn acknowledge(&self, place: &Place, ids: &[String]) -> Result<()> {
        for ids in ids.chunks(IDS) {
            let mut ack = redis::cmd("XACK");
            ack.arg(&place.topic).arg(&place.group).arg(ids);
            self.client.run(&place.topic, &ack).await?;
        }
        Ok(())
    }

    /// Forgets consumers of the group that crashed: nothing was heard of them for as long as `idle`.
    pub(super) async fn sweep(&self, place: &Place, idle: Duration) -> Result<()> {
        let gone = idle.as_millis().to_string();
        let arguments = [place.group.as_str(), CONSUMER, &gone];
        let arguments = arguments.map(str::as_bytes).into();
        self.call(&self.scripts.sweep, &[&place.topic], arguments)
            .await
            .map(drop)
    }

    /// Moves an entry, of which the group is not done, to stream `to`. In one step but on a cluster
    /// where the streams lie apart; there it may come twice.
    pub(super) async fn transfer(&self, place: &Place, id: &str, fields: &[&[u8]], to: &str) -> Result<()> {
        if self
            .client
            .same_slot([place.topic.as_str(), to].into_iter())
            .is_err()
        {
            self.append(to, fields).await?;
            return self.acknowledge(place, &[id.to_owned()]).await;
        }
        let length = self.max_len.to_string();
        let mut arguments = vec![place.group.as_bytes(), id.as_bytes(), length.as_bytes()];
        arguments.extend(fields);
        self.call(&self.scripts.transfer, &[&place.topic, to], arguments)
            .await
            .map(drop)
    }

    /// The key of the sorted set where events of a topic wait until they are due.
    pub(super) fn delayed(&self, topic: &str) -> String {
        beside(topic, "|||delayed", self.client.is_cluster())
    }

    pub(super) async fn call(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: Vec<&[u8]>,
    ) -> Result<redis::Value> {
        let call = Call {
            script,
            keys: keys.into(),
            arguments,
        };
        self.client.call(&call).await
    }
}

/// Whether an error is the server's with this code.
fn is(error: &Error, code: &str) -> bool {
    error.kind() == ErrorKind::Internal && error.message().starts_with(code)
}
