//! Replies that a layer makes itself: the one place where a refusal becomes a gRPC status or an
//! HTTP answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How a request wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With a gRPC status.
    Grpc,
    /// With an HTTP status.
    Http,
}

impl Kind {
    /// gRPC if the content type is `application/grpc`, alone or before `+` or `;`: gRPC-Web, for one,
    /// is another protocol.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(CONTENT_TYPE) {
            Some(value) => match value.as_bytes().strip_prefix(b"application/grpc") {
                Some([] | [b'+' | b';', ..]) => Self::Grpc,
                _ => Self::Http,
            },
            None => Self::Http,
        }
    }
}

/// The gRPC status codes; each has an HTTP status too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are gRPC's")]
pub enum Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// gRPC's name of the code, as in `PERMISSION_DENIED`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The HTTP status that says the same.
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::Cancelled => StatusCode::from_u16(499).expect("invariant: 499 is in range"),
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists | Self::Aborted => StatusCode::CONFLICT,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown | Self::Internal | Self::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// The reply that refuses a request: gRPC headers that are trailers at once, or an HTTP status with
/// the JSON body `{"code": …, "message": …}`. The caller reads `text`: it must hold no secret.
pub fn refuse(kind: Kind, code: Code, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match kind {
        Kind::Grpc => {
            response.headers_mut().insert(CONTENT_TYPE, GRPC);
            status_headers(response.headers_mut(), code, text);
        }
        Kind::Http => {
            let body = serde_json::json!({ "code": code.name(), "message": text });
            *response.status_mut() = code.http_status();
            *response.body_mut() = Full::from(body.to_string());
            response.headers_mut().insert(CONTENT_TYPE, JSON);
        }
    }
    response
}

/// The reply to a path that nothing serves: UNIMPLEMENTED over gRPC, else 404.
pub fn unknown_path(headers: &HeaderMap, path: &str) -> Response<Full<Bytes>> {
    match Kind::of(headers) {
        Kind::Grpc => refuse(Kind::Grpc, Code::Unimplemented, &format!("unknown method {path}")),
        Kind::Http => refuse(Kind::Http, Code::NotFound, "no such path"),
    }
}

/// The trailers that end a gRPC reply with `code`.
pub fn trailers(code: Code, text: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    status_headers(&mut trailers, code, text);
    trailers
}

fn status_headers(headers: &mut HeaderMap, code: Code, text: &str) {
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    if !text.is_empty() {
        let value =
            HeaderValue::from_str(&percent_encode(text)).expect("invariant: encoded text is printable");
        headers.insert("grpc-message", value);
    }
}

/// Writes `text` as gRPC's `Percent-Encoded`: printable ASCII without `%` stays, all else is `%XX`.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                encoded.push('%');
                encoded.extend(digits.map(char::from));
            }
        }
    }
    encoded
}

pin_project! {
    /// The body of a layer that answers some requests itself: the inner service's or its own.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProj]
    #[derive(Debug)]
    enum Source<B> {
        Inner { #[pin] body: B },
        Own { body: Full<Bytes> },
    }
}

impl<B> Body<B> {
    /// The inner service's body.
    pub fn inner(body: B) -> Self {
        Self {
            source: Source::Inner { body },
        }
    }

    /// The layer's own body.
    pub fn own(body: Full<Bytes>) -> Self {
        Self {
            source: Source::Own { body },
        }
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            SourceProj::Inner { body } => body.poll_frame(cx),
            SourceProj::Own { body } => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Inner { body } => body.is_end_stream(),
            Source::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Inner { body } => body.size_hint(),
            Source::Own { body } => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn a_grpc_refusal_is_headers_only() {
        let response = refuse(Kind::Grpc, Code::ResourceExhausted, "50% über\n");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], "8");
        assert_eq!(response.headers()["grpc-message"], "50%25 %C3%BCber%0A");
        assert!(response.body().is_end_stream());
    }

    #[tokio::test]
    async fn an_http_refusal_has_a_json_body() {
        let response = refuse(Kind::Http, Code::PermissionDenied, "say \"please\"");
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, r#"{"code":"PERMISSION_DENIED","message":"say \"please\""}"#);
    }

    #[test]
    fn the_kind_is_told_by_the_content_type() {
        for (content_type, kind) in [
            ("application/grpc", Kind::Grpc),
            ("application/grpc+proto", Kind::Grpc),
            ("application/grpc;charset=utf-8", Kind::Grpc),
            ("application/grpc-web+proto", Kind::Http),
            ("application/json", Kind::Http),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(Kind::of(&headers), kind);
        }
        assert_eq!(Kind::of(&HeaderMap::new()), Kind::Http);
    }

    #[test]
    fn unknown_paths_are_told_as_the_caller_expects() {
        let grpc = HeaderMap::from_iter([(CONTENT_TYPE, GRPC)]);
        assert_eq!(unknown_path(&grpc, "/a/B").headers()["grpc-status"], "12");
        assert_eq!(unknown_path(&HeaderMap::new(), "/a").status(), 404);
    }
}
