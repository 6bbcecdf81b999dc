//! Filters of proxied traffic, from the head of a request to the end of its reply.

mod ends;
mod local;

use super::*;
use crate::{Exchange, Lane, Piece, Stop, pairs};

/// Logs the name of every callback, and gives its answer.
fn callback(at: usize, name: &str, parameters: usize, answer: &str) -> String {
    let parameters = "(param i32)".repeat(parameters);
    let result = if answer.is_empty() { "" } else { "(result i32)" };
    format!(
        r#"(data (i32.const {at}) "{name}")
        (func (export "proxy_on_{name}") {parameters} {result}
            (drop (call $log (i32.const 2) (i32.const {at}) (i32.const {}))) {answer})"#,
        name.len()
    )
}

/// A filter with these callbacks: name, parameters, answer.
fn filter(callbacks: &[(&str, usize, &str)], more: &str) -> String {
    let callbacks = callbacks.iter().enumerate();
    let callbacks =
        callbacks.map(|(at, (name, parameters, answer))| callback(1000 + at * 40, name, *parameters, answer));
    let imports = [
        ("log", 3),
        ("set_buffer_bytes", 5),
        ("add_header_map_value", 5),
        ("continue_stream", 1),
        ("send_local_response", 8),
        ("close_stream", 1),
        ("http_call", 10),
        ("grpc_stream", 9),
        ("get_state", 6),
    ]
    .map(|(name, count)| {
        let parameters = "i32 ".repeat(count);
        format!(r#"(import "env" "proxy_{name}" (func ${name} (param {parameters}) (result i32)))"#)
    });
    format!(
        "(module {} {ALLOCATOR} {more} {})",
        imports.concat(),
        callbacks.collect::<String>()
    )
}

const GO_ON: &str = "(i32.const 0)";
const PAUSE: &str = "(i32.const 1)";

async fn installed(text: &str) -> (Arc<Functions>, Arc<Fake>) {
    let (functions, host) = functions();
    let mut config = config(text);
    config.is_filter = true;
    config.allowed.clusters = vec!["c".to_owned()];
    functions.install("filter", config).await.unwrap();
    host.logs.lock().unwrap().clear();
    (functions, host)
}

async fn begin(functions: &Functions, ends: bool) -> Exchange {
    let filter = functions.filter("filter");
    filter.exchange(request("/", ""), ends).await.unwrap()
}

fn list(pairs: &[(&'static str, &'static str)]) -> Headers {
    pairs.iter().copied().collect()
}

fn data(text: &'static str, last: bool) -> Piece {
    Piece::Data {
        bytes: text.into(),
        last,
    }
}

/// What comes out next, as text; `|` for its end.
async fn next(lane: &mut Lane) -> String {
    match lane.out.recv().await {
        None => "broken".to_owned(),
        Some(Piece::Data { bytes, last }) => {
            let end = if last { "|" } else { "" };
            format!("{}{end}", String::from_utf8_lossy(&bytes))
        }
        Some(Piece::Trailers(trailers)) => format!("{} trailers|", trailers.0.len()),
    }
}

/// Waits until the guest has logged so many lines.
async fn logged(host: &Fake, count: usize) -> Vec<String> {
    while host.lines().len() < count {
        tokio::task::yield_now().await;
    }
    host.lines()
}

const ALL: [(&str, usize, &str); 9] = [
    ("request_headers", 3, GO_ON),
    ("request_body", 3, GO_ON),
    ("request_trailers", 2, GO_ON),
    ("response_headers", 3, GO_ON),
    ("response_body", 3, GO_ON),
    ("response_trailers", 2, GO_ON),
    ("done", 1, "(i32.const 1)"),
    ("log", 1, ""),
    ("delete", 1, ""),
];

#[tokio::test]
async fn one_context_is_told_of_everything_both_ways() {
    let (functions, host) = installed(&filter(&ALL, "")).await;
    let mut exchange = begin(&functions, false).await;
    assert_eq!(exchange.request().await.unwrap().get(b":path").unwrap(), "/");
    let mut lane = exchange.request_body().unwrap();
    lane.into.send(data("one", false)).await.unwrap();
    assert_eq!(next(&mut lane).await, "one");
    lane.into
        .send(Piece::Trailers(list(&[("a", "b")])))
        .await
        .unwrap();
    assert_eq!(next(&mut lane).await, "1 trailers|");
    let head = exchange
        .respond(list(&[(":status", "200")]), false)
        .await
        .unwrap();
    assert_eq!(head, list(&[(":status", "200")]));
    let mut lane = exchange.response_body().unwrap();
    lane.into.send(data("two", false)).await.unwrap();
    assert_eq!(next(&mut lane).await, "two");
    lane.into.send(Piece::Trailers(list(&[]))).await.unwrap();
    assert_eq!(next(&mut lane).await, "0 trailers|");
    let names = ALL.map(|(name, ..)| name);
    assert_eq!(logged(&host, 9).await, names);
}

#[tokio::test]
async fn a_filter_is_no_function() {
    let (functions, _) = installed(&filter(&ALL, "")).await;
    assert!(!functions.has("filter"));
    let error = functions
        .filter("other")
        .exchange(request("/", ""), true)
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), matches!(error, CallError::Missing(_))),
        (503, true)
    );
}

#[tokio::test]
async fn bodies_that_the_guest_does_not_look_at_do_not_pass_it() {
    let (functions, _) = installed(&filter(&ALL[..1], "")).await;
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    assert!(exchange.request_body().is_none() && exchange.response_body().is_none());
}

#[tokio::test]
async fn a_body_is_held_until_the_guest_has_it_whole() {
    let at_the_end = "(i32.eqz (local.get 1))";
    let (functions, _) = installed(&filter(&[("request_body", 3, at_the_end)], "")).await;
    // The second parameter is the length: it goes on once there is nothing to hold.
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    let mut lane = exchange.request_body().unwrap();
    lane.into.send(data("one", false)).await.unwrap();
    assert_eq!(next(&mut lane).await, "one");
    let holds = "(i32.eqz (local.get 2))";
    let (functions, _) = installed(&filter(&[("request_body", 3, holds)], "")).await;
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    let mut lane = exchange.request_body().unwrap();
    for text in ["one ", "two "] {
        lane.into.send(data(text, false)).await.unwrap();
    }
    lane.into.send(data("three", true)).await.unwrap();
    assert_eq!(next(&mut lane).await, "one two three|");
}

#[tokio::test]
async fn what_is_held_goes_before_trailers() {
    let callbacks = [("request_body", 3, PAUSE), ("request_trailers", 2, GO_ON)];
    let (functions, _) = installed(&filter(&callbacks, "")).await;
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    let mut lane = exchange.request_body().unwrap();
    lane.into.send(data("held", false)).await.unwrap();
    lane.into
        .send(Piece::Trailers(list(&[("a", "b")])))
        .await
        .unwrap();
    assert_eq!(next(&mut lane).await, "held");
    assert_eq!(next(&mut lane).await, "1 trailers|");
}

#[tokio::test]
async fn a_body_that_is_held_is_bounded() {
    let (functions, _) = installed(&filter(&[("request_body", 3, PAUSE)], "")).await;
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    let lane = exchange.request_body().unwrap();
    let piece = Bytes::from(vec![0; crate::LONGEST_HELD / 2]);
    let mut sent = 0;
    while lane
        .into
        .send(Piece::Data {
            bytes: piece.clone(),
            last: false,
        })
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 10);
    }
    let Stop::Failed(error) = exchange.stopped().await else {
        panic!("it is refused");
    };
    assert_eq!((error.status(), matches!(error, CallError::TooLong)), (413, true));
}

/// Calls cluster `c` from `callback` and pauses; when that is answered, lets `stream` go on.
fn asks_first(callback: &str, stream: u32) -> String {
    asks(callback, stream, "/", 50, "")
}

/// Likewise, with the path of the call and its limit in milliseconds, and `more` of the guest.
fn asks(callback: &str, stream: u32, path: &str, limit: u32, more: &str) -> String {
    let headers = pairs::encode(&[(":method", "GET"), (":path", path), (":authority", "a")]);
    let escaped: String = headers.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let more = format!(
        r#"(data (i32.const 200) "c") (data (i32.const 300) "{escaped}")
        (func (export "proxy_on_{callback}") (param i32 i32 i32) (result i32)
            (drop (call $http_call (i32.const 200) (i32.const 1) (i32.const 300) (i32.const {})
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {limit}) (i32.const 16)))
            (i32.const 1))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
            (drop (call $continue_stream (i32.const {stream}))))
        {more}"#,
        headers.len()
    );
    filter(&[], &more)
}

#[tokio::test]
async fn a_head_that_waits_for_a_call_goes_on_when_that_was_answered() {
    let (functions, _) = installed(&asks_first("request_headers", 0)).await;
    let mut exchange = begin(&functions, true).await;
    exchange.request().await.unwrap();
    let (functions, _) = installed(&asks_first("response_headers", 1)).await;
    let mut exchange = begin(&functions, true).await;
    exchange.request().await.unwrap();
    exchange.respond(list(&[(":status", "200")]), true).await.unwrap();
    let (functions, _) = installed(&asks_first("request_body", 0)).await;
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    let mut lane = exchange.request_body().unwrap();
    lane.into.send(data("all", true)).await.unwrap();
    assert_eq!(next(&mut lane).await, "all|");
}

#[tokio::test]
async fn a_pause_that_nothing_ends_fails_the_exchange() {
    let callbacks = [("request_headers", 3, PAUSE)];
    let (functions, _) = installed(&filter(&callbacks, "")).await;
    let Err(Stop::Failed(error)) = begin(&functions, true).await.request().await else {
        panic!("it fails");
    };
    assert!(matches!(error, CallError::Stuck), "{error:?}");
    // A call that goes on for the other direction would not help either.
    let (functions, _) = installed(&asks_first("request_headers", 1)).await;
    let Err(Stop::Failed(error)) = begin(&functions, true).await.request().await else {
        panic!("it fails");
    };
    assert!(matches!(error, CallError::Stuck), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_the_guest_closes_fails() {
    let more = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $close_stream (i32.const 0)))"#;
    let (functions, _) = installed(&filter(&[], more)).await;
    let Err(Stop::Failed(error)) = begin(&functions, true).await.request().await else {
        panic!("it fails");
    };
    assert!(matches!(error, CallError::Closed), "{error:?}");
}

#[tokio::test]
async fn a_trap_fails_the_exchange_and_counts() {
    let more = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable)"#;
    let (functions, _) = installed(&filter(&[], more)).await;
    for _ in 0..5 {
        let Err(Stop::Failed(error)) = begin(&functions, true).await.request().await else {
            panic!("it fails");
        };
        assert!(matches!(error, CallError::Trapped(_)), "{error:?}");
    }
    let down = functions
        .filter("filter")
        .exchange(request("/", ""), true)
        .await
        .unwrap_err();
    assert!(matches!(down, CallError::Down), "{down:?}");
}

#[tokio::test]
async fn the_time_of_a_guest_is_that_of_each_callback() {
    let spins = |budget: u64| {
        let mut config = config(&filter(
            &[],
            // Some ten million rounds.
            r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (local $n i32)
                (loop (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 20000000))))
                i32.const 0)"#,
        ));
        config.is_filter = true;
        config.limits.time = Duration::from_millis(budget);
        config
    };
    let (functions, _) = functions();
    functions.install("filter", spins(1000)).await.unwrap();
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    let mut lane = exchange.request_body().unwrap();
    let begun = std::time::Instant::now();
    // All together they take longer than one may.
    while begun.elapsed() < Duration::from_millis(1500) {
        lane.into.send(data("x", false)).await.unwrap();
        assert_eq!(next(&mut lane).await, "x");
    }
}

#[tokio::test]
async fn instances_of_filters_are_used_again_where_that_is_asked_for() {
    for (reuse, started) in [(false, 4), (true, 2)] {
        let mut config = config(&filter(&[("vm_start", 2, "(i32.const 1)")], ""));
        config.is_filter = true;
        config.serving.reuse = reuse;
        let (functions, host) = functions();
        functions.install("filter", config).await.unwrap();
        for _ in 0..3 {
            let mut exchange = begin(&functions, true).await;
            exchange.request().await.unwrap();
            exchange.respond(list(&[(":status", "200")]), true).await.unwrap();
            while functions.status()[0].running > 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(host.lines().len(), started, "the root instance, and others");
    }
}

#[tokio::test]
async fn a_reply_that_comes_before_the_held_body_is_whole_passes() {
    let mut callbacks = ALL;
    callbacks[1].2 = PAUSE;
    let (functions, host) = installed(&filter(&callbacks, "")).await;
    let mut exchange = begin(&functions, false).await;
    exchange.request().await.unwrap();
    let lane = exchange.request_body().unwrap();
    lane.into.send(data("one", false)).await.unwrap();
    logged(&host, 2).await;
    // The host refused the request, and nobody brings the rest.
    drop(lane);
    // The guest's end sees that before the reply.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(exchange.has_stopped().is_none());
    let refused = list(&[(":status", "503")]);
    assert_eq!(exchange.respond(refused.clone(), true).await.unwrap(), refused);
}
