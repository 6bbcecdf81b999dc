use layotto_core::Settings;

use super::*;
use crate::raw_http::{Answer, RawHttp};

async fn open(settings: &[(&str, &str)]) -> Result<Http> {
    let settings: Settings = settings.iter().copied().collect();
    let config = settings.parse::<HttpConfig>().unwrap().config;
    Http::open(config, Context::standalone("demo", ".")).await
}

async fn binding(service: &RawHttp) -> Http {
    open(&[("url", &format!("http://{}", service.address))])
        .await
        .unwrap()
}

fn request(operation: &str, metadata: &[(&str, &str)]) -> Request {
    Request {
        operation: operation.to_owned(),
        data: Bytes::from_static(b"body"),
        metadata: metadata
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    }
}

fn ok(_: &str) -> Answer {
    Answer::response("200 OK", "Content-Type: text/plain\r\n", "echo")
}

#[tokio::test]
async fn operations_are_methods_and_four_of_them_carry_data() {
    let mut service = RawHttp::start(|request| {
        let head = request.starts_with("HEAD");
        if head {
            Answer::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec())
        } else {
            ok(request)
        }
    })
    .await;
    let binding = binding(&service).await;
    for operation in binding.operations() {
        let response = binding
            .invoke(request(operation, &[("path", "/p?q=1")]))
            .await
            .unwrap();
        let method = if *operation == "create" {
            "POST".to_owned()
        } else {
            operation.to_uppercase()
        };
        let seen = service.request().await;
        assert!(
            seen.starts_with(&format!("{method} /p?q=1 HTTP/1.1\r\n")),
            "{seen}"
        );
        assert!(
            seen.contains("Accept: application/json; charset=utf-8\r\n"),
            "{seen}"
        );
        let carries = matches!(method.as_str(), "POST" | "PUT" | "PATCH");
        assert_eq!(seen.ends_with("\r\n\r\nbody"), carries, "{seen}");
        assert_eq!(
            seen.contains("Content-Type: application/json; charset=utf-8\r\n"),
            carries
        );
        assert_eq!(
            seen.contains("Accept-Encoding: gzip\r\n"),
            method != "HEAD",
            "{seen}"
        );
        assert_eq!(
            response.data.as_ref(),
            if method == "HEAD" { &b""[..] } else { b"echo" }
        );
        let length = if method == "HEAD" { "5" } else { "4" };
        assert_eq!(response.metadata["Content-Length"], length);
    }
}

#[tokio::test]
async fn capitalised_metadata_become_header_fields() {
    let lines = "X-Multi: a\r\nX-UPPER-Case: V\r\nte: x\r\nX-Multi: b\r\n";
    let mut service = RawHttp::start(move |_| Answer::response("200 Fine", lines, "")).await;
    let metadata = [
        ("path", "rel"),
        ("Content-Type", "text/x"),
        ("Accept", "a/b"),
        ("X-Foo", "bar"),
        ("URL", "u"),
        ("lower", "nope"),
        ("Host", "evil"),
        ("Content-Length", "99"),
    ];
    let response = binding(&service)
        .await
        .invoke(request("post", &metadata))
        .await
        .unwrap();
    let seen = service.request().await;
    for line in [
        "POST /rel ",
        "Content-Type: text/x\r\n",
        "Accept: a/b\r\n",
        "X-Foo: bar\r\n",
        "Url: u\r\n",
    ] {
        assert!(seen.contains(line), "{seen}");
    }
    assert!(
        !seen.to_lowercase().contains("nope") && !seen.contains("evil") && !seen.contains(": 99\r\n"),
        "{seen}"
    );
    let expected = [
        ("X-Multi", "a, b"),
        ("X-Upper-Case", "V"),
        ("Te", "x"),
        ("Content-Length", "0"),
        ("statusCode", "200"),
        ("status", "200 Fine"),
    ];
    assert_eq!(
        response.metadata,
        expected
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    );
}

#[tokio::test]
async fn a_status_that_is_no_success_is_an_error_with_the_start_of_the_body() {
    let service = RawHttp::start(|_| Answer::response("404 Not Found", "", &"z".repeat(5000))).await;
    let error = binding(&service)
        .await
        .invoke(request("get", &[]))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Internal, "received status code 404")
    );
    assert_eq!(
        error.details(),
        [("status", "404".to_owned()), ("body", "z".repeat(1024))]
    );
}

#[tokio::test]
async fn a_redirect_without_location_is_its_status() {
    let service = RawHttp::start(|_| Answer::response("302 Found", "", "")).await;
    let error = binding(&service)
        .await
        .invoke(request("get", &[]))
        .await
        .unwrap_err();
    assert_eq!(error.message(), "received status code 302");
}

#[tokio::test]
async fn a_redirect_within_the_host_is_followed_as_go_does() {
    for (status, operation, expected) in [
        ("302 Found", "post", "GET /b "),
        ("303 See Other", "head", "HEAD /b "),
        ("307 Temporary Redirect", "post", "POST /b "),
    ] {
        let mut service = RawHttp::start(move |request| match request {
            _ if request.contains(" /a ") => Answer::response(status, "Location: /b\r\n", ""),
            _ => Answer::response("200 OK", "", ""),
        })
        .await;
        binding(&service)
            .await
            .invoke(request(operation, &[("path", "a")]))
            .await
            .unwrap();
        service.request().await;
        let second = service.request().await;
        assert!(second.starts_with(expected), "{second}");
        assert_eq!(second.ends_with("body"), expected.starts_with("POST"), "{second}");
    }
}

#[tokio::test]
async fn redirects_end_after_ten() {
    let mut service = RawHttp::start(|_| Answer::response("302 Found", "Location: /\r\n", "")).await;
    let error = binding(&service)
        .await
        .invoke(request("get", &[]))
        .await
        .unwrap_err();
    assert!(error.message().ends_with("stopped after 10 redirects"), "{error}");
    for _ in 0..11 {
        service.request().await;
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_is_refused_before_it_is_connected_to() {
    let inner = RawHttp::start(ok).await;
    for host in ["localhost", "[::1]", "127.0.0.2"] {
        let location = format!("Location: http://{host}:{}/\r\n", inner.address.port());
        let service = RawHttp::start(move |_| Answer::response("302 Found", &location, "")).await;
        let error = binding(&service)
            .await
            .invoke(request("get", &[]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert_eq!(error.message(), format!("host {host} is not allowed"));
    }
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn a_redirect_to_an_allowed_host_leaves_credentials_behind() {
    let mut inner = RawHttp::start(ok).await;
    let location = format!("Location: http://localhost:{}/x\r\n", inner.address.port());
    let service = RawHttp::start(move |_| Answer::response("307 Temporary Redirect", &location, "")).await;
    let url = format!("http://{}", service.address);
    let binding = open(&[("url", &url), ("allow", "127.0.0.0/8")]).await.unwrap();
    let metadata = [("Authorization", "canary"), ("X-Kept", "kept")];
    binding.invoke(request("get", &metadata)).await.unwrap();
    let seen = inner.request().await;
    assert!(
        !seen.contains("canary") && seen.contains("X-Kept: kept"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_name_that_resolves_into_no_allowed_network_is_refused() {
    let service = RawHttp::start(ok).await;
    let url = format!("http://localhost:{}", service.address.port());
    let binding = open(&[("url", &url), ("allow", "10.0.0.0/8")]).await.unwrap();
    let error = binding.invoke(request("get", &[])).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::PermissionDenied, "host localhost is not allowed")
    );
    assert_eq!(service.connections(), 0);
    let binding = open(&[("url", &url)]).await.unwrap();
    binding.invoke(request("get", &[])).await.unwrap();
}

#[tokio::test]
async fn a_response_beyond_the_bound_is_refused() {
    let service = RawHttp::start(|_| Answer::response("200 OK", "", &"z".repeat(2000))).await;
    let url = format!("http://{}", service.address);
    let binding = open(&[("url", &url), ("maxResponseBytes", "1999")])
        .await
        .unwrap();
    let error = binding.invoke(request("get", &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let binding = open(&[("url", &url), ("maxResponseBytes", "2000")])
        .await
        .unwrap();
    assert_eq!(
        binding.invoke(request("get", &[])).await.unwrap().data.len(),
        2000
    );
}

#[tokio::test]
async fn failures_are_worded_as_go_does() {
    let service = RawHttp::start(|_| Answer::SendAndClose(Vec::new())).await;
    let error = binding(&service)
        .await
        .invoke(request("get", &[("path", "/close")]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.message(),
        format!("Get \"http://{}/close\": EOF", service.address)
    );

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let binding = open(&[("url", &format!("http://u:canary@{closed}"))])
        .await
        .unwrap();
    let error = binding.invoke(request("post", &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let expected = format!("Post \"http://u:***@{closed}/\": dial tcp {closed}: connect: connection refused");
    assert_eq!(error.message(), expected);
}

#[tokio::test]
async fn a_call_ends_at_the_timeout() {
    let service = RawHttp::start(|_| Answer::Wait).await;
    let url = format!("http://{}", service.address);
    let binding = open(&[("url", &url), ("timeout", "50ms")]).await.unwrap();
    let error = binding.invoke(request("get", &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().starts_with("Get \"http://"), "{error}");
}

#[tokio::test]
async fn a_url_that_cannot_work_is_refused_at_start() {
    for url in ["", "127.0.0.1:80", "ftp://h/", "http://", "data:x"] {
        assert!(open(&[("url", url)]).await.is_err(), "{url}");
    }
    for (key, value) in [("allow", "10.0.0.0/40"), ("timeout", "0s")] {
        assert!(open(&[("url", "http://h"), (key, value)]).await.is_err(), "{key}");
    }
}
