//! Names that upstream knows, and which of them this build has.

/// Stream filters of the process itself, and what is said of them.
pub(super) const OWN_STREAM_FILTERS: &[(&str, &str)] = &[
    (
        super::ACTUATOR,
        "The health of the process: see [operations](../guide/operations.md#health). No options.",
    ),
    (
        crate::functions::LAYOTTO,
        "Functions in WebAssembly: see [Layotto](filters/Layotto.md).",
    ),
    (
        crate::functions::WASM_FILTER,
        "Installs and removes functions: see [wasm_filter](filters/wasm_filter.md). No options.",
    ),
    (
        crate::functions::PROXYWASM,
        "Proxy-Wasm plug-ins on proxied traffic: see [proxywasm](filters/proxywasm.md).",
    ),
];

/// Stream filters that this build does not have yet and whose absence lets nobody in.
pub(super) const LATER_STREAM_FILTERS: &[&str] = &[
    "mirror",
    "gzip",
    "header_to_metadata",
    "dubbo_stream",
    "transcoder",
    "dsl",
    "seata",
    "istio.stats",
];

/// Stream filters that keep callers out: a listener that leaves them away would be open.
pub(super) const GUARDS: &[&str] = &["jwt_authn", "rbac"];

/// Network filters that this build has.
pub(super) const NETWORK_FILTERS: &[&str] = &["grpc", "proxy", "tcp_proxy", "tcpcopy"];

/// Network filters that this build does not have yet.
pub(super) const LATER_NETWORK_FILTERS: &[&str] =
    &["udp_proxy", "fault_inject", "tunnel", "connection_manager"];

/// Tracing drivers that this build does not have yet.
pub(super) const LATER_TRACING_DRIVERS: &[&str] = &["jaeger", "SkyWalking", "otel", "PluginDriver"];

/// Types of the sections that this build has no kind of component for yet.
pub(super) const LATER_SECTIONS: &[(&str, &[&str])] = &[
    (
        "oss",
        &["local", "aws.oss", "aliyun.oss", "ceph", "huaweicloud.oss"],
    ),
    ("cryption", &["aliyun.kms", "aws.kms"]),
    ("email", &["aliyun.email"]),
    ("phone", &[]),
    ("sms", &["tencentcloud.sms"]),
];
