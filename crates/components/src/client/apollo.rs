//! Apollo over HTTP: its configuration service, which is read and watched, and its open API, which
//! writes.

mod signature;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use layotto_core::{Error, ErrorKind, Result, Secret};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, header};
use rustls::crypto::CryptoProvider;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::pace::{Backoff, Turns};

/// The most bytes taken of an answer: a namespace is a text of 20,000 characters by default, of
/// which an administrator may permit more.
const LARGEST_ANSWER: usize = 16 << 20;
/// Longer than the service waits for a change before it says that there is none.
const LONG_POLL: Duration = Duration::from_secs(90);
/// Environments beside this one cannot be written, as with Go Layotto.
const ENVIRONMENT: &str = "DEV";
const EXCERPT: usize = 200;
/// While the service cannot be reached, one call in this time tries again.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_millis(200));

/// Where Apollo is, and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The configuration service, or a meta server that knows where it is.
    pub(crate) address: Url,
    pub(crate) app_id: String,
    pub(crate) cluster: String,
    /// The access key that requests of the configuration service are signed with.
    pub(crate) secret: Option<Secret>,
    pub(crate) open_api: Url,
    pub(crate) token: Secret,
    /// In whose name changes are made.
    pub(crate) user: String,
    /// The longest wait for a connection, and for an answer but that of the long poll.
    pub(crate) timeout: Duration,
}

/// A client of one Apollo.
pub(crate) struct Apollo {
    target: Target,
    /// Made at the first call, so that an unused component costs nothing.
    http: OnceLock<Client>,
    /// The configuration services, once they are known. Held while a meta server is asked for them,
    /// so that many callers ask once.
    services: Mutex<Option<Vec<Url>>>,
    /// Of each address that was away once.
    turns: std::sync::Mutex<HashMap<String, Turns>>,
}

/// The released items of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Release {
    /// Which release; empty where there is none.
    pub(crate) key: String,
    pub(crate) items: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    #[serde(default)]
    configurations: BTreeMap<String, String>,
    #[serde(default)]
    release_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    namespace_name: String,
    notification_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    homepage_url: String,
}

impl Apollo {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            http: OnceLock::new(),
            services: Mutex::default(),
            turns: std::sync::Mutex::default(),
        }
    }

    /// Whether something listens where the configuration service should be.
    pub(crate) async fn ping(&self) -> Result<()> {
        let Target { address, timeout, .. } = &self.target;
        let host = address.host_str().unwrap_or_default();
        let port = address.port_or_known_default().unwrap_or_default();
        let dial = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port));
        match tokio::time::timeout(*timeout, dial).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(away(&crate::os_text::os_text(&error))),
            Err(_) => Err(away("no answer")),
        }
    }

    /// The last release of a namespace; `None` where it is still `known`.
    pub(crate) async fn read(&self, namespace: &str, known: &str) -> Result<Option<Release>> {
        let Target { app_id, cluster, .. } = &self.target;
        let path = ["configs", app_id, cluster, namespace];
        let query = [("releaseKey", known)];
        let query = if known.is_empty() { &[][..] } else { &query[..] };
        let answer = self.ask_service(&path, query, self.target.timeout).await?;
        match answer.status() {
            StatusCode::NOT_MODIFIED => return Ok(None),
            // A namespace without a release.
            StatusCode::NOT_FOUND => return Ok(Some(Release::default())),
            _ => {}
        }
        let found: Configuration = parsed(accepted(answer).await?).await?;
        Ok(Some(Release {
            key: found.release_key,
            items: found.configurations,
        }))
    }

    /// Waits until a namespace has a release after the notification `known`, -1 for any; `None`
    /// where the service grows tired of waiting.
    pub(crate) async fn wait_for_release(&self, namespace: &str, known: i64) -> Result<Option<i64>> {
        let Target { app_id, cluster, .. } = &self.target;
        let asked = json!([{"namespaceName": namespace, "notificationId": known}]).to_string();
        let query = [
            ("appId", app_id.as_str()),
            ("cluster", cluster),
            ("notifications", &asked),
        ];
        let answer = self
            .ask_service(&["notifications", "v2"], &query, LONG_POLL)
            .await?;
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let news: Vec<Notification> = parsed(accepted(answer).await?).await?;
        let found = news.iter().find(|one| one.namespace_name == namespace);
        Ok(found.map(|one| one.notification_id))
    }

    /// Asks one configuration service after the other, until one can be reached.
    async fn ask_service(&self, path: &[&str], query: &[(&str, &str)], limit: Duration) -> Result<Response> {
        let (mut lost, mut was_asked) = (None, false);
        for base in self.services().await? {
            let url = place(&base, path, query)?;
            if let Err(error) = self.check_turn(&url) {
                lost = lost.or(Some(error));
                continue;
            }
            was_asked = true;
            let mut request = self.http()?.request(Method::GET, url.clone());
            if let Some(secret) = &self.target.secret {
                for (name, value) in signature::headers(&self.target.app_id, secret, &url) {
                    request = request.header(name, value);
                }
            }
            let given_up = GivenUp {
                services: &self.services,
                base: &base,
            };
            match self.send(request, limit).await {
                Ok(answer) if is_away(answer.status()) => lost = Some(refused(answer).await),
                Ok(answer) => {
                    std::mem::forget(given_up);
                    return Ok(answer);
                }
                Err(error) => lost = Some(error),
            }
        }
        if was_asked {
            // They may have moved.
            *self.services.lock().await = None;
        }
        Err(lost.unwrap_or_else(|| away("there is no service")))
    }

    /// The configuration services: those that the address names, where it is a meta server; else
    /// the address itself.
    async fn services(&self) -> Result<Vec<Url>> {
        let mut known = self.services.lock().await;
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let url = place(
            &self.target.address,
            &["services", "config"],
            &[("appId", &self.target.app_id)],
        )?;
        self.check_turn(&url)?;
        let answer = self.send(self.http()?.get(url), self.target.timeout).await;
        let named = match answer {
            Ok(answer) if answer.status() == StatusCode::OK => parsed::<Vec<Service>>(answer).await.ok(),
            Ok(_) => None,
            Err(error) => return Err(error),
        };
        let named = named.unwrap_or_default().into_iter();
        let mut services: Vec<_> = named
            .filter_map(|service| Url::parse(&service.homepage_url).ok())
            .collect();
        if services.is_empty() {
            services.push(self.target.address.clone());
        }
        let count = services.len();
        services.rotate_left(fastrand::usize(..count));
        *known = Some(services.clone());
        Ok(services)
    }

    /// Writes an item of a namespace, which shows when it is released. `NotFound` where there is no
    /// such namespace.
    pub(crate) async fn put(&self, app_id: &str, namespace: &str, key: &str, value: &str) -> Result<()> {
        let path = ["items", key];
        let body = json!({
            "key": key,
            "value": value,
            "dataChangeCreatedBy": self.target.user,
            "dataChangeLastModifiedBy": self.target.user,
        });
        let query = [("createIfNotExists", "true")];
        let url = self.namespace(app_id, namespace, &path, &query)?;
        self.change(Method::PUT, url, Some(body)).await
    }

    /// Removes an item of a namespace, which shows when it is released. `NotFound` where there is
    /// none.
    pub(crate) async fn remove(&self, app_id: &str, namespace: &str, key: &str) -> Result<()> {
        let query = [("key", key), ("operator", self.target.user.as_str())];
        let url = self.namespace(app_id, namespace, &["items", key], &query)?;
        self.change(Method::DELETE, url, None).await
    }

    /// Releases a namespace as it was written.
    pub(crate) async fn release(&self, app_id: &str, namespace: &str) -> Result<()> {
        let body = json!({
            "releaseTitle": chrono::Local::now().format("%m-%d-%Y").to_string(),
            "releasedBy": self.target.user,
        });
        let url = self.namespace(app_id, namespace, &["releases"], &[])?;
        self.change(Method::POST, url, Some(body)).await
    }

    /// Makes a namespace where there is none.
    pub(crate) async fn create(&self, app_id: &str, namespace: &str) -> Result<()> {
        let path = ["openapi", "v1", "apps", app_id, "appnamespaces"];
        let body = json!({
            "name": namespace,
            "appId": app_id,
            "format": "properties",
            "isPublic": "false",
            "dataChangeCreatedBy": self.target.user,
        });
        let url = place(&self.target.open_api, &path, &[])?;
        match self.change(Method::POST, url, Some(body)).await {
            // There is one.
            Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(()),
            other => other,
        }
    }

    fn namespace(&self, app_id: &str, namespace: &str, rest: &[&str], query: &[(&str, &str)]) -> Result<Url> {
        let path = [
            "openapi",
            "v1",
            "envs",
            ENVIRONMENT,
            "apps",
            app_id,
            "clusters",
            &self.target.cluster,
            "namespaces",
            namespace,
        ];
        place(&self.target.open_api, &[&path, rest].concat(), query)
    }

    async fn change(&self, method: Method, url: Url, body: Option<Value>) -> Result<()> {
        self.check_turn(&url)?;
        let mut request = self
            .http()?
            .request(method, url)
            .header(header::AUTHORIZATION, self.target.token.expose());
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json;charset=UTF-8")
                .body(body.to_string());
        }
        accepted(self.send(request, self.target.timeout).await?)
            .await
            .map(drop)
    }

    /// Fails, with what the last try failed with, while the service at `url` is away and it is
    /// another caller's turn to try.
    fn check_turn(&self, url: &Url) -> Result<()> {
        let turns = self.turns();
        let checked = turns.get(&origin(url)).map_or(Ok(()), Turns::check);
        checked.map_err(|reason| away(&reason))
    }

    /// Sends a request; any status is an answer. A service that gives none within `limit` is as good
    /// as one that cannot be reached.
    async fn send(&self, request: RequestBuilder, limit: Duration) -> Result<Response> {
        let (client, request) = request.timeout(limit).build_split();
        let request =
            request.map_err(|error| Error::internal("the request cannot be made").with_source(error))?;
        let origin = origin(request.url());
        let outcome = client.execute(request).await.map_err(reqwest::Error::without_url);
        let error = match outcome {
            Ok(answer) => {
                if let Some(turns) = self.turns().get(&origin) {
                    turns.succeeded();
                }
                return Ok(answer);
            }
            Err(error) => error,
        };
        let reason = reason(&error);
        if error.is_connect() || error.is_timeout() {
            let mut turns = self.turns();
            let turns = turns.entry(origin).or_insert_with(|| Turns::new(AGAIN));
            turns.failed(&reason);
        }
        Err(away(&reason).with_source(error))
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<String, Turns>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn http(&self) -> Result<&Client> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        if CryptoProvider::get_default().is_none() {
            // Another thread may be first, with the same provider.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(self.target.timeout)
            .user_agent(concat!("layotto/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::internal("the HTTP client cannot be made").with_source(error))?;
        Ok(self.http.get_or_init(|| client))
    }
}

/// Dropped where a service gives no good answer, or its caller gives up waiting, perhaps long before
/// our own limit: from then on others are asked first.
struct GivenUp<'a> {
    services: &'a Mutex<Option<Vec<Url>>>,
    base: &'a Url,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if let Ok(mut services) = self.services.try_lock()
            && let Some(services) = &mut *services
            && services.first() == Some(self.base)
        {
            services.rotate_left(1);
        }
    }
}

/// Refuses a name that no path can hold, whatever is done to it.
pub(crate) fn check(name: &str) -> Result<()> {
    match name {
        "" | "." | ".." => Err(Error::invalid(
            "Apollo takes no empty name, no \".\" and no \"..\"",
        )),
        _ => Ok(()),
    }
}

/// `base` with `path`, each part of it escaped, and `query`.
fn place(base: &Url, path: &[&str], query: &[(&str, &str)]) -> Result<Url> {
    path.iter().try_for_each(|part| check(part))?;
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| Error::internal("invariant: the address has a host"))?
        .pop_if_empty()
        .extend(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn away(reason: &str) -> Error {
    Error::unavailable(format!("Apollo cannot be reached: {reason}"))
}

/// What the system or the other side said, without the library's words around it.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.downcast_ref() {
        Some(system) => crate::os_text::os_text(system),
        None if error.is_timeout() => "no answer".to_owned(),
        None => cause.to_string(),
    }
}

/// Another service may do better.
fn is_away(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

async fn accepted(answer: Response) -> Result<Response> {
    match answer.status().is_success() {
        true => Ok(answer),
        false => Err(refused(answer).await),
    }
}

/// The error that a status stands for, with the beginning of what was said.
async fn refused(answer: Response) -> Error {
    let status = answer.status();
    let kind = match status {
        StatusCode::BAD_REQUEST => ErrorKind::InvalidArgument,
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthenticated,
        StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::ResourceExhausted,
        _ if is_away(status) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let said = body(answer).await.unwrap_or_default();
    let said: String = String::from_utf8_lossy(&said).chars().take(EXCERPT).collect();
    Error::new(kind, format!("Apollo answered {}: {said}", status.as_u16()))
}

async fn parsed<T: DeserializeOwned>(answer: Response) -> Result<T> {
    let text = body(answer).await?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::internal("Apollo answered something else than expected").with_source(error))
}

async fn body(mut answer: Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let piece = answer.chunk().await.map_err(reqwest::Error::without_url);
        match piece.map_err(|error| away(&reason(&error)).with_source(error))? {
            Some(piece) if body.len() + piece.len() <= LARGEST_ANSWER => body.extend_from_slice(&piece),
            Some(_) => {
                let text = "an answer of Apollo is larger than 16 MiB";
                return Err(Error::new(ErrorKind::ResourceExhausted, text));
            }
            None => return Ok(body),
        }
    }
}
