//! Configurations of the data plane, and the process that runs one.

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};

use super::{clients::Reply, peer::Peer};
use crate::sidecar::{PATIENCE, Sidecar, free_port};

/// A configuration in the making.
#[derive(Debug, Default, Clone)]
pub struct Plan {
    pub listeners: Vec<Value>,
    pub routers: Vec<Value>,
    pub clusters: Vec<Value>,
    /// Keys of the root.
    pub more: Value,
}

impl Plan {
    /// One `proxy` listener called `web` on `port`, whose routes are `routes`.
    pub fn web(port: u16, routes: Value) -> Self {
        Self::default()
            .listener(proxy("web", port, "routes"))
            .routes("routes", routes)
    }

    /// One more listener.
    pub fn listener(mut self, listener: Value) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Routes of a virtual host for every name.
    pub fn routes(self, name: &str, routes: Value) -> Self {
        self.hosts(
            name,
            json!([{"name": "all", "domains": ["*"], "routers": routes}]),
        )
    }

    /// Virtual hosts.
    pub fn hosts(mut self, name: &str, hosts: Value) -> Self {
        self.routers
            .push(json!({"router_config_name": name, "virtual_hosts": hosts}));
        self
    }

    /// One more cluster over `peers`, with the keys of `more`.
    pub fn cluster<'p>(mut self, name: &str, peers: impl IntoIterator<Item = &'p Peer>, more: Value) -> Self {
        let hosts: Vec<_> = peers
            .into_iter()
            .map(|peer| json!({"address": peer.addr().to_string()}))
            .collect();
        self.clusters.push(merged(
            json!({"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": hosts}),
            &more,
        ));
        self
    }

    /// Stream filters of the first listener.
    pub fn filters(mut self, filters: Value) -> Self {
        self.listeners[0]["stream_filters"] = filters;
        self
    }

    /// Keys of the root.
    pub fn root(mut self, more: Value) -> Self {
        self.more = more;
        self
    }

    /// The file.
    pub fn file(&self) -> Value {
        merged(
            json!({
                "servers": [{
                    "default_log_path": "stdout", "default_log_level": "INFO",
                    "listeners": self.listeners, "routers": self.routers,
                }],
                "cluster_manager": {"clusters": self.clusters},
            }),
            &self.more,
        )
    }

    /// Runs it.
    pub fn run(&self) -> Running {
        self.run_with(&[])
    }

    /// Runs it with variables of the environment.
    pub fn run_with(&self, env: &[(String, String)]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        self.run_in(folder, env)
    }

    /// Runs it in a folder that has files already.
    pub fn run_in(&self, folder: tempfile::TempDir, env: &[(String, String)]) -> Running {
        let mut process = Sidecar::with_config(folder.path(), &self.file(), env);
        let ports = self
            .listeners
            .iter()
            .filter(|listener| listener["bind_port"] == true);
        for listener in ports {
            let address = listener["address"].as_str().unwrap();
            let (_, port) = address.rsplit_once(':').unwrap();
            assert!(
                process.wait_for_port(port.parse().unwrap()),
                "{}",
                process.output()
            );
        }
        Running { process, folder }
    }
}

/// A process that runs a plan.
pub struct Running {
    pub process: Sidecar,
    pub folder: tempfile::TempDir,
}

/// What the process said shows why a test failed.
impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::sidecar::say(self.process.output());
        }
    }
}

impl Running {
    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("layotto-config.json")
    }

    /// Writes another configuration, in one step as editors and Kubernetes do.
    pub fn write(&self, plan: &Plan) {
        replace(&self.file(), &plan.file().to_string());
    }

    /// Waits until the log has `text`.
    pub async fn wait_for_log(&self, text: &str) {
        until(text, async || self.process.output().contains(text)).await;
    }

    /// How often the log has `text`.
    pub fn logged(&self, text: &str) -> usize {
        self.process.output().matches(text).count()
    }

    /// Writes another configuration and waits until it was applied.
    pub async fn apply(&self, plan: &Plan) {
        let before = self.logged("configuration applied");
        self.write(plan);
        until("the configuration applies", async || {
            self.logged("configuration applied") > before
        })
        .await;
    }
}

/// Replaces a file in one step.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Waits until `reached` holds.
pub async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !reached().await {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Waits until an exchange is answered as `wanted` says.
pub async fn until_reply<F: Future<Output = Reply>>(
    what: &str,
    send: impl Fn() -> F,
    wanted: impl Fn(&Reply) -> bool,
) {
    until(what, async || wanted(&send().await)).await;
}

/// A listener that routes.
pub fn proxy(name: &str, port: u16, router: &str) -> Value {
    listener(
        name,
        port,
        json!({"type": "proxy", "config": {
            "downstream_protocol": "Auto", "upstream_protocol": "Auto", "router_config_name": router}}),
    )
}

/// The listener `grpc` of a runtime.
pub fn runtime(port: u16, grpc_config: Value) -> Value {
    listener(
        "grpc",
        port,
        json!({"type": "grpc", "config": {"server_name": "runtime", "grpc_config": grpc_config}}),
    )
}

/// A listener with one network filter.
pub fn listener(name: &str, port: u16, filter: Value) -> Value {
    json!({
        "name": name, "address": format!("127.0.0.1:{port}"), "bind_port": true,
        "filter_chains": [{"filters": [filter]}],
    })
}

/// A listener that nothing but the process itself reaches, as the quickstarts have it.
pub fn virtual_proxy(name: &str, router: &str) -> Value {
    let mut listener = proxy(name, free_port(), router);
    listener["bind_port"] = json!(false);
    listener
}

/// The route of everything under `prefix` to `cluster`, with the keys of `action` besides.
pub fn to(prefix: &str, cluster: &str, action: Value) -> Value {
    json!({"match": {"prefix": prefix}, "route": merged(json!({"cluster_name": cluster}), &action)})
}

/// `base` with the keys of `more`.
pub fn merged(mut base: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    base
}
