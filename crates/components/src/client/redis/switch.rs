//! Which server the sentinels made the primary no more. One that lives takes writes for seconds after
//! that, until it is told, and what it takes is lost: connections to it end as soon as this hears of
//! it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use redis::{PushInfo, PushKind};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    failure::Failure,
    sentinel::{Named, PATIENCE, Sentinels, text},
    settings::Address,
    transport::Task,
};

/// Where a sentinel says so: the name of the primary, the address it had and the one it has.
const CHANNEL: &str = "+switch-master";
/// For how long a server is not taken for the primary after that, whoever names it: some sentinels
/// hear of it late.
const LEFT: Duration = Duration::from_secs(10);
/// Between two tries to hear a sentinel, and between two questions to one that is heard.
const PAUSE: Duration = Duration::from_secs(1);

/// A server that was the primary, and since when it is not.
#[derive(Debug)]
struct Left {
    address: Address,
    since: Instant,
}

impl Left {
    fn is(&self, address: &Address) -> bool {
        self.address == *address && self.since.elapsed() < LEFT
    }
}

/// What was heard last, whom the last connection was made to, and the task that hears a sentinel, as
/// long as somebody has a connection to the primary.
#[derive(Debug)]
pub(super) struct Switches {
    left: watch::Sender<Option<Left>>,
    used: Mutex<Option<Named>>,
    hearing: Mutex<Weak<Task>>,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            left: watch::Sender::new(None),
            used: Mutex::default(),
            hearing: Mutex::default(),
        }
    }
}

impl Switches {
    /// Whether `address` was the primary's a moment ago.
    pub(super) fn has_left(&self, address: &Address) -> bool {
        self.left.borrow().as_ref().is_some_and(|left| left.is(address))
    }

    /// Notes what a sentinel said; nothing where it is of another primary.
    fn note(&self, primary: &str, said: &str) {
        let words: Vec<_> = said.split(' ').collect();
        let &[name, host, port, ..] = words.as_slice() else {
            return;
        };
        let Some(address) = Address::of(host, port).filter(|_| name == primary) else {
            return;
        };
        self.leave(address, primary);
    }

    /// Connections are made to `named` from now on.
    fn uses(&self, named: Named) {
        *self.used() = Some(named);
    }

    /// Notes what a sentinel answered: a switch may have been said when nobody heard it. A sentinel
    /// that names another server may be the one that is behind, unless it knows of a later failover.
    fn compare(&self, primary: &str, named: &Named) {
        let used = self.used().clone();
        if let Some(used) = used.filter(|used| used.address != named.address && used.epoch < named.epoch) {
            self.leave(used.address, primary);
        }
    }

    fn leave(&self, address: Address, primary: &str) {
        tracing::info!(%address, primary, "another redis is the primary now");
        let since = Instant::now();
        self.left.send_replace(Some(Left { address, since }));
    }

    fn used(&self) -> MutexGuard<'_, Option<Named>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sentinels {
    /// Ends when `named` is the primary no more. A sentinel is heard as long as this is held.
    pub(super) fn left(self: &Arc<Self>, named: Named) -> impl Future<Output = ()> + use<> {
        let mut left = self.switches.left.subscribe();
        let address = named.address.clone();
        // Older connections may lead to another server, of whose end nobody heard.
        self.switches.compare(&self.primary, &named);
        // Before a sentinel is heard, whose answer is compared with it.
        self.switches.uses(named);
        let hearing = self.hearing();
        async move {
            let is_left = |left: &Option<Left>| left.as_ref().is_some_and(|left| left.is(&address));
            let heard = left.wait_for(is_left).await.is_ok();
            if !heard {
                // The sentinels go with the whole client.
                std::future::pending::<()>().await;
            }
            drop(hearing);
        }
    }

    /// The task that hears a sentinel, which ends with whoever holds it.
    fn hearing(self: &Arc<Self>) -> Arc<Task> {
        let mut hearing = self
            .switches
            .hearing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = hearing.upgrade() {
            return there;
        }
        let sentinels = Arc::clone(self);
        let task = Arc::new(Task::spawn(async move {
            loop {
                let known = sentinels.addresses().clone();
                for sentinel in known {
                    if let Err(failure) = sentinels.hear(&sentinel).await {
                        tracing::debug!(%sentinel, ?failure, "a sentinel is not heard");
                    }
                    sleep(PAUSE).await;
                }
            }
        }));
        *hearing = Arc::downgrade(&task);
        task
    }

    /// Hears a sentinel until the connection to it is lost.
    async fn hear(self: &Arc<Self>, sentinel: &Address) -> Result<(), Failure> {
        let sentinels = Arc::clone(self);
        let pushes = move |push: PushInfo| {
            if push.kind == PushKind::Message
                && let Some(said) = push.data.get(1).and_then(text)
            {
                sentinels.switches.note(&sentinels.primary, said);
            }
            Ok::<(), ()>(())
        };
        let mut dial = self.dial(sentinel, redis::cmd("PING"));
        dial.pushes = Some(Arc::new(pushes));
        let mut opened = dial.open(&self.settings).await?;
        let connection = &mut opened.wire.connection;
        let subscribed = async {
            // It lasts as long as this has the connection, and the sentinel answers.
            let subscribing = timeout(PATIENCE, connection.subscribe(CHANNEL));
            let mut heard = matches!(subscribing.await, Ok(Ok(_)));
            if heard {
                // What it said between the first question and now nobody heard.
                match self.ask(sentinel).await {
                    Ok(named) => self.switches.compare(&self.primary, &named),
                    Err(_) => heard = false,
                }
            }
            while heard {
                sleep(PAUSE).await;
                let ping = redis::cmd("PING");
                let answer = timeout(PATIENCE, connection.send_packed_command(&ping)).await;
                heard = matches!(answer, Ok(Ok(_)));
            }
        };
        tokio::select! {
            () = &mut opened.driver => {}
            () = subscribed => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_was_the_primary_is_none_for_a_while() {
        let switches = Switches::default();
        let [old, new] = ["10.0.0.1:6379", "10.0.0.2:6379"].map(|text| Address::parse(text).unwrap());
        for other in [
            "",
            "mymaster",
            "mymaster 10.0.0.1",
            "another 10.0.0.1 6379 10.0.0.2 6379",
        ] {
            switches.note("mymaster", other);
            assert!(!switches.has_left(&old), "{other}");
        }
        switches.note("mymaster", "mymaster 10.0.0.1 6379 10.0.0.2 6379");
        assert_eq!((switches.has_left(&old), switches.has_left(&new)), (true, false));
        // Back again.
        switches.note("mymaster", "mymaster 10.0.0.2 6379 10.0.0.1 6379");
        assert_eq!((switches.has_left(&old), switches.has_left(&new)), (false, true));
        tokio::time::advance(LEFT).await;
        assert!(!switches.has_left(&new));
    }
    #[tokio::test(start_paused = true)]
    async fn only_a_sentinel_that_knows_of_a_later_failover_is_believed() {
        let switches = Switches::default();
        let [old, new] = ["10.0.0.1:6379", "10.0.0.2:6379"].map(|text| Address::parse(text).unwrap());
        let named = |address: &Address, epoch| Named {
            address: address.clone(),
            epoch,
        };
        switches.compare("mymaster", &named(&new, 9));
        switches.uses(named(&old, 7));
        for other in [named(&old, 8), named(&new, 7), named(&new, 6), named(&new, 0)] {
            switches.compare("mymaster", &other);
            assert!(!switches.has_left(&old), "{other:?}");
        }
        switches.compare("mymaster", &named(&new, 8));
        assert_eq!((switches.has_left(&old), switches.has_left(&new)), (true, false));
    }
}
