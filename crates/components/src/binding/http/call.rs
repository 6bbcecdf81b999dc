//! One request: where it goes and what it carries, and how a redirect changes it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use layotto_core::{Error, ErrorKind, Metadata, Result, binding::Request};
use reqwest::Url;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Fields that frame the message or name its target; a caller does not choose them.
const OURS: [HeaderName; 5] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::CONNECTION,
];

/// Fields that stay behind when a redirect leaves the host.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// A request that is ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

impl Call {
    /// What `request` asks of the service at `base`, given as configured and as parsed.
    pub(super) fn new(request: Request, base: (&str, &Url)) -> Result<Self> {
        let method = super::method(&request.operation).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("invalid operation: {}", request.operation),
            )
        })?;
        let has_body = matches!(method, Method::POST | Method::PUT | Method::PATCH);
        Ok(Self {
            url: target(base, request.metadata.get("path").map(String::as_str))?,
            headers: headers(&method, has_body, &request.metadata)?,
            body: has_body.then_some(request.data),
            method,
        })
    }

    /// The call that `response` redirects to, if it does.
    pub(super) fn redirected(&self, response: &reqwest::Response) -> Option<Self> {
        let to_get = match response.status() {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
                !matches!(self.method, Method::GET | Method::HEAD)
            }
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
            _ => return None,
        };
        let location = response.headers().get(header::LOCATION)?;
        let url = self.url.join(location.to_str().ok()?).ok()?;
        let mut next = self.clone();
        if to_get {
            next.method = Method::GET;
            next.body = None;
            next.headers.remove(header::CONTENT_TYPE);
        }
        if url.host_str() != self.url.host_str() {
            CREDENTIALS
                .iter()
                .for_each(|name| drop(next.headers.remove(name)));
        }
        next.url = url;
        Some(next)
    }
}

/// The base with `path` appended. A path that would climb out of the base is refused, also where
/// the dots are escaped: the URL standard resolves those too.
fn target((text, base): (&str, &Url), path: Option<&str>) -> Result<Url> {
    let Some(path) = path else {
        return Ok(base.clone());
    };
    let refuse = || Error::invalid(format!("invalid path: {path}"));
    let full = format!("{}/{}", text.trim_end_matches('/'), path.trim_start_matches('/'));
    let url = Url::parse(&full).map_err(|_| refuse())?;
    let stays = url.origin() == base.origin() && url.path().starts_with(base.path().trim_end_matches('/'));
    if full.contains("..") || !stays {
        return Err(refuse());
    }
    Ok(url)
}

fn headers(method: &Method, has_body: bool, metadata: &Metadata) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, JSON);
    if has_body {
        headers.insert(header::CONTENT_TYPE, JSON);
    }
    if method == Method::HEAD {
        // Otherwise the client asks for gzip, and hides the length of a body that never comes.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let given = metadata
        .iter()
        .filter(|(key, _)| key.starts_with(char::is_uppercase));
    for (key, value) in given {
        let name = HeaderName::try_from(key)
            .map_err(|error| Error::invalid(format!("{key:?} is not a header name")).with_source(error))?;
        let value = HeaderValue::try_from(value).map_err(|error| {
            Error::invalid(format!(
                "the value of header {key} has line breaks or control characters"
            ))
            .with_source(error)
        })?;
        if !OURS.contains(&name) {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(base: &str, path: &str) -> Result<String> {
        let parsed = Url::parse(base).unwrap();
        target((base, &parsed), Some(path)).map(String::from)
    }

    #[test]
    fn paths_are_appended_with_one_slash() {
        assert_eq!(to("http://h", "rel").unwrap(), "http://h/rel");
        assert_eq!(to("http://h/", "//p?q=1").unwrap(), "http://h/p?q=1");
        assert_eq!(to("http://h/base", "/p q").unwrap(), "http://h/base/p%20q");
        assert_eq!(to("http://h", "@evil/").unwrap(), "http://h/@evil/");
    }

    #[test]
    fn paths_that_climb_are_refused() {
        for path in ["..", "/a/../b", "%2e%2e/admin", "x/%2E./%2e%2E/admin", ".%2e/"] {
            let error = to("http://h/base", path).unwrap_err();
            assert_eq!(error.message(), format!("invalid path: {path}"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_leaves_the_base(path in r"[a-z./\\@:?#%2eE]{0,24}") {
            if let Ok(url) = to("http://h/base", &path) {
                proptest::prop_assert!(url.starts_with("http://h/base"), "{}", url);
            }
        }
    }
}
