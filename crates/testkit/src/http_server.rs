//! A small scripted HTTP/1.1 service: the path chooses the answer, every request is recorded.
//!
//! Written on plain TCP, since a test may ask for the exact names and order of header fields.

mod request;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

pub use self::request::Received;
pub(crate) use self::request::{Incoming, RequestReader};

/// A running service; dropping it closes its port and its connections.
///
/// | path | answer |
/// |---|---|
/// | `/status/N` | status N, body `st N` |
/// | `/json` | `{"a":1}` |
/// | `/empty` | no body |
/// | `/bin` | the bytes 0 to 255 |
/// | `/big` | 200000 times `z` |
/// | `/slow`, `/slow1` | `echo:` and the body, after 4 s and 1 s |
/// | `/close` | none, the connection is closed |
/// | `/hdrs` | `echo:` and the body, with odd and repeated header fields |
/// | else | `echo:` and the body |
#[derive(Debug)]
pub struct HttpService {
    /// Where it listens, on loopback.
    pub addr: SocketAddr,
    received: Arc<watch::Sender<Vec<Received>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl HttpService {
    /// Starts a service on a free port.
    ///
    /// # Panics
    /// Where loopback cannot be listened on.
    pub async fn start() -> Self {
        let (listener, addr) = loopback().await;
        let received = Arc::new(watch::Sender::new(Vec::new()));
        let log = received.clone();
        let accepting = tokio::spawn(accept(listener, move |stream| serve(stream, log.clone())));
        Self {
            addr,
            received,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// The base URL, such as `http://127.0.0.1:4242`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests received so far, oldest first.
    pub fn requests(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }

    /// The first request whose path is `path`, awaited for `deadline`.
    pub async fn request_to(&self, path: &str, deadline: Duration) -> Option<Received> {
        let mut changes = self.received.subscribe();
        let wanted = |request: &&Received| request.path() == path;
        let arrived = changes.wait_for(|all| all.iter().any(|request| wanted(&request)));
        let all = tokio::time::timeout(deadline, arrived).await.ok()?.ok()?;
        all.iter().find(wanted).cloned()
    }
}

/// A listener on a free port of loopback.
pub(crate) async fn loopback() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a test needs a port on loopback");
    let addr = listener
        .local_addr()
        .expect("invariant: a bound socket has an address");
    (listener, addr)
}

/// Serves every connection until the future is dropped.
pub(crate) async fn accept<S, F>(listener: TcpListener, serve: S)
where
    S: Fn(TcpStream) -> F + Send,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream))),
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, received: Arc<watch::Sender<Vec<Received>>>) {
    let (read, mut write) = stream.split();
    let mut requests = RequestReader::new(read);
    loop {
        let request = match requests.next().await {
            Incoming::Request(request) => request,
            Incoming::Malformed => {
                // The connection ends here whether or not the peer reads the answer.
                drop(Answer::status(400).write(&mut write, "GET").await);
                return;
            }
            Incoming::Closed => return,
        };
        received.send_modify(|all| all.push(request.clone()));
        let Some(answer) = answer(&request).await else {
            return;
        };
        if answer.write(&mut write, &request.method).await.is_err() || closes(&request) {
            return;
        }
    }
}

fn closes(request: &Received) -> bool {
    request
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Bytes,
}

impl Answer {
    fn ok(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::ok(format!("st {status}"))
        }
    }

    fn echo(request: &Received) -> Self {
        Self::ok([b"echo:", &request.body[..]].concat())
    }

    async fn write(&self, to: &mut (impl AsyncWrite + Unpin), method: &str) -> std::io::Result<()> {
        let has_no_body = matches!(self.status, 100..200 | 204 | 304);
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        head.push_str("Content-Type: text/plain; charset=utf-8\r\nX-Up: yes\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !has_no_body {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !has_no_body && method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        to.write_all(&bytes).await?;
        to.flush().await
    }
}

async fn answer(request: &Received) -> Option<Answer> {
    let path = request.path();
    if let Some(status) = path
        .strip_prefix("/status/")
        .and_then(|status| status.parse().ok())
    {
        return Some(Answer::status(status));
    }
    Some(match path {
        "/json" => Answer::ok(r#"{"a":1}"#),
        "/empty" => Answer::ok(""),
        "/bin" => Answer::ok((0..=255).collect::<Vec<u8>>()),
        "/big" => Answer::ok(vec![b'z'; 200_000]),
        "/slow" => after(Duration::from_secs(4), request).await,
        "/slow1" => after(Duration::from_secs(1), request).await,
        "/close" => return None,
        "/hdrs" => odd_headers(request),
        _ => Answer::echo(request),
    })
}

async fn after(pause: Duration, request: &Received) -> Answer {
    tokio::time::sleep(pause).await;
    Answer::echo(request)
}

fn odd_headers(request: &Received) -> Answer {
    let mut answer = Answer::echo(request);
    answer.headers = vec![
        ("X-Multi", "a"),
        ("X-UPPER-Case", "V"),
        ("te", "x"),
        ("user-agent", "up"),
        ("grpc-status", "5"),
        ("x-bin-bin", "aGk="),
        ("X-Multi", "b"),
    ];
    answer
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests;
