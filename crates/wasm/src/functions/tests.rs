//! Functions written as text, from installation to reply.

mod afterwards;
mod exchange;
mod files;
mod hostile;
mod limits;

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    DEEPEST, Trap,
    testing::{ALLOCATOR, Fake, config, functions, request},
};

/// A function: what it does when the head of a request comes, with the host functions it uses.
fn function(id: &str, imports: &str, on_headers: &str, rest: &str) -> String {
    let length = id.len();
    format!(
        r#"(module
            (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
            {imports}
            {ALLOCATOR}
            (data (i32.const 100) "{id}")
            (func (export "proxy_get_id")
                (drop (call $set (i32.const 8) (i32.const 0) (i32.const 0x7fffffff) (i32.const 100) (i32.const {length}))))
            (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
                {on_headers})
            {rest})"#
    )
}

/// Answers `text`.
fn says(id: &str, text: &str) -> String {
    let length = text.len();
    let data = format!(r#"(data (i32.const 200) "{text}")"#);
    function(id, "", &format!("{} i32.const 0", respond(200, length)), &data)
}

/// Puts a part of the guest's memory into the reply's body.
fn respond(at: usize, length: usize) -> String {
    format!(
        "(drop (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.const {at}) (i32.const {length})))"
    )
}

async fn install(functions: &Arc<Functions>, name: &str, text: &str) {
    functions.install(name, config(text)).await.unwrap();
}

async fn call(functions: &Functions, id: &str) -> Result<String, CallError> {
    let reply = functions.call(id, request("/", ""), 0, None).await?;
    Ok(String::from_utf8(reply.body.to_vec()).unwrap())
}

async fn with(texts: &[&str]) -> (Arc<Functions>, Arc<Fake>) {
    let (functions, host) = functions();
    for (at, text) in texts.iter().enumerate() {
        install(&functions, &format!("plugin {at}"), text).await;
    }
    (functions, host)
}

#[tokio::test]
async fn a_function_is_found_by_the_id_it_says() {
    let (functions, _) = with(&[&says("id_1", "one"), &says("id_2", "two")]).await;
    assert_eq!(call(&functions, "id_2").await.unwrap(), "two");
    assert_eq!(call(&functions, "id_1").await.unwrap(), "one");
    let error = call(&functions, "id_3").await.unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (404, r#"no function has the id "id_3""#)
    );
}

#[tokio::test]
async fn a_function_that_says_no_id_has_its_name() {
    let (functions, _) = functions();
    let silent = format!("(module {ALLOCATOR})");
    let error = functions.install("a", config(&silent)).await.unwrap_err();
    assert!(
        matches!(error, InstallError::Start(StartError::NoId)),
        "{error:?}"
    );
    let named = Config {
        name: Some("named".to_owned()),
        ..config(&silent)
    };
    functions.install("a", named).await.unwrap();
    assert_eq!(call(&functions, "named").await.unwrap(), "");
}

#[tokio::test]
async fn an_instance_is_started_configured_and_told_of_the_request_in_this_order() {
    let log = |at: usize, name: &str, arguments: &[&str], after: &str| {
        let params = arguments
            .iter()
            .map(|name| format!("(param ${name} i32)"))
            .collect::<String>();
        format!(
            r#"(data (i32.const {at}) "{name}")
            (func (export "{name}") {params} {after_type}
                (drop (call $log (i32.const 2) (i32.const {at}) (i32.const {length}))) {after})"#,
            length = name.len(),
            after_type = if after.is_empty() { "" } else { "(result i32)" },
        )
    };
    let rest = [
        log(300, "_initialize", &[], ""),
        log(350, "proxy_on_context_create", &["a", "b"], ""),
        log(400, "proxy_on_vm_start", &["a", "b"], "i32.const 1"),
        log(450, "proxy_on_configure", &["a", "b"], "i32.const 1"),
        log(500, "proxy_on_request_body", &["a", "b", "c"], "i32.const 0"),
        log(550, "proxy_on_done", &["a"], "i32.const 1"),
        log(600, "proxy_on_log", &["a"], ""),
        log(650, "proxy_on_delete", &["a"], ""),
    ];
    let import = r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#;
    let (functions, host) = with(&[&function("f", import, "i32.const 0", &rest.concat())]).await;
    let start = [
        "_initialize",
        "proxy_on_context_create",
        "proxy_on_vm_start",
        "proxy_on_configure",
    ];
    assert_eq!(host.lines(), start, "the root instance");
    host.logs.lock().unwrap().clear();
    functions.call("f", request("/", "body"), 0, None).await.unwrap();
    let own = [
        "proxy_on_context_create",
        "proxy_on_request_body",
        "proxy_on_done",
        "proxy_on_log",
        "proxy_on_delete",
    ];
    let all = [&start[..], &own[..]].concat();
    let ended = async {
        while host.lines().len() < all.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .unwrap();
    assert_eq!(host.lines(), all);
}

#[tokio::test]
async fn the_body_is_given_whole_and_comes_back() {
    let echo = r#"
        (import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))
    "#;
    let rest = r#"
        (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
            (drop (call $get (i32.const 0) (i32.const 0) (local.get $size) (i32.const 16) (i32.const 20)))
            (drop (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
            i32.const 0)
    "#;
    let (functions, _) = with(&[&function("echo", echo, "i32.const 0", rest)]).await;
    let reply = functions
        .call("echo", request("/", "hello"), 0, None)
        .await
        .unwrap();
    assert_eq!((reply.status, &reply.body[..]), (0, &b"hello"[..]));
}

/// Counts its requests in a global and answers the number.
fn counter() -> String {
    let count = "(global.set $count (i32.add (global.get $count) (i32.const 1)))
        (i32.store8 (i32.const 200) (i32.add (i32.const 48) (global.get $count)))";
    let body = format!("{count} {} i32.const 0", respond(200, 1));
    function("counter", "", &body, "(global $count (mut i32) (i32.const 0))")
}

// deviation: D143
#[tokio::test]
async fn every_request_has_an_instance_of_its_own() {
    let (functions, _) = with(&[&counter()]).await;
    for _ in 0..3 {
        assert_eq!(call(&functions, "counter").await.unwrap(), "1");
    }
}

#[tokio::test]
async fn instances_are_used_again_where_that_is_asked_for() {
    let (functions, _) = functions();
    let mut config = config(&counter());
    config.serving.reuse = true;
    functions.install("a", config).await.unwrap();
    for expected in ["1", "2", "3"] {
        assert_eq!(call(&functions, "counter").await.unwrap(), expected);
    }
}

/// Asks another function and answers what it answered, or "failed".
fn asks(id: &str, other: &str) -> String {
    let import = r#"(import "env" "proxy_invoke_service" (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let body = format!(
        "(if (i32.eqz (call $invoke (i32.const 300) (i32.const {length}) (i32.const 0) (i32.const 0)
                (i32.const 300) (i32.const {length}) (i32.const 16) (i32.const 20)))
            (then (drop (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
            (else {}))
         i32.const 0",
        respond(400, 6),
        length = other.len(),
    );
    let data = format!(r#"(data (i32.const 300) "{other}") (data (i32.const 400) "failed")"#);
    function(id, import, &body, &data)
}

#[tokio::test]
async fn functions_call_functions_in_the_process() {
    let (functions, host) = with(&[&asks("a", "b"), &asks("b", "c"), &says("c", "from c")]).await;
    assert_eq!(call(&functions, "a").await.unwrap(), "from c");
    assert!(host.asked.lock().unwrap().is_empty(), "the host is not asked");
}

#[tokio::test]
async fn what_is_no_function_is_asked_through_the_host() {
    let (functions, host) = with(&[&asks("a", "elsewhere")]).await;
    assert_eq!(call(&functions, "a").await.unwrap(), "elsewhere", "its parameter");
    assert_eq!(*host.asked.lock().unwrap(), ["invoke elsewhere "]);
}

/// Asks the host for this state of the store `s`.
fn asks_state(key: &str) -> String {
    format!(
        "(drop (call $state (i32.const 300) (i32.const 1) (i32.const 301) (i32.const {})
            (i32.const 16) (i32.const 20)))",
        key.len()
    )
}

const STATE: &str =
    r#"(import "env" "proxy_get_state" (func $state (param i32 i32 i32 i32 i32 i32) (result i32)))"#;

/// Sends a request to cluster `c` from the head of its own request, and pauses; goes on with the body
/// of the reply as its own.
fn forwards(path: &str) -> String {
    let import = r#"
        (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    "#;
    let headers = crate::pairs::encode(&[(":method", "GET"), (":path", path), (":authority", "a")]);
    let escaped: String = headers.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let body = format!(
        "(drop (call $call (i32.const 200) (i32.const 1) (i32.const 400) (i32.const {}) (i32.const 300) (i32.const 5)
            (i32.const 0) (i32.const 0) (i32.const 50) (i32.const 16)))
         i32.const 1",
        headers.len()
    );
    let rest = format!(
        r#"(data (i32.const 200) "c") (data (i32.const 300) "asked") (data (i32.const 400) "{escaped}")
        (data (i32.const 600) "no reply")
        (func (export "proxy_on_http_call_response") (param $context i32) (param $token i32) (param $headers i32)
                (param $size i32) (param $trailers i32)
            (if (local.get $headers) (then {}) (else {}))
            (drop (call $continue (i32.const 0))))"#,
        respond(300, 5),
        respond(600, 8),
    );
    function("forwards", import, &body, &rest)
}

// deviation: D142
#[tokio::test]
async fn a_paused_request_goes_on_when_its_call_was_answered() {
    let mut config = config(&forwards("/"));
    config.allowed.clusters = vec!["c".to_owned()];
    let (functions, _) = functions();
    functions.install("a", config).await.unwrap();
    assert_eq!(call(&functions, "forwards").await.unwrap(), "asked");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_or_takes_too_long_has_no_headers() {
    for path in ["/broken", "/never"] {
        let (functions, _) = with(&[&forwards(path)]).await;
        assert_eq!(call(&functions, "forwards").await.unwrap(), "no reply", "{path}");
    }
}

// deviation: D142
#[tokio::test]
async fn a_pause_that_nothing_ends_fails_at_once() {
    let (functions, _) = with(&[&function("f", "", "i32.const 1", "")]).await;
    let error = call(&functions, "f").await.unwrap_err();
    assert_eq!(error.status(), 500);
    assert!(matches!(error, CallError::Stuck), "{error:?}");
}

#[tokio::test]
async fn a_local_response_is_the_reply_and_ends_the_request() {
    let import = r#"
        (import "env" "proxy_send_local_response" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    "#;
    let body = "(drop (call $send (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 200) (i32.const 2)
        (i32.const 0) (i32.const 0) (i32.const 0))) i32.const 1";
    let rest = r#"
        (data (i32.const 200) "no")
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) unreachable)
    "#;
    let (functions, _) = with(&[&function("f", import, body, rest)]).await;
    let reply = functions.call("f", request("/", "body"), 0, None).await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (403, &b"no"[..]));
}

#[tokio::test]
async fn the_root_instance_ticks() {
    let import = r#"
        (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
        (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_increment_metric" (func $add (param i32 i64) (result i32)))
    "#;
    let rest = r#"
        (data (i32.const 200) "ticks")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $tick (i32.const 1)))
            (drop (call $define (i32.const 0) (i32.const 200) (i32.const 5) (i32.const 16)))
            i32.const 1)
        (func (export "proxy_on_tick") (param i32) (drop (call $add (i32.load (i32.const 16)) (i64.const 1))))
    "#;
    let (functions, _) = with(&[&function("f", import, "i32.const 0", rest)]).await;
    let ticked = async {
        while !matches!(functions.shared().metrics()[0].value, crate::Value::Counter(3..)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ticked)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_root_instance_hears_of_its_queue() {
    let import = r#"
        (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
        (import "env" "proxy_enqueue_shared_queue" (func $put (param i32 i32 i32) (result i32)))
        (import "env" "proxy_dequeue_shared_queue" (func $take (param i32 i32 i32) (result i32)))
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    "#;
    let rest = r#"
        (data (i32.const 200) "queue")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $register (i32.const 200) (i32.const 5) (i32.const 24)))
            i32.const 1)
        (func (export "proxy_on_queue_ready") (param i32) (param $token i32)
            (drop (call $take (local.get $token) (i32.const 16) (i32.const 20)))
            (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
    "#;
    let put = "(drop (call $put (i32.load (i32.const 24)) (i32.const 200) (i32.const 5))) i32.const 0";
    let (functions, host) = with(&[&function("f", import, put, rest)]).await;
    // The instance of the request registers it, too, and is not told: the root still is.
    call(&functions, "f").await.unwrap();
    let heard = async {
        while host.lines().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard)
        .await
        .unwrap();
    assert_eq!(host.lines(), ["queue"]);
}

#[tokio::test]
async fn what_wasi_prints_is_logged_in_lines() {
    let import =
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
    let body = "(drop (call $write (i32.const 1) (i32.const 300) (i32.const 2) (i32.const 16)))
        (i32.store8 (i32.const 400) (i32.add (i32.const 48) (i32.load (i32.const 16))))
        (i32.store8 (i32.const 401) (i32.add (i32.const 48)
            (call $write (i32.const 5) (i32.const 300) (i32.const 1) (i32.const 16))))";
    let rest = r#"
        (data (i32.const 200) "on\0atwo\0arest")
        (data (i32.const 300) "\c8\00\00\00\03\00\00\00\cb\00\00\00\05\00\00\00")
    "#;
    let body = format!("{body} {} i32.const 0", respond(400, 2));
    let (functions, host) = with(&[&function("f", import, &body, rest)]).await;
    assert_eq!(
        call(&functions, "f").await.unwrap(),
        "88",
        "bytes written; a descriptor that is not there"
    );
    assert_eq!(host.lines(), ["on", "two"]);
}

#[tokio::test]
async fn there_are_no_files_and_what_wasi_has_beside_is_not_supported() {
    let import = r#"
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $preopened (param i32 i32) (result i32)))
    "#;
    let body = format!(
        "(i32.store8 (i32.const 200) (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
        (i32.store8 (i32.const 201) (call $preopened (i32.const 3) (i32.const 0)))
        {} i32.const 0",
        respond(200, 2)
    );
    let (functions, _) = with(&[&function("f", import, &body, "")]).await;
    assert_eq!(call(&functions, "f").await.unwrap().as_bytes(), [58, 8]);
}

#[tokio::test]
async fn a_guest_whose_start_exits_well_is_started() {
    let text = |code: u32| {
        let import = r#"(import "wasi_unstable" "proc_exit" (func $exit (param i32)))"#;
        let start = format!(r#"(func (export "_start") (call $exit (i32.const {code})))"#);
        function("f", import, "i32.const 0", &start)
    };
    let (functions, _) = functions();
    functions.install("good", config(&text(0))).await.unwrap();
    let error = functions.install("bad", config(&text(3))).await.unwrap_err();
    let InstallError::Start(StartError::Trapped(Trap::Exited(exited))) = error else {
        panic!("{error:?}");
    };
    assert_eq!(exited, crate::Exited(3));
}

#[tokio::test]
async fn a_host_function_that_nobody_knows_fails_when_it_is_called() {
    let import = r#"(import "env" "proxy_of_the_future" (func $future (param i64)))"#;
    let (functions, _) = with(&[&function(
        "f",
        import,
        "(call $future (i64.const 1)) i32.const 0",
        "",
    )])
    .await;
    let error = call(&functions, "f").await.unwrap_err();
    let CallError::Trapped(trap) = error else {
        panic!("{error:?}");
    };
    assert!(trap.to_string().contains("proxy_of_the_future"), "{trap}");
}

#[tokio::test]
async fn guests_of_the_oldest_version_take_fewer_arguments() {
    let text = format!(
        r#"(module
            (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
            {ALLOCATOR}
            (func (export "proxy_abi_version_0_1_0"))
            (data (i32.const 200) "old")
            (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
                {} i32.const 0))"#,
        respond(200, 3)
    );
    let (functions, _) = functions();
    let named = Config {
        name: Some("old".to_owned()),
        ..config(&text)
    };
    functions.install("a", named).await.unwrap();
    assert_eq!(call(&functions, "old").await.unwrap(), "old");
    let version = functions.status()[0].version.clone().unwrap();
    assert_eq!(version.abi, crate::abi::Version::V0_1_0);
}
