//! What becomes of requests.

use layotto_core::GoDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use super::HeaderToAdd;

/// Sends requests to a cluster.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ForwardAction {
    /// The cluster. Goes before `cluster_variable`, and that before `weighted_clusters`; one is
    /// needed.
    pub cluster_name: String,
    /// A variable whose value is the name of the cluster.
    pub cluster_variable: String,
    /// Clusters among which requests are shared out by weight.
    pub weighted_clusters: Vec<WeightedCluster>,
    /// What balancers that hash go by; the first element counts. Default: the client's address.
    pub hash_policy: Vec<HashPolicy>,
    /// How long an exchange may take, all tries included. Default and for 0: 60 s.
    pub timeout: Option<GoDuration>,
    /// When a failed try is followed by another one. Default: never.
    pub retry_policy: Option<RetryPolicy>,
    /// Replaces what `prefix` or `path` matched; goes before `regex_rewrite`. The path as it was
    /// is kept in the header `x-mosn-original-path`, the query stays.
    pub prefix_rewrite: String,
    /// Replaces what a regular expression finds in the path.
    pub regex_rewrite: Option<RegexRewrite>,
    /// The host to ask for; goes before `auto_host_rewrite_header`, and that before
    /// `auto_host_rewrite`.
    pub host_rewrite: String,
    /// A header of the request whose value is the host to ask for; where it is absent, the host
    /// stays.
    pub auto_host_rewrite_header: String,
    /// Whether to ask for the name of the chosen host. Default false.
    pub auto_host_rewrite: bool,
    /// The protocol spoken to the cluster: `Http1` or `Http2`. Default or `Auto`: what the filter
    /// `proxy` says, else as the client.
    pub upstream_protocol: String,
    /// Headers that requests get.
    pub request_headers_to_add: Vec<HeaderToAdd>,
    /// Headers that requests lose.
    pub request_headers_to_remove: Vec<String>,
    /// Headers that replies get.
    pub response_headers_to_add: Vec<HeaderToAdd>,
    /// Headers that replies lose.
    pub response_headers_to_remove: Vec<String>,
}

/// A cluster that takes a share of the requests.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WeightedCluster {
    /// The cluster.
    pub cluster: Cluster,
}

/// A cluster and its share.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its share, out of the sum of all weights, which must not be 0.
    pub weight: u32,
}

/// What balancers that hash go by; one of its keys is given.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HashPolicy {
    /// A header.
    pub header: Option<HeaderHash>,
    /// A cookie.
    pub cookie: Option<CookieHash>,
    /// The client's address: an empty object.
    pub source_ip: Option<SourceIpHash>,
}

/// A header to hash.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderHash {
    /// The header's name; it is hashed too, as it is written here.
    pub key: String,
}

/// A cookie to hash.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CookieHash {
    /// The cookie's name; it is hashed too.
    pub name: String,
    /// Not used: cookies are not made.
    pub path: String,
    /// Not used: cookies are not made.
    pub ttl: Option<GoDuration>,
}

/// The client's address to hash.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SourceIpHash {}

/// When a failed try is followed by another one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RetryPolicy {
    /// Whether bad replies and lost connections are retried; if not, only failed connects are.
    /// Default false.
    pub retry_on: bool,
    /// How many tries may follow the first. Default 0.
    pub num_retries: u32,
    /// How long one try may take. Default and for 0: as long as the whole exchange.
    pub retry_timeout: Option<GoDuration>,
    /// Statuses, 100 to 599, that count as bad beside 5xx.
    pub status_codes: Vec<u16>,
}

/// Replaces parts of the path.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RegexRewrite {
    /// What is replaced, everywhere in the path.
    pub pattern: Pattern,
    /// What it is replaced with; `$1` or `${name}` stand for groups of the expression.
    pub substitution: String,
}

/// A regular expression.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Pattern {
    /// The expression.
    pub regex: String,
}

/// Tells clients to look elsewhere. One of the redirects is needed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RedirectAction {
    /// 301 (default), 302, 303, 307 or 308.
    pub response_code: Option<u16>,
    /// The path to go to. Default: the same. The query stays, unless this has one.
    pub path_redirect: String,
    /// The host to go to. Default: the same.
    pub host_redirect: String,
    /// The scheme to go to. Default: the same. Where it differs, a port 80 or 443 of the request
    /// is dropped.
    pub scheme_redirect: String,
}

/// Answers on the spot.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DirectResponse {
    /// The status, 200 to 599.
    pub status: u16,
    /// The body. Default: none.
    pub body: String,
}
