//! A front: what stands behind one listener. Its filters, its routes and the service that answers
//! are one value, which a change of the configuration swaps whole: an exchange that began goes on
//! with the front it began with.

use std::{convert::Infallible, fmt, sync::Arc};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use tower::{Service, ServiceExt};

use crate::{
    BoxError, Listener,
    body::Body,
    cluster::Clusters,
    connection::Info,
    drain,
    exchange::Exchange,
    filter::{Filter, Next, Phase, Request, Response, Terminal},
    observe::Observer,
    proxy::http::Http,
    router::Table,
    stack::{self, catch_panic},
};

/// What stands behind one listener.
pub struct Front {
    listener: Arc<str>,
    observer: Option<Observer>,
    before: Vec<Arc<dyn Filter>>,
    after: Vec<Arc<dyn Filter>>,
    end: End,
}

/// What answers at the end of the filters.
enum End {
    Service(Arc<dyn Terminal>),
    Proxy(Routed),
}

/// The HTTP proxy with its routes.
struct Routed {
    routes: Arc<Table>,
    clusters: Arc<Clusters>,
    http: Http,
    /// Whether the route is found before filters see the request, rather than at the end.
    early: bool,
}

impl Front {
    /// Filters over a service that answers everything itself.
    pub fn over(listener: &str, filters: Vec<Arc<dyn Filter>>, terminal: Arc<dyn Terminal>) -> Self {
        Self::new(listener, filters, End::Service(terminal))
    }

    /// Filters over the HTTP proxy: `routes` choose among `clusters`.
    pub fn proxy(
        listener: &str,
        filters: Vec<Arc<dyn Filter>>,
        routes: Arc<Table>,
        clusters: Arc<Clusters>,
        http: Http,
    ) -> Self {
        let routed = Routed {
            routes,
            clusters,
            http,
            early: filters.iter().any(|filter| filter.phase() == Phase::AfterRoute),
        };
        Self::new(listener, filters, End::Proxy(routed))
    }

    fn new(listener: &str, filters: Vec<Arc<dyn Filter>>, end: End) -> Self {
        let (before, after) = filters
            .into_iter()
            .partition(|filter| filter.phase() == Phase::BeforeRoute);
        Self {
            listener: listener.into(),
            observer: None,
            before,
            after,
            end,
        }
    }

    /// Lets `observer` see every exchange.
    #[must_use]
    pub fn observed(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Its filters, those before the route first.
    pub fn filters(&self) -> impl Iterator<Item = &Arc<dyn Filter>> {
        self.before.iter().chain(&self.after)
    }

    /// Answers a request that came over `connection`, or from inside the process.
    pub async fn answer(&self, mut request: Request, connection: Option<Info>) -> Response {
        let exchange = Exchange::begin(Arc::clone(&self.listener), connection);
        request.extensions_mut().insert(exchange);
        match &self.observer {
            Some(observer) => observer.observe(request, |request| self.run(request)).await,
            None => self.run(request).await,
        }
    }

    fn run(&self, request: Request) -> BoxFuture<'_, Response> {
        Next::new(&self.before, self).run(request)
    }
}

/// What follows the filters of the first phase: the route, the filters after it, the end.
impl Terminal for Front {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        match &self.end {
            End::Service(terminal) => Next::new(&self.after, &**terminal).run(request),
            End::Proxy(routed) if routed.early => Next::new(&self.after, routed).run(routed.choose(request)),
            End::Proxy(routed) => routed.call(request),
        }
    }
}

impl Routed {
    /// Finds the route and notes it in the exchange, where the filters see it.
    fn choose(&self, request: Request) -> Request {
        let (head, body) = request.into_parts();
        if let Some(exchange) = Exchange::of(&head.extensions) {
            let route = self.routes.find(&head, exchange).cloned();
            exchange.facts().route = route;
        }
        Request::from_parts(head, body)
    }
}

impl Terminal for Routed {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let routes = (!self.early).then_some(&*self.routes);
        Box::pin(self.http.answer(request, routes, &self.clusters))
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// The place of a front, which outlives it. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Slot(Arc<ArcSwap<Front>>);

impl Slot {
    /// A place that holds `front`.
    pub fn new(front: Front) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(front)))
    }

    /// Puts `front` there for all exchanges that begin from now on.
    pub fn swap(&self, front: Front) {
        self.0.store(Arc::new(front));
    }

    /// The front that is there.
    pub fn front(&self) -> Arc<Front> {
        self.0.load_full()
    }

    /// Answers a call from inside the process, without a connection.
    pub async fn call(&self, request: Request) -> Response {
        self.front().answer(request, None).await
    }

    /// Serves what comes in at `listener` until the drain begins, see [`Listener::serve`]; a panic
    /// stays within its request. Boxed, so that all of it is compiled here, for speed, whatever the
    /// crate of the caller is compiled for.
    pub fn serve(&self, listener: Listener, drain: drain::Watch) -> BoxFuture<'static, ()> {
        let service = stack::over(self.service()).push(catch_panic::layer());
        Box::pin(listener.serve(service.into_service(), drain))
    }

    fn service(
        &self,
    ) -> impl Service<http::Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static {
        let slot = self.clone();
        tower::service_fn(move |request: http::Request<Incoming>| {
            let front = slot.front();
            // Boxed, as the layers above move it from one to the next.
            Box::pin(async move {
                let connection = Info::of(request.extensions()).cloned();
                Ok(front.answer(request.map(Body::from), connection).await)
            })
        })
    }
}

/// A `tower` service at the end of a front.
#[derive(Debug, Clone)]
pub struct Served<S>(S);

/// Puts a `tower` service at the end of a front.
pub fn serve<S>(service: S) -> Arc<Served<S>> {
    Arc::new(Served(service))
}

impl<S, B> Terminal for Served<S>
where
    S: Service<Request, Response = http::Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let reply = self.0.clone().oneshot(request);
        Box::pin(async move {
            match reply.await {
                Ok(reply) => reply.map(Body::new),
                Err(never) => match never {},
            }
        })
    }
}

#[cfg(test)]
mod tests;
