//! Routes: from the head of a request to what becomes of it.

use std::{sync::Arc, time::Duration};

use http::{request, response};

use crate::{exchange::Exchange, filter::RouteConfig};

/// The routes of one `router_config_name`.
#[derive(Debug, Default)]
pub struct Table;

/// What becomes of the requests that match.
#[derive(Debug)]
pub struct Route {
    /// What is done.
    pub action: Action,
}

/// What is done with a request.
#[derive(Debug)]
pub enum Action {
    /// It is sent to a cluster.
    Forward(Forward),
    /// The client is told to look elsewhere.
    Redirect(Redirect),
    /// It is answered on the spot.
    Direct(Direct),
}

/// How a request is sent on.
#[derive(Debug)]
pub struct Forward {
    /// How long the whole exchange may take, all tries included. Default 60 s.
    pub timeout: Duration,
    /// When a failed try is followed by another one; `None` never.
    pub retry: Option<RetryPolicy>,
    /// The protocol spoken to the upstream; `None`: as the client.
    pub upstream_protocol: Option<crate::upstream::Protocol>,
    /// Whether `Host` becomes the chosen host's name.
    pub auto_host_rewrite: bool,
}

/// When a failed try is followed by another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Whether bad replies and lost connections are retried; if not, only failed connects are.
    pub retry_on: bool,
    /// How many tries may follow the first.
    pub num_retries: u32,
    /// How long one try may take; `None`: as long as the whole exchange.
    pub retry_timeout: Option<Duration>,
    /// Statuses that count as bad beside 5xx.
    pub status_codes: Vec<u16>,
}

/// Where a client is sent.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: http::StatusCode,
}

/// An answer on the spot.
#[derive(Debug)]
pub struct Direct {
    /// Its status.
    pub status: http::StatusCode,
    /// Its body.
    pub body: bytes::Bytes,
}

impl Table {
    /// The first route that matches; `None`: there is none.
    pub fn find(&self, _head: &request::Parts, _exchange: &Exchange) -> Option<&Arc<Route>> {
        None
    }
}

impl Route {
    /// What the route says to the filter called `name`.
    pub fn filter_config(&self, _name: &str) -> Option<&RouteConfig> {
        None
    }

    /// Edits headers, path and host before a request leaves.
    pub fn edit_request(&self, _head: &mut request::Parts, _exchange: &Exchange) {}

    /// Edits headers before a reply goes back.
    pub fn edit_response(&self, _head: &mut response::Parts, _exchange: &Exchange) {}
}

impl Forward {
    /// The cluster, chosen once per exchange and kept in its facts; `None`: a variable that names
    /// it has no value.
    pub fn cluster(&self, _head: &request::Parts, _exchange: &Exchange) -> Option<Arc<str>> {
        None
    }

    /// What the balancers that hash go by.
    pub fn hash(&self, _head: &request::Parts, _exchange: &Exchange) -> u64 {
        0
    }
}

impl Redirect {
    /// The value of `Location`.
    pub fn location(&self, _head: &request::Parts, _exchange: &Exchange) -> String {
        String::new()
    }
}
