//! State stores.

mod basic;
mod concurrency;
mod etag;
mod transaction;
mod ttl;

use bytes::Bytes;
use layotto_core::{
    Metadata,
    key_prefix::PrefixedKey,
    state::{Concurrency, Consistency, Delete, Get, Item, Options, Set, StateStore},
};

use super::{
    Assertion, Subject, Verified, always, assertions,
    check::{OrSay, ensure, equal},
    common, durable,
};

type Store = Subject<dyn StateStore>;

/// The assertions of a state store.
pub fn assertions() -> Vec<Assertion<dyn StateStore>> {
    let own: Vec<Assertion<dyn StateStore>> = assertions! {
        always => [
            basic::missing_key_is_none,
            basic::values_come_back_as_written,
            basic::empty_value_is_not_missing,
            basic::binary_value_comes_back,
            basic::one_mebibyte_comes_back,
            basic::overwrite_replaces,
            basic::odd_keys_are_kept_apart,
            basic::a_nul_in_a_key_is_kept,
            basic::delete_removes,
            basic::delete_of_a_key_never_written_is_no_error,
            basic::bulk_get_keeps_the_order_asked,
            basic::bulk_set_writes_all_in_order,
            basic::bulk_delete_removes_all,
            basic::bulk_of_nothing_is_no_error,
            concurrency::concurrent_writes_lose_nothing,
            concurrency::reads_are_never_torn,
            concurrency::a_dropped_write_is_whole_or_absent,
            transaction::transactions_work_only_where_announced,
        ],
        needs_etag => [
            etag::a_write_gives_an_etag,
            etag::each_write_changes_the_etag,
            etag::right_etag_writes,
            etag::wrong_etag_conflicts_on_set,
            etag::wrong_etag_conflicts_on_delete,
            etag::right_etag_deletes,
            etag::etag_of_a_missing_key_conflicts,
            etag::malformed_etag_is_refused,
            etag::bulk_set_with_one_bad_etag,
            etag::bulk_delete_with_one_bad_etag,
            etag::first_write_creates,
            etag::first_write_conflicts_where_present,
            etag::first_write_with_a_stale_etag_conflicts,
            etag::first_write_creates_again_after_delete,
            etag::last_write_overwrites,
            concurrency::one_writer_wins_each_version,
            concurrency::one_deleter_wins,
            concurrency::one_first_write_wins,
            concurrency::counting_by_etag_loses_nothing,
        ],
        needs_ttl => [
            ttl::expires_and_not_before,
            ttl::get_and_bulk_get_tell_the_expiry,
            ttl::no_ttl_no_expiry,
            ttl::minus_one_clears_the_expiry,
            ttl::a_write_without_ttl_clears_the_expiry,
            ttl::malformed_ttl_is_refused,
            ttl::a_new_ttl_replaces_the_old,
            ttl::bulk_set_has_a_ttl_for_each,
        ],
        needs_ttl_and_etag => [
            ttl::expired_key_is_absent_for_first_write,
            ttl::etag_of_an_expired_key_conflicts,
        ],
        needs_transactions => [
            transaction::operations_apply_in_order,
            transaction::transaction_of_nothing_is_no_error,
            transaction::deleting_a_missing_key_is_no_error,
            transaction::large_transaction_is_whole,
        ],
        needs_transactions_and_etag => [
            transaction::bad_etag_changes_nothing,
            transaction::right_etags_pass,
            transaction::first_write_in_a_transaction,
            transaction::transfers_keep_the_sum,
        ],
        needs_transactions_and_ttl => [transaction::ttl_in_a_transaction],
        durable => [basic::survives_a_restart],
    };
    own.into_iter().chain(common::assertions()).collect()
}

fn needs_etag(store: &Store) -> Option<&'static str> {
    (!store.features().etag).then_some("has no etags")
}

fn needs_ttl(store: &Store) -> Option<&'static str> {
    (!store.features().ttl).then_some("has no TTL")
}

fn needs_ttl_and_etag(store: &Store) -> Option<&'static str> {
    needs_ttl(store).or_else(|| needs_etag(store))
}

fn needs_transactions(store: &Store) -> Option<&'static str> {
    (!store.features().transactional).then_some("has no transactions")
}

fn needs_transactions_and_etag(store: &Store) -> Option<&'static str> {
    needs_transactions(store).or_else(|| needs_etag(store))
}

fn needs_transactions_and_ttl(store: &Store) -> Option<&'static str> {
    needs_transactions(store).or_else(|| needs_ttl(store))
}

fn get(key: &PrefixedKey) -> Get {
    Get {
        key: key.clone(),
        consistency: Consistency::Strong,
        metadata: Metadata::new(),
    }
}

fn set(key: &PrefixedKey, value: impl Into<Bytes>) -> Set {
    Set {
        key: key.clone(),
        value: value.into(),
        etag: None,
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn set_if(key: &PrefixedKey, value: impl Into<Bytes>, etag: &str) -> Set {
    Set {
        etag: Some(etag.to_owned()),
        ..set(key, value)
    }
}

fn set_first(key: &PrefixedKey, value: impl Into<Bytes>) -> Set {
    let options = Options {
        concurrency: Concurrency::FirstWrite,
        ..Options::default()
    };
    Set {
        options,
        ..set(key, value)
    }
}

fn set_for(key: &PrefixedKey, value: impl Into<Bytes>, ttl: &str) -> Set {
    Set {
        metadata: Metadata::from([("ttlInSeconds".to_owned(), ttl.to_owned())]),
        ..set(key, value)
    }
}

fn delete(key: &PrefixedKey) -> Delete {
    Delete {
        key: key.clone(),
        etag: None,
        options: Options::default(),
        metadata: Metadata::new(),
    }
}

fn delete_if(key: &PrefixedKey, etag: &str) -> Delete {
    Delete {
        etag: Some(etag.to_owned()),
        ..delete(key)
    }
}

impl Store {
    async fn read(&self, key: &PrefixedKey) -> Result<Option<Item>, String> {
        self.get(&get(key)).await.or_say(&format!("get of {}", key.0))
    }

    async fn write(&self, key: &PrefixedKey, value: impl Into<Bytes>) -> Verified {
        self.set(set(key, value))
            .await
            .or_say(&format!("set of {}", key.0))
    }

    async fn etag_of(&self, key: &PrefixedKey) -> Result<String, String> {
        let item = self
            .read(key)
            .await?
            .ok_or_else(|| format!("{} is missing", key.0))?;
        let etag = item.etag.unwrap_or_default();
        ensure!(!etag.is_empty(), "{} has no etag", key.0);
        Ok(etag)
    }

    /// Writes `value` and returns its etag.
    async fn write_tagged(&self, key: &PrefixedKey, value: impl Into<Bytes>) -> Result<String, String> {
        self.write(key, value).await?;
        self.etag_of(key).await
    }

    /// Fails unless `key` holds `value`; `None` stands for a missing key.
    async fn holds(&self, key: &PrefixedKey, value: Option<&[u8]>) -> Verified {
        let found = self.read(key).await?.map(|item| item.value);
        equal(
            &format!("value of {}", key.0),
            &found,
            &value.map(Bytes::copy_from_slice),
        )
    }
}
