//! Asks the application, every few seconds, whether it is well.

use std::{io, sync::Arc, time::Duration};

use layotto_core::health::Indicator;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::link::{Address, Link};

/// How the application is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// `grpc.health.v1` on the callback channel, with an empty service; an application without it is
    /// well while it is connected.
    Grpc,
    /// `GET` of the path on the callback port; any 2xx is well.
    Http(String),
    /// A connection to the callback port.
    Tcp,
}

/// `app.health_probe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthProbe {
    /// How it is asked.
    pub kind: ProbeKind,
    /// The time from one question to the next; default 5 s.
    pub interval: Duration,
    /// Longest time for an answer; default 500 ms.
    pub timeout: Duration,
    /// Failures in a row until the application counts as DOWN; default 3, at least 1.
    pub threshold: u32,
}

impl HealthProbe {
    /// A probe of `kind` with the default times.
    pub fn new(kind: ProbeKind) -> Self {
        Self {
            kind,
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
            threshold: 3,
        }
    }
}

/// Probes until shutdown; deliveries pause while the application is not UP.
pub(super) async fn run(config: HealthProbe, address: Address, link: Arc<Link>, indicator: Indicator) {
    let shutdown = link.shutdown().clone();
    shutdown
        .run_until_cancelled(watch(&config, &address, &link, &indicator))
        .await;
}

async fn watch(config: &HealthProbe, address: &Address, link: &Link, indicator: &Indicator) {
    // A period of zero panics.
    let mut tick = interval(config.interval.max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0_u32;
    let mut was_up = false;
    loop {
        tick.tick().await;
        match ask(config, address, link).await {
            Ok(()) => {
                (failures, was_up) = (0, true);
                indicator.up();
                link.set_well(true);
            }
            Err(reason) => {
                failures = failures.saturating_add(1);
                // INIT until the first answer, however long that takes.
                if was_up && failures >= config.threshold {
                    indicator.down(reason);
                    link.set_well(false);
                }
            }
        }
    }
}

async fn ask(config: &HealthProbe, address: &Address, link: &Link) -> Result<(), String> {
    let asked = async {
        match &config.kind {
            ProbeKind::Grpc => ask_grpc(link).await,
            ProbeKind::Http(path) => ask_http(address, path).await.map_err(|error| error.to_string()),
            ProbeKind::Tcp => address.dial().await.map(drop).map_err(|error| error.to_string()),
        }
    };
    timeout(config.timeout, asked)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn ask_grpc(link: &Link) -> Result<(), String> {
    let connection = link.current().ok_or("not connected")?;
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let answer = HealthClient::new(connection.channel).check(request).await;
    match answer.map(|response| response.into_inner().status()) {
        Ok(ServingStatus::Serving) => Ok(()),
        Ok(status) => Err(status.as_str_name().to_owned()),
        Err(status) if status.code() == Code::Unimplemented => Ok(()),
        Err(status) => Err(failure(&status)),
    }
}

fn failure(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

async fn ask_http(address: &Address, path: &str) -> io::Result<()> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let request = format!("GET {slash}{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut stream = address.dial().await?;
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200`: the rest of the answer does not matter.
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    match head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2', _, _] => Ok(()),
        _ => Err(io::Error::other(format!(
            "answered {:?}",
            String::from_utf8_lossy(&head)
        ))),
    }
}
