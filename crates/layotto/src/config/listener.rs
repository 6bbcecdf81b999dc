//! Listeners: where they listen, what answers, which filters stand before it.

use std::collections::HashMap;

use layotto_core::Registry;

use super::{
    known,
    model::{Address, Grpc, Listener, StreamFilter, Terminal},
    process::{duration, text},
    reader::{Field, Object, list_of},
    runtime,
};

/// The listeners of the server.
pub(super) struct Listeners;

impl Listeners {
    /// Reads them all, and reports names and addresses that two of them share.
    pub(super) fn read(field: &Field<'_>, registry: &Registry) -> Vec<Listener> {
        let mut names: HashMap<String, String> = HashMap::new();
        let mut addresses: HashMap<Address, String> = HashMap::new();
        let mut listeners = Vec::new();
        for item in field.list() {
            let Some(listener) = item.object(|o| listener(o, registry)).flatten() else {
                continue;
            };
            let path = item.place().path.clone();
            if let Some(other) = names.insert(listener.name.clone(), path.clone()) {
                item.error(format!("has the same name as {other}: {:?}", listener.name));
            }
            let fixed = !matches!(listener.address, Address::Tcp { port: 0, .. });
            if fixed
                && listener.bind_port
                && let Some(other) = addresses.insert(listener.address.clone(), path)
            {
                item.error(format!("has the same address as {other}: {}", listener.address));
            }
            listeners.push(listener);
        }
        listeners
    }
}

fn listener(o: &Object<'_>, registry: &Registry) -> Option<Listener> {
    o.ignore(&["type", "default_read_buffer_size"]);
    o.later(&["reuseport", "use_original_dst", "access_logs", "listener_filters"]);
    o.later(&["inspector", "connection_idle_timeout"]);
    let name = text(o, "name");
    let address = address(o);
    let bind_port = o
        .get("bind_port")
        .and_then(|field| field.boolean())
        .unwrap_or(false);
    let stream_filters: Vec<_> = o
        .get("stream_filters")
        .map(|field| field.list().iter().filter_map(stream_filter).collect())
        .unwrap_or_default();
    let terminal = terminal(o, registry, &stream_filters);
    let (address, terminal) = (address?, terminal?);
    if !bind_port && !matches!(terminal, Terminal::Later { .. }) {
        o.field()
            .advise("bind_port is not true: nothing listens on this address");
    }
    Some(Listener {
        name: name.unwrap_or_else(|| address.to_string()),
        address,
        bind_port,
        terminal,
        stream_filters,
        place: o.field().place().clone(),
    })
}

#[derive(Clone, Copy)]
enum Network {
    Tcp,
    Unix,
    Udp,
}

fn address(o: &Object<'_>) -> Option<Address> {
    let network = o.get("network").map_or(Some(Network::Tcp), |field| {
        if field.node.is_blank() {
            return Some(Network::Tcp);
        }
        let choices = [
            ("tcp", Network::Tcp),
            ("unix", Network::Unix),
            ("udp", Network::Udp),
        ];
        let network = field.choice(&choices)?;
        if matches!(network, Network::Udp) {
            field.unsupported("network udp is not supported yet: nothing listens here");
        }
        Some(network)
    });
    let accepted = match network {
        Some(Network::Unix) => "the path of a socket",
        _ => "a text \"host:port\"",
    };
    let field = o.require("address", accepted)?;
    let text = field.text_as(accepted)?;
    if matches!(network?, Network::Unix) {
        return Some(Address::Unix(text.into()));
    }
    let parsed = tcp_address(text);
    if parsed.is_none() {
        field.error(format!("found {text:?}, expected {accepted}"));
    }
    parsed
}

fn tcp_address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().ok().map(|_| ip)?,
        None if host.contains([':', '/', ' ']) => return None,
        None => host,
    };
    Some(Address::Tcp {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

fn stream_filter(field: &Field<'_>) -> Option<StreamFilter> {
    field.object(|o| {
        o.later(&["go_plugin_config"]);
        let config = o.get("config");
        let type_field = o.require("type", "the type of a stream filter")?;
        let type_name = type_field.text()?;
        if !is_known_stream_filter(&type_field, type_name) {
            return None;
        }
        if let Some(config) = config.as_ref().filter(|_| type_name == "flowControlFilter") {
            flow_control(config);
        }
        Some(StreamFilter {
            type_name: type_name.to_owned(),
            config: config.map(|field| field.node.to_json()).unwrap_or_default(),
            place: o.field().place().clone(),
        })
    })?
}

fn is_known_stream_filter(field: &Field<'_>, type_name: &str) -> bool {
    if known::STREAM_FILTERS.contains(&type_name) {
        return true;
    }
    if known::LATER_STREAM_FILTERS.contains(&type_name) {
        field.unsupported(format!(
            "stream filter {type_name} is not supported yet and has no effect"
        ));
        return true;
    }
    if known::GUARDS.contains(&type_name) {
        field.error(format!(
            "stream filter {type_name} is not supported yet; without it the listener would let everybody in"
        ));
        return false;
    }
    let known = [known::STREAM_FILTERS, known::LATER_STREAM_FILTERS, known::GUARDS].concat();
    field.error(format!("found {type_name:?}, expected {}", list_of(known)));
    false
}

fn flow_control(config: &Field<'_>) {
    config.object(|o| {
        o.ignore(known::FLOW_CONTROL_KEYS);
        for rule in o.get("rules").map(|field| field.list()).unwrap_or_default() {
            rule.object(|o| o.ignore(known::FLOW_RULE_KEYS));
        }
    });
}

fn terminal(o: &Object<'_>, registry: &Registry, stream_filters: &[StreamFilter]) -> Option<Terminal> {
    const ACCEPTED: &str = "a list with one filter chain";
    let field = o.require("filter_chains", ACCEPTED)?;
    let chains = field.list();
    let [chain] = chains.as_slice() else {
        if !chains.is_empty() || field.node.is_blank() {
            field.error(format!("has {} elements, expected {ACCEPTED}", chains.len()));
        }
        return None;
    };
    chain.object(|o| {
        o.ignore(&["match"]);
        refuse_tls(o);
        let filters = o.require("filters", "a list of network filters")?;
        let mut found = None;
        for filter in filters.list() {
            let next = filter.object(|o| network_filter(o, registry, stream_filters));
            found = found.or(next.flatten());
        }
        if found.is_none() && filters.node.is_blank() {
            filters.error("the list is empty, expected a network filter: \"grpc\" or \"proxy\"");
        }
        found
    })?
}

/// Serving in plain text what the file wants encrypted would be worse than not serving.
fn refuse_tls(o: &Object<'_>) {
    const MESSAGE: &str = "TLS on listeners is not supported yet; the listener would answer in plain text";
    let contexts = [
        o.get("tls_context").map(|field| vec![field]).unwrap_or_default(),
        o.get("tls_context_set")
            .map(|field| field.list())
            .unwrap_or_default(),
    ];
    for context in contexts.concat() {
        context.object(|o| {
            o.ignore(&["type", "server_name", "ca_cert", "cert_chain", "private_key"]);
            o.ignore(&["verify_client", "require_client_cert", "insecure_skip"]);
            o.ignore(&["cipher_suites", "ecdh_curves", "min_version", "max_version"]);
            o.ignore(&["alpn", "fall_back", "extend_verify", "callbacks", "sds_source"]);
            if o.get("status").and_then(|field| field.boolean()) == Some(true) {
                o.field().error(MESSAGE);
            }
        });
    }
}

fn network_filter(o: &Object<'_>, registry: &Registry, stream_filters: &[StreamFilter]) -> Option<Terminal> {
    o.later(&["go_plugin_config"]);
    let config = o.get("config");
    let type_field = o.require("type", "the type of a network filter")?;
    match type_field.text()? {
        "grpc" => {
            let grpc = match config {
                Some(config) => config.object(|o| grpc(o, registry))?,
                None => Grpc::default(),
            };
            Some(Terminal::Grpc(Box::new(grpc)))
        }
        "proxy" => {
            if let Some(config) = config {
                config.object(proxy_keys);
            }
            Some(proxy(&type_field, stream_filters))
        }
        filter if known::LATER_NETWORK_FILTERS.contains(&filter) => {
            type_field.unsupported(format!(
                "network filter {filter} is not supported yet and has no effect"
            ));
            // Beside `grpc` or `proxy` it only watches; they answer.
            (filter != "tcpcopy" && filter != "fault_inject").then(|| Terminal::Later {
                filter: filter.to_owned(),
            })
        }
        filter => {
            let known = [known::NETWORK_FILTERS, known::LATER_NETWORK_FILTERS].concat();
            type_field.error(format!("found {filter:?}, expected {}", list_of(known)));
            None
        }
    }
}

fn proxy(field: &Field<'_>, stream_filters: &[StreamFilter]) -> Terminal {
    if stream_filters
        .iter()
        .any(|filter| filter.type_name == "actuator_filter")
    {
        return Terminal::Actuator;
    }
    field.unsupported(
        "network filter proxy without actuator_filter is not supported yet: nothing listens here",
    );
    Terminal::Later {
        filter: "proxy".to_owned(),
    }
}

fn proxy_keys(o: &Object<'_>) {
    o.ignore(&["name", "downstream_protocol", "upstream_protocol"]);
    o.ignore(&["router_config_name", "router_handler_name", "concurrency_num"]);
    o.ignore(&["extend_config", "fallback_for_unknown_protocol"]);
}

fn grpc(o: &Object<'_>, registry: &Registry) -> Grpc {
    Grpc {
        server_name: text(o, "server_name").unwrap_or_else(|| "runtime".to_owned()),
        graceful_stop_timeout: duration(o, "graceful_stop_timeout"),
        max_message_bytes: o
            .get("max_message_bytes")
            .and_then(|field| max_message_bytes(&field)),
        runtime: o
            .get("grpc_config")
            .and_then(|field| runtime::read(&field, registry))
            .unwrap_or_default(),
    }
}

/// At most what a length on the wire can say.
fn max_message_bytes(field: &Field<'_>) -> Option<usize> {
    const ACCEPTED: &str = "a number of bytes, 1 to 4294967295";
    let bytes: u32 = field.number(ACCEPTED)?;
    if bytes == 0 {
        return field.refuse(ACCEPTED);
    }
    usize::try_from(bytes).ok()
}
