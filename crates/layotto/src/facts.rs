//! What the actuator shows of a runtime besides its components.

use layotto_api::{callback::Callback, ops::configuration::Watches};
use layotto_core::{Settings, rpc::is_address};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{actuator::Facts, config::RuntimeConfig};

/// What is shown of the settings of an rpc.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Channels {
    channel: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    protocol: String,
    listener: String,
}

/// The listener of this process that an rpc with these settings calls; `None`: it dials an address.
pub fn channel_listener(settings: &Settings) -> Option<String> {
    let channels = settings.parse::<Channels>().ok()?.config.channel;
    let listener = channels.into_iter().next()?.listener;
    (!listener.is_empty() && !is_address(&listener)).then_some(listener)
}

/// The facts of one runtime.
pub struct RuntimeFacts {
    callback: Callback,
    watches: Watches,
    rpc_targets: Value,
}

impl RuntimeFacts {
    /// The facts of the runtime that `config` describes.
    pub fn new(callback: Callback, watches: Watches, config: &RuntimeConfig) -> Self {
        let target = |(name, rpc): (&String, &crate::config::ComponentConfig)| {
            let channels = rpc
                .settings
                .parse::<Channels>()
                .map(|parsed| parsed.config.channel)
                .unwrap_or_default();
            let shown = |Channel { protocol, listener }: Channel| json!({"rpc": name, "protocol": protocol, "listener": listener});
            channels.into_iter().map(shown).collect::<Vec<_>>()
        };
        let rpc_targets = config.rpcs.iter().flat_map(target).collect();
        Self {
            callback,
            watches,
            rpc_targets,
        }
    }
}

impl Facts for RuntimeFacts {
    fn subscriptions(&self) -> Value {
        let listed = self.callback.subscriptions().into_iter();
        listed
            .map(|listed| json!({"pubsub": listed.pubsub, "topic": listed.topic, "mode": listed.mode.as_str()}))
            .collect()
    }

    fn configuration_subscriptions(&self) -> Value {
        let listed = self.watches.list().into_iter();
        listed
            .map(|listed| json!({"store": listed.store, "app_id": listed.app_id, "keys": listed.keys}))
            .collect()
    }

    fn rpc_targets(&self) -> Value {
        self.rpc_targets.clone()
    }
}
