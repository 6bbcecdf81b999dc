//! Writers and readers that run at once.

use std::time::Duration;

use futures::{FutureExt, future::join_all};
use layotto_core::ErrorKind::Conflict;

use super::*;
use crate::conformance::{DEADLINE, check::poll};

const WRITERS: usize = 8;

/// Runs every future as a task of its own, so that they race on all threads.
async fn race<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Result<Vec<T>, String> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let ended = join_all(tasks).await.into_iter().collect::<Result<Vec<_>, _>>();
    ended.map_err(|error| format!("a racing task: {error}"))
}

/// How many calls succeeded; every other one must have met a conflict.
fn winners(results: Vec<layotto_core::Result<()>>) -> Result<usize, String> {
    let mut won = 0;
    for result in results {
        match result {
            Ok(()) => won += 1,
            Err(error) if error.kind() == Conflict => {}
            Err(error) => return Err(format!("a losing call failed with {:?}: {error}", error.kind())),
        }
    }
    Ok(won)
}

pub(super) async fn concurrent_writes_lose_nothing(store: Store) -> Verified {
    let keys: Vec<_> = (0..60).map(|number| store.key(&format!("k{number}"))).collect();
    let writes = keys.iter().cloned().map(|key| {
        let store = store.clone();
        async move { store.write(&key, key.0.clone()).await }
    });
    race(writes).await?.into_iter().collect::<Verified>()?;
    for key in &keys {
        store.holds(key, Some(key.0.as_bytes())).await?;
    }
    Ok(())
}

pub(super) async fn reads_are_never_torn(store: Store) -> Verified {
    let key = store.key("k");
    store.write(&key, vec![b'a'; 50_000]).await?;
    let (writer, written) = (store.clone(), key.clone());
    let writing = tokio::spawn(async move {
        for letter in b'b'..=b'h' {
            writer.write(&written, vec![letter; 50_000]).await?;
        }
        Ok::<_, String>(())
    });
    while !writing.is_finished() {
        let value = store
            .read(&key)
            .await?
            .ok_or("missing during an overwrite")?
            .value;
        let whole = value.len() == 50_000 && value.iter().all(|byte| Some(byte) == value.first());
        ensure!(whole, "a read met a mixture of two writes");
        tokio::task::yield_now().await;
    }
    writing.await.map_err(|error| error.to_string())?
}

/// Whoever gives up waiting for a write leaves the store usable and the value whole.
pub(super) async fn a_dropped_write_is_whole_or_absent(store: Store) -> Verified {
    let value = vec![b'v'; 100_000];
    for number in 0..5 {
        let key = store.key(&format!("k{number}"));
        // Polled once: what it has begun by then goes on, or does not.
        drop(store.set(set(&key, value.clone())).now_or_never());
        if let Some(item) = store.read(&key).await? {
            ensure!(
                item.value == value,
                "a dropped write left {} bytes",
                item.value.len()
            );
        }
        let other = store.key(&format!("next{number}"));
        store.write(&other, "v").await?;
        store.holds(&other, Some(b"v")).await?;
    }
    Ok(())
}

pub(super) async fn one_writer_wins_each_version(store: Store) -> Verified {
    let key = store.key("k");
    store.write(&key, "start").await?;
    for round in 0..6 {
        let etag = store.etag_of(&key).await?;
        let tries = (0..WRITERS).map(|writer| {
            let (store, key, etag) = (store.clone(), key.clone(), etag.clone());
            async move { store.set(set_if(&key, format!("{round}-{writer}"), &etag)).await }
        });
        let results = race(tries).await?;
        let winner = results.iter().position(Result::is_ok);
        equal(&format!("winners of version {round}"), &winners(results)?, &1)?;
        let value = format!("{round}-{}", winner.unwrap_or_default());
        store.holds(&key, Some(value.as_bytes())).await?;
    }
    Ok(())
}

pub(super) async fn one_deleter_wins(store: Store) -> Verified {
    let key = store.key("k");
    let etag = store.write_tagged(&key, "v").await?;
    let tries = (0..WRITERS).map(|_| {
        let (store, key, etag) = (store.clone(), key.clone(), etag.clone());
        async move { store.delete(delete_if(&key, &etag)).await }
    });
    equal("deleters that won", &winners(race(tries).await?)?, &1)
}

pub(super) async fn one_first_write_wins(store: Store) -> Verified {
    for round in 0..4 {
        let key = store.key(&format!("k{round}"));
        let tries = (0..WRITERS).map(|writer| {
            let (store, key) = (store.clone(), key.clone());
            async move { store.set(set_first(&key, writer.to_string())).await }
        });
        let results = race(tries).await?;
        let winner = results
            .iter()
            .position(Result::is_ok)
            .unwrap_or_default()
            .to_string();
        equal("first writes that won", &winners(results)?, &1)?;
        store.holds(&key, Some(winner.as_bytes())).await?;
    }
    Ok(())
}

pub(super) async fn counting_by_etag_loses_nothing(store: Store) -> Verified {
    let key = store.key("k");
    store.write(&key, "0").await?;
    let counters = (0..4).map(|_| {
        let (store, key) = (store.clone(), key.clone());
        async move {
            for _ in 0..5 {
                poll(DEADLINE, "a turn to count", async || {
                    count_once(&store, &key).await
                })
                .await?;
            }
            Ok::<_, String>(())
        }
    });
    race(counters).await?.into_iter().collect::<Verified>()?;
    store.holds(&key, Some(b"20")).await?;
    tokio::time::timeout(Duration::from_secs(1), store.etag_of(&key))
        .await
        .map_err(|_| "the store is stuck after the race".to_owned())?
        .map(drop)
}

async fn count_once(store: &Store, key: &PrefixedKey) -> Result<Option<()>, String> {
    let item = store.read(key).await?.ok_or("the counter is missing")?;
    let count = std::str::from_utf8(&item.value)
        .ok()
        .and_then(|text| text.parse::<u32>().ok());
    let next = count.ok_or("the counter holds no number")? + 1;
    // Time for another to come in between, which the etag must show.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let conditional = Set {
        etag: item.etag,
        ..set(key, next.to_string())
    };
    match store.set(conditional).await {
        Err(error) if error.kind() == Conflict => Ok(None),
        other => other.or_say("counting").map(Some),
    }
}
