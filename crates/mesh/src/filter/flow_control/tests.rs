use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};

use super::*;
use crate::filter::testing::{Outcome, grpc, http, run, run_over};

mod replacing;
mod sliding;
mod thresholds;
mod throttling;

const HELLO: &str = "/spec.proto.runtime.v1.Runtime/SayHello";

fn build_from(config: Value, memory: Memory) -> Result<FlowControl, ConfigError> {
    FlowControl::new(crate::filter::read(&config)?, memory)
}

/// The filter with these rules, switched on.
fn of(rules: Value) -> FlowControl {
    let config = json!({"global_switch": true, "rules": rules});
    build_from(config, Memory::from(|| None)).unwrap()
}

async fn passes(filter: &FlowControl, path: &str) -> bool {
    match run(filter, http(path)).await.status {
        200 => true,
        509 => false,
        status => panic!("answered {status}"),
    }
}

/// How many of `calls` calls at once pass.
async fn passed(filter: &FlowControl, path: &str, calls: usize) -> usize {
    let mut passed = 0;
    for _ in 0..calls {
        passed += usize::from(passes(filter, path).await);
    }
    passed
}

async fn advance_ms(ms: u64) {
    advance(Duration::from_millis(ms)).await;
}

// deviation: D048
#[tokio::test(start_paused = true)]
async fn the_quickstart_lets_five_calls_pass_and_refuses_the_rest() {
    let config = json!({
        "global_switch": true, "limit_key_type": "PATH",
        "rules": [{"resource": HELLO, "grade": 1, "threshold": 5}],
    });
    let filter = build(&config, &Context::default()).unwrap();
    for at in 0..10 {
        let outcome = run(&*filter, grpc(HELLO)).await;
        match at {
            0..5 => assert_eq!(
                (&*outcome.body, outcome.flags),
                (b"passed".as_slice(), Flags::default())
            ),
            _ => {
                assert_eq!(outcome.grpc(), Some(("8", "current request is limited")));
                assert_eq!(outcome.flags, Flags::RATE_LIMITED);
            }
        }
        assert_eq!(run(&*filter, grpc("/other.Service/Method")).await.grpc(), None);
    }
    advance_ms(1000).await;
    assert_eq!(run(&*filter, grpc(HELLO)).await.grpc(), None);
}

// deviation: D046
#[tokio::test(start_paused = true)]
async fn http_callers_get_the_configured_answer_and_nothing_of_their_request() {
    let config = json!({"global_switch": true, "action": {"status": 429, "body": "slow down"},
        "rules": [{"resource": "/a", "threshold": 0}]});
    let filter = build_from(config, Memory::from(|| None)).unwrap();
    let mut request = http("/a");
    for name in ["cookie", "authorization", "x-anything"] {
        request.headers_mut().insert(name, "secret".parse().unwrap());
    }
    let Outcome {
        status,
        headers,
        body,
        flags,
        ..
    } = run(&filter, request).await;
    assert_eq!(
        (status, &*body, flags),
        (429, b"slow down".as_slice(), Flags::RATE_LIMITED)
    );
    assert_eq!(headers.len(), 1);
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_is_off_limits_nothing() {
    for switch in [json!(false), Value::Null] {
        let mut config = json!({"rules": [{"resource": "/a", "threshold": 0}]});
        if !switch.is_null() {
            config["global_switch"] = switch;
        }
        let filter = build_from(config, Memory::from(|| None)).unwrap();
        assert_eq!(passed(&filter, "/a", 3).await, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn the_key_type_tells_what_names_a_resource() {
    let http2 = |uri: &str| {
        let mut request = http(uri);
        *request.version_mut() = http::Version::HTTP_2;
        request
    };
    for (key, limited, free) in [
        (
            "PATH",
            ["/a%2fb?q=1", "/a%2Fb", "http://host/%61/b"].as_slice(),
            ["/a", "/A/b"],
        ),
        ("ARG", &["/x?a=1&b=2", "/y?a=1&b=2"], ["/x", "/x?b=2&a=1"]),
        ("URI", &["/a%2Fb?q=1"], ["/a%2Fb", "/a/b?q=1"]),
    ] {
        let resource = match key {
            "PATH" => "/a/b",
            "ARG" => "a=1&b=2",
            _ => "/a%2Fb?q=1",
        };
        let config = json!({"global_switch": true, "limit_key_type": key,
            "rules": [{"resource": resource, "threshold": 0}]});
        let filter = build_from(config, Memory::from(|| None)).unwrap();
        for uri in limited {
            assert_eq!(run(&filter, http(uri)).await.status, 509, "{key} {uri}");
            assert_eq!(run(&filter, http2(uri)).await.status, 509, "{key} {uri}");
        }
        for uri in free {
            assert_eq!(run(&filter, http(uri)).await.status, 200, "{key} {uri}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_is_its_method_whatever_the_key_type() {
    for key in ["PATH", "ARG", "URI"] {
        let config = json!({"global_switch": true, "limit_key_type": key,
            "rules": [{"resource": HELLO, "threshold": 0}]});
        let filter = build_from(config, Memory::from(|| None)).unwrap();
        assert!(run(&filter, grpc(HELLO)).await.grpc().is_some(), "{key}");
    }
}

// deviation: D049
#[tokio::test(start_paused = true)]
async fn a_stream_counts_once_when_it_begins() {
    let filter = of(json!([{"resource": HELLO, "threshold": 1}]));
    let endless = run_over(&filter, grpc(HELLO), async |_| std::future::pending().await);
    let mut endless = std::pin::pin!(endless);
    assert!(futures::poll!(&mut endless).is_pending());
    assert!(run(&filter, grpc(HELLO)).await.grpc().is_some());
    advance_ms(1000).await;
    assert!(futures::poll!(&mut endless).is_pending());
    assert_eq!(run(&filter, grpc(HELLO)).await.grpc(), None);
}

// deviation: D050
#[tokio::test(start_paused = true)]
async fn filters_do_not_share_counts() {
    let rules = json!([{"resource": "/a", "threshold": 1}]);
    let (one, other) = (of(rules.clone()), of(rules));
    assert_eq!(passed(&one, "/a", 2).await, 1);
    assert_eq!(passed(&other, "/a", 2).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_must_pass_all_rules_of_its_resource() {
    let filter = of(json!([
        {"resource": "/a", "threshold": 2},
        {"resource": "/a", "threshold": 3, "statIntervalInMs": 10_000},
    ]));
    assert_eq!(passed(&filter, "/a", 5).await, 2);
    advance_ms(1000).await;
    assert_eq!(passed(&filter, "/a", 5).await, 1);
    advance_ms(1000).await;
    assert_eq!(passed(&filter, "/a", 5).await, 0);
    // Those refused did not count.
    advance_ms(8000).await;
    assert_eq!(passed(&filter, "/a", 5).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_related_rule_counts_the_other_resource() {
    let filter = of(json!([
        {"resource": "/read", "threshold": 2, "relationStrategy": 1, "refResource": "/write"},
    ]));
    assert_eq!(passed(&filter, "/read", 9).await, 9);
    assert_eq!(passed(&filter, "/write", 1).await, 1);
    assert_eq!(passed(&filter, "/read", 9).await, 9);
    assert_eq!(passed(&filter, "/write", 9).await, 9);
    assert_eq!(passed(&filter, "/read", 9).await, 0);
    advance_ms(1000).await;
    assert_eq!(passed(&filter, "/read", 9).await, 9);
}

#[test]
fn bad_rules_name_the_key_and_what_is_accepted() {
    let warm_up = json!({"tokenCalculateStrategy": 1, "warmUpPeriodSec": 1});
    let memory = json!({"tokenCalculateStrategy": 2, "threshold": null, "lowMemUsageThreshold": 9,
        "highMemUsageThreshold": 1, "memLowWaterMarkBytes": 5, "memHighWaterMarkBytes": 6});
    for (base, change, error) in [
        (
            &json!({}),
            json!({"resource": ""}),
            "rules[0].resource: found \"\", expected the name of a resource",
        ),
        (
            &json!({}),
            json!({"threshold": null}),
            "rules[0].threshold: found nothing, expected a number from 0",
        ),
        (
            &json!({}),
            json!({"id": "r1", "threshold": -1}),
            "rules[0].threshold: rule \"r1\": found -1, expected a number from 0",
        ),
        (
            &json!({}),
            json!({"tokenCalculateStrategy": 3}),
            "rules[0].tokenCalculateStrategy: found 3, expected 0 (Direct), 1 (WarmUp) or 2 (MemoryAdaptive)",
        ),
        (
            &json!({}),
            json!({"controlBehavior": 2}),
            "rules[0].controlBehavior: found 2, expected 0 (Reject) or 1 (Throttling)",
        ),
        (
            &json!({}),
            json!({"relationStrategy": 1}),
            "rules[0].refResource: found \"\", expected the name of the other resource",
        ),
        (
            &json!({}),
            json!({"relationStrategy": 2}),
            "rules[0].relationStrategy: found 2, expected 0 (the resource) or 1 (refResource)",
        ),
        (
            &warm_up,
            json!({"threshold": 0}),
            "rules[0].threshold: found 0, expected a number above 0",
        ),
        (
            &warm_up,
            json!({"warmUpPeriodSec": 0}),
            "rules[0].warmUpPeriodSec: found 0, expected a number from 1",
        ),
        (
            &warm_up,
            json!({"warmUpColdFactor": 1}),
            "rules[0].warmUpColdFactor: found 1, expected a number from 2, or 0 for 3",
        ),
        (
            &memory,
            json!({"lowMemUsageThreshold": 0}),
            "rules[0].lowMemUsageThreshold: found 0, expected a number from 1",
        ),
        (
            &memory,
            json!({"highMemUsageThreshold": 9}),
            "rules[0].highMemUsageThreshold: found 9, expected a number from 1 that is less than lowMemUsageThreshold (9)",
        ),
        (
            &memory,
            json!({"memLowWaterMarkBytes": 0}),
            "rules[0].memLowWaterMarkBytes: found 0, expected a number from 1",
        ),
        (
            &memory,
            json!({"memHighWaterMarkBytes": 5}),
            "rules[0].memHighWaterMarkBytes: found 5, expected a number above memLowWaterMarkBytes (5)",
        ),
    ] {
        let mut rule = json!({"resource": "/a", "threshold": 1});
        for more in [base, &change] {
            rule.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
        }
        let found = build(&json!({"rules": [rule]}), &Context::default())
            .err()
            .unwrap();
        assert_eq!(found.to_string(), error);
    }
    for (config, error) in [
        (
            json!({"limit_key_type": "HOST"}),
            "limit_key_type: found \"HOST\", expected \"PATH\", \"ARG\" or \"URI\"",
        ),
        (
            json!({"action": {"status": 1}}),
            "action.status: found 1, expected an HTTP status from 200 to 599",
        ),
    ] {
        let found = build(&config, &Context::default()).err().unwrap();
        assert_eq!(found.to_string(), error);
    }
}
