//! The floor: what tonic itself costs for calls of the same shape.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use layotto_proto::runtime::v1::{
    GetNextIdRequest, GetNextIdResponse, GetStateRequest, GetStateResponse, SayHelloRequest, SayHelloResponse,
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

/// Serves until killed; prints the address first.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(Echo)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// Answers with replies of the same shape as those of the cases beside it.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "spec.proto.runtime.v1.Runtime";
}

async fn hello(request: Request<SayHelloRequest>) -> Result<Response<SayHelloResponse>, Status> {
    let hello = format!("greeting, {}", request.into_inner().name);
    Ok(Response::new(SayHelloResponse { hello, data: None }))
}

async fn state(_: Request<GetStateRequest>) -> Result<Response<GetStateResponse>, Status> {
    static VALUE: [u8; 100] = [b'x'; 100];
    let data = Bytes::from_static(&VALUE);
    Ok(Response::new(GetStateResponse {
        data,
        etag: "1".to_owned(),
        ..GetStateResponse::default()
    }))
}

async fn id(_: Request<GetNextIdRequest>) -> Result<Response<GetNextIdResponse>, Status> {
    Ok(Response::new(GetNextIdResponse { next_id: 1_000_000 }))
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // As tonic's generated servers do it.
        macro_rules! unary {
            ($method:path) => {
                Box::pin(async move {
                    Ok(Grpc::new(ProstCodec::default())
                        .unary(service_fn($method), request)
                        .await)
                })
            };
        }
        match request.uri().path() {
            "/spec.proto.runtime.v1.Runtime/GetState" => unary!(state),
            "/spec.proto.runtime.v1.Runtime/GetNextId" => unary!(id),
            _ => unary!(hello),
        }
    }
}
