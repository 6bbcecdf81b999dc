//! The commands, run as a user runs them.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::sidecar::Sidecar;

struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layotto"));
    command
        .args(line.split_whitespace())
        .current_dir(folder)
        .env_clear();
    command
}

fn run(folder: &Path, line: &str) -> Outcome {
    command(folder, line).output().unwrap().into()
}

/// Runs `call`, with `request` on standard input.
fn call(folder: &Path, line: &str, request: &Value) -> Outcome {
    let mut command = command(folder, &format!("call --addr unix:s.sock {line} -"));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(request.to_string().as_bytes())
        .unwrap();
    child.wait_with_output().unwrap().into()
}

/// A configuration with one gRPC listener, on the socket `s.sock`.
fn on_a_socket(grpc_config: &Value) -> Value {
    json!({"servers": [{"listeners": [{
        "name": "grpc", "network": "unix", "address": "s.sock", "bind_port": true,
        "filter_chains": [{"filters": [{"type": "grpc", "config": {"grpc_config": grpc_config}}]}],
    }]}]})
}

#[test]
fn help_is_no_error_and_nonsense_is() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), "");
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    assert!(help.out.contains("Exit codes:"), "{}", help.out);
    assert_eq!(run(folder.path(), "--help").out, help.out);
    assert!(run(folder.path(), "-v").out.starts_with("layotto "));
    for line in [
        "nonsense",
        "start --nonsense",
        "check x y",
        "call",
        "components nonsense",
    ] {
        let outcome = run(folder.path(), line);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{line}");
        assert!(outcome.err.starts_with("error: "), "{line}: {}", outcome.err);
    }
    let reload = run(folder.path(), "reload");
    assert_eq!(reload.code, Some(0));
    assert!(reload.out.starts_with("reload does nothing"), "{}", reload.out);
}

#[test]
fn init_writes_a_file_that_check_likes_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), "init");
    assert_eq!(
        first.out,
        "wrote configs/config.json; start with: layotto start -c configs/config.json\n"
    );
    let check = run(folder.path(), "check");
    assert_eq!(
        (check.code, check.out.as_str()),
        (Some(0), "the configuration is fit to start with\n")
    );
    let again = run(folder.path(), "init");
    assert_eq!(again.code, Some(1));
    assert_eq!(
        again.err,
        "error: configs/config.json is there already and was left alone\n"
    );
    assert_eq!(run(folder.path(), "init x.yaml").code, Some(2));
}

#[test]
fn check_lists_everything_and_start_refuses_only_errors() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"servers\": [{\n\"listenrs\": [],\n\"graceful_timeout\": 5,\n\"processor\": true}],\n\"node\": {\"a\": 1}}";
    fs::write(folder.path().join("bad.json"), text).unwrap();
    let errors = [
        "bad.json:3: servers[0].graceful_timeout: found a number, expected a duration such as \"300ms\", \"5s\" or \
         \"1h30m\"",
        "bad.json:4: servers[0].processor: found a boolean, expected a number of threads or \"auto\"",
    ];
    let check = run(folder.path(), "check -c bad.json");
    assert_eq!(check.code, Some(3));
    assert_eq!(
        check.out.lines().collect::<Vec<_>>(),
        [
            format!("error: {}", errors[0]).as_str(),
            format!("error: {}", errors[1]).as_str(),
            "unknown key: bad.json:2: servers[0].listenrs: nothing reads this key; did you mean \"listeners\"?",
            "not supported yet: bad.json:5: node: node is not supported yet and has no effect",
            "4 found",
        ]
    );
    let start = run(folder.path(), "-c bad.json");
    assert_eq!((start.code, start.out.as_str()), (Some(1), ""));
    assert_eq!(
        start.err.lines().collect::<Vec<_>>(),
        [
            "error: the configuration has 2 errors",
            &format!("  {}", errors[0]),
            &format!("  {}", errors[1])
        ]
    );
    assert!(!folder.path().join(".layotto").exists(), "nothing was opened");
    assert_eq!(run(folder.path(), "start -c none.json").code, Some(1));
}

#[test]
fn components_come_from_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let all = run(folder.path(), "components");
    assert!(all.out.contains("\nbindings       http\n"), "{}", all.out);
    let one = run(folder.path(), "components bindings http");
    assert!(
        one.out.starts_with("http\n") && one.out.contains("    timeout  duration, default \"10s\"\n"),
        "{}",
        one.out
    );
    let listed: Value = serde_json::from_str(&run(folder.path(), "components state --json").out).unwrap();
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["type"] == "in-memory" && one["schema"].is_object())
    );
    let planned = run(folder.path(), "components state mongodb");
    assert_eq!(planned.code, Some(2));
    assert!(
        planned
            .err
            .starts_with("error: type mongodb is not supported yet; there are: "),
        "{}",
        planned.err
    );
}

#[test]
fn calls_and_stop_reach_a_running_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut config = on_a_socket(&json!({
        "hellos": {"hi": {"type": "helloworld", "hello": "greeting"}},
        "state": {"s": {"type": "in-memory"}},
        "file": {"f": {"type": "local"}},
    }));
    config["surprise"] = json!(1);
    let files = folder.join(".layotto/files");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("note"), "hi").unwrap();
    let mut sidecar = Sidecar::with_config(folder, &config, &[]);
    assert!(
        sidecar.wait_for_file(&folder.join("s.sock")),
        "{}",
        sidecar.output()
    );

    let hello = call(
        folder,
        "SayHello",
        &json!({"service_name": "hi", "name": "world"}),
    );
    assert_eq!((hello.code, hello.err.as_str()), (Some(0), ""));
    assert_eq!(hello.out, "{\n  \"hello\": \"greeting, world\"\n}\n");

    let stream = call(
        folder,
        "Runtime/GetFile",
        &json!({"store_name": "f", "name": "note"}),
    );
    assert_eq!(
        (stream.code, stream.out.as_str()),
        (Some(0), "{\"data\":\"aGk=\"}\n"),
        "{}",
        stream.err
    );

    let unknown = call(
        folder,
        "GetState -H tenant:a",
        &json!({"store_name": "none", "key": "k"}),
    );
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(1), ""));
    assert_eq!(
        unknown.err,
        "error: INVALID_ARGUMENT: state store none is not found\n"
    );

    let wrong = call(folder, "GetState", &json!({"store": "none"}));
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.err.contains("unrecognized field name 'store'"),
        "{}",
        wrong.err
    );

    let stop = run(folder, "stop");
    assert_eq!(
        (stop.code, stop.out),
        (Some(0), format!("process {} has ended\n", sidecar.pid()))
    );
    assert!(sidecar.wait_for_end().success());
    let warnings = sidecar
        .output()
        .lines()
        .filter(|line| line.contains("surprise"))
        .count();
    assert_eq!(warnings, 1, "{}", sidecar.output());

    assert_eq!(run(folder, "stop").code, Some(1), "there is nothing left to stop");
    let gone = call(folder, "SayHello", &json!({}));
    assert_eq!(gone.code, Some(1));
    assert!(
        gone.err
            .starts_with("error: UNAVAILABLE: cannot connect to unix:s.sock: "),
        "{}",
        gone.err
    );
}

#[test]
fn a_call_that_is_not_answered_in_time_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // Accepts, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let outcome = run(
        folder.path(),
        &format!("call --addr {address} --timeout 100ms SayHello"),
    );
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.starts_with("error: DEADLINE_EXCEEDED"),
        "{}",
        outcome.err
    );
}
