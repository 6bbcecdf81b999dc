//! The way of a record to the files: a queue bounded in bytes, and one task that empties it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, Release},
        },
    },
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Local};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{
    Business, ConfigDump,
    config::Limits,
    files::{Directory, Files, Kind},
    window::Window,
};

/// How many bytes may wait to be written.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How many records may wait; what a record costs beside its bytes is bounded by it.
const MAX_RECORDS: usize = 8192;

/// How many records are written at once.
const BATCH: usize = 2048;

/// How long records gather before they are written: what is done once for a batch, from waking the
/// task to looking at the files, is not done for each read.
const GATHER: Duration = Duration::from_millis(20);

/// The most bytes of one line; longer reads are cut.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// What a line has besides its bytes, at most.
const LINE_OVERHEAD: usize = 128;

/// How long to be quiet after a failure to write was logged.
const QUIET: Duration = Duration::from_secs(60);

/// What is to be written.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) window: Arc<Window>,
    pub(super) at: SystemTime,
    pub(super) port: u16,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Traffic(Vec<u8>),
    Portrait(Business, String),
}

enum Message {
    Record(Record),
    /// Asks to be told when everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// What became of records.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) overflowed: AtomicU64,
    pub(super) overflowed_bytes: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// The way in.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    sender: mpsc::Sender<Message>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

/// Empties the queue.
pub(super) struct Writer {
    receiver: mpsc::Receiver<Message>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    limits: Limits,
    config: ConfigDump,
    told: Option<Instant>,
}

pub(super) fn queue(limits: Limits, config: ConfigDump) -> (Queue, Writer) {
    let (sender, receiver) = mpsc::channel(MAX_RECORDS);
    let (waiting, counts) = (Arc::<AtomicUsize>::default(), Arc::<Counts>::default());
    let queue = Queue {
        sender,
        waiting: waiting.clone(),
        counts: counts.clone(),
    };
    let writer = Writer {
        receiver,
        waiting,
        counts,
        limits,
        config,
        told: None,
    };
    (queue, writer)
}

impl Queue {
    /// Whether so many bytes would be taken now; if not, they count as lost.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let room = self.waiting.load(Relaxed) + bytes <= MAX_BYTES && self.sender.capacity() > 0;
        if !room {
            self.count_overflow(bytes);
        }
        room
    }

    /// Takes a record, or counts it as lost where there is no room.
    pub(super) fn offer(&self, record: Record) -> bool {
        let bytes = record.what.len();
        let before = self.waiting.fetch_add(bytes, Relaxed);
        let taken = before + bytes <= MAX_BYTES && self.sender.try_send(Message::Record(record)).is_ok();
        if !taken {
            self.waiting.fetch_sub(bytes, Relaxed);
            self.count_overflow(bytes);
        }
        taken
    }

    /// Waits until everything that was taken before is written.
    pub(super) async fn flush(&self) {
        let (done, told) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_ok() {
            // An error says that the writer is gone, and with it what it had.
            told.await.ok();
        }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Counts bytes that are not taken.
    pub(super) fn count_overflow(&self, bytes: usize) {
        self.counts.overflowed.fetch_add(1, Relaxed);
        self.counts.overflowed_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

impl What {
    fn len(&self) -> usize {
        match self {
            Self::Traffic(bytes) => bytes.len(),
            Self::Portrait(_, json) => json.len(),
        }
    }
}

impl Writer {
    /// Writes until nobody can offer anything any more. `directory` is asked for once there is
    /// something to write.
    pub(super) async fn run(mut self, directory: impl Fn() -> Option<Arc<Directory>>) {
        let mut messages = Vec::new();
        while self.receiver.recv_many(&mut messages, BATCH).await > 0 {
            let is_full = messages.len() == BATCH;
            let (mut records, mut flushed) = (Vec::new(), Vec::new());
            for message in messages.drain(..) {
                match message {
                    Message::Record(record) => records.push(record),
                    Message::Flush(done) => flushed.push(done),
                }
            }
            if !records.is_empty() {
                let bytes = records.iter().map(|record| record.what.len()).sum();
                if let Some(directory) = directory() {
                    self.write(directory, records, bytes).await;
                }
                self.waiting.fetch_sub(bytes, Release);
            }
            let waits = flushed.is_empty() && !is_full;
            for done in flushed {
                // Who asked may have gone.
                done.send(()).ok();
            }
            if waits {
                sleep(GATHER).await;
            }
        }
    }

    async fn write(&mut self, directory: Arc<Directory>, records: Vec<Record>, bytes: usize) {
        let (limits, config, count) = (self.limits, self.config.clone(), records.len());
        let path = directory.path().to_owned();
        let written = tokio::task::spawn_blocking(move || write(&directory, &records, limits, &config));
        let outcome = written.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        match outcome {
            Ok(()) => {
                self.counts.written.fetch_add(count as u64, Relaxed);
                self.counts.written_bytes.fetch_add(bytes as u64, Relaxed);
            }
            Err(error) => {
                self.counts.failed.fetch_add(count as u64, Relaxed);
                if self.told.is_none_or(|told| told.elapsed() > QUIET) {
                    self.told = Some(Instant::now());
                    tracing::warn!(directory = %path.display(), %error, "traffic dump cannot be written");
                }
            }
        }
    }
}

fn write(directory: &Directory, records: &[Record], limits: Limits, config: &ConfigDump) -> io::Result<()> {
    let mut files = directory.files();
    let outcome = write_all(&mut files, records, limits, config).and_then(|()| files.flush());
    if outcome.is_err() {
        files.reset();
    }
    outcome
}

fn write_all(files: &mut Files, records: &[Record], limits: Limits, config: &ConfigDump) -> io::Result<()> {
    let mut prefix = Prefix::default();
    let mut line = Vec::new();
    for record in records {
        let id = record.window.id();
        match &record.what {
            What::Traffic(bytes) => {
                for part in bytes.chunks(line_bytes(limits)) {
                    prefix.begin(record.at, &mut line);
                    line.extend_from_slice(format!("[{id}][{}]", record.port).as_bytes());
                    append_hex(part, &mut line);
                    line.push(b'\n');
                    files.append(Kind::Traffic, &line, limits)?;
                }
            }
            What::Portrait(business, json) => {
                prefix.begin(record.at, &mut line);
                let (name, port) = (business.name(), record.port);
                line.extend_from_slice(format!("[{id}][{name}][{port}]").as_bytes());
                end_line(json, &mut line);
                files.append(Kind::Portraits, &line, limits)?;
                prefix.begin(record.at, &mut line);
                append_config(files, id, config, limits, &mut line)?;
            }
        }
    }
    Ok(())
}

/// Appends the configuration where it has changed since the last time, or the file does not have
/// it.
fn append_config(
    files: &mut Files,
    id: &str,
    config: &ConfigDump,
    limits: Limits,
    line: &mut Vec<u8>,
) -> io::Result<()> {
    let config = config();
    let mut hasher = DefaultHasher::new();
    config.hash(&mut hasher);
    let hash = Some(hasher.finish());
    line.extend_from_slice(format!("[{id}]").as_bytes());
    let is_new = files.config != hash || files.size(Kind::Memory)? == 0;
    end_line(if is_new { &config } else { "no_change" }, line);
    files.append(Kind::Memory, line, limits)?;
    files.config = hash;
    Ok(())
}

/// Appends text, on one line whatever it holds.
fn end_line(text: &str, line: &mut Vec<u8>) {
    line.extend(text.bytes().map(|byte| {
        if byte == b'\n' || byte == b'\r' {
            b' '
        } else {
            byte
        }
    }));
    line.push(b'\n');
}

/// How many bytes of traffic a line may have, so that a file holds it.
fn line_bytes(limits: Limits) -> usize {
    let file = usize::try_from(limits.file_bytes).unwrap_or(usize::MAX);
    (file.saturating_sub(LINE_OVERHEAD) / 3).clamp(1, MAX_LINE_BYTES)
}

/// Each byte as it is written, with the space behind it.
const HEX: [[u8; 3]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [[b' '; 3]; 256];
    let mut byte = 0;
    while byte < 256 {
        hex[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15], b' '];
        byte += 1;
    }
    hex
};

fn append_hex(bytes: &[u8], line: &mut Vec<u8>) {
    let start = line.len();
    line.resize(start + bytes.len() * 3, b' ');
    let places = line.get_mut(start..).unwrap_or_default().chunks_exact_mut(3);
    for (place, byte) in places.zip(bytes) {
        place.copy_from_slice(&HEX[usize::from(*byte)]);
    }
    if !bytes.is_empty() {
        line.pop();
    }
}

/// What upstream's logger puts before each line; many of a batch have the same.
#[derive(Default)]
struct Prefix {
    text: String,
    millisecond: Option<u128>,
}

impl Prefix {
    /// Begins a line.
    fn begin(&mut self, at: SystemTime, line: &mut Vec<u8>) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millisecond = Some(since.as_millis());
        if self.millisecond != millisecond {
            let time = DateTime::<Local>::from(at).format("%Y-%m-%d %H:%M:%S,%3f");
            self.text = format!("{time} [INFO] ");
            self.millisecond = millisecond;
        }
        line.clear();
        line.extend_from_slice(self.text.as_bytes());
    }
}

#[cfg(test)]
mod tests;
