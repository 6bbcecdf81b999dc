//! Rewrites the path and the host of requests.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, request, uri};
use regex::Regex;

use super::{
    config::ForwardAction,
    from_text,
    host::{is_host, set_host},
    path::{Path, encode},
    rule::{PathRule, compile},
};
use crate::config::ConfigError;

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-mosn-original-path");

/// What is rewritten.
#[derive(Debug, Default)]
pub(super) struct Rewrite {
    path: Option<PathRewrite>,
    host: Option<HostRewrite>,
}

#[derive(Debug)]
enum PathRewrite {
    /// Replaces so many bytes at the beginning.
    Prefix(usize, Box<str>),
    Whole(Box<str>),
    Regex(Regex, Box<str>),
}

#[derive(Debug)]
enum HostRewrite {
    Fixed(Box<str>),
    Header(HeaderName),
}

impl Rewrite {
    /// What `action` wants rewritten, in a route that `path` leads to.
    pub(super) fn new(action: &ForwardAction, path: &PathRule) -> Result<Self, ConfigError> {
        Ok(Self {
            path: PathRewrite::new(action, path)?,
            host: HostRewrite::new(action)?,
        })
    }

    /// Whether the host is settled here.
    pub(super) fn settles_host(&self) -> bool {
        self.host.is_some()
    }

    /// Rewrites a request.
    pub(super) fn apply(&self, head: &mut request::Parts) {
        match &self.host {
            Some(HostRewrite::Fixed(host)) => set_host(head, host),
            Some(HostRewrite::Header(name)) => {
                if let Some(host) = head.headers.get(name).cloned() {
                    set_host(head, host.to_str().unwrap_or_default());
                }
            }
            None => {}
        }
        let path = Path::of(head.uri.path());
        let new = match &self.path {
            Some(rewrite) => rewrite.apply(&path),
            // Else a server might resolve them in a way of its own, past the route.
            None if path.had_dots() => Some(encode(path.text()).into_owned()),
            None => None,
        };
        if let Some(new) = new {
            set_path(head, &new);
        }
    }
}

impl PathRewrite {
    fn new(action: &ForwardAction, path: &PathRule) -> Result<Option<Self>, ConfigError> {
        if !action.prefix_rewrite.is_empty() {
            let to = check_path(&action.prefix_rewrite)?;
            return match path {
                PathRule::Prefix(prefix) => Ok(Some(Self::Prefix(prefix.len(), to))),
                PathRule::Exact(_) => Ok(Some(Self::Whole(to))),
                _ => Err(ConfigError::new(
                    "prefix_rewrite",
                    "needs a match by prefix or path",
                )),
            };
        }
        let Some(rewrite) = &action.regex_rewrite else {
            return Ok(None);
        };
        if rewrite.pattern.regex.is_empty() {
            return Err(ConfigError::new("regex_rewrite.pattern.regex", "is missing"));
        }
        let regex = compile(&rewrite.pattern.regex, "regex_rewrite.pattern.regex")?;
        Ok(Some(Self::Regex(regex, rewrite.substitution.as_str().into())))
    }

    /// The new path, encoded; `None`: it stays.
    fn apply(&self, path: &Path<'_>) -> Option<String> {
        match self {
            Self::Prefix(len, to) => Some(join(to, &path.rest(*len))),
            Self::Whole(to) => Some(to.to_string()),
            Self::Regex(regex, to) => match regex.replace_all(path.text(), &**to) {
                Cow::Borrowed(_) if !path.had_dots() => None,
                new => Some(encode(Path::of_decoded(&new).text()).into_owned()),
            },
        }
    }
}

impl HostRewrite {
    fn new(action: &ForwardAction) -> Result<Option<Self>, ConfigError> {
        match (
            action.host_rewrite.as_str(),
            action.auto_host_rewrite_header.as_str(),
        ) {
            ("", "") => Ok(None),
            ("", name) => {
                let name = from_text(name, "auto_host_rewrite_header", "a header's name")?;
                Ok(Some(Self::Header(name)))
            }
            (host, _) if is_host(host) => Ok(Some(Self::Fixed(host.into()))),
            (host, _) => Err(ConfigError::new("host_rewrite", format!("{host:?} is no host"))),
        }
    }
}

fn check_path(path: &str) -> Result<Box<str>, ConfigError> {
    let parsed = path.parse::<uri::PathAndQuery>();
    match parsed.is_ok_and(|parsed| parsed.as_str() == path && parsed.query().is_none()) {
        true if path.starts_with('/') => Ok(path.into()),
        _ => Err(ConfigError::new(
            "prefix_rewrite",
            format!("{path:?} is no path; accepted: /…, percent-encoded, without a query"),
        )),
    }
}

/// Puts `rest` behind `to`, with one slash between them where both have one.
fn join(to: &str, rest: &str) -> String {
    let joined = match to.strip_suffix('/') {
        Some(to) if rest.starts_with('/') => format!("{to}{rest}"),
        _ => format!("{to}{rest}"),
    };
    if !Path::of(&joined).had_dots() {
        return joined;
    }
    // The prefix ended inside a segment, as `/a` does in `/a../b`: what is left must not climb out
    // of `to`.
    let inside = format!("/{rest}");
    format!("{}{}", to.trim_end_matches('/'), encode(Path::of(&inside).text()))
}

/// Sets the path, keeps the query, and the old path in a header. A path that is none changes
/// nothing.
fn set_path(head: &mut request::Parts, path: &str) {
    let old = head.uri.path();
    let target = match head.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let (Ok(target), Ok(original)) = (target.parse(), HeaderValue::from_str(old)) else {
        return;
    };
    if path == old {
        return;
    }
    let mut parts = head.uri.clone().into_parts();
    parts.path_and_query = Some(target);
    if let Ok(uri) = uri::Uri::from_parts(parts) {
        head.uri = uri;
        head.headers.insert(ORIGINAL_PATH, original);
    }
}
