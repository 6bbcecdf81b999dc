//! Answers of the actuator and the administration API, and the bodies that are sent to them.

use std::future::ready;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use layotto_mesh::{
    body::Body,
    filter::{self, Next, Request},
    reply::Kind,
    stack::admin::Access,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An answer, whole.
pub type Answer = Response<Full<Bytes>>;

/// Has `answer` answer what is under `prefix`, for those whom `access` lets in; all else passes.
pub fn under<'a, F>(
    prefix: &str,
    access: &Access,
    request: Request,
    next: Next<'a>,
    answer: impl FnOnce(Request) -> F,
) -> BoxFuture<'a, filter::Response>
where
    F: Future<Output = Answer> + Send + 'a,
{
    let path = request.uri().path().strip_prefix(prefix);
    if !path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return next.run(request);
    }
    if let Err(refusal) = access.check(&request) {
        let kind = Kind::of(request.headers());
        return Box::pin(ready(refusal.answer(kind).map(Body::new)));
    }
    let answer = answer(request);
    Box::pin(async move { answer.await.map(Body::new) })
}

/// JSON.
pub fn json(status: StatusCode, body: &Value) -> Answer {
    of_type(status, "application/json", body.to_string())
}

/// JSON that says what is wrong.
pub fn error(status: StatusCode, why: &str) -> Answer {
    json(status, &json!({ "error": why }))
}

/// Text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    of_type(status, "text/plain; charset=utf-8", body)
}

/// A status alone.
pub fn empty(status: StatusCode) -> Answer {
    of_type(status, "application/json", Bytes::new())
}

/// The path is there, for another method.
pub fn method_not_allowed(allowed: &Method) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allowed}"));
    if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}

/// A body of this type.
pub fn of_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// The body of a request; an error is the answer to one of more than `most` bytes.
pub async fn body(request: Request, most: usize) -> Result<Bytes, Answer> {
    let too_large = || {
        let why = format!("the body is larger than {most} bytes");
        error(StatusCode::PAYLOAD_TOO_LARGE, &why)
    };
    let body = Limited::new(request.into_body(), most).collect().await;
    body.map(|body| body.to_bytes()).map_err(|_| too_large())
}

/// The same, read as JSON.
pub async fn json_body<T: DeserializeOwned>(request: Request, most: usize) -> Result<T, Answer> {
    let body = body(request, most).await?;
    serde_json::from_slice(&body).map_err(|why| error(StatusCode::BAD_REQUEST, &why.to_string()))
}

#[cfg(test)]
mod tests {
    use layotto_mesh::body::Body;

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let request = |body: &'static str| Request::new(Body::from(Bytes::from_static(body.as_bytes())));
        assert_eq!(body(request("abc"), 3).await.unwrap(), "abc");
        let refused = body(request("abcd"), 3).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let refused = json_body::<Value>(request("{"), 3).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }
}
