//! What a filter answers itself.

use super::*;

/// Answers from `callback`, and does `after`.
fn answers(callback: &'static str, after: &str) -> String {
    answering(callback, after, &ALL[6..])
}

fn answering(callback: &'static str, after: &str, others: &[(&str, usize, &str)]) -> String {
    let more = format!(
        r#"(data (i32.const 200) "no")
        (func (export "proxy_on_{callback}") (param i32 i32 i32) (result i32)
            (if (call $send_local_response (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 200) (i32.const 2)
                (i32.const 0) (i32.const 0) (i32.const -1)) (then unreachable))
            {after})"#
    );
    filter(others, &more)
}

#[tokio::test]
async fn a_local_response_takes_the_place_of_the_reply_until_that_has_begun() {
    for (callback, after) in [
        ("request_headers", PAUSE),
        ("request_headers", GO_ON),
        ("response_headers", PAUSE),
        ("response_headers", GO_ON),
    ] {
        let (functions, host) = installed(&answers(callback, after)).await;
        let mut exchange = begin(&functions, true).await;
        let stopped = match exchange.request().await {
            Err(stopped) => stopped,
            Ok(_) if callback == "request_headers" => panic!("the request passed"),
            Ok(_) => exchange
                .respond(list(&[(":status", "200")]), true)
                .await
                .unwrap_err(),
        };
        let Stop::Reply(reply) = stopped else {
            panic!("{stopped:?}");
        };
        assert_eq!(
            (reply.status, &reply.body[..], reply.grpc_status),
            (403, &b"no"[..], None)
        );
        if callback == "request_headers" {
            exchange.respond(list(&[(":status", "403")]), true).await.unwrap();
        }
        assert_eq!(logged(&host, 3).await, ["done", "log", "delete"]);
    }
    // The head of the reply has gone: the guest is told so, and traps.
    let (functions, _) = installed(&answers("response_body", PAUSE)).await;
    let mut exchange = begin(&functions, true).await;
    exchange.request().await.unwrap();
    exchange
        .respond(list(&[(":status", "200")]), false)
        .await
        .unwrap();
    let mut lane = exchange.response_body().unwrap();
    lane.into.send(data("body", true)).await.unwrap();
    assert_eq!(next(&mut lane).await, "broken");
}

#[tokio::test]
async fn a_local_response_to_a_reply_does_not_wait_for_the_end_of_the_guest() {
    let headers = pairs::encode(&[(":method", "GET"), (":path", "/never"), (":authority", "a")]);
    let escaped: String = headers.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let asks = format!(
        r#"(drop (call $http_call (i32.const 204) (i32.const 1) (i32.const 300) (i32.const {})
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 60000) (i32.const 16)))
        i32.const 1)
        (data (i32.const 204) "c") (data (i32.const 300) "{escaped}")
        (func (export "proxy_on_done") (param i32) (result i32) i32.const 0"#,
        headers.len()
    );
    let answers = answering("response_headers", &asks, &[]);
    let (functions, _) = installed(&answers).await;
    let mut exchange = begin(&functions, true).await;
    exchange.request().await.unwrap();
    let answered = exchange.respond(list(&[(":status", "200")]), true);
    let answered = tokio::time::timeout(Duration::from_secs(10), answered).await;
    assert!(matches!(answered, Ok(Err(Stop::Reply(_)))), "{answered:?}");
}

/// The code of a local response 403 with the text at 200.
const ANSWERS: &str = "(drop (call $send_local_response (i32.const 403) (i32.const 0) (i32.const 0)
    (i32.const 200) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const -1)))";

#[tokio::test]
async fn a_local_response_to_a_request_passes_the_guest_as_a_reply() {
    for (answers_at, callback) in [(0, "request_headers"), (1, "request_body")] {
        let mut callbacks = ALL;
        let answers = format!("{ANSWERS} {GO_ON}");
        callbacks[answers_at].2 = &answers;
        callbacks[4].2 = "(i32.eqz (local.get 2))";
        let text = filter(&callbacks, r#"(data (i32.const 200) "no")"#);
        let (functions, host) = installed(&text).await;
        let mut exchange = begin(&functions, false).await;
        if answers_at == 1 {
            exchange.request().await.unwrap();
            let lane = exchange.request_body().unwrap();
            lane.into.send(data("one", false)).await.unwrap();
        }
        let stopped = exchange.stopped().await;
        assert!(matches!(stopped, Stop::Reply(_)), "{callback}: {stopped:?}");
        let head = list(&[(":status", "403")]);
        assert_eq!(exchange.respond(head.clone(), false).await.unwrap(), head);
        let mut lane = exchange.response_body().unwrap();
        lane.into.send(data("n", false)).await.unwrap();
        lane.into.send(data("o", true)).await.unwrap();
        assert_eq!(next(&mut lane).await, "no|", "held until it is whole");
        let rest = [
            "response_headers",
            "response_body",
            "response_body",
            "done",
            "log",
            "delete",
        ];
        let lines = logged(&host, answers_at + 1 + rest.len()).await;
        assert_eq!(lines[answers_at], callback);
        assert_eq!(lines[answers_at + 1..], rest);
        assert!(exchange.has_stopped().is_none());
    }
}

#[tokio::test]
async fn a_reply_that_comes_while_the_guest_answers_itself_does_not_pass() {
    let mut callbacks = ALL;
    let answers = format!("{ANSWERS} {GO_ON}");
    callbacks[1].2 = &answers;
    let text = filter(&callbacks, r#"(data (i32.const 200) "no")"#);
    let (functions, host) = installed(&text).await;
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    let lane = exchange.request_body().unwrap();
    lane.into.send(data("one", false)).await.unwrap();
    logged(&host, 2).await;
    // That of the host, which did not wait for the whole body.
    let passed = exchange.respond(list(&[(":status", "200")]), true).await;
    let Err(Stop::Reply(reply)) = passed else {
        panic!("{passed:?}");
    };
    assert_eq!(reply.status, 403);
    let lines = logged(&host, 5).await;
    assert_eq!(
        lines,
        ["request_headers", "request_body", "done", "log", "delete"]
    );
}

#[tokio::test]
async fn a_local_response_to_a_reply_does_not_pass_the_guest_again() {
    let mut callbacks = ALL;
    let answers = format!("{ANSWERS} {GO_ON}");
    (callbacks[0].2, callbacks[3].2) = (&answers, &answers);
    let text = filter(&callbacks, r#"(data (i32.const 200) "no")"#);
    let (functions, host) = installed(&text).await;
    let mut exchange = begin(&functions, true).await;
    assert!(matches!(exchange.request().await, Err(Stop::Reply(_))));
    let again = exchange.respond(list(&[(":status", "403")]), true).await;
    assert!(matches!(again, Err(Stop::Reply(_))), "{again:?}");
    let lines = logged(&host, 5).await;
    assert_eq!(
        lines,
        ["request_headers", "response_headers", "done", "log", "delete"]
    );
}
