//! Listeners: where they listen, what answers, which filters stand before it.

use std::{collections::HashMap, sync::Arc};

use layotto_core::Registry;
use layotto_mesh::{
    access_log,
    filter::{self, KINDS, Kind},
    proxy::{config::ProxyConfig, tcp},
    tap::tcpcopy,
    tls::{self, config::TlsContext},
};
use serde_json::Value as Json;

use super::{
    known,
    model::{Address, Direction, Grpc, Listener, StreamFilter, Terminal},
    others,
    process::{duration, text},
    reader::{Field, Object, list_of},
    references, runtime,
};
use crate::functions;

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
        references::check_channels(&listeners, field.findings());
        listeners
    }
}

fn listener(o: &Object<'_>, registry: &Registry) -> Option<Listener> {
    o.ignore(&["default_read_buffer_size"]);
    o.later(&["reuseport", "use_original_dst", "listener_filters"]);
    let name = text(o, "name");
    let address = address(o);
    let flag = |key| o.get(key).and_then(|field| field.boolean()).unwrap_or(false);
    let bind_port = flag("bind_port");
    let inspector = flag("inspector");
    let direction = o
        .get("type")
        .and_then(|field| direction(&field))
        .unwrap_or_default();
    let idle_timeout = duration(o, "connection_idle_timeout");
    let access_logs = o
        .get("access_logs")
        .map(|field| access_logs(&field))
        .unwrap_or_default();
    let stream_filters: Vec<_> = o
        .get("stream_filters")
        .map(|field| field.list().iter().filter_map(stream_filter).collect())
        .unwrap_or_default();
    let chain = chain(o, registry);
    let (address, chain) = (address?, chain?);
    if !bind_port && matches!(chain.terminal, Terminal::Grpc(_) | Terminal::TcpProxy(_)) {
        o.field()
            .advise("bind_port is not true: nothing listens on this address");
    }
    Some(Listener {
        name: name.unwrap_or_else(|| address.to_string()),
        address,
        bind_port,
        direction,
        inspector,
        idle_timeout,
        access_logs,
        tls: chain.tls,
        tcpcopy: chain.tcpcopy,
        terminal: chain.terminal,
        stream_filters,
        place: o.field().place().clone(),
    })
}

/// Which way calls go through the listener; any other word is none, as upstream.
fn direction(field: &Field<'_>) -> Option<Direction> {
    Some(match field.text()? {
        "ingress" => Direction::Ingress,
        "egress" => Direction::Egress,
        _ => Direction::Unknown,
    })
}

fn access_logs(field: &Field<'_>) -> Vec<access_log::Config> {
    let logs = field.list();
    let read = logs.iter().filter_map(|field| {
        let log = field.typed::<access_log::Config>(others::ACCESS_LOG)?;
        for name in access_log::Format::parse(&log.log_format).unknown() {
            field.advise(format!(
                "nothing is known by the variable %{name}%; it is always \"-\""
            ));
        }
        Some(log)
    });
    read.collect()
}

#[derive(Clone, Copy)]
enum Transport {
    Tcp,
    Unix,
    Udp,
}

fn address(o: &Object<'_>) -> Option<Address> {
    let network = o.get("network").map_or(Some(Transport::Tcp), |field| {
        if field.node.is_blank() {
            return Some(Transport::Tcp);
        }
        let choices = [
            ("tcp", Transport::Tcp),
            ("unix", Transport::Unix),
            ("udp", Transport::Udp),
        ];
        let network = field.choice(&choices)?;
        if matches!(network, Transport::Udp) {
            field.unsupported("network udp is not supported yet: nothing listens here");
        }
        Some(network)
    });
    let accepted = match network {
        Some(Transport::Unix) => "the path of a socket",
        _ => "a text \"host:port\"",
    };
    let field = o.require("address", accepted)?;
    let text = field.text_as(accepted)?;
    if matches!(network?, Transport::Unix) {
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
        let config = match (KINDS.iter().find(|kind| kind.name == type_name), config) {
            (Some(kind), Some(config)) => config.filter_config(kind)?,
            (Some(kind), None) => build_without_config(kind, o.field())?,
            (None, _) if !is_known_stream_filter(&type_field, type_name) => return None,
            (None, config) => own_config(type_name, o.field(), config)?,
        };
        Some(StreamFilter {
            type_name: type_name.to_owned(),
            config,
            place: o.field().place().clone(),
        })
    })?
}

/// The configuration of a filter that is not the data plane's.
fn own_config(type_name: &str, filter: &Field<'_>, config: Option<Field<'_>>) -> Option<Json> {
    let config = config.map(|field| field.node.to_json()).unwrap_or_default();
    if let Err(error) = functions::check(type_name, &config) {
        filter.refuse_built(error.under("config"));
        return None;
    }
    Some(config)
}

fn build_without_config(kind: &Kind, field: &Field<'_>) -> Option<Json> {
    match (kind.build)(&Json::Null, &filter::Context::default()) {
        Ok(_) => Some(Json::Null),
        Err(error) => {
            field.refuse_built(error.under("config"));
            None
        }
    }
}

fn is_known_stream_filter(field: &Field<'_>, type_name: &str) -> bool {
    if known::OWN_STREAM_FILTERS.iter().any(|(own, _)| *own == type_name) {
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
    let built = KINDS
        .iter()
        .map(|kind| kind.name)
        .chain(known::OWN_STREAM_FILTERS.iter().map(|(own, _)| *own));
    let known = built.chain(known::LATER_STREAM_FILTERS.iter().chain(known::GUARDS).copied());
    field.error(format!("found {type_name:?}, expected {}", list_of(known)));
    false
}

/// What a filter chain says.
struct Chain {
    tls: Vec<TlsContext>,
    tcpcopy: Option<tcpcopy::Config>,
    terminal: Terminal,
}

fn chain(o: &Object<'_>, registry: &Registry) -> Option<Chain> {
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
        let tls = tls_contexts(o);
        let filters = o.require("filters", "a list of network filters")?;
        let mut terminal = None;
        let mut tcpcopy = None;
        for filter in filters.list() {
            match filter.object(|o| network_filter(o, registry)).flatten() {
                Some(Network::Terminal(next)) => terminal = terminal.or(Some(next)),
                Some(Network::Tcpcopy(config)) => tcpcopy = Some(config),
                Some(Network::Nothing) | None => {}
            }
        }
        if terminal.is_none() && filters.node.is_blank() {
            filters
                .error("the list is empty, expected a network filter: \"grpc\", \"proxy\" or \"tcp_proxy\"");
        }
        Some(Chain {
            tls: tls?,
            tcpcopy,
            terminal: terminal?,
        })
    })?
}

/// The TLS contexts that are on. `None`: one of them is wrong.
fn tls_contexts(o: &Object<'_>) -> Option<Vec<TlsContext>> {
    let one = o.get("tls_context").into_iter();
    let set = o
        .get("tls_context_set")
        .map(|field| field.list())
        .unwrap_or_default();
    let contexts = one.chain(set).map(|field| field.typed::<TlsContext>(others::TLS));
    let contexts = contexts
        .collect::<Vec<_>>()
        .into_iter()
        .collect::<Option<Vec<_>>>()?;
    let options = tls::server::Options {
        folders: vec![o.field().folder()],
        ..tls::server::Options::default()
    };
    if let Err(error) = tls::server::Acceptor::build(&contexts, &options) {
        let key = match o.get("tls_context") {
            Some(_) => "tls_context",
            None => "tls_context_set",
        };
        o.field().refuse_built(error.under(key));
        return None;
    }
    Some(contexts.into_iter().filter(|context| context.status).collect())
}

/// What a network filter is.
enum Network {
    Terminal(Terminal),
    Tcpcopy(tcpcopy::Config),
    Nothing,
}

fn network_filter(o: &Object<'_>, registry: &Registry) -> Option<Network> {
    o.later(&["go_plugin_config"]);
    let config = o.get("config");
    let type_field = o.require("type", "the type of a network filter")?;
    match type_field.text()? {
        "grpc" => {
            let grpc = match config {
                Some(config) => config.object(|o| grpc(o, registry))?,
                None => Grpc::default(),
            };
            Some(Network::Terminal(Terminal::Grpc(Box::new(grpc))))
        }
        "proxy" => {
            let config = match config {
                Some(config) => proxy(&config)?,
                None => ProxyConfig::default(),
            };
            Some(Network::Terminal(Terminal::Proxy(config)))
        }
        "tcp_proxy" => {
            let field = config.or_else(|| o.require("config", "an object with the cluster"))?;
            let config = field.typed::<tcp::TcpProxyConfig>(others::TCP_PROXY)?;
            if let Err(error) = tcp::TcpProxy::build(&config, Arc::default()) {
                field.refuse_built(error);
                return None;
            }
            Some(Network::Terminal(Terminal::TcpProxy(config)))
        }
        "tcpcopy" => {
            let config = match &config {
                Some(config) => config.typed::<tcpcopy::Config>(others::TCPCOPY)?,
                None => tcpcopy::Config::default(),
            };
            if let Err(error) = config.validate() {
                o.field().refuse_built(error.under("config"));
                return None;
            }
            Some(Network::Tcpcopy(config))
        }
        filter if known::LATER_NETWORK_FILTERS.contains(&filter) => {
            type_field.unsupported(format!(
                "network filter {filter} is not supported yet and has no effect"
            ));
            // Beside another one it only watches; that one answers.
            Some(match filter {
                "fault_inject" => Network::Nothing,
                filter => Network::Terminal(Terminal::Later {
                    filter: filter.to_owned(),
                }),
            })
        }
        filter => {
            let known = [known::NETWORK_FILTERS, known::LATER_NETWORK_FILTERS].concat();
            type_field.error(format!("found {filter:?}, expected {}", list_of(known)));
            None
        }
    }
}

fn proxy(field: &Field<'_>) -> Option<ProxyConfig> {
    let config = field.typed::<ProxyConfig>(others::PROXY)?;
    let read = config
        .downstream()
        .map(drop)
        .and_then(|()| config.upstream().map(drop));
    match read {
        Ok(()) => Some(config),
        Err(error) => {
            field.refuse_built(error);
            None
        }
    }
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
