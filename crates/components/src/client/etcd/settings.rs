//! How the nodes are reached, as a component's settings say it.

use std::{fmt, time::Duration};

use layotto_core::{Context, Error, Result, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use super::tls;
use crate::{client::tls::Tls, seconds::Seconds};

const PORT: u16 = 2379;
const PREFIX: &str = "/layotto/";

/// The settings of a component whose keys all lie under one prefix.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline, extend("required" = ["endpoints"]))]
pub struct Settings {
    /// The nodes, `host:port` each, parted by `;` or as a list. Another is used when one is away.
    pub endpoints: Endpoints,
    /// The longest wait for a connection to a node: whole seconds, or a duration such as `500ms`.
    /// Default 5.
    pub dial_timeout: Option<Seconds>,
    /// What all keys begin with; slashes are added at both ends. Default `/layotto/`.
    pub key_prefix_path: String,
    /// The user; none where the nodes need none.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// The certificates that the nodes' certificates must come from: a PEM file, or PEM itself.
    /// Default, where TLS is used: those that the system trusts.
    pub tls_ca: String,
    /// The client's certificate: a PEM file, or PEM itself.
    pub tls_cert: String,
    /// The key of the client's certificate: a PEM file, or PEM itself.
    pub tls_cert_key: Secret,
    /// Takes any certificate of a node: whoever is on the way can read and change everything. Use
    /// it in no production. Default false.
    pub tls_skip_verify: bool,
}

/// Nodes, as a text parted by `;` or as a list.
#[derive(Debug, Clone, Default)]
pub struct Endpoints(pub Vec<String>);

impl<'de> Deserialize<'de> for Endpoints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nodes;

        impl<'de> Visitor<'de> for Nodes {
            type Value = Endpoints;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nodes such as \"127.0.0.1:2379;127.0.0.1:2380\", or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoints, E> {
                Ok(Endpoints(parted(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Endpoints, A::Error> {
                let mut nodes = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    nodes.extend(parted(&text));
                }
                Ok(Endpoints(nodes))
            }
        }

        deserializer.deserialize_any(Nodes)
    }
}

fn parted(text: &str) -> Vec<String> {
    let nodes = text.split(';').map(str::trim).filter(|node| !node.is_empty());
    nodes.map(str::to_owned).collect()
}

impl JsonSchema for Endpoints {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoints".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": ["string", "array"], "items": {"type": "string"}})
    }

    fn inline_schema() -> bool {
        true
    }
}

impl Settings {
    /// What all keys begin with.
    pub(crate) fn prefix(&self) -> String {
        match self.key_prefix_path.trim_matches('/') {
            "" => PREFIX.to_owned(),
            path => format!("/{path}/"),
        }
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            return write!(f, "[{host}]:{port}");
        }
        write!(f, "{host}:{port}")
    }
}

/// Who the client is.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) name: String,
    pub(super) password: Secret,
}

/// Settings that were looked at.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) tls: Option<Tls>,
    pub(super) credentials: Option<Credentials>,
    pub(super) dial_timeout: Duration,
}

impl Target {
    /// Fails where the settings cannot be meant so; `key` is the name of the nodes' setting.
    pub(super) fn new(settings: &Settings, key: &str, cx: &Context) -> Result<Self> {
        let mut secure = false;
        let mut endpoints = Vec::new();
        for text in &settings.endpoints.0 {
            secure |= text.starts_with("https://");
            endpoints.push(endpoint(text).ok_or_else(|| {
                Error::invalid(format!("{key}: expected nodes such as \"127.0.0.1:2379\""))
            })?);
        }
        if endpoints.is_empty() {
            return Err(Error::invalid(format!("{key}: expected at least one node")));
        }
        let dial_timeout = settings
            .dial_timeout
            .map_or(Duration::from_secs(5), |Seconds(time)| time);
        if dial_timeout.is_zero() {
            return Err(Error::invalid("dialTimeout: expected more than 0"));
        }
        let credentials = (!settings.username.is_empty()).then(|| Credentials {
            name: settings.username.clone(),
            password: settings.password.clone(),
        });
        Ok(Self {
            endpoints,
            tls: tls::tls(settings, secure, cx)?,
            credentials,
            dial_timeout,
        })
    }

    /// A text that is equal for equal targets and shows none of their secrets.
    pub(super) fn fingerprint(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut add = |part: &str| {
            context.update(&part.len().to_le_bytes());
            context.update(part.as_bytes());
        };
        self.endpoints.iter().for_each(|node| add(&node.to_string()));
        add(&format!("{:?} {:?}", self.dial_timeout, self.tls.is_some()));
        if let Some(tls) = &self.tls {
            tls.parts().iter().for_each(|part| add(part));
        }
        if let Some(Credentials { name, password }) = &self.credentials {
            add(name);
            add(password.expose());
        }
        let digest = context.finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text)
        .trim_end_matches('/');
    let authority: http::uri::Authority = rest.parse().ok()?;
    if authority.as_str() != rest || rest.contains('@') || authority.host().is_empty() {
        return None;
    }
    let port = match rest.strip_prefix(authority.host())? {
        "" => PORT,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Some(Endpoint {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(settings: serde_json::Value) -> Result<Settings, String> {
        let serde_json::Value::Object(map) = settings else {
            unreachable!()
        };
        let parsed = layotto_core::Settings::new(map).parse::<Settings>();
        parsed
            .map(|parsed| parsed.config)
            .map_err(|error| error.to_string())
    }

    fn target(settings: serde_json::Value) -> Result<Target, String> {
        let settings = parsed(settings)?;
        let cx = Context::standalone("test", ".");
        Target::new(&settings, "endpoints", &cx).map_err(|error| error.to_string())
    }

    #[test]
    fn nodes_are_parted_by_semicolons_or_a_list() {
        let wanted = ["a:1", "[::1]:2379", "c:2379"];
        for nodes in [
            serde_json::json!("a:1; http://[::1]:2379/ ;c;"),
            serde_json::json!(["a:1", "[::1]", "http://c:2379"]),
        ] {
            let target = target(serde_json::json!({"endpoints": nodes})).unwrap();
            let found: Vec<_> = target.endpoints.iter().map(Endpoint::to_string).collect();
            assert_eq!(found, wanted);
            assert!(target.tls.is_none());
        }
    }

    #[test]
    fn what_is_no_node_is_refused() {
        for nodes in ["", ";", "a:b", "a:99999", "a:", "user@a:1", "a/b"] {
            let refused = target(serde_json::json!({"endpoints": nodes})).unwrap_err();
            assert!(refused.starts_with("endpoints: expected"), "{nodes:?}: {refused}");
        }
    }

    #[test]
    fn times_are_seconds_or_durations() {
        let time = |value: serde_json::Value| {
            target(serde_json::json!({"endpoints": "a", "dialTimeout": value}))
                .map(|target| target.dial_timeout)
        };
        assert_eq!(time("2".into()).unwrap(), Duration::from_secs(2));
        assert_eq!(time(3.into()).unwrap(), Duration::from_secs(3));
        assert_eq!(time("250ms".into()).unwrap(), Duration::from_millis(250));
        assert_eq!(time("".into()).unwrap(), Duration::from_secs(5));
        for wrong in ["-1", "soon", "0"] {
            assert!(time(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_has_slashes_at_both_ends() {
        for (path, prefix) in [
            ("", "/layotto/"),
            ("a/b", "/a/b/"),
            ("/a/", "/a/"),
            ("/", "/layotto/"),
        ] {
            let settings = parsed(serde_json::json!({"endpoints": "a", "keyPrefixPath": path})).unwrap();
            assert_eq!(settings.prefix(), prefix);
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let settings = serde_json::json!({"endpoints": "a", "username": "u", "password": "s3cret"});
        let target = target(settings).unwrap();
        assert!(!format!("{target:?} {}", target.fingerprint()).contains("s3cret"));
    }

    #[test]
    fn targets_that_differ_are_told_apart() {
        let of = |settings| target(settings).unwrap().fingerprint();
        let base = of(serde_json::json!({"endpoints": "a", "username": "u", "password": "p"}));
        assert_eq!(
            base,
            of(serde_json::json!({"endpoints": "a:2379", "username": "u", "password": "p"}))
        );
        for other in [
            serde_json::json!({"endpoints": "b", "username": "u", "password": "p"}),
            serde_json::json!({"endpoints": "a", "username": "u", "password": "q"}),
            serde_json::json!({"endpoints": "a", "username": "up", "password": ""}),
            serde_json::json!({"endpoints": "https://a", "username": "u", "password": "p"}),
        ] {
            assert_ne!(base, of(other.clone()), "{other}");
        }
    }
}
