//! Variables: what configuration can ask of a request and its exchange by name.

use std::borrow::Cow;

use http::request;

use crate::exchange::Exchange;

/// The value of the variable `name`; `None`: there is no such variable, or it has no value.
pub fn value<'a>(name: &str, head: &'a request::Parts, exchange: &Exchange) -> Option<Cow<'a, str>> {
    match name {
        "x-mosn-method" => Some(head.method.as_str().into()),
        "x-mosn-path" => Some(head.uri.path().into()),
        "x-mosn-querystring" => head.uri.query().map(Cow::Borrowed),
        "x-mosn-host" => crate::router::host(head).map(Cow::Borrowed),
        "upstream_cluster" => exchange.facts().cluster.as_deref().map(owned),
        "upstream_host" => exchange.facts().upstream_host.as_deref().map(owned),
        "downstream_remote_address" => Some(exchange.connection()?.remote().to_string().into()),
        "downstream_local_address" => Some(exchange.connection()?.local().to_string().into()),
        _ => None
            .or_else(|| header(head, name.strip_prefix("request_header_")?))
            .or_else(|| cookie(head, name.strip_prefix("cookie_")?))
            .or_else(|| argument(head, name.strip_prefix("request_arg_")?)),
    }
}

fn owned(text: &str) -> Cow<'static, str> {
    text.to_owned().into()
}

fn header<'a>(head: &'a request::Parts, name: &str) -> Option<Cow<'a, str>> {
    let value = head.headers.get(name)?.as_bytes();
    std::str::from_utf8(value).ok().map(Cow::Borrowed)
}

fn cookie<'a>(head: &'a request::Parts, name: &str) -> Option<Cow<'a, str>> {
    let lines = head.headers.get_all(http::header::COOKIE).into_iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs.find_map(|pair| match pair.trim().split_once('=') {
        Some((key, value)) if key == name => Some(value.into()),
        _ => None,
    })
}

fn argument<'a>(head: &'a request::Parts, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = head.uri.query()?.split('&');
    pairs.find_map(|pair| match pair.split_once('=') {
        Some((key, value)) if key == name => Some(value.into()),
        _ => None,
    })
}
