//! Headers from one connection to another: what belongs to one connection stays there (RFC 9110,
//! section 7.6.1), and what each version of HTTP says in its own way is said in the other's.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE,
    },
    request, response,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body as HttpBody;

use crate::{body::Body, upstream::Protocol};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Takes off a request what belongs to the client's connection. What it wants to upgrade to, over
/// HTTP/1.1, is the answer.
pub(super) fn strip_request(head: &mut request::Parts) -> Option<HeaderValue> {
    let mut upgrade = None;
    if has_any(&head.headers, is_of_connection) {
        upgrade = wanted(head);
        strip(&mut head.headers);
        // Ours to answer: the client is asked for the body when the upstream takes it.
        head.headers.remove(EXPECT);
    }
    keep_trailers(&mut head.headers);
    upgrade
}

/// Takes off a reply what belongs to the upstream's connection. `upgraded` keeps what a client must
/// see of a change of protocols.
pub(super) fn strip_reply(head: &mut response::Parts, upgraded: bool) {
    head.version = Version::HTTP_11;
    if !has_any(&head.headers, is_of_connection) {
        return;
    }
    let upgrade = match upgraded {
        true => head.headers.remove(UPGRADE),
        false => None,
    };
    strip(&mut head.headers);
    head.headers.remove(PROXY_AUTHENTICATE);
    if let Some(upgrade) = upgrade {
        want_upgrade(&mut head.headers, upgrade);
    }
}

/// Asks for, or grants, a change of protocols.
pub(super) fn want_upgrade(headers: &mut HeaderMap, to: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, to);
}

/// Makes a stripped request fit the connection it is sent over. One that names no host, as
/// HTTP/1.0 allows, asks for `host`.
pub(super) fn fit(head: &mut request::Parts, body: &Body, protocol: Protocol, secure: bool, host: &str) {
    match protocol {
        Protocol::Http1 => fit_http1(head, body, host),
        Protocol::Http2 => fit_http2(head, secure, host),
    }
}

/// Asks for `host`, whatever the client asked for.
pub(super) fn set_host(head: &mut request::Parts, host: &str) {
    if let (Ok(value), Ok(authority)) = (HeaderValue::from_str(host), host.parse::<Authority>()) {
        if head.uri.authority().is_some() {
            let mut parts = std::mem::take(&mut head.uri).into_parts();
            parts.authority = Some(authority);
            head.uri = Uri::from_parts(parts).unwrap_or_default();
        }
        head.headers.insert(HOST, value);
    }
}

fn fit_http1(head: &mut request::Parts, body: &Body, host: &str) {
    head.version = Version::HTTP_11;
    if let Some(authority) = head.uri.authority() {
        // The target counts, not the header (RFC 9112, section 3.2.2).
        let host = without_user(authority.as_str());
        if let Ok(host) = HeaderValue::from_str(host) {
            head.headers.insert(HOST, host);
        }
        let path = head.uri.path_and_query().cloned();
        head.uri = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
    }
    if head.headers.contains_key(TE) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if !head.headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(host)
    {
        head.headers.insert(HOST, host);
    }
    join_cookies(&mut head.headers);
    frame(head, body);
}

fn fit_http2(head: &mut request::Parts, secure: bool, host: &str) {
    head.version = Version::HTTP_2;
    let asked = head.headers.remove(HOST);
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    let authority = parts
        .authority
        .take()
        .or_else(|| Authority::try_from(asked?.as_bytes()).ok())
        .or_else(|| host.parse().ok());
    parts.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.path_and_query = Some(
        parts
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
    );
    head.uri = Uri::from_parts(parts).expect("invariant: all parts are there");
}

/// Says how long the body is, where hyper would take a body for none or none for a question.
fn frame(head: &mut request::Parts, body: &Body) {
    if head.headers.contains_key(CONTENT_LENGTH) {
        return;
    }
    match body.is_end_stream() {
        true if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        false if body.size_hint().exact().is_none() => {
            head.headers
                .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        _ => {}
    }
}

/// Whether there is a field whose name is one of those. One walk over the few that there are costs
/// less than to look up each that there might be.
pub(super) fn has_any(headers: &HeaderMap, is_one: impl Fn(&str) -> bool) -> bool {
    headers.keys().any(|name| is_one(name.as_str()))
}

/// Fields that concern one connection, in either direction; `TE` is [`keep_trailers`]'s.
fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "proxy-authenticate"
    )
}

fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for named in headers.get_all(CONNECTION).iter().cloned().collect::<Vec<_>>() {
            named
                .as_bytes()
                .split(|byte| *byte == b',')
                .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
                .filter(|name| !is_needed(name))
                .for_each(|name| drop(headers.remove(name)));
        }
        headers.remove(CONNECTION);
    }
    // Chunks go before a length (RFC 9112, section 6.3), which would cut the body elsewhere.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// What no `Connection` may take away: without it the message would be another one.
fn is_needed(name: &HeaderName) -> bool {
    *name == HOST || *name == CONTENT_LENGTH || *name == TE
}

/// What a request wants to upgrade to.
fn wanted(head: &request::Parts) -> Option<HeaderValue> {
    if head.version != Version::HTTP_11 {
        return None;
    }
    let wanted = head.headers.get(UPGRADE)?;
    let to_http = wanted.as_bytes().split(|byte| *byte == b',').any(is_http);
    (has_token(&head.headers, CONNECTION, b"upgrade") && !to_http).then(|| wanted.clone())
}

/// Whether an upgrade leads to HTTP again: its requests would pass no filter and no route.
fn is_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    [b"h2c".as_slice(), b"h2", b"http"]
        .iter()
        .any(|http| name.trim_ascii().eq_ignore_ascii_case(http))
}

/// Leaves of `TE` that trailers are taken, which holds for the next connection, too.
fn keep_trailers(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TE).iter();
    match (values.next(), values.next()) {
        (None, _) => {}
        (Some(value), None) if *value == TRAILERS => {}
        _ if has_token(headers, TE, b"trailers") => drop(headers.insert(TE, TRAILERS)),
        _ => drop(headers.remove(TE)),
    }
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &[u8]) -> bool {
    let mut tokens = headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token))
}

/// HTTP/2 may send cookies one by one; HTTP/1.1 wants them in one line (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let cookies: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

fn without_user(authority: &str) -> &str {
    authority.rsplit('@').next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, target: &str, headers: &[(&'static str, &'static str)]) -> request::Parts {
        let mut request = http::Request::builder()
            .uri(target)
            .version(version)
            .body(())
            .unwrap();
        for (name, value) in headers {
            request
                .headers_mut()
                .append(*name, HeaderValue::from_static(value));
        }
        request.into_parts().0
    }

    #[test]
    fn what_belongs_to_a_connection_stays_there() {
        let mut head = request(
            Version::HTTP_11,
            "/",
            &[
                ("host", "a"),
                ("connection", "close, X-Mine"),
                ("connection", "host"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("transfer-encoding", "chunked"),
                ("te", "gzip"),
                ("upgrade", "websocket"),
                ("x-mine", "1"),
                ("expect", "100-continue"),
                ("x-yours", "2"),
            ],
        );
        assert_eq!(strip_request(&mut head), None);
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(head.headers.contains_key("host") && head.headers.contains_key("x-yours"));
    }

    #[test]
    fn an_upgrade_is_told_by_both_headers() {
        let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let mut head = request(Version::HTTP_11, "/", &both);
        assert_eq!(strip_request(&mut head).unwrap(), "websocket");
        for http in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0"] {
            let mut head = request(
                Version::HTTP_11,
                "/",
                &[("connection", "upgrade"), ("upgrade", http)],
            );
            assert_eq!(strip_request(&mut head), None, "{http} would get past filters");
        }
        let mut head = request(Version::HTTP_2, "http://a/", &both);
        assert_eq!(strip_request(&mut head), None);
        let mut head = request(Version::HTTP_11, "/", &both[1..]);
        assert_eq!(strip_request(&mut head), None);
    }

    #[test]
    fn from_http2_to_http1_the_authority_is_the_host_and_cookies_are_joined() {
        let mut head = request(
            Version::HTTP_2,
            "https://u@example.com:81/a?b",
            &[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")],
        );
        strip_request(&mut head);
        fit(&mut head, &Body::empty(), Protocol::Http1, false, "");
        assert_eq!(head.uri, "/a?b");
        assert_eq!(head.headers["host"], "example.com:81");
        assert_eq!(head.headers["cookie"], "a=1; b=2");
        assert_eq!(
            (&head.headers["te"], &head.headers["connection"]),
            (&TRAILERS, &HeaderValue::from_static("te"))
        );
    }

    #[test]
    fn from_http1_to_http2_the_host_is_the_authority() {
        let mut head = request(
            Version::HTTP_11,
            "/a?b",
            &[
                ("host", "example.com:81"),
                ("connection", "te"),
                ("te", "trailers, deflate"),
            ],
        );
        strip_request(&mut head);
        fit(&mut head, &Body::empty(), Protocol::Http2, true, "");
        assert_eq!(head.uri, "https://example.com:81/a?b");
        assert!(!head.headers.contains_key("host") && !head.headers.contains_key("connection"));
        assert_eq!(head.headers["te"], TRAILERS);
    }

    #[test]
    fn a_target_that_names_a_host_counts_more_than_the_header() {
        let mut head = request(Version::HTTP_11, "http://target/x", &[("host", "header")]);
        fit(&mut head, &Body::empty(), Protocol::Http1, false, "");
        assert_eq!(
            (head.uri.to_string().as_str(), &head.headers["host"]),
            ("/x", &HeaderValue::from_static("target"))
        );
    }

    #[test]
    fn a_body_of_unknown_length_is_framed_whatever_the_method() {
        let body = || {
            Body::new(http_body_util::StreamBody::new(futures::stream::pending::<
                Result<_, crate::BoxError>,
            >()))
        };
        let mut head = request(Version::HTTP_11, "/", &[("host", "a")]);
        fit(&mut head, &body(), Protocol::Http1, false, "");
        assert_eq!(head.headers["transfer-encoding"], "chunked");
        let mut head = request(Version::HTTP_11, "/", &[("host", "a"), ("content-length", "3")]);
        fit(&mut head, &body(), Protocol::Http1, false, "");
        assert!(!head.headers.contains_key("transfer-encoding"));
    }

    #[test]
    fn a_request_without_a_host_asks_for_the_upstreams() {
        let mut head = request(Version::HTTP_10, "/", &[]);
        fit(&mut head, &Body::empty(), Protocol::Http1, false, "up:80");
        assert_eq!(head.headers["host"], "up:80");
        for (host, authority) in [("up:80", "up:80"), ("/a/socket", "localhost")] {
            let mut head = request(Version::HTTP_10, "/", &[]);
            fit(&mut head, &Body::empty(), Protocol::Http2, false, host);
            assert_eq!(head.uri.authority().unwrap(), authority);
        }
    }
}
