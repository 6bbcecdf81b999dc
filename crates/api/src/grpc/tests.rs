//! Whole calls: a client, an HTTP/2 connection in memory, and the dispatch.

mod errors;
mod services;
mod streams;

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use layotto_core::Secret;
use layotto_proto::runtime::v1::runtime_client::RuntimeClient;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{Dispatch, Options};
use crate::{
    Runtime,
    ops::fake::{self, Fake},
};

/// A server for one test: its runtime, its fake components, and a connection to it.
struct Served {
    fake: Arc<Fake>,
    runtime: Arc<Runtime>,
    dispatch: Dispatch,
    channel: Channel,
}

impl Served {
    fn new(options: Options) -> Self {
        Self::with(Fake::default(), options)
    }

    fn with(fake: Fake, options: Options) -> Self {
        let fake = Arc::new(fake);
        let runtime = fake::runtime(&fake);
        let dispatch = Dispatch::new(Arc::clone(&runtime), options);
        let channel = connect(dispatch.clone());
        Self {
            fake,
            runtime,
            dispatch,
            channel,
        }
    }

    fn client(&self) -> RuntimeClient<Channel> {
        RuntimeClient::new(self.channel.clone())
    }

    /// Calls `path` with the bytes of a message.
    async fn raw(&self, path: &'static str, message: &'static [u8]) -> Result<Vec<u8>, tonic::Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = grpc
            .unary(tonic::Request::new(message.to_vec()), path, Raw)
            .await?;
        Ok(answer.into_inner())
    }
}

fn with_token(token: &str) -> Options {
    Options {
        api_token: Some(Secret::new(token.to_owned())),
        ..Options::default()
    }
}

fn connect(dispatch: Dispatch) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let (client, server) = tokio::io::duplex(64 << 10);
        let service = hyper_util::service::TowerToHyperService::new(dispatch.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            connection.serve_connection(TokioIo::new(server), service).await
        });
        std::future::ready(Ok::<_, std::io::Error>(TokioIo::new(client)))
    });
    Endpoint::from_static("http://in.memory").connect_with_connector_lazy(connector)
}

/// Bytes in, bytes out: for messages that are no messages.
#[derive(Default)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        item: Vec<u8>,
        buffer: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, tonic::Status> {
        let mut item = vec![0; bytes::Buf::remaining(buffer)];
        bytes::Buf::copy_to_slice(buffer, &mut item);
        Ok(Some(item))
    }
}
