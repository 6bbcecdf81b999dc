//! Requests that are answered without a cluster: redirects, and answers on the spot.

use http::{StatusCode, request};

use super::{config, host, host::is_host};
use crate::{config::ConfigError, exchange::Exchange};

/// Where a client is sent.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    path: Option<Box<str>>,
}

/// An answer on the spot.
#[derive(Debug)]
pub struct Direct {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: bytes::Bytes,
}

impl Redirect {
    pub(super) fn new(action: &config::RedirectAction) -> Result<Self, ConfigError> {
        let redirect = Self {
            status: redirect_status(action.response_code.unwrap_or(301))?,
            scheme: given(&action.scheme_redirect),
            host: given(&action.host_redirect),
            path: given(&action.path_redirect),
        };
        redirect.check()?;
        Ok(redirect)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, text: &str, accepted: &str| {
            Err(ConfigError::new(
                key,
                format!("{text:?} is not accepted; accepted: {accepted}"),
            ))
        };
        match (&self.scheme, &self.host, &self.path) {
            (None, None, None) => Err(ConfigError::new(
                "",
                "leads nowhere; accepted: path_redirect, host_redirect, scheme_redirect",
            )),
            (Some(scheme), ..) if !matches!(&**scheme, "http" | "https") => {
                refuse("scheme_redirect", scheme, "http, https")
            }
            (_, Some(host), _) if !is_host(host) => refuse("host_redirect", host, "a host, or host:port"),
            (.., Some(path)) if !path.starts_with('/') || path.starts_with("//") => {
                refuse("path_redirect", path, "a path that begins with one /")
            }
            (.., Some(path)) if path.parse::<http::uri::PathAndQuery>().is_err() => {
                refuse("path_redirect", path, "a path, percent-encoded")
            }
            _ => Ok(()),
        }
    }

    /// The value of `Location`: absolute where scheme and host are known, else relative to the
    /// request. The path of the request stays as the client wrote it.
    pub fn location(&self, head: &request::Parts, _exchange: &Exchange) -> String {
        let target = self.target(head);
        let scheme = self.scheme.as_deref().or(head.uri.scheme_str());
        match (scheme, self.host(head)) {
            (Some(scheme), Some(host)) => format!("{scheme}://{host}{target}"),
            (None, Some(host)) if self.host.is_some() => format!("//{host}{target}"),
            _ => target,
        }
    }

    fn target(&self, head: &request::Parts) -> String {
        let path = self.path.as_deref().unwrap_or(head.uri.path());
        match head.uri.query() {
            Some(query) if !path.contains('?') => format!("{path}?{query}"),
            _ => path.to_owned(),
        }
    }

    fn host<'a>(&'a self, head: &'a request::Parts) -> Option<&'a str> {
        if let Some(host) = &self.host {
            return Some(host);
        }
        let host = host(head)?;
        let changes = self
            .scheme
            .as_deref()
            .is_some_and(|new| head.uri.scheme_str() != Some(new));
        let portless = host.strip_suffix(":80").or_else(|| host.strip_suffix(":443"));
        Some(portless.filter(|_| changes).unwrap_or(host))
    }
}

impl Direct {
    pub(super) fn new(action: &config::DirectResponse) -> Result<Self, ConfigError> {
        let status = StatusCode::from_u16(action.status).ok();
        let status = status
            .filter(|status| (200..600).contains(&status.as_u16()))
            .ok_or_else(|| {
                let message = format!("{} is no status; accepted: 200 to 599", action.status);
                ConfigError::new("status", message)
            })?;
        let body = action.body.clone().into();
        Ok(Self { status, body })
    }
}

fn redirect_status(code: u16) -> Result<StatusCode, ConfigError> {
    let status = StatusCode::from_u16(code).ok();
    status
        .filter(|status| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308))
        .ok_or_else(|| {
            let message = format!("{code} is no redirect; accepted: 301, 302, 303, 307, 308");
            ConfigError::new("response_code", message)
        })
}

fn given(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}
