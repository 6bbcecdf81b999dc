//! What a real server does with bodies: it asks some for their end, and drops others.

use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// Serves one connection with `answer` behind the scene's observer.
fn serve(scene: &Scene, answer: fn() -> Response, http2: bool) -> tokio::io::DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 16);
    let observer = scene.observer.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let observer = observer.clone();
        async move {
            let request = request.map(Body::from);
            let response = observer.observe(request, |_| std::future::ready(answer()));
            Ok::<_, std::convert::Infallible>(response.await)
        }
    });
    let io = TokioIo::new(server);
    tokio::spawn(async move {
        let served = match http2 {
            true => {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await
            }
            false => {
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await
            }
        };
        drop(served);
    });
    client
}

async fn ask(client: tokio::io::DuplexStream, method: Method, http2: bool) {
    let mut request = http::Request::new(Full::<Bytes>::default());
    *request.method_mut() = method;
    *request.uri_mut() = "http://h/orders".parse().unwrap();
    request
        .headers_mut()
        .insert("host", HeaderValue::from_static("h"));
    let io = TokioIo::new(client);
    let response = if http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    response.unwrap().into_body().collect().await.unwrap();
}

#[tokio::test]
async fn no_whole_reply_counts_as_cut() {
    let answers: [fn() -> Response; 5] = [
        || Response::new(Body::empty()),
        || Response::new(Body::from("text")),
        || Response::new(Body::new(Full::from("boxed"))),
        || Response::new(parts(vec![data("a"), data("b")])),
        || Response::new(parts(vec![data("a"), grpc_trailers("0")])),
    ];
    // Over HTTP/2 the server sends a body even where HEAD forbids it.
    for (http2, methods, calls) in [
        (false, &[Method::GET, Method::POST, Method::HEAD][..], 15),
        (true, &[Method::GET, Method::POST], 10),
    ] {
        let scene = Scene::new(LINE);
        for answer in answers {
            for method in methods {
                ask(serve(&scene, answer, http2), method.clone(), http2).await;
            }
        }
        while scene.spans().len() < calls {
            tokio::task::yield_now().await;
        }
        let all = format!("request_200_total {calls}");
        scene.assert_counts(&[&all, "request_reset 0", "request_active 0"]);
    }
}
