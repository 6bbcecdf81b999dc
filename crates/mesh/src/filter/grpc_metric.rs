//! Stream filter `grpc_metric`: counts calls by gRPC method, and how they ended.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    BoxError,
    body::Body,
    config::ConfigError,
    filter::{Context, Filter, Kind, Next, Phase, Request, Response},
    metrics::{Method, Metrics},
    reply,
};

/// The filter's line in [`KINDS`](super::KINDS).
pub(super) const KIND: Kind = Kind {
    name: "grpc_metric",
    build,
    route_config: None,
    schema: || schemars::schema_for!(Config),
    other_keys: &[],
};

/// The filter `grpc_metric` has no settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {}

/// Counts calls by method; requests that are no gRPC pass uncounted.
#[derive(Debug)]
struct GrpcMetric {
    metrics: Metrics,
}

fn build(_: &Value, context: &Context) -> Result<Arc<dyn Filter>, ConfigError> {
    Ok(Arc::new(GrpcMetric {
        metrics: context.metrics.clone(),
    }))
}

impl Filter for GrpcMetric {
    fn phase(&self) -> Phase {
        Phase::BeforeRoute
    }

    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        if reply::Kind::of(request.headers()) == reply::Kind::Http {
            return next.run(request);
        }
        let mut call = Call::begin(&self.metrics, request.uri().path());
        Box::pin(async move {
            let response = next.run(request).await;
            // A status among the headers: the reply has no messages, or was refused here.
            if response.headers().contains_key(STATUS) || !response.status().is_success() {
                call.end(response.headers());
                return response;
            }
            response.map(|body| Body::new(Counted { body, call }))
        })
    }
}

const STATUS: &str = "grpc-status";
/// The status of methods that nobody has.
const UNIMPLEMENTED: &str = "12";

/// A call that is under way; dropped before its end, it failed.
struct Call(Option<Callee>);

/// What is called.
enum Callee {
    /// A method with counters of its own.
    Known(Arc<Method>),
    /// A method whose name may be the client's invention: its answer tells. Counted at its end.
    New(Metrics, Box<str>),
}

impl Call {
    fn begin(metrics: &Metrics, path: &str) -> Self {
        match metrics.known_method(path) {
            Some(method) => {
                method.begin();
                Self(Some(Callee::Known(method)))
            }
            None => Self(Some(Callee::New(metrics.clone(), path.into()))),
        }
    }

    fn end(&mut self, headers: &HeaderMap) {
        self.end_with(headers.get(STATUS));
    }

    fn end_with(&mut self, status: Option<&HeaderValue>) {
        let method = match self.0.take() {
            Some(Callee::Known(method)) => method,
            Some(Callee::New(metrics, path)) => {
                let is_there = status.is_some_and(|status| status != UNIMPLEMENTED);
                let method = match is_there {
                    true => metrics.method(&path),
                    false => metrics.other_methods(),
                };
                method.begin();
                method
            }
            None => return,
        };
        method.end(status.is_some_and(|status| status == "0"));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end_with(None);
    }
}

struct Counted {
    body: Body,
    call: Call,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.end(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::filter::Terminal;

    /// Answers with `headers`, and `trailers` after a message.
    struct Answer {
        header: Option<&'static str>,
        trailer: Option<&'static str>,
    }

    fn status(value: Option<&'static str>) -> HeaderMap {
        let value = value.map(|value| (STATUS.parse().unwrap(), HeaderValue::from_static(value)));
        value.into_iter().collect()
    }

    impl Terminal for Answer {
        fn call(&self, _: Request) -> BoxFuture<'_, Response> {
            let trailers = status(self.trailer);
            let body = Full::from("message").with_trailers(async move { Some(Ok(trailers)) });
            let mut response = http::Response::new(Body::new(body));
            *response.headers_mut() = status(self.header);
            Box::pin(std::future::ready(response))
        }
    }

    async fn call(metrics: &Metrics, content_type: &'static str, answer: Answer) -> Response {
        let context = Context {
            metrics: metrics.clone(),
            ..Context::default()
        };
        let filters = [build(&Value::Null, &context).unwrap()];
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = "http://h/a.B/C".parse().unwrap();
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static(content_type));
        Next::new(&filters, &answer).run(request).await
    }

    fn counts(metrics: &Metrics) -> (u64, u64, u64) {
        metrics.method("/a.B/C").counts()
    }

    #[tokio::test]
    async fn a_call_succeeds_by_its_trailers_or_headers() {
        for (header, trailer, counted) in [
            (None, Some("0"), (1, 1, 0)),
            (None, Some("14"), (1, 0, 1)),
            (None, None, (1, 0, 1)),
            (Some("0"), None, (1, 1, 0)),
            (Some("8"), None, (1, 0, 1)),
            (Some("12"), None, (1, 0, 1)),
        ] {
            let metrics = Metrics::default();
            metrics.method("/a.B/C");
            let response = call(&metrics, "application/grpc", Answer { header, trailer }).await;
            response.into_body().collect().await.unwrap();
            assert_eq!(counts(&metrics), counted, "{header:?} {trailer:?}");
        }
    }

    #[tokio::test]
    async fn a_call_that_is_cut_failed_once() {
        let metrics = Metrics::default();
        metrics.method("/a.B/C");
        let answer = Answer {
            header: None,
            trailer: Some("0"),
        };
        let response = call(&metrics, "application/grpc+proto", answer).await;
        assert_eq!(counts(&metrics), (1, 0, 0));
        drop(response);
        assert_eq!(counts(&metrics), (1, 0, 1));
    }

    #[tokio::test]
    async fn a_method_that_nobody_has_is_one_of_the_others() {
        let metrics = Metrics::default();
        for (header, trailer) in [(Some("12"), None), (None, Some("12")), (None, None)] {
            drop(call(&metrics, "application/grpc", Answer { header, trailer }).await);
        }
        assert!(metrics.known_method("/a.B/C").is_none());
        assert_eq!(metrics.other_methods().counts(), (3, 0, 3));
        let there = Answer {
            header: Some("5"),
            trailer: None,
        };
        drop(call(&metrics, "application/grpc", there).await);
        assert_eq!(counts(&metrics), (1, 0, 1));
        assert_eq!(metrics.other_methods().counts(), (3, 0, 3));
    }

    #[tokio::test]
    async fn requests_that_are_no_grpc_are_not_counted() {
        let metrics = Metrics::default();
        let answer = Answer {
            header: None,
            trailer: None,
        };
        drop(call(&metrics, "text/plain", answer).await);
        assert_eq!(counts(&metrics), (0, 0, 0));
    }
}
