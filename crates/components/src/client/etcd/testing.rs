//! Nodes for tests, and settings that name them.

use std::sync::Arc;

use layotto_core::Context;
use layotto_testkit::{
    programs,
    server::{self, Server},
};

use super::{Client, Endpoints, Settings};

/// A node; `None`, and a note, where the program is not there.
pub(crate) async fn node(arguments: &[&str]) -> Option<Server> {
    is_there().then_some(())?;
    Some(server::etcd::start(arguments).await.unwrap())
}

/// Three nodes of one cluster, in the same manner.
pub(crate) async fn three_nodes() -> Option<Vec<Server>> {
    is_there().then_some(())?;
    Some(server::etcd::start_three().await.unwrap())
}

fn is_there() -> bool {
    programs::is_there(server::etcd::PROGRAM)
}

/// Settings that name `nodes`.
pub(crate) fn settings<'a>(nodes: impl IntoIterator<Item = &'a Server>) -> Settings {
    let nodes = nodes.into_iter().map(|node| node.address().to_string());
    Settings {
        endpoints: Endpoints(nodes.collect()),
        ..Settings::default()
    }
}

/// A context of its own.
pub(crate) fn cx() -> Context {
    Context::standalone("test", ".")
}

/// A client of its own.
pub(crate) async fn client(settings: &Settings) -> Arc<Client> {
    Client::shared(settings, "endpoints", &cx()).await.unwrap()
}

/// What `etcdctl` prints.
pub(crate) fn ctl(node: &Server, arguments: &[&str]) -> String {
    server::etcd::ctl(node, arguments).unwrap()
}

/// Waits until no lease is left, which takes a moment where one is revoked in the background.
pub(crate) async fn no_lease_is_left(node: &Server) {
    use tokio::time::{Duration, Instant, sleep};

    let begun = Instant::now();
    loop {
        let list = ctl(node, &["lease", "list"]);
        if list.trim() == "found 0 leases" {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{list}");
        sleep(Duration::from_millis(20)).await;
    }
}
