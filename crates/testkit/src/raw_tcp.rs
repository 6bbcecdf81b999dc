//! Records the bytes of HTTP requests exactly as they arrive, and gives every one the same answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use crate::http_server::{Incoming, RequestReader, accept, loopback};

/// An answer with repeated and connection-bound header fields and the body `ok`.
pub const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nX-A: 1\r\nX-A: 2\r\n\
    Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\
    Content-Length: 2\r\n\r\nok";

/// A running recorder; dropping it closes its port and its connections.
#[derive(Debug)]
pub struct RawTcp {
    /// Where it listens, on loopback.
    pub addr: SocketAddr,
    received: Arc<watch::Sender<Vec<Bytes>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl RawTcp {
    /// Starts a recorder on a free port that answers every request with the bytes of `answer`.
    ///
    /// # Panics
    /// Where loopback cannot be listened on.
    pub async fn start(answer: impl Into<Bytes>) -> Self {
        let (listener, addr) = loopback().await;
        let received = Arc::new(watch::Sender::new(Vec::new()));
        let (log, answer) = (received.clone(), answer.into());
        let serve = move |stream| record(stream, log.clone(), answer.clone());
        Self {
            addr,
            received,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accept(listener, serve))),
        }
    }

    /// The requests received so far, oldest first.
    pub fn requests(&self) -> Vec<Bytes> {
        self.received.borrow().clone()
    }

    /// Waits for `count` requests; the requests so far when `deadline` passes first.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> Vec<Bytes> {
        let mut changes = self.received.subscribe();
        let arrived = changes.wait_for(|all| all.len() >= count);
        drop(tokio::time::timeout(deadline, arrived).await);
        self.requests()
    }
}

async fn record(mut stream: TcpStream, received: Arc<watch::Sender<Vec<Bytes>>>, answer: Bytes) {
    let (read, mut write) = stream.split();
    let mut requests = RequestReader::new(read);
    while let Incoming::Request(request) = requests.next().await {
        received.send_modify(|all| all.push(request.raw));
        if write.write_all(&answer).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn records_bytes_and_answers_each_request() {
        let recorder = RawTcp::start(ANSWER).await;
        let mut stream = TcpStream::connect(recorder.addr).await.unwrap();
        let request = b"POST /x HTTP/1.1\r\nweird-NAME:  v\r\nContent-Length: 3\r\n\r\n\0\xff1";
        for _ in 0..2 {
            stream.write_all(request).await.unwrap();
            let mut answer = vec![0; ANSWER.len()];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, ANSWER.as_bytes());
        }
        let all = recorder.wait_for(2, Duration::from_secs(5)).await;
        assert_eq!(all, vec![Bytes::from_static(request); 2]);
    }
}
