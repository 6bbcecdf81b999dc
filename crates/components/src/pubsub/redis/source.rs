//! Where deliveries get the entries in hand, and whom they tell of their end.

use std::sync::Arc;

use async_trait::async_trait;
use layotto_core::{Error, ErrorKind, Metadata, Result};

use super::{
    entry::Body,
    hand::{Hand, Held},
    stream::Streams,
};
use crate::pubsub::{
    delivery::{Source, Stored},
    queue::{Entry, Place},
};

/// The entries that a consumer has in hand.
pub(super) struct Records {
    pub(super) streams: Arc<Streams>,
    pub(super) topic: String,
    /// Belongs to no group: the server does not care.
    pub(super) is_ephemeral: bool,
    pub(super) hand: Hand,
}

#[async_trait]
impl Source for Records {
    type Body = Arc<Held>;

    fn id(&self, entry: &Entry<Arc<Held>>) -> String {
        entry.body.id.clone()
    }

    fn load(&self, entry: &Entry<Arc<Held>>) -> Result<Option<Stored>> {
        let held = &entry.body;
        if held.is_lost() {
            return Ok(None);
        }
        self.hand.begin(held, entry.attempts);
        match &held.body {
            Body::Event(data) => Ok(Some(Stored {
                topic: self.topic.clone(),
                data: data.clone(),
                metadata: Metadata::new(),
            })),
            Body::Other(_) => Err(Error::new(
                ErrorKind::DataLoss,
                "the entry of the stream has no field \"data\"",
            )),
        }
    }

    async fn lost(&self, entry: &Entry<Arc<Held>>) {
        entry.body.lost().await;
    }

    async fn settle(&self, _: &Place, entry: &Entry<Arc<Held>>) -> Result<()> {
        let held = &entry.body;
        if held.is_lost() {
            return Ok(());
        }
        if self.is_ephemeral {
            self.hand.drop_one(held);
        } else {
            self.hand.finish(held);
        }
        Ok(())
    }

    async fn note_failure(&self, _: &Place, entry: &Entry<Arc<Held>>) -> Result<()> {
        if !self.is_ephemeral {
            self.hand.fail(&entry.body);
        }
        Ok(())
    }

    async fn move_to(&self, to: &str, place: &Place, entry: &Entry<Arc<Held>>, _: usize) -> Result<()> {
        let held = &entry.body;
        if held.is_lost() {
            return Ok(());
        }
        let fields = held.body.fields();
        if self.is_ephemeral {
            self.streams.append(to, &fields).await?;
        } else {
            self.streams.transfer(place, &held.id, &fields, to).await?;
        }
        self.hand.drop_one(held);
        Ok(())
    }

    async fn leave(&self, _: &Place) -> Result<()> {
        Ok(())
    }
}
