//! Calls that wait for their turn.

use futures::{FutureExt, future::join_all};

use super::*;

fn of_ten_a_second(max_wait: u64) -> FlowControl {
    of(json!([{"resource": "/a", "threshold": 10, "controlBehavior": 1, "maxQueueingTimeMs": max_wait}]))
}

/// When each of `calls` calls made at once was answered, in milliseconds, and how.
async fn at_once(filter: &FlowControl, calls: usize) -> Vec<(u128, bool)> {
    let begin = Instant::now();
    let call = async || (passes(filter, "/a").await, begin.elapsed().as_millis());
    let answers = join_all((0..calls).map(|_| call())).await;
    answers.into_iter().map(|(passed, at)| (at, passed)).collect()
}

#[tokio::test(start_paused = true)]
async fn calls_pass_at_an_even_pace_and_who_would_wait_too_long_is_refused_at_once() {
    let answers = at_once(&of_ten_a_second(300), 6).await;
    assert_eq!(
        answers,
        [
            (0, true),
            (100, true),
            (200, true),
            (300, true),
            (0, false),
            (0, false)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_early_calls_are_refused() {
    let filter = of_ten_a_second(0);
    assert!(passes(&filter, "/a").await);
    advance_ms(99).await;
    assert!(!passes(&filter, "/a").await);
    advance_ms(1).await;
    assert!(passes(&filter, "/a").await);
    // Time that passed unused is lost: there are no bursts.
    advance_ms(5000).await;
    assert_eq!(passed(&filter, "/a", 3).await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_of_the_interval() {
    // 3 in 500 ms: one each 166.67 ms, and never sooner.
    let filter = of(json!([{"resource": "/a", "threshold": 3, "statIntervalInMs": 500,
        "controlBehavior": 1, "maxQueueingTimeMs": 400}]));
    let answers = at_once(&filter, 4).await;
    assert_eq!(answers, [(0, true), (167, true), (334, true), (0, false)]);
}

#[tokio::test(start_paused = true)]
async fn less_than_one_call_an_interval_is_a_slow_pace() {
    let filter =
        of(json!([{"resource": "/a", "threshold": 0.5, "controlBehavior": 1, "maxQueueingTimeMs": 2000}]));
    assert_eq!(at_once(&filter, 3).await, [(0, true), (2000, true), (0, false)]);
    let closed =
        of(json!([{"resource": "/a", "threshold": 0, "controlBehavior": 1, "maxQueueingTimeMs": 2000}]));
    assert_eq!(at_once(&closed, 1).await, [(0, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_cold_resource_has_a_slow_pace() {
    // Cold, 10/3 calls a second: one each 300 ms.
    let filter = of(
        json!([{"resource": "/a", "threshold": 10, "controlBehavior": 1, "maxQueueingTimeMs": 600,
        "tokenCalculateStrategy": 1, "warmUpPeriodSec": 10}]),
    );
    let answers = at_once(&filter, 4).await;
    assert_eq!(answers, [(0, true), (300, true), (600, true), (0, false)]);
    // In use for long enough, one each 100 ms.
    for _ in 0..400 {
        passes(&filter, "/a").await;
    }
    advance_ms(100).await;
    assert_eq!(at_once(&filter, 3).await, [(0, true), (100, true), (200, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_gives_its_turn_back() {
    let filter = of_ten_a_second(100);
    assert!(passes(&filter, "/a").await);
    let mut waiting = Box::pin(passes(&filter, "/a"));
    assert!((&mut waiting).now_or_never().is_none());
    assert!(!passes(&filter, "/a").await);
    drop(waiting);
    assert_eq!(at_once(&filter, 2).await, [(100, true), (0, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_in_the_middle_of_the_line_moves_nobody() {
    let filter = of_ten_a_second(300);
    assert!(passes(&filter, "/a").await);
    let mut second = Box::pin(passes(&filter, "/a"));
    assert!((&mut second).now_or_never().is_none());
    let third = async {
        let begin = Instant::now();
        (passes(&filter, "/a").await, begin.elapsed().as_millis())
    };
    let mut third = Box::pin(third);
    assert!((&mut third).now_or_never().is_none());
    drop(second);
    assert_eq!(third.await, (true, 200));
    assert_eq!(at_once(&filter, 1).await, [(100, true)]);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_is_asked_by_the_other_rules_then() {
    let filter = of(json!([
        {"resource": "/a", "threshold": 10, "controlBehavior": 1, "maxQueueingTimeMs": 5000},
        {"resource": "/a", "threshold": 2},
    ]));
    let answers = at_once(&filter, 11).await;
    let passed: Vec<_> = answers
        .iter()
        .filter(|(_, passed)| *passed)
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(passed, [0, 100, 1000]);
}
