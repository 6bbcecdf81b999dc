//! `ip_access`: lets requests in, or refuses them, by the client's address. What cannot be told
//! is refused.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, StatusCode};
use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Context, Filter, Kind, Next, Phase, Request, Response, answer};
use crate::{
    config::ConfigError,
    connection::Remote,
    exchange::Exchange,
    reply::{self, Code},
};

/// The filter, for [`super::KINDS`].
pub const KIND: Kind = Kind {
    name: "ip_access",
    build,
    route_config: None,
    schema: || schemars::schema_for!(Config),
    other_keys: &[],
};

const TEXT: &str = "access from this address is denied";

/// Who this machine's own processes are, when they come over a Unix socket or from inside.
const SELF: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Configuration of `ip_access`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// What becomes of a request whose address is in no list: `deny` or `allow`. Default `deny`.
    pub default_action: String,
    /// The header that holds the client's address, such as `x-forwarded-for`. Read only if the
    /// request comes from one of `trusted_proxies`. Default none: the connection's address.
    pub header: String,
    /// Addresses and networks of the proxies whose `header` is believed. Default: this machine,
    /// that is loopback addresses and Unix sockets.
    pub trusted_proxies: Option<Vec<String>>,
    /// Lists of addresses; the first that holds the client's address decides.
    pub ips: Vec<ListConfig>,
}

/// One list of addresses.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListConfig {
    /// What becomes of requests from these addresses: `deny` or `allow`. Required.
    pub action: String,
    /// Addresses (`10.0.0.1`, `fd00::1`) and networks (`10.0.0.0/8`, `fd00::/8`).
    pub addrs: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Deny,
}

#[derive(Debug)]
struct IpAccess {
    default: Action,
    header: Option<HeaderName>,
    proxies: Proxies,
    lists: Vec<(Action, Vec<IpNet>)>,
}

#[derive(Debug)]
enum Proxies {
    /// This machine.
    Local,
    Of(Vec<IpNet>),
}

fn build(config: &Value, _: &Context) -> Result<Arc<dyn Filter>, ConfigError> {
    Ok(Arc::new(IpAccess::new(&super::read(config)?)?))
}

impl IpAccess {
    fn new(config: &Config) -> Result<Self, ConfigError> {
        let list = |(at, list): (usize, &ListConfig)| {
            let read = || Ok((action(&list.action)?, networks("addrs", &list.addrs)?));
            read().map_err(|error: ConfigError| error.under(&format!("ips[{at}]")))
        };
        Ok(Self {
            default: match config.default_action.as_str() {
                "" => Action::Deny,
                text => action(text).map_err(|error| ConfigError::new("default_action", error.message))?,
            },
            header: header(&config.header)?,
            proxies: match &config.trusted_proxies {
                None => Proxies::Local,
                Some(proxies) => Proxies::Of(networks("trusted_proxies", proxies)?),
            },
            lists: config
                .ips
                .iter()
                .enumerate()
                .map(list)
                .collect::<Result<_, _>>()?,
        })
    }

    fn admits(&self, request: &Request) -> bool {
        let Some(address) = self.client(request) else {
            return self.default == Action::Allow
                && self.lists.iter().all(|(action, _)| *action == Action::Allow);
        };
        let decisive = |(_, networks): &&(Action, Vec<IpNet>)| contain(networks, address);
        let action = self.lists.iter().find(decisive).map(|(action, _)| *action);
        action.unwrap_or(self.default) == Action::Allow
    }

    /// The client's address; `None` if it cannot be told.
    fn client(&self, request: &Request) -> Option<IpAddr> {
        let peer = peer(Exchange::of(request.extensions())?);
        let name = self
            .header
            .as_ref()
            .filter(|name| request.headers().contains_key(*name));
        match name {
            Some(name) if self.proxies.hold(peer) => self.forwarded(request.headers(), name),
            _ => Some(peer),
        }
    }

    /// The last address of the header that is no trusted proxy: each proxy appends its client, so
    /// what stands before was written by strangers.
    fn forwarded(&self, headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
        let mut client = None;
        for value in headers.get_all(name).iter().rev() {
            for text in value.to_str().ok()?.rsplit(',') {
                let address = text.trim().parse::<IpAddr>().ok()?.to_canonical();
                if !self.proxies.hold(address) {
                    return Some(address);
                }
                client = Some(address);
            }
        }
        client
    }
}

impl Filter for IpAccess {
    fn phase(&self) -> Phase {
        Phase::BeforeRoute
    }

    fn call<'a>(&'a self, request: Request, next: Next<'a>) -> BoxFuture<'a, Response> {
        if self.admits(&request) {
            return next.run(request);
        }
        let kind = reply::Kind::of(request.headers());
        let refusal = answer::refuse(kind, StatusCode::FORBIDDEN, Code::PermissionDenied, TEXT);
        Box::pin(std::future::ready(refusal))
    }
}

impl Proxies {
    fn hold(&self, address: IpAddr) -> bool {
        match self {
            Self::Local => address.is_loopback(),
            Self::Of(networks) => contain(networks, address),
        }
    }
}

fn peer(exchange: &Exchange) -> IpAddr {
    match exchange.connection().map(|connection| connection.remote()) {
        Some(Remote::Tcp(address)) => address.ip().to_canonical(),
        Some(Remote::Unix { .. }) | None => SELF,
    }
}

fn contain(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

fn action(text: &str) -> Result<Action, ConfigError> {
    match text {
        "allow" => Ok(Action::Allow),
        "deny" => Ok(Action::Deny),
        _ => Err(ConfigError::new(
            "action",
            format!("found {text:?}, expected \"allow\" or \"deny\""),
        )),
    }
}

fn header(name: &str) -> Result<Option<HeaderName>, ConfigError> {
    if name.is_empty() {
        return Ok(None);
    }
    let error = |_| ConfigError::new("header", format!("found {name:?}, expected the name of a header"));
    name.parse().map(Some).map_err(error)
}

fn networks(key: &str, texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let read = |(at, text): (usize, &String)| {
        network(text).ok_or_else(|| {
            let message = format!("found {text:?}, expected an address or a network such as \"10.0.0.0/8\"");
            ConfigError::new(format!("{key}[{at}]"), message)
        })
    };
    texts.iter().enumerate().map(read).collect()
}

/// Reads an address or a network; IPv4 in IPv6's clothes becomes IPv4, as clients' addresses do.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().ok()?,
    };
    let IpNet::V6(v6) = network else {
        return Some(network);
    };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => Ipv4Net::new(v4, prefix).ok().map(IpNet::V4),
        _ => Some(network),
    }
}

#[cfg(test)]
mod tests;
