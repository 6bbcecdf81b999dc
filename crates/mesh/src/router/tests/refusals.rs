use super::*;

#[test]
fn what_cannot_be_used_is_refused_where_it_stands() {
    let to = |mut route: Value| {
        route["cluster_name"] = "c".into();
        json!({ "match": { "prefix": "/" }, "route": route })
    };
    let on = |matches: Value| json!({ "match": matches, "route": { "cluster_name": "c" } });
    let add = |key: &str, value: &str| json!([{ "header": { "key": key, "value": value } }]);
    let cases = [
        (json!({}), "route"),
        (json!({ "route": {} }), "route.cluster_name"),
        (
            json!({ "route": { "weighted_clusters": [{ "cluster": { "name": "c" } }] } }),
            "route.weighted_clusters",
        ),
        (
            json!({ "route": { "weighted_clusters": [{ "cluster": { "weight": 1 } }] } }),
            "route.weighted_clusters[0].cluster.name",
        ),
        (on(json!({ "prefix": "/a/../b" })), "match.prefix"),
        (on(json!({ "path": "/a//b" })), "match.path"),
        (on(json!({ "path": "/a/." })), "match.path"),
        (on(json!({ "regex": "(" })), "match.regex"),
        (on(json!({ "regex": "\\w{1000}{100}" })), "match.regex"),
        (
            on(json!({ "headers": [{ "name": "a b", "value": "" }] })),
            "match.headers[0].name",
        ),
        (
            on(json!({ "headers": [{ "name": "a", "value": "(", "regex": true }] })),
            "match.headers[0].value",
        ),
        (
            on(json!({ "variables": [{ "value": "v" }] })),
            "match.variables[0].name",
        ),
        (
            on(json!({ "variables": [{ "name": "n" }] })),
            "match.variables[0]",
        ),
        (
            on(json!({ "variables": [{ "name": "n", "regex": "(" }] })),
            "match.variables[0].regex",
        ),
        (
            on(json!({ "variables": [{ "name": "n", "value": "v", "model": "xor" }] })),
            "match.variables[0].model",
        ),
        (
            on(json!({ "dsl_expressions": [{ "expression": "true" }] })),
            "match.dsl_expressions",
        ),
        (
            to(json!({ "upstream_protocol": "SofaRpc" })),
            "route.upstream_protocol",
        ),
        (
            to(json!({ "retry_policy": { "status_codes": [500, 99] } })),
            "route.retry_policy.status_codes[1]",
        ),
        (to(json!({ "prefix_rewrite": "no-path" })), "route.prefix_rewrite"),
        (to(json!({ "prefix_rewrite": "/a?b" })), "route.prefix_rewrite"),
        (to(json!({ "host_rewrite": "a b" })), "route.host_rewrite"),
        (
            to(json!({ "auto_host_rewrite_header": "a b" })),
            "route.auto_host_rewrite_header",
        ),
        (
            to(json!({ "regex_rewrite": { "pattern": { "regex": "[" } } })),
            "route.regex_rewrite.pattern.regex",
        ),
        (
            to(json!({ "regex_rewrite": {} })),
            "route.regex_rewrite.pattern.regex",
        ),
        (
            to(json!({ "hash_policy": [{ "header": { "key": "" } }] })),
            "route.hash_policy[0].header.key",
        ),
        (
            to(json!({ "hash_policy": [{ "cookie": {} }] })),
            "route.hash_policy[0].cookie.name",
        ),
        (
            to(json!({ "request_headers_to_add": add("a b", "v") })),
            "route.request_headers_to_add[0].header.key",
        ),
        (
            to(json!({ "request_headers_to_add": add("a", "v\n") })),
            "route.request_headers_to_add[0].header.value",
        ),
        (
            to(json!({ "response_headers_to_add": add("Content-Length", "1") })),
            "route.response_headers_to_add[0].header.key",
        ),
        (
            to(json!({ "response_headers_to_remove": [""] })),
            "route.response_headers_to_remove[0]",
        ),
        (json!({ "redirect": {} }), "redirect"),
        (
            json!({ "redirect": { "response_code": 200, "path_redirect": "/" } }),
            "redirect.response_code",
        ),
        (
            json!({ "redirect": { "path_redirect": "//evil" } }),
            "redirect.path_redirect",
        ),
        (
            json!({ "redirect": { "path_redirect": "/a b" } }),
            "redirect.path_redirect",
        ),
        (
            json!({ "redirect": { "host_redirect": "a/b" } }),
            "redirect.host_redirect",
        ),
        (
            json!({ "redirect": { "scheme_redirect": "ftp" } }),
            "redirect.scheme_redirect",
        ),
        (json!({ "direct_response": {} }), "direct_response.status"),
        (
            json!({ "direct_response": { "status": 101 } }),
            "direct_response.status",
        ),
    ];
    for (router, path) in cases {
        let error = refused(json!([router]));
        assert_eq!(
            error.path,
            format!("virtual_hosts[0].routers[0].{path}"),
            "{error}"
        );
    }
}

#[test]
fn a_rewrite_of_a_prefix_needs_a_prefix() {
    let error = refused(json!([{ "route": { "cluster_name": "c", "prefix_rewrite": "/" } }]));
    assert_eq!(error.path, "virtual_hosts[0].routers[0].route.prefix_rewrite");
}

#[test]
fn a_domain_is_refused_where_it_stands() {
    let hosts = json!({ "virtual_hosts": [{ "domains": ["a.com"] }, { "domains": ["*", "A.COM"] }] });
    let error = Table::new(&serde_json::from_value(hosts).unwrap(), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "virtual_hosts[1].domains[1]: \"A.COM\" is there twice"
    );
}

#[test]
fn virtual_hosts_come_from_one_place() {
    let both = json!({ "router_configs": "/nowhere", "virtual_hosts": [{}] });
    let error = Table::new(&serde_json::from_value(both).unwrap(), &[]).unwrap_err();
    assert_eq!(error.path, "router_configs");
    let missing = json!({ "router_configs": "/nowhere" });
    let error = Table::new(&serde_json::from_value(missing).unwrap(), &[]).unwrap_err();
    assert!(
        error.to_string().starts_with("router_configs: /nowhere: "),
        "{error}"
    );
}

#[test]
fn header_edits_of_every_level_are_checked() {
    let edits = json!({ "response_headers_to_remove": ["a b"] });
    let error = Table::new(&serde_json::from_value(edits.clone()).unwrap(), &[]).unwrap_err();
    assert_eq!(error.path, "response_headers_to_remove[0]");
    let hosts = json!({ "virtual_hosts": [edits] });
    let error = Table::new(&serde_json::from_value(hosts).unwrap(), &[]).unwrap_err();
    assert_eq!(error.path, "virtual_hosts[0].response_headers_to_remove[0]");
}
