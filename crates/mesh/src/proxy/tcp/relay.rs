//! Passes bytes both ways, until both ends are done or nothing moves any more.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    time::sleep,
};

/// What is held of either direction at most.
const BUFFER: usize = 16 * 1024;

/// Into how many parts the idle time is cut.
const PARTS: u32 = 4;

/// The end that a host holds.
pub(super) type Far = Box<dyn Stream>;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Counts what moves.
struct Watched<S> {
    stream: S,
    moved: Arc<AtomicU64>,
}

/// Passes bytes between two ends: the end of one direction is passed on and leaves the other open.
/// Returns how many went `near` to `far`, and back.
pub(super) async fn relay(near: impl Stream, mut far: Far, idle: Option<Duration>) -> io::Result<(u64, u64)> {
    let moved = Arc::new(AtomicU64::new(0));
    let mut near = Watched {
        stream: near,
        moved: moved.clone(),
    };
    tokio::select! {
        biased;
        done = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER) => done,
        () = still(&moved, idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Resolves when nothing moved for `limit`, give or take a quarter.
async fn still(moved: &AtomicU64, limit: Option<Duration>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    let (mut quiet, mut before) = (0, moved.load(Relaxed));
    while quiet < PARTS {
        sleep(limit / PARTS).await;
        let now = moved.load(Relaxed);
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved
            .fetch_add((buf.filled().len() - before) as u64, Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = written {
            self.moved.fetch_add(length as u64, Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, sleep},
    };

    use super::*;

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let ((mut client, near), (mut server, far)) = (duplex(64), duplex(64));
        let relaying = tokio::spawn(relay(near, Box::new(far), None));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.unwrap();
        server.write_all(b"answer!").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((&*asked, &*answer), ("question", "answer!"));
        assert_eq!(relaying.await.unwrap().unwrap(), (8, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_in_one_direction_keeps_both_open() {
        let limit = Duration::from_secs(60);
        let ((mut client, near), (server, far)) = (duplex(64), duplex(4096));
        let begin = Instant::now();
        let busy = async {
            for _ in 0..10 {
                sleep(limit / 2).await;
                client.write_all(b"x").await.unwrap();
            }
            client
        };
        let (relayed, _open) = tokio::join!(relay(near, Box::new(far), Some(limit)), busy);
        assert_eq!(relayed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= limit * 6);
        drop(server);
    }

    #[tokio::test]
    async fn who_does_not_read_stops_who_writes() {
        let ((mut client, near), (_server, far)) = (duplex(64), duplex(64));
        let _relaying =
            tokio_util::task::AbortOnDropHandle::new(tokio::spawn(relay(near, Box::new(far), None)));
        let sent = async {
            let mut sent = 0;
            loop {
                sent += client.write(&[0; 64]).await.unwrap();
                if sent > 4 * BUFFER {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(200), sent)
            .await
            .unwrap_err();
    }
}
