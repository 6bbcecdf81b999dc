//! Defective state stores.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use layotto_core::{
    Component, Error, ErrorKind, Metadata, Result,
    key_prefix::PrefixedKey,
    state::{Consistency, Delete, Features, Get, Item, Operation, Set, StateStore},
};

use super::Defect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    IgnoresEtags,
    ChecksEtagsTooEarly,
    LosesWrites,
    TearsTransactions,
    ReordersTransactions,
    KeepsForEver,
    WritesText,
}

pub(super) fn defects() -> Vec<Defect<dyn StateStore>> {
    vec![
        Defect {
            name: "a store that ignores etags",
            wrap: |inner| Faulty::around(inner, Fault::IgnoresEtags),
            caught_by: &[
                "wrong_etag_conflicts_on_set",
                "wrong_etag_conflicts_on_delete",
                "one_writer_wins_each_version",
                "counting_by_etag_loses_nothing",
                "bad_etag_changes_nothing",
            ],
        },
        Defect {
            name: "a store that checks the etag before it writes, not while",
            wrap: |inner| Faulty::around(inner, Fault::ChecksEtagsTooEarly),
            caught_by: &["one_writer_wins_each_version"],
        },
        Defect {
            name: "a store that loses a write",
            wrap: |inner| Faulty::around(inner, Fault::LosesWrites),
            caught_by: &["concurrent_writes_lose_nothing", "odd_keys_are_kept_apart"],
        },
        Defect {
            name: "a store that leaves half a transaction",
            wrap: |inner| Faulty::around(inner, Fault::TearsTransactions),
            caught_by: &["bad_etag_changes_nothing", "first_write_in_a_transaction"],
        },
        Defect {
            name: "a store that carries out a transaction backwards",
            wrap: |inner| Faulty::around(inner, Fault::ReordersTransactions),
            caught_by: &["operations_apply_in_order"],
        },
        Defect {
            name: "a store that never lets an item expire",
            wrap: |inner| Faulty::around(inner, Fault::KeepsForEver),
            caught_by: &["expires_and_not_before", "ttl_in_a_transaction"],
        },
        Defect {
            name: "a store that takes values for text",
            wrap: |inner| Faulty::around(inner, Fault::WritesText),
            caught_by: &["binary_value_comes_back"],
        },
    ]
}

struct Faulty {
    inner: Arc<dyn StateStore>,
    fault: Fault,
    writes: AtomicUsize,
}

impl Faulty {
    fn around(inner: Arc<dyn StateStore>, fault: Fault) -> Arc<dyn StateStore> {
        Arc::new(Self {
            inner,
            fault,
            writes: AtomicUsize::new(0),
        })
    }

    fn altered(&self, mut set: Set) -> Set {
        match self.fault {
            Fault::IgnoresEtags => set.etag = None,
            Fault::KeepsForEver => drop(set.metadata.remove("ttlInSeconds")),
            Fault::WritesText => set.value = String::from_utf8_lossy(&set.value).into_owned().into(),
            _ => {}
        }
        set
    }

    /// Compares the etag and then lets others run before it says so.
    async fn etag_fits(&self, key: &PrefixedKey, etag: &str) -> Result<()> {
        let request = Get {
            key: key.clone(),
            consistency: Consistency::Strong,
            metadata: Metadata::new(),
        };
        let found = self.inner.get(&request).await?;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if found.and_then(|item| item.etag).as_deref() == Some(etag) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "possible etag mismatch"))
    }
}

#[async_trait]
impl Component for Faulty {
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl StateStore for Faulty {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn get(&self, request: &Get) -> Result<Option<Item>> {
        self.inner.get(request).await
    }

    async fn set(&self, request: Set) -> Result<()> {
        let mut request = self.altered(request);
        let written = self.writes.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::LosesWrites && written % 7 == 6 {
            return Ok(());
        }
        if self.fault == Fault::ChecksEtagsTooEarly
            && let Some(etag) = request.etag.take()
        {
            self.etag_fits(&request.key, &etag).await?;
        }
        self.inner.set(request).await
    }

    async fn delete(&self, mut request: Delete) -> Result<()> {
        if self.fault == Fault::IgnoresEtags {
            request.etag = None;
        }
        self.inner.delete(request).await
    }

    async fn transact(&self, mut operations: Vec<Operation>, metadata: &Metadata) -> Result<()> {
        if self.fault == Fault::ReordersTransactions {
            operations.reverse();
        }
        if matches!(
            self.fault,
            Fault::TearsTransactions | Fault::IgnoresEtags | Fault::KeepsForEver
        ) {
            for operation in operations {
                match operation {
                    Operation::Set(set) => self.set(set).await?,
                    Operation::Delete(delete) => self.delete(delete).await?,
                }
            }
            return Ok(());
        }
        self.inner.transact(operations, metadata).await
    }
}
