//! Whether a broker answers. librdkafka goes on trying for ever; this finds out that it tries in
//! vain, so that callers need not wait for what will not come.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use layotto_core::{Context, Error, ErrorKind, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Connection;
use crate::client::pace::spread;

/// How long a broker may take to answer a question.
const ANSWER: Duration = Duration::from_secs(1);
/// The shortest pause between two questions while no broker answers.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a refused login is taken for refused.
const REFUSED: Duration = Duration::from_secs(1);

/// A request for the API versions, version 0, of a client without a name: length, key 18, version,
/// correlation id, client id (<https://kafka.apache.org/protocol#The_Messages_ApiVersions>).
const QUESTION: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    /// No broker answers.
    Away,
    /// A broker does not accept the login.
    Refused,
}

/// Whether there is a broker.
#[derive(Debug)]
pub(crate) struct Reach {
    brokers: Vec<String>,
    is_plain: bool,
    state: watch::Sender<State>,
    is_asking: AtomicBool,
    runtime: Handle,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Reach {
    pub(crate) fn new(connection: &Connection, cx: &Context) -> Arc<Self> {
        Arc::new(Self {
            brokers: connection.brokers.clone(),
            is_plain: connection.tls.is_none(),
            state: watch::Sender::new(State::Well),
            is_asking: AtomicBool::new(false),
            runtime: Handle::current(),
            tasks: cx.tasks.clone(),
            shutdown: cx.shutdown.clone(),
        })
    }

    /// Fails where it is known that no call would succeed.
    pub(crate) fn check(&self) -> Result<()> {
        match *self.state.borrow() {
            State::Well => Ok(()),
            State::Away => Err(Error::unavailable("no Kafka broker can be reached")),
            State::Refused => Err(Error::new(
                ErrorKind::Unauthenticated,
                "Kafka does not accept the login",
            )),
        }
    }

    /// Waits until no call would succeed; what calls fail with from now on.
    pub(crate) async fn lost(&self) -> Error {
        let mut state = self.state.subscribe();
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks the brokers whether one is there.
    pub(crate) async fn ask(&self) -> Result<()> {
        if let Err(error) = self.check()
            && error.kind() == ErrorKind::Unauthenticated
        {
            return Err(error);
        }
        for broker in &self.brokers {
            if self.answers(broker).await {
                return Ok(());
            }
        }
        Err(Error::unavailable("no Kafka broker answers"))
    }

    /// A client lost a broker: finds out whether another one is left, and if not, when one is back.
    pub(crate) fn suspect(self: &Arc<Self>) {
        if self.is_asking.swap(true, Ordering::SeqCst) {
            return;
        }
        let (reach, shutdown) = (Arc::clone(self), self.shutdown.clone());
        let asking = async move {
            shutdown.run_until_cancelled(reach.wait_for_one()).await;
            reach.is_asking.store(false, Ordering::SeqCst);
        };
        self.tasks.spawn_on(asking, &self.runtime);
    }

    async fn wait_for_one(&self) {
        let mut pauses = 0;
        for broker in self.brokers.iter().cycle() {
            if self.answers(broker).await {
                break;
            }
            pauses += 1;
            // All of them once, then slowly.
            if pauses >= self.brokers.len() {
                self.set(State::Away);
                sleep(spread(PAUSE)).await;
            }
        }
        self.end(State::Away);
    }

    /// A client's login was refused. Only another try can tell whether it still is.
    pub(crate) fn refused(self: &Arc<Self>) {
        self.set(State::Refused);
        let (reach, shutdown) = (Arc::clone(self), self.shutdown.clone());
        let waiting = async move {
            shutdown.run_until_cancelled(sleep(REFUSED)).await;
            reach.end(State::Refused);
        };
        self.tasks.spawn_on(waiting, &self.runtime);
    }

    fn set(&self, new: State) {
        self.state
            .send_if_modified(|state| std::mem::replace(state, new) != new);
    }

    fn end(&self, old: State) {
        self.state.send_if_modified(|state| {
            let over = *state == old;
            if over {
                *state = State::Well;
            }
            over
        });
    }

    async fn answers(&self, broker: &str) -> bool {
        matches!(timeout(ANSWER, self.exchange(broker)).await, Ok(Ok(())))
    }

    async fn exchange(&self, broker: &str) -> io::Result<()> {
        let address = broker.rsplit_once("://").map_or(broker, |(_, address)| address);
        let mut stream = if address.contains(':') {
            TcpStream::connect(address).await?
        } else {
            TcpStream::connect((address, 9092)).await?
        };
        // What speaks TLS answers only to TLS: being there must do.
        if self.is_plain {
            stream.write_all(&QUESTION).await?;
            stream.read_u32().await?;
        }
        Ok(())
    }
}
