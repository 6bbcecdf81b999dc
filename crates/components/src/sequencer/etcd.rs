//! Ids from etcd, in the layout of Go Layotto.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use layotto_core::{
    Component, Context, Error, ErrorKind, Metadata, Open, Result,
    key_prefix::PrefixedKey,
    sequencer::{BiggerThan, Features, Sequencer},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::etcd::{
    Client, Repeat, Settings,
    wire::{RangeRequest, RequestOp, TxnRequest},
};

/// Ids from etcd: an id is how often its key was written, as with Go Layotto, so that sidecars of
/// both kinds share a counter. Each id is a write, weak ones too. Deleting the key starts the ids
/// again at 1.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub Settings);

/// A sequencer in etcd.
pub struct Etcd {
    client: Arc<Client>,
    prefix: String,
    /// Keys whose bound does not hold, and what is said of it: no id of theirs may be had.
    violated: Mutex<HashMap<PrefixedKey, String>>,
}

impl Open for Etcd {
    const TYPE: &'static str = "etcd";
    type Config = Config;

    async fn open(Config(settings): Config, cx: Context) -> Result<Self> {
        Ok(Self {
            client: Client::shared(&settings, "endpoints", &cx).await?,
            prefix: settings.prefix(),
            violated: Mutex::default(),
        })
    }
}

impl Etcd {
    fn key(&self, key: &PrefixedKey) -> Bytes {
        [self.prefix.as_str(), &key.0].concat().into()
    }

    fn violated(&self) -> MutexGuard<'_, HashMap<PrefixedKey, String>> {
        self.violated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_small(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::FailedPrecondition, text)
}

#[async_trait]
impl Component for Etcd {
    async fn ping(&self) -> Result<()> {
        self.client.ping(&format!("{}ping", self.prefix)).await
    }
}

#[async_trait]
impl Sequencer for Etcd {
    fn features(&self) -> Features {
        // A key's version grows by one with a write, and a transaction may write a key once.
        Features { segments: false }
    }

    async fn next_id(&self, key: &PrefixedKey, _: &Metadata) -> Result<i64> {
        if let Some(text) = self.violated().get(key) {
            return Err(too_small(text));
        }
        let key = self.key(key);
        let request = TxnRequest {
            success: vec![
                RequestOp::put(key.clone(), Bytes::new(), 0),
                RangeRequest::one(key).into(),
            ],
            ..TxnRequest::default()
        };
        let outcome = self.client.txn(request, Repeat::Never).await?;
        let written = outcome.found().first();
        let written = written.ok_or_else(|| Error::internal("etcd: a key just written is missing"))?;
        Ok(written.version)
    }

    async fn ensure_bigger_than(&self, bounds: &BiggerThan) -> Result<()> {
        for (key, bound) in bounds {
            let place = self.key(key);
            let found = self.client.range(RangeRequest::one(place.clone())).await?;
            let last = found.kvs.first().map_or(0, |found| found.version);
            if last >= *bound {
                self.violated().remove(key);
                continue;
            }
            let text = format!(
                "etcd sequencer error: can not satisfy biggerThan guarantee.key: {},key in etcd: {},current id:{last}",
                key.0,
                String::from_utf8_lossy(&place),
            );
            self.violated().insert(key.clone(), text.clone());
            return Err(too_small(text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::etcd::testing::{ctl, cx, node, settings};

    fn key() -> PrefixedKey {
        PrefixedKey("sequencer|||app1||k".to_owned())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_counter_is_shared_with_go_sidecars_and_outlives_the_node() {
        let Some(mut node) = node(&[]).await else { return };
        let ids = Etcd::open(Config(settings([&node])), cx()).await.unwrap();
        assert_eq!(ids.next_id(&key(), &Metadata::new()).await.unwrap(), 1);
        // As a Go sidecar writes the key.
        ctl(&node, &["put", "/layotto/sequencer|||app1||k", ""]);
        assert_eq!(ids.next_id(&key(), &Metadata::new()).await.unwrap(), 3);
        node.kill();
        node.resume().await.unwrap();
        let ids = Etcd::open(Config(settings([&node])), cx()).await.unwrap();
        assert_eq!(ids.next_id(&key(), &Metadata::new()).await.unwrap(), 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bound_that_does_not_hold_is_said_until_it_holds() {
        let Some(node) = node(&[]).await else { return };
        let ids = Etcd::open(Config(settings([&node])), cx()).await.unwrap();
        let bounds = BiggerThan::from([(key(), 2)]);
        for last in 0..2 {
            let text = format!(
                "etcd sequencer error: can not satisfy biggerThan guarantee.key: sequencer|||app1||k,key in etcd: \
                 /layotto/sequencer|||app1||k,current id:{last}"
            );
            let refused = ids.ensure_bigger_than(&bounds).await.unwrap_err();
            assert_eq!(refused.message(), text);
            let refused = ids.next_id(&key(), &Metadata::new()).await.unwrap_err();
            assert_eq!(
                (refused.kind(), refused.message()),
                (ErrorKind::FailedPrecondition, &*text)
            );
            ctl(&node, &["put", "/layotto/sequencer|||app1||k", ""]);
        }
        ids.ensure_bigger_than(&bounds).await.unwrap();
        assert_eq!(ids.next_id(&key(), &Metadata::new()).await.unwrap(), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn there_are_no_segments() {
        let Some(node) = node(&[]).await else { return };
        let ids = Etcd::open(Config(settings([&node])), cx()).await.unwrap();
        let refused = ids.segment(&key(), 10_000).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        // Why: etcd refuses a transaction that writes a key twice.
        let twice = RequestOp::put("k", "", 0);
        let request = TxnRequest {
            success: vec![twice.clone(), twice],
            ..TxnRequest::default()
        };
        let refused = ids.client.txn(request, Repeat::Never).await.unwrap_err();
        assert_eq!(refused.message(), "etcd: duplicate key given in txn request");
    }
}
