//! Ends of exchanges: clients that leave, filters that go.

use super::*;

#[tokio::test]
async fn an_exchange_that_is_dropped_ends_and_frees_its_place() {
    let (functions, host) = installed(&filter(&ALL, "")).await;
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    assert_eq!(functions.status()[0].running, 1);
    drop(exchange);
    let lines = logged(&host, 4).await;
    assert_eq!(lines, ["request_headers", "done", "log", "delete"]);
    while functions.status()[0].running > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(functions.status()[0].errors, 0, "it is no error of the guest's");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_is_told_of() {
    for _ in 0..50 {
        let (functions, host) = installed(&filter(&ALL, "")).await;
        let mut exchange = begin(&functions, false).await;
        exchange.request().await.unwrap();
        let lane = exchange.request_body().unwrap();
        drop((exchange, lane));
        let told = tokio::time::timeout(Duration::from_secs(10), logged(&host, 4)).await;
        assert_eq!(told.unwrap(), ["request_headers", "done", "log", "delete"]);
    }
}

#[tokio::test]
async fn a_filter_serves_those_who_hold_it_when_it_is_gone() {
    let (functions, host) = functions();
    // Held before it is there, as at the start of a process.
    let held = functions.filter("filter");
    let missing = held.exchange(request("/", ""), true).await.unwrap_err();
    assert!(matches!(missing, CallError::Missing(_)), "{missing:?}");
    let with = |answer: &str| {
        let mut config = config(&filter(&[("request_headers", 3, answer)], ""));
        config.is_filter = true;
        config
    };
    functions.install("filter", with(GO_ON)).await.unwrap();
    functions.uninstall("filter").unwrap();
    assert!(functions.status().is_empty());
    let passes = async |filter: &Filter| {
        let mut exchange = filter.exchange(request("/", ""), true).await?;
        exchange.request().await.map_err(|stop| match stop {
            Stop::Failed(error) => error,
            Stop::Reply(_) => CallError::Closed,
        })
    };
    passes(&held).await.unwrap();
    let other = functions.filter("filter");
    let missing = passes(&other).await.unwrap_err();
    assert!(
        matches!(missing, CallError::Missing(_)),
        "the name is free: {missing:?}"
    );
    functions.install("filter", with(PAUSE)).await.unwrap();
    let stuck = passes(&other).await.unwrap_err();
    assert!(matches!(stuck, CallError::Stuck), "{stuck:?}");
    passes(&held).await.unwrap();
    assert_eq!(host.lines(), ["request_headers"; 3]);
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_the_guest_waits_for_in_a_host_call() {
    // It logs what each of three calls was answered, as a letter: J is 10.
    let asks = r#"
        (data (i32.const 200) "s") (data (i32.const 208) "never")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $n i32)
            (local.set $n (i32.const 3))
            (loop $again
                (i32.store8 (i32.const 300) (i32.add (i32.const 64) (call $get_state
                    (i32.const 200) (i32.const 1) (i32.const 208) (i32.const 5) (i32.const 16) (i32.const 20))))
                (drop (call $log (i32.const 2) (i32.const 300) (i32.const 1)))
                (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (i32.const 0))"#;
    let (functions, host) = installed(&filter(&ALL[6..], asks)).await;
    let exchange = begin(&functions, true).await;
    while host.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(functions.status()[0].running, 1);
    drop(exchange);
    // The host has a line for each call that failed, too.
    let told = tokio::time::timeout(Duration::from_secs(10), logged(&host, 9)).await;
    let lines = told.expect("the guest goes on");
    let own: Vec<_> = lines.iter().filter(|line| line.len() < 10).collect();
    assert_eq!(own, ["J", "J", "J", "done", "log", "delete"]);
    assert_eq!(host.asked.lock().unwrap().len(), 1, "the others are not begun");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_calls_of_the_guest_at_once() {
    // The guest asks for time at the end, which it has while it has calls under way.
    let waits = r#"(func (export "proxy_on_done") (param i32) (result i32) (i32.const 0))"#;
    let guest = asks("request_headers", 0, "/never", 60_000, waits);
    let (functions, _) = installed(&guest).await;
    let exchange = begin(&functions, true).await;
    let ended = async {
        while functions.status()[0].running > 0 {
            tokio::task::yield_now().await;
        }
    };
    drop(exchange);
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    assert!(ended.is_ok());
}

/// Lets a reply go, asks for the state `key` when the answer to a call of its head has come, and waits
/// for that at the end. It logs the status of the state as a letter.
fn asks_beside(path: &str, limit: u32, key: &str) -> String {
    let headers = pairs::encode(&[(":method", "GET"), (":path", path), (":authority", "a")]);
    let escaped: String = headers.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let more = format!(
        r#"(data (i32.const 200) "c") (data (i32.const 208) "s") (data (i32.const 216) "{key}")
        (data (i32.const 300) "{escaped}")
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $http_call (i32.const 200) (i32.const 1) (i32.const 300) (i32.const {})
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {limit}) (i32.const 16)))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
            (i32.store8 (i32.const 280) (i32.add (i32.const 64) (call $get_state
                (i32.const 208) (i32.const 1) (i32.const 216) (i32.const {}) (i32.const 16) (i32.const 20))))
            (drop (call $log (i32.const 2) (i32.const 280) (i32.const 1))))"#,
        headers.len(),
        key.len()
    );
    filter(&[("done", 1, "(i32.const 0)"), ("log", 1, "")], &more)
}

#[tokio::test]
async fn the_end_of_a_reply_that_the_guest_does_not_look_at_ends_nothing_of_its_own() {
    // The answer to its call comes after the end.
    let (functions, host) = installed(&asks_beside("/never", 50, "k")).await;
    let mut exchange = begin(&functions, true).await;
    exchange.request().await.unwrap();
    exchange
        .respond(list(&[(":status", "200")]), false)
        .await
        .unwrap();
    exchange.finish();
    let told = tokio::time::timeout(Duration::from_secs(10), logged(&host, 3)).await;
    assert_eq!(told.unwrap(), ["done", "@", "log"]);
    // It waits in a host function meanwhile.
    let (functions, host) = installed(&asks_beside("/", 50, "later")).await;
    let mut exchange = begin(&functions, true).await;
    exchange.request().await.unwrap();
    exchange
        .respond(list(&[(":status", "200")]), false)
        .await
        .unwrap();
    while host.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    exchange.finish();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    host.later.notify_one();
    let told = tokio::time::timeout(Duration::from_secs(10), logged(&host, 3)).await;
    assert_eq!(told.unwrap(), ["@", "done", "log"]);
}

#[tokio::test]
async fn a_stream_that_goes_on_does_not_keep_a_guest_that_waits_at_its_end() {
    let more = r#"(data (i32.const 200) "c") (data (i32.const 208) "s") (data (i32.const 216) "Ticks")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $grpc_stream (i32.const 200) (i32.const 1) (i32.const 208) (i32.const 1)
                (i32.const 216) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 16)))"#;
    let callbacks = [
        ("grpc_receive", 3, ""),
        ("done", 1, "(i32.const 0)"),
        ("log", 1, ""),
    ];
    let (functions, host) = installed(&filter(&callbacks, more)).await;
    let mut exchange = begin(&functions, true).await;
    exchange.request().await.unwrap();
    exchange.respond(list(&[(":status", "200")]), true).await.unwrap();
    logged(&host, 1).await;
    tokio::time::pause();
    let mut seconds = 0;
    while functions.status()[0].running > 0 {
        assert!(seconds < 90, "{:?}", host.lines());
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        seconds += 1;
    }
    let lines = host.lines();
    assert!(lines.len() > 10, "it hears of what comes: {lines:?}");
    assert_eq!(
        (lines[0].as_str(), lines.last().unwrap().as_str()),
        ("done", "log")
    );
}
