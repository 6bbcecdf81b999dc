//! The writers: one task per file, which gets its lines through a bounded queue.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::{output::Output, roller::Roller};

/// How many lines may wait for the writer; what comes beyond is dropped and counted.
const QUEUE: usize = 2048;

/// Bytes that are written at once.
const BUFFER: usize = 64 << 10;

/// How long a line may wait in the buffer.
const FLUSH: Duration = Duration::from_secs(1);

/// The shortest time between two complaints about one file.
const COMPLAINT: Duration = Duration::from_secs(30);

/// The files of all access logs: two logs of one path share a writer. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    roller: Roller,
    open: Mutex<HashMap<PathBuf, Weak>>,
}

#[derive(Debug)]
struct Weak {
    queue: mpsc::WeakSender<Message>,
    dropped: Arc<AtomicU64>,
    paused: Arc<AtomicBool>,
}

/// The way to one file; the file is closed, and what waits is written, when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Sink {
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
    paused: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Message {
    Line(String),
    Flush(oneshot::Sender<()>),
    Reopen(oneshot::Sender<()>),
}

impl Files {
    /// No file yet; those opened are rolled as `roller` says.
    pub fn new(roller: Roller) -> Self {
        Self(Arc::new(Inner {
            roller,
            open: Mutex::default(),
        }))
    }

    /// Opens a file for appending, `stdout` or `stderr`, or shares the one that is open.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(&self, path: &Path) -> io::Result<Sink> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = open.get(path).and_then(Weak::upgrade) {
            return Ok(sink);
        }
        let output = Output::open(path, &self.0.roller)?;
        let (queue, messages) = mpsc::channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let writer = Writer {
            path: path.to_owned(),
            file: Some((output, Vec::new())),
            dropped: Arc::clone(&dropped),
            told: 0,
            complained: None,
        };
        tokio::spawn(writer.run(messages));
        open.retain(|_, weak| weak.queue.strong_count() > 0);
        let weak = Weak {
            queue: queue.downgrade(),
            dropped: Arc::clone(&dropped),
            paused: Arc::default(),
        };
        let paused = Arc::clone(&weak.paused);
        open.insert(path.to_owned(), weak);
        Ok(Sink {
            queue,
            dropped,
            paused,
        })
    }

    /// Opens all files anew: another program has moved them away. Returns when that is done.
    pub async fn reopen(&self) {
        self.ask_all(Message::Reopen).await;
    }

    /// Writes what waits; returns when it is written.
    pub async fn flush(&self) {
        self.ask_all(Message::Flush).await;
    }

    /// Writes the lines of the file at `path`, or none until told otherwise. Returns whether there
    /// is such a file.
    pub fn set_written(&self, path: &Path, written: bool) -> bool {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.get(path).filter(|weak| weak.queue.strong_count() > 0);
        found.is_some_and(|weak| {
            weak.paused.store(!written, Relaxed);
            true
        })
    }

    /// All at once: one that cannot be written must not hold up the others.
    async fn ask_all(&self, message: fn(oneshot::Sender<()>) -> Message) {
        let sinks = self.sinks();
        join_all(sinks.iter().map(|sink| sink.ask(message))).await;
    }

    fn sinks(&self) -> Vec<Sink> {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().filter_map(Weak::upgrade).collect()
    }
}

impl Weak {
    fn upgrade(&self) -> Option<Sink> {
        Some(Sink {
            queue: self.queue.upgrade()?,
            dropped: Arc::clone(&self.dropped),
            paused: Arc::clone(&self.paused),
        })
    }
}

impl Sink {
    /// Hands a line over, with its end; never waits. If too many wait already, it is dropped.
    pub fn write(&self, line: String) {
        if self.paused.load(Relaxed) {
            return;
        }
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// How many lines were dropped so far, as too many waited or the file could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    async fn ask(&self, message: fn(oneshot::Sender<()>) -> Message) {
        let (done, answer) = oneshot::channel();
        if self.queue.send(message(done)).await.is_ok() {
            // A writer that ended has written everything.
            answer.await.unwrap_or_default();
        }
    }
}

struct Writer {
    path: PathBuf,
    /// The file and what is to be written to it; `None`: the runtime is ending.
    file: Option<(Output, Vec<u8>)>,
    dropped: Arc<AtomicU64>,
    told: u64,
    complained: Option<Instant>,
}

impl Writer {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut due = None;
        while self.file.is_some() {
            let message = tokio::select! {
                message = messages.recv() => message,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.flush().await;
                    due = None;
                    continue;
                }
            };
            match message {
                Some(Message::Line(line)) => self.line(&line, &mut due).await,
                Some(Message::Flush(done)) => {
                    self.flush().await;
                    done.send(()).unwrap_or_default();
                }
                Some(Message::Reopen(done)) => {
                    self.flush().await;
                    self.reopen().await;
                    done.send(()).unwrap_or_default();
                }
                None => return self.flush().await,
            }
        }
    }

    async fn line(&mut self, line: &str, due: &mut Option<Instant>) {
        let Some((_, buffer)) = &mut self.file else { return };
        buffer.extend_from_slice(line.as_bytes());
        if buffer.len() >= BUFFER {
            self.flush().await;
            *due = None;
        } else {
            due.get_or_insert_with(|| Instant::now() + FLUSH);
        }
    }

    async fn flush(&mut self) {
        self.on_file(|file, buffer| {
            let lines = buffer.iter().filter(|byte| **byte == b'\n').count();
            let written = match buffer.is_empty() {
                true => Ok(()),
                false => file.write(buffer),
            };
            buffer.clear();
            written.map_err(|error| (error, u64::try_from(lines).unwrap_or_default()))
        })
        .await;
    }

    async fn reopen(&mut self) {
        self.on_file(|file, _| file.reopen().map_err(|error| (error, 0)))
            .await;
    }

    /// Works on the file where it may block, and complains about what went wrong.
    async fn on_file<F>(&mut self, work: F)
    where
        F: FnOnce(&mut Output, &mut Vec<u8>) -> Result<(), (io::Error, u64)> + Send + 'static,
    {
        let Some((mut file, mut buffer)) = self.file.take() else {
            return;
        };
        let worked = spawn_blocking(move || {
            let worked = work(&mut file, &mut buffer);
            (file, buffer, worked)
        });
        let worked: Result<_, JoinError> = worked.await;
        let Ok((file, buffer, worked)) = worked else {
            return;
        };
        self.file = Some((file, buffer));
        let error = worked.err().map(|(error, lines)| {
            self.dropped.fetch_add(lines, Relaxed);
            error
        });
        self.complain(error.as_ref());
    }

    /// Says that lines are lost, at a limited rate.
    fn complain(&mut self, error: Option<&io::Error>) {
        let dropped = self.dropped.load(Relaxed);
        let quiet = self.complained.is_some_and(|last| last.elapsed() < COMPLAINT);
        if quiet || (error.is_none() && dropped == self.told) {
            return;
        }
        let error = error.map(|error| error as &dyn std::error::Error);
        let lines = dropped - self.told;
        tracing::warn!(path = %self.path.display(), lines, error, "access log lost lines");
        self.told = dropped;
        self.complained = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_in_the_file_a_second_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let sink = Files::default().open(&path).unwrap();
        sink.write("one\n".into());
        let begin = Instant::now();
        while fs::read_to_string(&path).unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!((1000..2000).contains(&begin.elapsed().as_millis()));
    }

    #[tokio::test]
    async fn two_logs_of_one_path_share_a_writer_and_a_flush_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let files = Files::default();
        let (first, second) = (files.open(&path).unwrap(), files.open(&path).unwrap());
        first.write("one\n".into());
        second.write("two\n".into());
        files.flush().await;
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert!(first.queue.same_channel(&second.queue));
    }

    #[tokio::test]
    async fn a_file_can_be_left_out_and_taken_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let files = Files::default();
        let sink = files.open(&path).unwrap();
        assert!(files.set_written(&path, false));
        sink.write("one\n".into());
        assert!(files.set_written(&path, true));
        sink.write("two\n".into());
        files.flush().await;
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert!(!files.set_written(&folder.path().join("other"), true));
    }

    #[tokio::test]
    async fn lines_after_a_reopen_are_in_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("a.log"), folder.path().join("moved"));
        let files = Files::default();
        let sink = files.open(&path).unwrap();
        sink.write("one\n".into());
        fs::rename(&path, &moved).unwrap();
        files.reopen().await;
        sink.write("two\n".into());
        files.flush().await;
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[tokio::test]
    async fn what_exceeds_the_queue_is_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let files = Files::default();
        let sink = files.open(&path).unwrap();
        // This test has one thread: the writer does not run before the flush is awaited.
        for _ in 0..QUEUE + 3 {
            sink.write("line\n".into());
        }
        assert_eq!(sink.dropped(), 3);
        files.flush().await;
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), QUEUE);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_loses_lines_and_nothing_else() {
        let files = Files::default();
        let sink = files.open(Path::new("/dev/full")).unwrap();
        sink.write("one\n".into());
        files.flush().await;
        assert_eq!(sink.dropped(), 1);
        sink.write("two\n".into());
        files.flush().await;
        assert_eq!(sink.dropped(), 2);
    }

    #[tokio::test]
    async fn the_last_sink_closes_the_file_after_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let files = Files::default();
        let sink = files.open(&path).unwrap();
        sink.write("one\n".into());
        let weak = sink.queue.downgrade();
        drop(sink);
        assert_eq!(weak.strong_count(), 0);
        while fs::read_to_string(&path).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(files.sinks().is_empty());
    }
}
