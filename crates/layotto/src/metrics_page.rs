//! The metrics endpoint: everything the process counts, for Prometheus.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use layotto_api::metrics::Metrics;

/// The text format that Prometheus asks for by default.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The terminal service of a metrics listener.
#[derive(Clone)]
pub struct MetricsPage(Arc<Page>);

struct Page {
    path: String,
    metrics: Arc<Metrics>,
}

impl MetricsPage {
    /// The page at `path`.
    pub fn new(path: impl Into<String>, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Page {
            path: path.into(),
            metrics,
        }))
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        if path != self.0.path {
            return status(StatusCode::NOT_FOUND);
        }
        let Ok(text) = self.0.metrics.encode() else {
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        response.headers_mut().insert(header::CONTENT_TYPE, OPEN_METRICS);
        response
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

impl<B> tower::Service<Request<B>> for MetricsPage {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.uri().path())))
    }
}
