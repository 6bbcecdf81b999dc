//! Against real servers. Skipped where Redis is not there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open, Settings,
    pubsub::{EPHEMERAL, Outcome},
};
use layotto_testkit::{
    needs,
    server::{Server, redis as servers},
    soon::{soon, until},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::Redis;
use crate::pubsub::probe::{self, Subscriber, kind, retry, texts};

mod delayed;
mod groups;
mod outages;

type Subject = probe::Subject<Redis>;

async fn on(server: &Server, settings: Value) -> Subject {
    at(&server.address().to_string(), settings).await
}

async fn at(host: &str, settings: Value) -> Subject {
    let Value::Object(mut settings) = settings else {
        panic!("{settings}");
    };
    settings.insert("redisHost".to_owned(), json!(host));
    let config = Settings::from_iter(settings).parse().unwrap().config;
    let folder = tempfile::tempdir().unwrap();
    let mut cx = Context::standalone("test", folder.path());
    cx.app_id = "app1".to_owned();
    Subject {
        broker: Arc::new(Redis::open(config, cx.clone()).await.unwrap()),
        cx,
        _folder: folder,
    }
}

impl Subject {
    async fn try_subscribe(&self, topic: &str, dead: &str, metadata: Metadata) -> Result<Subscriber, Error> {
        self.subscribe_with(topic, ("", dead), metadata).await
    }

    /// Subscribes for the group of the settings, `app1`.
    async fn subscribe(&self, topic: &str) -> Subscriber {
        self.try_subscribe(topic, "", Metadata::new()).await.unwrap()
    }
}

/// Asks the server, as another client does.
#[track_caller]
fn ask(server: &Server, command: &[&str]) -> String {
    servers::cli(server, command).unwrap().trim().to_owned()
}

/// How many entries wait for the group's word.
fn pending(server: &Server, topic: &str) -> usize {
    let told = ask(server, &["xpending", topic, "app1"]);
    told.lines().next().unwrap().parse().unwrap()
}

/// The consumers of the group.
fn consumers(server: &Server, topic: &str) -> Vec<String> {
    let told = ask(server, &["xinfo", "consumers", topic, "app1"]);
    let lines: Vec<_> = told.lines().collect();
    let named = lines.windows(2).filter(|pair| pair[0] == "name");
    named.map(|pair| pair[1].to_owned()).collect()
}
