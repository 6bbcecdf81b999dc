//! What becomes of every key of a configuration file, for the reference page. Keys of the structs
//! of the data plane come from their schemas; those that are read one by one stand in tables, which
//! a test compares with what the reader does.

mod keys;
mod tables;
#[cfg(test)]
mod tests;

use layotto_mesh::{
    access_log,
    cluster::config::ClusterManager,
    config::Fate,
    filter::KINDS,
    metrics::Matcher,
    proxy::{config::ProxyConfig, tcp::TcpProxyConfig},
    router::config::{HeaderToAdd, RouterConfig},
    tap::tcpcopy,
    tls::config::TlsContext,
    trace::zipkin,
};
use schemars::{JsonSchema, schema_for};

use self::keys::of_schema;
use super::{known, others, reader::Others};
use crate::functions::{self, Global};

/// A part of the file and its keys.
#[derive(Debug)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// Where it stands in the file, such as `servers[].listeners[]`; empty for the whole file.
    pub at: &'static str,
    /// What there is to say of all of it.
    pub about: String,
    /// Its keys.
    pub keys: Vec<Key>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its path under the section's place, with `[]` for elements and `{}` for names.
    pub path: String,
    /// What becomes of it.
    pub status: Status,
    /// The type of its value.
    pub kind: String,
    /// What counts where it is absent.
    pub default: String,
    /// What it means, or why it means nothing.
    pub text: String,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Supported,
    /// It means nothing here; nobody is told.
    Ignored,
    /// Not supported yet: `start` warns, `check` fails.
    Later,
    /// An error: without it, something would be open or wrong.
    Refused,
}

impl From<Fate> for Status {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Ignored => Self::Ignored,
            Fate::Later => Self::Later,
        }
    }
}

/// The whole file.
pub fn sections() -> Vec<Section> {
    vec![
        table("The file", "", "", tables::ROOT),
        table("Server", "servers[]", "There is exactly one.", tables::SERVER),
        table("Listeners", "servers[].listeners[]", "", tables::LISTENER),
        typed::<access_log::Config>(
            "Access logs",
            "servers[].listeners[].access_logs[]",
            "The variables of a format are [below](#variables).",
            others::ACCESS_LOG,
        ),
        table(
            "Filter chains",
            "servers[].listeners[].filter_chains[]",
            "A listener has exactly one.",
            tables::CHAIN,
        ),
        typed::<TlsContext>(
            TLS,
            "servers[].listeners[].filter_chains[].tls_context",
            "The same keys stand in `tls_context_set[]`, and in the `tls_context` of a cluster and of the \
             `cluster_manager`.",
            others::TLS,
        ),
        network_filters(),
        table(
            "Network filter grpc",
            "servers[].listeners[].filter_chains[].filters[].config",
            "",
            tables::GRPC,
        ),
        typed::<ProxyConfig>(
            "Network filter proxy",
            "servers[].listeners[].filter_chains[].filters[].config",
            "",
            others::PROXY,
        ),
        typed::<TcpProxyConfig>(
            "Network filter tcp_proxy",
            "servers[].listeners[].filter_chains[].filters[].config",
            "Keys of `routes[]` are also read as `Cluster`, `SourceAddrs`, `DestinationAddrs`, `SourcePort` \
             and `DestinationPort`.",
            others::TCP_PROXY,
        ),
        typed::<tcpcopy::Config>(
            "Network filter tcpcopy",
            "servers[].listeners[].filter_chains[].filters[].config",
            "Stands before `grpc`, `proxy` or `tcp_proxy`.",
            others::TCPCOPY,
        ),
        stream_filters(),
        refusing(
            typed::<RouterConfig>("Routers", "servers[].routers[]", "", others::ROUTERS),
            "virtual_hosts[].routers[].match.dsl_expressions",
        ),
        typed::<HeaderToAdd>(
            HEADERS,
            "servers[].routers[].request_headers_to_add[]",
            "The same keys stand in `response_headers_to_add[]`, and in both of virtual hosts and of `route`.",
            &[],
        ),
        typed::<ClusterManager>("Clusters", "cluster_manager", "", others::CLUSTERS),
        table("Metrics", "metrics", "", tables::METRICS),
        typed::<Matcher>("Metrics that are left out", "metrics.stats_matcher", "", &[]),
        table("Tracing", "tracing", "", tables::TRACING),
        typed::<zipkin::Config>("Tracing with Zipkin", "tracing.config", "", &[]),
        table("Administration", "admin", "", tables::ADMIN),
        table("Profiling", "pprof", "", tables::PPROF),
        typed::<Global>(
            "Global plug-ins",
            "wasm_global_plugins[]",
            "Modules that functions name by `from_wasm_plugin`. Nothing is loaded before one does.",
            &[],
        ),
    ]
}

/// The options of a stream filter; `None`: there is no such filter with options.
pub fn stream_filter(name: &str) -> Option<Vec<Key>> {
    if let Some(schema) = functions::schema(name) {
        return Some(of_schema(&schema));
    }
    let kind = KINDS.iter().find(|kind| kind.name == name)?;
    let schema = (kind.schema)().to_value();
    let mut keys = of_schema(&schema);
    keys.extend(keys::others("", kind.other_keys));
    Some(keys)
}

/// Heading of the section that TLS contexts refer to.
const TLS: &str = "TLS";
/// Heading of the section that lists of headers refer to.
const HEADERS: &str = "Headers to add";

fn table(title: &str, at: &'static str, about: &str, rows: &[tables::Row]) -> Section {
    Section {
        title: title.to_owned(),
        at,
        about: about.to_owned(),
        keys: rows.iter().map(tables::Row::key).collect(),
    }
}

fn typed<T: JsonSchema>(title: &str, at: &'static str, about: &str, others: Others) -> Section {
    let mut keys = of_schema(&schema_for!(T).to_value());
    for (place, others) in others {
        // A TLS context has a section of its own.
        if !place.ends_with("tls_context") {
            keys.extend(keys::others(place, others));
        }
    }
    Section {
        title: title.to_owned(),
        at,
        about: about.to_owned(),
        keys,
    }
}

/// `section` with the key at `path` refused: the struct takes it in order to refuse it.
fn refusing(mut section: Section, path: &str) -> Section {
    let refused = section
        .keys
        .iter_mut()
        .filter(|key| key.path.trim_end_matches("[]") == path);
    refused.for_each(|key| key.status = Status::Refused);
    section
}

fn network_filters() -> Section {
    let mut keys: Vec<Key> = tables::NETWORK_FILTERS.iter().map(tables::Row::key).collect();
    keys.extend(known::LATER_NETWORK_FILTERS.iter().map(|name| {
        let text = match *name {
            "fault_inject" => "Has no effect.",
            _ => "Nothing listens.",
        };
        type_key(name, Status::Later, text.to_owned())
    }));
    Section {
        title: "Types of network filters".to_owned(),
        at: "servers[].listeners[].filter_chains[].filters[].type",
        about: String::new(),
        keys,
    }
}

fn stream_filters() -> Section {
    let of_kind = KINDS.iter().map(|kind| {
        let text = format!("See [{0}](filters/{0}.md).", kind.name);
        type_key(kind.name, Status::Supported, text)
    });
    let own = known::OWN_STREAM_FILTERS.iter();
    let own = own.map(|(name, text)| type_key(name, Status::Supported, (*text).to_owned()));
    let later = known::LATER_STREAM_FILTERS.iter();
    let later = later.map(|name| type_key(name, Status::Later, "Has no effect.".to_owned()));
    let guards = known::GUARDS.iter().map(|name| {
        let text = "Without it the listener would let everybody in, so it is an error.";
        type_key(name, Status::Refused, text.to_owned())
    });
    Section {
        title: "Types of stream filters".to_owned(),
        at: "servers[].listeners[].stream_filters[].type",
        about: "A type that is in no list is an error.".to_owned(),
        keys: of_kind.chain(own).chain(later).chain(guards).collect(),
    }
}

fn type_key(name: &str, status: Status, text: String) -> Key {
    Key {
        path: name.to_owned(),
        status,
        kind: String::new(),
        default: String::new(),
        text,
    }
}
