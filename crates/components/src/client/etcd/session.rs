//! One connection to one node, and calls over it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use http::{Uri, uri::PathAndQuery};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{
    Streaming,
    body::Body,
    client::{Grpc, GrpcService},
    metadata::{Ascii, MetadataMap, MetadataValue},
};
use tonic_prost::ProstCodec;

use super::failure::{Failure, Unanswered};

/// The largest answer taken: a bulk read of many large values.
const LARGEST_ANSWER: usize = 64 << 20;
/// etcd takes more pings than one in five seconds for an attack.
const PING_AFTER: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// How much may be on its way to us: a value of the largest size at once.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A connection; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    sender: http2::SendRequest<Body>,
    origin: Uri,
    /// Which of the nodes.
    pub(super) node: usize,
    /// Which of the connections made so far.
    pub(super) number: u64,
}

/// How a call is made.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    pub(super) token: Option<MetadataValue<Ascii>>,
    /// A node that knows no leader refuses the call at once.
    pub(super) needs_leader: bool,
}

impl Manner {
    fn write(&self, metadata: &mut MetadataMap) {
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        if self.needs_leader {
            metadata.insert("hasleader", MetadataValue::from_static("true"));
        }
    }
}

impl Session {
    /// Speaks HTTP/2 over `io`; the second part drives the connection and ends with it.
    pub(super) async fn new<T>(
        io: T,
        authority: &str,
        node: usize,
        number: u64,
    ) -> Result<
        (
            Self,
            impl Future<Output = Result<(), hyper::Error>> + Send + 'static,
        ),
        hyper::Error,
    >
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(io))
            .await?;
        let origin = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query("/")
            .build()
            .unwrap_or_default();
        let session = Self {
            sender,
            origin,
            node,
            number,
        };
        Ok((session, driver))
    }

    /// Whether calls can no longer be made.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// One request, one answer.
    pub(super) async fn unary<Q, A>(
        &self,
        path: &'static str,
        request: Q,
        manner: &Manner,
    ) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = tonic::Request::new(request);
        manner.write(request.metadata_mut());
        let codec = ProstCodec::<Q, A>::default();
        let answer = self
            .grpc()
            .unary(request, PathAndQuery::from_static(path), codec)
            .await;
        Ok(answer?.into_inner())
    }

    /// Requests and answers; dropping the answers ends the call.
    pub(super) async fn streaming<Q, A>(
        &self,
        path: &'static str,
        requests: impl Stream<Item = Q> + Send + 'static,
        manner: &Manner,
    ) -> Result<Streaming<A>, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = tonic::Request::new(requests);
        manner.write(request.metadata_mut());
        let codec = ProstCodec::<Q, A>::default();
        let answers = self
            .grpc()
            .streaming(request, PathAndQuery::from_static(path), codec)
            .await;
        Ok(answers?.into_inner())
    }

    fn grpc(&self) -> Grpc<Sender> {
        let sender = Sender(self.sender.clone());
        Grpc::with_origin(sender, self.origin.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }
}

/// A connection that tells of a request without an answer whether it was sent.
struct Sender(http2::SendRequest<Body>);

impl GrpcService<Body> for Sender {
    type ResponseBody = Incoming;
    type Error = Unanswered;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Incoming>, Unanswered>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unanswered>> {
        self.0
            .poll_ready(cx)
            .map_err(|cause| Unanswered { sent: false, cause })
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.try_send_request(request);
        Box::pin(async move {
            answer.await.map_err(|mut error| Unanswered {
                sent: error.take_message().is_none(),
                cause: error.into_error(),
            })
        })
    }
}
