//! A connection that ends when the server owes an answer for too long.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::wire::{Busy, Calls};

/// The slowest that a request is taken to travel, in bytes a second.
const SLOWEST: u64 = 1 << 20;

/// Fails reads with [`io::ErrorKind::ConnectionAborted`] once nothing has come back for `patience`:
/// since the first write that nothing came back for, or since something did and did not end the
/// waiting of all callers.
///
/// Whoever multiplexes calls gives them up one by one, at their deadlines; that the connection
/// itself is dead shows here alone.
pub(super) struct Watched<S> {
    inner: S,
    patience: Option<Duration>,
    calls: Calls,
    owed: Option<Owed>,
    timer: Pin<Box<Sleep>>,
}

/// What was written and may not have been answered.
#[derive(Debug, Clone, Copy)]
struct Owed {
    since: Instant,
    bytes: u64,
    /// Where something was read since: answers are owed only as long as this goes on.
    busy: Option<Busy>,
}

impl<S> Watched<S> {
    /// Without `patience` a server may owe an answer for ever.
    pub(super) fn new(inner: S, patience: Option<Duration>, calls: Calls) -> Self {
        Self {
            inner,
            patience,
            calls,
            owed: None,
            timer: Box::pin(sleep_until(Instant::now())),
        }
    }

    fn owed(&self) -> Option<Owed> {
        let is_owed = |owed: &Owed| owed.busy.is_none() || owed.busy == self.calls.busy();
        self.owed.filter(is_owed)
    }

    fn deadline(&self) -> Option<Instant> {
        let (owed, patience) = (self.owed()?, self.patience?);
        Some(owed.since + patience + Duration::from_millis(owed.bytes * 1000 / SLOWEST))
    }

    /// Ready once the answer is overdue. The timer is set anew only when it has run down or runs
    /// too late: most answers come long before, and setting it costs more than leaving it.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline() else {
            return Poll::Pending;
        };
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(cx));
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        self.timer.as_mut().reset(deadline);
        self.timer.as_mut().poll(cx)
    }

    fn wrote(&mut self, count: usize, cx: &mut Context<'_>) {
        let bytes = u64::try_from(count).unwrap_or(u64::MAX);
        self.owed = self.owed();
        match &mut self.owed {
            Some(owed) => owed.bytes = owed.bytes.saturating_add(bytes),
            None => {
                self.owed = Some(Owed {
                    since: Instant::now(),
                    bytes,
                    busy: None,
                });
                // Registers the timer; the read that it wakes finds out.
                let _ = self.poll_overdue(cx).is_ready();
            }
        }
    }

    fn was_read(&mut self) {
        // Some of what was written may still be on its way, and less with each answer.
        let bytes = self.owed.map_or(0, |owed| owed.bytes / 2);
        self.owed = self.calls.busy().map(|busy| Owed {
            since: Instant::now(),
            bytes,
            busy: Some(busy),
        });
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.inner).poll_read(cx, buffer) {
            if buffer.filled().len() > before {
                self.was_read();
            }
            return Poll::Ready(result);
        }
        ready!(self.poll_overdue(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the server does not answer",
        )))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.wrote(count, cx);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u8> {
        stream.read_u8().await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_owed_too_long_ends_the_connection() {
        let (near, _far) = duplex(64);
        let mut near = Watched::new(near, Some(PATIENCE), Calls::default());
        near.write_all(b"?").await.unwrap();
        let asked = Instant::now();
        // Asking more does not put off the end.
        tokio::time::sleep(PATIENCE / 2).await;
        near.write_all(b"?").await.unwrap();
        let error = read(&mut near).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(
            asked.elapsed() < PATIENCE + Duration::from_millis(10),
            "{:?}",
            asked.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_owed_or_answers_come_nothing_ends() {
        let (near, mut far) = duplex(64);
        let mut near = Watched::new(near, Some(PATIENCE), Calls::default());
        for _ in 0..3 {
            let quiet = tokio::time::timeout(PATIENCE * 3, read(&mut near)).await;
            assert!(quiet.is_err(), "{quiet:?}");
            near.write_all(b"?").await.unwrap();
            tokio::time::sleep(PATIENCE * 2 / 3).await;
            far.write_all(b"!").await.unwrap();
            read(&mut near).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn much_takes_longer_to_travel() {
        let (near, _far) = duplex(4 << 20);
        let mut near = Watched::new(near, Some(PATIENCE), Calls::default());
        near.write_all(&vec![0; 2 << 20]).await.unwrap();
        let asked = Instant::now();
        read(&mut near).await.unwrap_err();
        assert!(
            asked.elapsed() >= PATIENCE + Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_an_answer_may_be_owed_for_ever() {
        let (near, _far) = duplex(64);
        let mut near = Watched::new(near, None, Calls::default());
        near.write_all(b"?").await.unwrap();
        assert!(
            tokio::time::timeout(PATIENCE * 1000, read(&mut near))
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_part_of_an_answer_the_rest_is_owed_as_long_as_somebody_waits() {
        let (near, mut far) = duplex(64);
        let calls = Calls::default();
        let mut near = Watched::new(near, Some(PATIENCE), calls.clone());
        for _ in 0..2 {
            let waiting = calls.begin();
            near.write_all(b"?").await.unwrap();
            for _ in 0..3 {
                tokio::time::sleep(PATIENCE * 2 / 3).await;
                far.write_all(b"!").await.unwrap();
                read(&mut near).await.unwrap();
            }
            drop(waiting);
            let quiet = tokio::time::timeout(PATIENCE * 3, read(&mut near)).await;
            assert!(quiet.is_err(), "{quiet:?}");
        }
        let waiting = calls.begin();
        near.write_all(b"?").await.unwrap();
        far.write_all(b"!").await.unwrap();
        read(&mut near).await.unwrap();
        let asked = Instant::now();
        read(&mut near).await.unwrap_err();
        assert!(
            asked.elapsed() < PATIENCE + Duration::from_millis(10),
            "{:?}",
            asked.elapsed()
        );
        drop(waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_after_an_answer_has_its_whole_time() {
        let (near, mut far) = duplex(64);
        let calls = Calls::default();
        let mut near = Watched::new(near, Some(PATIENCE), calls.clone());
        for _ in 0..3 {
            let waiting = calls.begin();
            near.write_all(b"?").await.unwrap();
            tokio::time::sleep(PATIENCE * 9 / 10).await;
            far.write_all(b"!").await.unwrap();
            read(&mut near).await.unwrap();
            drop(waiting);
            let quiet = tokio::time::timeout(PATIENCE * 9 / 10, read(&mut near)).await;
            assert!(quiet.is_err(), "{quiet:?}");
        }
    }
}
