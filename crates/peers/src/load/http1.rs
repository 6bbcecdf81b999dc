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
    /// More headers of each request.
    pub headers: Vec<(String, String)>,
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
            headers: Vec::new(),
            connections: 1,
            time: Duration::from_secs(1),
            pause: Duration::ZERO,
        }
    }
}

/// Runs a load; where a connection is lost, a new one is opened.
pub async fn run(load: &Load) -> Round {
    let begun = Instant::now();
    let request: Arc<[u8]> = request("GET", &load.path, load.address, &load.headers, "").into();
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

/// The bytes of a request, for [`Client::ask`].
pub fn request(
    method: &str,
    path: &str,
    address: SocketAddr,
    headers: &[(String, String)],
    body: &str,
) -> Vec<u8> {
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: load\r\naccept: */*\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
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

/// Asks over the connection, or over a new one.
async fn ask(connection: &mut Option<Client>, address: SocketAddr, request: &[u8]) -> Result<u16> {
    let client = match connection {
        Some(client) => client,
        None => connection.insert(Client::connect(address).await?),
    };
    Ok(client.ask(request).await?.status)
}

/// One connection, and what was read from it.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of it is the answer before.
    answered: usize,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Where nothing listens.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 << 10),
            answered: 0,
        })
    }

    /// Sends the bytes of a request, and reads the whole answer.
    ///
    /// # Errors
    /// Where the connection ends, or the answer is none of a known length.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.drain(..self.answered);
        self.answered = 0;
        let (status, head, length) = self.head().await?;
        self.read_at_least(length).await?;
        self.answered = length;
        let body = self.buffer.get(head..length).unwrap_or_default();
        Ok(Answer { status, body })
    }

    /// Reads the head of an answer; returns its status, its length, and the length of head and body.
    async fn head(&mut self) -> Result<(u16, usize, usize)> {
        let mut read = 1;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.buffer.get(..end).unwrap_or_default();
                let (status, length) = status_and_length(head)?;
                return Ok((status, end + 4, end + 4 + length));
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
    async fn a_client_reads_one_answer_after_another() {
        let origin = crate::origin::Origin::start().await.unwrap();
        let mut client = Client::connect(origin.address).await.unwrap();
        let get = |path: &str| request("GET", path, origin.address, &[], "");
        for length in [3, 100_000, 5] {
            let answer = client.ask(&get(&format!("/bytes/{length}"))).await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, length));
        }
    }

    #[test]
    fn a_request_has_its_headers_and_the_length_of_its_body() {
        let address = "127.0.0.1:1".parse().unwrap();
        let more = [("id".to_owned(), "f".to_owned())];
        let text = String::from_utf8(request("POST", "/p", address, &more, "abc")).unwrap();
        assert!(
            text.starts_with("POST /p HTTP/1.1\r\nhost: 127.0.0.1:1\r\n"),
            "{text}"
        );
        assert!(text.ends_with("id: f\r\ncontent-length: 3\r\n\r\nabc"), "{text}");
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
