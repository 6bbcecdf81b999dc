//! A stream of Redis as the recordings show it.

use redis::{
    aio::MultiplexedConnection,
    streams::{StreamInfoConsumersReply, StreamInfoGroupsReply, StreamRangeReply},
};
use serde_json::{Map, Value as Json, json};

use super::{read, shown};

/// The entries, in order.
pub async fn events(connection: &mut MultiplexedConnection, key: &str) -> Json {
    let entries: StreamRangeReply = read(connection, &["XRANGE", key, "-", "+"]).await;
    let entries = entries.ids.iter().map(|entry| {
        let fields = entry.map.iter().map(|(name, value)| {
            let bytes: Vec<u8> = redis::from_redis_value(value.clone()).unwrap();
            (name.clone(), field(&bytes))
        });
        json!({"id": entry.id, "fields": fields.collect::<Map<_, _>>()})
    });
    entries.collect()
}

/// JSON is shown as what it says, and as it is written.
fn field(bytes: &[u8]) -> Json {
    match serde_json::from_slice::<Json>(bytes) {
        Ok(json) => json!({"json": json, "raw": shown(bytes)}),
        Err(_) => shown(bytes),
    }
}

/// The groups, each with its consumers and how many entries wait for their word.
pub async fn groups(connection: &mut MultiplexedConnection, key: &str) -> Json {
    let groups: StreamInfoGroupsReply = read(connection, &["XINFO", "GROUPS", key]).await;
    let mut shown = Vec::new();
    for group in groups.groups {
        let asked = ["XINFO", "CONSUMERS", key, &group.name];
        let consumers: StreamInfoConsumersReply = read(connection, &asked).await;
        let names: Vec<_> = consumers
            .consumers
            .into_iter()
            .map(|consumer| consumer.name)
            .collect();
        shown.push(json!({"name": group.name, "consumers": names, "pending": group.pending}));
    }
    shown.into()
}
