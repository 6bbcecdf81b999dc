use std::{fs, path::Path, sync::atomic::AtomicU32, time::Duration};

use tokio::time::sleep;

use super::{files::Directories, usage::Reading, *};
use crate::{
    address::Address,
    connection::{Local, Remote},
};

fn config(home: &Path, json: Value) -> Config {
    let mut config: Config = serde_json::from_value(json).unwrap();
    config.dump_dir.get_or_insert(home.to_owned());
    config
}

fn on() -> Value {
    json!({"strategy": {"switch": "ON", "interval": 30, "duration": 5}})
}

/// Dumps on a machine that is calm.
fn dumps(home: &Path) -> Dumps {
    let probes = AtomicU32::new(0);
    let probe = move || {
        let total = u64::from(probes.fetch_add(1, Relaxed)) * 100;
        let (busy, memory) = (0, 10.0);
        Some(Reading { total, busy, memory })
    };
    Dumps::with(
        Directories::new(home),
        Arc::new(|| "{\"config\":1}".into()),
        Arc::new(probe),
    )
}

fn address(port: u16) -> Address {
    format!("127.0.0.1:{port}").parse().unwrap()
}

fn add(dumps: &Dumps, home: &Path, port: u16, json: Value) -> Arc<Tcpcopy> {
    let name = format!("listener-{port}");
    dumps
        .add(&name, &address(port), &config(home, json))
        .unwrap()
        .unwrap()
}

fn connect(dump: &Tcpcopy, port: u16) -> Box<dyn ConnectionTap> {
    let remote = Remote::Tcp("127.0.0.1:1".parse().unwrap());
    let local = Local::Tcp(format!("127.0.0.1:{port}").parse().unwrap());
    dump.open(&Info::new(remote, local, dump.listener())).unwrap()
}

/// Lets so many seconds pass and what happens at their end happen.
async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
    sleep(Duration::from_millis(1)).await;
}

fn lines(home: &Path) -> Vec<String> {
    let text = fs::read_to_string(home.join("dump_tcp_copy.log")).unwrap_or_default();
    text.lines()
        .map(|line| line.split_once("[INFO] ").unwrap().1.to_owned())
        .collect()
}

fn hex(text: &str) -> String {
    text.bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn traffic_of_a_window_is_in_the_file_with_the_windows_id_and_port() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let dump = add(&dumps, home.path(), 34904, on());
    let mut connection = connect(&dump, 34904);
    connection.read(b"GET /before HTTP/1.1\r\n\r\n");
    pass(30).await;
    connection.read(REQUEST.as_bytes());
    let window = dump.shared.gate.window();
    pass(5).await;
    connection.read(b"GET /behind HTTP/1.1\r\n\r\n");
    dumps.flush().await;
    assert_eq!(
        lines(home.path()),
        [format!("[{}][34904]{}", window.id(), hex(REQUEST))]
    );
}

// deviation: D061
#[tokio::test(start_paused = true)]
async fn configured_headers_are_not_in_the_file() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let mut json = on();
    json["redact_headers"] = json!(["X-Secret"]);
    let dump = add(&dumps, home.path(), 34904, json);
    pass(30).await;
    connect(&dump, 34904).read(b"GET / HTTP/1.1\r\nx-secret: 12\r\ncookie: 34\r\n\r\n");
    dumps.flush().await;
    let line = lines(home.path()).concat();
    assert!(line.contains(&hex("x-secret: **\r\ncookie: 34")), "{line}");
}

// deviation: D062
#[tokio::test(start_paused = true)]
async fn listeners_have_strategies_and_windows_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let (on, off) = (
        add(&dumps, home.path(), 1, on()),
        add(&dumps, home.path(), 2, json!({})),
    );
    let later = add(
        &dumps,
        home.path(),
        3,
        json!({"strategy": {"switch": "ON", "interval": 33, "duration": 5}}),
    );
    pass(30).await;
    let is_open = |dump: &Tcpcopy| dump.shared.gate.opening().is_some();
    assert_eq!(
        [&on, &off, &later].map(|dump| is_open(dump)),
        [true, false, false]
    );
    pass(3).await;
    assert!(is_open(&later));
    assert_ne!(on.shared.gate.window().id(), later.shared.gate.window().id());
    for (dump, port) in [(&on, 1), (&later, 3)] {
        connect(dump, port).read(REQUEST.as_bytes());
    }
    dumps.flush().await;
    assert_eq!(lines(home.path()).len(), 2, "both in one file");
}

#[tokio::test(start_paused = true)]
async fn a_read_of_a_closed_window_is_not_copied_and_of_a_full_queue_counted() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let dump = add(&dumps, home.path(), 34904, on());
    let mut connection = connect(&dump, 34904);
    let big = [REQUEST.as_bytes(), &vec![b'x'; writer::MAX_BYTES]].concat();
    connection.read(&big);
    assert_eq!(dumps.status()["listeners"][0]["overflowed"], 0);
    pass(30).await;
    connection.read(&big);
    let status = &dumps.status()["listeners"][0];
    assert_eq!(
        (&status["overflowed"], &status["overflowed_bytes"]),
        (&json!(1), &json!(big.len()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_portrait_is_written_once_per_kind_and_window() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let dump = add(&dumps, home.path(), 34904, on());
    let told = AtomicU32::new(0);
    let portray = |business| {
        dump.portrait(business, || {
            told.fetch_add(1, Relaxed);
            "{\"store\":\"a\"}".into()
        });
    };
    portray(Business::State);
    assert_eq!(told.load(Relaxed), 0, "no window is open");
    for _ in 0..2 {
        pass(30).await;
        for business in [
            Business::State,
            Business::State,
            Business::Rpc,
            Business::Configuration,
        ] {
            portray(business);
        }
        pass(5).await;
    }
    dumps.flush().await;
    assert_eq!(told.load(Relaxed), 6);
    let read = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
    let portraits = read("dump_portrait_data.log");
    for (name, count) in [("[STATE]", 2), ("[RPC]", 2), ("[CONFIGURATION]", 2)] {
        assert_eq!(
            portraits
                .matches(&format!("{name}[34904]{{\"store\":\"a\"}}"))
                .count(),
            count
        );
    }
    let configs = read("dump_mem_dump.log");
    assert_eq!(
        (
            configs.matches("{\"config\":1}").count(),
            configs.matches("no_change").count()
        ),
        (1, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn the_switch_works_at_run_time() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let dump = add(&dumps, &home.path().join("dump"), 34904, json!({}));
    assert!(
        !home.path().join("dump").exists(),
        "nothing is made while it is off"
    );
    assert_eq!(dumps.status()["listeners"][0]["on"], false);
    dumps
        .update(json!({"switch": "ON", "interval": 60, "duration": 2}))
        .unwrap();
    let status = dumps.status();
    assert_eq!(status["listeners"][0]["strategy"]["interval"], 60);
    assert_eq!(
        status["listeners"][0]["dump_dir"],
        json!(home.path().join("dump"))
    );
    pass(60).await;
    assert_eq!(dumps.status()["listeners"][0]["open"], true);
    dumps.update(json!({"switch": "OFF"})).unwrap();
    pass(0).await;
    assert_eq!(dumps.status()["listeners"][0]["open"], false);
    drop(dump);
    assert_eq!(dumps.status()["listeners"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn one_listener_can_be_switched_alone() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let _both = [1, 2].map(|port| add(&dumps, home.path(), port, json!({})));
    dumps
        .update(json!({"listener": "listener-2", "switch": "ON"}))
        .unwrap();
    let status = dumps.status();
    assert_eq!(
        [&status["listeners"][0]["on"], &status["listeners"][1]["on"]],
        [false, true]
    );
}

#[tokio::test(start_paused = true)]
async fn force_off_stops_all_until_it_is_lifted() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let _dump = add(&dumps, home.path(), 34904, on());
    dumps.update(json!({"switch": "FORCE_OFF"})).unwrap();
    assert_eq!(dumps.status()["listeners"][0]["on"], false);
    let error = dumps.update(json!({"switch": "ON"})).unwrap_err();
    assert!(error.contains("FORCE_OFF"), "{error}");
    let _late = add(&dumps, home.path(), 34905, on());
    assert_eq!(
        dumps.status()["listeners"][1]["on"],
        false,
        "it holds for listeners to come"
    );
    dumps.update(json!({"layer": "global", "switch": "OFF"})).unwrap();
    assert_eq!(
        dumps.status()["listeners"][0]["on"],
        true,
        "its own strategy holds again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrong_change_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let error = dumps.update(json!({"switch": "ON"})).unwrap_err();
    assert_eq!(error, "no listener has the filter tcpcopy");
    let _dump = add(&dumps, home.path(), 34904, on());
    let before = dumps.status();
    for (change, text) in [
        (json!({"interval": 10}), "interval: is 10; accepted: 30 to 3600"),
        (json!({"duration": 30}), "duration: is 30"),
        (json!({"switch": "MAYBE"}), "`ON`"),
        (json!({"swich": "ON"}), "`switch`"),
        (json!({"listener": "nope"}), "accepted: listener-34904"),
        (
            json!({"listener": "listener-34904", "switch": "FORCE_OFF"}),
            "no listener",
        ),
    ] {
        let error = dumps.update(change).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(dumps.status(), before);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_an_error_of_its_key() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let dumps = dumps(home.path());
    let refused = dumps.add("a", &address(1), &config(&file, on())).unwrap_err();
    assert_eq!(refused.path, "dump_dir");
    let _off = add(&dumps, &file, 1, json!({}));
    assert!(
        dumps
            .update(json!({"switch": "ON"}))
            .unwrap_err()
            .contains("cannot be written")
    );
    assert_eq!(dumps.status()["listeners"][0]["on"], false);
}

#[tokio::test]
async fn unix_sockets_are_not_dumped() {
    let home = tempfile::tempdir().unwrap();
    let (dumps, address) = (dumps(home.path()), Address::Unix(home.path().join("socket")));
    assert!(
        dumps
            .add("a", &address, &config(home.path(), on()))
            .unwrap()
            .is_none()
    );
    assert!(Config::advice(&address).is_some());
    let dump = add(&dumps, home.path(), 1, on());
    let info = Info::new(
        Remote::Unix { uid: 0, pid: None },
        Local::Unix(home.path().join("socket").into()),
        "a",
    );
    assert!(dump.open(&info).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_copied_is_written_after_the_listener_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let dumps = dumps(home.path());
    let dump = add(&dumps, home.path(), 34904, on());
    pass(30).await;
    let mut connection = connect(&dump, 34904);
    connection.read(REQUEST.as_bytes());
    let queue = dump.shared.queue.clone();
    drop(dump);
    pass(0).await;
    connection.read(REQUEST.as_bytes());
    queue.flush().await;
    assert_eq!(lines(home.path()).len(), 1, "the window ended with the listener");
}
