//! Calls from the runtimes into the data plane: InvokeService by a component, and gRPC calls of
//! methods that a runtime does not have itself.

use std::{convert::Infallible, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use layotto_api::grpc::Dispatch;
use layotto_core::{
    Error, ErrorKind, Result,
    rpc::{Listeners, no_listener},
};
use layotto_mesh::{
    body::Body,
    filter::{Request, Response, Terminal},
    reply::{self, Kind},
    stack::{self, deadline},
};

use super::Directory;

/// Metadata that names the service of a call that is passed through; the second is Dapr's.
const SERVICE: [&str; 2] = ["id", "dapr-app-id"];
/// Metadata that is none of the service's business.
const TOKENS: [&str; 2] = ["layotto-api-token", "dapr-api-token"];

#[async_trait]
impl Listeners for Directory {
    async fn call(
        &self,
        name: &str,
        request: http::Request<Bytes>,
        largest: usize,
    ) -> Result<http::Response<Bytes>> {
        let slot = self.slot(name).ok_or_else(|| no_listener(name))?;
        let (head, body) = slot.call(request.map(Body::from)).await.into_parts();
        let body = match Limited::new(body, largest).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let text = format!("the response is larger than {largest} bytes");
                return Err(Error::new(ErrorKind::ResourceExhausted, text));
            }
            Err(error) => return Err(Error::unavailable("EOF").with_source(error)),
        };
        Ok(http::Response::from_parts(head, body))
    }
}

/// The service at the end of a runtime's listener.
pub fn runtime(dispatch: Dispatch, pass_to: Option<(String, Directory)>) -> Arc<dyn Terminal> {
    let end = Runtime { dispatch, pass_to };
    let service = tower::service_fn(move |request: Request| {
        let end = end.clone();
        async move { Ok::<_, Infallible>(end.answer(request).await) }
    });
    layotto_mesh::front::serve(stack::over(service).push(deadline::layer()).into_service())
}

/// A runtime and, for methods that it does not have, the listener that leads to other services.
#[derive(Clone)]
struct Runtime {
    dispatch: Dispatch,
    pass_to: Option<(String, Directory)>,
}

impl Runtime {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        match self.elsewhere(&request) {
            Some(name) => self.pass(name, request),
            None => {
                let reply = tower::Service::call(&mut self.dispatch.clone(), request);
                Box::pin(async move {
                    match reply.await {
                        Ok(reply) => reply.map(Body::new),
                        Err(never) => match never {},
                    }
                })
            }
        }
    }

    /// The listener that a call is passed to, if it is one for another service.
    fn elsewhere(&self, request: &Request) -> Option<String> {
        let (listener, _) = self.pass_to.as_ref()?;
        let is_grpc = Kind::of(request.headers()) == Kind::Grpc;
        let named = SERVICE.iter().any(|name| request.headers().contains_key(*name));
        let elsewhere = is_grpc && named && !self.dispatch.serves(request.uri().path());
        elsewhere.then(|| listener.clone())
    }

    fn pass(&self, listener: String, mut request: Request) -> BoxFuture<'static, Response> {
        let refused = self.dispatch.refuse(request.headers());
        let slot = self
            .pass_to
            .as_ref()
            .and_then(|(_, directory)| directory.slot(&listener));
        Box::pin(async move {
            if let Some(refused) = refused {
                return refused.map(Body::new);
            }
            let Some(slot) = slot else {
                let text = format!("there is no listener {listener:?}");
                return reply::refuse(Kind::Grpc, reply::Code::Unavailable, &text).map(Body::new);
            };
            name_service(&mut request);
            slot.call(request).await
        })
    }
}

/// Leaves the service in the field that routes look at, and takes the tokens away.
fn name_service(request: &mut Request) {
    let headers = request.headers_mut();
    TOKENS.iter().for_each(|token| drop(headers.remove(*token)));
    let [id, other] = SERVICE;
    if !headers.contains_key(id)
        && let Some(service) = headers.get(other).cloned()
    {
        headers.insert(id, service);
    }
}
