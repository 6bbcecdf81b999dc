//! Requests to one HTTP service, with the URL's host guarded.

mod allow;
mod call;
mod failure;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use layotto_core::{
    Component, Context, Error, ErrorKind, GoDuration, Metadata, Open, Result,
    binding::{Binding, Request, Response},
};
use reqwest::{Client, Url};
use rustls::crypto::CryptoProvider;
use schemars::JsonSchema;
use serde::Deserialize;

use self::{allow::Allow, call::Call};

/// The longest wait for a connection.
const DIAL: Duration = Duration::from_secs(5);
/// How much of the body of a failed request is passed on.
const EXCERPT: usize = 1024;
/// The most redirects followed, as in Go's client.
const REDIRECTS: usize = 10;

/// Sends requests to an HTTP service. Choose it to reach a web hook or an API outside of the
/// mesh; other services of the mesh are better called through service invocation.
#[derive(Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["url"]))]
pub struct HttpConfig {
    /// The service's base URL, `http` or `https`; the `path` of a call is appended.
    pub url: String,
    /// Where requests and redirects may go: host names, addresses, and networks such as
    /// `10.0.0.0/8`, which admit names that resolve into them too. Default: the host of `url`.
    pub allow: Vec<String>,
    /// The largest response body, in bytes. Default 8 MiB.
    pub max_response_bytes: usize,
    /// The longest time for a call, redirects and body included; more than 0. Default `10s`.
    pub timeout: GoDuration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            allow: Vec::new(),
            max_response_bytes: 8 << 20,
            timeout: GoDuration::from_millis(10_000),
        }
    }
}

/// The binding `http`. Not `Debug`: the URL may hold a password.
pub struct Http {
    url: String,
    base: Url,
    allow: Arc<Allow>,
    max_response_bytes: usize,
    timeout: Duration,
    /// Made at the first call, so that an unused component costs nothing.
    client: OnceLock<Client>,
}

impl Open for Http {
    const TYPE: &'static str = "http";
    type Config = HttpConfig;

    async fn open(config: HttpConfig, _: Context) -> Result<Self> {
        let base = Url::parse(&config.url).map_err(|error| {
            Error::invalid("url: expected a URL such as \"http://127.0.0.1:8080\"").with_source(error)
        })?;
        let host = base
            .host_str()
            .filter(|_| matches!(base.scheme(), "http" | "https"));
        let Some(host) = host else {
            return Err(Error::invalid("url: expected http:// or https:// and a host"));
        };
        if config.timeout.0.is_zero() {
            return Err(Error::invalid("timeout: expected a duration longer than 0"));
        }
        let allow = if config.allow.is_empty() {
            Allow::host(host)
        } else {
            Allow::parse(&config.allow)?
        };
        Ok(Self {
            allow: Arc::new(allow),
            max_response_bytes: config.max_response_bytes,
            timeout: config.timeout.0,
            client: OnceLock::new(),
            url: config.url,
            base,
        })
    }
}

#[async_trait]
impl Component for Http {}

#[async_trait]
impl Binding for Http {
    fn operations(&self) -> &'static [&'static str] {
        &[
            "create", "get", "head", "post", "put", "patch", "delete", "options", "trace",
        ]
    }

    async fn invoke(&self, request: Request) -> Result<Response> {
        let call = Call::new(request, (&self.url, &self.base))?;
        match tokio::time::timeout(self.timeout, self.exchange(&call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failure::timeout(&call.method, &call.url)),
        }
    }
}

impl Http {
    fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        if CryptoProvider::get_default().is_none() {
            // Another thread may be first, with the same provider.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(DIAL)
            .http1_title_case_headers()
            .user_agent(concat!("layotto/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(allow::Filtered::new(self.allow.clone()))
            .build()
            .map_err(|error| Error::internal("the HTTP client cannot be made").with_source(error))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Sends the call and follows redirects.
    async fn exchange(&self, call: &Call) -> Result<Response> {
        let mut hop = call.clone();
        for _ in 0..=REDIRECTS {
            self.allow.check(&hop.url)?;
            let response = self.send(&hop).await?;
            match hop.redirected(&response) {
                Some(next) => hop = next,
                None => return self.read(&hop, response).await,
            }
        }
        Err(failure::too_many_redirects(&call.method, &hop.url))
    }

    async fn send(&self, hop: &Call) -> Result<reqwest::Response> {
        let request = self
            .client()?
            .request(hop.method.clone(), hop.url.clone())
            .headers(hop.headers.clone());
        let request = match &hop.body {
            Some(body) => request.body(body.clone()),
            None => request,
        };
        let sent = request.send().await;
        sent.map_err(|error| failure::of_request(&hop.method, &hop.url, error))
    }

    async fn read(&self, hop: &Call, mut response: reqwest::Response) -> Result<Response> {
        let status = response.status();
        if !status.is_success() {
            let excerpt = self
                .body(hop, &mut response, EXCERPT, true)
                .await
                .unwrap_or_default();
            let text = format!("received status code {}", status.as_u16());
            return Err(Error::internal(text)
                .with_detail("status", status.as_u16().to_string())
                .with_detail("body", String::from_utf8_lossy(&excerpt)));
        }
        let metadata = describe(status, &response);
        let data = self
            .body(hop, &mut response, self.max_response_bytes, false)
            .await?;
        Ok(Response { data, metadata })
    }

    /// The body, of which more than `most` bytes are cut off or refused.
    async fn body(
        &self,
        hop: &Call,
        response: &mut reqwest::Response,
        most: usize,
        cut: bool,
    ) -> Result<Bytes> {
        let mut body = BytesMut::new();
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| failure::of_request(&hop.method, &hop.url, error))?
        {
            if body.len() + piece.len() <= most {
                body.extend_from_slice(&piece);
                continue;
            }
            if cut {
                body.extend(piece.iter().take(most - body.len()));
                break;
            }
            let text = format!("the response is larger than maxResponseBytes, {most}");
            return Err(Error::new(ErrorKind::ResourceExhausted, text));
        }
        Ok(body.freeze())
    }
}

fn describe(status: StatusCode, response: &reqwest::Response) -> Metadata {
    let said = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let reason = match said {
        Some(said) => String::from_utf8_lossy(said.as_bytes()).into_owned(),
        None => status.canonical_reason().unwrap_or_default().to_owned(),
    };
    let mut metadata = headers(response.headers());
    metadata.insert("statusCode".to_owned(), status.as_u16().to_string());
    metadata.insert("status".to_owned(), format!("{} {reason}", status.as_u16()));
    metadata
}

/// Header fields under their names as Go writes them, repeated ones joined.
fn headers(map: &HeaderMap) -> Metadata {
    let names = map.keys().filter(|name| **name != header::TRANSFER_ENCODING);
    let joined = names.map(|name| {
        let values = map.get_all(name).iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        (canonical(name.as_str()), values.join(", "))
    });
    joined.collect()
}

fn canonical(name: &str) -> String {
    let mut start = true;
    let letter = |letter: char| {
        let upper = std::mem::replace(&mut start, letter == '-');
        if upper {
            letter.to_ascii_uppercase()
        } else {
            letter
        }
    };
    name.chars().map(letter).collect()
}

/// `create` is upstream's older name of `post`.
fn method(operation: &str) -> Option<Method> {
    Some(match operation {
        "create" | "post" => Method::POST,
        "get" => Method::GET,
        "head" => Method::HEAD,
        "put" => Method::PUT,
        "patch" => Method::PATCH,
        "delete" => Method::DELETE,
        "options" => Method::OPTIONS,
        "trace" => Method::TRACE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
