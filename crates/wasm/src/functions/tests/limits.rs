//! What a function may take, and what happens to one that takes more.

use std::time::Instant;

use tokio::sync::Semaphore;

use super::*;
use crate::testing::settings;

fn endless(id: &str) -> String {
    function(id, "", "(loop (br 0)) i32.const 0", "")
}

fn trapping(id: &str) -> String {
    function(id, "", "(call $inner) i32.const 0", "(func $inner unreachable)")
}

fn limited(text: &str, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config(text);
    change(&mut config);
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_loop_ends_in_its_time_while_others_are_served() {
    const BUDGET: Duration = Duration::from_millis(300);
    let (functions, _) = functions();
    let endless = limited(&endless("endless"), |config| config.limits.time = BUDGET);
    functions.install("endless", endless).await.unwrap();
    install(&functions, "other", &says("other", "here")).await;
    let mut took = Duration::MAX;
    // The margin and the tries are for a machine that does other work, and for others' turns in a build
    // for tests, which come on top. What is meant is 10 ms: the benchmark holds it to that.
    for _ in 0..4 {
        let started = Instant::now();
        let looping = tokio::spawn({
            let functions = functions.clone();
            async move {
                let error = call(&functions, "endless").await.unwrap_err();
                (error, started.elapsed())
            }
        });
        for _ in 0..100 {
            assert_eq!(call(&functions, "other").await.unwrap(), "here");
        }
        let (error, elapsed) = looping.await.unwrap();
        assert_eq!(
            (error.status(), error.to_string().as_str()),
            (504, "the function ran longer than its 300 ms")
        );
        assert!(elapsed >= BUDGET, "{elapsed:?}");
        took = took.min(elapsed);
        if took < BUDGET + Duration::from_millis(200) {
            break;
        }
    }
    assert!(took < BUDGET + Duration::from_millis(200), "{took:?}");
}

/// Counts to this number.
fn counting(id: &str, to: u64) -> String {
    let count = format!(
        "(local $i i64)
        (loop $on
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $on (i64.lt_u (local.get $i) (i64.const {to}))))
        i32.const 0"
    );
    function(id, "", &count, "")
}

/// On one thread, so that each waits for all others.
#[tokio::test]
async fn the_time_of_many_that_work_at_once_is_that_of_each() {
    const MANY: u32 = 24;
    let (functions, _) = functions();
    let work = counting("work", 30_000_000);
    let patient = limited(&work, |config| config.limits.time = Duration::from_secs(60));
    functions.install("work", patient).await.unwrap();
    let started = Instant::now();
    call(&functions, "work").await.unwrap();
    // Far more than one takes, for other programs use the machine, too; far less than all take.
    let budget = started.elapsed() * MANY / 3;
    functions.uninstall("work").unwrap();
    for (name, text) in [("work", work), ("endless", endless("endless"))] {
        let config = limited(&text, |config| config.limits.time = budget);
        functions.install(name, config).await.unwrap();
    }
    let works = (0..MANY).map(|_| call(&functions, "work"));
    let (endless, works) = futures::join!(
        tokio::spawn({
            let functions = functions.clone();
            async move { call(&functions, "endless").await }
        }),
        futures::future::join_all(works.map(|work| async { work.await.unwrap() })),
    );
    assert_eq!(works.len(), MANY as usize);
    let error = endless.unwrap().unwrap_err();
    assert!(matches!(error, CallError::OverTime(_)), "{error:?}");
}

#[tokio::test]
async fn one_thread_serves_others_beside_an_endless_loop() {
    let (functions, _) = with(&[&endless("endless"), &says("other", "here")]).await;
    let looping = tokio::spawn({
        let functions = functions.clone();
        async move { call(&functions, "endless").await }
    });
    tokio::task::yield_now().await;
    assert_eq!(call(&functions, "other").await.unwrap(), "here");
    assert!(!looping.is_finished());
    looping.abort();
}

/// On one thread, so that others are served in the turns of it.
#[tokio::test]
async fn one_that_runs_for_long_gives_way_often() {
    const TICK: Duration = Duration::from_millis(100);
    const CALLS: u32 = 50;
    let settings = Settings {
        tick: TICK,
        turn: Duration::from_millis(1),
        ..settings()
    };
    let functions = Functions::new(settings, Arc::<Fake>::default());
    let patient = limited(&endless("endless"), |config| config.limits.time = TICK * 600);
    functions.install("endless", patient).await.unwrap();
    install(&functions, "other", &says("other", "here")).await;
    let looping = tokio::spawn({
        let functions = functions.clone();
        async move { call(&functions, "endless").await }
    });
    tokio::task::yield_now().await;
    let begun = Instant::now();
    for _ in 0..CALLS {
        assert_eq!(call(&functions, "other").await.unwrap(), "here");
        tokio::task::yield_now().await;
    }
    assert!(begun.elapsed() < TICK * CALLS / 2, "{:?}", begun.elapsed());
    assert!(!looping.is_finished());
    looping.abort();
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_guest() {
    let (functions, _) = with(&[&endless("endless")]).await;
    let deadline = Some(tokio::time::Instant::now() + Duration::from_millis(20));
    let error = functions
        .call("endless", request("/", ""), 0, deadline)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Deadline), "{error:?}");
    assert_eq!(error.status(), 504);
    assert_eq!(functions.status()[0].running, 0);
}

#[tokio::test]
async fn a_start_that_never_ends_is_ended() {
    let (functions, _) = functions();
    let text = function(
        "f",
        "",
        "i32.const 0",
        r#"(func (export "_initialize") (loop (br 0)))"#,
    );
    let config = limited(&text, |config| config.limits.time = Duration::from_millis(20));
    let error = functions.install("f", config).await.unwrap_err();
    assert!(
        matches!(error, InstallError::Start(StartError::Trapped(Trap::OverTime(_)))),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_waits_for_the_host_ends_in_time() {
    for export in ["_initialize", "proxy_get_id", "proxy_on_configure"] {
        let wait = asks_state("never");
        let rest = match export {
            "proxy_on_configure" => {
                format!(r#"(func (export "{export}") (param i32 i32) (result i32) {wait} i32.const 1)"#)
            }
            _ => format!(r#"(func (export "{export}") {wait})"#),
        };
        let text = function("f", STATE, "i32.const 0", &rest);
        let text = match export {
            "proxy_get_id" => text.replacen(r#"(export "proxy_get_id")"#, "", 1),
            _ => text,
        };
        let data = text.replace(
            ALLOCATOR,
            &format!(r#"{ALLOCATOR} (data (i32.const 300) "snever")"#),
        );
        let (functions, _) = functions();
        let installed = functions.install("f", config(&data));
        let installed = tokio::time::timeout(Duration::from_secs(120), installed).await;
        let error = installed.expect("it ends").unwrap_err();
        assert!(matches!(error, InstallError::Start(_)), "{error:?}");
        assert!(functions.status().is_empty());
    }
}

#[tokio::test]
async fn a_trap_is_named_with_the_functions_it_was_in() {
    let (functions, _) = with(&[&trapping("f")]).await;
    let error = call(&functions, "f").await.unwrap_err();
    assert_eq!(error.status(), 500);
    let CallError::Trapped(trap) = error else {
        panic!("{error:?}");
    };
    assert!(trap.to_string().contains("unreachable"), "{trap}");
    assert!(trap.to_string().contains("in inner, in "), "{trap}");
    let status = &functions.status()[0];
    assert_eq!((status.calls, status.errors), (1, 1));
    assert_eq!(status.last_trap.as_ref().unwrap(), &trap.to_string());
}

#[tokio::test]
async fn a_function_that_traps_again_and_again_is_down_and_others_are_not() {
    let (functions, _) = with(&[&trapping("bad"), &says("good", "here")]).await;
    for _ in 0..5 {
        assert_eq!(call(&functions, "bad").await.unwrap_err().status(), 500);
    }
    let error = call(&functions, "bad").await.unwrap_err();
    assert!(matches!(error, CallError::Down), "{error:?}");
    assert_eq!(error.status(), 503);
    assert_eq!(
        functions
            .status()
            .iter()
            .map(|status| status.up)
            .collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(call(&functions, "good").await.unwrap(), "here");
}

/// Grows its memory by a page at a time until that fails, and answers how many pages it has.
fn grower() -> String {
    let grow = "(block $full (loop $more
            (br_if $full (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
            (br $more)))
        (i32.store8 (i32.const 200) (memory.size))";
    function(
        "grower",
        "",
        &format!("{grow} {} i32.const 0", respond(200, 1)),
        "",
    )
}

#[tokio::test]
async fn memory_grows_to_its_limit_and_no_further() {
    let (functions, _) = functions();
    let config = limited(&grower(), |config| config.limits.memory = 10 << 16);
    functions.install("a", config).await.unwrap();
    assert_eq!(call(&functions, "grower").await.unwrap().as_bytes(), [10]);
    assert_eq!(functions.status()[0].memory, 10 << 16);
}

#[tokio::test]
async fn a_module_that_begins_with_more_memory_does_not_start() {
    let (functions, _) = functions();
    let config = limited(&says("f", ""), |config| config.limits.memory = 1 << 16);
    let error = functions.install("a", config).await.unwrap_err();
    assert!(
        matches!(error, InstallError::Start(StartError::Trapped(_))),
        "{error:?}"
    );
    assert!(functions.status().is_empty());
}

#[tokio::test]
async fn a_recursion_without_end_is_a_trap() {
    let rest = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let (functions, _) = with(&[&function("f", "", "(call $deep (i32.const 1))", rest)]).await;
    let CallError::Trapped(trap) = call(&functions, "f").await.unwrap_err() else {
        panic!("a trap");
    };
    assert!(trap.to_string().contains("stack"), "{trap}");
}

#[tokio::test]
async fn a_function_calls_itself_so_deep_and_no_deeper() {
    let (functions, host) = with(&[&asks("self", "self")]).await;
    assert_eq!(
        call(&functions, "self").await.unwrap(),
        "failed",
        "the deepest says so"
    );
    let status = &functions.status()[0];
    assert_eq!(
        status.calls,
        u64::from(DEEPEST) + 2,
        "the first, those it made, and the one too many"
    );
    assert_eq!(status.errors, 1);
    assert!(
        host.lines().concat().contains("more than 16 deep"),
        "{:?}",
        host.lines()
    );
}

/// On one thread: each of the calls is quick, and all together are not.
#[tokio::test]
async fn a_deadline_ends_calls_within_calls() {
    let import = r#"(import "env" "proxy_invoke_service" (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let once = "(drop (call $invoke (i32.const 300) (i32.const 4) (i32.const 0) (i32.const 0)
        (i32.const 300) (i32.const 4) (i32.const 16) (i32.const 20)))";
    let twice = format!("{once} {once} i32.const 0");
    let data = r#"(data (i32.const 300) "self")"#;
    let (functions, _) = with(&[&function("self", import, &twice, data)]).await;
    let begun = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(100);
    let called = functions.call("self", request("/", ""), 0, Some(deadline));
    let error = called.await.unwrap_err();
    assert!(matches!(error, CallError::Deadline), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

// deviation: D143
#[tokio::test]
async fn calls_of_functions_need_no_place() {
    let (functions, _) = functions();
    let config = limited(&asks("self", "self"), |config| config.serving.places = 1);
    functions.install("a", config).await.unwrap();
    assert_eq!(call(&functions, "self").await.unwrap(), "failed");
    let status = &functions.status()[0];
    assert_eq!(
        status.calls,
        u64::from(DEEPEST) + 2,
        "as deep as with more places"
    );
    assert_eq!(status.errors, 1, "only the one too deep");
}

#[tokio::test]
async fn a_request_waits_for_a_place_and_not_for_long() {
    let (functions, _) = functions();
    let config = limited(&forwards("/never"), |config| {
        config.serving.places = 1;
        config.serving.wait = Duration::from_millis(10);
    });
    functions.install("a", config).await.unwrap();
    let first = tokio::spawn({
        let functions = functions.clone();
        async move { call(&functions, "forwards").await }
    });
    while functions.status()[0].running == 0 {
        tokio::task::yield_now().await;
    }
    let error = call(&functions, "forwards").await.unwrap_err();
    assert!(matches!(error, CallError::Busy(_)), "{error:?}");
    assert_eq!(error.status(), 503);
    assert_eq!(first.await.unwrap().unwrap(), "no reply");
    assert_eq!(
        call(&functions, "forwards").await.unwrap(),
        "no reply",
        "the place is free again"
    );
}

#[tokio::test]
async fn a_request_that_the_pool_has_no_room_for_is_told_so() {
    let host = Arc::<Fake>::default();
    let settings = Settings {
        instances: 1,
        ..crate::testing::settings()
    };
    let functions = Functions::new(settings, host);
    let config = limited(&asks("self", "self"), |config| config.serving.places = 1);
    functions.install("a", config).await.unwrap();
    for _ in 0..10 {
        assert_eq!(
            call(&functions, "self").await.unwrap(),
            "failed",
            "itself had no room"
        );
    }
    assert_eq!(functions.status()[0].last_trap, None);
    assert!(functions.status()[0].up, "which is no fault of its own");
}

#[tokio::test]
async fn more_places_are_there_at_once() {
    let (functions, _) = functions();
    let config = limited(&forwards("/never"), |config| {
        config.serving.places = 1;
        config.serving.wait = Duration::ZERO;
    });
    functions.install("a", config).await.unwrap();
    functions.update("a", 3).unwrap();
    let gate = Semaphore::new(0);
    let calls = (0..4).map(|_| async {
        let result = call(&functions, "forwards").await;
        gate.add_permits(1);
        result
    });
    let results = futures::future::join_all(calls).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    assert_eq!(functions.status()[0].places, 3);
}

#[tokio::test]
async fn wild_pointers_hurt_nobody() {
    let import =
        r#"(import "env" "proxy_get_state" (func $get (param i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let wild = "(i32.store8 (i32.const 200) (i32.add (i32.const 48)
        (call $get (i32.const -1) (i32.const -1) (i32.const 0) (i32.const -1) (i32.const -1) (i32.const -4))))";
    let (functions, _) = with(&[&function(
        "f",
        import,
        &format!("{wild} {} i32.const 0", respond(200, 1)),
        "",
    )])
    .await;
    assert_eq!(call(&functions, "f").await.unwrap(), "6");
}
