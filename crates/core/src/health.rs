//! The health of every part of the process, as the actuator shows it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

/// The state of one part, or of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Works.
    Up,
    /// Has not worked yet.
    Init,
    /// Does not work.
    Down,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "UP",
            Self::Init => "INIT",
            Self::Down => "DOWN",
        })
    }
}

/// How a part counts towards the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Required {
    /// The whole is INIT until the part worked once; a later loss shows on the part alone.
    #[default]
    Start,
    /// The whole is DOWN while the part does not work.
    Always,
    /// The part never counts.
    No,
}

impl std::str::FromStr for Required {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "always" => Ok(Self::Always),
            "no" => Ok(Self::No),
            _ => Err("expected start, always or no".to_owned()),
        }
    }
}

/// One part's health; clones share it.
#[derive(Debug, Clone)]
pub struct Indicator(Arc<IndicatorState>);

#[derive(Debug)]
struct IndicatorState {
    name: String,
    required: Required,
    current: Mutex<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    status: Status,
    reason: String,
    was_up: bool,
}

impl Indicator {
    /// The part works.
    pub fn up(&self) {
        self.set(Status::Up, String::new());
    }

    /// The part does not work, for `reason`; INIT until it worked once.
    pub fn down(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.set(Status::Down, reason);
    }

    fn set(&self, status: Status, reason: String) {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.status != status {
            match status {
                Status::Up => tracing::info!(target: "layotto::health", part = self.0.name, "up"),
                _ => tracing::warn!(target: "layotto::health", part = self.0.name, reason, "{status}"),
            }
        }
        current.was_up |= status == Status::Up;
        current.status = status;
        current.reason = reason;
    }

    fn current(&self) -> Current {
        self.0
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The part's status.
    pub fn status(&self) -> Status {
        self.current().status
    }

    fn contribution(&self) -> Status {
        let current = self.current();
        match self.0.required {
            Required::No => Status::Up,
            Required::Always => current.status,
            Required::Start if current.was_up => Status::Up,
            Required::Start => Status::Init,
        }
    }
}

/// A reading of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The part's name.
    pub name: String,
    /// Its status.
    pub status: Status,
    /// Why it is not UP; empty otherwise.
    pub reason: String,
}

/// The health of the process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Vec<Indicator>>>);

impl Health {
    /// The indicator called `name`, made in state INIT when it is new.
    pub fn indicator(&self, name: impl Into<String>, required: Required) -> Indicator {
        let name = name.into();
        let mut indicators = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = indicators.iter().find(|indicator| indicator.0.name == name) {
            return known.clone();
        }
        let current = Current {
            status: Status::Init,
            reason: "starting".to_owned(),
            was_up: false,
        };
        let indicator = Indicator(Arc::new(IndicatorState {
            name,
            required,
            current: Mutex::new(current),
        }));
        indicators.push(indicator.clone());
        indicator
    }

    /// Shows the part called `name` no more.
    pub fn forget(&self, name: &str) {
        let mut indicators = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        indicators.retain(|indicator| indicator.0.name != name);
    }

    /// The status of the whole: the worst contribution of a part.
    pub fn overall(&self) -> Status {
        let indicators = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        indicators
            .iter()
            .map(Indicator::contribution)
            .max()
            .unwrap_or(Status::Up)
    }

    /// Every part, sorted by name.
    pub fn readings(&self) -> Vec<Reading> {
        let indicators = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut readings: Vec<_> = indicators
            .iter()
            .map(|indicator| {
                let Current { status, reason, .. } = indicator.current();
                Reading {
                    name: indicator.0.name.clone(),
                    status,
                    reason,
                }
            })
            .collect();
        readings.sort_by(|a, b| a.name.cmp(&b.name));
        readings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overall_after(required: Required, steps: fn(&Indicator)) -> Status {
        let health = Health::default();
        steps(&health.indicator("part", required));
        health.overall()
    }

    #[test]
    fn a_part_required_at_start_counts_until_it_worked_once() {
        assert_eq!(overall_after(Required::Start, |_| ()), Status::Init);
        assert_eq!(
            overall_after(Required::Start, |part| part.down("away")),
            Status::Init
        );
        assert_eq!(
            overall_after(Required::Start, |part| (part.up(), part.down("away")).1),
            Status::Up
        );
    }

    #[test]
    fn a_part_required_always_takes_the_whole_down() {
        assert_eq!(
            overall_after(Required::Always, |part| (part.up(), part.down("away")).1),
            Status::Down
        );
    }

    #[test]
    fn a_part_not_required_never_counts() {
        assert_eq!(overall_after(Required::No, |part| part.down("away")), Status::Up);
    }
}
