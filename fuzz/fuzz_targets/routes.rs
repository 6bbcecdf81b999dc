//! Finds routes and rewrites requests: whatever the configuration and the request, the route is the
//! one that asking route by route finds, and a path stays inside of what its prefix becomes.
//!
//! An input is a request (method and target in the first line, then headers, then an empty line)
//! and a configuration of routes as JSON.

#![no_main]

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Request, request::Parts};
use layotto_mesh::{
    exchange::Exchange,
    router::{
        Action, RouterConfig, Table,
        config::{DirectResponse, ForwardAction, HeaderMatch, RouteMatch, Router, VirtualHost},
    },
};
use libfuzzer_sys::fuzz_target;
use regex::Regex;

fuzz_target!(|input: &[u8]| {
    let Some(at) = input.windows(2).position(|pair| pair == b"\n\n") else {
        return;
    };
    let (request, config) = input.split_at(at);
    let (Some(head), Ok(mut config)) = (head(request), serde_json::from_slice::<RouterConfig>(config)) else {
        return;
    };
    // Not from the disk.
    config.router_configs.clear();
    let Ok(table) = Table::new(&config, &[]) else {
        return;
    };
    let named = table.cluster_names().count();
    assert!(named <= config.virtual_hosts.iter().map(clusters).sum());

    let exchange = Exchange::begin(Arc::from("l"), None);
    let Some(expected) = asked_one_by_one(&config, &head) else {
        act(&table, head, &exchange);
        return;
    };
    assert_eq!(found(&config, &head, &exchange), expected, "{head:?}");
    let old = plain(head.uri.path());
    let query = head.uri.query().map(str::to_owned);
    let new = act(&table, head, &exchange);
    let Some(router) = expected.map(|index| &config.virtual_hosts[0].routers[index]) else {
        return;
    };
    if let (Some(new), Some(route)) = (new, &router.route) {
        assert_eq!(new.uri.query(), query.as_deref());
        check_path(&old, new.uri.path(), &router.matches, route);
    }
});

fn head(text: &[u8]) -> Option<Parts> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut line = lines.next()?.splitn(2, |byte| *byte == b' ');
    let (mut head, _) = Request::new(()).into_parts();
    head.method = Method::from_bytes(line.next()?).ok()?;
    head.uri = line.next()?.try_into().ok()?;
    for line in lines.take(32) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next()?).ok()?;
        let value = parts.next().unwrap_or_default().trim_ascii();
        head.headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(head)
}

fn clusters(host: &VirtualHost) -> usize {
    let routes = host.routers.iter().filter_map(|router| router.route.as_ref());
    routes.map(|route| 1 + route.weighted_clusters.len()).sum()
}

/// Does what the route says; the head that is sent on, if it is.
fn act(table: &Table, mut head: Parts, exchange: &Exchange) -> Option<Parts> {
    let route = table.find(&head, exchange)?.clone();
    match &route.action {
        Action::Forward(forward) => {
            forward.cluster(&head, exchange);
            forward.hash(&head, exchange);
            route.edit_request(&mut head, exchange);
            Some(head)
        }
        Action::Redirect(redirect) => {
            redirect.location(&head, exchange);
            None
        }
        Action::Direct(_) => None,
    }
}

/// The number of the route that the table finds.
fn found(config: &RouterConfig, head: &Parts, exchange: &Exchange) -> Option<usize> {
    let mut config = config.clone();
    for (index, router) in config.virtual_hosts[0].routers.iter_mut().enumerate() {
        router.direct_response = Some(DirectResponse {
            status: 200,
            body: index.to_string(),
        });
    }
    let table = Table::new(&config, &[]).expect("with other actions too");
    match &table.find(head, exchange)?.action {
        Action::Direct(direct) => std::str::from_utf8(&direct.body).ok()?.parse().ok(),
        other => panic!("{other:?}"),
    }
}

/// The number of the first route that takes the request; `None`: the configuration asks for more
/// than is known here.
fn asked_one_by_one(config: &RouterConfig, head: &Parts) -> Option<Option<usize>> {
    let [host] = config.virtual_hosts.as_slice() else {
        return None;
    };
    let simple = |router: &Router| {
        router.matches.variables.is_empty()
            && !router
                .matches
                .headers
                .iter()
                .any(|it| it.name.eq_ignore_ascii_case("service"))
    };
    if host.domains != ["*"] || !host.routers.iter().all(simple) {
        return None;
    }
    let path = plain(head.uri.path());
    let taken = host
        .routers
        .iter()
        .position(|router| takes(&router.matches, head, &path));
    Some(taken)
}

fn takes(matches: &RouteMatch, head: &Parts, path: &str) -> bool {
    let any = matches.prefix.is_empty() && matches.path.is_empty() && matches.regex.is_empty();
    let of_path = match matches {
        RouteMatch { prefix, .. } if !prefix.is_empty() => path.starts_with(prefix),
        RouteMatch { path: whole, .. } if !whole.is_empty() => path.to_lowercase() == whole.to_lowercase(),
        RouteMatch { regex, .. } => any || finds(regex, path),
    };
    of_path && matches.headers.iter().all(|test| holds(test, head, any))
}

fn holds(test: &HeaderMatch, head: &Parts, any: bool) -> bool {
    let method = Some(head.method.as_str());
    let value = match test.name.to_ascii_lowercase().as_str() {
        "method" if any => field(head, "method").or(method),
        "method" | ":method" | "x-mosn-method" => method,
        "host" | ":authority" | "x-mosn-host" => match head.uri.authority() {
            Some(authority) => authority.as_str().rsplit('@').next(),
            None => head.headers.get("host").and_then(|value| value.to_str().ok()),
        },
        name => field(head, name),
    };
    value.is_some_and(|value| match test.regex {
        true => finds(&test.value, value),
        false => test.value == value,
    })
}

fn field<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    std::str::from_utf8(head.headers.get(name)?.as_bytes()).ok()
}

fn finds(regex: &str, text: &str) -> bool {
    Regex::new(regex).is_ok_and(|regex| regex.is_match(text))
}

/// What is sent has no way out of what the prefix becomes, and nothing left to resolve.
fn check_path(old: &str, new: &str, matches: &RouteMatch, route: &ForwardAction) {
    let to = route.prefix_rewrite.as_str();
    if to.contains('%') || has_dots(to) {
        return;
    }
    assert!(!has_dots(&decoded(new)), "{old} became {new}");
    if !matches.prefix.is_empty() && !to.is_empty() {
        let (new, inside) = (plain(new), plain(to));
        assert!(
            new.starts_with(inside.trim_end_matches('/')),
            "{old} became {new}, outside of {to}"
        );
    }
}

fn has_dots(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// A path with all percent-encoding, dot segments and empty segments gone.
fn plain(path: &str) -> String {
    let text = decoded(path);
    if !text.starts_with('/') {
        return text;
    }
    let mut plain = Vec::new();
    let mut ends_with_slash = false;
    for segment in text.split('/') {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(plain.pop()),
            _ => plain.push(segment),
        }
    }
    let mut joined: String = plain.iter().map(|segment| format!("/{segment}")).collect();
    if ends_with_slash || joined.is_empty() {
        joined.push('/');
    }
    joined
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
