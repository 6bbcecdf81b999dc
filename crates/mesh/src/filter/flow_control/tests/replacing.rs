//! The rules are looked at and replaced while they are at work.

use super::*;

fn on(rules: Value) -> Value {
    json!({"global_switch": true, "rules": rules})
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_are_the_configuration_and_the_counts() {
    let filter = of(json!([
        {"resource": "/a", "threshold": 2},
        {"resource": "/b", "threshold": 9, "statIntervalInMs": 5000, "relationStrategy": 1, "refResource": "/c"},
    ]));
    passed(&filter, "/a", 5).await;
    passed(&filter, "/b", 1).await;
    let shown = filter.tunable().unwrap().show();
    let counts = |window: u64, passed: u64, blocked: u64| json!({"windowMs": window, "passed": passed, "blocked": blocked});
    assert_eq!(
        shown["resources"],
        json!({"/a": counts(1000, 2, 3), "/b": counts(5000, 1, 0), "/c": counts(5000, 0, 0)})
    );
    assert_eq!(shown["config"]["rules"][0]["threshold"], json!(2.0));
    advance_ms(1000).await;
    assert_eq!(filter.show()["resources"]["/a"], counts(1000, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_can_be_put_back() {
    let filter = of(json!([{"resource": "/a", "threshold": 2}]));
    let shown = filter.show();
    filter.tune(shown["config"].clone()).unwrap();
    assert_eq!(filter.show(), shown);
}

#[tokio::test(start_paused = true)]
async fn rules_that_stay_keep_their_windows() {
    let stays = json!({"resource": "/a", "threshold": 2});
    let filter = of(json!([stays]));
    assert_eq!(passed(&filter, "/a", 1).await, 1);
    let more = json!({"resource": "/b", "threshold": 1, "statIntervalInMs": 300});
    filter.tune(on(json!([more, stays]))).unwrap();
    assert_eq!(passed(&filter, "/a", 5).await, 1);
    assert_eq!(passed(&filter, "/b", 5).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_threshold_counts_what_has_passed() {
    let filter = of(json!([{"resource": "/a", "threshold": 2}]));
    assert_eq!(passed(&filter, "/a", 5).await, 2);
    filter
        .tune(on(json!([{"resource": "/a", "threshold": 5}])))
        .unwrap();
    assert_eq!(passed(&filter, "/a", 9).await, 3);
    filter.tune(on(json!([]))).unwrap();
    assert_eq!(passed(&filter, "/a", 9).await, 9);
}

#[tokio::test(start_paused = true)]
async fn a_line_stays_when_its_rule_does() {
    let rule = json!({"resource": "/a", "threshold": 1, "controlBehavior": 1, "maxQueueingTimeMs": 900});
    let filter = of(json!([rule]));
    assert!(passes(&filter, "/a").await);
    filter.tune(on(json!([rule]))).unwrap();
    assert!(!passes(&filter, "/a").await);
}

#[tokio::test(start_paused = true)]
async fn two_equal_rules_have_a_line_each() {
    let rule = json!({"resource": "/a", "threshold": 1, "controlBehavior": 1, "maxQueueingTimeMs": 1000});
    let filter = of(json!([rule, rule]));
    filter.tune(on(json!([rule, rule]))).unwrap();
    let begin = Instant::now();
    assert!(passes(&filter, "/a").await);
    assert!(passes(&filter, "/a").await);
    assert_eq!(begin.elapsed().as_millis(), 1000);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_changes_nothing() {
    let filter = of(json!([{"resource": "/a", "threshold": 1}]));
    for (config, error) in [
        (
            on(json!([{"resource": "/a", "threshold": 9}, {"resource": "/b", "threshold": -1}])),
            "rules[1].threshold: found -1, expected a number from 0",
        ),
        (
            on(json!([{"resource": "/a", "threshold": 9, "treshold": 2}])),
            "rules[0].treshold: nothing reads this key",
        ),
        (
            json!({"dynamic_data_resources": []}),
            "dynamic_data_resources: nothing reads this key",
        ),
        (
            on(json!([{"resource": "/a"}, {"resource": "/a", "threshold": "many"}])),
            "rules[1].threshold: expected a number",
        ),
        (json!([]), "found [], expected an object"),
        (
            json!({"global_switch": "x"}),
            "global_switch: expected true or false",
        ),
    ] {
        assert_eq!(filter.tune(config).unwrap_err(), error);
    }
    assert_eq!(passed(&filter, "/a", 5).await, 1);
}

#[tokio::test(start_paused = true)]
async fn keys_of_old_files_are_no_error() {
    let filter = of(json!([]));
    let config = json!({"app_name": "a", "log_path": "/tmp", "global_switch": true,
        "rules": [{"resource": "/a", "grade": 1, "limitApp": "", "strategy": 0, "threshold": 1}]});
    filter.tune(config).unwrap();
    assert_eq!(passed(&filter, "/a", 5).await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_switch_can_be_turned() {
    let filter = of(json!([{"resource": "/a", "threshold": 1}]));
    assert_eq!(passed(&filter, "/a", 2).await, 1);
    filter
        .tune(json!({"global_switch": false, "rules": [{"resource": "/a", "threshold": 1}]}))
        .unwrap();
    assert_eq!(passed(&filter, "/a", 2).await, 2);
}
