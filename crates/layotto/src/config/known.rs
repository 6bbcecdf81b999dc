//! Names that upstream knows, and which of them this build has.

/// Stream filters that this build has.
pub(super) const STREAM_FILTERS: &[&str] = &["actuator_filter", "grpc_metric"];

/// Stream filters that this build does not have yet and whose absence lets nobody in.
pub(super) const LATER_STREAM_FILTERS: &[&str] = &[
    "flowControlFilter",
    "wasm_filter",
    "Layotto",
    "proxywasm",
    "fault",
    "fault_tolerance",
    "payload_limit",
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
pub(super) const GUARDS: &[&str] = &["jwt_authn", "rbac", "ip_access"];

/// Network filters that this build has.
pub(super) const NETWORK_FILTERS: &[&str] = &["grpc", "proxy"];

/// Network filters that this build does not have yet.
pub(super) const LATER_NETWORK_FILTERS: &[&str] = &[
    "tcpcopy",
    "tcp_proxy",
    "udp_proxy",
    "fault_inject",
    "tunnel",
    "connection_manager",
];

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

/// Keys of a `flowControlFilter`'s configuration.
pub(super) const FLOW_CONTROL_KEYS: &[&str] = &[
    "global_switch",
    "monitor",
    "limit_key_type",
    "action",
    "rules",
    "app_name",
    "log_path",
    "callback_name",
    "direction",
    "dynamic_data_resources",
];

/// Keys of a `flowControlFilter`'s rule, with those of older Sentinel versions that nothing reads.
pub(super) const FLOW_RULE_KEYS: &[&str] = &[
    "id",
    "resource",
    "threshold",
    "tokenCalculateStrategy",
    "controlBehavior",
    "relationStrategy",
    "refResource",
    "maxQueueingTimeMs",
    "warmUpPeriodSec",
    "warmUpColdFactor",
    "statIntervalInMs",
    "lowMemUsageThreshold",
    "highMemUsageThreshold",
    "memLowWaterMarkBytes",
    "memHighWaterMarkBytes",
    "grade",
    "limitApp",
    "strategy",
];
