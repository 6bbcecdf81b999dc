//! Which requests a route takes, and what becomes of them.

use serde_json::{Value, json};

use super::{
    clients::{Ask, Reply, get},
    peer::Peer,
    plan::{Plan, Running, merged, to},
};
use crate::sidecar::free_port;

/// A proxy to two services, `a` and `b`, each a cluster.
async fn world(hosts: Value) -> (Running, u16, [Peer; 2]) {
    let peers = [Peer::start("a").await, Peer::start("b").await];
    let port = free_port();
    let plan = Plan::default()
        .listener(super::plan::proxy("web", port, "routes"))
        .hosts("routes", hosts)
        .cluster("a", [&peers[0]], json!({}))
        .cluster("b", [&peers[1]], json!({}));
    (plan.run(), port, peers)
}

fn all(routes: Value) -> Value {
    json!([{"name": "all", "domains": ["*"], "routers": routes}])
}

/// The route to `a` of what `matching` takes; all else goes to `b`.
async fn told_apart(matching: Value, taken: &[Ask], left: &[Ask]) {
    let routes = json!([{"match": matching, "route": {"cluster_name": "a"}}, to("/", "b", json!({}))]);
    let (_running, port, _peers) = world(all(routes)).await;
    for (asks, peer) in [(taken, "a"), (left, "b")] {
        for ask in asks {
            for reply in [ask.http1(port).await, ask.http2(port).await] {
                assert_eq!(reply.peer(), peer, "{matching}: {ask:?} {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn prefixes_tell_requests_apart() {
    let taken = ["/p", "/p/q", "/p?x=1", "/%70/q", "/x/../p"].map(Ask::get);
    told_apart(
        json!({"prefix": "/p"}),
        &taken,
        &["/P", "/q/p", "/"].map(Ask::get),
    )
    .await;
}

#[tokio::test]
async fn whole_paths_tell_requests_apart() {
    let taken = ["/one/two", "/One/TWO", "/one/two?x=1"].map(Ask::get);
    let left = ["/one/two/three", "/one"].map(Ask::get);
    told_apart(json!({"path": "/one/two"}), &taken, &left).await;
}

#[tokio::test]
async fn regular_expressions_tell_requests_apart() {
    let taken = ["/user/17", "/x/user/1/y"].map(Ask::get);
    told_apart(
        json!({"regex": "/user/[0-9]+"}),
        &taken,
        &["/user/x"].map(Ask::get),
    )
    .await;
}

#[tokio::test]
async fn headers_and_methods_tell_requests_apart() {
    let matching = json!({"prefix": "/", "headers": [
        {"name": "X-Version", "value": "2"},
        {"name": "x-user", "value": "^t.*", "regex": true},
        {"name": "method", "value": "PUT"},
    ]});
    let fits = Ask::new("PUT", "/")
        .header("x-version", "2")
        .header("x-user", "tom");
    let left = [
        Ask::get("/").header("x-version", "2").header("x-user", "tom"),
        Ask::new("PUT", "/")
            .header("x-version", "2")
            .header("x-user", "kim"),
        Ask::new("PUT", "/")
            .header("x-version", "3")
            .header("x-user", "tom"),
        Ask::new("PUT", "/"),
    ];
    told_apart(matching, &[fits], &left).await;
}

#[tokio::test]
async fn the_header_service_alone_tells_rpc_apart() {
    let exact = json!({"headers": [{"name": "service", "value": "s1"}]});
    let with = |service: &str| Ask::get("/").header("service", service);
    told_apart(exact, &[with("s1")], &[with("s2"), Ask::get("/")]).await;
    let any = json!({"headers": [{"name": "service", "value": ".*"}]});
    told_apart(any, &[with("s1"), with("s2")], &[Ask::get("/")]).await;
}

#[tokio::test]
async fn variables_tell_requests_apart() {
    let matching = json!({"variables": [
        {"name": "x-mosn-method", "value": "POST", "model": "and"},
        {"name": "x-mosn-path", "regex": "^/v[0-9]$", "model": "or"},
        {"name": "request_header_x-user", "value": "root"},
    ]});
    let taken = [Ask::new("POST", "/v1"), Ask::get("/").header("x-user", "root")];
    told_apart(matching, &taken, &[Ask::get("/v1"), Ask::new("POST", "/w")]).await;
}

#[tokio::test]
async fn a_route_without_conditions_takes_everything() {
    told_apart(json!({}), &["/", "/x?y"].map(Ask::get), &[]).await;
}

#[tokio::test]
async fn requests_are_shared_out_by_weight() {
    let weighted = json!([
        {"cluster": {"name": "a", "weight": 80}}, {"cluster": {"name": "b", "weight": 20}}]);
    let routes = json!([{"match": {"prefix": "/"}, "route": {"weighted_clusters": weighted}}]);
    let (_running, port, peers) = world(all(routes)).await;
    let connection = super::clients::Http2::connect(port).await;
    for _ in 0..500 {
        assert_eq!(connection.send(&Ask::get("/")).await.unwrap().status, 200);
    }
    let [a, b] = peers.map(|peer| peer.requests());
    assert_eq!(a + b, 500);
    // Eight standard deviations on each side.
    assert!((328..=472).contains(&a), "{a} of 500");
}

#[tokio::test]
async fn a_variable_names_the_cluster() {
    let routes =
        json!([{"match": {"prefix": "/"}, "route": {"cluster_variable": "request_header_x-cluster"}}]);
    let (_running, port, _peers) = world(all(routes)).await;
    for name in ["a", "b"] {
        let reply = Ask::get("/").header("x-cluster", name).http1(port).await;
        assert_eq!(reply.peer(), name);
    }
    let reply = Ask::get("/").header("x-cluster", "c").http1(port).await;
    assert_eq!(reply.status, 404);
    assert_eq!(get(port, "/").await.status, 404);
}

#[tokio::test]
async fn paths_and_hosts_are_rewritten() {
    let pattern = json!({"pattern": {"regex": "^/user/([^/]+)/(.*)$"}, "substitution": "/$2/of/$1"});
    let routes = json!([
        to("/old", "a", json!({"prefix_rewrite": "/new"})),
        to("/user", "a", json!({"regex_rewrite": pattern})),
        to("/host", "a", json!({"host_rewrite": "other.test"})),
        to("/header", "a", json!({"auto_host_rewrite_header": "x-host"})),
        to("/", "a", json!({})),
    ]);
    let (_running, port, _peers) = world(all(routes)).await;
    for (path, seen, original) in [
        ("/old/x?q=1", "/new/x?q=1", Some("/old/x")),
        ("/user/tom/mail?q=1", "/mail/of/tom?q=1", Some("/user/tom/mail")),
        ("/plain", "/plain", None),
    ] {
        let echo = get(port, path).await.json();
        assert_eq!(echo["path"], seen);
        let was = echo["headers"]["x-mosn-original-path"].as_str();
        assert_eq!(was, original, "{path}");
    }
    for (path, host) in [
        ("/host", "other.test"),
        ("/header", "wanted.test"),
        ("/plain", "asked.test"),
    ] {
        let ask = Ask::get(path).host("asked.test").header("x-host", "wanted.test");
        for reply in [ask.http1(port).await, ask.http2(port).await] {
            assert_eq!(reply.json()["host"], host, "{path}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn clients_are_told_to_look_elsewhere() {
    let redirect = |prefix: &str, redirect: Value| json!({"match": {"prefix": prefix}, "redirect": redirect});
    let routes = json!([
        redirect("/path", json!({"path_redirect": "/new"})),
        redirect(
            "/host",
            json!({"response_code": 307, "host_redirect": "new.test"})
        ),
        redirect(
            "/scheme",
            json!({"response_code": 302, "scheme_redirect": "https"})
        ),
    ]);
    let (_running, port, peers) = world(all(routes)).await;
    for (path, host, status, location) in [
        ("/path?q=1", "h.test", 301, "/new?q=1"),
        ("/host/x", "h.test", 307, "//new.test/host/x"),
        ("/scheme/x", "h.test:80", 302, "https://h.test/scheme/x"),
    ] {
        let reply = Ask::get(path).host(host).http1(port).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("location")),
            (status, location),
            "{path}"
        );
    }
    assert_eq!(peers[0].requests(), 0);
}

#[tokio::test]
async fn a_route_can_answer_itself_and_what_has_no_route_gets_404() {
    let routes = json!([{"match": {"prefix": "/direct"}, "direct_response": {"status": 418, "body": "tea"}}]);
    let (_running, port, _peers) = world(all(routes)).await;
    let reply = get(port, "/direct").await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (418, "tea"));
    let reply = Ask::get("/none").header("cookie", "secret=1").http1(port).await;
    assert_eq!(reply.status, 404);
    assert!(
        !format!("{reply:?}").contains("secret"),
        "a refusal repeats nothing"
    );
}

#[tokio::test]
async fn headers_are_edited_by_route_virtual_host_and_router() {
    let peer = Peer::start("a").await;
    let port = free_port();
    let edits = |level: &str| {
        let add = |value: &str, append: bool| json!({"header": {"key": "X-Level", "value": value}, "append": append});
        json!({
            "request_headers_to_add": [add(level, true), {"header": {"key": format!("x-{level}"), "value": "%x-mosn-method%"}}],
            "request_headers_to_remove": [format!("x-drop-{level}")],
            "response_headers_to_add": [add(level, true)],
        })
    };
    let mut route = edits("route");
    route["response_headers_to_remove"] = json!(["x-removed"]);
    let hosts = json!([merged(
        json!({"name": "all", "domains": ["*"], "routers": [to("/", "a", route)]}),
        &edits("host")
    )]);
    let mut plan = Plan::default()
        .listener(super::plan::proxy("web", port, "routes"))
        .hosts("routes", hosts)
        .cluster("a", [&peer], json!({}));
    plan.routers[0] = merged(plan.routers[0].clone(), &edits("router"));
    let _running = plan.run();
    let ask = Ask::new("POST", "/")
        .header("x-level", "client")
        .header("x-drop-route", "1")
        .header("x-drop-host", "1")
        .header("x-drop-router", "1");
    for reply in [ask.http1(port).await, ask.http2(port).await] {
        let echo = reply.json();
        let headers = &echo["headers"];
        assert_eq!(headers["x-level"], "client,route,host,router", "{echo}");
        for level in ["route", "host", "router"] {
            assert_eq!(headers[format!("x-{level}")], "POST", "{echo}");
            assert!(headers.get(format!("x-drop-{level}")).is_none(), "{echo}");
        }
        let values: Vec<_> = reply.headers.get_all("x-level").iter().collect();
        let joined = values
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(joined, "route,host,router");
        assert_eq!(reply.header("x-removed"), "");
    }
}

#[tokio::test]
async fn the_host_that_fits_best_routes() {
    let answers =
        |name: &str| json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": name}}]);
    let hosts: Vec<_> = [
        ("exact", "a.test"),
        ("exact port", "a.test:8080"),
        ("any port", "b.test:*"),
        ("wildcard", "*.a.test"),
        ("longer wildcard", "*.x.a.test"),
        ("default", "*"),
    ]
    .iter()
    .map(|(name, domain)| json!({"name": name, "domains": [domain], "routers": answers(name)}))
    .collect();
    let (_running, port, _peers) = world(json!(hosts)).await;
    for (host, name) in [
        ("a.test", "exact"),
        ("A.Test", "exact"),
        ("a.test:8080", "exact port"),
        ("b.test", "any port"),
        ("b.test:81", "any port"),
        ("w.a.test", "wildcard"),
        ("w.x.a.test", "longer wildcard"),
        ("c.test", "default"),
    ] {
        let ask = Ask::get("/").host(host);
        for reply in [ask.http1(port).await, ask.http2(port).await] {
            assert_eq!(reply.text(), name, "{host}");
        }
    }
}

#[tokio::test]
async fn bodies_pass_whole_between_all_versions() {
    let peer = Peer::start("a").await;
    let port = free_port();
    let plan = Plan::web(
        port,
        json!([
            to("/1", "a", json!({"upstream_protocol": "Http1"})),
            to("/2", "a", json!({"upstream_protocol": "Http2"})),
            to("/", "a", json!({})),
        ]),
    )
    .cluster("a", [&peer], json!({}));
    let _running = plan.run();
    let body = "0123456789".repeat(30_000);
    for (path, over1, over2) in [
        ("/1", "HTTP/1.1", "HTTP/1.1"),
        ("/2", "HTTP/2.0", "HTTP/2.0"),
        ("/as", "HTTP/1.1", "HTTP/2.0"),
    ] {
        let ask = Ask::new("POST", path).body(body.clone());
        let told = |reply: Reply| {
            let echo = reply.json();
            assert_eq!(echo["body"].as_str().unwrap().len(), body.len());
            echo["version"].as_str().unwrap().to_owned()
        };
        assert_eq!(told(ask.http1(port).await), over1, "{path}");
        assert_eq!(told(ask.http2(port).await), over2, "{path}");
    }
}

#[tokio::test]
async fn what_the_listener_says_of_hosts_protocol_holds_where_the_route_is_silent() {
    let peer = Peer::start("a").await;
    let port = free_port();
    let mut plan = Plan::web(
        port,
        json!([
            to("/2", "a", json!({"upstream_protocol": "Http2"})),
            to("/", "a", json!({})),
        ]),
    )
    .cluster("a", [&peer], json!({}));
    plan.listeners[0]["filter_chains"][0]["filters"][0]["config"]["upstream_protocol"] = json!("Http1");
    let _running = plan.run();
    let silent = Ask::get("/").http2(port).await.json();
    assert_eq!(silent["version"], "HTTP/1.1");
    let says = Ask::get("/2").http2(port).await.json();
    assert_eq!(says["version"], "HTTP/2.0");
}

#[tokio::test]
async fn the_longest_body_of_a_listener_is_a_setting() {
    let peer = Peer::start("a").await;
    let port = free_port();
    let mut plan = Plan::web(port, json!([to("/", "a", json!({}))])).cluster("a", [&peer], json!({}));
    plan.listeners[0]["filter_chains"][0]["filters"][0]["config"]["extend_config"] =
        json!({"Http1": {"max_request_body_size": 1000}});
    let _running = plan.run();
    let ask = |length: usize| Ask::new("POST", "/").body("x".repeat(length));
    assert_eq!(ask(1000).http1(port).await.status, 200);
    assert_eq!(ask(1001).http1(port).await.status, 413);
}
