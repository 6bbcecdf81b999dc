//! Clients that draw ids.

use std::sync::Arc;

use async_trait::async_trait;
use layotto_core::{Metadata, Result, key_prefix::PrefixedKey, sequencer::Sequencer};

use super::{Load, answer};
use crate::history::sequence::{Call, History};

/// Where ids come from.
#[async_trait]
pub trait Ids: Send + Sync + 'static {
    /// One id or more; greater than all before where `strong`.
    async fn draw(&self, key: &str, strong: bool) -> Result<Vec<i64>>;
}

/// Ids straight from a sequencer; those that are not strong are a segment, where it has them.
pub struct Direct(pub Arc<dyn Sequencer>);

/// The size of a segment.
const SEGMENT: u32 = 7;

#[async_trait]
impl Ids for Direct {
    async fn draw(&self, key: &str, strong: bool) -> Result<Vec<i64>> {
        let key = PrefixedKey(key.to_owned());
        if strong || !self.0.features().segments {
            return Ok(vec![self.0.next_id(&key, &Metadata::new()).await?]);
        }
        Ok(self.0.segment(&key, SEGMENT).await?.collect())
    }
}

/// Draws ids until the load is stopped, every second one strong.
pub async fn sequences(ids: Arc<dyn Ids>, load: &Load, history: &History) {
    load.run(|mut client| {
        let (ids, history) = (ids.clone(), history.clone());
        async move {
            while client.goes_on().await {
                let (key, strong) = (client.key(), client.chance(50));
                let call = Call {
                    key: key.clone(),
                    strong,
                };
                let pending = history.begin(client.number, call);
                if let Some(drawn) = answer(ids.draw(&key, strong).await) {
                    pending.end(drawn);
                }
            }
        }
    })
    .await;
}
