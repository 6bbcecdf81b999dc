//! One rule at work: how many calls it allows, and what it counts them by.

use super::{
    Surroundings,
    config::{RuleConfig, Strategy},
    memory::Memory,
    throttle::{Throttle, Turn},
    warm_up::WarmUp,
    window::Window,
};
use crate::config::ConfigError;

/// A rule with its state.
#[derive(Debug)]
pub struct Rule {
    config: RuleConfig,
    /// Of the resource whose calls it counts.
    window: Window,
    threshold: Threshold,
    throttle: Option<Throttle>,
}

#[derive(Debug)]
enum Threshold {
    Direct(f64),
    WarmUp(WarmUp),
    Memory(ByMemory),
}

/// A threshold that falls evenly between two marks.
#[derive(Debug)]
struct ByMemory {
    low: f64,
    high: f64,
    low_mark: f64,
    high_mark: f64,
}

impl Rule {
    /// A rule with fresh state. `config` was validated.
    pub fn new(config: &RuleConfig, window: Window) -> Result<Self, ConfigError> {
        let threshold = config.threshold.unwrap_or_default();
        let interval = config.interval_ms() * 1_000_000;
        let max_wait = u64::from(config.max_queueing_time_ms) * 1_000_000;
        Ok(Self {
            threshold: match config.strategy()? {
                Strategy::Direct => Threshold::Direct(threshold),
                Strategy::WarmUp => Threshold::WarmUp(WarmUp::new(config, threshold)),
                Strategy::MemoryAdaptive => Threshold::Memory(ByMemory::new(config)),
            },
            throttle: config.throttles()?.then(|| Throttle::new(interval, max_wait)),
            config: config.clone(),
            window,
        })
    }

    /// What it was built from.
    pub fn config(&self) -> &RuleConfig {
        &self.config
    }

    /// Whether calls wait for their turn.
    pub fn throttles(&self) -> bool {
        self.throttle.is_some()
    }

    /// Gets in line, where there is one; `None` if the wait would be too long.
    pub fn queue(&self, surroundings: &Surroundings) -> Option<Turn<'_>> {
        let now = surroundings.clock.now();
        let allowed = self.allowed(now, &surroundings.memory);
        self.throttle.as_ref()?.queue(now, allowed)
    }

    /// Whether one more call may pass at once; rules that throttle have nothing to say to that.
    pub fn has_room(&self, now: u64, memory: &Memory) -> bool {
        self.throttles() || self.window.counts(now).passed as f64 + 1.0 <= self.allowed(now, memory)
    }

    /// How many calls may pass per interval.
    fn allowed(&self, now: u64, memory: &Memory) -> f64 {
        match &self.threshold {
            Threshold::Direct(threshold) => *threshold,
            Threshold::WarmUp(warm_up) => warm_up.allowed(now, &self.window),
            Threshold::Memory(by_memory) => by_memory.allowed(memory.bytes(now)),
        }
    }
}

impl ByMemory {
    fn new(config: &RuleConfig) -> Self {
        Self {
            low: config.low_mem_usage_threshold as f64,
            high: config.high_mem_usage_threshold as f64,
            low_mark: config.mem_low_water_mark_bytes as f64,
            high_mark: config.mem_high_water_mark_bytes as f64,
        }
    }

    /// Memory that is not known counts as little.
    fn allowed(&self, bytes: Option<u64>) -> f64 {
        let bytes = bytes.map_or(self.low_mark, |bytes| bytes as f64);
        let part = (bytes - self.low_mark) / (self.high_mark - self.low_mark);
        self.low + (self.high - self.low) * part.clamp(0.0, 1.0)
    }
}
