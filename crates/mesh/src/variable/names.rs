//! The names of the variables, and what they hold.

use super::{Late, Request};

/// A variable: its name, what it is, what its value is.
type Named<T> = (&'static str, T, &'static str);

/// Known from the request's head.
pub(super) const REQUEST: &[Named<Request>] = &[
    (
        "start_time",
        Request::StartTime,
        "When the exchange began, in local time",
    ),
    (
        "connection_id",
        Request::ConnectionId,
        "The number of the client's connection",
    ),
    ("protocol", Request::Protocol, "`Http1` or `Http2`"),
    (
        "downstream_local_address",
        Request::LocalAddress,
        "The listener's end of the connection",
    ),
    (
        "downstream_remote_address",
        Request::RemoteAddress,
        "The client's end of the connection",
    ),
    ("x-mosn-method", Request::Method, "The method"),
    ("x-mosn-path", Request::Path, "The path, percent-decoded"),
    ("x-mosn-path-original", Request::RawPath, "The path as it came"),
    ("x-mosn-querystring", Request::Query, "The query, without `?`"),
    (
        "x-mosn-host",
        Request::Host,
        "Host and port that the client asked for",
    ),
    ("x-mosn-scheme", Request::Scheme, "`http` or `https`"),
];

/// The same after `Http1_` or `Http2_`; requests over another version have no value.
pub(super) const OF_VERSION: &[Named<Request>] = &[
    ("request_method", Request::Method, "The method"),
    ("request_path", Request::Path, "The path, percent-decoded"),
    ("request_uri", Request::Uri, "Path and query as they came"),
    ("request_arg", Request::Query, "The query, without `?`"),
    ("request_length", Request::Length, "The value of `content-length`"),
];

/// Known in the course of the exchange or at its end.
pub(super) const LATE: &[Named<Late>] = &[
    (
        "response_code",
        Late::ResponseCode,
        "The status of the reply; 499: the client left before",
    ),
    ("x-mosn-status", Late::ResponseCode, "The same"),
    (
        "response_flag",
        Late::ResponseFlag,
        "What went wrong, as bits in hexadecimal",
    ),
    ("duration", Late::Duration, "How long the exchange took"),
    (
        "request_received_duration",
        Late::RequestReceivedDuration,
        "From its beginning until the request had arrived",
    ),
    (
        "response_received_duration",
        Late::ResponseReceivedDuration,
        "From its beginning until the head of the reply",
    ),
    (
        "request_finished_duration",
        Late::RequestFinishedDuration,
        "From its beginning until its end",
    ),
    (
        "process_time_duration",
        Late::ProcessTimeDuration,
        "The part of it that was not spent waiting for a host",
    ),
    ("bytes_sent", Late::BytesSent, "Bytes of the reply's body"),
    (
        "bytes_received",
        Late::BytesReceived,
        "Bytes of the request's body",
    ),
    (
        "trace_id",
        Late::TraceId,
        "The trace that the exchange belongs to",
    ),
    ("upstream_cluster", Late::UpstreamCluster, "The cluster"),
    (
        "upstream_host",
        Late::UpstreamHost,
        "The host that answered, or was tried last",
    ),
    (
        "upstream_local_address",
        Late::UpstreamLocalAddress,
        "This end of the connection to it",
    ),
    (
        "upstream_connection_id",
        Late::UpstreamConnectionId,
        "The number of that connection",
    ),
    (
        "upstream_transport_failure_reason",
        Late::UpstreamTransportFailureReason,
        "Why the connection failed",
    ),
];

/// Variables with a name of one's own at their end.
const OPEN: &[(&str, &str)] = &[
    ("request_header_NAME", "A header of the request"),
    ("response_header_NAME", "A header of the reply"),
    (
        "Http1_request_header_NAME",
        "A header of the request; also `Http2_…`",
    ),
    (
        "Http1_request_arg_NAME",
        "A parameter of the query, decoded; also `Http2_…`",
    ),
    ("Http1_cookie_NAME", "A cookie; also `Http2_…`"),
];

/// The names of all variables and what each holds, for the reference.
pub fn all() -> impl Iterator<Item = (String, &'static str)> {
    let request = REQUEST
        .iter()
        .map(|(name, _, about)| ((*name).to_owned(), *about));
    let late = LATE.iter().map(|(name, _, about)| ((*name).to_owned(), *about));
    let of_version = ["Http1_", "Http2_"].into_iter().flat_map(|version| {
        let names = OF_VERSION.iter();
        names.map(move |(name, _, about)| (format!("{version}{name}"), *about))
    });
    let open = OPEN.iter().map(|(name, about)| ((*name).to_owned(), *about));
    request.chain(late).chain(of_version).chain(open)
}

/// The variable called `name`.
pub(super) fn of<T: Clone>(name: &str, all: &[Named<T>]) -> Option<T> {
    let found = all.iter().find(|(known, ..)| *known == name);
    found.map(|(_, variable, _)| variable.clone())
}

#[cfg(test)]
mod tests {
    use crate::variable::Variable;

    #[test]
    fn every_name_of_the_reference_is_a_variable() {
        for (name, _) in super::all() {
            assert!(Variable::parse(&name).is_some(), "{name}");
        }
    }
}
