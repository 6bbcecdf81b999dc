//! The Redis servers of a case.

mod stream;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use layotto_testkit::server::{self, Server};
use redis::{AsyncConnectionConfig, Cmd, Value, aio::MultiplexedConnection};
use serde_json::{Value as Json, json};

use super::json::bytes;

pub use layotto_testkit::server::redis::PROGRAM;

/// What recordings call the servers, and what stands for their addresses.
const SERVERS: [(&str, &str); 4] = [
    ("redis", "${REDIS}"),
    ("redis_2", "${REDIS2}"),
    ("redis_3", "${REDIS3}"),
    ("redis_4", "${REDIS4}"),
];
/// How the names of keys end that upstream does not write.
const OURS: &str = "|||fence";
/// How long a server may not have been told that events are done.
const TOLD: Duration = Duration::from_secs(3);

/// The servers, by what stands for their addresses.
pub struct Servers {
    servers: BTreeMap<&'static str, Server>,
    /// When the case began.
    begun: Instant,
}

/// Whether recordings call one of the servers so.
pub fn is_product(name: &str) -> bool {
    SERVERS.iter().any(|(known, _)| *known == name)
}

/// Whether `case` names one of them.
pub fn is_named(case: &str) -> bool {
    SERVERS.iter().any(|(_, placeholder)| case.contains(placeholder))
}

impl Servers {
    /// Starts those that `case` names.
    pub async fn start(case: &str) -> Self {
        let begun = Instant::now();
        let mut servers = BTreeMap::new();
        for (_, placeholder) in SERVERS {
            if case.contains(placeholder) {
                servers.insert(placeholder, server::redis::start(&[]).await.unwrap());
            }
        }
        Self { servers, begun }
    }

    /// Where each of them is.
    pub fn placeholders(&self) -> impl Iterator<Item = (&'static str, String)> {
        let servers = self.servers.iter();
        servers.map(|(name, server)| (*name, server.address().to_string()))
    }

    /// Does what a remark in a recording says was done.
    pub async fn note(&mut self, remark: &str) {
        match remark {
            "key already set to \"other\" on two of three" => {
                for name in ["${REDIS2}", "${REDIS3}"] {
                    let words = ["SET", "lock|||app1||res", "other"];
                    self.run(name, 0, &command(&words)).await;
                }
            }
            "third redis stopped" | "redis stopped" => self.servers.get_mut("${REDIS4}").unwrap().kill(),
            "redis running again, empty" => {
                self.servers.get_mut("${REDIS4}").unwrap().resume().await.unwrap()
            }
            _ => {}
        }
    }

    /// Runs the command of a step; the answer, as the recordings have it.
    pub async fn command(&self, words: &Json) -> Json {
        let words = words.as_array().unwrap().iter();
        let words: Vec<_> = words.map(|word| word.as_str().unwrap()).collect();
        match self.run("${REDIS}", 0, &command(&words)).await {
            Value::Okay => json!(true),
            Value::Int(number) => json!(number),
            other => panic!("{other:?}"),
        }
    }

    /// Writes what a recording says a database of the server called `product` held.
    pub async fn fill(&self, product: &str, held: &Json) {
        let (server, database) = (placeholder(product), database(held));
        for entry in held["keys"].as_array().unwrap() {
            let key = entry["key"].as_str().unwrap();
            let mut write = command(&[]);
            match &entry["value"] {
                Json::Object(fields) if entry["type"] == "hash" => {
                    write.arg("HSET").arg(key);
                    for (name, value) in fields {
                        write.arg(name).arg(recorded(value));
                    }
                }
                value => {
                    write.arg("SET").arg(key).arg(recorded(value));
                }
            }
            self.run(server, database, &write).await;
            if let Some(ttl) = entry["ttl"].as_i64().filter(|ttl| *ttl > 0) {
                let expire = ["EXPIRE", key, &ttl.to_string()];
                self.run(server, database, &command(&expire)).await;
            }
        }
    }

    /// What the servers that a step looks at hold, by the name that the recording has for each; a
    /// time to live that only went on is as it was recorded.
    pub async fn dump(&self, step: &Json, recorded: &Json) -> Vec<(String, Json)> {
        let names = match step["dump"].as_str() {
            Some("redis x3") => &SERVERS[1..],
            _ => &SERVERS[..1],
        };
        let mut dumps = Vec::new();
        for (name, placeholder) in names {
            let mut held = self.entries(placeholder, database(step)).await;
            let begun = Instant::now();
            while pending(&held) != pending(recorded[name].as_array().unwrap()) && begun.elapsed() < TOLD {
                held = self.entries(placeholder, database(step)).await;
            }
            for (entry, recorded) in held.iter_mut().zip(recorded[name].as_array().unwrap()) {
                align(entry, recorded, self.begun.elapsed());
            }
            dumps.push(((*name).to_owned(), Json::Array(held)));
        }
        dumps
    }

    /// The keys of a database in order, each with its type, its time to live and its value.
    async fn entries(&self, name: &str, database: i64) -> Vec<Json> {
        let mut connection = self.connect(name, database).await;
        let mut keys: Vec<String> = read(&mut connection, &["KEYS", "*"]).await;
        keys.retain(|key| !key.ends_with(OURS));
        keys.sort();
        let mut entries = Vec::new();
        for key in keys {
            let kind: String = read(&mut connection, &["TYPE", &key]).await;
            let ttl: i64 = read(&mut connection, &["TTL", &key]).await;
            let value = match kind.as_str() {
                "hash" => {
                    let fields: BTreeMap<String, Vec<u8>> = read(&mut connection, &["HGETALL", &key]).await;
                    fields
                        .iter()
                        .map(|(name, value)| (name.clone(), shown(value)))
                        .collect()
                }
                "stream" => stream::events(&mut connection, &key).await,
                _ => shown(&read::<Vec<u8>>(&mut connection, &["GET", &key]).await),
            };
            let mut entry = json!({"key": key, "type": kind, "ttl": ttl, "value": value});
            if kind == "stream" {
                entry["groups"] = stream::groups(&mut connection, &key).await;
            }
            entries.push(entry);
        }
        entries
    }

    async fn run(&self, name: &str, database: i64, command: &Cmd) -> Value {
        let mut connection = self.connect(name, database).await;
        command.query_async(&mut connection).await.unwrap()
    }

    async fn connect(&self, name: &str, database: i64) -> MultiplexedConnection {
        let url = format!("redis://{}/{database}", self.servers[name].address());
        let client = redis::Client::open(url).unwrap();
        // Cases share a thread, and some hold it for a while.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let connected = client.get_multiplexed_async_connection_with_config(&patient);
        connected.await.unwrap()
    }
}

fn placeholder(product: &str) -> &'static str {
    let known = SERVERS.iter().find(|(name, _)| *name == product);
    known.expect("a known server").1
}

fn database(json: &Json) -> i64 {
    json["db"].as_i64().unwrap_or_default()
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

async fn read<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> T {
    command(words).query_async(connection).await.unwrap()
}

/// How many entries of streams wait for the word of a group.
fn pending(held: &[Json]) -> u64 {
    let groups = held.iter().filter_map(|entry| entry["groups"].as_array());
    let groups = groups.flatten();
    groups.filter_map(|group| group["pending"].as_u64()).sum()
}

/// A value as the recordings write it, as bytes.
pub fn recorded(value: &Json) -> Vec<u8> {
    match value.as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => bytes(value),
    }
}

/// Bytes as the recordings write them.
fn shown(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"b64": STANDARD.encode(bytes)}),
    }
}

/// Leaves out what the recording leaves out of an entry, and the seconds of its time to live that can
/// have gone by in the time that the case took so far.
fn align(entry: &mut Json, recorded: &Json, took: Duration) {
    if recorded.get("type").is_none() {
        entry.as_object_mut().unwrap().remove("type");
    }
    let (ours, theirs) = (entry["ttl"].as_i64(), recorded["ttl"].as_i64());
    if let (Some(ours), Some(theirs)) = (ours, theirs)
        && ours > 0
        && (theirs - took.as_secs() as i64 - 1..=theirs).contains(&ours)
    {
        entry["ttl"] = json!(theirs);
    }
}
