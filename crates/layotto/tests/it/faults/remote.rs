//! The building blocks of a sidecar as a client of the API has them: every call over gRPC, with a
//! deadline, and with its code and its time looked at.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use layotto_core::{Error, ErrorKind, Result};
use layotto_proto::runtime::v1::runtime_client::RuntimeClient;
use tokio::net::TcpStream;
use tonic::{Code, Request, Response, Status};
use tower::util::BoxCloneSyncService;

/// What every call may take.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// How late an answer may be on a machine that does much else.
pub const SLACK: Duration = Duration::from_millis(500);
/// When a call is given up that is never answered.
const NEVER: Duration = Duration::from_secs(10);

type Service = BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<hyper::body::Incoming>,
    hyper::Error,
>;
pub type Client = RuntimeClient<Service>;

/// Connections to one sidecar.
pub struct Remote {
    clients: Vec<Client>,
    next: AtomicUsize,
    calls: Mutex<Calls>,
}

/// How the calls ended.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    codes: BTreeMap<(&'static str, &'static str), usize>,
    longest: Duration,
    /// Codes that no caller should see, and answers after the deadline.
    pub wrong: Vec<String>,
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calls:")?;
        for ((method, code), count) in &self.codes {
            write!(f, " {method} {code} {count},")?;
        }
        write!(f, " longest {} ms", self.longest.as_millis())
    }
}

impl Calls {
    /// As many as there were of this code.
    pub fn count(&self, code: &str) -> usize {
        let of_code = self.codes.iter().filter(|((_, seen), _)| *seen == code);
        of_code.map(|(_, count)| count).sum()
    }

    fn note(&mut self, method: &'static str, outcome: Result<(), &Status>, took: Duration) {
        let code = outcome.map_or_else(Status::code, |()| Code::Ok);
        *self.codes.entry((method, shown(code))).or_default() += 1;
        self.longest = self.longest.max(took);
        if took > DEADLINE + SLACK {
            self.wrong
                .push(format!("{method} was answered {code:?} after {took:?}"));
        }
        match (code, method) {
            (Code::Ok | Code::Unavailable | Code::DeadlineExceeded, _) | (Code::Aborted, "SaveState") => {}
            _ => self
                .wrong
                .push(format!("{method} was answered {:?}", outcome.unwrap_err())),
        }
    }
}

fn shown(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Aborted => "ABORTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        _ => "WRONG",
    }
}

impl Remote {
    /// Makes so many connections to the sidecar on `port`.
    pub async fn connect(port: u16, connections: usize) -> Self {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(client(port).await);
        }
        Self {
            clients,
            next: AtomicUsize::new(0),
            calls: Mutex::default(),
        }
    }

    /// One of the connections.
    pub fn client(&self) -> Client {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.clients[next % self.clients.len()].clone()
    }

    /// How the calls ended so far.
    pub fn calls(&self) -> Calls {
        self.calls.lock().unwrap().clone()
    }

    /// Leaves out how the calls ended so far, but for what was wrong.
    pub fn forget(&self) {
        let mut calls = self.calls.lock().unwrap();
        *calls = Calls {
            wrong: std::mem::take(&mut calls.wrong),
            ..Calls::default()
        };
    }

    /// Makes a call with a deadline.
    pub async fn call<M, T, F>(
        &self,
        method: &'static str,
        message: M,
        call: impl FnOnce(Client, Request<M>) -> F,
    ) -> Result<Response<T>>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(DEADLINE);
        let begun = Instant::now();
        let answer = tokio::time::timeout(NEVER, call(self.client(), request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::unknown("no answer at all")));
        let outcome = answer.as_ref().map(|_| ());
        self.calls.lock().unwrap().note(method, outcome, begun.elapsed());
        answer.map_err(|status| {
            let kind = match status.code() {
                Code::Aborted => ErrorKind::Conflict,
                Code::DeadlineExceeded => ErrorKind::Timeout,
                // What is wrong with others is noted; what became of the call is not known.
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, status.message())
        })
    }
}

/// A client without timers: tonic's own would hide an answer that comes after the deadline.
async fn client(port: u16) -> Client {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    let service = tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let origin = format!("http://127.0.0.1:{port}").parse().unwrap();
    RuntimeClient::with_origin(BoxCloneSyncService::new(service), origin)
}
