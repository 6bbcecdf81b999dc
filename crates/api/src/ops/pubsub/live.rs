//! A subscription that follows its component: made once the component is open, and made anew when
//! the component was opened anew.

use std::{
    ptr,
    sync::{Arc, Weak},
    time::Duration,
};

use layotto_core::{
    Error, ErrorKind, Result,
    pubsub::{PubSub, Subscribe, Subscription},
};
use tokio::time::timeout;

use super::listing::{Listed, Mode, Subscriptions};
use crate::{listing::Entry, slot::Slot};

/// Longest time for a broker to accept a subscription.
const ACCEPT: Duration = Duration::from_secs(30);

/// A wish for a topic, and the subscription that fulfils it now.
pub(crate) struct Live {
    slot: Arc<Slot<dyn PubSub>>,
    wish: Subscribe,
    mode: Mode,
    listing: Subscriptions,
    current: Option<Current>,
}

struct Current {
    /// Not kept open by a subscription: a replaced component goes when its owner lets it go.
    component: Weak<dyn PubSub>,
    _subscription: Subscription,
    _entry: Entry<Listed>,
}

impl Live {
    /// A wish that is not fulfilled yet.
    pub(crate) fn new(
        slot: Arc<Slot<dyn PubSub>>,
        wish: Subscribe,
        mode: Mode,
        listing: Subscriptions,
    ) -> Self {
        Self {
            slot,
            wish,
            mode,
            listing,
            current: None,
        }
    }

    /// The wish.
    pub(crate) fn wish(&self) -> &Subscribe {
        &self.wish
    }

    /// Subscribes unless there is a subscription on the component open now. To be called again and
    /// again; a subscription there is costs a comparison.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        let component = self.slot.get().inspect_err(|_| self.current = None)?;
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.is_on(&component))
        {
            return Ok(());
        }
        self.current = None;
        let subscription = timeout(ACCEPT, component.subscribe(self.wish.clone()))
            .await
            .map_err(|_| {
                Error::new(
                    ErrorKind::Timeout,
                    "the broker did not accept the subscription in time",
                )
            })??;
        self.current = Some(Current {
            component: Arc::downgrade(&component),
            _subscription: subscription,
            _entry: self.listing.enter(self.listed()),
        });
        Ok(())
    }

    fn listed(&self) -> Listed {
        Listed {
            pubsub: self.slot.name.clone(),
            topic: self.wish.topic.clone(),
            mode: self.mode,
        }
    }
}

impl Current {
    fn is_on(&self, component: &Arc<dyn PubSub>) -> bool {
        ptr::addr_eq(self.component.as_ptr(), Arc::as_ptr(component))
    }
}
