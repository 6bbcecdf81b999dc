use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use layotto_core::ErrorKind;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{reach::Resolve, *};

const SECRET: &[u8] = b"outside";

/// A root `in`, and beside it a directory `out` that nothing may touch.
struct Place {
    dir: TempDir,
    store: Local,
}

impl Place {
    fn new(reach: impl FnOnce(PathBuf) -> Reach) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("in");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::create_dir_all(dir.path().join("out/empty")).unwrap();
        fs::write(dir.path().join("out/secret"), SECRET).unwrap();
        fs::write(root.join("file"), b"inside").unwrap();
        for (target, link) in [
            ("../out", "leave"),
            ("../out/secret", "leak"),
            ("../../out/secret", "sub/leak"),
            ("../out/new", "dangling"),
            ("sub", "stay"),
            ("file", "alias"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        symlink(dir.path().join("out"), root.join("absolute")).unwrap();
        let reach = Arc::new(reach(root));
        Self {
            dir,
            store: Local { reach },
        }
    }

    fn confined() -> Self {
        Self::new(|root| Reach::below(root).unwrap())
    }

    fn walking() -> Self {
        Self::new(|root| Reach::below_by(root, Resolve::Walk).unwrap())
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    fn path(&self, name: &str) -> String {
        self.root().join(name).to_str().unwrap().to_owned()
    }

    async fn put(&self, name: &str, flag: u32, pieces: &[&'static str]) -> Result<()> {
        let pieces = pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let pieces = pieces.collect::<Vec<_>>();
        self.upload(name, flag, stream::iter(pieces).boxed()).await
    }

    async fn upload(&self, name: &str, flag: u32, content: Content) -> Result<()> {
        let metadata = [("FileMode", "511".to_owned()), ("FileFlag", flag.to_string())];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
        self.store.put(name, &metadata.into(), content).await
    }

    async fn pieces(&self, name: &str) -> Result<Vec<Bytes>> {
        self.store.get(name, &Metadata::new()).await?.try_collect().await
    }

    async fn get(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.pieces(name).await?.concat())
    }

    async fn list(&self, directory: &str, page_size: i32, marker: &str) -> Result<Page> {
        let request = List {
            directory: directory.to_owned(),
            page_size,
            marker: marker.to_owned(),
            metadata: Metadata::new(),
        };
        self.store.list(&request).await
    }

    /// Whether some operation on `name` reads or changes what is outside the root.
    async fn escapes(&self, name: &str) -> bool {
        let read = self.get(name).await.is_ok_and(|content| content == SECRET);
        let listed = self
            .list(name, 0, "")
            .await
            .is_ok_and(|page| page.files.iter().any(|file| file.name == "secret"));
        drop(self.put(name, 0o1101, &["overwritten"]).await);
        drop(self.put(&format!("{name}/new"), 0o101, &["new"]).await);
        drop(
            self.store
                .delete(&format!("{name}/empty"), &Metadata::new())
                .await,
        );
        let out = self.dir.path().join("out");
        let intact = fs::read(out.join("secret")).is_ok_and(|content| content == SECRET)
            && fs::read_dir(&out).unwrap().count() == 2
            && fs::read_dir(self.dir.path()).unwrap().count() == 2;
        read || listed || !intact
    }
}

fn assert_refused<T: std::fmt::Debug>(outcome: Result<T>, name: &str) {
    let error = outcome.expect_err(name);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{name}: {error}");
}

#[tokio::test]
async fn what_was_put_is_got_back_by_either_name() {
    let place = Place::confined();
    place.put("f1", 66, &["hello ", "world"]).await.unwrap();
    assert_eq!(place.get("f1").await.unwrap(), b"hello world");
    assert_eq!(place.get(&place.path("f1")).await.unwrap(), b"hello world");
    place.put(&place.path("sub/f2"), 66, &[]).await.unwrap();
    assert!(place.pieces("./sub//f2").await.unwrap().is_empty());
    assert_eq!(place.get("stay/f2").await.unwrap(), b"");
    assert_eq!(place.get("alias").await.unwrap(), b"inside");
}

#[tokio::test]
async fn the_flags_decide_what_happens_to_old_content() {
    let place = Place::confined();
    place.put("f", 66, &["abcdef"]).await.unwrap();
    place.put("f", 66, &["12"]).await.unwrap();
    assert_eq!(place.get("f").await.unwrap(), b"12cdef");
    place.put("f", 1089, &["!"]).await.unwrap();
    assert_eq!(place.get("f").await.unwrap(), b"12cdef!");
    place.put("f", 0o1101, &["new"]).await.unwrap();
    assert_eq!(place.get("f").await.unwrap(), b"new");
    let error = place.put("f", 193, &["x"]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::AlreadyExists, "open f: file exists")
    );
    let error = place.put("f", 0, &["x"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn an_upload_that_breaks_off_changes_nothing() {
    for flag in [0o1101, 0o1102, 0o301, 66] {
        let place = Place::confined();
        let pieces = vec![Ok(Bytes::from_static(b"ab")), Err(Error::unavailable("gone"))];
        let outcome = place.upload("sub/f", flag, stream::iter(pieces).boxed()).await;
        assert_eq!(outcome.unwrap_err().message(), "gone");
        assert_eq!(fs::read_dir(place.root().join("sub")).unwrap().count(), 2);
    }
    let place = Place::confined();
    let pieces = stream::iter([Ok(Bytes::from_static(b"ab"))]).chain(stream::pending());
    let upload = place.upload("file", 0o1101, pieces.boxed());
    assert!(futures::poll!(Box::pin(upload)).is_pending());
    assert_eq!(place.get("file").await.unwrap(), b"inside");
}

#[tokio::test]
async fn an_upload_shows_only_when_it_is_complete() {
    let place = Place::confined();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let content = tokio_stream::wrappers::ReceiverStream::new(receiver).boxed();
    let (put, ()) = tokio::join!(place.upload("sub/deep/f", 0o1101, content), async {
        for _ in 0..3 {
            sender.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
            assert_eq!(place.list("sub/deep", 0, "").await.unwrap(), Page::default());
        }
        drop(sender);
    });
    put.unwrap();
    assert_eq!(place.get("sub/deep/f").await.unwrap(), b"xxx");
    assert_eq!(fs::read_dir(place.root().join("sub/deep")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_replaced_file_keeps_its_mode_and_a_link_its_target() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::confined();
    fs::set_permissions(place.root().join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    place.put("file", 0o1101, &["new"]).await.unwrap();
    let mode = fs::metadata(place.root().join("file"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    place.put("alias", 0o1101, &["newer"]).await.unwrap();
    assert!(
        fs::symlink_metadata(place.root().join("alias"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(place.get("file").await.unwrap(), b"newer");
}

#[tokio::test]
async fn of_two_exclusive_uploads_one_wins() {
    let place = Place::confined();
    let (first, second) = tokio::join!(place.put("f", 0o301, &["a"]), place.put("f", 0o301, &["b"]));
    let lost = [first, second]
        .into_iter()
        .filter_map(Result::err)
        .collect::<Vec<_>>();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].message(), "open f: file exists");
}

#[tokio::test]
async fn directories_are_made_below_the_root_only() {
    for place in [Place::confined(), Place::walking()] {
        place.put("a/b/c/100%off", 66, &["x"]).await.unwrap();
        assert_eq!(place.get("a/b/c/100%off").await.unwrap(), b"x");
        assert_refused(place.put("leave/new/f", 66, &["x"]).await, "leave");
        let error = place.put("no/f", 2, &["x"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    let place = Place::new(|_| Reach::Anywhere);
    let name = place.path("no/100%off");
    let error = place.put(&name, 66, &["x"]).await.unwrap_err();
    assert_eq!(error.message(), format!("open {name}: no such file or directory"));
}

#[tokio::test]
async fn a_large_file_comes_in_pieces_and_only_as_it_is_read() {
    let place = Place::confined();
    let content: Vec<u8> = (0..250_000_u32).map(|index| (index % 251) as u8).collect();
    fs::write(place.root().join("big"), &content).unwrap();
    let pieces = place.pieces("big").await.unwrap();
    let sizes: Vec<_> = pieces.iter().map(Bytes::len).collect();
    assert_eq!(sizes, [102_400, 102_400, 45_200]);
    assert_eq!(pieces.concat(), content);

    let mut stream = place.store.get("big", &Metadata::new()).await.unwrap();
    stream.try_next().await.unwrap();
    fs::write(place.root().join("big"), b"").unwrap();
    assert_eq!(stream.try_next().await.unwrap(), None, "read ahead of its reader");
}

#[tokio::test]
async fn missing_files_are_not_found_in_upstreams_words() {
    let place = Place::confined();
    let none = Metadata::new();
    for (outcome, expected) in [
        (
            place.get("sub/none").await.map(drop),
            "open sub/none: no such file or directory",
        ),
        (
            place.list("none", 0, "").await.map(drop),
            "open none: no such file or directory",
        ),
        (
            place.store.delete("none", &none).await,
            "remove none: no such file or directory",
        ),
        (
            place.store.stat("none", &none).await.map(drop),
            "file does not exist",
        ),
        (place.store.stat("", &none).await.map(drop), "file does not exist"),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, expected));
    }
}

#[tokio::test]
async fn a_directory_is_not_read_and_a_file_not_listed() {
    let place = Place::confined();
    assert_eq!(
        place.get("sub").await.unwrap_err().message(),
        "read sub: is a directory"
    );
    let error = place.list("file", 0, "").await.unwrap_err();
    assert_eq!(error.message(), "readdirent file: not a directory");
}

#[tokio::test]
async fn lists_are_sorted_and_continue_after_the_marker() {
    let place = Place::confined();
    for name in ["d", "b", "a", "c"] {
        fs::write(place.root().join("sub").join(name), name.repeat(3)).unwrap();
    }
    let names = |page: &Page| {
        page.files
            .iter()
            .map(|file| file.name.clone())
            .collect::<Vec<_>>()
    };
    let page = place.list("sub", 2, "").await.unwrap();
    assert_eq!(
        (names(&page), page.marker.as_str(), page.is_truncated),
        (vec!["a".into(), "b".into()], "b", true)
    );
    assert_eq!(page.files[0].size, 3);
    assert!(page.files[0].last_modified.ends_with(" +0000 UTC"));
    let page = place.list("sub", 0, "b").await.unwrap();
    assert_eq!(
        (names(&page).len(), page.marker.as_str(), page.is_truncated),
        (4, "leak", false)
    );
    assert_eq!(place.list("sub", -1, "").await.unwrap().files.len(), 6);
    for marker in ["bb", "zz", "leak"] {
        assert_eq!(place.list("sub", 2, marker).await.unwrap(), Page::default());
    }
    assert_eq!(place.list("sub/deep", 0, "").await.unwrap(), Page::default());
}

#[tokio::test]
async fn a_file_and_a_directory_are_described() {
    let place = Place::confined();
    let stat = place.store.stat("file", &Metadata::new()).await.unwrap();
    assert_eq!((stat.size, stat.metadata["IsDir"][0].as_str()), (6, "false"));
    let stat = place
        .store
        .stat(&place.path("sub"), &Metadata::new())
        .await
        .unwrap();
    assert_eq!(stat.metadata["IsDir"], ["true"]);
    let mode: u32 = stat.metadata["FileMode"][0].parse().unwrap();
    assert_eq!(mode & 1 << 31, 1 << 31);
}

#[tokio::test]
async fn files_and_empty_directories_are_deleted_and_links_themselves() {
    let place = Place::confined();
    for name in ["file", "sub/deep", "leave", "dangling"] {
        place.store.delete(name, &Metadata::new()).await.unwrap();
        assert!(fs::symlink_metadata(place.root().join(name)).is_err());
    }
    let error = place.store.delete("sub", &Metadata::new()).await.unwrap_err();
    assert_eq!(error.message(), "remove sub: directory not empty");
    assert!(place.dir.path().join("out/secret").exists());
}

// deviation: D024
#[tokio::test]
async fn names_that_leave_the_root_are_refused() {
    for place in [Place::confined(), Place::walking()] {
        let outside = place.dir.path().join("out/secret");
        let names = [
            "../out/secret",
            "sub/../../out/secret",
            "sub/../file",
            "leave/secret",
            "absolute/secret",
            "leak",
            "sub/leak",
            "/etc/passwd",
            "a\0b",
            outside.to_str().unwrap(),
        ];
        for name in names {
            assert_refused(place.get(name).await, name);
            assert_refused(place.put(name, 0o1101, &["x"]).await, name);
            assert_refused(place.store.stat(name, &Metadata::new()).await, name);
        }
        for name in ["..", "leave", "absolute", "/"] {
            assert_refused(place.list(name, 0, "").await, name);
        }
        for name in [".", "../out/secret", "leave/secret", "/"] {
            assert_refused(place.store.delete(name, &Metadata::new()).await, name);
        }
        assert_refused(place.put("dangling", 0o101, &["x"]).await, "dangling");
        assert_eq!(fs::read(outside).unwrap(), SECRET);
    }
}

#[tokio::test]
async fn pipes_and_devices_below_the_root_are_refused() {
    let place = Place::confined();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.root().join("pipe"),
        FileType::Fifo,
        Mode::from_bits_truncate(0o600),
        0,
    )
    .unwrap();
    assert_refused(place.get("pipe").await, "pipe");
    assert_refused(place.put("pipe", 2, &["x"]).await, "pipe");
}

#[tokio::test]
async fn the_root_is_made_at_the_first_write_only() {
    let dir = tempfile::tempdir().unwrap();
    let cx = Context::standalone("demo", dir.path());
    let store = Local::open(LocalConfig::default(), cx).await.unwrap();
    assert_eq!(
        store.stat("f", &Metadata::new()).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(!dir.path().join("files").exists());
    let metadata =
        [("FileMode", "420"), ("FileFlag", "66")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    store
        .put("f", &metadata.into(), stream::empty().boxed())
        .await
        .unwrap();
    assert!(dir.path().join("files/f").is_file());
}

#[tokio::test]
async fn without_confinement_every_path_is_served() {
    let place = Place::new(|_| Reach::Anywhere);
    assert_eq!(place.get(&place.path("../out/secret")).await.unwrap(), SECRET);
    place.put(&place.path("leave/new"), 66, &["x"]).await.unwrap();
    place
        .store
        .delete(&place.path("leave/new"), &Metadata::new())
        .await
        .unwrap();
}

/// Swaps a directory for a link to the outside while files below it are used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_swapped_for_a_link_does_not_open_the_way_out() {
    for place in [Place::confined(), Place::walking()] {
        fs::write(place.root().join("sub/secret"), b"inside").unwrap();
        let (sub, leave) = (place.root().join("sub"), place.root().join("leave"));
        let done = Arc::new(AtomicBool::new(false));
        let swapping = std::thread::spawn({
            let done = done.clone();
            move || {
                let mut swaps = 0;
                while !done.load(Ordering::Relaxed) {
                    swap(&sub, &leave);
                    swaps += 1;
                }
                swaps
            }
        });
        let mut inside = 0;
        for _ in 0..2000 {
            if let Ok(content) = place.get("sub/secret").await {
                assert_eq!(content, b"inside");
                inside += 1;
            }
            drop(place.put("sub/secret", 0o1001, &["inside"]).await);
        }
        done.store(true, Ordering::Relaxed);
        assert!(swapping.join().unwrap() > 0 && inside > 0);
        assert_eq!(fs::read(place.dir.path().join("out/secret")).unwrap(), SECRET);
    }
}

fn swap(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Names made of what could lead out.
fn name() -> impl Strategy<Value = (bool, String)> {
    let part = prop::sample::select(vec![
        "..", ".", "", "sub", "deep", "file", "stay", "leave", "leak", "absolute", "dangling", "out",
        "secret", "in", "%2e%2e", "..\\", "new",
    ]);
    (any::<bool>(), prop::collection::vec(part, 1..6)).prop_map(|(rooted, parts)| (rooted, parts.join("/")))
}

#[test]
fn the_check_for_escapes_finds_them_without_confinement() {
    for name in [
        "../out",
        "../out/secret",
        "leave",
        "leak",
        "absolute",
        "sub/leak",
        "stay/../../out",
    ] {
        let place = Place::new(|_| Reach::Anywhere);
        assert!(run(place.escapes(&place.path(name))), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_name_leads_out_of_the_root((rooted, name) in name()) {
        for place in [Place::confined(), Place::walking()] {
            let name = if rooted { place.path(&name) } else { name.clone() };
            prop_assert!(!run(place.escapes(&name)));
        }
    }
}
