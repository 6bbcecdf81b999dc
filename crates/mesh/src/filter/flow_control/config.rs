//! The configuration of `flowControlFilter`, with Sentinel's names for a rule's keys.

use layotto_core::Settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{ConfigError, Fate, OtherKey};

/// Keys of upstream's that the filter does not take.
pub const OTHER_KEYS: &[OtherKey] = &[
    ignored("app_name", "names upstream's log files"),
    ignored("log_path", "the filter writes no log files"),
    ignored("monitor", "nothing reads it, upstream neither"),
    ignored("callback_name", "there is one callback"),
    ignored("direction", "a filter sees the calls of its listener"),
    ignored("rules[].grade", "of older Sentinels; rules count calls"),
    ignored("rules[].limitApp", "of older Sentinels"),
    ignored("rules[].strategy", "of older Sentinels; see relationStrategy"),
    OtherKey {
        path: "dynamic_data_resources",
        fate: Fate::Later,
        why: "rules are changed through the admin API",
    },
];

const fn ignored(path: &'static str, why: &'static str) -> OtherKey {
    OtherKey {
        path,
        fate: Fate::Ignored,
        why,
    }
}

/// Configuration of `flowControlFilter`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Whether the filter does anything. Default false.
    pub global_switch: bool,
    /// What names the resource of an HTTP request: its path (`PATH`, the default), its query
    /// without the question mark (`ARG`), or both as they were sent (`URI`). Of a gRPC call it is
    /// always the full method, `/package.Service/Method`.
    pub limit_key_type: String,
    /// The answer to calls beyond a limit.
    pub action: Action,
    /// The rules. A call must pass all rules of its resource; other resources are not limited.
    pub rules: Vec<RuleConfig>,
}

/// The answer to calls beyond a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Action {
    /// The HTTP status, 200 to 599. Default 509. gRPC callers get RESOURCE_EXHAUSTED.
    pub status: u16,
    /// The body, over gRPC the status' message. Default "current request is limited".
    pub body: String,
}

impl Default for Action {
    fn default() -> Self {
        Self {
            status: 509,
            body: "current request is limited".into(),
        }
    }
}

/// A limit on one resource.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RuleConfig {
    /// A name of your own for the rule; error messages repeat it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The resource it limits; see `limit_key_type`. Required.
    pub resource: String,
    /// How many calls may pass in each `statIntervalInMs`. Required, but not for strategy 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// How many calls may pass at a time: 0 (Direct, the default) `threshold`; 1 (WarmUp) fewer
    /// after quiet times, rising to `threshold`; 2 (MemoryAdaptive) by the memory of the process.
    pub token_calculate_strategy: u32,
    /// What becomes of a call beyond the limit: 0 (Reject, the default) it is refused at once; 1
    /// (Throttling) calls are let through at an even pace, and wait for their turn.
    pub control_behavior: u32,
    /// Whose calls are counted: 0 (the default) the resource's own, 1 those of `refResource`.
    pub relation_strategy: u32,
    /// The other resource whose calls are counted; see `relationStrategy`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ref_resource: String,
    /// The longest wait of a throttled call, in milliseconds; who would wait longer is refused.
    /// Default 0.
    pub max_queueing_time_ms: u32,
    /// How long warming up takes, in seconds. Required for strategy 1.
    pub warm_up_period_sec: u32,
    /// A cold resource gets this fraction of `threshold`: 3 is a third. At least 2; 0 (the
    /// default) means 3.
    pub warm_up_cold_factor: u32,
    /// The interval that `threshold` is for, in milliseconds. 0 (the default) means 1000.
    pub stat_interval_in_ms: u32,
    /// Strategy 2: the threshold while the process has at most `memLowWaterMarkBytes`.
    pub low_mem_usage_threshold: u64,
    /// Strategy 2: the threshold from `memHighWaterMarkBytes` on; less than the one for low memory.
    pub high_mem_usage_threshold: u64,
    /// Strategy 2: up to so many bytes of memory are little. Between the marks the threshold
    /// falls evenly.
    pub mem_low_water_mark_bytes: u64,
    /// Strategy 2: from so many bytes on memory is short.
    pub mem_high_water_mark_bytes: u64,
}

/// What names the resource of an HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    Path,
    Arg,
    Uri,
}

/// How many calls may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Direct,
    WarmUp,
    MemoryAdaptive,
}

impl Config {
    /// What names a resource.
    pub fn key_type(&self) -> Result<KeyType, ConfigError> {
        match self.limit_key_type.as_str() {
            "" | "PATH" => Ok(KeyType::Path),
            "ARG" => Ok(KeyType::Arg),
            "URI" => Ok(KeyType::Uri),
            other => Err(ConfigError::new(
                "limit_key_type",
                format!("found {other:?}, expected \"PATH\", \"ARG\" or \"URI\""),
            )),
        }
    }
}

impl RuleConfig {
    /// The interval in milliseconds.
    pub fn interval_ms(&self) -> u64 {
        match self.stat_interval_in_ms {
            0 => 1000,
            interval => interval.into(),
        }
    }

    /// How many calls may pass.
    pub fn strategy(&self) -> Result<Strategy, ConfigError> {
        match self.token_calculate_strategy {
            0 => Ok(Strategy::Direct),
            1 => Ok(Strategy::WarmUp),
            2 => Ok(Strategy::MemoryAdaptive),
            found => Err(self.error(
                "tokenCalculateStrategy",
                found,
                "0 (Direct), 1 (WarmUp) or 2 (MemoryAdaptive)",
            )),
        }
    }

    /// Whether calls wait for their turn.
    pub fn throttles(&self) -> Result<bool, ConfigError> {
        match self.control_behavior {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(self.error("controlBehavior", found, "0 (Reject) or 1 (Throttling)")),
        }
    }

    /// The resource whose calls are counted.
    pub fn counted(&self) -> Result<&str, ConfigError> {
        match self.relation_strategy {
            0 => Ok(&self.resource),
            1 if !self.ref_resource.is_empty() => Ok(&self.ref_resource),
            1 => Err(self.error("refResource", "\"\"", "the name of the other resource")),
            found => Err(self.error("relationStrategy", found, "0 (the resource) or 1 (refResource)")),
        }
    }

    /// Checks what is not checked where it is read.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.resource.is_empty() {
            return Err(self.error("resource", "\"\"", "the name of a resource"));
        }
        match self.strategy()? {
            Strategy::Direct => self.threshold_from(0.0, "a number from 0"),
            Strategy::WarmUp => self.validate_warm_up(),
            Strategy::MemoryAdaptive => self.validate_memory(),
        }
    }

    fn threshold_from(&self, least: f64, expected: &str) -> Result<(), ConfigError> {
        match self.threshold {
            Some(threshold) if threshold >= least && threshold.is_finite() => Ok(()),
            Some(threshold) => Err(self.error("threshold", threshold, expected)),
            None => Err(self.error("threshold", "nothing", expected)),
        }
    }

    fn validate_warm_up(&self) -> Result<(), ConfigError> {
        self.threshold_from(f64::MIN_POSITIVE, "a number above 0")?;
        if self.warm_up_period_sec == 0 {
            return Err(self.error("warmUpPeriodSec", 0, "a number from 1"));
        }
        match self.warm_up_cold_factor {
            1 => Err(self.error("warmUpColdFactor", 1, "a number from 2, or 0 for 3")),
            _ => Ok(()),
        }
    }

    fn validate_memory(&self) -> Result<(), ConfigError> {
        let (low, high) = (self.low_mem_usage_threshold, self.high_mem_usage_threshold);
        if low == 0 {
            return Err(self.error("lowMemUsageThreshold", low, "a number from 1"));
        }
        if high == 0 || high >= low {
            let expected = format!("a number from 1 that is less than lowMemUsageThreshold ({low})");
            return Err(self.error("highMemUsageThreshold", high, &expected));
        }
        let (low, high) = (self.mem_low_water_mark_bytes, self.mem_high_water_mark_bytes);
        if low == 0 {
            return Err(self.error("memLowWaterMarkBytes", low, "a number from 1"));
        }
        if high <= low {
            let expected = format!("a number above memLowWaterMarkBytes ({low})");
            return Err(self.error("memHighWaterMarkBytes", high, &expected));
        }
        Ok(())
    }

    fn error(&self, key: &str, found: impl std::fmt::Display, expected: &str) -> ConfigError {
        let rule = match self.id.as_str() {
            "" => String::new(),
            id => format!("rule {id:?}: "),
        };
        ConfigError::new(key, format!("{rule}found {found}, expected {expected}"))
    }
}

/// Reads a configuration that no reader has looked at: unknown keys are errors.
pub fn strictly(config: &Value) -> Result<Config, ConfigError> {
    let Value::Object(object) = config else {
        return Err(ConfigError::new(
            "",
            format!("found {config}, expected an object"),
        ));
    };
    let parsed = Settings::new(object.clone())
        .parse()
        .map_err(|error| ConfigError::new(error.path, error.message))?;
    let ignored = |path: &&String| {
        let mut keys = OTHER_KEYS.iter().filter(|key| key.fate == Fate::Ignored);
        keys.any(|key| key.is(path))
    };
    match parsed.unknown.iter().find(|path| !ignored(path)) {
        Some(path) => Err(ConfigError::new(path, "nothing reads this key")),
        None => Ok(parsed.config),
    }
}
