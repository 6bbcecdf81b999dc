//! Sentinel's WarmUp: a resource that was quiet gets a fraction of its threshold, and the more of
//! it the longer it is used. Tokens are stored while it is quiet; the more there are, the colder
//! it is.

use std::sync::{Mutex, PoisonError};

use super::{config::RuleConfig, window::Window};

const SECOND: u64 = 1_000_000_000;

/// The temperature of one rule's resource. Rates are per second, whatever the rule's interval.
#[derive(Debug)]
pub struct WarmUp {
    /// Calls per second when warm.
    rate: f64,
    /// The interval in seconds.
    interval: f64,
    /// Below so many stored tokens it is warm.
    warning: f64,
    /// The most tokens that are stored.
    max: f64,
    /// How much the time between two calls grows with each token above `warning`.
    slope: f64,
    /// With fewer calls per second than this it cools.
    quiet: f64,
    stored: Mutex<Stored>,
}

#[derive(Debug)]
struct Stored {
    tokens: f64,
    /// The second of the clock that they are of.
    second: u64,
}

impl WarmUp {
    /// A cold one.
    pub fn new(rule: &RuleConfig, threshold: f64) -> Self {
        let interval = rule.interval_ms() as f64 / 1000.0;
        let rate = threshold / interval;
        let cold = match rule.warm_up_cold_factor {
            0 => 3.0,
            factor => f64::from(factor),
        };
        let period = f64::from(rule.warm_up_period_sec);
        let warning = period * rate / (cold - 1.0);
        let max = warning + 2.0 * period * rate / (1.0 + cold);
        Self {
            rate,
            interval,
            warning,
            max,
            slope: (cold - 1.0) / rate / (max - warning),
            // Whole calls: a cold resource passes no more of them, and must not seem quiet then.
            quiet: (rate / cold).floor(),
            stored: Mutex::new(Stored {
                tokens: max,
                second: 0,
            }),
        }
    }

    /// How many calls may pass per interval at `now`; at least one where the threshold allows
    /// one, as a resource that passes none would stay cold for ever.
    pub fn allowed(&self, now: u64, window: &Window) -> f64 {
        let tokens = self.tokens(now, window);
        if tokens < self.warning {
            return self.rate * self.interval;
        }
        let rate = 1.0 / ((tokens - self.warning) * self.slope + 1.0 / self.rate);
        let threshold = self.rate * self.interval;
        // Rounding must not cost a call.
        (rate * self.interval).next_up().max(threshold.min(1.0))
    }

    /// The tokens at `now`; once a second those of the calls that passed are taken out, and new
    /// ones put in.
    fn tokens(&self, now: u64, window: &Window) -> f64 {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let second = now / SECOND;
        if second > stored.second {
            let rate = window.counts_before(now).passed as f64 / self.interval;
            let elapsed = (second - stored.second) as f64;
            let fresh = match stored.tokens <= self.warning || rate < self.quiet {
                true => elapsed * self.rate,
                false => 0.0,
            };
            let tokens = (stored.tokens + fresh).min(self.max) - rate;
            *stored = Stored {
                tokens: tokens.max(0.0),
                second,
            };
        }
        stored.tokens
    }
}
