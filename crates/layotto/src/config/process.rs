//! The root of the file: the server, metrics, tracing, administration.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use layotto_core::{Registry, Secret};
use layotto_mesh::{
    access_log::Roller,
    cluster::{Clusters, config::ClusterManager},
    filter::KINDS,
    metrics::Matcher,
    router::{Table, config::RouterConfig},
    trace::zipkin,
};
use tracing::level_filters::LevelFilter;

use super::{
    known,
    listener::Listeners,
    model::{Address, Admin, Config, PrometheusSink, Router, Server, Tracing, TracingDriver},
    others,
    reader::{Field, Object, list_of},
};
use crate::{functions::Global, logging};

/// Where upstream gives profiles.
const PPROF_PORT: u16 = 9090;

/// Reads the whole file.
pub(super) fn read(root: &Field<'_>, registry: &Registry) -> Config {
    root.object(|o| {
        o.later(&["dynamic_resources", "static_resources", "node"]);
        o.later(&["uds_dir", "inherit_old_mosnconfig", "plugin", "third_part_codec"]);
        o.later(&["extends"]);
        o.ignore(&["disable_upgrade", "close_graceful"]);
        let (metrics, stats_matcher) = o
            .get("metrics")
            .and_then(|field| metrics(&field))
            .unwrap_or_default();
        Config {
            admin: o.get("admin").and_then(|field| admin(&field)).unwrap_or_default(),
            stats_matcher,
            metrics,
            tracing: o.get("tracing").and_then(|field| tracing(&field)),
            pprof: o.get("pprof").and_then(|field| pprof(&field)),
            pid: path(o, "pid"),
            wasm_plugins: o
                .get("wasm_global_plugins")
                .map(|field| wasm_plugins(&field))
                .unwrap_or_default(),
            clusters: o
                .get("cluster_manager")
                .and_then(|field| clusters(&field))
                .unwrap_or_default(),
            server: only_server(o, registry).unwrap_or_default(),
        }
    })
    .unwrap_or_default()
}

fn path(o: &Object<'_>, key: &'static str) -> Option<PathBuf> {
    let text = o.get(key)?.text()?;
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn clusters(field: &Field<'_>) -> Option<ClusterManager> {
    let manager = field.typed::<ClusterManager>(others::CLUSTERS)?;
    match Clusters::build_in(&manager, &[field.folder()], None) {
        Ok(_) => Some(manager),
        Err(error) => {
            field.refuse_built(error);
            None
        }
    }
}

fn wasm_plugins(field: &Field<'_>) -> Vec<Global> {
    let mut plugins: Vec<Global> = Vec::new();
    for field in field.list() {
        let Some(plugin) = field.typed::<Global>(&[]) else {
            continue;
        };
        match plugin.check(&plugins) {
            Ok(()) => plugins.push(plugin),
            Err(error) => field.refuse_built(error),
        }
    }
    plugins
}

fn pprof(field: &Field<'_>) -> Option<Address> {
    field.object(|o| {
        let debug = o.get("debug").and_then(|debug| debug.boolean());
        let host = text(o, "endpoint").unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = match o.get("port_value") {
            Some(port) => port.port()?,
            None => PPROF_PORT,
        };
        (debug == Some(true)).then_some(Address::Tcp { host, port })
    })?
}

fn only_server(o: &Object<'_>, registry: &Registry) -> Option<Server> {
    const ACCEPTED: &str = "a list with one server";
    let field = o.require("servers", ACCEPTED)?;
    let servers = field.list();
    match servers.as_slice() {
        [one] => one.object(|o| server(o, registry)),
        [] => {
            if matches!(field.node.value, super::node::Value::List(_)) {
                field.error(format!("the list is empty, expected {ACCEPTED}"));
            }
            None
        }
        many => {
            field.error(format!("multiple server not supported yet, got {}", many.len()));
            None
        }
    }
}

fn server(o: &Object<'_>, registry: &Registry) -> Server {
    o.ignore(&["use_netpoll_mode"]);
    Server {
        name: text(o, "mosn_server_name"),
        log_path: text(o, "default_log_path"),
        log_level: o.get("default_log_level").and_then(|field| log_level(&field)),
        graceful_timeout: duration(o, "graceful_timeout"),
        log_roller: o
            .get("global_log_roller")
            .and_then(|field| roller(&field))
            .unwrap_or_default(),
        processor: o.get("processor").and_then(|field| processor(&field)),
        routers: routers(o),
        listeners: o
            .get("listeners")
            .map(|field| Listeners::read(&field, registry))
            .unwrap_or_default(),
    }
}

fn routers(o: &Object<'_>) -> Vec<Router> {
    let Some(field) = o.get("routers") else {
        return Vec::new();
    };
    let mut names = HashSet::new();
    let mut routers = Vec::new();
    for field in field.list() {
        let Some(config) = field.typed::<RouterConfig>(others::ROUTERS) else {
            continue;
        };
        let table = match Table::new_in(&config, KINDS, &[field.folder()]) {
            Ok(table) => Arc::new(table),
            Err(error) => {
                field.refuse_built(error);
                continue;
            }
        };
        if !names.insert(config.router_config_name.clone()) {
            field.error(format!(
                "another router is called {:?} too",
                config.router_config_name
            ));
            continue;
        }
        routers.push(Router { config, table });
    }
    routers
}

/// A text that says something.
pub(super) fn text(o: &Object<'_>, key: &'static str) -> Option<String> {
    let text = o.get(key)?.text()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// A duration.
pub(super) fn duration(o: &Object<'_>, key: &'static str) -> Option<Duration> {
    o.get(key)?.duration()
}

/// As upstream, which falls back to INFO, but says so.
fn log_level(field: &Field<'_>) -> Option<LevelFilter> {
    let text = field.text()?;
    let level = logging::level(text);
    if level.is_none() && !text.is_empty() {
        field.advise(format!(
            "found {text:?}, expected one of: {}; INFO is used",
            logging::LEVELS
        ));
    }
    level
}

fn roller(field: &Field<'_>) -> Option<Roller> {
    match Roller::parse(field.text()?) {
        Ok(roller) => Some(roller),
        Err(error) => {
            field.refuse_built(error);
            None
        }
    }
}

fn processor(field: &Field<'_>) -> Option<usize> {
    if matches!(&field.node.value, super::node::Value::Text(text) if text == "auto") {
        return None;
    }
    let threads: usize = field.number("a number of threads or \"auto\"")?;
    (threads > 0).then_some(threads)
}

fn admin(field: &Field<'_>) -> Option<Admin> {
    field.object(|o| Admin {
        token: text(o, "token").map(Secret::new),
        address: o.get("address").and_then(|field| admin_address(&field)),
    })
}

fn admin_address(field: &Field<'_>) -> Option<Address> {
    field.object(|o| {
        o.require("socket_address", "an object with address and port_value")?
            .object(|o| {
                let host = text(o, "address").unwrap_or_else(|| "127.0.0.1".to_owned());
                o.ignore(&["protocol"]);
                let port = o.require("port_value", "a port, 0 to 65535")?.port()?;
                Some(Address::Tcp { host, port })
            })?
    })?
}

fn metrics(field: &Field<'_>) -> Option<(Vec<PrometheusSink>, Matcher)> {
    field.object(|o| {
        o.later(&["shm_zone", "shm_size"]);
        o.ignore(&["flush_mosn", "lazy_flush", "sample", "ewma"]);
        let sinks = o.get("sinks").map(|field| field.list()).unwrap_or_default();
        let matcher = o.get("stats_matcher").and_then(|field| field.typed(&[]));
        (
            sinks.iter().filter_map(sink).collect(),
            matcher.unwrap_or_default(),
        )
    })
}

fn sink(field: &Field<'_>) -> Option<PrometheusSink> {
    field.object(|o| {
        let type_field = o.require("type", "\"prometheus\"");
        let config = o.get("config");
        type_field?.choice(&[("prometheus", ())])?;
        config
            .or_else(|| o.require("config", "an object with the port"))?
            .object(prometheus)?
    })?
}

fn prometheus(o: &Object<'_>) -> Option<PrometheusSink> {
    o.later(&["percentiles"]);
    o.ignore(&["disable_collect_go"]);
    let flag = |key| o.get(key).and_then(|field| field.boolean());
    let sink = PrometheusSink {
        address: text(o, "address").unwrap_or_else(|| "127.0.0.1".to_owned()),
        endpoint: text(o, "endpoint").unwrap_or_else(|| "/metrics".to_owned()),
        disable_collect_process: flag("disable_collect_process").unwrap_or_default(),
        port: o.require("port", "a port, 0 to 65535")?.port()?,
    };
    Some(sink)
}

fn tracing(field: &Field<'_>) -> Option<Tracing> {
    field.object(|o| {
        let enabled = o.get("enable").and_then(|field| field.boolean()).unwrap_or(false);
        let config = o.get("config");
        let driver = o
            .get("driver")
            .and_then(|field| tracing_driver(&field, config.as_ref(), enabled));
        if !enabled {
            return None;
        }
        Some(Tracing {
            driver: driver?,
            config: config.map(|field| field.node.to_json()).unwrap_or_default(),
        })
    })?
}

fn tracing_driver(field: &Field<'_>, config: Option<&Field<'_>>, enabled: bool) -> Option<TracingDriver> {
    match field.text()? {
        "SOFATracer" => Some(TracingDriver::SofaTracer),
        "Zipkin" if enabled => zipkin(config.unwrap_or(field)).map(TracingDriver::Zipkin),
        "Zipkin" => None,
        driver if known::LATER_TRACING_DRIVERS.contains(&driver) => {
            if enabled {
                field.unsupported(format!(
                    "tracing driver {driver} is not supported yet: tracing is off"
                ));
            }
            None
        }
        driver => {
            let known = list_of(
                ["SOFATracer", "Zipkin"]
                    .iter()
                    .chain(known::LATER_TRACING_DRIVERS),
            );
            field.error(format!("found {driver:?}, expected {known}"));
            None
        }
    }
}

fn zipkin(field: &Field<'_>) -> Option<zipkin::Config> {
    let config = field.typed::<zipkin::Config>(&[])?;
    match config.check() {
        Ok(()) => Some(config),
        Err(error) => {
            field.refuse_built(error);
            None
        }
    }
}
