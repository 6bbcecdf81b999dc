//! A stand-in for Apollo: releases with keys of their own, 304, signatures, and the open API.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use percent_encoding::percent_decode_str;
use ring::hmac;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use crate::http_server::{Incoming, Received, RequestReader, accept};

/// How long a reader waits for news before it is told that there are none.
const PATIENCE: Duration = Duration::from_secs(2);

/// The token of its open API.
const TOKEN: &str = "s3cret-token";

/// A running stand-in; dropping it closes its port and its connections. It has the namespaces
/// `application` and `sidecar_config_tags`, and those that are made over the open API.
#[derive(Debug)]
pub struct StandIn {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    apollo: Arc<Apollo>,
    serving: Option<AbortOnDropHandle<()>>,
}

#[derive(Debug, Default)]
struct Apollo {
    state: Mutex<State>,
    releases: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: HashMap<String, Namespace>,
    /// Releases so far, of all namespaces.
    releases: u64,
    /// What readers sign with.
    secret: Option<String>,
    /// What the meta server names.
    services: Option<Vec<String>>,
    /// Requests so far: method, path and query, status.
    requests: Vec<(String, String, u16)>,
    /// Fails every write with this status.
    broken: Option<u16>,
}

#[derive(Debug, Default)]
struct Namespace {
    draft: BTreeMap<String, String>,
    released: BTreeMap<String, String>,
    release: u64,
}

impl StandIn {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// Where loopback cannot be listened on.
    pub async fn start() -> Self {
        let apollo = Arc::new(Apollo::default());
        for namespace in ["application", "sidecar_config_tags"] {
            apollo.state().namespaces.entry(namespace.to_owned()).or_default();
        }
        let address = crate::process::free_address();
        let mut started = Self {
            address,
            apollo,
            serving: None,
        };
        started.resume().await;
        started
    }

    /// Its base URL, of all of its services.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The token that its open API takes.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// Takes readers' signatures with `secret` and nothing else.
    pub fn sign_with(&self, secret: &str) {
        self.apollo.state().secret = Some(secret.to_owned());
    }

    /// Names `services` as a meta server does.
    pub fn name_services(&self, services: &[String]) {
        self.apollo.state().services = Some(services.to_vec());
    }

    /// Answers every write with `status`.
    pub fn break_writes(&self, status: Option<u16>) {
        self.apollo.state().broken = status;
    }

    /// Writes and releases an item, as a person does in the portal.
    pub fn publish(&self, namespace: &str, key: &str, value: &str) {
        let mut state = self.apollo.state();
        let there = state.namespaces.entry(namespace.to_owned()).or_default();
        there.draft.insert(key.to_owned(), value.to_owned());
        drop(state);
        self.apollo.release(namespace);
    }

    /// Deletes a namespace, as a person does in the portal.
    pub fn drop_namespace(&self, namespace: &str) {
        self.apollo.state().namespaces.remove(namespace);
    }

    /// What is released of a namespace.
    pub fn released(&self, namespace: &str) -> BTreeMap<String, String> {
        let state = self.apollo.state();
        state
            .namespaces
            .get(namespace)
            .map(|there| there.released.clone())
            .unwrap_or_default()
    }

    /// Requests so far: method, path and query, status.
    pub fn requests(&self) -> Vec<(String, String, u16)> {
        self.apollo.state().requests.clone()
    }

    /// Closes its port and its connections; what it holds stays.
    pub fn kill(&mut self) {
        self.serving = None;
    }

    /// Listens again.
    ///
    /// # Panics
    /// Where its port was taken meanwhile.
    pub async fn resume(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                // What was served before ends in a moment.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => tokio::task::yield_now().await,
                Err(error) => panic!("a test needs a port on loopback: {error}"),
            }
        };
        let apollo = Arc::clone(&self.apollo);
        let serving = accept(listener, move |stream| serve(stream, Arc::clone(&apollo)));
        self.serving = Some(AbortOnDropHandle::new(tokio::spawn(serving)));
    }
}

async fn serve(mut stream: TcpStream, apollo: Arc<Apollo>) {
    let (read, mut write) = stream.split();
    let mut requests = RequestReader::new(read);
    while let Incoming::Request(request) = requests.next().await {
        let (status, body) = apollo.answer(&request).await;
        apollo
            .state()
            .requests
            .push((request.method.clone(), request.target.clone(), status));
        let body = if status == 304 {
            String::new()
        } else {
            body.to_string()
        };
        let head = format!(
            "HTTP/1.1 {status} said\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if write.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

type Answer = (u16, Value);

fn no(status: u16, why: &str) -> Answer {
    (status, json!({"status": status, "message": why}))
}

impl Apollo {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, namespace: &str) {
        let mut state = self.state();
        state.releases += 1;
        let release = state.releases;
        if let Some(there) = state.namespaces.get_mut(namespace) {
            there.released = there.draft.clone();
            there.release = release;
        }
        drop(state);
        self.releases.send_modify(|count| *count += 1);
    }

    async fn answer(&self, request: &Received) -> Answer {
        let parts: Vec<_> = request.path().split('/').skip(1).map(decode).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let query = query(&request.target);
        let ask = |key: &str| query.get(key).map_or("", String::as_str);
        match parts[..] {
            ["services", "config"] => self.services(),
            ["configs", app, cluster, namespace] => match self.check_signature(request) {
                Some(refused) => refused,
                None => self.configuration(app, cluster, namespace, ask("releaseKey")),
            },
            ["notifications", "v2"] => match self.check_signature(request) {
                Some(refused) => refused,
                None => self.wait(ask("notifications")).await,
            },
            ["openapi", "v1", ref rest @ ..] => self.change(request, rest, &query),
            _ => no(404, "no such path"),
        }
    }

    fn services(&self) -> Answer {
        let Some(services) = self.state().services.clone() else {
            return no(404, "no meta server");
        };
        let services = services
            .iter()
            .map(|url| json!({"appName": "config", "homepageUrl": url}));
        (200, services.collect())
    }

    fn check_signature(&self, request: &Received) -> Option<Answer> {
        let secret = self.state().secret.clone()?;
        let time = request.header("timestamp").unwrap_or_default();
        let text = format!("{time}\n{}", request.target);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let given = request.header("authorization").unwrap_or_default();
        let given = given.strip_prefix("Apollo app1:").unwrap_or_default();
        let given = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, given).ok()?;
        let fits = hmac::verify(&key, text.as_bytes(), &given).is_ok();
        (!fits).then(|| no(401, "the signature is wrong"))
    }

    fn configuration(&self, app: &str, cluster: &str, namespace: &str, known: &str) -> Answer {
        let state = self.state();
        let there = state.namespaces.get(namespace).filter(|there| there.release > 0);
        let Some(there) = there else {
            return no(404, "no release");
        };
        let key = format!("release-{}", there.release);
        if key == known {
            return (304, Value::Null);
        }
        let body = json!({
            "appId": app, "cluster": cluster, "namespaceName": namespace,
            "configurations": there.released, "releaseKey": key,
        });
        (200, body)
    }

    async fn wait(&self, asked: &str) -> Answer {
        let asked: Vec<Value> = serde_json::from_str(asked).unwrap_or_default();
        let news = || -> Option<Value> {
            let state = self.state();
            let news = asked.iter().filter_map(|one| {
                let name = one["namespaceName"].as_str()?;
                let release = state.namespaces.get(name)?.release;
                let is_news = release > 0 && one["notificationId"].as_i64() != i64::try_from(release).ok();
                is_news.then(|| json!({"namespaceName": name, "notificationId": release}))
            });
            let news: Vec<_> = news.collect();
            (!news.is_empty()).then(|| news.into())
        };
        let mut releases = self.releases.subscribe();
        let waited = timeout(PATIENCE, async {
            loop {
                releases.borrow_and_update();
                if let Some(news) = news() {
                    return news;
                }
                if releases.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        waited.await.map_or((304, Value::Null), |news| (200, news))
    }

    fn change(&self, request: &Received, parts: &[&str], query: &HashMap<String, String>) -> Answer {
        if request.header("authorization") != Some(TOKEN) {
            return no(401, "the token is wrong");
        }
        if let Some(status) = self.state().broken {
            return no(status, "out of order");
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        match (request.method.as_str(), parts) {
            ("POST", ["apps", _, "appnamespaces"]) => {
                let mut state = self.state();
                if state.namespaces.contains_key(&text("name")) {
                    return no(400, "there is such a namespace");
                }
                state.namespaces.insert(text("name"), Namespace::default());
                (200, body)
            }
            (
                "POST",
                [
                    "envs",
                    "DEV",
                    "apps",
                    _,
                    "clusters",
                    _,
                    "namespaces",
                    namespace,
                    "releases",
                ],
            ) => {
                if text("releaseTitle").len() != "MM-DD-YYYY".len() || text("releasedBy").is_empty() {
                    return no(400, "no title, or nobody's");
                }
                if !self.state().namespaces.contains_key(*namespace) {
                    return no(404, "no such namespace");
                }
                self.release(namespace);
                (200, json!({}))
            }
            (
                method,
                [
                    "envs",
                    "DEV",
                    "apps",
                    _,
                    "clusters",
                    _,
                    "namespaces",
                    namespace,
                    "items",
                    key,
                ],
            ) => {
                let mut state = self.state();
                let Some(there) = state.namespaces.get_mut(*namespace) else {
                    return no(404, "no such namespace");
                };
                match method {
                    "PUT" if text("key") != **key || text("dataChangeLastModifiedBy").is_empty() => {
                        no(400, "another key, or nobody's")
                    }
                    "PUT" => {
                        there.draft.insert((*key).to_owned(), text("value"));
                        (200, json!({}))
                    }
                    "DELETE" if query.get("operator").is_none_or(String::is_empty) => no(400, "nobody's"),
                    "DELETE" => match there.draft.remove(*key) {
                        Some(_) => (200, json!({})),
                        None => no(404, "no such item"),
                    },
                    _ => no(405, "no such method"),
                }
            }
            _ => no(404, "no such path"),
        }
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn query(target: &str) -> HashMap<String, String> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let decoded = pairs.map(|(name, value)| (decode(name), decode(&value.replace('+', " "))));
    decoded.collect()
}
