//! Unary gRPC calls over HTTP/2, with messages made beforehand.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request, Uri};
use tokio::net::TcpStream;

use super::{Round, gather};

/// What a load asks for.
#[derive(Debug, Clone)]
pub struct Load {
    /// Whom it asks.
    pub address: SocketAddr,
    /// `/package.Service/Method`.
    pub method: String,
    /// The message, with the five bytes before it: see [`message`].
    pub message: Bytes,
    /// Connections.
    pub connections: usize,
    /// Calls under way on each.
    pub streams: usize,
    /// How long.
    pub time: Duration,
}

impl Load {
    /// One call after another on one connection, for a second.
    pub fn new(address: SocketAddr, method: impl Into<String>, message: Bytes) -> Self {
        Self {
            address,
            method: method.into(),
            message,
            connections: 1,
            streams: 1,
            time: Duration::from_secs(1),
        }
    }
}

/// A message as gRPC sends it: not compressed, its length, itself.
pub fn message(content: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(content.len() + 5);
    message.put_u8(0);
    message.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    message.put_slice(content);
    message.freeze()
}

/// Runs a load. A connection that is lost is opened anew.
pub async fn run(load: &Load) -> Round {
    let begun = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..load.connections {
        let load = load.clone();
        workers.push(tokio::spawn(connection(load, begun)));
    }
    gather(workers, begun).await
}

async fn connection(load: Load, begun: Instant) -> Round {
    let mut total = Round::default();
    while begun.elapsed() < load.time {
        let client = match Client::connect(load.address).await {
            Ok(client) => client,
            Err(error) => {
                total.fail(&error);
                tokio::task::yield_now().await;
                continue;
            }
        };
        let worker = |_| tokio::spawn(work(client.clone(), load.clone(), begun));
        let round = gather((0..load.streams).map(worker).collect(), begun).await;
        total.add(round);
    }
    total
}

/// Until the time is up, or the connection is lost.
async fn work(mut client: Client, load: Load, begun: Instant) -> Round {
    let mut round = Round::default();
    while begun.elapsed() < load.time {
        let start = Instant::now();
        match client.call(&load.method, &load.message).await {
            Ok(_) => round.answered(start),
            Err(error) => {
                round.refused(start, &error);
                if client.is_lost(&error) {
                    break;
                }
            }
        }
    }
    round
}

/// One connection; clones share it. It is closed when the last is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    requests: SendRequest<Bytes>,
    authority: String,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Where nothing listens, or it does not speak HTTP/2.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(stream)
            .await?;
        tokio::spawn(connection);
        Ok(Self {
            requests,
            authority: address.to_string(),
        })
    }

    /// Makes a unary call; returns the answer with its five bytes before it.
    ///
    /// # Errors
    /// For any status but 0, and for all that keeps the call from its end.
    pub async fn call(&mut self, method: &str, message: &Bytes) -> Result<Bytes> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(method)
            .build()?;
        let request = Request::post(uri)
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut body) = requests.send_request(request, false)?;
        body.send_data(message.clone(), true)?;
        read(response.await?).await
    }

    /// Gets `path`, by plain HTTP/2; returns the body.
    ///
    /// # Errors
    /// For any status but 200, and for all that keeps the request from its end.
    pub async fn get(&mut self, path: &str) -> Result<Bytes> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(path)
            .build()?;
        let request = Request::get(uri).version(http::Version::HTTP_2).body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, _) = requests.send_request(request, true)?;
        let (_, body) = content(response.await?).await?;
        Ok(body)
    }

    fn is_lost(&self, error: &anyhow::Error) -> bool {
        error
            .downcast_ref::<h2::Error>()
            .is_some_and(|error| error.is_go_away() || error.is_io() || !error.is_reset())
    }
}

/// The fields at the end of an answer, those of its head where it has no others, and its body.
async fn content(response: http::Response<h2::RecvStream>) -> Result<(HeaderMap, Bytes)> {
    ensure!(response.status() == 200, "answered {}", response.status());
    let (head, mut body) = response.into_parts();
    let mut answer = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        answer.extend_from_slice(&part);
    }
    let trailers = body.trailers().await?;
    Ok((trailers.unwrap_or(head.headers), answer.freeze()))
}

async fn read(response: http::Response<h2::RecvStream>) -> Result<Bytes> {
    let (fields, answer) = content(response).await?;
    let status = fields.get("grpc-status").context("no grpc-status")?;
    ensure!(
        status == "0",
        "status {status:?}: {:?}",
        fields.get("grpc-message")
    );
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_load_counts_what_the_origin_saw() {
        let origin = crate::origin::Origin::start().await.unwrap();
        let load = Load {
            connections: 2,
            streams: 3,
            time: Duration::from_millis(50),
            ..Load::new(origin.address, "/a.B/C", message(b"hello"))
        };
        let round = run(&load).await;
        assert_eq!((round.failed, round.calls), (0, origin.requests()));
        assert!(round.calls > 0);
    }
}
