//! The memory of the process, read at most once a second.

use std::{
    fmt, fs,
    sync::atomic::{AtomicU64, Ordering},
};

const SECOND: u64 = 1_000_000_000;
const UNKNOWN: u64 = u64::MAX;

type Source = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The memory that is in use. It is read by a request that finds the last reading to be a second
/// old: the file is the kernel's, no disk is touched, and without requests nothing is read.
pub struct Memory {
    source: Source,
    bytes: AtomicU64,
    /// When it is to be read again, in nanoseconds of the filter's clock.
    due: AtomicU64,
}

impl Memory {
    /// The resident memory of this process.
    pub fn of_this_process() -> Self {
        Self::from(resident)
    }

    /// What `source` tells.
    pub fn from(source: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Self {
            source: Box::new(source),
            bytes: AtomicU64::new(UNKNOWN),
            due: AtomicU64::new(0),
        }
    }

    /// Bytes in use at `now`, at most a second old; `None` where the system does not tell.
    pub fn bytes(&self, now: u64) -> Option<u64> {
        let due = self.due.load(Ordering::Acquire);
        let claim = || {
            self.due
                .compare_exchange(due, now + SECOND, Ordering::AcqRel, Ordering::Relaxed)
        };
        if now >= due && claim().is_ok() {
            self.bytes
                .store((self.source)().unwrap_or(UNKNOWN), Ordering::Release);
        }
        Some(self.bytes.load(Ordering::Acquire)).filter(|bytes| *bytes != UNKNOWN)
    }
}

/// The second number of `/proc/self/statm` (proc(5)), which is in pages.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory() {
        let bytes = Memory::of_this_process().bytes(0).unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
    }

    #[test]
    fn it_is_read_at_most_once_a_second() {
        let reads = Arc::new(AtomicU64::new(0));
        let counted = reads.clone();
        let memory = Memory::from(move || Some(counted.fetch_add(1, Ordering::Relaxed)));
        for now in [0, 1, SECOND - 1] {
            assert_eq!(memory.bytes(now), Some(0));
        }
        assert_eq!(memory.bytes(SECOND), Some(1));
        assert_eq!(reads.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_system_that_does_not_tell_is_no_number() {
        assert_eq!(Memory::from(|| None).bytes(0), None);
    }
}
