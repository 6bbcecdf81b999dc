//! How guests reach the runtime: by the service behind its listener, as an application would over
//! gRPC, with the same metrics, checks and key prefixes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt, Limited};
use layotto_core::Secret;
use layotto_mesh::{
    body::Body,
    filter::{Request, Response, Terminal},
};
use layotto_proto::runtime::v1::{
    CommonInvokeRequest, GetStateRequest, GetStateResponse, InvokeResponse, InvokeServiceRequest,
};
use layotto_wasm::{
    allows,
    grpc::{Call, Event},
    host::{Asker, Failure, Host, HttpCall, HttpReply},
};
use prost::Message;
use tokio::time::Instant;

use super::{
    calls::{Calls, grpc::timeout},
    frame::{PREFIX, framed},
};

const SERVICE: &str = "/spec.proto.runtime.v1.Runtime";

/// The longest reply, in bytes.
const LONGEST: usize = 4 << 20;

/// gRPC's UNIMPLEMENTED.
const UNIMPLEMENTED: &str = "12";

/// The runtime of a process.
pub struct Runtime {
    service: Option<Arc<dyn Terminal>>,
    token: Option<Secret>,
    calls: Calls,
}

/// The first field of every request about states.
#[derive(Clone, PartialEq, Message)]
struct OfStore {
    #[prost(string, tag = "1")]
    store_name: String,
}

impl Runtime {
    /// Over the service behind a runtime's listener; callers need `token`. `calls` are those to
    /// clusters.
    pub fn new(service: Option<Arc<dyn Terminal>>, token: Option<Secret>, calls: Calls) -> Self {
        Self {
            service,
            token,
            calls,
        }
    }

    async fn call(&self, asker: &Asker, method: &str, message: Bytes) -> Result<Bytes, Failure> {
        let service = self.service.as_ref().ok_or(Failure::Unknown)?;
        let request = self.request(asker, method, &message)?;
        unpack(service.call(request).await).await
    }

    fn request(&self, asker: &Asker, method: &str, message: &[u8]) -> Result<Request, Failure> {
        let body = framed(message).ok_or_else(|| failed("the request is too long"))?;
        let request = http::Request::post(format!("{SERVICE}/{method}"))
            .version(http::Version::HTTP_2)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Body::from(body));
        // Not every text is a path.
        let mut request = request.map_err(|_| Failure::Unknown)?;
        if let Some(deadline) = asker.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            request.headers_mut().insert("grpc-timeout", timeout(left));
        }
        if let Some(token) = &self.token {
            let token =
                HeaderValue::from_str(token.expose()).map_err(|_| failed("the token is no header"))?;
            request.headers_mut().insert("layotto-api-token", token);
        }
        Ok(request)
    }
}

fn failed(text: impl Into<String>) -> Failure {
    Failure::Failed(text.into())
}

/// The message of a reply, or why there is none.
async fn unpack(response: Response) -> Result<Bytes, Failure> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LONGEST + PREFIX).collect().await;
    let body = body.map_err(|_| failed("the reply is too long or broke off"))?;
    ended_well(body.trailers().unwrap_or(&head.headers))?;
    let mut bytes = body.to_bytes();
    if bytes.len() < PREFIX {
        return Err(failed("the reply has no message"));
    }
    bytes.advance(PREFIX);
    Ok(bytes)
}

fn ended_well(trailers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| {
        trailers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some(UNIMPLEMENTED) => Err(Failure::Unknown),
        status => {
            let message = text("grpc-message").unwrap_or_default();
            let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
            Err(failed(format!(
                "status {}: {message}",
                status.unwrap_or("missing")
            )))
        }
    }
}

#[async_trait]
impl Host for Runtime {
    fn log_level(&self) -> layotto_wasm::abi::Level {
        use layotto_wasm::abi::Level;
        match tracing::level_filters::LevelFilter::current() {
            tracing::level_filters::LevelFilter::TRACE => Level::Trace,
            tracing::level_filters::LevelFilter::DEBUG => Level::Debug,
            tracing::level_filters::LevelFilter::WARN => Level::Warn,
            tracing::level_filters::LevelFilter::ERROR => Level::Error,
            tracing::level_filters::LevelFilter::OFF => Level::Critical,
            _ => Level::Info,
        }
    }

    async fn get_state(&self, asker: &Asker, store: &str, key: &str) -> Result<Bytes, Failure> {
        let request = GetStateRequest {
            store_name: store.to_owned(),
            key: key.to_owned(),
            ..GetStateRequest::default()
        };
        let reply = self
            .call(asker, "GetState", request.encode_to_vec().into())
            .await?;
        let reply = GetStateResponse::decode(reply).map_err(|error| failed(error.to_string()))?;
        Ok(reply.data)
    }

    async fn invoke_service(
        &self,
        asker: &Asker,
        id: &str,
        method: &str,
        param: Bytes,
    ) -> Result<Bytes, Failure> {
        let data = prost_types::Any {
            type_url: String::new(),
            value: param.into(),
        };
        let request = InvokeServiceRequest {
            id: id.to_owned(),
            message: Some(CommonInvokeRequest {
                method: method.to_owned(),
                data: Some(data),
                ..CommonInvokeRequest::default()
            }),
        };
        let reply = self
            .call(asker, "InvokeService", request.encode_to_vec().into())
            .await?;
        let reply = InvokeResponse::decode(reply).map_err(|error| failed(error.to_string()))?;
        Ok(reply.data.map(|data| data.value.into()).unwrap_or_default())
    }

    async fn call_runtime(&self, asker: &Asker, method: &str, request: Bytes) -> Result<Bytes, Failure> {
        if method.contains("State") {
            let of = OfStore::decode(request.clone()).map_err(|error| failed(error.to_string()))?;
            if !allows(&asker.allowed.stores, &of.store_name) {
                return Err(failed(format!(
                    "the function's settings do not allow store {:?}",
                    of.store_name
                )));
            }
        }
        self.call(asker, method, request).await
    }

    fn has_cluster(&self, cluster: &str) -> bool {
        self.calls.reach(cluster)
    }

    async fn http_call(&self, _: &Asker, call: HttpCall) -> Result<HttpReply, Failure> {
        self.calls.send(call).await
    }

    fn grpc(&self, _: &Asker, call: Call) -> BoxStream<'static, Event> {
        self.calls.grpc(call)
    }
}
