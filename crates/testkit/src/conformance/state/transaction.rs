//! Transactions: all operations in order, or none.

use layotto_core::{
    ErrorKind::{Conflict, Unsupported},
    state::Operation,
};

use super::*;
use crate::conformance::check::{fails, poll};

impl Store {
    async fn commit(&self, operations: Vec<Operation>) -> layotto_core::Result<()> {
        self.transact(operations, &Metadata::new()).await
    }
}

pub(super) async fn transactions_work_only_where_announced(store: Store) -> Verified {
    let key = store.key("k");
    let result = store.commit(vec![Operation::Set(set(&key, "v"))]).await;
    if store.features().transactional {
        result.or_say("transaction")?;
        return store.holds(&key, Some(b"v")).await;
    }
    fails("transaction", result, &[Unsupported])?;
    store.holds(&key, None).await
}

pub(super) async fn operations_apply_in_order(store: Store) -> Verified {
    let [k1, k2, k3] = ["k1", "k2", "k3"].map(|name| store.key(name));
    store.write(&k1, "before").await?;
    let operations = vec![
        Operation::Delete(delete(&k1)),
        Operation::Set(set(&k2, "v2")),
        Operation::Delete(delete(&k2)),
        Operation::Set(set(&k3, "first")),
        Operation::Set(set(&k3, r#"{"last": 1}"#)),
    ];
    store.commit(operations).await.or_say("transaction")?;
    store.holds(&k1, None).await?;
    store.holds(&k2, None).await?;
    store.holds(&k3, Some(br#"{"last": 1}"#)).await
}

pub(super) async fn transaction_of_nothing_is_no_error(store: Store) -> Verified {
    store.commit(Vec::new()).await.or_say("empty transaction")
}

pub(super) async fn deleting_a_missing_key_is_no_error(store: Store) -> Verified {
    let (absent, other) = (store.key("absent"), store.key("other"));
    let operations = vec![
        Operation::Delete(delete(&absent)),
        Operation::Set(set(&other, "v")),
    ];
    store.commit(operations).await.or_say("transaction")?;
    store.holds(&other, Some(b"v")).await
}

pub(super) async fn large_transaction_is_whole(store: Store) -> Verified {
    let keys: Vec<_> = (0..200).map(|number| store.key(&format!("k{number}"))).collect();
    let value = vec![b'x'; 1000];
    let operations = keys
        .iter()
        .map(|key| Operation::Set(set(key, value.clone())))
        .collect();
    store
        .commit(operations)
        .await
        .or_say("transaction of 200 operations")?;
    for key in &keys {
        store.holds(key, Some(&value)).await?;
    }
    Ok(())
}

/// The bad operation comes first, in the middle and last: none of the others may show.
pub(super) async fn bad_etag_changes_nothing(store: Store) -> Verified {
    let [kept, dropped, fresh, bad] = ["kept", "dropped", "fresh", "bad"].map(|name| store.key(name));
    let old = store.write_tagged(&bad, "v1").await?;
    for key in [&kept, &dropped, &bad] {
        store.write(key, "now").await?;
    }
    let etags = [
        store.etag_of(&kept).await?,
        store.etag_of(&dropped).await?,
        store.etag_of(&bad).await?,
    ];
    for (place, refused) in [
        (0, Operation::Set(set_if(&bad, "x", &old))),
        (1, Operation::Set(set_if(&bad, "x", &old))),
        (3, Operation::Delete(delete_if(&bad, &old))),
    ] {
        let mut operations = vec![
            Operation::Set(set(&kept, "x")),
            Operation::Delete(delete(&dropped)),
            Operation::Set(set(&fresh, "x")),
        ];
        operations.insert(place, refused);
        let tried = format!("transaction with a bad etag in place {place}");
        fails(&tried, store.commit(operations).await, &[Conflict])?;
        for (key, etag) in [&kept, &dropped, &bad].into_iter().zip(&etags) {
            store
                .holds(key, Some(b"now"))
                .await
                .map_err(|wrong| format!("{tried}: {wrong}"))?;
            equal(&format!("{tried}: etag"), &store.etag_of(key).await?, etag)?;
        }
        store
            .holds(&fresh, None)
            .await
            .map_err(|wrong| format!("{tried}: {wrong}"))?;
    }
    Ok(())
}

pub(super) async fn right_etags_pass(store: Store) -> Verified {
    let (a, b) = (store.key("a"), store.key("b"));
    let (etag_a, etag_b) = (
        store.write_tagged(&a, "v").await?,
        store.write_tagged(&b, "v").await?,
    );
    let operations = vec![
        Operation::Set(set_if(&a, "new", &etag_a)),
        Operation::Delete(delete_if(&b, &etag_b)),
    ];
    store
        .commit(operations)
        .await
        .or_say("transaction with right etags")?;
    store.holds(&a, Some(b"new")).await?;
    ensure!(
        store.etag_of(&a).await? != etag_a,
        "the etag stayed {etag_a} over a transaction"
    );
    store.holds(&b, None).await
}

pub(super) async fn first_write_in_a_transaction(store: Store) -> Verified {
    let (absent, present) = (store.key("absent"), store.key("present"));
    store.write(&present, "now").await?;
    let refused = vec![
        Operation::Set(set_first(&absent, "x")),
        Operation::Set(set_first(&present, "x")),
    ];
    fails(
        "transaction with a first write of a present key",
        store.commit(refused).await,
        &[Conflict],
    )?;
    store.holds(&absent, None).await?;
    store.holds(&present, Some(b"now")).await?;
    let passing = vec![Operation::Set(set_first(&absent, "v"))];
    store
        .commit(passing)
        .await
        .or_say("transaction with a first write of an absent key")?;
    store.holds(&absent, Some(b"v")).await
}

/// Concurrent transfers between two accounts, each conditional on both etags.
pub(super) async fn transfers_keep_the_sum(store: Store) -> Verified {
    let (from, to) = (store.key("from"), store.key("to"));
    store.write(&from, "100").await?;
    store.write(&to, "0").await?;
    let workers = (0..6).map(|_| {
        let (store, from, to) = (store.clone(), from.clone(), to.clone());
        async move {
            for _ in 0..3 {
                poll(crate::conformance::DEADLINE, "a transfer", async || {
                    transfer(&store, &from, &to).await
                })
                .await?;
            }
            Ok::<_, String>(())
        }
    });
    futures::future::try_join_all(workers).await?;
    store.holds(&from, Some(b"82")).await?;
    store.holds(&to, Some(b"18")).await
}

/// One try; `None` where another transfer came in between.
async fn transfer(store: &Store, from: &PrefixedKey, to: &PrefixedKey) -> Result<Option<()>, String> {
    let mut operations = Vec::new();
    for (key, change) in [(from, -1), (to, 1)] {
        let item = store.read(key).await?.ok_or("an account is missing")?;
        let amount = std::str::from_utf8(&item.value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        let amount = amount.ok_or("an account holds no number")? + change;
        operations.push(Operation::Set(Set {
            etag: item.etag,
            ..set(key, amount.to_string())
        }));
    }
    match store.commit(operations).await {
        Err(error) if error.kind() == Conflict => Ok(None),
        other => other.or_say("transfer").map(Some),
    }
}

pub(super) async fn ttl_in_a_transaction(store: Store) -> Verified {
    let (short, long) = (store.key("short"), store.key("long"));
    let operations = vec![
        Operation::Set(set_for(&short, "s", "1")),
        Operation::Set(set(&long, "l")),
    ];
    store.commit(operations).await.or_say("transaction")?;
    store.holds(&short, Some(b"s")).await?;
    let ask = async || Ok(store.read(&short).await?.is_none().then_some(()));
    poll(std::time::Duration::from_secs(4), "the end of a TTL of 1 s", ask).await?;
    store.holds(&long, Some(b"l")).await
}
