//! The invoker `mosn`: calls through the channel that the configuration names.

mod channel;
mod filter;
mod message;
mod pool;

use async_trait::async_trait;
use layotto_core::{
    Component, Context, Error, ErrorKind, Open, Result,
    rpc::{Invoker, Request, Response},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::{channel::HttpChannel, filter::Filter};
use crate::network::Network;

/// Calls other services for the application. The one invoker there is; its channel says which
/// protocol is spoken and where requests go: to a service, or to the proxy that knows the services.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["channel"]))]
pub struct MosnConfig {
    /// Steps that change a request before it is sent, in order. Known: `dubbo_json_rpc`, which
    /// makes it a call of Dubbo's JSON-RPC over HTTP.
    pub before_invoke: Vec<Step>,
    /// Steps that change a response before it is returned, in order. None is known.
    pub after_invoke: Vec<Step>,
    /// How services are reached. Only the first is used.
    pub channel: Vec<ChannelConfig>,
    /// Networks to which a call may be sent directly by its metadata `rpc_target_address`, with
    /// the protocols that know it: bolt, boltv2 and dubbo. Default: this machine.
    pub target_allow: Vec<String>,
}

impl Default for MosnConfig {
    fn default() -> Self {
        Self {
            before_invoke: Vec::new(),
            after_invoke: Vec::new(),
            channel: Vec::new(),
            target_allow: vec!["127.0.0.0/8".to_owned(), "::1".to_owned()],
        }
    }
}

/// A step before or after a call.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Step {
    /// Its name. A name that is not known is logged and skipped.
    pub name: String,
    /// Its settings; `dubbo_json_rpc` has none.
    pub config: Value,
}

/// How services are reached.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChannelConfig {
    /// The protocol. Known: `http`, which is HTTP/1.1.
    pub protocol: String,
    /// Where requests are sent: `host:port`, or the name of a listener of this process, whose
    /// filters and routes they then pass without a socket.
    pub listener: String,
    /// The most calls at one time, each over a connection of its own where there are connections; 0
    /// means the default. Default 16.
    pub size: usize,
    /// Settings of the protocol; `http` has none.
    pub ext: Value,
}

/// The number of connections where the configuration has none.
const SIZE: usize = 16;

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            protocol: String::new(),
            listener: String::new(),
            size: SIZE,
            ext: Value::Null,
        }
    }
}

/// The invoker `mosn`.
#[derive(Debug)]
pub struct Mosn {
    before: Vec<Filter>,
    channel: HttpChannel,
}

impl Open for Mosn {
    const TYPE: &'static str = "mosn";
    type Config = MosnConfig;

    async fn open(config: MosnConfig, cx: Context) -> Result<Self> {
        for network in &config.target_allow {
            network.parse::<Network>()?;
        }
        let channel = open_channel(&config.channel, &cx)?;
        for step in &config.after_invoke {
            skip(&cx, step);
        }
        let known = config.before_invoke.iter().filter_map(|step| {
            let filter = Filter::named(&step.name);
            if filter.is_none() {
                skip(&cx, step);
            }
            filter
        });
        Ok(Self {
            before: known.collect(),
            channel,
        })
    }
}

fn skip(cx: &Context, step: &Step) {
    tracing::warn!(
        component = cx.name,
        step = step.name,
        "unknown step of a call is skipped"
    );
}

fn open_channel(channels: &[ChannelConfig], cx: &Context) -> Result<HttpChannel> {
    let Some(channel) = channels.first() else {
        return Err(Error::invalid("missing channel config"));
    };
    if channels.len() > 1 {
        tracing::warn!(component = cx.name, "only the first channel is used");
    }
    let not_yet = |what: String| Error::new(ErrorKind::Unsupported, format!("{what} is not supported yet"));
    match channel.protocol.as_str() {
        "http" if channel.listener.is_empty() => Err(Error::invalid("channel[0].listener is empty")),
        "http" => Ok(HttpChannel::new(channel, cx)),
        known @ ("bolt" | "boltv2" | "dubbo") => Err(not_yet(format!("channel {known}"))),
        unknown => Err(Error::invalid(format!("channel {unknown} not found"))),
    }
}

#[async_trait]
impl Component for Mosn {
    async fn close(&self) -> Result<()> {
        self.channel.close();
        Ok(())
    }
}

#[async_trait]
impl Invoker for Mosn {
    async fn invoke(&self, mut request: Request) -> Result<Response> {
        for filter in &self.before {
            filter.apply(&mut request);
        }
        self.channel.call(request).await
    }
}

#[cfg(test)]
mod tests;
