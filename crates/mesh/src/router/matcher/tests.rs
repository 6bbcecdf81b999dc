//! The matcher against one that asks route by route, and how many routes it looks at.

use http::request::Parts;
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::super::{
    config::{HeaderMatch, RouteMatch, VariableMatch},
    host,
    path::Path,
    rule::Subject,
    tests::{config, exchange, request, table, taken},
};

/// What the documentation of the configuration says, route by route.
fn naive(routes: &[RouteMatch], head: &Parts) -> Option<usize> {
    routes.iter().position(|matches| naive_holds(matches, head))
}

fn naive_holds(matches: &RouteMatch, head: &Parts) -> bool {
    let path = Path::of(head.uri.path()).text().to_owned();
    let headers = |rpc| matches.headers.iter().all(|test| naive_header(test, head, rpc));
    match matches {
        RouteMatch { prefix, .. } if !prefix.is_empty() => path.starts_with(prefix) && headers(false),
        RouteMatch { path: whole, .. } if !whole.is_empty() => {
            path.to_lowercase() == whole.to_lowercase() && headers(false)
        }
        RouteMatch { regex, .. } if !regex.is_empty() => found(regex, &path) && headers(false),
        RouteMatch { variables, .. } if !variables.is_empty() => naive_variables(variables, head),
        RouteMatch { headers: all, .. } => match all.as_slice() {
            [only] if only.name == "service" && only.value == ".*" => {
                field(head, "service").is_some_and(|value| !value.is_empty())
            }
            _ => headers(true),
        },
    }
}

fn naive_header(test: &HeaderMatch, head: &Parts, rpc: bool) -> bool {
    let value = match test.name.as_str() {
        "method" if rpc => field(head, "method").or(Some(head.method.to_string())),
        "method" => Some(head.method.to_string()),
        "host" => host(head).map(str::to_owned),
        name => field(head, name),
    };
    value.is_some_and(|value| match test.regex {
        true => found(&test.value, &value),
        false => test.value == value,
    })
}

fn naive_variables(variables: &[VariableMatch], head: &Parts) -> bool {
    let mut group = true;
    for (index, test) in variables.iter().enumerate() {
        let value = crate::variable::value(&test.name, head, &exchange()).unwrap_or_default();
        group &= match test.regex.as_str() {
            "" => test.value == value,
            regex => found(regex, &value),
        };
        let last = index + 1 == variables.len();
        if test.model == "or" || last {
            if group {
                return true;
            }
            group = true;
        }
    }
    false
}

fn found(regex: &str, text: &str) -> bool {
    Regex::new(regex).unwrap().is_match(text)
}

fn field(head: &Parts, name: &str) -> Option<String> {
    Some(head.headers.get(name)?.to_str().unwrap().to_owned())
}

fn header_match() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["service", "x-a", "x-b", "method", "host"]);
    let value = prop::sample::select(vec!["", "1", "2", ".*", "GET", "^[12]$", "a.com"]);
    (name, value, prop::bool::weighted(0.3))
        .prop_map(|(name, value, regex)| json!({ "name": name, "value": value, "regex": regex }))
}

fn variable_match() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "request_header_x-a",
        "Http1_request_arg_q",
        "x-mosn-method",
        "none",
    ]);
    let test = prop::sample::select(vec![
        json!({ "value": "1" }),
        json!({ "value": "GET" }),
        json!({ "regex": "^$" }),
        json!({ "regex": "[1G]" }),
    ]);
    let model = prop::sample::select(vec!["", "and", "or"]);
    (name, test, model).prop_map(|(name, mut test, model)| {
        test["name"] = name.into();
        test["model"] = model.into();
        test
    })
}

fn route_match() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        3 => "/([aAb]/){0,2}[aAb]?".prop_map(|prefix| json!({ "prefix": prefix })),
        3 => "(/[aAb]){1,3}/?".prop_map(|path| json!({ "path": path })),
        2 => prop::sample::select(vec!["a", "^/b", "b/?$", "/a/.", "[ab]/[aA]", "(?i)/A"])
            .prop_map(|regex| json!({ "regex": regex })),
        1 => prop::collection::vec(variable_match(), 1..4).prop_map(|tests| json!({ "variables": tests })),
        3 => Just(json!({})),
    ];
    (path, prop::collection::vec(header_match(), 0..3)).prop_map(|(mut matches, headers)| {
        matches["headers"] = headers.into();
        matches
    })
}

fn head() -> impl Strategy<Value = Parts> {
    let path = "(/|%2f|//)([aAb]|%61|\\.\\.|\\.)?(/[aAb]){0,2}/?";
    let value = || prop::option::of(prop::sample::select(vec!["", "1", "2", "a.com", "GET"]));
    let query = prop::sample::select(vec!["", "?q=1", "?q="]);
    let method = prop::sample::select(vec!["GET", "POST"]);
    (method, path, query, [value(), value(), value(), value(), value()]).prop_map(
        |(method, path, query, values)| {
            let names = ["service", "x-a", "x-b", "method", "host"];
            let headers: Vec<_> = names
                .into_iter()
                .zip(values)
                .filter_map(|(n, v)| Some((n, v?)))
                .collect();
            let target = format!("/{}{query}", path.strip_prefix('/').unwrap_or(&path));
            request(method, &target, &headers)
        },
    )
}

fn named(matches: impl IntoIterator<Item = Value>) -> Value {
    let router = |(index, matches): (usize, Value)| json!({ "match": matches, "direct_response": { "status": 200, "body": index.to_string() } });
    matches.into_iter().enumerate().map(router).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn finds_the_route_that_asking_one_by_one_finds(
        routes in prop::collection::vec(route_match(), 0..24),
        heads in prop::collection::vec(head(), 1..8),
    ) {
        let routers = named(routes);
        let table = table(routers.clone());
        let host = config(routers).virtual_hosts.remove(0);
        let routes: Vec<_> = host.routers.into_iter().map(|router| router.matches).collect();
        for head in heads {
            let expected = naive(&routes, &head).map(|index| index.to_string());
            prop_assert_eq!(taken(&table, &head), expected, "{:?}", head);
        }
    }
}

/// How many rules are looked at for `head` among `count` routes made by `matches`, of which the
/// last but one must win.
fn examined(count: usize, matches: impl Fn(usize) -> Value, head: &Parts) -> usize {
    let table = table(named((0..count).map(matches).chain([json!({})])));
    assert_eq!(taken(&table, head), Some((count - 1).to_string()));
    let exchange = exchange();
    let subject = Subject {
        head,
        exchange: &exchange,
        path: Path::of(head.uri.path()),
    };
    table.hosts[0].search(&subject).examined
}

#[test]
fn more_routes_are_not_more_work() {
    type Make = fn(usize) -> Value;
    let kinds: [(&str, usize, Make); 6] = [
        ("path", 10_000, |i| json!({ "path": format!("/p/{i}/") })),
        ("prefix", 10_000, |i| json!({ "prefix": format!("/p/{i}/") })),
        ("regex", 300, |i| json!({ "regex": format!("^/p/{i}/$") })),
        (
            "service",
            10_000,
            |i| json!({ "headers": [{ "name": "service", "value": i.to_string() }] }),
        ),
        (
            "header",
            10_000,
            |i| json!({ "prefix": "/p", "headers": [{ "name": "x-a", "value": i.to_string() }] }),
        ),
        (
            "variable",
            10_000,
            |i| json!({ "variables": [{ "name": "Http1_request_arg_q", "value": i.to_string() }] }),
        ),
    ];
    for (kind, many, matches) in kinds {
        let looked_at = |count: usize| {
            let last = (count - 1).to_string();
            let headers = [("service", last.as_str()), ("x-a", &last)];
            examined(
                count,
                matches,
                &request("GET", &format!("/p/{last}/?q={last}"), &headers),
            )
        };
        let few = looked_at(10);
        assert!(few <= 2, "{kind}: {few} of 10");
        assert_eq!(looked_at(many), few, "{kind}");
    }
}
