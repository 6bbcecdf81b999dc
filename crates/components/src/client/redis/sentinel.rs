//! Sentinels: who the primary is.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::select_all, stream::FuturesUnordered};
use redis::{Cmd, Pipeline, Value};
use tokio::time::{sleep, timeout};

use super::{
    failure::Failure,
    settings::{Address, Connection, Login},
    switch::Switches,
    transport::{Dial, Opened},
};

/// How many sentinels are asked at most.
const MOST: usize = 16;
/// How long a sentinel may take to answer over a connection that stands.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// The pause before a sentinel is asked again while a server that was named does not answer.
const AGAIN: Duration = Duration::from_millis(250);

/// Whom a sentinel calls the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) address: Address,
    /// Counts the failovers: of two sentinels that differ, the one with the higher number knows
    /// better. 0 where the sentinel does not say.
    pub(super) epoch: u64,
}

/// The sentinels that watch a primary.
#[derive(Debug)]
pub(super) struct Sentinels {
    pub(super) primary: String,
    login: Login,
    pub(super) settings: Arc<Connection>,
    /// Those of the settings, then those that they know of.
    addresses: Mutex<Vec<Address>>,
    pub(super) switches: Switches,
}

impl Sentinels {
    pub(super) fn new(primary: String, login: Login, settings: Arc<Connection>) -> Self {
        Self {
            primary,
            login,
            addresses: Mutex::new(settings.addresses.clone()),
            settings,
            switches: Switches::default(),
        }
    }

    /// Asks all sentinels at once and opens a connection to the first server they name that says
    /// itself that it is a primary: some may not have heard of a failover yet. The connection ends
    /// when a sentinel says that another server is the primary. A server that does not answer is left
    /// as soon as a sentinel knows of a later one.
    pub(super) async fn open(self: &Arc<Self>, patience: Option<Duration>) -> Result<Opened, Failure> {
        let tried = Mutex::new(HashSet::new());
        let addresses = self.addresses().clone();
        let tried = &tried;
        let asking = addresses.iter().map(|sentinel| async move {
            let mut named = self.ask(sentinel).await?;
            loop {
                tokio::select! {
                    opened = self.open_named(&named, patience, tried) => return opened,
                    later = self.named_after(&named) => named = later,
                }
            }
        });
        let mut asking: FuturesUnordered<_> = asking.collect();
        let mut failure = None;
        while let Some(found) = asking.next().await {
            match found {
                Ok(Some(opened)) => return Ok(opened),
                Ok(None) => {}
                Err(reason) => failure = Some(reason),
            }
        }
        Err(failure.unwrap_or_else(|| Failure::unavailable("no sentinel names a primary")))
    }

    /// Opens a connection to the server that a sentinel named, unless it is among those `tried`.
    async fn open_named(
        self: &Arc<Self>,
        named: &Named,
        patience: Option<Duration>,
        tried: &Mutex<HashSet<Address>>,
    ) -> Result<Option<Opened>, Failure> {
        let (address, settings) = (&named.address, &*self.settings);
        let refused = |what| Failure::unavailable(format!("redis at {address} is {what}"));
        if self.switches.has_left(address) {
            return Err(refused("the primary no more"));
        }
        let is_new = tried
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address.clone());
        if !is_new {
            return Ok(None);
        }
        let dial = Dial {
            patience,
            greeting: redis::cmd("ROLE"),
            ..Dial::new(address, settings)
        };
        let opened = dial.open(settings).await?;
        match is_primary(&opened.greeting) {
            true => Ok(Some(self.until_it_switches(opened, named.clone()))),
            false => Err(refused("not the primary")),
        }
    }

    /// Waits until a sentinel names another server, which a later failover made the primary.
    async fn named_after(&self, named: &Named) -> Named {
        let is_later = |told: &Named| told.address != named.address && told.epoch > named.epoch;
        let addresses = self.addresses().clone();
        // Each at its own speed: one that hangs holds up none of the others.
        let asking = addresses.iter().map(|sentinel| {
            Box::pin(async move {
                loop {
                    sleep(AGAIN).await;
                    if let Some(later) = self.ask(sentinel).await.ok().filter(is_later) {
                        return later;
                    }
                }
            })
        });
        let (later, ..) = select_all(asking).await;
        later
    }

    fn until_it_switches(self: &Arc<Self>, opened: Opened, named: Named) -> Opened {
        let (left, lasting) = (self.left(named), opened.driver);
        let driver = async move {
            tokio::select! {
                () = lasting => {}
                () = left => {}
            }
        };
        Opened {
            driver: driver.boxed(),
            ..opened
        }
    }

    pub(super) fn addresses(&self) -> std::sync::MutexGuard<'_, Vec<Address>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to a sentinel.
    pub(super) fn dial<'a>(&'a self, sentinel: &'a Address, greeting: Cmd) -> Dial<'a> {
        Dial {
            login: &self.login,
            database: 0,
            greeting,
            ..Dial::new(sentinel, &self.settings)
        }
    }

    /// Asks a sentinel, and learns of the others from it.
    pub(super) async fn ask(&self, sentinel: &Address) -> Result<Named, Failure> {
        let dial = self.dial(sentinel, redis::cmd("PING"));
        let mut opened = dial.open(&self.settings).await?;
        // Together, so that it does not change its mind in between.
        let mut questions = Pipeline::new();
        for question in ["get-master-addr-by-name", "master", "sentinels"] {
            questions.add_command(self.command(question));
        }
        let answers = timeout(PATIENCE, opened.run_all(&questions)).await;
        let answers = answers.map_err(|_| Failure::dial(sentinel, &io::ErrorKind::TimedOut.into()))?;
        let answers = answers.map_err(|error| Failure::greeting(sentinel, &error))?;
        let [told, master, others] = answers.as_slice() else {
            return Err(Failure::unavailable(format!(
                "the sentinel at {sentinel} says too little"
            )));
        };
        let address = address(told).ok_or_else(|| {
            let primary = &self.primary;
            Failure::unavailable(format!("the sentinel at {sentinel} knows no primary {primary:?}"))
        })?;
        self.learn(others);
        let epoch = field(master, "config-epoch").and_then(|epoch| epoch.parse().ok());
        Ok(Named {
            address,
            epoch: epoch.unwrap_or_default(),
        })
    }

    fn command(&self, name: &str) -> Cmd {
        let mut command = redis::cmd("SENTINEL");
        command.arg(name).arg(&self.primary);
        command
    }

    /// Keeps the other sentinels in mind: the one in the settings may be away some day.
    fn learn(&self, others: &Value) {
        let mut addresses = self.addresses();
        for other in items(others) {
            let (Some(ip), Some(port)) = (field(other, "ip"), field(other, "port")) else {
                continue;
            };
            let Some(address) = Address::of(ip, port) else {
                continue;
            };
            if addresses.len() < MOST && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
}

fn is_primary(role: &Value) -> bool {
    // Who may not ask for the role finds out by writing.
    matches!(role, Value::Nil) || items(role).first().and_then(text) == Some("master")
}

fn address(told: &Value) -> Option<Address> {
    match items(told) {
        [host, port] => Address::of(text(host)?, text(port)?),
        _ => None,
    }
}

/// The item after the one that says `name`.
fn field<'a>(told: &'a Value, name: &str) -> Option<&'a str> {
    let mut fields = items(told).iter().skip_while(|field| text(field) != Some(name));
    fields.nth(1).and_then(text)
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}
