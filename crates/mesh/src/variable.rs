//! Variables: what routes, header edits and access logs call by name, such as `x-mosn-path` or
//! `request_header_user-agent`. Names are upstream's.

mod late;
mod names;
mod request;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::{HeaderName, Version, request::Parts};

pub(crate) use self::late::processing;
pub(crate) use self::request::cookie;
pub use self::{
    late::{End, write_time},
    names::all,
};
use crate::exchange::Exchange;

/// One variable, its name read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// Known from the request's head.
    Request(Request),
    /// The same, if the request came over this version of HTTP: 1 for all of HTTP/1.
    RequestOver(u8, Request),
    /// Known from the head of the reply.
    ResponseHeader(HeaderName),
    /// Known when the exchange has ended; some earlier.
    Late(Late),
}

/// What a request's head tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The method.
    Method,
    /// The path, its `%XX` decoded.
    Path,
    /// The path as it came.
    RawPath,
    /// Path and query as they came.
    Uri,
    /// The query, without `?`.
    Query,
    /// Host and port that the client asked for.
    Host,
    /// `http` or `https`.
    Scheme,
    /// `Http1` or `Http2`.
    Protocol,
    /// The value of `content-length`.
    Length,
    /// A header.
    Header(HeaderName),
    /// A parameter of the query, decoded.
    Argument(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
    /// The listener's end of the connection.
    LocalAddress,
    /// The client's end.
    RemoteAddress,
    /// The number of the connection.
    ConnectionId,
    /// When the exchange began.
    StartTime,
}

/// What is known in the course of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the variables")]
pub enum Late {
    TraceId,
    UpstreamConnectionId,
    RequestReceivedDuration,
    ResponseReceivedDuration,
    RequestFinishedDuration,
    ProcessTimeDuration,
    BytesSent,
    BytesReceived,
    ResponseCode,
    Duration,
    ResponseFlag,
    UpstreamLocalAddress,
    UpstreamHost,
    UpstreamCluster,
    UpstreamTransportFailureReason,
}

/// The value of the variable called `name` while a request is handled; `None`: there is no such
/// variable, or it has no value, or none yet.
pub fn value<'a>(name: &str, head: &'a Parts, exchange: &Exchange) -> Option<Cow<'a, str>> {
    match Variable::parse(name)? {
        Variable::Request(of) => of.value(head, exchange),
        Variable::RequestOver(version, of) => over(head.version, version)
            .then(|| of.value(head, exchange))
            .flatten(),
        Variable::ResponseHeader(_) => None,
        Variable::Late(late) => late.value(exchange, None).map(Cow::Owned),
    }
}

impl Variable {
    /// Reads a name; `None`: there is no such variable.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(name) = name.strip_prefix("response_header_") {
            return Some(Self::ResponseHeader(name.parse().ok()?));
        }
        if let Some(late) = Late::parse(name) {
            return Some(Self::Late(late));
        }
        let versions = [("Http1_", 1), ("Http2_", 2)];
        let of_version = versions
            .into_iter()
            .find_map(|(prefix, version)| Some((version, name.strip_prefix(prefix)?)));
        match of_version {
            Some((version, name)) => Some(Self::RequestOver(version, Request::parse_of_version(name)?)),
            None => Some(Self::Request(Request::parse(name)?)),
        }
    }
}

/// Whether a request of `found` is one of HTTP/1 or HTTP/2, whichever `wanted` says.
pub(crate) fn over(found: Version, wanted: u8) -> bool {
    let found = if found == Version::HTTP_2 { 2 } else { 1 };
    found == wanted
}

impl Request {
    fn parse(name: &str) -> Option<Self> {
        if let Some(name) = name.strip_prefix("request_header_") {
            return Some(Self::Header(name.parse().ok()?));
        }
        names::of(name, names::REQUEST)
    }

    /// Reads what follows `Http1_` or `Http2_`.
    fn parse_of_version(name: &str) -> Option<Self> {
        if let Some(name) = name.strip_prefix("request_arg_") {
            return Some(Self::Argument(name.into()));
        }
        if let Some(name) = name.strip_prefix("cookie_") {
            return Some(Self::Cookie(name.into()));
        }
        if let Some(name) = name.strip_prefix("request_header_") {
            return Some(Self::Header(name.parse().ok()?));
        }
        names::of(name, names::OF_VERSION)
    }
}

impl Late {
    fn parse(name: &str) -> Option<Self> {
        names::of(name, names::LATE)
    }
}
