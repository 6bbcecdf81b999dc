//! A broker in the process: takes messages in and starts deliveries, wherever messages are kept.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use layotto_core::{
    Context, Error, Metadata, Result,
    pubsub::{Publish, Subscribe, Subscription},
};
use tokio_util::sync::CancellationToken;

use super::{
    delivery::{Delivery, Seeking, Source, Stored},
    policy::Policy,
    queue::{Place, Queue},
};
use crate::clock::{Clock, Millis};

/// When a message is due, and when it ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// 0 for at once.
    pub(super) due: Millis,
    /// 0 for never.
    pub(super) end: Millis,
}

/// Where messages are kept.
#[async_trait]
pub(super) trait Journal: Source {
    /// Takes a message in for every group of its topic, each of which may have `limit` queued.
    /// Returns its id.
    async fn append(&self, message: Stored, times: Times, limit: usize) -> Result<u64>;

    /// The queue of a group, which exists from now on; an ephemeral one until it is left.
    async fn group(&self, place: &Place, ephemeral: bool) -> Result<Arc<Queue<Self::Body>>>;
}

/// A broker over journal `J`.
pub(super) struct Broker<J> {
    journal: Arc<J>,
    policy: Policy,
    clock: Clock,
    cx: Context,
    stop: CancellationToken,
}

impl<J: Journal> Broker<J> {
    pub(super) fn new(journal: Arc<J>, policy: Policy, clock: Clock, cx: Context) -> Self {
        Self {
            journal,
            policy,
            clock,
            stop: cx.shutdown.child_token(),
            cx,
        }
    }

    pub(super) fn journal(&self) -> &J {
        &self.journal
    }

    /// Ends all subscriptions of this component; deliveries that run are finished.
    pub(super) fn close(&self) {
        self.stop.cancel();
    }

    pub(super) async fn publish(&self, message: Publish) -> Result<Option<String>> {
        let times = times(&message.metadata, &self.clock)?;
        let stored = Stored {
            topic: message.topic,
            data: message.data,
            metadata: message.metadata,
        };
        let id = self.journal.append(stored, times, self.policy.max_queued).await?;
        Ok(Some(id.to_string()))
    }

    pub(super) async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let seeking = Seeking::new(subscribe, &self.policy)?;
        let (journal, clock) = (Arc::clone(&self.journal), self.clock.clone());
        let (stop, tasks) = (self.stop.clone(), self.cx.tasks.clone());
        let starting = self.cx.tasks.spawn(async move {
            let dropped = CancellationToken::new();
            let delivery = Delivery {
                queue: journal.group(&seeking.place, seeking.is_ephemeral).await?,
                source: journal,
                place: seeking.place,
                policy: seeking.policy,
                handler: seeking.handler,
                clock,
                dropped: dropped.clone(),
                stop,
                tasks: tasks.clone(),
            };
            tasks.spawn(Arc::new(delivery).run());
            Ok(Subscription::new(dropped))
        });
        // A task of its own: where the caller goes away meanwhile, the subscription is made and
        // dropped, and so an ephemeral group is left again.
        starting
            .await
            .map_err(|panic| Error::internal("the subscription could not be started").with_source(panic))?
    }
}

fn times(metadata: &Metadata, clock: &Clock) -> Result<Times> {
    let delay = delay(metadata)?;
    // As everywhere with messages, a life that is not a positive number is no life.
    let life = metadata
        .get("ttlInSeconds")
        .and_then(|life| life.trim().parse::<u64>().ok())
        .filter(|life| *life > 0);
    Ok(Times {
        due: delay.map_or(0, |delay| clock.after(delay)),
        end: life.map_or(0, |life| {
            clock.after(Duration::from_secs(life).saturating_add(delay.unwrap_or_default()))
        }),
    })
}

pub(super) fn delay(metadata: &Metadata) -> Result<Option<Duration>> {
    let Some(text) = metadata.get("delayInSeconds").map(|text| text.trim()) else {
        return Ok(None);
    };
    let seconds: u64 = text.parse().map_err(|_| {
        Error::invalid(format!(
            "delayInSeconds {text:?} is not a whole number of seconds"
        ))
    })?;
    Ok(Some(Duration::from_secs(seconds)).filter(|delay| !delay.is_zero()))
}
