//! The configuration of the network filter `proxy`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    config::{ConfigError, Fate, OtherKey},
    listener, upstream,
};

/// Keys of upstream's that [`ProxyConfig`] does not take.
pub const OTHER_KEYS: &[OtherKey] = &[
    OtherKey {
        path: "name",
        fate: Fate::Ignored,
        why: "upstream never reads it",
    },
    OtherKey {
        path: "router_handler_name",
        fate: Fate::Ignored,
        why: "there is one handler",
    },
    OtherKey {
        path: "concurrency_num",
        fate: Fate::Ignored,
        why: "requests are tasks, not workers",
    },
    OtherKey {
        path: "fallback_for_unknown_protocol",
        fate: Fate::Later,
        why: "bytes of an unknown protocol end the connection",
    },
    OtherKey {
        path: "extend_config.Http2.http2_use_stream",
        fate: Fate::Ignored,
        why: "bodies always stream",
    },
    OtherKey {
        path: "extend_config.bolt",
        fate: Fate::Later,
        why: "the protocol bolt is not spoken",
    },
];

/// Network filter `proxy`: requests are routed to clusters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProxyConfig {
    /// What clients speak: `Http1`, `Http2`, several with commas between them, or `Auto`, which
    /// tells by the first bytes. Default `Auto`.
    pub downstream_protocol: String,
    /// What hosts speak, where the route does not say: `Http1`, `Http2`, or `Auto` and nothing for
    /// the client's protocol. Default `Auto`.
    pub upstream_protocol: String,
    /// Which of `routers[]` routes the requests. Without such a router every request is answered
    /// 404. Default none.
    pub router_config_name: String,
    /// Settings per protocol.
    pub extend_config: Protocols,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            downstream_protocol: "Auto".to_owned(),
            upstream_protocol: "Auto".to_owned(),
            router_config_name: String::new(),
            extend_config: Protocols::default(),
        }
    }
}

/// Settings per protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Protocols {
    /// Settings of HTTP/1.1.
    #[serde(rename = "Http1")]
    pub http1: Http1,
    /// Settings of HTTP/2.
    #[serde(rename = "Http2")]
    pub http2: Http2,
}

/// Settings of HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Http1 {
    /// The longest head of a request, in bytes; at least 8192. Default 65536.
    pub max_header_size: u32,
    /// The longest body of a request, in bytes; 0: any, as bodies stream. Default 0.
    pub max_request_body_size: u64,
}

impl Default for Http1 {
    fn default() -> Self {
        Self {
            max_header_size: 64 * 1024,
            max_request_body_size: 0,
        }
    }
}

/// Settings of HTTP/2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Http2 {}

impl ProxyConfig {
    /// The protocols that clients may speak.
    pub fn downstream(&self) -> Result<listener::Protocol, ConfigError> {
        let mut spoken = self.downstream_protocol.split(',').map(str::trim).peekable();
        if spoken.peek().is_none_or(|first| first.is_empty()) {
            return Ok(listener::Protocol::Auto);
        }
        let (mut http1, mut http2) = (false, false);
        for name in spoken {
            match name {
                "Auto" => (http1, http2) = (true, true),
                "Http1" => http1 = true,
                "Http2" => http2 = true,
                other => return Err(unknown("downstream_protocol", other)),
            }
        }
        Ok(match (http1, http2) {
            (true, false) => listener::Protocol::Http1,
            (false, true) => listener::Protocol::Http2,
            _ => listener::Protocol::Auto,
        })
    }

    /// The protocol that hosts speak; `None`: the client's.
    pub fn upstream(&self) -> Result<Option<upstream::Protocol>, ConfigError> {
        match self.upstream_protocol.as_str() {
            "" | "Auto" => Ok(None),
            "Http1" => Ok(Some(upstream::Protocol::Http1)),
            "Http2" => Ok(Some(upstream::Protocol::Http2)),
            other => Err(unknown("upstream_protocol", other)),
        }
    }
}

fn unknown(key: &str, found: &str) -> ConfigError {
    let accepted = match found {
        "X" | "bolt" | "boltv2" | "dubbo" | "dubbo-thrift" | "tars" => {
            format!("the protocol {found} is not supported yet")
        }
        _ => format!("found {found:?}, expected Http1, Http2 or Auto"),
    };
    ConfigError::new(key, accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(downstream: &str, upstream: &str) -> ProxyConfig {
        ProxyConfig {
            downstream_protocol: downstream.to_owned(),
            upstream_protocol: upstream.to_owned(),
            ..ProxyConfig::default()
        }
    }

    #[test]
    fn protocols_are_read_as_upstream_names_them() {
        for (text, protocol) in [
            ("", listener::Protocol::Auto),
            ("Auto", listener::Protocol::Auto),
            ("Http1", listener::Protocol::Http1),
            ("Http2", listener::Protocol::Http2),
            ("Http1, Http2", listener::Protocol::Auto),
        ] {
            assert_eq!(config(text, "").downstream(), Ok(protocol), "{text}");
        }
        assert_eq!(
            config("", "Http2").upstream(),
            Ok(Some(upstream::Protocol::Http2))
        );
        assert_eq!(config("", "Auto").upstream(), Ok(None));
    }

    #[test]
    fn what_is_not_spoken_is_an_error_that_names_what_is() {
        let error = config("Http3", "").downstream().unwrap_err();
        assert_eq!(
            error.to_string(),
            "downstream_protocol: found \"Http3\", expected Http1, Http2 or Auto"
        );
        let error = config("bolt", "").downstream().unwrap_err();
        assert!(error.message.contains("not supported yet"));
    }
}
