//! The three ways to a threshold, with calls that are refused beyond it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::*;

#[tokio::test(start_paused = true)]
async fn direct_reads_the_last_two_half_seconds() {
    let filter = of(json!([{"resource": "/a", "threshold": 3}]));
    advance_ms(499).await;
    assert_eq!(passed(&filter, "/a", 2).await, 2);
    advance_ms(1).await;
    assert_eq!(passed(&filter, "/a", 5).await, 1);
    // The first two leave the window as a third half second begins.
    advance_ms(499).await;
    assert_eq!(passed(&filter, "/a", 5).await, 0);
    advance_ms(1).await;
    assert_eq!(passed(&filter, "/a", 5).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_fraction_of_a_threshold_lets_no_call_pass() {
    for (threshold, expected) in [(0.0, 0), (0.9, 0), (1.0, 1), (2.5, 2)] {
        let filter = of(json!([{"resource": "/a", "threshold": threshold}]));
        assert_eq!(passed(&filter, "/a", 5).await, expected, "{threshold}");
    }
}

/// T = 10 per second, period 10 s, cold factor 3: warn = 10·10/2 = 50, max = 50 + 2·10·10/4 = 100,
/// slope = 2/10/50 = 0.004. Cold, 1/(50·0.004 + 0.1) = 3.33 calls pass.
fn warming() -> FlowControl {
    of(json!([{"resource": "/a", "threshold": 10, "tokenCalculateStrategy": 1, "warmUpPeriodSec": 10}]))
}

#[tokio::test(start_paused = true)]
async fn a_cold_resource_gets_a_third_and_warms_up_with_use() {
    let filter = warming();
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(passed(&filter, "/a", 20).await);
        advance_ms(1000).await;
    }
    // Tokens at the beginning of each second: each call of the second before took one. What is
    // read then is the window that ended half a second before, which is all of that second.
    // 100: 3.3. 97: 1/(47·0.004+0.1) = 3.47. 94: 3.62. 91: 3.79. 88: 3.97. 85: 4.17. 81: 4.46.
    // 77: 4.81. 73: 5.21. 68: 5.81. 63: 6.58. 57: 7.81. 50: 10.
    assert_eq!(seen[..13], [3, 3, 3, 3, 3, 4, 4, 4, 5, 5, 6, 7, 10]);
    assert_eq!(seen[13..], [10; 7]);
}

#[tokio::test(start_paused = true)]
async fn a_warm_resource_cools_when_it_is_quiet() {
    let filter = warming();
    for _ in 0..20 {
        passed(&filter, "/a", 20).await;
        advance_ms(1000).await;
    }
    // Ten tokens a second come back, up to a hundred.
    advance_ms(10_000).await;
    assert_eq!(passed(&filter, "/a", 20).await, 3);
}

#[tokio::test(start_paused = true)]
async fn the_cold_factor_tells_how_cold_it_gets() {
    // warn = 8·20/4 = 40, max = 40 + 2·8·20/6 = 93.3, slope = 4/20/53.3; cold 20/5 = 4.
    let filter = of(
        json!([{"resource": "/a", "threshold": 20, "tokenCalculateStrategy": 1,
        "warmUpPeriodSec": 8, "warmUpColdFactor": 5}]),
    );
    assert_eq!(passed(&filter, "/a", 50).await, 4);
}

#[tokio::test(start_paused = true)]
async fn rounding_costs_no_call() {
    // A third of 117 comes out as 38.99999999999999.
    let filter =
        of(json!([{"resource": "/a", "threshold": 117, "tokenCalculateStrategy": 1, "warmUpPeriodSec": 1}]));
    assert_eq!(passed(&filter, "/a", 50).await, 39);
}

#[tokio::test(start_paused = true)]
async fn warming_up_does_not_depend_on_the_interval() {
    // Ten a second, written as a hundred in ten seconds: a third of it is 33.
    let filter = of(
        json!([{"resource": "/a", "threshold": 100, "tokenCalculateStrategy": 1,
        "warmUpPeriodSec": 10, "statIntervalInMs": 10_000}]),
    );
    assert_eq!(passed(&filter, "/a", 200).await, 33);
}

#[tokio::test(start_paused = true)]
async fn a_small_threshold_warms_up_too() {
    // Cold, 2/3 of a call would pass; one does, so that it gets warm.
    let filter =
        of(json!([{"resource": "/a", "threshold": 2, "tokenCalculateStrategy": 1, "warmUpPeriodSec": 5}]));
    let mut seen = Vec::new();
    for _ in 0..12 {
        seen.push(passed(&filter, "/a", 9).await);
        advance_ms(1000).await;
    }
    assert_eq!((seen[0], seen[11]), (1, 2));
}

fn by_memory(behavior: u32, memory: Memory) -> FlowControl {
    let config = json!({"global_switch": true, "rules": [{
        "resource": "/a", "tokenCalculateStrategy": 2, "controlBehavior": behavior,
        "lowMemUsageThreshold": 10, "highMemUsageThreshold": 2, "maxQueueingTimeMs": 10_000,
        "memLowWaterMarkBytes": 1000, "memHighWaterMarkBytes": 2000}]});
    build_from(config, memory).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_threshold_falls_evenly_between_the_water_marks() {
    for (bytes, expected) in [
        (None, 10),
        (Some(0), 10),
        (Some(1000), 10),
        (Some(1250), 8),
        (Some(1500), 6),
        (Some(1999), 2),
        (Some(2000), 2),
        (Some(1 << 40), 2),
    ] {
        let filter = by_memory(0, Memory::from(move || bytes));
        assert_eq!(passed(&filter, "/a", 20).await, expected, "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_noticed_within_a_second() {
    let bytes = Arc::new(AtomicU64::new(1000));
    let source = bytes.clone();
    let filter = by_memory(0, Memory::from(move || Some(source.load(Ordering::Relaxed))));
    assert_eq!(passed(&filter, "/a", 20).await, 10);
    bytes.store(2000, Ordering::Relaxed);
    advance_ms(1000).await;
    assert_eq!(passed(&filter, "/a", 20).await, 2);
}

#[tokio::test(start_paused = true)]
async fn the_pace_falls_with_memory_too() {
    for (bytes, spacing) in [(1000, 100), (1500, 167), (2000, 500)] {
        let filter = by_memory(1, Memory::from(move || Some(bytes)));
        let begin = Instant::now();
        assert_eq!(passed(&filter, "/a", 2).await, 2);
        assert_eq!(begin.elapsed().as_millis(), spacing, "{bytes}");
    }
}
