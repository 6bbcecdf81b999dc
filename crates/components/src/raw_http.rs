//! For tests: an HTTP/1.1 server that shows the bytes it got and sends the bytes it is told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Sends these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends nothing and keeps the connection.
    Wait,
}

impl Answer {
    /// A complete response with further header lines, each ended by a line break.
    pub(crate) fn response(status: &str, lines: &str, body: &str) -> Self {
        let length = body.len();
        Self::Send(format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {length}\r\n\r\n{body}").into())
    }
}

pub(crate) struct RawHttp {
    pub(crate) address: SocketAddr,
    requests: mpsc::Receiver<String>,
    connections: Arc<AtomicUsize>,
}

impl RawHttp {
    pub(crate) async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::channel(256);
        let connections = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (Arc::new(answer), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer.clone(), seen.clone()));
            }
        });
        Self {
            address,
            requests,
            connections,
        }
    }

    /// The next request, as it came.
    pub(crate) async fn request(&mut self) -> String {
        self.requests.recv().await.unwrap()
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(&str) -> Answer>, seen: mpsc::Sender<String>) {
    while let Some(request) = read(&mut stream).await {
        let answer = answer(&request);
        seen.send(request).await.ok();
        match answer {
            Answer::Send(bytes) => stream.write_all(&bytes).await.unwrap_or_default(),
            Answer::SendAndClose(bytes) => return stream.write_all(&bytes).await.unwrap_or_default(),
            Answer::Wait => std::future::pending().await,
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}
