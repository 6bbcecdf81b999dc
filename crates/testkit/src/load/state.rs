//! Clients that read and write the same keys.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use layotto_core::{
    ErrorKind, Metadata,
    key_prefix::PrefixedKey,
    state::{Concurrency, Consistency, Get, Options, Set, StateStore},
};

use super::{Client, Load, answer};
use crate::history::register::{Answer, Call, Condition, History, What};

/// Between two tries of a last read.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads and writes by etag until the load is stopped.
pub async fn by_etag(store: Arc<dyn StateStore>, load: &Load, history: &History) {
    load.run(|mut client| {
        let keys = Keys {
            store: store.clone(),
            history: history.clone(),
        };
        async move {
            let mut known = HashMap::new();
            for number in 0.. {
                if !client.goes_on().await {
                    return;
                }
                let key = client.key();
                // Now and then by what was true a while ago.
                if client.chance(90)
                    && let Some(condition) = keys.read(&client, &key).await
                {
                    known.insert(key.clone(), condition);
                }
                if client.chance(70)
                    && let Some(condition) = known.get(&key)
                {
                    client.pause(client.load.pause).await;
                    keys.write(&client, &key, number, condition.clone()).await;
                }
            }
        }
    })
    .await;
}

/// Reads, and writes whatever is there, until the load is stopped.
pub async fn without_condition(store: Arc<dyn StateStore>, load: &Load, history: &History) {
    load.run(|mut client| {
        let keys = Keys {
            store: store.clone(),
            history: history.clone(),
        };
        async move {
            for number in 0.. {
                if !client.goes_on().await {
                    return;
                }
                let key = client.key();
                if client.chance(40) {
                    keys.write(&client, &key, number, Condition::Any).await;
                } else {
                    keys.read(&client, &key).await;
                }
            }
        }
    })
    .await;
}

/// Reads every key once more after all clients have ended: whatever took effect shows.
pub async fn settle(store: Arc<dyn StateStore>, load: &Load, history: &History) {
    let keys = Keys {
        store,
        history: history.clone(),
    };
    let client = Client {
        number: load.clients,
        random: fastrand::Rng::with_seed(load.seed),
        load: Arc::new(load.clone()),
    };
    for number in 0..load.keys {
        let key = format!("{}-{number}", load.name);
        while keys.read(&client, &key).await.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

struct Keys {
    store: Arc<dyn StateStore>,
    history: History,
}

impl Keys {
    /// What a write must name that replaces what is there.
    async fn read(&self, client: &Client, key: &str) -> Option<Condition> {
        let call = Call {
            key: key.to_owned(),
            what: What::Read,
        };
        let pending = self.history.begin(client.number, call);
        let request = Get {
            key: PrefixedKey(key.to_owned()),
            consistency: Consistency::Strong,
            metadata: Metadata::new(),
        };
        let Some(item) = answer(self.store.get(&request).await)? else {
            pending.end(Answer::Absent);
            return Some(Condition::Absent);
        };
        let value = String::from_utf8_lossy(&item.value).into_owned();
        pending.end(Answer::Found(value, item.etag.clone()));
        Some(item.etag.map_or(Condition::Any, Condition::Etag))
    }

    async fn write(&self, client: &Client, key: &str, number: usize, condition: Condition) {
        let value = client.name(number);
        let what = What::Write {
            value: value.clone(),
            condition: condition.clone(),
        };
        let call = Call {
            key: key.to_owned(),
            what,
        };
        let pending = self.history.begin(client.number, call);
        let (concurrency, etag) = match condition {
            Condition::Any => (Concurrency::LastWrite, None),
            Condition::Absent => (Concurrency::FirstWrite, None),
            Condition::Etag(etag) => (Concurrency::FirstWrite, Some(etag)),
        };
        let request = Set {
            key: PrefixedKey(key.to_owned()),
            value: Bytes::from(value),
            etag,
            options: Options {
                concurrency,
                consistency: Consistency::Strong,
            },
            metadata: Metadata::new(),
        };
        match self.store.set(request).await {
            Err(error) if error.kind() == ErrorKind::Conflict => pending.end(Answer::Conflict),
            written => {
                if answer(written).is_some() {
                    pending.end(Answer::Written);
                }
            }
        }
    }
}
