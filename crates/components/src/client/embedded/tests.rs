use std::{sync::mpsc, time::Duration};

use layotto_core::{ErrorKind, Settings};
use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn open(folder: &TempDir) -> Store {
    open_with(folder, Durability::Fsync, Clock::manual()).await
}

async fn open_with(folder: &TempDir, durability: Durability, clock: Clock) -> Store {
    Store::open(file_in(folder), durability, clock).await.unwrap()
}

fn file_in(folder: &TempDir) -> PathBuf {
    folder.path().join("layotto.db")
}

fn put(key: &'static str, value: i64) -> impl FnOnce(&WriteTransaction) -> Attempt<()> + Send + 'static {
    move |tx| {
        tx.open_table(SEQUENCE)?.insert(key, value)?;
        Ok(((), Effect::Durable))
    }
}

fn get(store: &Store, key: &str) -> Option<i64> {
    store
        .read(|tx| Ok(tx.open_table(SEQUENCE)?.get(key)?.map(|row| row.value())))
        .unwrap()
}

/// Keeps the writer busy until the guard is dropped, so that what is sent meanwhile waits.
async fn occupy(store: &Arc<Store>) -> mpsc::SyncSender<()> {
    let (release, released) = mpsc::sync_channel::<()>(0);
    let (begun, beginning) = oneshot::channel();
    let store = Arc::clone(store);
    tokio::spawn(async move {
        store
            .write(move |_| {
                begun.send(()).unwrap();
                assert!(released.recv().is_err());
                Ok(((), Effect::None))
            })
            .await
    });
    beginning.await.unwrap();
    release
}

async fn until_waiting(store: &Store, operations: usize) {
    while QUEUE - store.places.available_permits() < operations {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn writers_that_wait_at_the_same_time_share_a_commit() {
    let folder = folder();
    let store = Arc::new(open(&folder).await);
    let busy = occupy(&store).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..64 {
        let store = Arc::clone(&store);
        writers.spawn(async move { store.write(put("k", n)).await.unwrap() });
    }
    until_waiting(&store, 65).await;
    let (_, commits_before, syncs_before) = store.counters();
    drop(busy);
    writers.join_all().await;
    let (operations, commits, syncs) = store.counters();
    assert_eq!((operations, commits - commits_before), (65, 1));
    assert_eq!(syncs - syncs_before, 1);
}

#[tokio::test]
async fn a_refused_operation_leaves_the_others_of_its_commit_alone() {
    let folder = folder();
    let store = Arc::new(open(&folder).await);
    let busy = occupy(&store).await;
    let first = store.write(put("a", 1));
    let refused = store.write(|_| -> Attempt<()> { Err(Error::invalid("no").into()) });
    let last = store.write(put("b", 2));
    let outcomes = async { tokio::join!(first, refused, last) };
    let release = async {
        until_waiting(&store, 4).await;
        drop(busy);
    };
    let ((first, refused, last), ()) = tokio::join!(outcomes, release);
    first.and(last).unwrap();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!((get(&store, "a"), get(&store, "b")), (Some(1), Some(2)));
}

#[tokio::test]
async fn a_defect_in_an_operation_fails_it_and_not_the_store() {
    let folder = folder();
    let store = open(&folder).await;
    let defect = |tx: &WriteTransaction| -> Attempt<()> {
        tx.open_table(SEQUENCE)?.insert("half", 1)?;
        panic!("a defect");
    };
    assert_eq!(
        store.write(defect).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    store.write(put("k", 1)).await.unwrap();
    store.check().unwrap();
    assert_eq!((get(&store, "half"), get(&store, "k")), (None, Some(1)));
}

#[tokio::test]
async fn on_a_full_disk_writes_fail_and_nothing_that_was_answered_is_lost() {
    let folder = folder();
    let store = open(&folder).await;
    store.write(put("k", 1)).await.unwrap();
    store.shared.full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = store.write(put("k", 2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert!(store.check().is_err());
    store.shared.full.store(false, Ordering::SeqCst);
    drop(store);
    assert_eq!(get(&open(&folder).await, "k"), Some(1));
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_lazy_change_shows_before_the_next_write() {
    let folder = folder();
    let store = open(&folder).await;
    let lazy = |tx: &WriteTransaction| {
        tx.open_table(SEQUENCE)?.insert("k", 1)?;
        Ok(((), Effect::Lazy))
    };
    store.write(lazy).await.unwrap();
    store.shared.full.store(true, Ordering::SeqCst);
    let shown = async {
        while store.check().is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), shown)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_operation_is_carried_out_even_if_its_caller_went_away() {
    let folder = folder();
    let store = Arc::new(open(&folder).await);
    let busy = occupy(&store).await;
    let caller = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.write(put("k", 1)).await }
    });
    until_waiting(&store, 2).await;
    caller.abort();
    drop(busy);
    store.write(|_| Ok(((), Effect::None))).await.unwrap();
    assert_eq!(get(&store, "k"), Some(1));
}

#[tokio::test]
async fn what_was_answered_is_in_the_file_while_the_process_still_runs() {
    for durability in [Durability::Fsync, Durability::Os] {
        let folder = folder();
        let store = open_with(&folder, durability, Clock::manual()).await;
        store.write(put("k", 7)).await.unwrap();
        // What a process that is killed now leaves behind.
        let left = folder.path().join("left.db");
        std::fs::copy(file_in(&folder), &left).unwrap();
        let found = Store::open(left, durability, Clock::manual()).await.unwrap();
        assert_eq!(get(&found, "k"), Some(7), "{durability:?}");
    }
}

#[tokio::test]
async fn only_durable_commits_sync_and_only_where_asked_for() {
    let folder = folder();
    let store = open_with(&folder, Durability::Os, Clock::manual()).await;
    store.write(put("k", 1)).await.unwrap();
    assert_eq!(store.counters().2, 0);
    drop(store);
    let store = open(&folder).await;
    let before = store.counters().2;
    let lazy = |tx: &WriteTransaction| {
        tx.open_table(SEQUENCE)?.insert("k", 2)?;
        Ok(((), Effect::Lazy))
    };
    store.write(lazy).await.unwrap();
    assert_eq!((get(&store, "k"), store.counters().2), (Some(2), before));
    drop(store);
    assert_eq!(get(&open(&folder).await, "k"), Some(2));
}

#[tokio::test]
async fn components_share_the_store_and_the_strictest_of_their_durabilities() {
    let folder = folder();
    let cx = Context::standalone("test", folder.path());
    let open = async |path: &str, durability| {
        Store::shared(&StorePath(path.into()), durability, &cx)
            .await
            .unwrap()
    };
    let relaxed = open("s.db", Durability::Os).await;
    relaxed.write(put("k", 1)).await.unwrap();
    assert_eq!(relaxed.counters().2, 0);
    let strict = open("./s.db", Durability::Fsync).await;
    assert!(Arc::ptr_eq(&relaxed, &strict));
    relaxed.write(put("k", 2)).await.unwrap();
    assert!(strict.counters().2 > 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_in_use_is_refused_and_the_holder_named() {
    let folder = folder();
    let _held = open(&folder).await;
    let error = Store::open(file_in(&folder), Durability::Fsync, Clock::manual())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("layotto.db"), "{error}");
    assert!(
        error.message().contains(&std::process::id().to_string()),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_several_that_make_the_store_at_once_one_gets_it_and_keeps_what_it_writes() {
    for round in 0..8 {
        let folder = folder();
        let mut openers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let path = file_in(&folder);
            openers.spawn(async move { file::open(&path, &Arc::default()).await.ok() });
        }
        let mut made = openers.join_all().await.into_iter().flatten();
        let winner = made.next().unwrap();
        assert!(made.next().is_none(), "round {round}");
        let tx = winner.begin_write().unwrap();
        tx.open_table(SEQUENCE).unwrap().insert("k", round).unwrap();
        tx.commit().unwrap();
        drop(winner);
        assert_eq!(get(&open(&folder).await, "k"), Some(round));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let folder = folder();
    let store = open(&folder).await;
    store.write(put("k", 1)).await.unwrap();
    drop(store);
    let path = file_in(&folder);
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[4096..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    for damaged in [
        Vec::new(),
        b"not a store".to_vec(),
        good[..good.len() / 2].to_vec(),
        flipped,
    ] {
        std::fs::write(&path, &damaged).unwrap();
        let error = Store::open(path.clone(), Durability::Fsync, Clock::manual())
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
        assert!(error.message().contains("layotto.db"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap().len(), damaged.len());
    }
    std::fs::write(&path, &good).unwrap();
    assert_eq!(get(&open(&folder).await, "k"), Some(1));
}

#[tokio::test]
async fn a_file_of_a_newer_version_or_of_another_program_is_refused() {
    let folder = folder();
    let newer = |db: &Database| {
        let tx = db.begin_write().unwrap();
        tx.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
        tx.commit().unwrap();
    };
    let foreign = |db: &Database| {
        let tx = db.begin_write().unwrap();
        tx.open_table(SEQUENCE).unwrap();
        tx.commit().unwrap();
    };
    for (make, complaint) in [
        (newer as fn(&Database), "newer version"),
        (foreign, "another program"),
    ] {
        let path = folder.path().join("other.db");
        make(&Database::create(&path).unwrap());
        let error = Store::open(path.clone(), Durability::Fsync, Clock::manual())
            .await
            .err()
            .unwrap();
        assert!(error.message().contains(complaint), "{error}");
        assert!(error.message().contains("other.db"), "{error}");
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn rows_that_ended_are_swept_and_the_others_stay() {
    let folder = folder();
    let clock = Clock::manual();
    let store = open_with(&folder, Durability::Fsync, clock.clone()).await;
    let ends = [
        clock.after(Duration::from_secs(1)),
        clock.after(Duration::from_secs(9)),
    ];
    let fill = move |tx: &WriteTransaction| {
        for (n, end) in ends.into_iter().enumerate() {
            let key = format!("k{n}");
            tx.open_table(STATE)?.insert(key.as_str(), (1, end, &b"v"[..]))?;
            tx.open_table(STATE_END)?.insert((end, key.as_str()), ())?;
        }
        Ok(((), Effect::Durable))
    };
    store.write(fill).await.unwrap();
    assert!(!sweep::is_due(&store.db, clock.now()).unwrap());
    clock.advance(Duration::from_secs(1));
    assert!(sweep::is_due(&store.db, clock.now()).unwrap());
    let now = clock.now();
    let sweep = move |tx: &WriteTransaction| {
        let left_over = sweep::sweep(tx, now).map_err(|error| Failure::Broken(Box::new(error)))?;
        Ok((left_over, Effect::Lazy))
    };
    assert!(!store.write(sweep).await.unwrap());
    let left = store.read(|tx| {
        let rows = tx.open_table(STATE)?;
        Ok(rows
            .iter()?
            .map(|row| row.unwrap().0.value().to_owned())
            .collect::<Vec<_>>())
    });
    assert_eq!(left.unwrap(), ["k1"]);
}

#[test]
fn settings_name_the_file_and_when_writes_are_answered() {
    use crate::{pubsub, state};

    let settings: Settings = [("path", "x.db"), ("durability", "os"), ("maxQueued", "7")]
        .into_iter()
        .collect();
    let broker = settings.parse::<pubsub::embedded::Config>().unwrap();
    assert_eq!(broker.unknown, [""; 0]);
    assert_eq!(
        (
            broker.config.path.0,
            broker.config.durability,
            broker.config.max_queued
        ),
        ("x.db".into(), Durability::Os, 7)
    );
    let defaults = Settings::default()
        .parse::<state::embedded::Config>()
        .unwrap()
        .config;
    assert_eq!(
        (defaults.path.0, defaults.durability),
        ("layotto.db".into(), Durability::Fsync)
    );
    let settings: Settings = [("durability", "sometimes")].into_iter().collect();
    let error = settings.parse::<state::embedded::Config>().unwrap_err();
    assert_eq!(error.path, "durability");
}
