//! How busy the machine is, as Linux tells in `/proc`.

use std::{fs, sync::Arc};

/// Reads how busy the machine is; `None` where the system does not tell.
pub(super) type Probe = Arc<dyn Fn() -> Option<Reading> + Send + Sync>;

/// What is read at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    /// Processor time since the start, and the part of it that was used, in ticks.
    pub(super) total: u64,
    pub(super) busy: u64,
    /// Memory in use, in percent.
    pub(super) memory: f64,
}

/// How busy the machine was between two readings, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu: f64,
    pub(super) memory: f64,
}

impl Usage {
    pub(super) fn between(before: Reading, after: Reading) -> Option<Self> {
        let total = after.total.checked_sub(before.total).filter(|total| *total > 0)?;
        let busy = after.busy.saturating_sub(before.busy);
        Some(Self {
            cpu: 100.0 * busy as f64 / total as f64,
            memory: after.memory,
        })
    }
}

/// Reads `/proc`. It is no disk: a read takes microseconds and waits for nothing.
pub(super) fn of_system() -> Option<Reading> {
    let (total, busy) = processor(&fs::read_to_string("/proc/stat").ok()?)?;
    let memory = memory(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(Reading { total, busy, memory })
}

/// The first line: `cpu user nice system idle iowait irq softirq steal guest guest_nice`, where
/// the guests' time is part of the users'.
fn processor(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|time| time.parse().ok())
        .collect();
    let idle = times.get(3)? + times.get(4).unwrap_or(&0);
    let total: u64 = times.iter().sum();
    Some((total, total - idle))
}

fn memory(meminfo: &str) -> Option<f64> {
    let kilobytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
    };
    let (total, available) = (kilobytes("MemTotal:")?, kilobytes("MemAvailable:")?);
    (total > 0.0).then(|| 100.0 * (total - available) / total)
}

#[cfg(test)]
mod tests {
    use super::{Reading, Usage, memory, of_system, processor};

    #[test]
    fn counts_waiting_for_disks_as_idle_and_guests_once() {
        let stat = "cpu  100 10 20 500 50 5 5 10 90 9\ncpu0 1 2 3 4\n";
        assert_eq!(processor(stat), Some((700, 150)));
        assert_eq!(processor("intr 1"), None);
    }

    #[test]
    fn memory_that_can_be_freed_is_not_in_use() {
        let meminfo = "MemTotal:       1000 kB\nMemFree:  100 kB\nMemAvailable:    750 kB\n";
        assert_eq!(memory(meminfo), Some(25.0));
        assert_eq!(memory("MemTotal: 1000 kB\n"), None, "an old system does not tell");
    }

    #[test]
    fn usage_is_the_share_between_two_readings() {
        let reading = |total, busy| Reading {
            total,
            busy,
            memory: 40.0,
        };
        let usage = Usage::between(reading(1000, 500), reading(1200, 550)).unwrap();
        assert_eq!((usage.cpu, usage.memory), (25.0, 40.0));
        assert_eq!(
            Usage::between(reading(1000, 500), reading(1000, 500)),
            None,
            "no time has passed"
        );
    }

    #[test]
    fn this_system_tells() {
        let reading = of_system().unwrap();
        assert!(reading.total >= reading.busy && (0.0..=100.0).contains(&reading.memory));
    }
}
