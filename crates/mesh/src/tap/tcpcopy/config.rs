//! The settings of the traffic dump.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::usage::Usage;
use crate::{
    address::Address,
    config::{ConfigError, OtherKey},
};

/// The limit that is none: a machine cannot be busier, but it can be as busy.
const NO_LIMIT: f64 = 100.0;

/// The keys of upstream that mean nothing here: none.
pub const OTHER_KEYS: &[OtherKey] = &[];

/// Copies what clients send to a listener into files, in sampling windows.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// When to dump, and when not. Default: switched off.
    pub strategy: Strategy,
    /// Directory of the dump files, made if it is missing, readable by its owner alone.
    /// Default: `/home/admin/logs/mosn/dump` if it can be written, else `dump` in the data
    /// directory.
    pub dump_dir: Option<PathBuf>,
    /// Size in bytes at which a file is renamed and a new one begun, at least 4096. Default
    /// 104857600 (100 MiB).
    pub max_file_bytes: u64,
    /// How many files of one name are kept, with the one that is written: 1 to 1000. Default 10.
    pub max_files: u32,
    /// How many bytes are dumped in a second of a window, at least 4096; each read counts 256 more.
    /// What is beyond is counted and lost, so that a dump does not take the processors that its
    /// listener needs. Default 4194304 (4 MiB).
    pub max_bytes_per_second: u64,
    /// Headers whose values are not written. With an empty list, traffic that is neither HTTP/1
    /// nor HTTP/2 is dumped too: its headers are not known, so that it is withheld otherwise.
    /// Default: authorization, cookie, dapr-api-token, layotto-api-token.
    pub redact_headers: Vec<String>,
}

/// When to dump: in windows of `duration`, an `interval` apart, while the machine is not busy.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Strategy {
    /// Whether to dump: `ON` or `OFF`. Default `OFF`.
    pub switch: Switch,
    /// Seconds before each window, 30 to 3600. Default 30.
    pub interval: u64,
    /// Seconds that a window lasts, at least 1 and less than `interval`. Default 1.
    pub duration: u64,
    /// Use of the machine's processors in percent, above 0, from which on nothing is dumped; 100:
    /// no limit. Default 80.
    pub cpu_max_rate: f64,
    /// Use of the machine's memory in percent, above 0, from which on nothing is dumped; 100: no
    /// limit. Default 70.
    pub mem_max_rate: f64,
}

/// Whether to dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
pub enum Switch {
    /// Dump.
    #[serde(rename = "ON")]
    On,
    /// Do not dump.
    #[default]
    #[serde(rename = "OFF")]
    Off,
    /// Do not dump, whatever a listener's own strategy says; for the global strategy only.
    #[serde(rename = "FORCE_OFF")]
    ForceOff,
}

/// How large files become and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) file_bytes: u64,
    pub(super) files: u32,
}

impl Default for Config {
    fn default() -> Self {
        let hidden = ["authorization", "cookie", "dapr-api-token", "layotto-api-token"];
        Self {
            strategy: Strategy::default(),
            dump_dir: None,
            max_file_bytes: 100 * 1024 * 1024,
            max_files: 10,
            max_bytes_per_second: 4 * 1024 * 1024,
            redact_headers: hidden.map(Into::into).into(),
        }
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            switch: Switch::Off,
            interval: 30,
            duration: 1,
            cpu_max_rate: 80.0,
            mem_max_rate: 70.0,
        }
    }
}

impl Config {
    /// Whether it can be worked with.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.strategy
            .validate()
            .map_err(|error| error.under("strategy"))?;
        if self.strategy.switch == Switch::ForceOff {
            return Err(ConfigError::new(
                "strategy.switch",
                "is \"FORCE_OFF\"; a listener takes \"ON\" or \"OFF\"",
            ));
        }
        if self.max_file_bytes < 4096 {
            return Err(out_of("max_file_bytes", self.max_file_bytes, "at least 4096"));
        }
        if self.max_bytes_per_second < 4096 {
            let bytes = self.max_bytes_per_second;
            return Err(out_of("max_bytes_per_second", bytes, "at least 4096"));
        }
        if !(1..=1000).contains(&self.max_files) {
            return Err(out_of("max_files", self.max_files, "1 to 1000"));
        }
        let wrong = |name: &&String| http::HeaderName::from_bytes(name.trim().as_bytes()).is_err();
        match self.redact_headers.iter().position(|name| wrong(&name)) {
            Some(place) => Err(ConfigError::new(
                format!("redact_headers[{place}]"),
                format!("{:?} is not the name of a header", self.redact_headers[place]),
            )),
            None => Ok(()),
        }
    }

    /// What to tell the user of a listener at `address` that has this filter, where it has no
    /// effect there.
    pub fn advice(address: &Address) -> Option<&'static str> {
        let advice = "the network filter tcpcopy dumps TCP listeners only: it has no effect on a Unix socket";
        matches!(address, Address::Unix(_)).then_some(advice)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            file_bytes: self.max_file_bytes,
            files: self.max_files,
        }
    }
}

impl Strategy {
    /// Whether all of it is in range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(30..=3600).contains(&self.interval) {
            return Err(out_of("interval", self.interval, "30 to 3600 (seconds)"));
        }
        if self.duration < 1 || self.duration >= self.interval {
            let accepted = format!("1 to {} (seconds): less than interval", self.interval - 1);
            return Err(out_of("duration", self.duration, &accepted));
        }
        let rates = [
            ("cpu_max_rate", self.cpu_max_rate),
            ("mem_max_rate", self.mem_max_rate),
        ];
        for (key, rate) in rates {
            if !(rate > 0.0 && rate <= NO_LIMIT) {
                return Err(out_of(key, rate, "above 0, to 100 (percent)"));
            }
        }
        Ok(())
    }

    /// The strategy that holds, of a listener's own and the global one: the global `FORCE_OFF`,
    /// else the listener's own if it is on, else the global one if it is on. `None`: no dump.
    pub(super) fn effective(own: Self, global: Option<Self>) -> Option<Self> {
        let is_on = |strategy: &Self| strategy.switch == Switch::On;
        match global {
            Some(global) if global.switch == Switch::ForceOff => None,
            global => Some(own).filter(is_on).or(global.filter(is_on)),
        }
    }

    /// Whether the machine is less busy than the limits.
    pub(super) fn allows(&self, usage: Usage) -> bool {
        let below = |rate: f64, limit: f64| rate < limit || limit == NO_LIMIT;
        below(usage.cpu, self.cpu_max_rate) && below(usage.memory, self.mem_max_rate)
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }

    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs(self.duration)
    }
}

fn out_of(key: &str, value: impl std::fmt::Display, accepted: &str) -> ConfigError {
    ConfigError::new(key, format!("is {value}; accepted: {accepted}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Config, Strategy, Switch, Usage};

    fn config(json: serde_json::Value) -> Config {
        serde_json::from_value(json).unwrap()
    }

    fn strategy(switch: Switch, duration: u64) -> Strategy {
        Strategy {
            switch,
            duration,
            ..Strategy::default()
        }
    }

    #[test]
    fn takes_the_quickstarts_configuration() {
        let config = config(json!({"strategy": {
            "switch": "ON", "interval": 30, "duration": 10, "cpu_max_rate": 80, "mem_max_rate": 80,
        }}));
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.strategy.switch, Switch::On);
        assert_eq!(config.redact_headers.len(), 4);
    }

    #[test]
    fn has_the_documented_defaults() {
        let config = config(json!({}));
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.strategy, strategy(Switch::Off, 1));
        assert_eq!((config.max_file_bytes, config.max_files), (104_857_600, 10));
        assert_eq!(config.max_bytes_per_second, 4_194_304);
    }

    #[test]
    fn names_the_key_and_the_range_of_a_wrong_value() {
        for (json, text) in [
            (
                json!({"strategy": {"interval": 29}}),
                "strategy.interval: is 29; accepted: 30 to 3600",
            ),
            (
                json!({"strategy": {"interval": 3601}}),
                "strategy.interval: is 3601",
            ),
            (
                json!({"strategy": {"duration": 0}}),
                "strategy.duration: is 0; accepted: 1 to 29",
            ),
            (json!({"strategy": {"duration": 30}}), "strategy.duration: is 30"),
            (
                json!({"strategy": {"cpu_max_rate": 100.5}}),
                "strategy.cpu_max_rate: is 100.5; accepted: above 0, to 100 (percent)",
            ),
            (
                json!({"strategy": {"mem_max_rate": 0}}),
                "strategy.mem_max_rate: is 0",
            ),
            (
                json!({"strategy": {"switch": "FORCE_OFF"}}),
                "strategy.switch: is \"FORCE_OFF\"",
            ),
            (
                json!({"max_file_bytes": 1}),
                "max_file_bytes: is 1; accepted: at least 4096",
            ),
            (
                json!({"max_bytes_per_second": 1}),
                "max_bytes_per_second: is 1; accepted: at least 4096",
            ),
            (json!({"max_files": 0}), "max_files: is 0; accepted: 1 to 1000"),
            (
                json!({"redact_headers": ["cookie", "a b"]}),
                "redact_headers[1]: \"a b\"",
            ),
        ] {
            let error = config(json).validate().unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        assert!(serde_json::from_value::<Config>(json!({"strategy": {"switch": "on"}})).is_err());
    }

    // deviation: D072
    #[test]
    fn a_machine_is_too_busy_from_the_limit_on_and_never_for_100() {
        let busy = |cpu, memory| Usage { cpu, memory };
        let limited = strategy(Switch::On, 1);
        assert!(limited.allows(busy(79.0, 69.0)));
        assert!(!limited.allows(busy(80.0, 0.0)));
        assert!(!limited.allows(busy(0.0, 70.0)));
        let unlimited = config(json!({"strategy": {"cpu_max_rate": 100, "mem_max_rate": 100}}));
        assert_eq!(unlimited.validate(), Ok(()));
        assert!(unlimited.strategy.allows(busy(100.0, 100.0)));
    }

    #[test]
    fn layers_are_upstreams() {
        use Switch::{ForceOff, Off, On};
        for (own, global, holds) in [
            (On, None, Some(1)),
            (Off, None, None),
            (On, Some(ForceOff), None),
            (On, Some(On), Some(1)),
            (On, Some(Off), Some(1)),
            (Off, Some(On), Some(2)),
            (Off, Some(Off), None),
        ] {
            let effective = Strategy::effective(strategy(own, 1), global.map(|switch| strategy(switch, 2)));
            assert_eq!(
                effective.map(|strategy| strategy.duration),
                holds,
                "{own:?} under {global:?}"
            );
        }
    }
}
