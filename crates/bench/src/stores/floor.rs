//! The floor: a tonic service over one pipelined connection to Redis, and nothing else.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use layotto_proto::runtime::v1::{GetStateRequest, GetStateResponse, SaveStateRequest};
use redis::aio::MultiplexedConnection;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

/// Serves until killed; prints the address first.
pub async fn serve(redis: SocketAddr) -> anyhow::Result<()> {
    let client = redis::Client::open(format!("redis://{redis}/"))?;
    let connection = client.get_multiplexed_async_connection().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(Store(connection))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// State in hashes with the fields `data` and `version`, without etags, options or TTL.
#[derive(Clone)]
struct Store(MultiplexedConnection);

impl NamedService for Store {
    const NAME: &'static str = "spec.proto.runtime.v1.Runtime";
}

fn internal(error: redis::RedisError) -> Status {
    Status::internal(error.to_string())
}

impl Store {
    async fn get(mut self, request: Request<GetStateRequest>) -> Result<Response<GetStateResponse>, Status> {
        let mut command = redis::cmd("HMGET");
        command.arg(request.into_inner().key).arg("data").arg("version");
        let (data, version): (Option<Bytes>, Option<String>) =
            command.query_async(&mut self.0).await.map_err(internal)?;
        Ok(Response::new(GetStateResponse {
            data: data.unwrap_or_default(),
            etag: version.unwrap_or_default(),
            ..GetStateResponse::default()
        }))
    }

    async fn save(mut self, request: Request<SaveStateRequest>) -> Result<Response<()>, Status> {
        for item in request.into_inner().states {
            let mut command = redis::cmd("HSET");
            command.arg(item.key).arg("data").arg(item.value.as_ref());
            let _: i64 = command.query_async(&mut self.0).await.map_err(internal)?;
        }
        Ok(Response::new(()))
    }
}

impl Service<http::Request<Body>> for Store {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let store = self.clone();
        // As tonic's generated servers do it.
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/spec.proto.runtime.v1.Runtime/GetState" => {
                    let method = service_fn(move |request| store.clone().get(request));
                    Grpc::new(ProstCodec::default()).unary(method, request).await
                }
                _ => {
                    let method = service_fn(move |request| store.clone().save(request));
                    Grpc::new(ProstCodec::default()).unary(method, request).await
                }
            })
        })
    }
}
