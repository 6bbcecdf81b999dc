//! File stores.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, future::join_all, stream};
use layotto_core::{
    Error,
    ErrorKind::{FailedPrecondition, InvalidArgument, NotFound, PermissionDenied},
    Metadata,
    file::{Content, FileStore, List},
};

use super::{
    Assertion, DEADLINE, Subject, Verified, always, assertions,
    check::{OrSay, ensure, equal, fails, poll, within},
    common, durable,
};

type Files = Subject<dyn FileStore>;

/// The assertions of a file store.
pub fn assertions() -> Vec<Assertion<dyn FileStore>> {
    let own: Vec<Assertion<dyn FileStore>> = assertions! {
        always => [
            put_then_get,
            an_empty_file_is_not_missing,
            binary_content_comes_back,
            five_megabytes_are_streamed,
            overwrite_replaces_wholly,
            missing_files_are_not_found,
            delete_removes_the_file_alone,
            stat_tells_size_and_time,
            list_tells_every_file,
            list_pages_meet_without_gap,
            names_outside_are_refused,
            odd_names_are_kept_apart,
            a_failing_upload_is_an_error,
            concurrent_puts_lose_nothing,
            racing_puts_of_one_file_leave_one_whole,
            a_failing_upload_leaves_the_old_content,
            a_dropped_upload_leaves_the_old_content,
        ],
        in_a_folder => [links_that_lead_outside_are_refused],
        durable => [survives_a_restart],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn in_a_folder(files: &Files) -> Option<&'static str> {
    files
        .fixture
        .facts
        .files_root
        .is_none()
        .then_some("does not keep its files in a folder")
}

fn content(pieces: Vec<Bytes>) -> Content {
    Box::pin(stream::iter(pieces.into_iter().map(Ok)))
}

impl Files {
    /// The path of a file in the assertion's own directory.
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory())
    }

    fn directory(&self) -> String {
        let directory = self.name("dir");
        if let Some(root) = &self.fixture.facts.files_root {
            // Where it fails, so does the put that follows.
            drop(std::fs::create_dir_all(root.join(&directory)));
        }
        directory
    }

    async fn upload(&self, path: &str, content: Content) -> layotto_core::Result<()> {
        self.put(path, &self.fixture.facts.put_metadata, content).await
    }

    async fn write(&self, name: &str, data: impl Into<Bytes>) -> Verified {
        let path = self.path(name);
        let uploading = self.upload(&path, content(vec![data.into()]));
        within(DEADLINE, "put", uploading)
            .await?
            .or_say(&format!("put of {name:?}"))
    }

    async fn pieces(&self, name: &str) -> Result<Vec<Bytes>, String> {
        let mut stream = self
            .get(&self.path(name), &Metadata::new())
            .await
            .or_say(&format!("get of {name:?}"))?;
        let mut pieces = Vec::new();
        while let Some(piece) = within(DEADLINE, "the next piece", stream.next()).await? {
            pieces.push(piece.or_say("reading a piece")?);
        }
        Ok(pieces)
    }

    async fn holds(&self, name: &str, wanted: &[u8]) -> Verified {
        let found = self.pieces(name).await?.concat();
        ensure!(
            found == wanted,
            "{name:?} has {} bytes, not the {} bytes written",
            found.len(),
            wanted.len()
        );
        Ok(())
    }

    async fn names(&self) -> Result<Vec<String>, String> {
        let request = List {
            directory: self.directory(),
            ..List::default()
        };
        let page = self.list(&request).await.or_say("list")?;
        Ok(page.files.into_iter().map(|file| file.name).collect())
    }

    /// Opening and reading: a store may report a bad name at either.
    async fn read_error(&self, path: &str) -> layotto_core::Result<BytesMut> {
        let mut stream = self.get(path, &Metadata::new()).await?;
        let mut all = BytesMut::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }
}

async fn put_then_get(files: Files) -> Verified {
    let pieces = ["hello ", "", "world"].map(Bytes::from).into();
    files
        .upload(&files.path("f"), content(pieces))
        .await
        .or_say("put")?;
    files.holds("f", b"hello world").await
}

async fn an_empty_file_is_not_missing(files: Files) -> Verified {
    files
        .upload(&files.path("none"), content(Vec::new()))
        .await
        .or_say("put without content")?;
    files.write("empty", "").await?;
    for name in ["none", "empty"] {
        files.holds(name, b"").await?;
        let stat = files
            .stat(&files.path(name), &Metadata::new())
            .await
            .or_say("stat")?;
        equal("size", &stat.size, &0)?;
    }
    Ok(())
}

async fn binary_content_comes_back(files: Files) -> Verified {
    let data: Vec<u8> = (0..=255).rev().collect();
    files.write("f", data.clone()).await?;
    files.holds("f", &data).await
}

async fn five_megabytes_are_streamed(files: Files) -> Verified {
    let data: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    let pieces = data.chunks(100_000).map(Bytes::copy_from_slice).collect();
    files
        .upload(&files.path("f"), content(pieces))
        .await
        .or_say("put of 5 MB")?;
    let found = files.pieces("f").await?;
    ensure!(found.len() > 1, "5 MB came in one piece");
    ensure!(found.concat() == data, "5 MB did not come back as written");
    let stat = files
        .stat(&files.path("f"), &Metadata::new())
        .await
        .or_say("stat")?;
    equal("size", &stat.size, &5_000_000)
}

async fn overwrite_replaces_wholly(files: Files) -> Verified {
    files.write("f", "a long content").await?;
    files.write("f", "short").await?;
    files.holds("f", b"short").await
}

async fn missing_files_are_not_found(files: Files) -> Verified {
    files.write("there", "x").await?;
    let missing = files.path("missing");
    fails("get", files.read_error(&missing).await, &[NotFound])?;
    fails("stat", files.stat(&missing, &Metadata::new()).await, &[NotFound])?;
    fails(
        "delete",
        files.delete(&missing, &Metadata::new()).await,
        &[NotFound],
    )
}

async fn delete_removes_the_file_alone(files: Files) -> Verified {
    for name in ["f", "f2"] {
        files.write(name, "x").await?;
    }
    files
        .delete(&files.path("f"), &Metadata::new())
        .await
        .or_say("delete")?;
    fails(
        "get of a deleted file",
        files.read_error(&files.path("f")).await,
        &[NotFound],
    )?;
    equal("files left", &files.names().await?, &vec!["f2".to_owned()])
}

async fn stat_tells_size_and_time(files: Files) -> Verified {
    files.write("f", "12345").await?;
    let stat = files
        .stat(&files.path("f"), &Metadata::new())
        .await
        .or_say("stat")?;
    equal("size", &stat.size, &5)?;
    ensure!(!stat.last_modified.is_empty(), "stat tells no time of change");
    Ok(())
}

async fn list_tells_every_file(files: Files) -> Verified {
    for (name, data) in [("b", "22"), ("a", "1"), ("c", "")] {
        files.write(name, data).await?;
    }
    let request = List {
        directory: files.directory(),
        ..List::default()
    };
    let page = files.list(&request).await.or_say("list")?;
    let found: Vec<_> = page
        .files
        .iter()
        .map(|file| (file.name.as_str(), file.size))
        .collect();
    equal("files", &found, &vec![("a", 1), ("b", 2), ("c", 0)])?;
    ensure!(
        page.files.iter().all(|file| !file.last_modified.is_empty()),
        "a file has no time of change"
    );
    equal("whether the list is cut", &page.is_truncated, &false)
}

async fn list_pages_meet_without_gap(files: Files) -> Verified {
    let names: Vec<_> = (0..7).map(|number| format!("f{number}")).collect();
    for name in &names {
        files.write(name, "x").await?;
    }
    for page_size in [1, 3, 7, 100] {
        let (mut found, mut marker) = (Vec::new(), String::new());
        loop {
            let request = List {
                directory: files.directory(),
                page_size,
                marker,
                metadata: Metadata::new(),
            };
            let page = files.list(&request).await.or_say("list")?;
            ensure!(
                page.files.len() <= page_size as usize,
                "a page of {page_size} has {} files",
                page.files.len()
            );
            found.extend(page.files.into_iter().map(|file| file.name));
            ensure!(found.len() <= names.len(), "the pages never end: {found:?}");
            if !page.is_truncated {
                break;
            }
            marker = page.marker;
        }
        equal(&format!("files in pages of {page_size}"), &found, &names)?;
    }
    Ok(())
}

/// Every operation with names that lead out of the store, or that no file system takes.
async fn names_outside_are_refused(files: Files) -> Verified {
    let outside = files.fixture.dir.path().join("outside-the-store");
    std::fs::write(&outside, "secret").map_err(|error| error.to_string())?;
    let refused = [PermissionDenied, InvalidArgument];
    let names = [
        outside.to_string_lossy().into_owned(),
        format!("../{}", files.name("x")),
        files.path("../../../../etc/passwd"),
        "/etc/passwd".to_owned(),
        files.path("a\0b"),
        "..".to_owned(),
    ];
    let none = Metadata::new();
    for name in &names {
        fails(
            &format!("get of {name:?}"),
            files.read_error(name).await,
            &refused,
        )?;
        let put = files.upload(name, content(vec![Bytes::from("x")])).await;
        fails(&format!("put of {name:?}"), put, &refused)?;
        fails(
            &format!("stat of {name:?}"),
            files.stat(name, &none).await,
            &refused,
        )?;
        fails(
            &format!("delete of {name:?}"),
            files.delete(name, &none).await,
            &refused,
        )?;
        let request = List {
            directory: name.clone(),
            ..List::default()
        };
        fails(&format!("list of {name:?}"), files.list(&request).await, &refused)?;
    }
    let left = std::fs::read(&outside).map_err(|error| format!("a file outside is gone: {error}"))?;
    ensure!(left == b"secret", "a file outside was changed");
    Ok(())
}

async fn odd_names_are_kept_apart(files: Files) -> Verified {
    let names = [
        "f", "F", "f f", "100%off", "ключ", "f\\g", "-f", "f'\"", ".f", "f..g",
    ];
    for name in names {
        files.write(name, name).await?;
    }
    for name in names {
        files.holds(name, name.as_bytes()).await?;
    }
    let listed: HashSet<_> = files.names().await?.into_iter().collect();
    equal("files listed", &listed, &names.map(str::to_owned).into())
}

async fn a_failing_upload_is_an_error(files: Files) -> Verified {
    let pieces = vec![
        Ok(Bytes::from("half")),
        Err(Error::new(FailedPrecondition, "the caller went away")),
    ];
    let put = files
        .upload(&files.path("f"), Box::pin(stream::iter(pieces)))
        .await;
    fails("an upload whose content fails", put, &[FailedPrecondition])?;
    files.write("f", "whole").await?;
    files.holds("f", b"whole").await
}

async fn links_that_lead_outside_are_refused(files: Files) -> Verified {
    let root = files.fixture.facts.files_root.clone().ok_or("no folder")?;
    let outside = files.fixture.dir.path().join(files.name("outside"));
    std::fs::create_dir_all(&outside).map_err(|error| error.to_string())?;
    std::fs::write(outside.join("f"), "secret").map_err(|error| error.to_string())?;
    let here = root.join(files.directory());
    for (target, name) in [(outside.join("f"), "file"), (outside.clone(), "folder")] {
        std::os::unix::fs::symlink(target, here.join(name)).map_err(|error| error.to_string())?;
    }
    let refused = [PermissionDenied, InvalidArgument, NotFound];
    for name in ["file", "folder/f"] {
        let path = files.path(name);
        fails(&format!("get of {name}"), files.read_error(&path).await, &refused)?;
        let put = files.upload(&path, content(vec![Bytes::from("x")])).await;
        fails(&format!("put of {name}"), put, &refused)?;
    }
    let put = files
        .upload(&files.path("folder/new"), content(vec![Bytes::from("x")]))
        .await;
    fails("put of folder/new", put, &refused)?;
    let deleted = files.delete(&files.path("folder/f"), &Metadata::new()).await;
    fails("delete of folder/f", deleted, &refused)?;
    let left =
        std::fs::read(outside.join("f")).map_err(|error| format!("a file outside is gone: {error}"))?;
    ensure!(
        left == b"secret" && !outside.join("new").exists(),
        "a file outside was changed"
    );
    Ok(())
}

async fn a_failing_upload_leaves_the_old_content(files: Files) -> Verified {
    files.write("f", "old content").await?;
    for name in ["f", "new"] {
        let pieces = vec![
            Ok(Bytes::from("half")),
            Err(Error::new(FailedPrecondition, "the caller went away")),
        ];
        let put = files
            .upload(&files.path(name), Box::pin(stream::iter(pieces)))
            .await;
        ensure!(put.is_err(), "an upload whose content failed succeeded");
    }
    files.holds("f", b"old content").await?;
    equal("files", &files.names().await?, &vec!["f".to_owned()])
}

async fn a_dropped_upload_leaves_the_old_content(files: Files) -> Verified {
    files.write("f", "old content").await?;
    for name in ["f", "new"] {
        let path = files.path(name);
        let half: Content = Box::pin(stream::iter([Ok(Bytes::from("half"))]).chain(stream::pending()));
        let mut uploading = Box::pin(files.upload(&path, half));
        // Long enough for the first piece, which makes no difference to a correct store.
        for _ in 0..20 {
            ensure!(
                uploading.as_mut().now_or_never().is_none(),
                "an upload without an end ended"
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    files.holds("f", b"old content").await?;
    let left = async || Ok((files.names().await? == ["f"]).then_some(()));
    poll(DEADLINE, "no trace of a dropped upload in the list", left).await
}

async fn concurrent_puts_lose_nothing(files: Files) -> Verified {
    let puts = (0..20).map(|number| {
        let files = files.clone();
        tokio::spawn(async move { files.write(&format!("f{number:02}"), number.to_string()).await })
    });
    for joined in join_all(puts).await {
        joined.map_err(|error| error.to_string())??;
    }
    for number in 0..20 {
        files
            .holds(&format!("f{number:02}"), number.to_string().as_bytes())
            .await?;
    }
    equal("number of files", &files.names().await?.len(), &20)
}

async fn racing_puts_of_one_file_leave_one_whole(files: Files) -> Verified {
    let puts = (b'a'..=b'f').map(|letter| {
        let files = files.clone();
        let pieces = vec![Bytes::from(vec![letter; 20_000]); 5];
        tokio::spawn(async move {
            files
                .upload(&files.path("f"), content(pieces))
                .await
                .or_say("put")
        })
    });
    for joined in join_all(puts).await {
        joined.map_err(|error| error.to_string())??;
    }
    let found = files.pieces("f").await?.concat();
    let whole = found.len() == 100_000 && found.iter().all(|byte| Some(byte) == found.first());
    ensure!(
        whole,
        "{} bytes are left of six racing uploads, not those of one",
        found.len()
    );
    equal("files", &files.names().await?, &vec!["f".to_owned()])
}

async fn survives_a_restart(files: Files) -> Verified {
    let own = files.fresh([]).await?;
    own.write("f", "content").await?;
    let own = own.reopen().await?;
    own.holds("f", b"content").await
}
