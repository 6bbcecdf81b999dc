//! What the two commands do and print.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use super::Functions;
use crate::sidecar::free_port;

/// Answers the body that it got, and logs it; without one it ends in a trap, two functions deep.
const ECHO: &str = r#"(module
    (import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "malloc") (param i32) (result i32) i32.const 65536)
    (func $read_the_ledger unreachable)
    (func $add_up (call $read_the_ledger))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (local.get 2) (then (call $add_up)))
        i32.const 0)
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (drop (call $get (i32.const 0) (i32.const 0) (local.get 1) (i32.const 16) (i32.const 20)))
        (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
        (drop (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
        i32.const 0))"#;

fn put(folder: &Path, name: &str, text: &str) {
    let new = folder.join("new");
    std::fs::write(&new, wat::parse_str(text).unwrap()).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

fn sha256(file: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(file).unwrap());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn invoke(port: u16, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layotto"));
    command.args(["function", "invoke", "--port", &port.to_string()]);
    command.args(arguments).env_clear();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that does not read it may be gone already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_function_is_served_at_once_and_answers() {
    let mut functions = Functions::run("ledger.wasm", |folder| put(folder, "ledger.wasm", ECHO));
    let answer = invoke(functions.port, &["ledger", "--data", "hello"], "");
    assert_eq!(
        (answer.status.code(), text(&answer.stdout), text(&answer.stderr)),
        (Some(0), "hello", "")
    );
    let piped = invoke(
        functions.port,
        &["ledger", "-d", "-"],
        "from a pipe\nINFO forged\n",
    );
    assert_eq!(text(&piped.stdout), "from a pipe\nINFO forged\n");
    // The name of the function stands in each of its lines.
    functions.wait_for_log("forged");
    let output = functions.process.output();
    for logged in ["from a pipe", "INFO forged"] {
        let line = output.lines().find(|line| line.contains(logged)).unwrap();
        assert!(line.ends_with(&format!("{logged} function=\"ledger\"")), "{line}");
    }
}

#[test]
fn what_fails_is_told_by_status_and_code_and_traps_name_the_functions_they_were_in() {
    let mut functions = Functions::run("ledger.wasm --id sums", |folder| put(folder, "ledger.wasm", ECHO));
    let trapped = invoke(functions.port, &["sums"], "");
    assert_eq!((trapped.status.code(), text(&trapped.stdout)), (Some(1), ""));
    let error = text(&trapped.stderr);
    assert!(error.starts_with("error: 500 Internal Server Error: "), "{error}");
    functions.wait_for_log("unreachable");
    let output = functions.process.output();
    assert!(output.contains("in read_the_ledger, in add_up"), "{output}");

    let unknown = invoke(functions.port, &["ledger"], "");
    let error = text(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(error.starts_with("error: 404 Not Found: "), "{error}");

    let port = free_port();
    let nobody = invoke(port, &["sums"], "");
    assert_eq!(nobody.status.code(), Some(1));
    let expected = format!("error: nothing serves functions on port {port}");
    assert!(
        text(&nobody.stderr).starts_with(&expected),
        "{}",
        text(&nobody.stderr)
    );
    assert_eq!(
        invoke(port, &["sums", "-H", "no colon"], "").status.code(),
        Some(2)
    );
}

#[test]
fn a_file_may_come_later_and_a_new_one_takes_over() {
    let mut functions = Functions::run("later.wasm", |_| {});
    assert_eq!(invoke(functions.port, &["later"], "").status.code(), Some(1));
    let folder = functions.folder.path().to_owned();
    put(&folder, "later.wasm", ECHO);
    functions.wait_for_log("function loaded");
    assert_eq!(
        text(&invoke(functions.port, &["later", "-d", "one"], "").stdout),
        "one"
    );
    let changed = ECHO.replace(
        "(call $add_up)",
        "(drop (call $log (i32.const 2) (i32.const 100) (i32.const 7)))",
    );
    let changed = changed.replace(
        "(func $add_up",
        "(data (i32.const 100) \"changed\") (func $add_up",
    );
    put(&folder, "later.wasm", &changed);
    functions.wait_for_log(&sha256(&folder.join("later.wasm")));
    assert_eq!(invoke(functions.port, &["later"], "").status.code(), Some(0));
    functions.wait_for_log("changed");
}
