//! The pair of functions that upstream shows, in each language: `id_1` asks `id_2`, which reads the
//! store.

use std::{path::Path, process::Command};

use super::{Functions, examples, put_example};
use crate::{lifecycle::save, mesh::clients::Ask, sidecar::skipped};

/// Runs the pair that `fill` puts into a folder as `id_1.wasm` and `id_2.wasm`.
async fn answers(fill: impl FnOnce(&Path)) {
    let mut functions = Functions::run("id_1.wasm id_2.wasm", fill);
    save(functions.api, "book1", "100").await;
    let expected = "There are 100 inventories for book1.";
    let ask = Ask::get("/?name=book1").header("id", "id_1");
    let reply = ask.http1(functions.port).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text().as_str()),
        (200, expected),
        "by its query"
    );
    let posted = functions.ask("id_1", "name=book1").await;
    assert_eq!(posted.text(), expected, "by its body");
    let missing = functions.ask("id_1", "name=book2").await;
    assert_eq!(missing.text(), "There are  inventories for book2.");
    let wrong = functions.ask("id_1", "book1").await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.text().as_str()),
        (400, "name=BOOK is missing")
    );
    // What it says of itself is in the log with its name.
    functions.wait_for_log("asked for book1");
    let output = functions.process.output();
    let line = output.lines().find(|line| line.contains("asked for book1"));
    assert!(line.unwrap().contains("function=\"id_2\""), "{output}");
}

async fn examples_answer(language: &str) {
    answers(|folder| {
        for id in ["id_1", "id_2"] {
            put_example(folder, &format!("{language}-{id}"), id);
        }
    })
    .await;
}

#[tokio::test]
async fn in_rust_with_the_sdk() {
    examples_answer("rust").await;
}

#[tokio::test]
async fn in_cpp() {
    examples_answer("cpp").await;
}

#[tokio::test]
async fn in_assemblyscript() {
    examples_answer("assemblyscript").await;
}

#[tokio::test]
async fn one_language_calls_another() {
    answers(|folder| {
        put_example(folder, "assemblyscript-id_1", "id_1");
        put_example(folder, "rust-id_2", "id_2");
    })
    .await;
}

/// Built here: it is too large to be kept in the repository.
#[tokio::test]
async fn in_go_with_the_sdk() {
    let go = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.args(arguments).current_dir(examples().join("go"));
        go.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local")]);
        go.output()
    };
    let reason = match go(&["mod", "download"]) {
        Err(error) => Some(format!("go cannot be run: {error}")),
        Ok(output) if !output.status.success() => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Ok(_) => None,
    };
    if let Some(reason) = reason {
        skipped(
            "guests::languages::in_go_with_the_sdk",
            reason.lines().next().unwrap_or_default(),
        );
        return;
    }
    answers(|folder| {
        for id in ["id_1", "id_2"] {
            let file = folder.join(format!("{id}.wasm"));
            let source = format!("./{id}");
            let out = file.to_str().unwrap();
            let built = go(&[
                "build",
                "-buildmode=c-shared",
                "-ldflags=-s -w",
                "-o",
                out,
                &source,
            ])
            .unwrap();
            assert!(
                built.status.success(),
                "{}",
                String::from_utf8_lossy(&built.stderr)
            );
        }
    })
    .await;
}
