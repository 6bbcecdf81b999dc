//! The keys that are read one by one.

use super::{
    Key,
    Status::{self, Ignored, Later, Supported},
};

/// A key, or one value of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// The path under the place of the table.
    pub path: &'static str,
    /// What becomes of it.
    pub status: Status,
    /// The type of its value.
    pub kind: &'static str,
    /// What counts where it is absent.
    pub default: &'static str,
    /// What it means, or why it means nothing.
    pub text: &'static str,
    /// A value that one would give it, as JSON.
    #[cfg_attr(not(test), allow(dead_code, reason = "with it the test asks the reader"))]
    pub sample: &'static str,
}

impl Row {
    /// The key that it tells of.
    pub fn key(&self) -> Key {
        Key {
            path: self.path.to_owned(),
            status: self.status,
            kind: self.kind.to_owned(),
            default: self.default.to_owned(),
            text: self.text.to_owned(),
        }
    }
}

const fn key(
    path: &'static str,
    kind: &'static str,
    default: &'static str,
    sample: &'static str,
    text: &'static str,
) -> Row {
    Row {
        path,
        status: Supported,
        kind,
        default,
        text,
        sample,
    }
}

const fn ignored(path: &'static str, sample: &'static str, text: &'static str) -> Row {
    Row {
        path,
        status: Ignored,
        kind: "",
        default: "",
        text,
        sample,
    }
}

const fn later(path: &'static str, sample: &'static str, text: &'static str) -> Row {
    Row {
        status: Later,
        ..ignored(path, sample, text)
    }
}

pub(super) const ROOT: &[Row] = &[
    key(
        "servers[]",
        "list",
        "required",
        r#"[{"listeners": []}]"#,
        "The server: see [Server](#server). One element.",
    ),
    key(
        "cluster_manager",
        "object",
        "",
        r#"{"clusters": [{"name": "c"}]}"#,
        "Where requests can go: see [Clusters](#clusters).",
    ),
    key(
        "admin",
        "object",
        "",
        "{}",
        "See [Administration](#administration).",
    ),
    key("metrics", "object", "", "{}", "See [Metrics](#metrics)."),
    key(
        "tracing",
        "object",
        "",
        r#"{"enable": false}"#,
        "See [Tracing](#tracing).",
    ),
    key("pprof", "object", "", "{}", "See [Profiling](#profiling)."),
    key(
        "wasm_global_plugins[]",
        "list",
        "",
        r#"[{"plugin_name": "a", "vm_config": {"path": "a.wasm"}}]"#,
        "WebAssembly modules: see [Global plug-ins](#global-plug-ins).",
    ),
    key(
        "pid",
        "text",
        "`layotto.pid` in the data directory",
        r#""a.pid""#,
        "File for the process id.",
    ),
    ignored(
        "disable_upgrade",
        "true",
        "A process is not replaced by another one that takes its sockets over.",
    ),
    ignored("close_graceful", "true", "The older name of `disable_upgrade`."),
    later(
        "dynamic_resources",
        r#"{"ads_config": {}}"#,
        "Configuration comes from files; xDS is not spoken.",
    ),
    later("static_resources", r#"{"clusters": []}"#, "The bootstrap of xDS."),
    later("node", r#"{"id": "a"}"#, "The name of the process for xDS."),
    later("uds_dir", r#""/tmp""#, "Sockets of the hot upgrade."),
    later("inherit_old_mosnconfig", "true", "The hot upgrade."),
    later(
        "plugin",
        r#"{"log_base": "/tmp"}"#,
        "Plug-ins that are processes of their own.",
    ),
    later(
        "third_part_codec",
        r#"{"codecs": []}"#,
        "Protocols loaded from Go plug-ins and WebAssembly.",
    ),
    later(
        "extends",
        r#"[{"type": "dubbo_registry"}]"#,
        "`dubbo_registry`, `holmes`, `tunnel_agent`, `transcoder_plugin`.",
    ),
];

pub(super) const SERVER: &[Row] = &[
    key("mosn_server_name", "text", "", r#""a""#, "A name for people."),
    key(
        "default_log_path",
        "text",
        "`stdout`",
        r#""stderr""#,
        "Where the log goes: `stdout`, `stderr` or a file.",
    ),
    key(
        "default_log_level",
        "text",
        "INFO",
        r#""WARN""#,
        "`trace`, `debug`, `info`, `warn`, `error`, `fatal` or `off`; any other word counts as INFO, with a \
         hint. `--log-level` goes before it.",
    ),
    key(
        "global_log_roller",
        "text",
        "one file a day",
        r#""size=100 keep=3""#,
        "When access logs are put aside: `size=MB`, `age=DAYS` and `keep=N` in any choice, or `time=HOURS`, \
         up to 24. `compress` changes nothing.",
    ),
    key(
        "graceful_timeout",
        "duration",
        "`--drain-time-s`, else 30 s",
        r#""10s""#,
        "How long calls may go on when the process ends, where `grpc` has no `graceful_stop_timeout`.",
    ),
    key(
        "processor",
        "whole number or `auto`",
        "one per core",
        "2",
        "Threads that serve; 0 and `auto`: one per core.",
    ),
    key(
        "listeners[]",
        "list",
        "none",
        "[]",
        "See [Listeners](#listeners).",
    ),
    key("routers[]", "list", "none", "[]", "See [Routers](#routers)."),
    ignored(
        "use_netpoll_mode",
        "true",
        "There is one way to wait for the network.",
    ),
];

pub(super) const LISTENER: &[Row] = &[
    key(
        "name",
        "text",
        "the address",
        r#""a""#,
        "By it the listener is found: by `rpcs`, the admin API and a reload. Unique.",
    ),
    key(
        "address",
        "text",
        "required",
        r#""127.0.0.1:0""#,
        "`host:port` or `[v6]:port`, where port 0 takes a free one; with `network: unix` the path of a socket.",
    ),
    key("network", "text", "`tcp`", r#""tcp""#, "`tcp` or `unix`."),
    later("network: udp", r#""udp""#, "Nothing listens."),
    key(
        "bind_port",
        "boolean",
        "false",
        "true",
        "Whether it opens its address. Without, only calls from inside the process reach it, by its name.",
    ),
    key(
        "type",
        "text",
        "",
        r#""ingress""#,
        "`ingress` (calls to the application) or `egress` (from it), for people: nothing depends on it.",
    ),
    key(
        "inspector",
        "boolean",
        "false",
        "true",
        "With TLS: whether connections without are taken too, told by their first byte.",
    ),
    key(
        "connection_idle_timeout",
        "duration",
        "90 s for `proxy`, for ever for `grpc`",
        r#""60s""#,
        "How long a connection may be unused before it is closed.",
    ),
    key(
        "access_logs[]",
        "list",
        "none",
        "[]",
        "See [Access logs](#access-logs).",
    ),
    key(
        "filter_chains[]",
        "list",
        "required",
        r#"[{"filters": [{"type": "grpc"}]}]"#,
        "What answers: see [Filter chains](#filter-chains). One element.",
    ),
    key(
        "stream_filters[].type",
        "text",
        "required",
        r#""payload_limit""#,
        "What stands before it, in this order: see [types](#types-of-stream-filters).",
    ),
    key(
        "stream_filters[].config",
        "object",
        "",
        r#"{"max_entity_size": 1}"#,
        "The options of the filter. A mistake in them ends the start.",
    ),
    later(
        "stream_filters[].go_plugin_config",
        r#"{"so_path": "a.so"}"#,
        "Loads code written in Go.",
    ),
    later(
        "use_original_dst",
        r#""redirect""#,
        "A connection is not handed to the listener of its first destination.",
    ),
    later(
        "listener_filters",
        r#"[{"type": "original_dst"}]"#,
        "There is only `original_dst`, which goes with `use_original_dst`.",
    ),
    later("reuseport", "true", "One process has the address."),
    ignored(
        "default_read_buffer_size",
        "1024",
        "Buffers have the size that the traffic asks for.",
    ),
];

pub(super) const CHAIN: &[Row] = &[
    key(
        "tls_context",
        "object",
        "no TLS",
        r#"{"status": false}"#,
        "See [TLS](#tls).",
    ),
    key(
        "tls_context_set[]",
        "list",
        "no TLS",
        r#"[{"status": false}]"#,
        "Several certificates; the name that a client asks for chooses one.",
    ),
    key(
        "filters[].type",
        "text",
        "required",
        r#""grpc""#,
        "See [types](#types-of-network-filters). The first that answers counts.",
    ),
    key(
        "filters[].config",
        "object",
        "",
        "{}",
        "The keys of that type, below.",
    ),
    later(
        "filters[].go_plugin_config",
        r#"{"so_path": "a.so"}"#,
        "Loads code written in Go.",
    ),
    ignored("match", r#""a""#, "Upstream never reads it."),
];

pub(super) const NETWORK_FILTERS: &[Row] = &[
    key(
        "grpc",
        "",
        "",
        r#""grpc""#,
        "The runtime API: see [its keys](#network-filter-grpc).",
    ),
    key(
        "proxy",
        "",
        "",
        r#""proxy""#,
        "Requests are routed to clusters: see [its keys](#network-filter-proxy).",
    ),
    key(
        "tcp_proxy",
        "",
        "",
        r#""tcp_proxy""#,
        "Connections are passed on as they are: see [its keys](#network-filter-tcp_proxy).",
    ),
    key(
        "tcpcopy",
        "",
        "",
        r#""tcpcopy""#,
        "Copies what clients send into files: see [its keys](#network-filter-tcpcopy).",
    ),
];

pub(super) const GRPC: &[Row] = &[
    key(
        "server_name",
        "text",
        "`runtime`",
        r#""runtime""#,
        "A name for people; upstream knows `runtime`.",
    ),
    key(
        "grpc_config",
        "object",
        "",
        "{}",
        "The application and its components: see [configuration](../guide/configuration.md).",
    ),
    key(
        "graceful_stop_timeout",
        "duration",
        "the server's `graceful_timeout`",
        r#""10s""#,
        "How long calls may go on when the process ends.",
    ),
    key(
        "max_message_bytes",
        "whole number",
        "4194304",
        "1024",
        "The largest message that a caller may send, in bytes, 1 to 4294967295.",
    ),
];

pub(super) const METRICS: &[Row] = &[
    key(
        "sinks[].type",
        "text",
        "required",
        r#""prometheus""#,
        "`prometheus`.",
    ),
    key(
        "sinks[].config.port",
        "whole number",
        "required",
        "0",
        "The port of the page; 0 takes a free one.",
    ),
    key(
        "sinks[].config.address",
        "text",
        "`127.0.0.1`",
        r#""127.0.0.1""#,
        "Where the page listens.",
    ),
    key(
        "sinks[].config.endpoint",
        "text",
        "`/metrics`",
        r#""/m""#,
        "The path of the page.",
    ),
    key(
        "sinks[].config.disable_collect_process",
        "boolean",
        "false",
        "true",
        "Whether memory, files and processor time of the process are left out.",
    ),
    ignored(
        "sinks[].config.disable_collect_go",
        "true",
        "There is no Go runtime.",
    ),
    later("sinks[].config.percentiles", "[90]", "Histograms have buckets."),
    key(
        "stats_matcher",
        "object",
        "none",
        r#"{"reject_all": true}"#,
        "Which of the data plane's metrics are left out: see [below](#metrics-that-are-left-out).",
    ),
    later("shm_zone", r#""a""#, "Counters start at 0 with the process."),
    later("shm_size", "1024", "Counters start at 0 with the process."),
    ignored(
        "sample",
        r#"{"type": "UNIFORM", "size": 100}"#,
        "Histograms count every value.",
    ),
    ignored(
        "ewma",
        r#"{"alpha": 0.5}"#,
        "`LB_PEAK_EWMA` has its own reckoning.",
    ),
    ignored("flush_mosn", "true", "Values are read when they are asked for."),
    ignored("lazy_flush", "true", "Values are read when they are asked for."),
];

pub(super) const TRACING: &[Row] = &[
    key("enable", "boolean", "false", "true", "Whether calls are traced."),
    key(
        "driver",
        "text",
        "required if on",
        r#""SOFATracer""#,
        "`SOFATracer`, a line on standard output for each call of the runtime API, or `Zipkin`.",
    ),
    later(
        "driver: jaeger, SkyWalking, otel, PluginDriver",
        r#""jaeger""#,
        "Nothing is traced.",
    ),
    key(
        "config",
        "object",
        "",
        r#"{"generator": "mosntracing", "exporter": ["stdout"]}"#,
        "Settings of the driver. `SOFATracer` has none: `generator`, `exporter` and `log_path` change nothing.",
    ),
];

pub(super) const ADMIN: &[Row] = &[
    key(
        "address.socket_address.address",
        "text",
        "`127.0.0.1`",
        r#""127.0.0.1""#,
        "Where the [administration API](../guide/operations.md#administration) listens.",
    ),
    key(
        "address.socket_address.port_value",
        "whole number",
        "required in `address`",
        "0",
        "Its port. Without `address` there is no administration API.",
    ),
    key(
        "token",
        "text",
        "none: only this machine",
        r#""secret""#,
        "What a caller from another machine must show. `LAYOTTO_ADMIN_TOKEN` goes before it.",
    ),
    ignored("address.socket_address.protocol", r#""TCP""#, "It is TCP."),
];

pub(super) const PPROF: &[Row] = &[
    key(
        "debug",
        "true or false",
        "`false`",
        "true",
        "Whether [profiles](../guide/operations.md#profiles) are given.",
    ),
    key("port_value", "whole number", "9090", "9090", "The port."),
    key(
        "endpoint",
        "text",
        "`127.0.0.1`",
        r#""127.0.0.1""#,
        "The address that is listened on.",
    ),
];
