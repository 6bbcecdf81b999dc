//! One request and its reply, as a guest's context sees them.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::Headers;

/// A request to a function.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Headers, with `:method`, `:path`, `:authority`, `:scheme` before the others.
    pub headers: Headers,
    /// The whole body.
    pub body: Bytes,
    /// Trailers, if there were any.
    pub trailers: Option<Headers>,
    /// Where it came from; `None` if it came from inside the process.
    pub source: Option<SocketAddr>,
    /// The protocol, as `HTTP/1.1`.
    pub protocol: &'static str,
}

/// A function's reply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The HTTP status; 0 leaves the choice to the caller.
    pub status: u32,
    /// Headers without `:status`.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// The gRPC status for callers that speak gRPC, if the guest named one.
    pub grpc_status: Option<u32>,
}

/// The state of one exchange inside an instance.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) request: Request,
    pub(crate) response_headers: Headers,
    pub(crate) response_body: Bytes,
    pub(crate) response_trailers: Option<Headers>,
    pub(crate) local: Option<Reply>,
    /// The head of the reply has gone: there will be no other.
    pub(crate) answered: bool,
    /// The guest asked for the request to go on.
    pub(crate) continued: bool,
    /// The guest asked for the reply to go on.
    pub(crate) response_continued: bool,
    /// The guest asked for the exchange to end without a reply.
    pub(crate) closed: bool,
    /// What the guest set by `proxy_set_property`.
    pub(crate) properties: Vec<(Bytes, Bytes)>,
    pub(crate) begun: Option<std::time::SystemTime>,
}

impl Stream {
    pub(crate) fn new(id: u32, request: Request) -> Self {
        Self {
            id,
            request,
            begun: Some(std::time::SystemTime::now()),
            ..Self::default()
        }
    }

    /// The body that the guest sees now: of the reply, or of the request.
    pub(crate) fn body(&mut self, of_reply: bool) -> &mut Bytes {
        match of_reply {
            true => &mut self.response_body,
            false => &mut self.request.body,
        }
    }

    /// The trailers of the reply, or of the request.
    pub(crate) fn trailers(&mut self, of_reply: bool) -> &mut Option<Headers> {
        match of_reply {
            true => &mut self.response_trailers,
            false => &mut self.request.trailers,
        }
    }

    /// Whether the guest asked for the request and for the reply to go on, since this was last asked.
    pub(crate) fn take_continued(&mut self) -> [bool; 2] {
        let request = std::mem::take(&mut self.continued);
        [request, std::mem::take(&mut self.response_continued)]
    }

    /// What the caller gets. The guest may still look at it afterwards.
    pub(crate) fn reply(&self) -> Reply {
        if let Some(local) = &self.local {
            return local.clone();
        }
        let headers = &self.response_headers;
        let status = headers
            .get(b":status")
            .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        let rest = headers.0.iter().filter(|(name, _)| !name.starts_with(b":"));
        Reply {
            status: status.unwrap_or(0),
            headers: rest.cloned().collect(),
            grpc_status: None,
            body: self.response_body.clone(),
        }
    }
}
