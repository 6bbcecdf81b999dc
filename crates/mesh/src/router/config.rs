//! The configuration of routes: one element of `servers[].routers[]`, with upstream's names.

mod action;
mod condition;
mod directory;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub use self::{
    action::{
        Cluster, CookieHash, DirectResponse, ForwardAction, HashPolicy, HeaderHash, Pattern, RedirectAction,
        RegexRewrite, RetryPolicy, SourceIpHash, WeightedCluster,
    },
    condition::{HeaderMatch, RouteMatch, VariableMatch},
};
use crate::config::{Fate, OtherKey};

/// Keys of upstream's that [`RouterConfig`] does not take.
pub const OTHER_KEYS: &[OtherKey] = &[
    ignored("virtual_hosts[].require_tls", "upstream never reads it"),
    ignored("virtual_hosts[].routers[].metadata", "upstream never reads it"),
    later(
        "virtual_hosts[].routers[].request_mirror_policies",
        "requests are not mirrored",
    ),
    later(
        "virtual_hosts[].routers[].route.cluster_header",
        "upstream never reads it; cluster_variable does the same",
    ),
    later(
        "virtual_hosts[].routers[].route.metadata_match",
        "clusters have no subsets",
    ),
    later(
        "virtual_hosts[].routers[].route.weighted_clusters[].cluster.metadata_match",
        "clusters have no subsets",
    ),
];

/// The routes of one name.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouterConfig {
    /// The name by which a `proxy` filter asks for these routes.
    pub router_config_name: String,
    /// The virtual hosts. Not beside `router_configs`.
    pub virtual_hosts: Vec<VirtualHost>,
    /// A folder with one JSON file (`*.json`) per virtual host, read in the order of their names.
    /// Not beside `virtual_hosts`. Default: none.
    pub router_configs: String,
    /// Headers that every request gets, after those of its route and virtual host.
    pub request_headers_to_add: Vec<HeaderToAdd>,
    /// Headers that every request loses.
    pub request_headers_to_remove: Vec<String>,
    /// Headers that every reply gets, after those of its route and virtual host.
    pub response_headers_to_add: Vec<HeaderToAdd>,
    /// Headers that every reply loses.
    pub response_headers_to_remove: Vec<String>,
}

/// Routes for some host names.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VirtualHost {
    /// Its name, for people.
    pub name: String,
    /// The host names: `a.com` (requests without a port), `a.com:8080`, `a.com:*` (any port or
    /// none); the same with a wildcard in front, `*.a.com` or `*-x.a.com`, where the longest wins;
    /// or `*`, which takes what no other takes. Case does not matter. Each may be there once.
    pub domains: Vec<String>,
    /// The routes; the first that matches is taken.
    pub routers: Vec<Router>,
    /// What the routes say to stream filters, by the filter's type.
    pub per_filter_config: BTreeMap<String, Value>,
    /// Headers that requests get, after those of the route.
    pub request_headers_to_add: Vec<HeaderToAdd>,
    /// Headers that requests lose.
    pub request_headers_to_remove: Vec<String>,
    /// Headers that replies get, after those of the route.
    pub response_headers_to_add: Vec<HeaderToAdd>,
    /// Headers that replies lose.
    pub response_headers_to_remove: Vec<String>,
}

/// One route. It needs one of `route`, `redirect` and `direct_response`; where there are several,
/// `direct_response` goes before `redirect`, and that before `route`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Router {
    /// Which requests it takes. Default: all.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// Sends the request to a cluster.
    pub route: Option<ForwardAction>,
    /// Tells the client to look elsewhere.
    pub redirect: Option<RedirectAction>,
    /// Answers on the spot.
    pub direct_response: Option<DirectResponse>,
    /// What the route says to stream filters, by the filter's type; goes before that of the
    /// virtual host.
    pub per_filter_config: BTreeMap<String, Value>,
}

/// A header to add.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderToAdd {
    /// The header.
    pub header: Header,
    /// Whether the value is put behind the one that is there, after a comma, or replaces it.
    /// Default true.
    pub append: Option<bool>,
}

/// Name and value of a header.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Header {
    /// The name; case does not matter.
    pub key: String,
    /// The value. `%name%` stands for the value of the variable `name`; where that has none, the
    /// header is left as it is. In replies, only variables of the exchange have values.
    pub value: String,
}

const fn ignored(path: &'static str, why: &'static str) -> OtherKey {
    OtherKey {
        path,
        fate: Fate::Ignored,
        why,
    }
}

const fn later(path: &'static str, why: &'static str) -> OtherKey {
    OtherKey {
        path,
        fate: Fate::Later,
        why,
    }
}
