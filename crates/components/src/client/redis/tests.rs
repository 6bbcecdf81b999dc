//! The client against real servers: one, watched by sentinels, in a cluster; away, frozen, back.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use layotto_core::Settings;
use layotto_testkit::{needs, programs, server::redis as servers};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

use super::*;

mod looks;
mod many;
mod one;
mod sentinels;
mod settings;
mod stand_in;
mod strong;
mod tls;
mod turns;

settings! {
    /// For tests.
    pub struct Config {}
}

/// A client of the servers at `hosts`, with further settings.
fn client(hosts: &str, settings: &[(&str, &str)]) -> Redis {
    let settings = settings.iter().copied().chain([("redisHost", hosts)]);
    let config: Config = Settings::from_iter(settings).parse().unwrap().config;
    let cx = Context::standalone("test", std::env::temp_dir());
    Redis::new(config.given(&cx).connection(&cx).unwrap())
}

/// One command, as words.
fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

impl Redis {
    /// Runs one command whose first argument is the key.
    async fn say(&self, words: &[&str]) -> Result<Value> {
        let key = words.get(1).copied().unwrap_or_default();
        self.run(key, &command(words)).await
    }
}

fn text(value: &Value) -> &str {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Asks until there is an answer; how long that took.
async fn until_answered(client: &Redis) -> Duration {
    let begun = Instant::now();
    while let Err(error) = client.say(&["GET", "k"]).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "no answer: {error}");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}
