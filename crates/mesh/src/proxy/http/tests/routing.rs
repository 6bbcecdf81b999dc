//! What routes and the proxy's settings say, as far as hosts and clients see it.

use super::*;
use crate::{
    proxy::config::{Http1, Protocols, ProxyConfig},
    upstream::fixture::{clusters, host},
};

/// Answers with the name it got.
async fn named(name: &'static str) -> Server {
    Server::start(Protocol::Http1, move |_| async move {
        Response::new(Body::from(name))
    })
    .await
}

fn config(name: &str, servers: &[&Server]) -> ClusterConfig {
    let hosts = servers.iter().map(|server| host(server.address.to_string()));
    ClusterConfig {
        name: name.into(),
        hosts: hosts.collect(),
        ..ClusterConfig::default()
    }
}

async fn handle(request: Request, router: Value, clusters: &Clusters) -> (u16, String) {
    handle_by(&http(), request, router, clusters).await
}

async fn handle_by(proxy: &Http, request: Request, router: Value, clusters: &Clusters) -> (u16, String) {
    let (request, _) = with_exchange(request);
    let reply = soon(proxy.handle(request, Some(&only(router)), clusters)).await;
    (reply.status().as_u16(), soon(text(reply.into_body())).await)
}

fn with(name: &'static str, value: &str) -> Request {
    let mut request = get();
    request
        .headers_mut()
        .insert(name, HeaderValue::from_str(value).unwrap());
    request
}

fn proxy(settings: Settings) -> Http {
    Http::new(settings, drain::channel().1)
}

#[tokio::test]
async fn headers_and_path_are_edited_once_whatever_the_number_of_tries() {
    let bad = Server::start(Protocol::Http1, |_| status(503)).await;
    let good = Server::start(Protocol::Http1, async |request: Request| {
        let headers = request.headers();
        let seen = format!(
            "{:?} {} {:?}",
            headers["x-n"],
            request.uri(),
            headers["x-mosn-original-path"]
        );
        let reply = http::Response::builder().header("x-r", "0");
        reply.body(Body::from(seen)).unwrap()
    })
    .await;
    let cluster = cluster(&[bad.address, good.address], ClusterConfig::default());
    let add = |key: &str| json!([{ "header": { "key": key, "value": "1" } }]);
    let table = table(json!([{ "match": { "prefix": "/a" }, "route": {
        "cluster_name": "test",
        "prefix_rewrite": "/b/a",
        "retry_policy": { "retry_on": true, "num_retries": 1 },
        "request_headers_to_add": add("x-n"),
        "response_headers_to_add": add("x-r"),
    } }]));
    let request = http::Request::get("/a/x?q")
        .header("host", "test")
        .header("x-n", "0");
    let (request, exchange) = with_exchange(request.body(Body::empty()).unwrap());
    let (head, body) = request.into_parts();
    let route = table.find(&head, &exchange).unwrap();
    let request = Request::from_parts(head, body);
    let reply = soon(http().forward(request, route, &cluster)).await;
    assert_eq!(exchange.facts().attempts, 2);
    assert_eq!(reply.headers()["x-r"], "0,1");
    assert_eq!(text(reply.into_body()).await, "\"0,1\" /b/a/x?q \"/a/x\"");
}

#[tokio::test]
async fn weights_share_requests_out_and_retries_stay_in_their_cluster() {
    let (a, b) = (named("a").await, named("b").await);
    let clusters = clusters(vec![config("a", &[&a]), config("b", &[&b])]);
    let shares = |a: u32, b: u32| {
        json!({ "route": { "weighted_clusters": [
            { "cluster": { "name": "a", "weight": a } },
            { "cluster": { "name": "b", "weight": b } },
        ] } })
    };
    for _ in 0..20 {
        assert_eq!(handle(get(), shares(0, 1), &clusters).await, (200, "b".into()));
    }
    assert_eq!((a.seen.requests(), b.seen.requests()), (0, 20));
    for _ in 0..60 {
        handle(get(), shares(1, 1), &clusters).await;
    }
    assert!(a.seen.requests() > 0 && b.seen.requests() > 20);

    let bad = Server::start(Protocol::Http1, |_| status(503)).await;
    let clusters = self::clusters(vec![config("a", &[&bad]), config("b", &[&b])]);
    let mut router = shares(1, 1);
    router["route"]["retry_policy"] = json!({ "retry_on": true, "num_retries": 1 });
    let (before, mut failed) = (b.seen.requests(), 0);
    for _ in 0..60 {
        failed += usize::from(handle(get(), router.clone(), &clusters).await.0 == 503);
    }
    assert!(failed > 0, "no request went to the bad cluster");
    assert_eq!(bad.seen.requests(), 2 * failed);
    assert_eq!(b.seen.requests() - before, 60 - failed);
}

#[tokio::test]
async fn a_variable_names_the_cluster_and_without_a_value_there_is_none() {
    let (a, b) = (named("a").await, named("b").await);
    let clusters = clusters(vec![config("a", &[&a]), config("b", &[&b])]);
    let router = json!({ "route": { "cluster_variable": "request_header_x-to" } });
    for name in ["a", "b"] {
        assert_eq!(
            handle(with("x-to", name), router.clone(), &clusters).await,
            (200, name.into())
        );
    }
    for request in [get(), with("x-to", "c")] {
        let (status, body) = handle(request, router.clone(), &clusters).await;
        assert_eq!(
            (status, body.contains(r#""code":"NOT_FOUND""#)),
            (404, true),
            "{body}"
        );
    }
}

#[tokio::test]
async fn what_is_hashed_keeps_to_one_host_and_is_spread_over_all() {
    let servers = [named("a").await, named("b").await, named("c").await];
    let all: Vec<_> = servers.iter().collect();
    for lb_type in ["LB_MAGLEV", "LB_RING_HASH"] {
        let clusters = clusters(vec![ClusterConfig {
            lb_type: lb_type.into(),
            ..config("test", &all)
        }]);
        for (policy, header, prefix) in [
            (json!({ "header": { "key": "x-user" } }), "x-user", ""),
            (
                json!({ "cookie": { "name": "user" } }),
                "cookie",
                "other=1; user=",
            ),
        ] {
            let router = json!({ "route": { "cluster_name": "test", "hash_policy": [policy] } });
            let mut seen = std::collections::HashSet::new();
            for user in 0..40 {
                let ask = || {
                    handle(
                        with(header, &format!("{prefix}{user}")),
                        router.clone(),
                        &clusters,
                    )
                };
                let (_, first) = ask().await;
                assert_eq!(ask().await.1, first, "{lb_type} {header}");
                seen.insert(first);
            }
            assert_eq!(seen.len(), 3, "{lb_type} {header}");
        }
    }
}

#[tokio::test]
async fn the_route_says_what_hosts_speak_then_the_filter_then_the_client() {
    for (said, filters, clients, spoken) in [
        (
            Some(Protocol::Http1),
            Some(Protocol::Http2),
            Version::HTTP_2,
            Version::HTTP_11,
        ),
        (
            Some(Protocol::Http2),
            Some(Protocol::Http1),
            Version::HTTP_11,
            Version::HTTP_2,
        ),
        (None, Some(Protocol::Http1), Version::HTTP_2, Version::HTTP_11),
        (None, Some(Protocol::Http2), Version::HTTP_11, Version::HTTP_2),
        (None, None, Version::HTTP_2, Version::HTTP_2),
        (None, None, Version::HTTP_11, Version::HTTP_11),
    ] {
        let speaks = match spoken {
            Version::HTTP_2 => Protocol::Http2,
            _ => Protocol::Http1,
        };
        // A server that speaks the other one would not answer.
        let server = Server::start(speaks, echo).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let config = ProxyConfig {
            upstream_protocol: filters.map_or("Auto", name).into(),
            ..ProxyConfig::default()
        };
        let route = said.map_or_else(plain, speaking);
        let mut request = get();
        *request.version_mut() = clients;
        let proxy = proxy(Settings::of(&config).unwrap());
        let reply = soon(proxy.forward(request, &route, &cluster)).await;
        assert_eq!(reply.status(), 200, "{said:?} {filters:?} {clients:?}");
    }
    let wrong = ProxyConfig {
        upstream_protocol: "bolt".into(),
        ..ProxyConfig::default()
    };
    assert_eq!(Settings::of(&wrong).unwrap_err().path, "upstream_protocol");
}

fn at_most(bytes: u64) -> Http {
    let config = ProxyConfig {
        extend_config: Protocols {
            http1: Http1 {
                max_request_body_size: bytes,
                ..Http1::default()
            },
            ..Protocols::default()
        },
        ..ProxyConfig::default()
    };
    proxy(Settings::of(&config).unwrap())
}

#[tokio::test]
async fn a_body_over_http1_may_be_so_long_and_no_longer() {
    let streamed = |text: &'static str| {
        let (first, rest) = text.split_at_checked(3).unwrap();
        chunked([Frame::data(first.into()), Frame::data(rest.into())])
    };
    for up in BOTH {
        let read = |request: Request| async {
            match request.into_body().collect().await {
                Ok(body) => Response::new(Body::from(body.to_bytes())),
                Err(_) => Response::new(Body::empty()),
            }
        };
        let server = Server::start(up, read).await;
        let cluster = cluster(&[server.address], ClusterConfig::default());
        let ask = async |proxy: &Http, version: Version, body: Body| {
            let mut request = http::Request::post("/")
                .header("host", "test")
                .body(body)
                .unwrap();
            *request.version_mut() = version;
            let (request, exchange) = with_exchange(request);
            let reply = soon(proxy.forward(request, &speaking(up), &cluster)).await;
            (
                reply.status().as_u16(),
                flags(&exchange),
                text(reply.into_body()).await,
            )
        };
        let (limited, free) = (at_most(5), at_most(0));
        for body in [Body::from("12345"), streamed("12345")] {
            let passed = ask(&limited, Version::HTTP_11, body).await;
            assert_eq!(passed, (200, Flags::default(), "12345".into()), "{up:?}");
        }
        for body in [Body::from("123456"), streamed("123456")] {
            let (status, flags, text) = ask(&limited, Version::HTTP_11, body).await;
            assert_eq!((status, flags), (413, Flags::TOO_LARGE), "{up:?}");
            assert!(text.contains("RESOURCE_EXHAUSTED"), "{text}");
        }
        for (proxy, version) in [(&free, Version::HTTP_11), (&limited, Version::HTTP_2)] {
            let (status, ..) = ask(proxy, version, streamed("123456")).await;
            assert_eq!(status, 200, "{up:?} {version:?}");
        }
    }
    // One that says that it is too long is refused before anybody is asked.
    let cluster = cluster(&[nobody().await], ClusterConfig::default());
    let request = http::Request::post("/").header("host", "test");
    let request = request.body("123456".into()).unwrap();
    let reply = soon(at_most(5).forward(request, &plain(), &cluster)).await;
    assert_eq!(reply.status(), 413);
}

#[tokio::test]
async fn grpc_is_not_sent_over_http1_and_grpc_web_is() {
    let server = Server::start(Protocol::Http1, echo).await;
    let cluster = cluster(&[server.address], ClusterConfig::default());
    let (reply, _) = ask(grpc(), &speaking(Protocol::Http1), &cluster).await;
    assert_eq!(reply.headers()["grpc-status"], "12");
    assert_eq!(server.seen.accepted(), 0);
    let mut web = grpc();
    web.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("application/grpc-web+proto"),
    );
    let (reply, _) = ask(web, &speaking(Protocol::Http1), &cluster).await;
    assert!(!reply.headers().contains_key("grpc-status"));
    assert_eq!(text(reply.into_body()).await, "message");
}

#[tokio::test]
async fn what_is_not_there_is_not_found_over_http_and_unimplemented_over_grpc() {
    let none = Clusters::default();
    let refusal = async |request: Request, route: Option<&Arc<Route>>| {
        let (head, body) = http().handle(request, route, &none).await.into_parts();
        (head, text(body).await)
    };
    let route = plain();
    for (route, says) in [(None, "no route"), (Some(&route), "no such cluster")] {
        let (head, body) = refusal(get(), route).await;
        assert_eq!(head.status, 404);
        assert_eq!(body, json!({ "code": "NOT_FOUND", "message": says }).to_string());
        let (head, _) = refusal(grpc(), route).await;
        assert_eq!(head.headers["grpc-status"], "12");
        assert_eq!(head.headers["grpc-message"], says);
    }
}
