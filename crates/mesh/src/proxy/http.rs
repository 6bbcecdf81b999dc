//! The HTTP proxy: from a request and its route to the reply.

mod attempt;
mod flight;
mod headers;
mod limit;
mod refusal;
mod replay;
mod reply;
mod retry;
mod timing;
mod tunnel;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode, Version, header::LOCATION, request};

use self::{
    attempt::Attempts,
    refusal::{Refusal, refuse},
};
use crate::{
    body::Body,
    cluster::{Cluster, Clusters},
    config::ConfigError,
    drain,
    exchange::{Exchange, Flags},
    filter::{Request, Response},
    proxy::config::ProxyConfig,
    reply::Kind,
    router::{Action, Direct, Forward, Redirect, Route, Table},
    upstream::Protocol,
};

/// The HTTP proxy. It answers every request, with a refusal of its own if need be; such a refusal
/// never repeats what the request said.
///
/// Time: a route's timeout runs from when the request was read to its end until the head of the
/// reply is there, retries included; the timeout per try likewise for each try. So neither cuts a
/// long upload, nor a stream that lives for days. A body on its way may stand still for
/// [`body_idle`](Settings::body_idle), or, where the call is gRPC, until the caller's own deadline
/// (`grpc-timeout`), which also bounds the call as a whole.
#[derive(Debug, Clone)]
pub struct Http {
    settings: Settings,
    drain: drain::Watch,
}

/// Settings of the HTTP proxy.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What hosts speak where the route does not say; `None`, the default: what the client does.
    pub upstream_protocol: Option<Protocol>,
    /// The longest body of a request over HTTP/1, in bytes; 0, the default: any.
    pub max_request_body: u64,
    /// How many bytes of a request's body are kept for retries; a longer one is sent once.
    /// Default 64 KiB.
    pub replay_bytes: usize,
    /// How long a body may stand still, in either direction, unless the call is gRPC. Default 5 min.
    pub body_idle: Duration,
    /// How long a connection that was upgraded, to WebSocket above all, may be silent both ways.
    /// Default 1 h.
    pub tunnel_idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            upstream_protocol: None,
            max_request_body: 0,
            replay_bytes: 64 * 1024,
            body_idle: Duration::from_secs(300),
            tunnel_idle: Duration::from_secs(3600),
        }
    }
}

impl Settings {
    /// What a filter `proxy` says; all else is the default.
    ///
    /// # Errors
    /// A protocol that is not spoken to hosts.
    pub fn of(config: &ProxyConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            upstream_protocol: config.upstream()?,
            max_request_body: config.extend_config.http1.max_request_body_size,
            ..Self::default()
        })
    }
}

impl Http {
    /// A proxy whose upgraded connections end when `drain` begins.
    pub fn new(settings: Settings, drain: drain::Watch) -> Self {
        Self { settings, drain }
    }

    /// Answers a request by the route that `routes` finds, or that its exchange names where there
    /// are none to look in: from a cluster, or on the spot.
    pub async fn answer(&self, request: Request, routes: Option<&Table>, clusters: &Clusters) -> Response {
        let (mut head, body) = request.into_parts();
        let exchange = exchange_of(&mut head);
        if let Some(routes) = routes {
            exchange.facts().route = routes.find(&head, &exchange).cloned();
        }
        let route = exchange.facts().route.clone();
        self.act((head, body), exchange, route.as_ref(), clusters).await
    }

    /// Answers a request by `route`.
    #[cfg(test)]
    async fn handle(&self, request: Request, route: Option<&Arc<Route>>, clusters: &Clusters) -> Response {
        let (mut head, body) = request.into_parts();
        let exchange = exchange_of(&mut head);
        self.act((head, body), exchange, route, clusters).await
    }

    async fn act(
        &self,
        (head, body): (request::Parts, Body),
        exchange: Exchange,
        route: Option<&Arc<Route>>,
        clusters: &Clusters,
    ) -> Response {
        let kind = Kind::of(&head.headers);
        let Some(route) = route else {
            exchange.flag(Flags::NO_ROUTE);
            return refuse(kind, Refusal::NO_ROUTE);
        };
        match &route.action {
            Action::Direct(direct) => edited(answer(direct), route, &exchange),
            Action::Redirect(redirect) => edited(see(redirect, &head, &exchange), route, &exchange),
            Action::Forward(forward) => {
                let name = forward.cluster(&head, &exchange);
                match name.and_then(|name| clusters.get(&name)) {
                    Some(cluster) => {
                        self.send(kind, (head, body), route, forward, cluster, exchange)
                            .await
                    }
                    None => refuse(kind, Refusal::NO_CLUSTER),
                }
            }
        }
    }

    /// Answers a request from `cluster`, whatever the route says of clusters. A route that does not
    /// forward answers on the spot.
    pub async fn forward(&self, request: Request, route: &Arc<Route>, cluster: &Arc<Cluster>) -> Response {
        let (mut head, body) = request.into_parts();
        let exchange = exchange_of(&mut head);
        match &route.action {
            Action::Direct(direct) => edited(answer(direct), route, &exchange),
            Action::Redirect(redirect) => edited(see(redirect, &head, &exchange), route, &exchange),
            Action::Forward(forward) => {
                let kind = Kind::of(&head.headers);
                self.send(kind, (head, body), route, forward, cluster, exchange)
                    .await
            }
        }
    }

    async fn send(
        &self,
        kind: Kind,
        (head, body): (request::Parts, Body),
        route: &Arc<Route>,
        forward: &Forward,
        cluster: &Arc<Cluster>,
        exchange: Exchange,
    ) -> Response {
        let protocol = self.protocol(&head, forward);
        if head.method == Method::CONNECT {
            return refuse(kind, Refusal::CONNECT);
        }
        if kind == Kind::Grpc && protocol == Protocol::Http1 {
            return refuse(kind, Refusal::NO_GRPC);
        }
        let body = match limit::limit(&head, body, self.settings.max_request_body) {
            Ok(body) => body,
            Err(refusal) => {
                exchange.flag(Flags::TOO_LARGE);
                return refuse(kind, refusal);
            }
        };
        let mut attempts = Attempts::new(
            self,
            (route, forward),
            protocol,
            cluster,
            &exchange,
            kind,
            (head, body),
        );
        match attempts.run().await {
            Ok(reply) => edited(reply, route, &exchange),
            Err(refusal) => refuse(kind, refusal),
        }
    }

    /// What is spoken to the host.
    fn protocol(&self, head: &request::Parts, forward: &Forward) -> Protocol {
        let client = match head.version {
            Version::HTTP_2 => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let said = forward.upstream_protocol.or(self.settings.upstream_protocol);
        said.unwrap_or(client)
    }
}

/// The request's exchange; one of its own for a request that came past no listener.
fn exchange_of(head: &mut request::Parts) -> Exchange {
    if let Some(exchange) = Exchange::of(&head.extensions) {
        return exchange.clone();
    }
    let exchange = Exchange::begin("".into(), None);
    head.extensions.insert(exchange.clone());
    exchange
}

fn answer(direct: &Direct) -> Response {
    let mut response = Response::new(Body::from(direct.body.clone()));
    *response.status_mut() = direct.status;
    response
}

fn see(redirect: &Redirect, head: &request::Parts, exchange: &Exchange) -> Response {
    let mut response = Response::new(Body::empty());
    match HeaderValue::try_from(redirect.location(head, exchange)) {
        Ok(location) => {
            *response.status_mut() = redirect.status;
            response.headers_mut().insert(LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

fn edited(response: Response, route: &Route, exchange: &Exchange) -> Response {
    let (mut head, body) = response.into_parts();
    route.edit_response(&mut head, exchange);
    Response::from_parts(head, body)
}
