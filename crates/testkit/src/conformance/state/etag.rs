//! Etags, first-write and last-write.

use layotto_core::ErrorKind::{Conflict, InvalidEtag};

use super::*;
use crate::conformance::check::fails;

/// An etag that the key does not have: that of an older version.
async fn stale(store: &Store, key: &PrefixedKey) -> Result<String, String> {
    let old = store.write_tagged(key, "old").await?;
    let new = store.write_tagged(key, "now").await?;
    ensure!(old != new, "two versions have the etag {old}");
    Ok(old)
}

/// Fails unless the key still is as [`stale`] left it.
async fn untouched(store: &Store, key: &PrefixedKey, etag: &str) -> Verified {
    store.holds(key, Some(b"now")).await?;
    equal(
        "etag after a refused change",
        &store.etag_of(key).await?,
        &etag.to_owned(),
    )
}

pub(super) async fn a_write_gives_an_etag(store: Store) -> Verified {
    let key = store.key("k");
    let etag = store.write_tagged(&key, "v").await?;
    let mut bulk = store.bulk_get(vec![get(&key)], 1).await.or_say("bulk get")?;
    ensure!(
        bulk.len() == 1,
        "a bulk get of one key gave {} results",
        bulk.len()
    );
    let item = bulk
        .remove(0)
        .or_say("bulk get")?
        .ok_or("bulk get: the key is missing")?;
    equal("etag of the bulk get", &item.etag, &Some(etag.clone()))?;
    equal("etag of a second read", &store.etag_of(&key).await?, &etag)
}

pub(super) async fn each_write_changes_the_etag(store: Store) -> Verified {
    let key = store.key("k");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        let etag = store.write_tagged(&key, "same value").await?;
        ensure!(seen.insert(etag.clone()), "etag {etag} was there before");
    }
    Ok(())
}

pub(super) async fn right_etag_writes(store: Store) -> Verified {
    let key = store.key("k");
    let etag = store.write_tagged(&key, "v1").await?;
    store
        .set(set_if(&key, "v2", &etag))
        .await
        .or_say("set with the right etag")?;
    store.holds(&key, Some(b"v2")).await?;
    let next = store.etag_of(&key).await?;
    ensure!(next != etag, "the etag stayed {etag} over a write");
    store
        .set(set_if(&key, "v3", &next))
        .await
        .or_say("set with the next etag")
}

pub(super) async fn wrong_etag_conflicts_on_set(store: Store) -> Verified {
    let key = store.key("k");
    let (old, now) = (stale(&store, &key).await?, store.etag_of(&key).await?);
    fails(
        "set with a stale etag",
        store.set(set_if(&key, "x", &old)).await,
        &[Conflict],
    )?;
    untouched(&store, &key, &now).await
}

pub(super) async fn wrong_etag_conflicts_on_delete(store: Store) -> Verified {
    let key = store.key("k");
    let (old, now) = (stale(&store, &key).await?, store.etag_of(&key).await?);
    fails(
        "delete with a stale etag",
        store.delete(delete_if(&key, &old)).await,
        &[Conflict],
    )?;
    untouched(&store, &key, &now).await
}

pub(super) async fn right_etag_deletes(store: Store) -> Verified {
    let key = store.key("k");
    let etag = store.write_tagged(&key, "v").await?;
    store
        .delete(delete_if(&key, &etag))
        .await
        .or_say("delete with the right etag")?;
    store.holds(&key, None).await
}

pub(super) async fn etag_of_a_missing_key_conflicts(store: Store) -> Verified {
    let (key, other) = (store.key("missing"), store.key("other"));
    let etag = store.write_tagged(&other, "v").await?;
    fails(
        "set of a missing key with an etag",
        store.set(set_if(&key, "x", &etag)).await,
        &[Conflict],
    )?;
    fails(
        "delete of a missing key with an etag",
        store.delete(delete_if(&key, &etag)).await,
        &[Conflict],
    )?;
    store.holds(&key, None).await
}

pub(super) async fn malformed_etag_is_refused(store: Store) -> Verified {
    let key = store.key("k");
    store.write(&key, "now").await?;
    let etag = store.etag_of(&key).await?;
    for odd in ["no etag of this store", "-1", "99999999999999999999999", "\u{0}"] {
        let kinds = [Conflict, InvalidEtag];
        fails(
            "set with an odd etag",
            store.set(set_if(&key, "x", odd)).await,
            &kinds,
        )?;
        fails(
            "delete with an odd etag",
            store.delete(delete_if(&key, odd)).await,
            &kinds,
        )?;
    }
    untouched(&store, &key, &etag).await
}

pub(super) async fn bulk_set_with_one_bad_etag(store: Store) -> Verified {
    let (good, bad) = (store.key("good"), store.key("bad"));
    let (old, now) = (stale(&store, &bad).await?, store.etag_of(&bad).await?);
    let right = store.write_tagged(&good, "v").await?;
    let requests = vec![set_if(&good, "new", &right), set_if(&bad, "x", &old)];
    fails(
        "bulk set with one bad etag",
        store.bulk_set(requests).await,
        &[Conflict],
    )?;
    store.holds(&good, Some(b"new")).await?;
    untouched(&store, &bad, &now).await
}

pub(super) async fn bulk_delete_with_one_bad_etag(store: Store) -> Verified {
    let (good, bad) = (store.key("good"), store.key("bad"));
    let (old, now) = (stale(&store, &bad).await?, store.etag_of(&bad).await?);
    let right = store.write_tagged(&good, "v").await?;
    let requests = vec![delete_if(&good, &right), delete_if(&bad, &old)];
    fails(
        "bulk delete with one bad etag",
        store.bulk_delete(requests).await,
        &[Conflict],
    )?;
    store.holds(&good, None).await?;
    untouched(&store, &bad, &now).await
}

pub(super) async fn first_write_creates(store: Store) -> Verified {
    let key = store.key("k");
    store
        .set(set_first(&key, "v"))
        .await
        .or_say("first write of an absent key")?;
    store.holds(&key, Some(b"v")).await
}

pub(super) async fn first_write_conflicts_where_present(store: Store) -> Verified {
    let (plain, first) = (store.key("plain"), store.key("first"));
    store.write(&plain, "now").await?;
    store.set(set_first(&first, "now")).await.or_say("first write")?;
    for key in [&plain, &first] {
        let etag = store.etag_of(key).await?;
        fails(
            "second first write",
            store.set(set_first(key, "x")).await,
            &[Conflict],
        )?;
        untouched(&store, key, &etag).await?;
    }
    Ok(())
}

pub(super) async fn first_write_with_a_stale_etag_conflicts(store: Store) -> Verified {
    let key = store.key("k");
    let (old, now) = (stale(&store, &key).await?, store.etag_of(&key).await?);
    let first_if = |value: &'static str, etag: &str| Set {
        etag: Some(etag.to_owned()),
        ..set_first(&key, value)
    };
    fails(
        "first write with a stale etag",
        store.set(first_if("x", &old)).await,
        &[Conflict],
    )?;
    untouched(&store, &key, &now).await?;
    store
        .set(first_if("new", &now))
        .await
        .or_say("first write with the right etag")?;
    store.holds(&key, Some(b"new")).await
}

pub(super) async fn first_write_creates_again_after_delete(store: Store) -> Verified {
    let key = store.key("k");
    store.set(set_first(&key, "v1")).await.or_say("first write")?;
    store
        .delete(delete_if(&key, &store.etag_of(&key).await?))
        .await
        .or_say("delete")?;
    store
        .set(set_first(&key, "v2"))
        .await
        .or_say("first write after a delete")?;
    store.holds(&key, Some(b"v2")).await
}

pub(super) async fn last_write_overwrites(store: Store) -> Verified {
    let key = store.key("k");
    store.write(&key, "v1").await?;
    let options = Options {
        concurrency: Concurrency::LastWrite,
        ..Options::default()
    };
    let last = Set {
        options,
        ..set(&key, "v2")
    };
    store.set(last).await.or_say("last write without an etag")?;
    store.holds(&key, Some(b"v2")).await
}
