//! The ZooKeeper of a case.

use layotto_testkit::server::{self, Server};
use serde_json::{Value as Json, json};
use zookeeper_client::{Acls, Client, CreateMode, Permission};

pub use layotto_testkit::server::zookeeper::PROGRAM;

/// Stands for its address in a case.
pub const PLACEHOLDER: &str = "${ZK}";

/// A server with a session that looks at it.
pub struct Zookeeper {
    server: Server,
    session: Client,
}

impl Zookeeper {
    /// Starts one with what the recording of `case` found there.
    pub async fn start(case: &str) -> Self {
        let server = server::zookeeper::start().await.unwrap();
        let session = Client::connect(&server.address().to_string()).await.unwrap();
        if case == "state_zookeeper/existing-node" {
            let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
            for (path, data) in [("/pre", ""), ("/pre/k", "old")] {
                session.create(path, data.as_bytes(), &options).await.unwrap();
            }
        }
        Self { server, session }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// Every node, as the recordings have it.
    pub async fn dump(&self) -> Json {
        let mut nodes = Vec::new();
        for path in self.paths().await {
            let (data, stat) = self.session.get_data(&path).await.unwrap();
            let (acls, _) = self.session.get_acl(&path).await.unwrap();
            let acls = acls.iter().map(|acl| {
                let permissions = if acl.permission() == Permission::ALL {
                    31
                } else {
                    0
                };
                json!([permissions, acl.scheme(), acl.id()])
            });
            nodes.push(json!({
                "path": path, "data": String::from_utf8(data).unwrap(), "version": stat.version,
                "ephemeral": stat.ephemeral_owner != 0, "acl": acls.collect::<Vec<_>>(),
            }));
        }
        Json::Array(nodes)
    }

    /// The paths of all nodes but the server's own, parents first.
    async fn paths(&self) -> Vec<String> {
        self.session.sync("/").await.unwrap();
        let mut paths = vec![String::new()];
        let mut next = 0;
        while let Some(parent) = paths.get(next).cloned() {
            next += 1;
            let asked = if parent.is_empty() { "/" } else { &parent };
            let mut children = self.session.list_children(asked).await.unwrap_or_default();
            children.sort();
            let children = children.into_iter().map(|child| format!("{parent}/{child}"));
            paths.extend(children.filter(|path| path != "/zookeeper"));
        }
        paths.remove(0);
        paths
    }
}
