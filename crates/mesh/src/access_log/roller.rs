//! `global_log_roller`: when a log file is put aside, and how many of those are kept.

use std::time::Duration;

use crate::config::ConfigError;

/// When a log file is put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roller {
    /// Once it is larger, in bytes.
    pub max_bytes: Option<u64>,
    /// At every multiple of so many hours of local time.
    pub every_hours: Option<u32>,
    /// How many of those put aside are kept; `None`: all.
    pub keep: Option<usize>,
    /// How long those put aside are kept; `None`: for ever.
    pub age: Option<Duration>,
}

/// Daily, as upstream.
impl Default for Roller {
    fn default() -> Self {
        Self {
            max_bytes: None,
            every_hours: Some(24),
            keep: None,
            age: None,
        }
    }
}

const EXPECTED: &str = "expected \"size=MB age=DAYS keep=N compress=off\" or \"time=HOURS\", at most 24";

impl Roller {
    /// Reads `size=MB age=DAYS keep=N compress=on|off`, of which parts may be absent, or
    /// `time=HOURS`; an empty text is the default. Files are not compressed.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = || ConfigError::new("", format!("found {text:?}, {EXPECTED}"));
        let mut roller = Self::default();
        for item in text.split_whitespace() {
            let (key, value) = item.split_once('=').ok_or_else(refuse)?;
            let number = value.parse::<u32>().ok().filter(|number| *number > 0);
            match (key, number) {
                ("size", Some(megabytes)) => {
                    roller.max_bytes = Some(u64::from(megabytes) << 20);
                    roller.every_hours = None;
                }
                ("time", Some(hours @ 1..=24)) => roller.every_hours = Some(hours),
                ("keep", Some(keep)) => roller.keep = usize::try_from(keep).ok(),
                ("age", Some(days)) => roller.age = Some(Duration::from_secs(u64::from(days) * 24 * 3600)),
                ("compress", _) if ["on", "off"].contains(&value) => {}
                _ => return Err(refuse()),
            }
        }
        Ok(roller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_size_and_time() {
        assert_eq!(Roller::parse(""), Ok(Roller::default()));
        let sized = Roller::parse("size=100 age=10 keep=5 compress=off").unwrap();
        assert_eq!((sized.max_bytes, sized.keep), (Some(100 << 20), Some(5)));
        assert_eq!(
            (sized.age, sized.every_hours),
            (Some(Duration::from_secs(864_000)), None)
        );
        assert_eq!(Roller::parse("time=2").unwrap().every_hours, Some(2));
    }

    #[test]
    fn says_what_is_accepted() {
        for text in ["size", "size=0", "time=25", "size=a", "compress=maybe", "rate=1"] {
            let error = Roller::parse(text).unwrap_err();
            assert!(error.message.contains("time=HOURS"), "{error}");
        }
    }
}
