//! Files that are not loaded at first, and do not change.

use super::*;

/// Does not start before it was tried so often.
fn late(tries: usize) -> String {
    let import = r#"
        (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_shared_data" (func $share (param i32 i32 i32 i32 i32) (result i32)))
    "#;
    let rest = format!(
        r#"(func (export "_initialize")
            (drop (call $get (i32.const 300) (i32.const 1) (i32.const 16) (i32.const 20) (i32.const 24)))
            (drop (call $share (i32.const 300) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0)))
            (if (i32.lt_u (i32.load (i32.const 24)) (i32.const {tries})) (then unreachable)))"#
    );
    function("f", import, "i32.const 0", &rest)
}

#[tokio::test(start_paused = true)]
async fn a_function_that_does_not_start_is_tried_again_and_less_and_less_often() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    write(&path, &late(3));
    let (functions, _) = functions();
    functions.set("a", file(&path)).await.unwrap_err();
    // Each try is a version of the value that it sets.
    let tries = || functions.shared().get(b"\0").unwrap().1;
    for (millis, expected) in [(0, 1), (1_000, 2), (1_900, 2), (200, 3), (3_800, 3), (300, 4)] {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        look(&functions).await;
        assert_eq!(tries(), expected, "after another {millis} ms");
    }
    assert!(functions.has("f"));
    assert_eq!(status(&functions).problem, None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    look(&functions).await;
    assert_eq!(tries(), 4, "it is there");
}

#[tokio::test(start_paused = true)]
async fn what_was_to_take_the_place_of_a_file_does_not_have_it_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    write(&path, &says("f", "one"));
    let (functions, _) = functions();
    functions.set("a", file(&path)).await.unwrap();
    functions.set("a", config(&late(1))).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(60)).await;
    look(&functions).await;
    let status = status(&functions);
    assert_eq!(status.version.unwrap().number, 1);
    assert!(status.problem.unwrap().contains("unreachable"));
}

#[tokio::test(start_paused = true)]
async fn a_function_whose_start_hangs_is_not_tried_again_before_its_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    let rest = format!(
        r#"(data (i32.const 300) "snever")
        (func (export "proxy_on_configure") (param i32 i32) (result i32) {} i32.const 1)"#,
        asks_state("never")
    );
    write(&path, &function("f", STATE, "i32.const 0", &rest));
    let (functions, host) = functions();
    let error = functions.set("a", file(&path)).await.unwrap_err();
    assert!(
        matches!(error, InstallError::Start(StartError::Late(_))),
        "{error:?}"
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    look(&functions).await;
    assert_eq!(host.asked.lock().unwrap().len(), 1);
    write(&path, &says("f", "here"));
    look(&functions).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "here");
}
