//! Names by which components refer to one another: each must exist. Names by which listeners and
//! routes do: those that do not exist are answered with errors, as upstream, and told here.

use std::{collections::HashSet, path::PathBuf};

use layotto_mesh::{
    cluster::Clusters,
    router::config::{ForwardAction, RouterConfig},
};

use super::{
    model::{ComponentConfig, Components, Config, Listener, RuntimeConfig, Terminal},
    reader::{Field, child_path, list_of},
    report::{Findings, Place},
};
use crate::{facts, functions};

/// Advises on what leads nowhere: routers and clusters that are named and not there, clusters
/// without hosts, words that are taken for others. `root` is the file that `config` was read from.
pub(super) fn check_plane(config: &Config, root: &Field<'_>) {
    check_clusters(config, root);
    let Some(clusters) = cluster_names(config, root.folder()) else {
        return;
    };
    let routers = config
        .server
        .routers
        .iter()
        .map(|router| &*router.config.router_config_name);
    let routers: HashSet<&str> = routers.collect();
    for (index, router) in config.server.routers.iter().enumerate() {
        let at = format!("servers[0].routers[{index}]");
        for (path, name) in targets(&router.config, &at).filter(|(_, name)| !clusters.contains(*name)) {
            root.advise_at(
                &path,
                format!("no cluster is called {name:?}: its requests are answered with an error"),
            );
        }
    }
    for listener in &config.server.listeners {
        match &listener.terminal {
            Terminal::Proxy(proxy) if !listener.needs_no_route() => {
                let name = &*proxy.router_config_name;
                if !name.is_empty() && !routers.contains(name) {
                    root.advise_at(
                        &listener.place.path,
                        format!("no router is called {name:?}: every request is answered with 404"),
                    );
                }
            }
            Terminal::TcpProxy(tcp) => {
                let routes = tcp.routes.iter().map(|route| &route.cluster);
                let named = routes.chain([&tcp.cluster]).filter(|name| !name.is_empty());
                for name in named.filter(|name| !clusters.contains(name.as_str())) {
                    root.advise_at(
                        &listener.place.path,
                        format!("no cluster is called {name:?}: its connections are closed"),
                    );
                }
            }
            Terminal::Proxy(_) | Terminal::Grpc(_) | Terminal::Later { .. } => {}
        }
    }
}

/// `None`: the folder of clusters cannot be read, which is reported where it is named.
fn cluster_names(config: &Config, folder: PathBuf) -> Option<HashSet<String>> {
    if config.clusters.clusters_configs.is_empty() {
        let listed = config.clusters.clusters.iter();
        return Some(listed.map(|cluster| cluster.name.clone()).collect());
    }
    let built = Clusters::build_in(&config.clusters, &[folder], None).ok()?;
    Some(built.iter().map(|cluster| cluster.name.to_string()).collect())
}

/// The clusters that routes name, each with the path of its name.
fn targets<'r>(router: &'r RouterConfig, at: &str) -> impl Iterator<Item = (String, &'r str)> {
    let mut targets = Vec::new();
    for (host, virtual_host) in router.virtual_hosts.iter().enumerate() {
        for (index, rule) in virtual_host.routers.iter().enumerate() {
            let at = format!("{at}.virtual_hosts[{host}].routers[{index}].route");
            let answers = rule.direct_response.is_some() || rule.redirect.is_some();
            match &rule.route {
                Some(route) if !answers => targets.extend(targets_of(route, &at)),
                _ => {}
            }
        }
    }
    targets.into_iter()
}

fn targets_of<'r>(route: &'r ForwardAction, at: &str) -> Vec<(String, &'r str)> {
    if !route.cluster_name.is_empty() {
        return vec![(format!("{at}.cluster_name"), &route.cluster_name)];
    }
    if !route.cluster_variable.is_empty() {
        return Vec::new();
    }
    let weighted = route.weighted_clusters.iter().enumerate();
    let weighted = weighted.filter(|(_, weighted)| weighted.cluster.weight > 0);
    weighted
        .map(|(index, weighted)| {
            let path = format!("{at}.weighted_clusters[{index}].cluster.name");
            (path, &*weighted.cluster.name)
        })
        .collect()
}

/// Balancers, and kinds of clusters, that are what they say.
const BALANCERS: [&str; 9] = [
    "LB_RANDOM",
    "LB_ROUNDROBIN",
    "LB_WEIGHTED_ROUNDROBIN",
    "LB_LEAST_REQUEST",
    "LB_LEAST_CONNECTION",
    "LB_MAGLEV",
    "LB_RING_HASH",
    "LB_REQUEST_ROUNDROBIN",
    "LB_PEAK_EWMA",
];
const KINDS: [&str; 2] = ["SIMPLE", "STRICT_DNS"];

fn check_clusters(config: &Config, root: &Field<'_>) {
    for (index, cluster) in config.clusters.clusters.iter().enumerate() {
        let at = format!("cluster_manager.clusters[{index}]");
        if cluster.hosts.is_empty() {
            let name = &cluster.name;
            root.advise_at(
                &at,
                format!("cluster {name:?} has no hosts: its requests are answered with an error"),
            );
        }
        let words = [
            ("lb_type", &cluster.lb_type, "LB_ROUNDROBIN", list_of(BALANCERS)),
            ("type", &cluster.kind, "SIMPLE", list_of(KINDS)),
        ];
        for (key, found, taken, known) in words {
            if !found.is_empty() && !known.contains(&format!("{found:?}")) {
                root.advise_at(
                    &format!("{at}.{key}"),
                    format!("found {found:?}, which is taken for {taken:?}; known are {known}"),
                );
            }
        }
    }
}

/// Reports secret and configuration stores that are named and not there.
pub(super) fn check(runtime: &RuntimeConfig, findings: &Findings) {
    for component in runtime.components() {
        for secret in &component.secret_ref {
            expect(
                &runtime.secret_store,
                &secret.store_name,
                "secret_ref",
                component,
                findings,
            );
        }
        let refs = &component.component_ref;
        if let Some(name) = &refs.secret_store {
            expect(
                &runtime.secret_store,
                name,
                "component_ref.secret_store",
                component,
                findings,
            );
        }
        if let Some(name) = &refs.config_store {
            expect(
                &runtime.config_store,
                name,
                "component_ref.config_store",
                component,
                findings,
            );
        }
    }
}

/// Reports functions that name a module which is not there.
pub(super) fn check_functions(config: &Config, findings: &Findings) {
    let filters = config
        .server
        .listeners
        .iter()
        .flat_map(|listener| &listener.stream_filters);
    let known = match config.wasm_plugins.as_slice() {
        [] => "there are none".to_owned(),
        plugins => format!(
            "expected {}",
            list_of(plugins.iter().map(|plugin| &plugin.plugin_name))
        ),
    };
    for filter in filters {
        let unresolved = functions::unresolved(&filter.type_name, &filter.config, &config.wasm_plugins);
        for (path, named) in unresolved {
            let place = Place {
                path: child_path(&filter.place.path, &format!("config.{path}")),
                ..filter.place.clone()
            };
            findings.error(
                place,
                format!("no plug-in of wasm_global_plugins is called {named:?}; {known}"),
            );
        }
    }
}

/// Reports rpc components that call a listener which is not there.
pub(super) fn check_channels(listeners: &[Listener], findings: &Findings) {
    for listener in listeners {
        let Terminal::Grpc(grpc) = &listener.terminal else {
            continue;
        };
        for rpc in grpc.runtime.rpcs.values() {
            let Some(name) = facts::channel_listener(&rpc.settings) else {
                continue;
            };
            if !listeners.iter().any(|listener| listener.name == name) {
                let place = Place {
                    path: child_path(&rpc.place.path, "config.channel[0].listener"),
                    ..rpc.place.clone()
                };
                let known = list_of(listeners.iter().map(|listener| &listener.name));
                findings.error(
                    place,
                    format!("no listener is called {name:?}; expected host:port, {known}"),
                );
            }
        }
    }
}

fn expect(stores: &Components, name: &str, path: &str, component: &ComponentConfig, findings: &Findings) {
    if stores.contains_key(name) {
        return;
    }
    let kind = if path.ends_with("config_store") {
        "configuration store"
    } else {
        "secret store"
    };
    let known = match stores.len() {
        0 => "there are none".to_owned(),
        _ => format!("expected {}", list_of(stores.keys())),
    };
    let place = Place {
        path: child_path(&component.place.path, path),
        ..component.place.clone()
    };
    findings.error(place, format!("no {kind} is called {name:?}; {known}"));
}
