use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::filter::testing::{grpc, http, run, written};

fn plan(config: &Value) -> Arc<Plan> {
    Arc::new(Plan::read(config).unwrap())
}

/// The filter, with the numbers its dice show.
fn fault(config: Value, dice: &[f64]) -> Fault {
    Fault {
        plan: plan(&config),
        dice: Box::new(written(dice)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_waits_and_passes() {
    let filter = fault(
        json!({"delay": {"percentage": 50, "fixed_delay": "3s"}}),
        &[49.9, 50.0],
    );
    let begin = Instant::now();
    let outcome = run(&filter, http("/")).await;
    assert_eq!((outcome.status, &*outcome.body), (200, b"passed".as_slice()));
    assert_eq!(outcome.flags, Flags::DELAY);
    assert_eq!(begin.elapsed().as_secs(), 3);

    let outcome = run(&filter, http("/")).await;
    assert_eq!(outcome.flags, Flags::default());
    assert_eq!(begin.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn an_aborted_request_gets_the_status() {
    let filter = fault(json!({"abort": {"percentage": 10, "status": 503}}), &[9.9, 10.0]);
    let outcome = run(&filter, http("/")).await;
    assert_eq!((outcome.status, outcome.flags), (503, Flags::FAULT));
    assert_eq!(outcome.body, TEXT);
    assert_eq!(run(&filter, http("/")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_delayed_before_it_is_aborted() {
    let config = json!({"delay": {"percentage": 100, "fixed_delay": "1s"},
        "abort": {"percentage": 100, "status": 500}});
    let begin = Instant::now();
    let outcome = run(&fault(config, &[99.99]), http("/")).await;
    assert_eq!(outcome.status, 500);
    assert!(outcome.flags.contains(Flags::DELAY) && outcome.flags.contains(Flags::FAULT));
    assert_eq!(begin.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn grpc_callers_get_a_grpc_status() {
    for (status, code) in [
        (400, "13"),
        (401, "16"),
        (403, "7"),
        (404, "12"),
        (429, "14"),
        (503, "14"),
        (500, "2"),
    ] {
        let filter = fault(json!({"abort": {"percentage": 100, "status": status}}), &[0.0]);
        let outcome = run(&filter, grpc("/a.B/C")).await;
        assert_eq!(
            (outcome.status, outcome.grpc()),
            (200, Some((code, TEXT))),
            "{status}"
        );
    }
}

#[tokio::test]
async fn only_requests_that_meet_all_header_conditions_are_touched() {
    let filter = fault(
        json!({"abort": {"percentage": 100, "status": 500}, "headers": [
            {"name": "User", "value": "jason"},
            {"name": "version", "value": "^v[12]$", "regex": true},
            {"name": "test"},
        ]}),
        &[0.0],
    );
    for (headers, status) in [
        (&[("user", "jason"), ("version", "v2"), ("test", "")] as &[_], 500),
        (
            &[
                ("user", "bob"),
                ("user", "jason"),
                ("version", "v1"),
                ("test", "x"),
            ],
            500,
        ),
        (&[("user", "jason"), ("version", "v3"), ("test", "")], 200),
        (&[("user", "jasons"), ("version", "v1"), ("test", "")], 200),
        (&[("user", "jason"), ("version", "v1")], 200),
        (&[], 200),
    ] {
        let mut request = http("/");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        assert_eq!(run(&filter, request).await.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn with_a_cluster_requests_without_a_route_to_it_are_left_alone() {
    let config = json!({"abort": {"percentage": 100, "status": 500}, "upstream_cluster": "a"});
    assert_eq!(run(&fault(config, &[0.0]), http("/")).await.status, 200);
}

#[test]
fn a_route_has_its_own_plan() {
    let filter = fault(json!({"abort": {"percentage": 100, "status": 500}}), &[0.0]);
    let route = KIND.route_config.unwrap()(&json!({"abort": {"percentage": 1, "status": 404}})).unwrap();
    let abort = |plan: Arc<Plan>| plan.abort.unwrap();
    assert_eq!(abort(filter.plan(Some(route))), (1.0, StatusCode::NOT_FOUND));
    assert_eq!(
        abort(filter.plan(None)),
        (100.0, StatusCode::INTERNAL_SERVER_ERROR)
    );
}

#[tokio::test]
async fn about_as_many_requests_fail_as_asked_for() {
    let config = json!({"abort": {"percentage": 25, "status": 500}});
    let filter = build(&config, &Context::default()).unwrap();
    let mut failed = 0;
    for _ in 0..2000 {
        failed += u32::from(run(&*filter, http("/")).await.status == 500);
    }
    // 500 is expected; this is eight standard deviations to either side.
    assert!((345..=655).contains(&failed), "{failed}");
}

#[test]
fn a_bad_configuration_builds_nothing() {
    for (config, error) in [
        (
            json!({"delay": {"percentage": 101}}),
            "delay.percentage: found 101, expected a number from 0 to 100",
        ),
        (
            json!({"abort": {"percentage": -1, "status": 500}}),
            "abort.percentage: found -1, expected a number from 0 to 100",
        ),
        (
            json!({"abort": {"percentage": 1}}),
            "abort.status: found 0, expected an HTTP status from 200 to 599",
        ),
        (
            json!({"headers": [{"value": "x"}]}),
            "headers[0].name: found \"\", expected the name of a header",
        ),
    ] {
        let found = build(&config, &Context::default()).err().unwrap();
        assert_eq!(found.to_string(), error);
    }
    let bad = json!({"headers": [{"name": "a", "value": "(", "regex": true}]});
    let found = build(&bad, &Context::default()).err().unwrap();
    assert_eq!(found.path, "headers[0].value");
}
