use std::{fs, path::Path, sync::Mutex};

use super::{
    super::{files::Directories, window::Gate},
    *,
};

const LIMITS: Limits = Limits {
    file_bytes: 1 << 20,
    files: 3,
};

fn record(what: What) -> Record {
    Record {
        window: Gate::new(0).window(),
        at: SystemTime::UNIX_EPOCH,
        port: 34904,
        what,
    }
}

fn begin(home: &Path, limits: Limits, config: ConfigDump) -> Queue {
    let (queue, writer) = queue(limits, config);
    let directory = Directories::new(home).open(Some(home)).unwrap();
    tokio::spawn(writer.run(move || Some(directory.clone())));
    queue
}

fn no_config() -> ConfigDump {
    Arc::new(String::new)
}

fn without_time(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.split_once("[INFO] ").unwrap().1)
        .collect()
}

#[tokio::test]
async fn a_line_is_as_upstream_writes_it() {
    let home = tempfile::tempdir().unwrap();
    let queue = begin(home.path(), LIMITS, no_config());
    assert!(queue.offer(record(What::Traffic(vec![0x0a, 0xff, 0x00]))));
    queue.flush().await;
    let text = fs::read_to_string(home.path().join("dump_tcp_copy.log")).unwrap();
    let pattern = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[INFO\] \[inituuid\]\[34904\]0a ff 00\n$";
    assert!(regex::Regex::new(pattern).unwrap().is_match(&text), "{text}");
}

#[tokio::test]
async fn reads_are_cut_so_that_a_file_holds_them() {
    let home = tempfile::tempdir().unwrap();
    let limits = Limits {
        file_bytes: 4096,
        files: 5,
    };
    let queue = begin(home.path(), limits, no_config());
    queue.offer(record(What::Traffic(vec![7; 4000])));
    queue.flush().await;
    let mut bytes = 0;
    for file in fs::read_dir(home.path()).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(text.len() <= 4096);
        bytes += text.matches("07").count();
    }
    // Four lines; times hold no "07" in the year 1970 but the hour may, in some zone.
    assert!((4000..=4004).contains(&bytes), "{bytes}");
}

// deviation: D062
#[tokio::test]
async fn what_finds_no_room_is_counted_and_lost() {
    let (queue, writer) = queue(LIMITS, no_config());
    assert!(queue.has_room(MAX_BYTES));
    assert!(queue.offer(record(What::Traffic(vec![0; MAX_BYTES]))));
    assert!(!queue.has_room(1));
    assert!(!queue.offer(record(What::Traffic(vec![0; 10]))));
    let lost = |queue: &Queue| {
        (
            queue.counts().overflowed.load(Relaxed),
            queue.counts().overflowed_bytes.load(Relaxed),
        )
    };
    assert_eq!(lost(&queue), (2, 11));

    tokio::spawn(writer.run(|| None));
    queue.flush().await;
    assert!(queue.has_room(MAX_BYTES), "there is room once the queue is empty");
}

#[tokio::test]
async fn many_small_records_are_bounded_too() {
    let (queue, _writer) = queue(LIMITS, no_config());
    for _ in 0..MAX_RECORDS {
        assert!(queue.offer(record(What::Traffic(vec![0]))));
    }
    assert!(!queue.has_room(1));
}

#[tokio::test]
async fn the_configuration_is_written_when_it_changed() {
    let home = tempfile::tempdir().unwrap();
    let config = Arc::new(Mutex::new("{\"a\":\n1}".to_owned()));
    let told = config.clone();
    let queue = begin(
        home.path(),
        LIMITS,
        Arc::new(move || told.lock().unwrap().clone()),
    );
    let portrait = || record(What::Portrait(Business::State, "{}".into()));
    for _ in 0..2 {
        queue.offer(portrait());
        queue.flush().await;
    }
    *config.lock().unwrap() = "{}".into();
    queue.offer(portrait());
    queue.flush().await;
    let read = |name| fs::read_to_string(home.path().join(name)).unwrap();
    assert_eq!(
        without_time(&read("dump_mem_dump.log")),
        ["[inituuid]{\"a\": 1}", "[inituuid]no_change", "[inituuid]{}"]
    );
    assert_eq!(
        without_time(&read("dump_portrait_data.log"))[0],
        "[inituuid][STATE][34904]{}"
    );

    fs::remove_file(home.path().join("dump_mem_dump.log")).unwrap();
    queue.offer(portrait());
    queue.flush().await;
    assert_eq!(
        without_time(&read("dump_mem_dump.log")),
        ["[inituuid]{}"],
        "the new file has it too"
    );
}

#[tokio::test]
async fn a_failure_to_write_is_counted_and_does_not_last() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("dump_tcp_copy.log");
    fs::create_dir(&path).unwrap();
    let queue = begin(home.path(), LIMITS, no_config());
    queue.offer(record(What::Traffic(vec![1])));
    queue.flush().await;
    assert_eq!(queue.counts().failed.load(Relaxed), 1);
    fs::remove_dir(&path).unwrap();
    queue.offer(record(What::Traffic(vec![2])));
    queue.flush().await;
    assert!(fs::read_to_string(&path).unwrap().ends_with("[34904]02\n"));
    assert_eq!(queue.counts().written.load(Relaxed), 1);
}
