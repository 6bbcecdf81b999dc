//! The root instance of a plug-in: it is asked for the id and configured once, and lives on for its
//! ticks, its queues and the calls that it has under way. One that has none of these is let go.

use std::{error::Error, future::pending, sync::Arc, time::Duration};

use tokio::{
    task::{AbortHandle, coop::consume_budget},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{error, warn};

use crate::{
    calls::News,
    guest::{Facts, Guest, ROOT},
    host::Asker,
    instance::{Instance, Prepared},
    plugin::StartError,
    shared::Signals,
    trap::Trap,
};

/// How long the root instance is away after a trap.
const REST: Duration = Duration::from_secs(1);

/// How long its start may take, with all that it waits for.
const START: Duration = Duration::from_secs(30);

/// The task of a root instance; it ends with this.
pub(super) struct Root(Option<AbortHandle>);

impl Root {
    pub(super) async fn start(
        prepared: Arc<Prepared>,
        facts: Arc<Facts>,
    ) -> Result<(Self, String), StartError> {
        let living = Living {
            prepared,
            facts,
            signals: Arc::default(),
        };
        let (instance, id) = living.instance().await?;
        Ok((Self(living.live(instance)), id))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

struct Living {
    prepared: Arc<Prepared>,
    facts: Arc<Facts>,
    signals: Arc<Signals>,
}

/// What a root instance is woken by.
enum Event {
    Tick,
    Queue(u32),
    News(News),
}

impl Living {
    async fn instance(&self) -> Result<(Instance, String), StartError> {
        let until = Instant::now() + START;
        let started = timeout_at(until, self.started(until)).await;
        let (mut instance, id) = started.map_err(|_| StartError::Late(START))??;
        // From now on it waits for as long as it wants to.
        instance.guest().asker.deadline = None;
        Ok((instance, id))
    }

    async fn started(&self, until: Instant) -> Result<(Instance, String), Trap> {
        let asker = Asker {
            function: self.facts.name.clone(),
            allowed: self.facts.allowed.clone(),
            depth: 0,
            deadline: Some(until),
        };
        let mut guest = Guest::new(self.facts.clone(), asker);
        guest.signals = Some(self.signals.clone());
        let mut instance = Instance::start(self.prepared.clone(), guest).await?;
        let id = instance.id().await?;
        if !id.is_empty() {
            instance.guest().asker.function = id.as_str().into();
        }
        if !instance.configure().await? {
            warn!(plugin = &*self.facts.name, "the guest refused its configuration");
        }
        Ok((instance, id))
    }

    fn live(self, mut instance: Instance) -> Option<AbortHandle> {
        let queues = Arc::weak_count(&self.signals) > 0;
        let guest = instance.guest();
        if guest.tick.is_none() && guest.calls.is_empty() && !queues {
            return None;
        }
        Some(tokio::spawn(self.run(instance)).abort_handle())
    }

    async fn run(self, mut instance: Instance) {
        let mut tick = None;
        loop {
            let Err(trap) = self.serve(&mut instance, &mut tick).await else {
                continue;
            };
            error!(plugin = &*self.facts.name, %trap, "the root instance failed");
            instance = self.again().await;
        }
    }

    async fn serve(&self, instance: &mut Instance, tick: &mut Option<Instant>) -> Result<(), Trap> {
        // Others have their turn, and the end is seen, also where there is always another event.
        consume_budget().await;
        let event = self.event(instance, tick).await;
        instance.guest().clock.restart();
        let _running = instance.running();
        match event {
            Event::Tick => instance.call_in(ROOT, "proxy_on_tick", &[ROOT]).await.map(drop),
            Event::Queue(token) => {
                let arguments = [ROOT, token];
                let told = instance.call_in(ROOT, "proxy_on_queue_ready", &arguments);
                told.await.map(drop)
            }
            Event::News(news) => instance.hears(news).await,
        }
    }

    /// `tick` is when the next one is due, whatever comes before it.
    async fn event(&self, instance: &mut Instance, tick: &mut Option<Instant>) -> Event {
        let guest = instance.guest();
        let due = guest
            .tick
            .map(|period| *tick.get_or_insert_with(|| Instant::now() + period));
        let ticked = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = ticked => {
                *tick = None;
                Event::Tick
            }
            token = self.signals.next() => Event::Queue(token),
            Some(news) = guest.calls.next() => Event::News(news),
        }
    }

    async fn again(&self) -> Instance {
        loop {
            sleep(REST).await;
            match self.instance().await {
                Ok((instance, _)) => return instance,
                Err(error) => error!(
                    plugin = &*self.facts.name,
                    error = &error as &dyn Error,
                    "the root instance does not start"
                ),
            }
        }
    }
}
