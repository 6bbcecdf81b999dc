//! Installing, removing, and files that change.

mod again;

use std::{
    fs,
    path::Path,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Wake, Waker},
};

use async_trait::async_trait;
use md5::{Digest, Md5};
use tokio::sync::Notify;

use super::*;
use crate::testing::{file, settings, wasm};

fn write(path: &Path, text: &str) {
    fs::write(path, wasm(text)).unwrap();
}

/// Looks until the files have settled and are loaded.
async fn look(functions: &Arc<Functions>) {
    for _ in 0..3 {
        functions.look().await;
    }
}

fn status(functions: &Functions) -> Status {
    functions.status().remove(0)
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let (functions, _) = with(&[&says("f", "one")]).await;
    let error = functions
        .install("plugin 0", config(&says("f", "two")))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "plugin 0 is already registered");
    assert_eq!(call(&functions, "f").await.unwrap(), "one");
}

#[tokio::test]
async fn what_is_not_installed_is_neither_updated_nor_removed() {
    let (functions, _) = functions();
    assert_eq!(
        functions.update("a", 1).unwrap_err().to_string(),
        "a is not registered"
    );
    assert_eq!(
        functions.uninstall("a").unwrap_err().to_string(),
        "a is not registered"
    );
    install(&functions, "a", &says("f", "one")).await;
    let error = functions.update("a", 0).unwrap_err();
    assert_eq!(error.to_string(), "instance_num should be greater than 0");
    functions.uninstall("a").unwrap();
    assert_eq!(call(&functions, "f").await.unwrap_err().status(), 404);
    assert!(functions.status().is_empty());
}

#[tokio::test]
async fn removing_one_of_two_with_the_same_id_leaves_the_other() {
    let (functions, _) = with(&[&says("f", "one"), &says("f", "two")]).await;
    functions.uninstall("plugin 0").unwrap();
    for _ in 0..5 {
        assert_eq!(call(&functions, "f").await.unwrap(), "two");
    }
}

#[tokio::test]
async fn two_with_the_same_id_take_turns() {
    let (functions, _) = with(&[&says("f", "one"), &says("f", "two")]).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        seen.insert(call(&functions, "f").await.unwrap());
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn an_invalid_module_is_not_installed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    fs::write(&path, "text").unwrap();
    let (functions, _) = functions();
    let error = functions.install("a", file(&path)).await.unwrap_err();
    assert!(
        matches!(error, InstallError::Module(ModuleError::NotWasm)),
        "{error:?}"
    );
    assert!(functions.status().is_empty());
}

/// A place that has a module or nothing, and says so when it is told to.
#[derive(Debug, Default)]
struct Slow {
    module: Option<Bytes>,
    asked: Notify,
    answers: Notify,
}

#[async_trait]
impl Fetch for Slow {
    fn place(&self) -> String {
        "slow".to_owned()
    }

    async fn fetch(&self) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.notify_one();
        self.answers.notified().await;
        self.module.clone().ok_or("nothing".into())
    }
}

/// Installs a function in the place of one that is being installed; gives how that one ends.
async fn overtaken(functions: &Arc<Functions>, module: Option<Bytes>) -> InstallError {
    let slow = Arc::new(Slow {
        module,
        ..Slow::default()
    });
    let mut late = file("");
    Arc::make_mut(&mut late.source).origin = Origin::Remote(slow.clone());
    let first = tokio::spawn({
        let functions = functions.clone();
        async move { functions.install("a", late).await }
    });
    slow.asked.notified().await;
    functions.uninstall("a").unwrap();
    install(functions, "a", &says("f", "here")).await;
    slow.answers.notify_one();
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(status(functions).name, "a");
    assert_eq!(call(functions, "f").await.unwrap(), "here");
    error
}

#[tokio::test]
async fn an_installation_that_fails_late_leaves_what_came_in_its_place() {
    let (functions, _) = functions();
    let error = overtaken(&functions, None).await;
    assert!(matches!(error, InstallError::Source(_)), "{error:?}");
    let slot = functions.plugins()["a"].slot.clone();
    assert!(Arc::ptr_eq(&functions.filter("a").slot, &slot));
}

#[tokio::test]
async fn an_installation_that_was_overtaken_says_so() {
    let (functions, _) = functions();
    let module = wasm(&says("f", "late")).into();
    let error = overtaken(&functions, Some(module)).await;
    assert!(matches!(error, InstallError::Overtaken(_)), "{error:?}");
}

#[tokio::test]
async fn checksums_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    let bytes = wasm(&says("f", "one"));
    fs::write(&path, &bytes).unwrap();
    let sha256 = crate::hex(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
    let md5 = crate::hex(&Md5::digest(&bytes));
    let with = |md5: &str, sha256: &str| {
        let mut config = file(&path);
        let source = Arc::make_mut(&mut config.source);
        source.md5 = md5.to_owned();
        source.sha256 = sha256.to_owned();
        config
    };
    let (functions, _) = functions();
    for wrong in [with("00", ""), with("", "00")] {
        let error = functions.install("a", wrong).await.unwrap_err();
        assert!(
            error.to_string().starts_with("incorrect hash of wasm bytes"),
            "{error}"
        );
    }
    functions
        .install("a", with(&md5.to_uppercase(), &sha256))
        .await
        .unwrap();
    assert_eq!(status(&functions).version.unwrap().sha256, sha256);
}

#[tokio::test]
async fn a_file_that_appears_later_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    let (functions, _) = functions();
    functions.install("a", file(&path)).await.unwrap();
    let waiting = status(&functions);
    assert!(waiting.version.is_none() && !waiting.up);
    assert!(waiting.problem.unwrap().contains("cannot be read"));
    write(&path, &says("f", "here"));
    look(&functions).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "here");
    assert_eq!(status(&functions).problem, None);
}

#[tokio::test]
async fn a_file_that_changed_is_loaded_when_it_has_settled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    write(&path, &says("f", "one"));
    let (functions, _) = functions();
    functions.install("a", file(&path)).await.unwrap();
    look(&functions).await;
    assert_eq!(status(&functions).version.unwrap().number, 1, "it did not change");
    write(&path, &says("f", "number two"));
    functions.look().await;
    assert_eq!(
        call(&functions, "f").await.unwrap(),
        "one",
        "it may still be written"
    );
    functions.look().await;
    assert_eq!(call(&functions, "f").await.unwrap(), "number two");
    assert_eq!(status(&functions).version.unwrap().number, 2);
}

#[tokio::test]
async fn a_change_that_fails_keeps_what_runs_and_shows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    write(&path, &says("f", "one"));
    let (functions, _) = functions();
    functions.install("a", file(&path)).await.unwrap();
    fs::write(&path, "broken").unwrap();
    look(&functions).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "one");
    assert!(
        status(&functions)
            .problem
            .unwrap()
            .contains("not a WebAssembly module")
    );
    fs::remove_file(&path).unwrap();
    look(&functions).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "one");
    write(&path, &says("f", "number two"));
    look(&functions).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "number two");
    assert_eq!(status(&functions).problem, None);
}

#[tokio::test]
async fn the_checksum_of_upstream_is_for_the_first_version_and_ours_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    let bytes = wasm(&says("f", "one"));
    fs::write(&path, &bytes).unwrap();
    let (functions, _) = functions();
    for (name, sha256) in [("md5", false), ("sha256", true)] {
        let mut config = file(&path);
        let source = Arc::make_mut(&mut config.source);
        match sha256 {
            true => source.sha256 = crate::hex(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref()),
            false => source.md5 = crate::hex(&Md5::digest(&bytes)),
        }
        functions.install(name, config).await.unwrap();
    }
    write(&path, &says("f", "number two"));
    look(&functions).await;
    let loads: Vec<u64> = functions
        .status()
        .iter()
        .map(|status| status.version.as_ref().unwrap().number)
        .collect();
    assert_eq!(loads, [2, 1]);
    assert!(
        functions.status()[1]
            .problem
            .as_ref()
            .unwrap()
            .contains("incorrect hash")
    );
}

#[tokio::test]
async fn requests_under_way_finish_on_the_version_they_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    write(&path, &forwards("/never"));
    let (functions, _) = functions();
    functions.install("a", file(&path)).await.unwrap();
    let first = tokio::spawn({
        let functions = functions.clone();
        async move { call(&functions, "forwards").await }
    });
    while status(&functions).running == 0 {
        tokio::task::yield_now().await;
    }
    write(&path, &says("forwards", "new"));
    look(&functions).await;
    assert_eq!(call(&functions, "forwards").await.unwrap(), "new");
    assert_eq!(first.await.unwrap().unwrap(), "no reply");
}

#[tokio::test]
async fn a_new_number_of_places_outlives_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    write(&path, &says("f", "one"));
    let (functions, _) = functions();
    functions.install("a", file(&path)).await.unwrap();
    functions.update("a", 7).unwrap();
    write(&path, &says("f", "number two"));
    look(&functions).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "number two");
    assert_eq!(status(&functions).places, 7);
}

#[tokio::test]
async fn another_configuration_takes_the_place_of_one_without_a_gap() {
    let (functions, _) = functions();
    functions.set("a", config(&says("f", "one"))).await.unwrap();
    functions.set("a", config(&says("f", "two"))).await.unwrap();
    assert_eq!(call(&functions, "f").await.unwrap(), "two");
    let broken = format!("(module {ALLOCATOR} (func (export \"_start\") unreachable))");
    functions.set("a", config(&broken)).await.unwrap_err();
    assert_eq!(call(&functions, "f").await.unwrap(), "two");
    assert!(status(&functions).problem.unwrap().contains("unreachable"));
}

#[tokio::test]
async fn a_broken_file_of_a_configuration_is_watched_until_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    fs::write(&path, "broken").unwrap();
    let (functions, _) = functions();
    functions.set("a", file(&path)).await.unwrap_err();
    write(&path, &says("f", "here"));
    look(&functions).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "here");
}

#[tokio::test]
async fn watching_ends_with_the_functions() {
    let (functions, _) = functions();
    let watch = tokio::spawn(Functions::watch(Arc::downgrade(&functions)));
    drop(functions);
    tokio::time::timeout(Duration::from_secs(10), watch)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_is_left_alone_while_it_is_written_and_loaded_soon_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.wasm");
    write(&path, &says("f", "one"));
    let (functions, _) = functions();
    functions.install("a", file(&path)).await.unwrap();
    let watch = tokio::spawn(Functions::watch(Arc::downgrade(&functions)));
    let pause = || tokio::time::sleep(Duration::from_millis(20));
    for number in 0..100 {
        // Each of a length of its own: the time of a file may be that of a tick.
        fs::write(&path, "x".repeat(number)).unwrap();
        pause().await;
    }
    let now = status(&functions);
    assert_eq!((now.version.unwrap().number, now.problem), (1, None));
    // Now and then somebody changes another file.
    let written = tokio::time::Instant::now();
    write(&path, &says("f", "two"));
    while call(&functions, "f").await.unwrap() == "one" {
        fs::write(folder.path().join("other"), "").unwrap();
        pause().await;
    }
    assert!(
        written.elapsed() < Duration::from_millis(300),
        "{:?}",
        written.elapsed()
    );
    watch.abort();
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn watching_wakes_for_functions_only() {
    let folder = tempfile::tempdir().unwrap();
    let (functions, _) = functions();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = std::task::Context::from_waker(&waker);
    let times = || woken.0.load(Relaxed);
    let mut watch = pin!(Functions::watch(Arc::downgrade(&functions)));
    assert!(watch.as_mut().poll(&mut cx).is_pending());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(times(), 0, "nothing to look at");
    install(&functions, "bytes", &says("f", "one")).await;
    assert_eq!(times(), 1, "the first function");
    for (wanted, is_told) in [(2, false), (3, true)] {
        // It looks, and waits for the time of the next look.
        let looks = tokio::time::timeout(Duration::from_millis(1500), watch.as_mut());
        looks.await.unwrap_err();
        assert!(watch.as_mut().poll(&mut cx).is_pending());
        match is_told {
            true => {
                let file = file(folder.path().join("f.wasm"));
                functions.install("file", file).await.unwrap();
            }
            false => tokio::time::advance(Duration::from_secs(1)).await,
        }
        assert_eq!(times(), wanted, "is told of the first file: {is_told}");
    }
}

#[tokio::test]
async fn changes_are_told() {
    let (functions, _) = functions();
    let mut changes = functions.changes();
    let mut told = || {
        std::mem::replace(&mut changes, functions.changes())
            .has_changed()
            .unwrap()
    };
    install(&functions, "a", &says("f", "one")).await;
    assert!(told(), "installed");
    call(&functions, "f").await.unwrap();
    assert!(!told(), "a call is none");
    let traps = function("g", "", "unreachable", "");
    functions.set("a", config(&traps)).await.unwrap();
    assert!(told(), "another version");
    for _ in 0..4 {
        call(&functions, "g").await.unwrap_err();
    }
    assert!(!told(), "it does not rest yet");
    call(&functions, "g").await.unwrap_err();
    assert!(told() && !status(&functions).up, "it rests");
    functions.set("a", config("(module)")).await.unwrap_err();
    assert!(told(), "it does not load");
    functions.uninstall("a").unwrap();
    assert!(told(), "removed");
    functions.install("a", config("(module)")).await.unwrap_err();
    assert!(told(), "not installed");
}

#[tokio::test]
async fn no_engine_is_made_before_the_first_function() {
    let (functions, _) = functions();
    assert!(functions.works.get().is_none());
    install(&functions, "a", &says("f", "")).await;
    assert!(functions.works.get().is_some());
}

/// KiB of code in files of a folder that this process has in memory.
fn resident_code(folder: &Path) -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut is_code, mut sum) = (false, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match words.next().unwrap() {
            "Rss:" if is_code => sum += words.next().unwrap().parse::<u64>().unwrap(),
            first if !first.ends_with(':') => {
                is_code = line.contains(" r-xp ") && line.contains(folder.to_str().unwrap());
            }
            _ => {}
        }
    }
    sum
}

#[tokio::test]
async fn a_function_that_nobody_calls_lets_go_of_its_code_and_answers_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let cached = Settings {
        cache: Some(folder.path().join("cache")),
        ..settings()
    };
    let functions = Functions::new(cached, Arc::<Fake>::default());
    install(&functions, "a", &says("f", "here")).await;
    assert_eq!(call(&functions, "f").await.unwrap(), "here");
    let later = |seconds| std::time::Instant::now() + Duration::from_secs(seconds);
    functions.rest(later(60));
    assert_ne!(resident_code(folder.path()), 0, "it was called");
    functions.rest(later(120));
    assert_eq!(resident_code(folder.path()), 0);
    assert_eq!(call(&functions, "f").await.unwrap(), "here");
    assert_ne!(resident_code(folder.path()), 0);
}

#[tokio::test(start_paused = true)]
async fn functions_without_a_file_rest_too() {
    let folder = tempfile::tempdir().unwrap();
    let cached = Settings {
        cache: Some(folder.path().join("cache")),
        ..settings()
    };
    let functions = Functions::new(cached, Arc::<Fake>::default());
    install(&functions, "a", &says("f", "here")).await;
    functions.look().await;
    assert_ne!(resident_code(folder.path()), 0, "it has only just begun");
    tokio::time::advance(Duration::from_secs(60)).await;
    functions.look().await;
    assert_eq!(resident_code(folder.path()), 0);
}
