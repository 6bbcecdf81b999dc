use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use layotto_core::Settings;
use serde_json::json;

use super::*;
use crate::raw_http::{Answer, RawHttp};

async fn open(settings: Value) -> Result<Mosn> {
    let Value::Object(settings) = settings else {
        panic!("not an object")
    };
    let config = Settings::new(settings).parse::<MosnConfig>().unwrap().config;
    Mosn::open(config, Context::standalone("mosn", ".")).await
}

async fn invoker(service: &RawHttp, size: usize) -> Mosn {
    let channel = json!([{"protocol": "http", "listener": service.address.to_string(), "size": size}]);
    open(json!({"channel": channel})).await.unwrap()
}

fn request(method: &str) -> Request {
    Request {
        id: "svc".into(),
        method: method.into(),
        verb: String::new(),
        query: String::new(),
        content_type: String::new(),
        headers: Vec::new(),
        data: Bytes::new(),
        timeout: Duration::from_secs(10),
    }
}

fn fields(pairs: &[(&str, &str)]) -> layotto_core::rpc::Headers {
    pairs
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn ok(_: &str) -> Answer {
    Answer::response("200 OK", "Content-Type: text/plain\r\n", "ok")
}

#[tokio::test]
async fn the_service_gets_the_callers_fields_but_none_of_grpc() {
    let mut service = RawHttp::start(ok).await;
    let call = Request {
        verb: "POST".into(),
        query: "a=b".into(),
        content_type: "text/plain".into(),
        data: "body".into(),
        headers: fields(&[
            (":authority", "127.0.0.1:34904"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-accept-encoding", "gzip"),
            ("user-agent", "client/1"),
            ("connection", "close"),
            ("content-length", "99"),
            ("id", "forged"),
            ("x-custom", "v"),
            ("multi", "a"),
            ("rpc_trace_context.sofatraceid", "t"),
            ("multi", "b"),
        ]),
        ..request("hello")
    };
    let response = invoker(&service, 1).await.invoke(call).await.unwrap();
    assert_eq!(
        (response.content_type.as_str(), response.data.as_ref()),
        ("text/plain", b"ok".as_slice())
    );
    assert_eq!(
        service.request().await,
        "POST /hello?a=b HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\
         User-Agent: client/1\r\nX-Custom: v\r\nMulti: a,b\r\nRpc_trace_context.sofatraceid: t\r\nId: svc\r\n\r\nbody"
    );
}

#[tokio::test]
async fn without_a_verb_a_call_is_a_get() {
    let mut service = RawHttp::start(ok).await;
    let invoker = invoker(&service, 1).await;
    for (verb, method, headers, expected) in [
        ("", "", fields(&[]), "GET / HTTP/1.1"),
        ("NONE", "/hello", fields(&[]), "GET /hello HTTP/1.1"),
        (
            "",
            "/hello",
            fields(&[("verb", "PUT"), ("query_string", "c=d")]),
            "PUT /hello?c=d HTTP/1.1",
        ),
        (
            "DELETE",
            "a b?x=1#y",
            fields(&[("verb", "PUT")]),
            "DELETE /a%20b?x=1%23y HTTP/1.1",
        ),
    ] {
        let call = Request {
            verb: verb.into(),
            headers,
            ..request(method)
        };
        invoker.invoke(call).await.unwrap();
        let seen = service.request().await;
        assert_eq!(seen.lines().next().unwrap(), expected);
        assert!(
            !seen.contains("Content-Type") && seen.contains("\r\nId: svc\r\n"),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn a_query_string_is_escaped_and_joins_the_one_of_the_method() {
    let mut service = RawHttp::start(ok).await;
    let call = Request {
        query: "a=b&c=d e%20f".into(),
        ..request("/hello?x=1")
    };
    invoker(&service, 1).await.invoke(call).await.unwrap();
    assert!(
        service
            .request()
            .await
            .starts_with("GET /hello?x=1&a=b&c=d%20e%20f HTTP/1.1\r\n")
    );
}

#[tokio::test]
async fn a_head_request_does_not_wait_for_a_body() {
    let mut service = RawHttp::start(|request| {
        let body = if request.starts_with("HEAD") { "" } else { "body" };
        Answer::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{body}").into())
    })
    .await;
    let invoker = invoker(&service, 1).await;
    for verb in ["HEAD", "GET"] {
        let response = invoker
            .invoke(Request {
                verb: verb.into(),
                ..request("/x")
            })
            .await
            .unwrap();
        assert_eq!(response.data.len(), if verb == "HEAD" { 0 } else { 4 });
        assert!(service.request().await.starts_with(verb));
    }
    assert_eq!(service.connections(), 1);
}

#[tokio::test]
async fn response_fields_come_back_each_value_and_none_of_the_connection() {
    let lines = "X-Multi: a\r\nX-UPPER-Case: V\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nTe: x\r\n\
                 User-Agent: up\r\nGrpc-Status: 5\r\nX-Multi: b\r\nSet-Cookie: c=d\r\n";
    let service = RawHttp::start(move |_| Answer::response("200 OK", lines, "")).await;
    let mut response = invoker(&service, 1).await.invoke(request("/hdrs")).await.unwrap();
    response.headers.sort();
    let expected = [
        ("set-cookie", "c=d"),
        ("x-multi", "a"),
        ("x-multi", "b"),
        ("x-upper-case", "V"),
    ];
    assert_eq!(response.headers, fields(&expected));
}

#[tokio::test]
async fn every_2xx_succeeds_and_every_other_status_does_not() {
    let service = RawHttp::start(|request| {
        let path = request.split(' ').nth(1).unwrap();
        let status = path.trim_start_matches('/').to_owned();
        if status == "204" {
            return Answer::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
        }
        Answer::response(&format!("{status} Some"), "", &format!("st {status}"))
    })
    .await;
    let invoker = invoker(&service, 1).await;
    for status in ["200", "201", "204", "299"] {
        invoker.invoke(request(status)).await.unwrap();
    }
    for status in ["302", "400", "500"] {
        let error = invoker.invoke(request(status)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(
            error.message(),
            format!("http response code {status}, body: st {status}")
        );
    }
}

#[tokio::test]
async fn a_failed_dial_is_worded_as_upstream_does() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let invoker = open(json!({"channel": [{"protocol": "http", "listener": closed.to_string()}]}))
        .await
        .unwrap();
    let error = invoker.invoke(request("/x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.message(),
        format!("dial tcp {closed}: connect: connection refused")
    );
}

#[tokio::test]
async fn a_service_that_hangs_up_is_unavailable() {
    let service = RawHttp::start(|_| Answer::SendAndClose(Vec::new())).await;
    let error = invoker(&service, 1)
        .await
        .invoke(request("/close"))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "EOF"));
}

#[tokio::test]
async fn a_call_and_the_wait_for_a_connection_end_at_the_timeout() {
    let mut service = RawHttp::start(|_| Answer::Wait).await;
    let invoker = Arc::new(invoker(&service, 1).await);
    let first = tokio::spawn({
        let (invoker, call) = (
            invoker.clone(),
            Request {
                timeout: Duration::from_millis(200),
                ..request("/slow")
            },
        );
        async move { invoker.invoke(call).await }
    });
    service.request().await;
    let second = Request {
        timeout: Duration::from_millis(20),
        ..request("/slow")
    };
    let error = invoker.invoke(second).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Timeout, "connection pool timeout")
    );
    let error = first.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Timeout, "timeout"));
}

#[tokio::test]
async fn a_cancelled_call_gives_its_place_back() {
    let mut service = RawHttp::start(|request| {
        if request.starts_with("GET /slow") {
            Answer::Wait
        } else {
            ok(request)
        }
    })
    .await;
    let invoker = Arc::new(invoker(&service, 1).await);
    let call = tokio::spawn({
        let invoker = invoker.clone();
        async move { invoker.invoke(request("/slow")).await }
    });
    service.request().await;
    call.abort();
    invoker.invoke(request("/x")).await.unwrap();
}

#[tokio::test]
async fn connections_are_bounded_and_used_again() {
    let service = RawHttp::start(ok).await;
    let invoker = Arc::new(invoker(&service, 2).await);
    let calls = (0..20).map(|_| {
        let invoker = invoker.clone();
        tokio::spawn(async move { invoker.invoke(request("/x")).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert!(service.connections() <= 2, "{}", service.connections());
}

#[tokio::test]
async fn a_connection_that_the_service_closed_is_replaced() {
    let answer = |_: &str| Answer::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let service = RawHttp::start(answer).await;
    let invoker = invoker(&service, 1).await;
    for _ in 0..20 {
        invoker.invoke(request("/x")).await.unwrap();
    }
    assert_eq!(service.connections(), 20);
}

#[tokio::test]
async fn a_call_lost_on_a_used_connection_is_repeated_only_when_that_is_safe() {
    for (verb, outcome) in [("GET", None), ("POST", Some("EOF"))] {
        let count = AtomicUsize::new(0);
        let service = RawHttp::start(move |request| match count.fetch_add(1, Ordering::SeqCst) {
            1 => Answer::SendAndClose(Vec::new()),
            _ => ok(request),
        })
        .await;
        let invoker = invoker(&service, 1).await;
        let call = Request {
            verb: verb.into(),
            ..request("/x")
        };
        invoker.invoke(call.clone()).await.unwrap();
        let second = invoker.invoke(call).await;
        assert_eq!(
            second.err().map(|error| error.message().to_owned()).as_deref(),
            outcome
        );
    }
}

#[tokio::test]
async fn a_time_without_end_is_no_error() {
    let service = RawHttp::start(ok).await;
    let call = Request {
        timeout: Duration::MAX,
        ..request("/x")
    };
    invoker(&service, 1).await.invoke(call).await.unwrap();
}

#[tokio::test]
async fn closing_ends_the_connections() {
    let service = RawHttp::start(ok).await;
    let cx = Context::standalone("mosn", ".");
    let channel = ChannelConfig {
        protocol: "http".into(),
        listener: service.address.to_string(),
        ..Default::default()
    };
    let config = MosnConfig {
        channel: vec![channel],
        ..Default::default()
    };
    let invoker = Mosn::open(config, cx.clone()).await.unwrap();
    invoker.invoke(request("/x")).await.unwrap();
    invoker.close().await.unwrap();
    cx.tasks.close();
    cx.tasks.wait().await;
    assert_eq!(
        invoker.invoke(request("/x")).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test]
async fn dubbo_json_rpc_tells_service_and_method_in_fields() {
    let mut service = RawHttp::start(ok).await;
    let settings = json!({
        "before_invoke": [{"name": "unknown"}, {"name": "dubbo_json_rpc"}],
        "channel": [{"protocol": "http", "listener": service.address.to_string(), "size": 1}],
    });
    let call = Request {
        id: "org.x.Svc".into(),
        verb: "POST".into(),
        content_type: "text/plain".into(),
        data: r#"{"jsonrpc":"2.0"}"#.into(),
        headers: fields(&[("accept", "x")]),
        ..request("sayHello")
    };
    open(settings).await.unwrap().invoke(call).await.unwrap();
    assert_eq!(
        service.request().await,
        "POST /org.x.Svc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\
         X-Services: org.x.Svc\r\nX-Method: sayHello\r\nAccept: application/json\r\nId: org.x.Svc\r\n\r\n\
         {\"jsonrpc\":\"2.0\"}"
    );
}

#[tokio::test]
async fn what_cannot_be_a_message_is_refused() {
    let service = RawHttp::start(ok).await;
    let invoker = invoker(&service, 1).await;
    for (call, kind) in [
        (
            Request {
                verb: "GE T".into(),
                ..request("/x")
            },
            ErrorKind::InvalidArgument,
        ),
        (
            Request {
                verb: "CONNECT".into(),
                ..request("/x")
            },
            ErrorKind::Unsupported,
        ),
        (
            Request {
                id: "a\r\nb: c".into(),
                ..request("/x")
            },
            ErrorKind::InvalidArgument,
        ),
        (
            Request {
                content_type: "a\nb".into(),
                ..request("/x")
            },
            ErrorKind::InvalidArgument,
        ),
        (
            Request {
                headers: fields(&[("a b", "c")]),
                ..request("/x")
            },
            ErrorKind::InvalidArgument,
        ),
    ] {
        assert_eq!(invoker.invoke(call).await.unwrap_err().kind(), kind);
    }
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn channels_that_cannot_work_are_refused_at_start() {
    for (channel, expected, kind) in [
        (json!([]), "missing channel config", ErrorKind::InvalidArgument),
        (
            json!([{"protocol": "grpc", "listener": "h:1"}]),
            "channel grpc not found",
            ErrorKind::InvalidArgument,
        ),
        (
            json!([{"protocol": "bolt", "listener": "h:1"}]),
            "not supported yet",
            ErrorKind::Unsupported,
        ),
        (
            json!([{"protocol": "http"}]),
            "channel[0].listener is empty",
            ErrorKind::InvalidArgument,
        ),
    ] {
        let error = open(json!({"channel": channel})).await.unwrap_err();
        assert!(error.message().contains(expected), "{error}");
        assert_eq!(error.kind(), kind);
    }
    let settings = json!({"target_allow": ["nowhere"], "channel": [{"protocol": "http", "listener": "h:1"}]});
    assert!(open(settings).await.is_err());
}

/// Listeners of which one, `egress`, answers with what it was asked.
struct Echo;

#[async_trait]
impl layotto_core::rpc::Listeners for Echo {
    async fn call(
        &self,
        name: &str,
        request: http::Request<Bytes>,
        _: usize,
    ) -> Result<http::Response<Bytes>> {
        match name {
            "egress" => {
                let asked = format!(
                    "{} {} id={:?}",
                    request.method(),
                    request.uri(),
                    request.headers()["id"]
                );
                let body = [asked.as_bytes(), b" ", request.body()].concat();
                Ok(http::Response::new(body.into()))
            }
            "silent" => std::future::pending().await,
            other => Err(layotto_core::rpc::no_listener(other)),
        }
    }
}

async fn through(listener: &str) -> Mosn {
    let channel = json!([{"protocol": "http", "listener": listener, "size": 1}]);
    let config = Settings::from_iter([("channel", channel)]);
    let config = config.parse::<MosnConfig>().unwrap().config;
    let mut cx = Context::standalone("mosn", ".");
    cx.inside = layotto_core::rpc::Inside::new(Arc::new(Echo));
    Mosn::open(config, cx).await.unwrap()
}

#[tokio::test]
async fn a_name_is_a_listener_of_the_process() {
    let call = Request {
        query: "a=b".into(),
        data: "body".into(),
        ..request("hello")
    };
    let response = through("egress").await.invoke(call).await.unwrap();
    assert_eq!(response.data, "GET /hello?a=b id=\"svc\" body");
}

#[tokio::test]
async fn a_listener_that_there_is_not_is_unavailable() {
    let error = through("elsewhere")
        .await
        .invoke(request("hello"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("\"elsewhere\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn calls_through_a_listener_keep_their_time_and_their_places() {
    let invoker = through("silent").await;
    let (first, second) = tokio::join!(invoker.invoke(request("a")), invoker.invoke(request("b")));
    assert_eq!(first.unwrap_err().message(), "timeout");
    let second = second.unwrap_err();
    assert_eq!(
        (second.kind(), second.message()),
        (ErrorKind::Timeout, "connection pool timeout")
    );
}
