//! Many clients at once on one component, each at random by a seed of its own, with everything
//! they do and see recorded in a history.

mod delivery;
mod lock;
mod sequence;
mod state;

use std::{sync::Arc, time::Duration};

use layotto_core::{ErrorKind, Result};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::{
    delivery::messages,
    lock::locks,
    sequence::{Direct, Ids, sequences},
    state::{by_etag, settle, without_condition},
};

/// How clients go about it.
#[derive(Debug, Clone)]
pub struct Load {
    /// What the names of all keys begin with.
    pub name: String,
    /// How many clients there are.
    pub clients: usize,
    /// How many locks, sequences or keys they share.
    pub keys: usize,
    /// What they do at random follows from this.
    pub seed: u64,
    /// The longest pause of a client between two operations.
    pub pause: Duration,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Load {
    /// Fifty clients.
    pub fn new(name: impl Into<String>, seed: u64) -> Self {
        Self {
            name: name.into(),
            clients: 50,
            keys: 10,
            seed,
            pause: Duration::from_millis(20),
            stop: CancellationToken::new(),
        }
    }

    /// Runs the clients until they end.
    async fn run<F>(&self, client: impl Fn(Client) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            clients.spawn(client(Client {
                number,
                random: fastrand::Rng::with_seed(self.seed.wrapping_mul(1000) + number as u64),
                load: Arc::new(self.clone()),
            }));
        }
        while let Some(ended) = clients.join_next().await {
            if let Err(panicked) = ended {
                std::panic::resume_unwind(panicked.into_panic());
            }
        }
    }
}

/// One of the clients.
struct Client {
    number: usize,
    random: fastrand::Rng,
    load: Arc<Load>,
}

impl Client {
    /// Pauses; whether the client goes on.
    async fn goes_on(&mut self) -> bool {
        self.pause(self.load.pause).await;
        !self.load.stop.is_cancelled()
    }

    /// Pauses for as long as chance has it.
    async fn pause(&mut self, longest: Duration) {
        tokio::time::sleep(longest.mul_f64(self.random.f64())).await;
    }

    fn key(&mut self) -> String {
        format!(
            "{}-{}",
            self.load.name,
            self.random.usize(0..self.load.keys.max(1))
        )
    }

    /// A name that no other client and no other operation has.
    fn name(&self, number: usize) -> String {
        format!("c{}-{number}", self.number)
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.random.u8(0..100) < percent
    }
}

/// The answer, where there is one. After a failure that may have had an effect the outcome is not
/// known; a conflict is an answer, and no other failure is to be expected.
fn answer<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer),
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => None,
        Err(error) => panic!("{:?}: {error}", error.kind()),
    }
}
