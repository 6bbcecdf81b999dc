//! The load: calls over many streams at once (closed loop), or at a fixed rate (open loop).

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use layotto_proto::runtime::v1::{
    CommonInvokeRequest, GetNextIdRequest, GetStateRequest, HttpExtension, InvokeServiceRequest,
    SaveStateRequest, SayHelloRequest, StateItem, TryLockRequest, UnlockRequest,
    runtime_client::RuntimeClient,
};
use tonic::transport::{Channel, Endpoint};

/// What one round measured.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Calls answered.
    pub calls: u64,
    /// Time it took.
    pub took: Duration,
    /// Latency of each call counted, sorted.
    pub latencies: Vec<Duration>,
}

impl Round {
    /// The latency that `share` of all calls keep.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

/// One kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// SayHello with a name of so many bytes.
    Hello(usize),
    /// GetState of key `bench` of the named store.
    State(&'static str),
    /// GetState of any key.
    Get {
        /// The store.
        store: &'static str,
        /// The key.
        key: &'static str,
    },
    /// SaveState of a value of so many bytes.
    Save {
        /// The store.
        store: &'static str,
        /// The key.
        key: &'static str,
        /// Bytes of the value.
        size: usize,
    },
    /// TryLock and Unlock, one after the other, in the named store.
    Lock(&'static str),
    /// GetNextId (weak) of key `bench`.
    Id,
    /// InvokeService with a body of so many bytes.
    Invoke(usize),
}

impl Call {
    async fn make(self, client: &mut RuntimeClient<Channel>) -> Result<(), tonic::Status> {
        match self {
            Self::Hello(size) => {
                let request = SayHelloRequest {
                    service_name: "helloworld".into(),
                    name: "x".repeat(size),
                    data: None,
                };
                client.say_hello(request).await.map(drop)
            }
            Self::State(store) => {
                let request = GetStateRequest {
                    store_name: store.into(),
                    key: "bench".into(),
                    ..GetStateRequest::default()
                };
                client.get_state(request).await.map(drop)
            }
            Self::Get { store, key } => {
                let request = GetStateRequest {
                    store_name: store.into(),
                    key: key.into(),
                    ..GetStateRequest::default()
                };
                client.get_state(request).await.map(drop)
            }
            Self::Save { store, key, size } => client.save_state(saving(store, key, size)).await.map(drop),
            Self::Lock(store) => lock(client, store).await,
            Self::Id => {
                let request = GetNextIdRequest {
                    store_name: "sequencer_memory".into(),
                    key: "bench".into(),
                    ..GetNextIdRequest::default()
                };
                client.get_next_id(request).await.map(drop)
            }
            Self::Invoke(size) => client.invoke_service(invocation(size)).await.map(drop),
        }
    }
}

fn saving(store: &str, key: &str, size: usize) -> SaveStateRequest {
    let item = StateItem {
        key: key.to_owned(),
        value: Bytes::from(vec![b'x'; size]),
        ..StateItem::default()
    };
    SaveStateRequest {
        store_name: store.to_owned(),
        states: vec![item],
    }
}

async fn lock(client: &mut RuntimeClient<Channel>, store: &str) -> Result<(), tonic::Status> {
    let lock = TryLockRequest {
        store_name: store.to_owned(),
        resource_id: "bench".to_owned(),
        lock_owner: "bench".to_owned(),
        expire: 30,
    };
    let unlock = UnlockRequest {
        store_name: store.to_owned(),
        resource_id: "bench".to_owned(),
        lock_owner: "bench".to_owned(),
    };
    let granted = client.try_lock(lock).await?.into_inner().success;
    let status = client.unlock(unlock).await?.into_inner().status;
    if granted && status == 0 {
        return Ok(());
    }
    Err(tonic::Status::aborted(format!(
        "granted: {granted}, unlocked: {status}"
    )))
}

fn invocation(size: usize) -> InvokeServiceRequest {
    let data = prost_types::Any {
        type_url: String::new(),
        value: vec![b'x'; size],
    };
    let extension = HttpExtension {
        verb: 3,
        querystring: String::new(),
    };
    let message = CommonInvokeRequest {
        method: "/echo".into(),
        data: Some(data),
        content_type: "application/octet-stream".into(),
        http_extension: Some(extension),
    };
    InvokeServiceRequest {
        id: "echo".into(),
        message: Some(message),
    }
}

/// Connects once.
pub async fn connect(address: &str) -> anyhow::Result<RuntimeClient<Channel>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .connect()
        .await?;
    Ok(RuntimeClient::new(channel))
}

/// Keeps `streams` calls under way on each of `connections` for `warm_up`, then for `counted`.
pub async fn closed_loop(
    address: &str,
    call: Call,
    connections: usize,
    streams: usize,
    counted: Duration,
) -> anyhow::Result<Round> {
    let mut workers = Vec::new();
    let begun = Instant::now();
    for _ in 0..connections {
        let client = connect(address).await?;
        for _ in 0..streams {
            workers.push(work(client.clone(), call, begun + counted));
        }
    }
    let mut latencies = Vec::new();
    for outcome in join_all(workers).await {
        latencies.extend(outcome?);
    }
    latencies.sort_unstable();
    Ok(Round {
        calls: latencies.len() as u64,
        took: begun.elapsed(),
        latencies,
    })
}

async fn work(
    mut client: RuntimeClient<Channel>,
    call: Call,
    until: Instant,
) -> Result<Vec<Duration>, tonic::Status> {
    let mut latencies = Vec::new();
    loop {
        let begun = Instant::now();
        if begun >= until {
            return Ok(latencies);
        }
        call.make(&mut client).await?;
        latencies.push(begun.elapsed());
    }
}

/// Starts `rate` calls a second, whether or not the ones before were answered; latency counts from
/// the time a call was due.
pub async fn open_loop(address: &str, call: Call, rate: u32, counted: Duration) -> anyhow::Result<Round> {
    let client = connect(address).await?;
    open_loop_of(rate, counted, move || {
        let mut client = client.clone();
        async move { call.make(&mut client).await.map_err(anyhow::Error::from) }
    })
    .await
}

/// The same, of any call.
pub async fn open_loop_of<F, O>(rate: u32, counted: Duration, make: F) -> anyhow::Result<Round>
where
    F: Fn() -> O,
    O: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let pace = Duration::from_secs(1) / rate;
    let total = (counted.as_secs_f64() * f64::from(rate)) as u32;
    let begun = tokio::time::Instant::now();
    let mut calls = Vec::new();
    for number in 0..total {
        let due = begun + pace * number;
        // The timer's grain of a millisecond would hide what is measured.
        while tokio::time::Instant::now() < due {
            tokio::task::yield_now().await;
        }
        let call = make();
        calls.push(tokio::spawn(async move {
            call.await?;
            anyhow::Ok(due.elapsed())
        }));
    }
    let mut latencies = Vec::new();
    for call in calls {
        latencies.push(call.await??);
    }
    latencies.sort_unstable();
    Ok(Round {
        calls: latencies.len() as u64,
        took: begun.elapsed(),
        latencies,
    })
}

/// Writes the value that [`Call::State`] reads.
pub async fn prepare(address: &str, store: &str) -> anyhow::Result<()> {
    save(address, store, "bench", 100).await
}

/// Writes a value of `size` bytes; waits for a store that is not there yet.
pub async fn save(address: &str, store: &str, key: &str, size: usize) -> anyhow::Result<()> {
    let mut client = connect(address).await?;
    let begun = Instant::now();
    while let Err(status) = client.save_state(saving(store, key, size)).await {
        let waiting = status.code() == tonic::Code::Unavailable && begun.elapsed() < Duration::from_secs(5);
        anyhow::ensure!(waiting, "saving to {store}: {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
