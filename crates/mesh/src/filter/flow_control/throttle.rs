//! Sentinel's Throttling: calls pass at an even pace, those that come early wait in line.

use std::sync::{Mutex, PoisonError};

use super::window::Clock;

/// The line before one rule.
#[derive(Debug)]
pub struct Throttle {
    /// The interval in nanoseconds.
    interval: u64,
    /// The longest wait in nanoseconds.
    max_wait: u64,
    /// When the last of the line passes; `None` before the first call.
    last: Mutex<Option<u64>>,
}

/// A turn to pass. Given back when it is dropped unused, if nobody queued up behind it.
#[derive(Debug)]
pub struct Turn<'a> {
    line: &'a Throttle,
    at: u64,
    before: Option<u64>,
    used: bool,
}

impl Throttle {
    /// An empty line.
    pub fn new(interval: u64, max_wait: u64) -> Self {
        Self {
            interval,
            max_wait,
            last: Mutex::new(None),
        }
    }

    /// Gets in line while `allowed` calls may pass per interval; `None` if that means too long a
    /// wait.
    pub fn queue(&self, now: u64, allowed: f64) -> Option<Turn<'_>> {
        if allowed <= 0.0 {
            return None;
        }
        // A float too big for the type becomes its greatest number.
        let spacing = (self.interval as f64 / allowed).ceil() as u64;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let at = last.map_or(now, |last| last.saturating_add(spacing).max(now));
        if at - now > self.max_wait {
            return None;
        }
        let before = last.replace(at);
        Some(Turn {
            line: self,
            at,
            before,
            used: false,
        })
    }
}

impl Turn<'_> {
    /// Waits until it is time to pass. Dropping the future gives the turn back.
    pub async fn wait(mut self, clock: &Clock) {
        if self.at > clock.now() {
            tokio::time::sleep_until(clock.at(self.at)).await;
        }
        self.used = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut last = self.line.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.used && *last == Some(self.at) {
            *last = self.before;
        }
    }
}
