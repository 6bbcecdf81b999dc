//! How exact the windows of Reject are, for any times of calls.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::filter::flow_control::window::Cut;

/// The times, in nanoseconds from the filter's start, of the calls that pass.
fn times_of_passed(interval_ms: u32, threshold: f64, gaps: &[u64]) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let filter = of(json!([
            {"resource": "/a", "threshold": threshold, "statIntervalInMs": interval_ms},
        ]));
        let mut times = Vec::new();
        for gap in gaps {
            advance_ms(*gap).await;
            if passes(&filter, "/a").await {
                times.push(filter.surroundings.clock.now());
            }
        }
        times
    })
}

/// The most of `times` in a window of `length` that begins with one of them.
fn most_within(times: &[u64], length: u64) -> usize {
    let within = |begin: &u64| {
        times
            .iter()
            .filter(|time| (*begin..begin + length).contains(time))
            .count()
    };
    times.iter().map(within).max().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A window is made of whole buckets. So the threshold is kept exactly in each interval that
    /// begins with a bucket, and in any stretch of time that is a bucket shorter than the
    /// interval, wherever it begins. Of an interval that begins inside a bucket, the part of that
    /// bucket may come on top, which is never more than the threshold once more.
    #[test]
    fn no_window_lets_more_pass_than_the_threshold(
        interval_ms in prop::sample::select(vec![100, 500, 1000, 1250, 2000, 10_000, 30_000]),
        threshold in 0_u32..6,
        gaps in prop::collection::vec(prop_oneof![3 => 0_u64..5, 2 => 0_u64..700, 1 => 0_u64..20_000], 1..80),
    ) {
        let times = times_of_passed(interval_ms, f64::from(threshold), &gaps);
        let interval = u64::from(interval_ms) * 1_000_000;
        let bucket = Cut::of(Duration::from_nanos(interval)).bucket;
        let limit = threshold as usize;
        for time in &times {
            let begin = time / bucket * bucket;
            let aligned = times.iter().filter(|time| (begin..begin + interval).contains(time)).count();
            prop_assert!(aligned <= limit);
        }
        prop_assert!(most_within(&times, interval - bucket) <= limit);
        prop_assert!(most_within(&times, interval) <= 2 * limit);
    }

    /// Nothing is refused without need: at the time of a refused call, the interval before it
    /// holds the threshold.
    #[test]
    fn a_call_is_refused_only_if_the_interval_before_it_is_full(
        threshold in 1_u32..6,
        gaps in prop::collection::vec(prop_oneof![0_u64..5, 0_u64..700], 1..80),
    ) {
        let times = times_of_passed(1000, f64::from(threshold), &gaps);
        let mut now = 0;
        for gap in gaps {
            now += gap * 1_000_000;
            if !times.contains(&now) {
                let before = times.iter().filter(|time| (now.saturating_sub(1_000_000_000)..=now).contains(*time));
                prop_assert!(before.count() >= threshold as usize);
            }
        }
    }
}

#[test]
fn calls_at_the_same_time_do_not_take_the_same_place() {
    const ROUNDS: usize = 100;
    const CALLERS: usize = 2;
    // One filter per round, each with one place.
    let one_place = |_| of(json!([{"resource": "/a", "threshold": 1, "statIntervalInMs": 600_000}]));
    let filters: Vec<_> = (0..ROUNDS).map(one_place).collect();
    let arrived = AtomicUsize::new(0);
    let call = |(round, filter): (usize, &FlowControl)| {
        let resource = filter.set.load().rules.find("/a").unwrap().clone();
        arrived.fetch_add(1, Ordering::Relaxed);
        // Both must go on at the same instant; one that slept would come late.
        while arrived.load(Ordering::Relaxed) < (round + 1) * CALLERS {
            std::hint::spin_loop();
        }
        resource.admit_now(&filter.surroundings)
    };
    let caller = || filters.iter().enumerate().filter(|round| call(*round)).count();
    let passed: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert_eq!(passed, ROUNDS);
}
