//! Keys of upstream's that the structs of the data plane do not take, with where each struct
//! stands: one list for each place where such a struct is read.

use layotto_mesh::{
    access_log, cluster,
    proxy::{self, tcp},
    router,
    tap::tcpcopy,
    tls,
};

use super::reader::Others;

/// Of `cluster_manager`.
pub(super) const CLUSTERS: Others = &[
    ("", cluster::config::MANAGER_OTHER_KEYS),
    ("tls_context", tls::config::OTHER_KEYS),
    ("clusters[]", cluster::config::OTHER_KEYS),
    ("clusters[].tls_context", tls::config::OTHER_KEYS),
];
/// Of an element of `routers`.
pub(super) const ROUTERS: Others = &[("", router::config::OTHER_KEYS)];
/// Of a listener's `tls_context`.
pub(super) const TLS: Others = &[("", tls::config::OTHER_KEYS)];
/// Of an element of `access_logs`.
pub(super) const ACCESS_LOG: Others = &[("", access_log::OTHER_KEYS)];
/// Of the network filter `proxy`.
pub(super) const PROXY: Others = &[("", proxy::config::OTHER_KEYS)];
/// Of the network filter `tcp_proxy`.
pub(super) const TCP_PROXY: Others = &[("", tcp::OTHER_KEYS)];
/// Of the network filter `tcpcopy`.
pub(super) const TCPCOPY: Others = &[("", tcpcopy::config::OTHER_KEYS)];
