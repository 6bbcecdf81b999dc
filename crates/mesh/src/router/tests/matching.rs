use super::*;

#[test]
fn the_first_route_that_matches_wins() {
    let table = table(json!([
        answer("path", json!({ "path": "/a/B" })),
        answer("prefix", json!({ "prefix": "/a/" })),
        answer("regex", json!({ "regex": "[0-9]+$" })),
        answer("shadowed", json!({ "path": "/a/c" })),
        answer("rest", json!({})),
    ]));
    for (target, name) in [
        ("/A/b?q", "path"),
        ("/a/c", "prefix"),
        ("/A/c", "shadowed"),
        ("/x/12", "regex"),
        ("/x/12/", "rest"),
        ("/a", "rest"),
    ] {
        assert_eq!(taken(&table, &get(target)).as_deref(), Some(name), "{target}");
    }
}

// deviation: D056
#[test]
fn no_way_of_writing_a_path_gets_around_its_route() {
    let table = table(json!([
        answer("admin", json!({ "prefix": "/admin" })),
        answer("public", json!({ "prefix": "/public" })),
    ]));
    for target in [
        "/admin",
        "//admin",
        "/%61dmin",
        "/./admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public%2f..%2fadmin",
        "/public/..%2fadmin",
    ] {
        assert_eq!(taken(&table, &get(target)).as_deref(), Some("admin"), "{target}");
    }
}

#[test]
fn all_headers_must_hold() {
    let headers = json!([
        { "name": "method", "value": "POST" },
        { "name": "X-A", "value": "1" },
        { "name": "x-b", "value": "^v\\d", "regex": true },
    ]);
    let table = table(json!([answer(
        "all",
        json!({ "prefix": "/", "headers": headers })
    )]));
    let all = [("x-a", "1"), ("x-b", "v2")];
    assert!(taken(&table, &request("POST", "/", &all)).is_some());
    assert!(taken(&table, &request("GET", "/", &all)).is_none());
    assert!(taken(&table, &request("POST", "/", &all[..1])).is_none());
    assert!(taken(&table, &request("POST", "/", &[("x-a", "2"), ("x-b", "v2")])).is_none());
    // A header cannot stand in for the method.
    let forged = [("method", "POST"), ("x-a", "1"), ("x-b", "v2")];
    assert!(taken(&table, &request("GET", "/", &forged)).is_none());
}

#[test]
fn services_are_told_apart_by_their_header() {
    let service = |value: &str| json!({ "headers": [{ "name": "service", "value": value }] });
    let table = table(json!([
        answer("one", service("com.One:1.0")),
        answer("some", service(".*")),
        answer("none", json!({})),
    ]));
    for (headers, name) in [
        (&[("service", "com.One:1.0")][..], "one"),
        (&[("service", "com.Two")], "some"),
        (&[("service", "")], "none"),
        (&[], "none"),
    ] {
        assert_eq!(
            taken(&table, &request("POST", "/", headers)).as_deref(),
            Some(name)
        );
    }
}

#[test]
fn variables_are_tested_from_left_to_right() {
    let test = |name: &str, value: &str, model: &str| json!({ "name": name, "value": value, "model": model });
    let variables = json!([
        test("Http1_request_arg_a", "1", ""),
        test("Http1_request_arg_b", "1", "or"),
        test("x-mosn-method", "POST", "and"),
        { "name": "request_header_x-c", "regex": "^$" },
    ]);
    let table = table(json!([answer("yes", json!({ "variables": variables }))]));
    assert!(taken(&table, &request("GET", "/?a=1&b=1", &[])).is_some());
    assert!(taken(&table, &request("GET", "/?a=1", &[])).is_none());
    assert!(taken(&table, &request("POST", "/", &[])).is_some());
    assert!(taken(&table, &request("POST", "/", &[("x-c", "1")])).is_none());
    assert!(taken(&table, &request("GET", "/?b=1", &[])).is_none());
}

#[test]
fn the_host_of_the_target_goes_before_the_header() {
    let host = |domain: &str| json!({ "domains": [domain], "routers": [{ "direct_response": { "status": 200, "body": domain } }] });
    let hosts = json!({ "virtual_hosts": [host("a.com:*"), host("b.com"), host("*")] });
    let table = Table::new(&serde_json::from_value(hosts).unwrap(), &[]).unwrap();
    for (target, header, name) in [
        ("http://A.com/", "b.com", "a.com:*"),
        ("http://user@a.com:8080/", "b.com", "a.com:*"),
        ("/", "b.com", "b.com"),
        ("/", "c.com", "*"),
    ] {
        let head = request("GET", target, &[("host", header)]);
        assert_eq!(taken(&table, &head).as_deref(), Some(name), "{target} {header}");
    }
}

#[test]
fn an_empty_table_finds_nothing() {
    assert!(Table::default().find(&get("/"), &exchange()).is_none());
    let config = RouterConfig::default();
    assert!(
        Table::new(&config, &[])
            .unwrap()
            .find(&get("/"), &exchange())
            .is_none()
    );
}

#[test]
fn a_folder_has_one_virtual_host_per_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let host = |domain: &str| {
        let routers = json!([{ "direct_response": { "status": 200, "body": domain } }]);
        json!({ "domains": [domain], "routers": routers }).to_string()
    };
    write("a.json", &host("a.com:*"));
    write("b.json", &host("*"));
    write("notes.txt", "not read");
    let config = RouterConfig {
        router_configs: folder.path().to_str().unwrap().into(),
        ..RouterConfig::default()
    };
    let table = Table::new(&config, &[]).unwrap();
    assert_eq!(taken(&table, &get("/")).as_deref(), Some("a.com:*"));
    assert_eq!(taken(&table, &request("GET", "/", &[])).as_deref(), Some("*"));

    write("c.json", &host("*"));
    let error = Table::new(&config, &[]).unwrap_err();
    assert!(error.path.ends_with("c.json).domains[0]"), "{error}");
    write("c.json", "{");
    let error = Table::new(&config, &[]).unwrap_err();
    assert!(error.path.ends_with("c.json)"), "{error}");
}

#[test]
fn a_prefix_may_end_inside_a_segment() {
    let table = table(json!([answer("hidden", json!({ "prefix": "/a/." }))]));
    assert!(taken(&table, &get("/a/.well-known")).is_some());
    assert!(taken(&table, &get("/a/b/..")).is_none());
}
