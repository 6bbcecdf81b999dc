//! What a function does when its reply is there.

use super::*;

/// Answers "done", and does this when it is told of the end.
fn ends(on_done: &str, on_log: &str) -> String {
    let rest = format!(
        r#"(data (i32.const 200) "done") (data (i32.const 300) "slater")
        (func (export "proxy_on_done") (param i32) (result i32) {on_done})
        (func (export "proxy_on_log") (param i32) {on_log})"#
    );
    function("f", STATE, &format!("{} i32.const 0", respond(200, 4)), &rest)
}

#[tokio::test]
async fn a_reply_that_is_there_is_not_lost_with_what_comes_afterwards() {
    for (on_done, on_log) in [("unreachable", ""), ("i32.const 1", "unreachable")] {
        let (functions, _) = with(&[&ends(on_done, on_log)]).await;
        for _ in 0..6 {
            assert_eq!(call(&functions, "f").await.unwrap(), "done");
        }
        let counted = tokio::time::timeout(Duration::from_secs(10), async {
            while functions.status()[0].errors < 6 {
                tokio::task::yield_now().await;
            }
        });
        counted.await.expect("each is counted");
        let status = &functions.status()[0];
        assert!(status.last_trap.as_ref().unwrap().contains("unreachable"));
        assert!(status.up, "it answers");
    }
}

#[tokio::test]
async fn a_reply_does_not_wait_for_what_comes_afterwards_and_the_place_does() {
    let waits = asks_state("later");
    for (on_done, on_log) in [
        (format!("{waits} i32.const 1"), String::new()),
        ("i32.const 1".to_owned(), waits.clone()),
    ] {
        let (functions, host) = functions();
        let mut config = config(&ends(&on_done, &on_log));
        config.serving.places = 1;
        config.serving.wait = Duration::from_millis(10);
        functions.install("f", config).await.unwrap();
        let first = tokio::time::timeout(Duration::from_secs(10), call(&functions, "f")).await;
        assert_eq!(first.expect("at once").unwrap(), "done");
        let second = call(&functions, "f").await.unwrap_err();
        assert!(matches!(second, CallError::Busy(_)), "{second:?}");
        host.later.notify_one();
        let third = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                if let Ok(reply) = call(&functions, "f").await {
                    return reply;
                }
            }
        });
        assert_eq!(third.await.expect("the place is free again"), "done");
    }
}

/// It has no place that would bound how many of them there are.
#[tokio::test]
async fn a_function_waits_for_what_one_that_it_called_does_afterwards() {
    let ending = ends("i32.const 1", &asks_state("later"));
    let (functions, host) = with(&[&asks("a", "f"), &ending]).await;
    let called = tokio::spawn({
        let functions = functions.clone();
        async move { call(&functions, "a").await }
    });
    while host.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!called.is_finished());
    host.later.notify_one();
    assert_eq!(called.await.unwrap().unwrap(), "done");
}

#[tokio::test]
async fn what_comes_afterwards_can_be_waited_for() {
    let (functions, host) = with(&[&ends("i32.const 1", &asks_state("later"))]).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "done");
    let mut ended = std::pin::pin!(functions.ended());
    assert!(futures::poll!(ended.as_mut()).is_pending());
    host.later.notify_one();
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("it ends");
}
