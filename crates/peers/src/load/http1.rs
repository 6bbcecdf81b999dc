//! HTTP/1.1, connections kept; as thin as can be, so that the server is what is measured.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Round, gather};

/// What a load asks for.
#[derive(Debug, Clone)]
pub struct Load {
    /// Whom it asks.
    pub address: SocketAddr,
    /// What it asks for.
    pub path: String,
    /// Connections, each with one request under way.
    pub connections: usize,
    /// How long.
    pub time: Duration,
    /// Mean pause of a connection after each request, good or not. Each has its own, from half to one
    /// and a half of this, so that they do not come in step.
    pub pause: Duration,
}

impl Load {
    /// One connection, for a second, without a pause.
    pub fn new(address: SocketAddr, path: impl Into<String>) -> Self {
        Self {
            address,
            path: path.into(),
            connections: 1,
            time: Duration::from_secs(1),
            pause: Duration::ZERO,
        }
    }
}

/// Runs a load; where a connection is lost, a new one is opened.
pub async fn run(load: &Load) -> Round {
    let begun = Instant::now();
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: load\r\naccept: */*\r\n\r\n",
        load.path, load.address
    );
    let request: Arc<[u8]> = request.into_bytes().into();
    let worker = |number: usize| {
        let share = number as f64 / load.connections as f64;
        let load = Load {
            pause: load.pause.mul_f64(0.5 + share),
            ..load.clone()
        };
        tokio::spawn(work(load, Arc::clone(&request), begun))
    };
    gather((0..load.connections).map(worker).collect(), begun).await
}

async fn work(load: Load, request: Arc<[u8]>, begun: Instant) -> Round {
    let mut round = Round::default();
    let mut connection = None;
    while begun.elapsed() < load.time {
        let start = Instant::now();
        match ask(&mut connection, load.address, &request).await {
            Ok(200) => round.answered(start),
            Ok(status) => round.refused(start, &anyhow::anyhow!("answered {status}")),
            Err(error) => {
                connection = None;
                round.refused(start, &error);
                // A server that is gone must not be flooded with connections.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        if !load.pause.is_zero() {
            tokio::time::sleep(load.pause).await;
        }
    }
    round
}

/// A connection and what was read from it beyond the answer before.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Asks and reads the whole answer; returns its status.
async fn ask(connection: &mut Option<Connection>, address: SocketAddr, request: &[u8]) -> Result<u16> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(connect(address).await?),
    };
    connection.stream.write_all(request).await?;
    let (status, length) = connection.head().await?;
    connection.read_at_least(length).await?;
    connection.buffer.drain(..length);
    Ok(status)
}

async fn connect(address: SocketAddr) -> Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Connection {
        stream,
        buffer: Vec::with_capacity(16 << 10),
    })
}

impl Connection {
    /// Reads the head of an answer; returns its status, and the length of head and body.
    async fn head(&mut self) -> Result<(u16, usize)> {
        let mut read = 1;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.buffer.get(..end).unwrap_or_default();
                let (status, length) = status_and_length(head)?;
                return Ok((status, end + 4 + length));
            }
            self.read_at_least(read).await?;
            read = self.buffer.len() + 1;
        }
    }

    async fn read_at_least(&mut self, length: usize) -> Result<()> {
        while self.buffer.len() < length {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "connection closed"
            );
        }
        Ok(())
    }
}

/// What the head of an answer says.
fn status_and_length(head: &[u8]) -> Result<(u16, usize)> {
    let mut lines = std::str::from_utf8(head)?.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    ensure!(first.next() == Some("HTTP/1.1"), "not HTTP/1.1");
    let status = first.next().context("no status")?.parse()?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("no content-length")?;
    Ok((status, length.1.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_needs_a_status_and_a_length() {
        let read = |head: &str| status_and_length(head.as_bytes()).ok();
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 12"), Some((200, 12)));
        assert_eq!(read("HTTP/1.1 503 Busy\r\ncontent-length: 0"), Some((503, 0)));
        assert_eq!(read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"), None);
    }

    #[tokio::test]
    async fn a_load_counts_what_the_origin_saw() {
        let origin = crate::origin::Origin::start().await.unwrap();
        let load = Load {
            connections: 2,
            time: Duration::from_millis(50),
            ..Load::new(origin.address, "/bytes/100")
        };
        let round = run(&load).await;
        assert_eq!((round.failed, round.calls), (0, origin.requests()));
        assert!(round.calls > 0);
    }
}
