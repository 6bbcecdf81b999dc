//! Values from a request's head and its connection.

use std::borrow::Cow;

use http::{Version, header, request::Parts};
use percent_encoding::percent_decode_str;

use super::{Request, late::write_time};
use crate::exchange::Exchange;

impl Request {
    /// The value; `None`: the request has none.
    pub fn value<'a>(&self, head: &'a Parts, exchange: &Exchange) -> Option<Cow<'a, str>> {
        let borrowed = match self {
            Self::Method => head.method.as_str(),
            Self::Path => return Some(percent_decode_str(head.uri.path()).decode_utf8_lossy()),
            Self::RawPath => head.uri.path(),
            Self::Uri => head.uri.path_and_query()?.as_str(),
            Self::Query => head.uri.query()?,
            Self::Host => host(head)?,
            Self::Scheme => head.uri.scheme_str().unwrap_or_else(|| scheme(exchange)),
            Self::Protocol if head.version == Version::HTTP_2 => "Http2",
            Self::Protocol => "Http1",
            Self::Length => return header_value(head, &header::CONTENT_LENGTH),
            Self::Header(name) => return header_value(head, name),
            Self::Argument(name) => return argument(head.uri.query()?, name),
            Self::Cookie(name) => return cookie(head, name),
            Self::LocalAddress => return Some(exchange.connection()?.local().to_string().into()),
            Self::RemoteAddress => return Some(exchange.connection()?.remote().to_string().into()),
            Self::ConnectionId => return Some(exchange.connection()?.number().to_string().into()),
            Self::StartTime => {
                let mut text = String::new();
                write_time(&mut text, exchange.begun_at());
                return Some(text.into());
            }
        };
        Some(borrowed.into())
    }
}

/// Of a request that does not say it itself.
fn scheme(exchange: &Exchange) -> &'static str {
    match exchange.connection().and_then(|connection| connection.tls()) {
        Some(_) => "https",
        None => "http",
    }
}

/// The authority of HTTP/2 or of an absolute URI, else the header.
fn host(head: &Parts) -> Option<&str> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST)?.to_str().ok(),
    }
}

/// Headers may hold any bytes: what is no UTF-8 becomes U+FFFD.
fn header_value<'a>(head: &'a Parts, name: &header::HeaderName) -> Option<Cow<'a, str>> {
    let value = head.headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()))
}

/// The first parameter called `name`.
fn argument<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| *key == name || form_decode(key) == name)?;
    Some(form_decode(value))
}

/// Decodes `%XX`, and `+` as a blank.
fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8_lossy();
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8_lossy();
    Cow::Owned(decoded.into_owned())
}

/// The value of a cookie (RFC 6265, section 4.2), over all `cookie` headers: HTTP/2 may split them.
pub(crate) fn cookie<'a>(head: &'a Parts, name: &str) -> Option<Cow<'a, str>> {
    let all = head.headers.get_all(header::COOKIE).into_iter();
    let mut pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(value.trim_matches('"').into())
}
