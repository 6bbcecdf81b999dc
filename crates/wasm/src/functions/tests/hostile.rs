//! Functions that mean harm: each fails, and others do not notice.

use super::*;

const BUDGET: Duration = Duration::from_millis(100);

/// How `bad` fails, beside a hundred calls of another function.
async fn beside(functions: &Arc<Functions>, bad: &str) -> CallError {
    let failing = tokio::spawn({
        let (functions, bad) = (functions.clone(), bad.to_owned());
        async move { call(&functions, &bad).await.unwrap_err() }
    });
    for _ in 0..100 {
        assert_eq!(call(functions, "good").await.unwrap(), "here", "beside {bad}");
    }
    failing.await.unwrap()
}

async fn with_good(bad: &str) -> (Arc<Functions>, Arc<Fake>) {
    let (functions, host) = functions();
    install(&functions, "good", &says("good", "here")).await;
    let mut config = config(bad);
    config.limits.time = BUDGET;
    functions.install("bad", config).await.unwrap();
    (functions, host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_much_fails_and_others_are_served() {
    let imports = r#"
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
        (import "env" "proxy_set_shared_data" (func $share (param i32 i32 i32 i32 i32) (result i32)))
    "#;
    let deep = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    for (name, body, rest, status) in [
        (
            "memory without end",
            "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
            "",
            500,
        ),
        (
            "lines of the log without end",
            "(loop $more (drop (call $log (i32.const 2) (i32.const 0) (i32.const 65536))) (br $more)) i32.const 0",
            "",
            504,
        ),
        (
            "gifts of the host without end",
            "(loop $more (drop (call $pairs (i32.const 0) (i32.const 16) (i32.const 20))) (br $more)) i32.const 0",
            "",
            504,
        ),
        (
            "shared data without end",
            "(loop $more
                (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))
                (drop (call $share (i32.const 40) (i32.const 4) (i32.const 0) (i32.const 60000) (i32.const 0)))
                (br $more)) i32.const 0",
            "",
            504,
        ),
        (
            "pointers to everywhere",
            "(local $at i32)
             (loop $more
                (drop (call $pairs (i32.const 0) (local.get $at) (i32.sub (i32.const 0) (local.get $at))))
                (local.set $at (i32.add (local.get $at) (i32.const 65521)))
                (br $more)) i32.const 0",
            "",
            504,
        ),
        ("a recursion without end", "(call $deep (i32.const 1))", deep, 500),
        ("an address of nowhere", "(i32.load (i32.const -8))", "", 500),
    ] {
        let (functions, _) = with_good(&function("bad", imports, body, rest)).await;
        let error = beside(&functions, "bad").await;
        assert_eq!(error.status(), status, "{name}: {error:?}");
        assert_eq!(call(&functions, "good").await.unwrap(), "here", "after {name}");
    }
}

/// A guest whose allocator is this, and which asks for its headers.
fn allocates(body: &str) -> String {
    let own = format!(
        r#"(import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (func (export "malloc") (param $n i32) (result i32) {body})"#
    );
    function(
        "bad",
        "",
        "(call $pairs (i32.const 0) (i32.const 16) (i32.const 20))",
        "",
    )
    .replace(ALLOCATOR, &own)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allocator_that_calls_the_host_again_or_never_ends_is_its_own_harm() {
    for (name, body, status) in [
        (
            "asks again",
            "(if (i32.ne (call $pairs (i32.const 0) (i32.const 24) (i32.const 28)) (i32.const 10)) (then unreachable))
             (if (i32.load (i32.const 24)) (then unreachable))
             (loop (br 0)) i32.const 0",
            504,
        ),
        ("never ends", "(loop (br 0)) i32.const 0", 504),
        ("traps", "unreachable", 500),
    ] {
        let (functions, _) = with_good(&allocates(body)).await;
        let error = beside(&functions, "bad").await;
        assert_eq!(error.status(), status, "{name}: {error:?}");
    }
}

/// On one thread.
#[tokio::test]
async fn random_bytes_without_number_take_the_time_of_the_guest_and_not_of_others() {
    let import =
        r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#;
    let fill = "(drop (call $random (i32.const 0) (i32.const 0x3c00000))) i32.const 0";
    let large = function("bad", import, fill, "").replace(r#""memory") 2"#, r#""memory") 960"#);
    let (functions, _) = functions();
    install(&functions, "good", &says("good", "here")).await;
    let mut config = config(&large);
    config.limits.memory = 64 << 20;
    config.limits.time = Duration::from_millis(20);
    functions.install("bad", config).await.unwrap();
    let filling = tokio::spawn({
        let functions = functions.clone();
        async move { call(&functions, "bad").await }
    });
    tokio::task::yield_now().await;
    assert!(!filling.is_finished());
    assert_eq!(call(&functions, "good").await.unwrap(), "here");
    let error = filling.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::OverTime(_)), "{error:?}");
}
