//! Heads of HTTP as guests see them, and back.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version, header, request::Parts};
use layotto_mesh::{connection::Remote, exchange::Exchange, reply::Code};
use layotto_wasm::Headers;

/// What the connection decides, not a guest.
pub const CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
];

/// What stands before the headers of a request.
pub fn pseudo(head: &Parts) -> [(Bytes, Bytes); 4] {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let pairs = [
        (":method", head.method.as_str()),
        (":path", path),
        (":authority", authority.or(host).unwrap_or_default()),
        (":scheme", head.uri.scheme_str().unwrap_or("http")),
    ];
    pairs.map(|(name, value)| {
        (
            Bytes::from_static(name.as_bytes()),
            Bytes::copy_from_slice(value.as_bytes()),
        )
    })
}

/// Headers or trailers, in order.
pub fn fields(headers: &http::HeaderMap) -> impl Iterator<Item = (Bytes, Bytes)> {
    headers.iter().map(|(name, value)| {
        let name = Bytes::copy_from_slice(name.as_str().as_bytes());
        (name, Bytes::copy_from_slice(value.as_bytes()))
    })
}

/// Where a request came from; `None` if it came from inside the process.
pub fn source(head: &Parts) -> Option<SocketAddr> {
    let connection = Exchange::of(&head.extensions).and_then(Exchange::connection);
    match connection.map(|connection| connection.remote()) {
        Some(Remote::Tcp(address)) => Some(address),
        _ => None,
    }
}

/// As guests know the versions of HTTP.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_3 => "HTTP/3.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_09 => "HTTP/0.9",
        _ => "HTTP/1.1",
    }
}

/// What a status of HTTP is to those who speak gRPC, as gRPC says.
pub fn code_of(status: u32) -> Code {
    match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What HTTP does not allow, what the connection decides, and what there is no room for is left out.
pub fn put(to: &mut http::HeaderMap, headers: &Headers) {
    for (name, value) in &headers.0 {
        let parsed = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = parsed
            && !CONNECTION.contains(&name)
            && to.try_append(name, value).is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_list_has_no_room_for_is_left_out() {
        let many: Headers = (0..40_000)
            .map(|at| (format!("x-{at}"), Bytes::from_static(b"1")))
            .collect();
        let mut list = http::HeaderMap::new();
        put(&mut list, &many);
        assert!((1_000..40_000).contains(&list.len()), "{}", list.len());
    }
}
