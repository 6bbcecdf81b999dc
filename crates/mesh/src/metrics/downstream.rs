//! What clients do: the counters of one listener.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    histogram::{Histogram, Reading},
    page::{Figure, Labels, Page, Shape},
};
use crate::connection::Connections;

/// The statuses that are counted one by one.
const CODES: [u16; 13] = [200, 206, 302, 304, 400, 403, 404, 416, 499, 500, 502, 503, 504];

/// The counters of a listener's requests; written without locks.
#[derive(Debug, Default)]
pub struct Downstream {
    requests: AtomicU64,
    reset: AtomicU64,
    failed: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    codes: [AtomicU64; CODES.len()],
    other_code: AtomicU64,
    request_time: Histogram,
    process_time: Histogram,
    connections: Mutex<Option<Connections>>,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the reply, 499 if the client left before there was one.
    pub status: u16,
    /// Whether it was cut before the reply's end, by the client or by an upstream.
    pub reset: bool,
    /// Whether something failed here or at an upstream.
    pub failed: bool,
    /// From its head to the reply's end.
    pub took: Duration,
    /// The part of it that was not spent waiting for an upstream.
    pub processing: Duration,
    /// Bytes of its body.
    pub bytes_read: u64,
    /// Bytes of the reply's body.
    pub bytes_written: u64,
}

/// What the counters were at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    requests: u64,
    reset: u64,
    failed: u64,
    bytes_read: u64,
    bytes_written: u64,
    codes: [u64; CODES.len()],
    other_code: u64,
    request_time: Reading,
    process_time: Reading,
    connections: u64,
    open_connections: u64,
    cut_connections: u64,
}

impl Downstream {
    /// Counts a request that begins.
    pub fn begin(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Counts what became of a request that began.
    pub fn end(&self, outcome: &Outcome) {
        add(&self.reset, outcome.reset.into());
        add(&self.failed, outcome.failed.into());
        add(&self.bytes_read, outcome.bytes_read);
        add(&self.bytes_written, outcome.bytes_written);
        self.request_time.observe(outcome.took);
        self.process_time.observe(outcome.processing);
        match CODES.iter().position(|code| *code == outcome.status) {
            Some(index) => self.codes[index].fetch_add(1, Relaxed),
            None => self.other_code.fetch_add(1, Relaxed),
        };
    }

    /// Shows the listener's connections too.
    pub fn watch(&self, connections: Connections) {
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner) = Some(connections);
    }

    /// Whether none of its connections is open.
    pub(super) fn is_quiet(&self) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.as_ref().is_none_or(|all| all.open() == 0)
    }

    pub(super) fn read(&self) -> Counts {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let open = connections.as_ref().map_or(0, Connections::open);
        let cut = connections.as_ref().map_or(0, Connections::cut);
        Counts {
            requests: self.requests.load(Relaxed),
            reset: self.reset.load(Relaxed),
            failed: self.failed.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            codes: std::array::from_fn(|index| self.codes[index].load(Relaxed)),
            other_code: self.other_code.load(Relaxed),
            request_time: self.request_time.read(),
            process_time: self.process_time.read(),
            connections: connections.as_ref().map_or(0, Connections::accepted),
            open_connections: u64::try_from(open).unwrap_or(u64::MAX),
            cut_connections: cut,
        }
    }
}

/// Most requests have nothing to add.
fn add(counter: &AtomicU64, amount: u64) {
    if amount > 0 {
        counter.fetch_add(amount, Relaxed);
    }
}

impl Counts {
    /// Requests under way: every one that ended has a status.
    fn active(&self) -> u64 {
        let ended = self.codes.iter().sum::<u64>() + self.other_code;
        self.requests.saturating_sub(ended)
    }

    /// Adds those of another listener.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.reset += other.reset;
        self.failed += other.failed;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        for (code, more) in self.codes.iter_mut().zip(other.codes) {
            *code += more;
        }
        self.other_code += other.other_code;
        self.request_time.add(&other.request_time);
        self.process_time.add(&other.process_time);
        self.connections += other.connections;
        self.open_connections += other.open_connections;
        self.cut_connections += other.cut_connections;
    }
}

const KIND: &str = "downstream";

const fn figure(
    key: &'static str,
    shape: Shape,
    help: &'static str,
    read: fn(&Counts) -> u64,
) -> Figure<Counts> {
    Figure {
        key,
        shape,
        help,
        read,
    }
}

#[rustfmt::skip]
const FIGURES: &[Figure<Counts>] = &[
    figure("connection_total", Shape::Counter, "Connections accepted", |c| c.connections),
    figure("connection_destroy", Shape::Growing, "Connections closed", |c| c.connections.saturating_sub(c.open_connections)),
    figure("connection_active", Shape::Gauge, "Connections that are open", |c| c.open_connections),
    figure("connection_cut", Shape::Growing, "Connections cut because their clients wore the server out", |c| c.cut_connections),
    figure("bytes_read_total", Shape::Counter, "Bytes of request bodies", |c| c.bytes_read),
    figure("bytes_write_total", Shape::Counter, "Bytes of reply bodies", |c| c.bytes_written),
    figure("request_total", Shape::Counter, "Requests", |c| c.requests),
    figure("request_active", Shape::Gauge, "Requests under way", Counts::active),
    figure("request_reset", Shape::Growing, "Requests cut before the reply's end", |c| c.reset),
    figure("request_failed", Shape::Growing, "Requests that failed here or at an upstream", |c| c.failed),
    figure("request_time_total", Shape::Growing, "Nanoseconds of all requests", |c| c.request_time.sum()),
    figure("request_time_min", Shape::Gauge, "Nanoseconds of the shortest request", |c| c.request_time.min()),
    figure("request_time_max", Shape::Gauge, "Nanoseconds of the longest request", |c| c.request_time.max()),
    figure("process_time_total", Shape::Growing, "Nanoseconds not spent waiting for an upstream", |c| c.process_time.sum()),
    figure("process_time_min", Shape::Gauge, "Nanoseconds of the shortest processing", |c| c.process_time.min()),
    figure("process_time_max", Shape::Gauge, "Nanoseconds of the longest processing", |c| c.process_time.max()),
    figure("request_200_total", Shape::Counter, "Replies with status 200", |c| c.codes[0]),
    figure("request_206_total", Shape::Counter, "Replies with status 206", |c| c.codes[1]),
    figure("request_302_total", Shape::Counter, "Replies with status 302", |c| c.codes[2]),
    figure("request_304_total", Shape::Counter, "Replies with status 304", |c| c.codes[3]),
    figure("request_400_total", Shape::Counter, "Replies with status 400", |c| c.codes[4]),
    figure("request_403_total", Shape::Counter, "Replies with status 403", |c| c.codes[5]),
    figure("request_404_total", Shape::Counter, "Replies with status 404", |c| c.codes[6]),
    figure("request_416_total", Shape::Counter, "Replies with status 416", |c| c.codes[7]),
    figure("request_499_total", Shape::Counter, "Requests whose client left", |c| c.codes[8]),
    figure("request_500_total", Shape::Counter, "Replies with status 500", |c| c.codes[9]),
    figure("request_502_total", Shape::Counter, "Replies with status 502", |c| c.codes[10]),
    figure("request_503_total", Shape::Counter, "Replies with status 503", |c| c.codes[11]),
    figure("request_504_total", Shape::Counter, "Replies with status 504", |c| c.codes[12]),
    figure("request_other_code", Shape::Growing, "Replies with any other status", |c| c.other_code),
];

pub(super) fn write(page: &mut Page<'_, '_>, rows: &[(Labels, Counts)]) -> Result<(), fmt::Error> {
    for figure in FIGURES {
        page.figure(KIND, figure, rows, |counts| counts)?;
    }
    page.histogram(
        KIND,
        "request_time",
        "Nanoseconds from the request's head to the reply's end",
        rows,
        |row| Some(&row.request_time),
    )?;
    page.histogram(
        KIND,
        "process_time",
        "Nanoseconds of it not spent waiting for an upstream",
        rows,
        |row| Some(&row.process_time),
    )
}
