//! Against real servers. Skipped where Redis is not there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open, Settings,
    pubsub::{EPHEMERAL, Outcome, PubSub, Publish, Subscribe},
};
use layotto_testkit::{
    needs,
    server::{Server, redis as servers},
    soon::{soon, until},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::Redis;
use crate::pubsub::probe::{Probe, Subscriber, retry};

mod delayed;
mod groups;
mod outages;

/// A component in a process of its own, as far as the server can tell.
struct Subject {
    broker: Arc<Redis>,
    cx: Context,
    _folder: TempDir,
}

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
    async fn publish_with(
        &self,
        topic: &str,
        text: &str,
        metadata: &[(&str, &str)],
    ) -> Result<Option<String>, Error> {
        let metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let message = Publish {
            topic: topic.to_owned(),
            data: text.to_owned().into(),
            metadata: metadata.collect(),
        };
        soon(self.broker.publish(message)).await
    }

    async fn publish(&self, topic: &str, text: &str) -> Result<String, Error> {
        Ok(self.publish_with(topic, text, &[]).await?.unwrap())
    }

    async fn try_subscribe(&self, topic: &str, dead: &str, metadata: Metadata) -> Result<Subscriber, Error> {
        let (sender, deliveries) = mpsc::channel(1024);
        let subscribe = Subscribe {
            topic: topic.to_owned(),
            group: String::new(),
            dead_letter_topic: dead.to_owned(),
            metadata,
            handler: Arc::new(Probe::new(sender)),
        };
        Ok(Subscriber {
            deliveries,
            _subscription: soon(self.broker.subscribe(subscribe)).await?,
        })
    }

    /// Subscribes for the group of the settings, `app1`.
    async fn subscribe(&self, topic: &str) -> Subscriber {
        self.try_subscribe(topic, "", Metadata::new()).await.unwrap()
    }

    /// Ends the process in order.
    async fn end(&self) {
        self.broker.close().await.unwrap();
        self.cx.shutdown.cancel();
        self.cx.tasks.close();
        soon(self.cx.tasks.wait()).await;
    }
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:03}")).collect()
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
