//! Requests and responses as HTTP/1.1 messages.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use layotto_core::{
    Error, ErrorKind, Result,
    rpc::{Headers, Request, Response},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What may not stand in a path or query as it is; escapes that are there already are kept.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// How much of the body of a failed call is repeated in the error, in bytes: a gRPC status
/// travels in header fields, which have bounds of their own.
const EXCERPT: usize = 4096;

/// Fields that belong to one connection, in either direction.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a field of the caller's gRPC request is none of the service's business.
fn stays_here(name: &str) -> bool {
    name.starts_with(':')
        || name.starts_with("grpc-")
        || is_hop_by_hop(name)
        || matches!(
            name,
            "content-length" | "content-type" | "host" | "id" | "verb" | "query_string"
        )
}

/// The message for `request`.
pub(super) fn encode(request: &Request) -> Result<http::Request<Bytes>> {
    let method = method(request)?;
    let mut message = http::Request::new(request.data.clone());
    *message.uri_mut() = target(request)?;
    fill(message.headers_mut(), request, has_length(&method, &request.data))?;
    *message.method_mut() = method;
    Ok(message)
}

fn method(request: &Request) -> Result<Method> {
    let verb = given(&request.verb, &request.headers, "verb");
    match verb {
        "" | "NONE" => Ok(Method::GET),
        // A tunnel would take the connection away from the pool.
        "CONNECT" => Err(Error::unsupported("verb CONNECT")),
        verb => Method::from_bytes(verb.as_bytes())
            .map_err(|error| Error::invalid(format!("{verb:?} is not an HTTP verb")).with_source(error)),
    }
}

/// What the call itself says, else what upstream reads from the request's metadata.
fn given<'a>(own: &'a str, headers: &'a Headers, name: &str) -> &'a str {
    let header = headers.iter().find(|(present, _)| present == name);
    match header {
        Some((_, value)) if own.is_empty() => value,
        _ => own,
    }
}

/// Messages that have a body or, by their method, are expected to.
fn has_length(method: &Method, data: &Bytes) -> bool {
    !data.is_empty() || matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn target(request: &Request) -> Result<Uri> {
    let path = request.method.trim_start_matches('/');
    let mut target = format!("/{}", utf8_percent_encode(path, ESCAPED));
    let query = given(&request.query, &request.headers, "query_string");
    if !query.is_empty() {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.extend(utf8_percent_encode(query, ESCAPED));
    }
    Uri::try_from(target)
        .map_err(|error| Error::invalid("method and query string make no HTTP target").with_source(error))
}

fn fill(headers: &mut HeaderMap, request: &Request, has_length: bool) -> Result<()> {
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    if !request.content_type.is_empty() {
        headers.insert(
            header::CONTENT_TYPE,
            value("content-type", &request.content_type)?,
        );
    }
    if has_length {
        headers.insert(header::CONTENT_LENGTH, request.data.len().into());
    }
    for (name, text) in joined(&request.headers) {
        let field = HeaderName::try_from(name)
            .map_err(|error| Error::invalid(format!("{name:?} is not a header name")).with_source(error))?;
        headers.insert(field, value(name, &text)?);
    }
    headers.insert(HeaderName::from_static("id"), value("id", &request.id)?);
    Ok(())
}

/// The fields to pass on, in order, repeated ones joined by commas.
fn joined(headers: &Headers) -> Vec<(&str, String)> {
    let mut joined: Vec<(&str, String)> = Vec::new();
    for (name, text) in headers.iter().filter(|(name, _)| !stays_here(name)) {
        match joined.iter_mut().find(|(present, _)| present == name) {
            Some((_, all)) => {
                all.push(',');
                all.push_str(text);
            }
            None => joined.push((name, text.clone())),
        }
    }
    joined
}

fn value(name: &str, text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|error| {
        Error::invalid(format!("the value of {name} cannot stand in a header")).with_source(error)
    })
}

/// The answer that a message is: any 2xx succeeds.
pub(super) fn decode(head: &http::response::Parts, body: Bytes) -> Result<Response> {
    if !head.status.is_success() {
        let excerpt = String::from_utf8_lossy(body.get(..EXCERPT).unwrap_or(&body));
        let text = format!("http response code {}, body: {excerpt}", head.status.as_u16());
        return Err(
            Error::new(ErrorKind::Unavailable, text).with_detail("status", head.status.as_u16().to_string())
        );
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let content_type = head.headers.get(header::CONTENT_TYPE).map(text);
    let fields = head.headers.iter().filter(|(name, _)| returns(name.as_str()));
    Ok(Response {
        content_type: content_type.unwrap_or_default(),
        headers: fields
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        data: body,
    })
}

/// Whether a field of the response is the caller's business; some names are gRPC's own.
fn returns(name: &str) -> bool {
    !(is_hop_by_hop(name)
        || name.starts_with("grpc-")
        || matches!(name, "content-length" | "content-type" | "user-agent"))
}
