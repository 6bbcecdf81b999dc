//! Heads of requests and replies as a guest left them.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request, response,
    uri::{Authority, PathAndQuery},
};
use layotto_wasm::Headers;

use super::super::convert::{CONNECTION, pseudo, put};

/// Makes `head` what the guest left. `has_body`: the guest sees the body, whose length may change.
pub fn edit_request(head: &mut request::Parts, passed: &Headers, has_body: bool) -> Result<(), &'static str> {
    let before = pseudo(head);
    head.headers = edited(&head.headers, passed, has_body);
    let changed = |at: usize| {
        let (name, old) = &before[at];
        let new = passed.get(name)?;
        (new != old).then_some(&new[..])
    };
    if let Some(method) = changed(0) {
        head.method = Method::from_bytes(method).map_err(|_| "a :method that is none")?;
    }
    if let Some(path) = changed(1) {
        let path = PathAndQuery::try_from(path).map_err(|_| "a :path that is none")?;
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.path_and_query = Some(path);
        head.uri = Uri::from_parts(parts).map_err(|_| "a :path that is none")?;
    }
    if let Some(name) = changed(2) {
        let authority = Authority::try_from(name).map_err(|_| "an :authority that is none")?;
        let host = HeaderValue::from_bytes(name).map_err(|_| "an :authority that is none")?;
        if head.uri.authority().is_some() {
            let mut parts = std::mem::take(&mut head.uri).into_parts();
            parts.authority = Some(authority);
            head.uri = Uri::from_parts(parts).map_err(|_| "an :authority that is none")?;
        }
        head.headers.insert(header::HOST, host);
    }
    Ok(())
}

/// Makes `head` what the guest left. `has_body`: the guest sees the body, whose length may change.
pub fn edit_response(
    head: &mut response::Parts,
    passed: &Headers,
    has_body: bool,
) -> Result<(), &'static str> {
    head.headers = edited(&head.headers, passed, has_body);
    if let Some(status) = passed.get(b":status") {
        let said = StatusCode::from_bytes(status).map_err(|_| "a :status that is none")?;
        if said.is_informational() && said != head.status {
            return Err("a :status that ends no reply");
        }
        head.status = said;
    }
    Ok(())
}

/// The guest's headers; those of the connection stay as they were.
fn edited(before: &HeaderMap, passed: &Headers, has_body: bool) -> HeaderMap {
    let mut after = HeaderMap::with_capacity(passed.0.len());
    for name in CONNECTION {
        for value in before.get_all(&name) {
            after.append(name.clone(), value.clone());
        }
    }
    if has_body {
        after.remove(header::CONTENT_LENGTH);
    }
    put(&mut after, passed);
    after
}

/// Headers beside the content type, which says that a reply is one of gRPC.
pub fn without_content_type(mut headers: Headers) -> Headers {
    let name: HeaderName = header::CONTENT_TYPE;
    headers.remove(name.as_str().as_bytes());
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, host: Option<&str>) -> request::Parts {
        let mut request = http::Request::get(uri)
            .header("connection", "te")
            .header("content-length", "3");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn list(pairs: &[(&'static str, &'static str)]) -> Headers {
        pairs.iter().copied().collect()
    }

    #[test]
    fn method_path_and_host_are_changed_where_the_guest_changed_them() {
        let passed = list(&[
            (":method", "PUT"),
            (":path", "/b?c"),
            (":authority", "b.test"),
            ("x", "1"),
        ]);
        let mut origin = head("/a", Some("a.test"));
        edit_request(&mut origin, &passed, false).unwrap();
        assert_eq!(
            (origin.method, origin.uri.to_string()),
            (Method::PUT, "/b?c".to_owned())
        );
        assert_eq!(origin.headers["host"], "b.test");
        assert_eq!(origin.headers["x"], "1");
        let mut absolute = head("http://a.test/a", None);
        edit_request(&mut absolute, &passed, false).unwrap();
        assert_eq!(absolute.uri.to_string(), "http://b.test/b?c");
    }

    #[test]
    fn headers_of_the_connection_stay_and_a_length_only_where_the_body_does() {
        let passed = list(&[("connection", "close"), ("content-length", "9")]);
        let mut kept = head("/", None);
        edit_request(&mut kept, &passed, false).unwrap();
        assert_eq!(kept.headers["connection"], "te");
        assert_eq!(kept.headers["content-length"], "3");
        let mut changed = head("/", None);
        edit_request(&mut changed, &passed, true).unwrap();
        assert!(!changed.headers.contains_key("content-length"));
    }

    #[test]
    fn what_is_no_head_is_an_error() {
        for (name, value) in [(":method", "G T"), (":path", "a b"), (":authority", "a b")] {
            assert!(
                edit_request(&mut head("/", None), &list(&[(name, value)]), false).is_err(),
                "{name}"
            );
        }
        let mut reply = http::Response::new(()).into_parts().0;
        assert!(edit_response(&mut reply, &list(&[(":status", "x")]), false).is_err());
        edit_response(&mut reply, &list(&[(":status", "404")]), false).unwrap();
        assert_eq!(reply.status, 404);
    }
}
