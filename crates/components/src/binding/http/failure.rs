//! Failed requests in the words of Go's HTTP client.

use std::{error, io};

use http::Method;
use layotto_core::{Error, ErrorKind};
use reqwest::Url;

use super::allow::{self, NotAllowed};
use crate::os_text::os_text;

/// The error of a request that got no complete answer.
pub(super) fn of_request(method: &Method, url: &Url, error: reqwest::Error) -> Error {
    if let Some(NotAllowed(host)) = find(&error) {
        return allow::refused(host);
    }
    if error.is_timeout() && !error.is_connect() {
        return timeout(method, url);
    }
    let reason = reason(url, &error);
    let kind = if error.is_builder() {
        ErrorKind::InvalidArgument
    } else {
        ErrorKind::Unavailable
    };
    during(kind, method, url, &reason).with_source(error.without_url())
}

/// The error of a call that took too long.
pub(super) fn timeout(method: &Method, url: &Url) -> Error {
    let reason = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    during(ErrorKind::Timeout, method, url, reason)
}

/// The error of a service that redirects without end.
pub(super) fn too_many_redirects(method: &Method, url: &Url) -> Error {
    let reason = format!("stopped after {} redirects", super::REDIRECTS);
    during(ErrorKind::Internal, method, url, &reason)
}

fn during(kind: ErrorKind, method: &Method, url: &Url, reason: &str) -> Error {
    let (first, rest) = method.as_str().split_at(1);
    let method = format!("{first}{}", rest.to_ascii_lowercase());
    let mut shown = url.clone();
    // A password in the URL must not reach the caller.
    if shown.password().is_some() {
        shown.set_password(Some("***")).unwrap_or_default();
    }
    Error::new(kind, format!("{method} \"{shown}\": {reason}"))
}

fn reason(url: &Url, error: &reqwest::Error) -> String {
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message) {
        return "EOF".to_owned();
    }
    let system = find::<io::Error>(error);
    if error.is_connect() {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        return match system {
            Some(system) => format!("dial tcp {host}:{port}: connect: {}", os_text(system)),
            None if error.is_timeout() => format!("dial tcp {host}:{port}: i/o timeout"),
            None => format!("dial tcp {host}:{port}: connect: {}", root(error)),
        };
    }
    match system.map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof) => "unexpected EOF".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset by peer".to_owned(),
        _ => root(error).to_string(),
    }
}

fn chain<'a>(
    error: &'a (dyn error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn find<T: error::Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The innermost cause, which says most and repeats no URL.
fn root(error: &reqwest::Error) -> &(dyn error::Error + 'static) {
    chain(error).last().unwrap_or(error)
}
