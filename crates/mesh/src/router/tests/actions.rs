use std::{collections::HashSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::upstream::Protocol;

fn to_cluster(matches: Value, mut route: Value) -> Table {
    route["cluster_name"] = "c".into();
    table(json!([{ "match": matches, "route": route }]))
}

#[test]
fn a_route_has_its_defaults() {
    let table = to_cluster(json!({}), json!({}));
    let forward = forward(&table);
    assert_eq!(forward.timeout, Duration::from_secs(60));
    assert_eq!(forward.retry, None);
    assert_eq!(forward.upstream_protocol, None);
    assert!(!forward.auto_host_rewrite);
    assert_eq!(forward.hash(&get("/"), &exchange()), 0x0a00_0007);
}

#[test]
fn a_route_says_how_to_forward() {
    let retry = json!({ "retry_on": true, "num_retries": 3, "retry_timeout": "1s", "status_codes": [404] });
    let table = to_cluster(
        json!({}),
        json!({ "timeout": "5s", "retry_policy": retry, "upstream_protocol": "Http2", "auto_host_rewrite": true }),
    );
    let forward = forward(&table);
    assert_eq!(forward.timeout, Duration::from_secs(5));
    let policy = RetryPolicy {
        retry_on: true,
        num_retries: 3,
        retry_timeout: Some(Duration::from_secs(1)),
        status_codes: vec![404],
    };
    assert_eq!(forward.retry, Some(policy));
    assert_eq!(forward.upstream_protocol, Some(Protocol::Http2));
    assert!(forward.auto_host_rewrite);
}

#[test]
fn clusters_have_an_order_of_precedence() {
    let weighted = json!([{ "cluster": { "name": "w", "weight": 1 } }]);
    let mut route = json!({ "cluster_name": "n", "cluster_variable": "Http1_request_arg_c", "weighted_clusters": weighted });
    for (target, cluster, key) in [
        ("/?c=v", Some("n"), "cluster_name"),
        ("/?c=v", Some("v"), "cluster_variable"),
    ] {
        let table = table(json!([{ "route": route }]));
        assert_eq!(
            forward(&table).cluster(&get(target), &exchange()).as_deref(),
            cluster
        );
        route.as_object_mut().unwrap().remove(key);
    }
    let table = table(json!([{ "route": route }]));
    assert_eq!(
        forward(&table).cluster(&get("/"), &exchange()).as_deref(),
        Some("w")
    );
}

#[test]
fn a_table_tells_which_clusters_it_names() {
    let share = |name: &str| json!({ "cluster": { "name": name, "weight": 1 } });
    let table = table(json!([
        { "route": { "cluster_name": "a" } },
        { "route": { "cluster_variable": "request_arg_c" } },
        { "route": { "weighted_clusters": [share("b"), share("c")] } },
        { "direct_response": { "status": 200 } },
    ]));
    assert_eq!(table.cluster_names().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn a_variable_without_value_names_no_cluster() {
    let table = table(json!([{ "route": { "cluster_variable": "Http1_request_arg_c" } }]));
    let exchange = exchange();
    assert_eq!(forward(&table).cluster(&get("/"), &exchange), None);
    assert_eq!(exchange.facts().cluster, None);
}

// deviation: D053
#[test]
fn a_weighted_cluster_is_chosen_once_per_exchange() {
    let share = |name: &str| json!({ "cluster": { "name": name, "weight": 1 } });
    let table = table(json!([{ "route": { "weighted_clusters": [share("a"), share("b")] } }]));
    let forward = forward(&table);
    let mut seen = HashSet::new();
    for _ in 0..64 {
        let exchange = exchange();
        let first = forward.cluster(&get("/"), &exchange).unwrap();
        assert!((0..8).all(|_| forward.cluster(&get("/"), &exchange).as_ref() == Some(&first)));
        assert_eq!(exchange.facts().cluster.as_ref(), Some(&first));
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn headers_and_cookies_are_hashed_with_their_names() {
    let hash = |policy: Value, head: &request::Parts| {
        forward(&to_cluster(json!({}), json!({ "hash_policy": [policy] }))).hash(head, &exchange())
    };
    let head = request("GET", "/", &[("x-user", "7"), ("cookie", "a=1; sid=7")]);
    let header = hash(json!({ "header": { "key": "X-User" } }), &head);
    assert_ne!(header, hash(json!({ "header": { "key": "x-user" } }), &head));
    assert_ne!(header, 0);
    let cookie = hash(
        json!({ "cookie": { "name": "sid", "path": "/", "ttl": "1s" } }),
        &head,
    );
    assert_ne!(cookie, 0);
    assert_ne!(cookie, header);
    assert_eq!(hash(json!({ "cookie": { "name": "none" } }), &head), 0);
    assert_eq!(hash(json!({ "header": { "key": "none" } }), &head), 0);
    assert_eq!(hash(json!({ "source_ip": {} }), &head), 0x0a00_0007);
}

#[test]
fn a_prefix_is_rewritten_and_the_rest_stays() {
    for (prefix, to, target, expected) in [
        ("/api", "/v1", "/api/a%2Fb?q=%20&r", "/v1/a%2Fb?q=%20&r"),
        ("/api", "/", "/api/x", "/x"),
        ("/api/", "/", "/api/x", "/x"),
        ("/api", "/v1", "/api", "/v1"),
        ("/api", "/v1", "//api//x/../y", "/v1/y"),
        ("/a", "/in/", "/a../secret", "/in/secret"),
    ] {
        let table = to_cluster(json!({ "prefix": prefix }), json!({ "prefix_rewrite": to }));
        let head = edited(&table, get(target));
        assert_eq!(head.uri, expected, "{target}");
        let original = target.split('?').next().unwrap();
        assert_eq!(head.headers["x-mosn-original-path"], original);
    }
}

#[test]
fn a_path_beyond_ascii_is_rewritten_like_any_other() {
    let table = to_cluster(json!({ "prefix": "/api" }), json!({ "prefix_rewrite": "/v1" }));
    for (target, expected) in [("/api/é", "/v1/é"), ("/api/x/../é", "/v1/%C3%A9")] {
        let head = edited(&table, get(target));
        assert_eq!(head.uri, expected);
        assert_eq!(head.headers["x-mosn-original-path"].as_bytes(), target.as_bytes());
    }
    let table = to_cluster(json!({}), json!({}));
    assert_eq!(edited(&table, get("/é/../b")).uri, "/b");
}

#[test]
fn a_variable_beyond_ascii_replaces_what_the_client_sent() {
    let set = json!({ "header": { "key": "x-path", "value": "%x-mosn-path%" }, "append": false });
    let table = to_cluster(json!({}), json!({ "request_headers_to_add": [set] }));
    let head = edited(&table, request("GET", "/é", &[("x-path", "/mine")]));
    assert_eq!(head.headers["x-path"].as_bytes(), "/é".as_bytes());
}

proptest! {
    #[test]
    fn no_path_climbs_out_of_what_its_prefix_becomes(
        target in "/a(/|%2f|\\.|%2e|%252e|%2F|b|%){0,10}(\\?/\\.\\./)?",
    ) {
        let table = to_cluster(json!({ "prefix": "/a" }), json!({ "prefix_rewrite": "/in/" }));
        let mut head = get(&target);
        let exchange = exchange();
        if let Some(route) = table.find(&head, &exchange) {
            route.edit_request(&mut head, &exchange);
            let path = Path::of(head.uri.path());
            prop_assert!(path.text().starts_with("/in/"), "{}", head.uri);
            prop_assert!(!path.had_dots(), "{}", head.uri);
            prop_assert_eq!(head.uri.query(), target.split_once('?').map(|(_, query)| query));
        }
    }
}

#[test]
fn a_path_is_rewritten_whole() {
    let table = to_cluster(json!({ "path": "/Old" }), json!({ "prefix_rewrite": "/new" }));
    assert_eq!(edited(&table, get("/oLD?q=1")).uri, "/new?q=1");
}

#[test]
fn a_regex_rewrites_where_it_is_found() {
    let rewrite = json!({ "pattern": { "regex": "^/(\\w+)/(\\w+)" }, "substitution": "/$2/${1}" });
    let table = to_cluster(json!({}), json!({ "regex_rewrite": rewrite }));
    assert_eq!(edited(&table, get("/a/b/c%20d?q")).uri, "/b/a/c%20d?q");
    let head = edited(&table, get("/-/%20"));
    assert_eq!(head.uri, "/-/%20");
    assert!(!head.headers.contains_key("x-mosn-original-path"));
}

// deviation: D056
#[test]
fn a_path_with_dot_segments_leaves_as_it_was_matched() {
    let table = to_cluster(json!({}), json!({}));
    assert_eq!(edited(&table, get("/a/%2e%2e/b?q")).uri, "/b?q");
    assert_eq!(edited(&table, get("/a//b%2Fc")).uri, "/a//b%2Fc");
}

#[test]
fn the_host_is_rewritten_by_text_or_header_or_not_at_all() {
    let headers = [("host", "old"), ("x-host", "b.com:81")];
    let by_text = to_cluster(
        json!({}),
        json!({ "host_rewrite": "new", "auto_host_rewrite_header": "x-host", "auto_host_rewrite": true }),
    );
    assert_eq!(
        edited(&by_text, request("GET", "/", &headers)).headers["host"],
        "new"
    );
    assert!(!forward(&by_text).auto_host_rewrite);
    let h2 = edited(&by_text, request("GET", "https://old:1/p?q", &[]));
    assert_eq!(h2.uri, "https://new/p?q");
    assert!(!h2.headers.contains_key("host"));

    let by_header = to_cluster(json!({}), json!({ "auto_host_rewrite_header": "x-host" }));
    assert_eq!(
        edited(&by_header, request("GET", "/", &headers)).headers["host"],
        "b.com:81"
    );
    assert_eq!(
        edited(&by_header, request("GET", "/", &headers[..1])).headers["host"],
        "old"
    );
    let bad = edited(
        &by_header,
        request("GET", "/", &[("host", "old"), ("x-host", "b/c d")]),
    );
    assert_eq!(bad.headers["host"], "old");
}

#[test]
fn headers_are_edited_from_route_to_configuration() {
    let add = |key: &str, value: &str| json!({ "header": { "key": key, "value": value } });
    let set = |key: &str, value: &str| json!({ "header": { "key": key, "value": value }, "append": false });
    let config = json!({
        "request_headers_to_add": [add("X-Level", "config"), set("x-set", "config")],
        "response_headers_to_add": [add("x-from", "%downstream_remote_address%")],
        "virtual_hosts": [{
            "domains": ["*"],
            "request_headers_to_add": [add("x-level", "host"), set("x-set", "host")],
            "response_headers_to_remove": ["Server"],
            "routers": [{ "route": {
                "cluster_name": "c",
                "request_headers_to_add": [
                    add("x-level", "route"), add("x-method", "%x-mosn-method%"), add("x-none", "%no_such%"),
                    add("x-plain", "100%"),
                ],
                "request_headers_to_remove": ["x-secret"],
            } }],
        }],
    });
    let table = Table::new(&serde_json::from_value(config).unwrap(), &[]).unwrap();
    let head = request(
        "GET",
        "/",
        &[
            ("x-level", "a"),
            ("x-level", "b"),
            ("x-secret", "s"),
            ("x-set", "a"),
        ],
    );
    let head = edited(&table, head);
    assert_eq!(head.headers["x-level"], "a,b,route,host,config");
    assert_eq!(head.headers.get_all("x-level").iter().count(), 1);
    assert_eq!(head.headers["x-set"], "config");
    assert_eq!(head.headers["x-method"], "GET");
    assert_eq!(head.headers["x-plain"], "100%");
    assert!(!head.headers.contains_key("x-secret"));
    assert!(!head.headers.contains_key("x-none"));

    let mut reply = http::Response::builder()
        .header("server", "s")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let exchange = exchange();
    table
        .find(&get("/"), &exchange)
        .unwrap()
        .edit_response(&mut reply, &exchange);
    assert!(!reply.headers.contains_key("server"));
    assert_eq!(reply.headers["x-from"], "10.0.0.7:4000");
}

#[test]
fn a_redirect_leads_elsewhere() {
    let location = |redirect: Value, head: &request::Parts| {
        let table = table(json!([{ "redirect": redirect }]));
        match &table.find(head, &exchange()).unwrap().action {
            Action::Redirect(redirect) => (redirect.status.as_u16(), redirect.location(head, &exchange())),
            other => panic!("{other:?}"),
        }
    };
    let h1 = get("/a%20b?q=1");
    let h2 = request("GET", "http://a.com:80/p?q=1", &[]);
    for (redirect, head, expected) in [
        (
            json!({ "scheme_redirect": "https" }),
            &h1,
            "https://a.com/a%20b?q=1",
        ),
        (json!({ "scheme_redirect": "http" }), &h2, "http://a.com:80/p?q=1"),
        (json!({ "path_redirect": "/new" }), &h1, "/new?q=1"),
        (json!({ "path_redirect": "/new?x" }), &h1, "/new?x"),
        (json!({ "path_redirect": "/new" }), &h2, "http://a.com:80/new?q=1"),
        (json!({ "host_redirect": "b.com" }), &h1, "//b.com/a%20b?q=1"),
        (
            json!({ "host_redirect": "b.com:80", "scheme_redirect": "https" }),
            &h2,
            "https://b.com:80/p?q=1",
        ),
    ] {
        assert_eq!(location(redirect, head), (301, expected.to_owned()));
    }
    let see_other = json!({ "response_code": 303, "path_redirect": "/" });
    assert_eq!(location(see_other, &h1).0, 303);
}

#[test]
fn direct_answers_go_before_redirects_and_those_before_clusters() {
    let mut router = json!({
        "direct_response": { "status": 418 },
        "redirect": { "path_redirect": "/" },
        "route": { "cluster_name": "c" },
    });
    let action = |router: &Value| {
        let table = table(json!([router]));
        match &table.find(&get("/"), &exchange()).unwrap().action {
            Action::Direct(direct) => direct.status.as_u16(),
            Action::Redirect(redirect) => redirect.status.as_u16(),
            Action::Forward(_) => 0,
        }
    };
    assert_eq!(action(&router), 418);
    router.as_object_mut().unwrap().remove("direct_response");
    assert_eq!(action(&router), 301);
    router.as_object_mut().unwrap().remove("redirect");
    assert_eq!(action(&router), 0);
}

const fn kind(name: &'static str, takes_routes: bool) -> Kind {
    Kind {
        name,
        build: |_, _| {
            Err(ConfigError {
                path: String::new(),
                message: String::new(),
            })
        },
        route_config: match takes_routes {
            true => Some(|value| match value.as_u64() {
                Some(number) => Ok(Arc::new(number)),
                None => Err(ConfigError::new("number", "is missing")),
            }),
            false => None,
        },
        schema: || schemars::schema_for!(u64),
        other_keys: &[],
    }
}

#[test]
fn routes_speak_to_filters_before_their_virtual_host_does() {
    let kinds = [kind("one", true), kind("two", true), kind("three", false)];
    let build = |host: Value, route: Value| {
        let routers = json!([{ "route": { "cluster_name": "c" }, "per_filter_config": route }]);
        let host = json!({ "domains": ["*"], "per_filter_config": host, "routers": routers });
        let config = serde_json::from_value(json!({ "virtual_hosts": [host] })).unwrap();
        Table::new(&config, &kinds)
    };
    let table = build(json!({ "one": 1, "two": 2 }), json!({ "one": 10 })).unwrap();
    let route = table.find(&get("/"), &exchange()).unwrap();
    let says = |name| {
        route
            .filter_config(name)
            .map(|config| *config.downcast_ref::<u64>().unwrap())
    };
    assert_eq!(
        (says("one"), says("two"), says("three")),
        (Some(10), Some(2), None)
    );

    for (host, route, expected) in [
        (
            json!({}),
            json!({ "tow": 1 }),
            "virtual_hosts[0].routers[0].per_filter_config.tow: \"tow\" is no filter",
        ),
        (
            json!({ "three": 1 }),
            json!({}),
            "virtual_hosts[0].per_filter_config.three: \"three\" takes no config",
        ),
        (
            json!({ "one": "" }),
            json!({}),
            "virtual_hosts[0].per_filter_config.one.number: is missing",
        ),
    ] {
        let error = build(host, route).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
