//! From the path of a request to the server that answers it.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use layotto_core::Secret;
use layotto_proto::runtime::v1::{lifecycle_server::LifecycleServer, runtime_server::RuntimeServer};
use tonic::{Status, body::Body, codec::CompressionEncoding};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::Service;

use super::{
    deadline, framework, health,
    lifecycle::Lifecycle,
    methods::{METHODS, Server, split},
    reflection::Reflection,
    reply::{Call, Reply},
    service::Api,
    trace::{Span, TraceIds, Tracer},
    upload::{Ending, Upload},
};
use crate::{Runtime, metrics::MethodMetrics};

/// Request metadata that carries the API token.
const TOKEN_HEADERS: [&str; 2] = ["layotto-api-token", "dapr-api-token"];

/// Settings of the gRPC face.
pub struct Options {
    /// The longest message received, in bytes. 4 MiB unless set.
    pub max_message_bytes: usize,
    /// What every call but those of the health service must carry in metadata `layotto-api-token`
    /// or `dapr-api-token`; an empty one counts as none.
    pub api_token: Option<Secret>,
    /// Told of every call.
    pub tracer: Option<Arc<dyn Tracer>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 << 20,
            api_token: None,
            tracer: None,
        }
    }
}

/// The gRPC face of a runtime: a service that answers every HTTP/2 request with a gRPC response.
/// Clones share everything.
#[derive(Clone)]
pub struct Dispatch(Arc<Inner>);

struct Inner {
    methods: HashMap<&'static str, usize>,
    metrics: Arc<[MethodMetrics]>,
    runtime: RuntimeServer<Api>,
    lifecycle: LifecycleServer<Lifecycle>,
    health: HealthServer<HealthService>,
    reporter: HealthReporter,
    reflection: Reflection,
    options: Options,
    trace_ids: TraceIds,
}

impl Dispatch {
    /// The gRPC face of `runtime`.
    pub fn new(runtime: Arc<Runtime>, mut options: Options) -> Self {
        options.api_token = options.api_token.filter(|token| !token.expose().is_empty());
        let limit = options.max_message_bytes;
        let gzip = CompressionEncoding::Gzip;
        let (reporter, health) = health::server();
        Self(Arc::new(Inner {
            methods: METHODS
                .iter()
                .enumerate()
                .map(|(index, method)| (method.path, index))
                .collect(),
            metrics: METHODS
                .iter()
                .map(|method| runtime.metrics.method(method.path))
                .collect(),
            runtime: RuntimeServer::new(Api(Arc::clone(&runtime)))
                .max_decoding_message_size(limit)
                .accept_compressed(gzip),
            lifecycle: LifecycleServer::new(Lifecycle(runtime))
                .max_decoding_message_size(limit)
                .accept_compressed(gzip),
            health,
            reporter,
            reflection: Reflection::new(),
            options,
            trace_ids: TraceIds::default(),
        }))
    }

    /// Whether a method is one of its own; all others are UNIMPLEMENTED.
    pub fn serves(&self, path: &str) -> bool {
        self.0.methods.contains_key(path)
    }

    /// The answer to a call that does not carry the API token, where one is asked for.
    pub fn refuse(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let refused = self.0.admit(Server::Runtime, headers).err()?;
        Some(refused.into_http())
    }

    /// What the health service answers from; see [`follow`](super::follow).
    pub fn health_reporter(&self) -> HealthReporter {
        self.0.reporter.clone()
    }
}

impl<B> Service<Request<B>> for Dispatch
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Reply {
        self.0.call(request)
    }
}

impl Inner {
    fn call<B>(&self, mut request: Request<B>) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        if framework::not_grpc(request.headers()) {
            return Reply::now(unsupported_media_type());
        }
        let Some(&index) = self.methods.get(request.uri().path()) else {
            return Reply::refused(framework::unknown(request.uri().path()));
        };
        let method = METHODS[index];
        let span = self.begin(method.path, request.headers_mut());
        let call = Call::new(&self.metrics, index, deadline::timeout(request.headers()), span);
        let answer = match self.admit(method.server, request.headers()) {
            Ok(()) => self.answer(method.path, method.server, request),
            Err(status) => ready(status),
        };
        Reply::awaited(answer, call, method.streams)
    }

    fn begin(&self, path: &'static str, headers: &mut HeaderMap) -> Option<Box<dyn Span>> {
        let tracer = self.options.tracer.as_ref()?;
        self.trace_ids.complete(headers);
        Some(tracer.begin(path, headers))
    }

    fn admit(&self, server: Server, headers: &HeaderMap) -> Result<(), Status> {
        let Some(token) = &self.options.api_token else {
            return Ok(());
        };
        let given = TOKEN_HEADERS.iter().filter_map(|name| headers.get(*name));
        let known = given.into_iter().any(|given| token.is(given.as_bytes()));
        if known || server == Server::Health {
            return Ok(());
        }
        Err(Status::unauthenticated("the call carries no valid API token"))
    }

    fn answer<B>(
        &self,
        path: &'static str,
        server: Server,
        mut request: Request<B>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        match server {
            Server::Runtime => {
                let mut server = self.runtime.clone();
                if is_gzip(request.headers()) {
                    server = server.send_compressed(CompressionEncoding::Gzip);
                }
                let ending = (path == PUT_FILE).then(Ending::default);
                if let Some(ending) = &ending {
                    request.extensions_mut().insert(ending.clone());
                }
                server.call(request.map(|body| Upload::new(body, ending)))
            }
            Server::Lifecycle => self.lifecycle.clone().call(request),
            Server::Extension => ready(not_implemented(path)),
            Server::Health => self.health.clone().call(request),
            Server::ReflectionV1 => (self.reflection.v1)(request.map(Body::new)),
            Server::ReflectionV1Alpha => (self.reflection.v1alpha)(request.map(Body::new)),
        }
    }
}

const PUT_FILE: &str = "/spec.proto.runtime.v1.Runtime/PutFile";

/// Answers are compressed for clients that compress, as grpc-go does: most clients say that they
/// accept compression without wishing for it.
fn is_gzip(headers: &HeaderMap) -> bool {
    headers
        .get("grpc-encoding")
        .is_some_and(|encoding| encoding == "gzip")
}

fn ready(status: Status) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

fn not_implemented(path: &str) -> Status {
    let (service, method) = split(path).unwrap_or_default();
    Status::unimplemented(format!(
        "method {method} of service {service} is not implemented yet"
    ))
}

fn unsupported_media_type() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}
