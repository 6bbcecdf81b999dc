//! Metadata `ttlInSeconds` and `ttlExpireTime`.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use layotto_core::ErrorKind::{Conflict, InvalidArgument};

use super::*;
use crate::conformance::check::{fails, poll};

/// How late after its end an item may still be there.
const SLACK: Duration = Duration::from_secs(3);

async fn gone(store: &Store, key: &PrefixedKey) -> Verified {
    let ask = async || Ok(store.read(key).await?.is_none().then_some(()));
    poll(Duration::from_secs(1) + SLACK, "the end of a TTL of 1 s", ask).await
}

fn expiry(item: &Item) -> Result<Option<DateTime<Utc>>, String> {
    let Some(text) = item.metadata.get("ttlExpireTime") else {
        return Ok(None);
    };
    let time =
        DateTime::parse_from_rfc3339(text).map_err(|error| format!("ttlExpireTime {text:?}: {error}"))?;
    Ok(Some(time.with_timezone(&Utc)))
}

async fn expiry_of(store: &Store, key: &PrefixedKey) -> Result<Option<DateTime<Utc>>, String> {
    expiry(&store.read(key).await?.ok_or("the key is missing")?)
}

fn lies_ahead(time: Option<DateTime<Utc>>, seconds: i64) -> Verified {
    let time = time.ok_or("no ttlExpireTime")?;
    let (ahead, wanted) = (time - Utc::now(), TimeDelta::seconds(seconds));
    // Whole seconds may be rounded either way, and the test machine may be slow.
    let fits = ahead <= wanted + TimeDelta::seconds(1) && ahead >= wanted - TimeDelta::seconds(5);
    ensure!(
        fits,
        "ttlExpireTime lies {ahead} ahead after a TTL of {seconds} s"
    );
    Ok(())
}

pub(super) async fn expires_and_not_before(store: Store) -> Verified {
    let key = store.key("k");
    let started = Instant::now();
    store
        .set(set_for(&key, "v", "1"))
        .await
        .or_say("set with a TTL")?;
    store.holds(&key, Some(b"v")).await?;
    gone(&store, &key).await?;
    ensure!(
        started.elapsed() >= Duration::from_millis(900),
        "gone after {:?}",
        started.elapsed()
    );
    let mut bulk = store.bulk_get(vec![get(&key)], 1).await.or_say("bulk get")?;
    let found = bulk
        .pop()
        .ok_or("no result of the bulk get")?
        .or_say("bulk get")?;
    equal("bulk get of an expired key", &found, &None)?;
    store.write(&key, "again").await?;
    store.holds(&key, Some(b"again")).await
}

pub(super) async fn get_and_bulk_get_tell_the_expiry(store: Store) -> Verified {
    let key = store.key("k");
    store
        .set(set_for(&key, "v", "100"))
        .await
        .or_say("set with a TTL")?;
    lies_ahead(expiry_of(&store, &key).await?, 100)?;
    let mut bulk = store.bulk_get(vec![get(&key)], 1).await.or_say("bulk get")?;
    let item = bulk
        .pop()
        .ok_or("no result of the bulk get")?
        .or_say("bulk get")?;
    lies_ahead(expiry(&item.ok_or("bulk get: the key is missing")?)?, 100)
}

pub(super) async fn no_ttl_no_expiry(store: Store) -> Verified {
    let key = store.key("k");
    store.write(&key, "v").await?;
    equal("expiry", &expiry_of(&store, &key).await?, &None)
}

pub(super) async fn minus_one_clears_the_expiry(store: Store) -> Verified {
    let key = store.key("k");
    store
        .set(set_for(&key, "v", "50"))
        .await
        .or_say("set with a TTL")?;
    store
        .set(set_for(&key, "v", "-1"))
        .await
        .or_say("set with TTL -1")?;
    equal("expiry", &expiry_of(&store, &key).await?, &None)
}

pub(super) async fn a_write_without_ttl_clears_the_expiry(store: Store) -> Verified {
    let key = store.key("k");
    store
        .set(set_for(&key, "v", "50"))
        .await
        .or_say("set with a TTL")?;
    store.write(&key, "v2").await?;
    equal("expiry", &expiry_of(&store, &key).await?, &None)
}

pub(super) async fn malformed_ttl_is_refused(store: Store) -> Verified {
    let key = store.key("k");
    for ttl in ["soon", "1.5", "1s", "99999999999999999999999"] {
        let result = store.set(set_for(&key, "v", ttl)).await;
        fails(&format!("set with TTL {ttl:?}"), result, &[InvalidArgument])?;
    }
    store.holds(&key, None).await
}

pub(super) async fn a_new_ttl_replaces_the_old(store: Store) -> Verified {
    let (longer, shorter) = (store.key("longer"), store.key("shorter"));
    store
        .set(set_for(&longer, "v", "1"))
        .await
        .or_say("set with a TTL")?;
    store
        .set(set_for(&longer, "v", "100"))
        .await
        .or_say("set with a longer TTL")?;
    store
        .set(set_for(&shorter, "v", "100"))
        .await
        .or_say("set with a TTL")?;
    store
        .set(set_for(&shorter, "v", "1"))
        .await
        .or_say("set with a shorter TTL")?;
    lies_ahead(expiry_of(&store, &longer).await?, 100)?;
    gone(&store, &shorter).await?;
    store.holds(&longer, Some(b"v")).await
}

pub(super) async fn bulk_set_has_a_ttl_for_each(store: Store) -> Verified {
    let (short, long) = (store.key("short"), store.key("long"));
    let requests = vec![set_for(&short, "s", "1"), set(&long, "l")];
    store.bulk_set(requests).await.or_say("bulk set")?;
    store.holds(&short, Some(b"s")).await?;
    gone(&store, &short).await?;
    store.holds(&long, Some(b"l")).await
}

pub(super) async fn expired_key_is_absent_for_first_write(store: Store) -> Verified {
    let key = store.key("k");
    let first = Set {
        options: set_first(&key, "").options,
        ..set_for(&key, "v1", "1")
    };
    store.set(first).await.or_say("first write with a TTL")?;
    // No read in between: the write itself must notice that the item has expired.
    let ask = async || match store.set(set_first(&key, "v2")).await {
        Err(error) if error.kind() == Conflict => Ok(None),
        other => other.or_say("first write").map(Some),
    };
    poll(Duration::from_secs(1) + SLACK, "a first write after the TTL", ask).await?;
    store.holds(&key, Some(b"v2")).await?;
    equal("expiry", &expiry_of(&store, &key).await?, &None)
}

pub(super) async fn etag_of_an_expired_key_conflicts(store: Store) -> Verified {
    let key = store.key("k");
    store
        .set(set_for(&key, "v", "1"))
        .await
        .or_say("set with a TTL")?;
    let etag = store.etag_of(&key).await?;
    gone(&store, &key).await?;
    fails(
        "set with the etag of an expired item",
        store.set(set_if(&key, "x", &etag)).await,
        &[Conflict],
    )?;
    store.holds(&key, None).await
}
