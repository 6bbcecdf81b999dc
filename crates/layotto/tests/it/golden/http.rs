//! HTTP requests of the cases.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value as Json, json};

use crate::sidecar::PATIENCE;

/// Makes the request that `step` describes.
pub async fn request(port: u16, step: &Json) -> Json {
    let text = |name: &str| {
        step.get(name)
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let body = step
        .get("body")
        .map(|body| body.as_str().map_or_else(|| body.to_string(), str::to_owned));
    let mut request = http::Request::builder()
        .method(&*text("method"))
        .uri(text("path"));
    let headers = step.get("headers").and_then(Json::as_object);
    for (name, value) in headers.into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap());
    }
    if step["listener"] == "tcpx" {
        // As the client of the recordings.
        request = request.header("accept-encoding", "identity");
    }
    exchange(port, request, body.unwrap_or_default()).await.unwrap()
}

/// GETs `path`.
pub async fn try_get(port: u16, path: &str) -> anyhow::Result<Json> {
    let mut answer = exchange(port, http::Request::get(path), String::new()).await?;
    let body = answer["body"].as_str().unwrap_or_default().to_owned();
    answer["body_json"] = serde_json::from_str(&body).unwrap_or_default();
    Ok(answer)
}

async fn exchange(port: u16, request: http::request::Builder, body: String) -> anyhow::Result<Json> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = request
        .header("host", format!("127.0.0.1:{port}"))
        .body(Full::new(Bytes::from(body)))?;
    let answer =
        tokio::time::timeout(PATIENCE.max(Duration::from_secs(1)), sender.send_request(request)).await??;
    let status = answer.status().as_u16();
    let headers: Map<_, _> = answer
        .headers()
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap_or_default())))
        .collect();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok(json!({"status": status, "headers": headers, "body": String::from_utf8_lossy(&body)}))
}
