//! The host that a request asks for.

use http::{HeaderValue, header::HOST, request, uri};

/// The host, and the port if there is one: the target's, else the header's (RFC 9110, 7.2).
pub(crate) fn host(head: &request::Parts) -> Option<&str> {
    match head.uri.authority() {
        Some(authority) => authority.as_str().rsplit('@').next(),
        None => head.headers.get(HOST)?.to_str().ok(),
    }
}

/// Asks for another host. Nothing changes if `host` is not one.
pub(super) fn set_host(head: &mut request::Parts, host: &str) {
    let (Ok(authority), Ok(value)) = (host.parse::<uri::Authority>(), HeaderValue::from_str(host)) else {
        return;
    };
    if head.uri.authority().is_none() {
        head.headers.insert(HOST, value);
        return;
    }
    if head.headers.contains_key(HOST) {
        head.headers.insert(HOST, value);
    }
    let mut parts = head.uri.clone().into_parts();
    parts.authority = Some(authority);
    if let Ok(uri) = uri::Uri::from_parts(parts) {
        head.uri = uri;
    }
}

/// Whether `host` can be asked for.
pub(super) fn is_host(host: &str) -> bool {
    host.parse::<uri::Authority>()
        .is_ok_and(|host| !host.as_str().contains('@'))
}
