//! Tells HTTP/2 from HTTP/1 by the first bytes that a client sends.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Reads as many bytes as the decision takes and returns them with it. A client that leaves before
/// is an [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
pub(super) async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Version, Bytes)> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(&first) {
            return Ok((Version::Http1, first.freeze()));
        }
    }
    Ok((Version::Http2, first.freeze()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn told_by(pieces: &[&[u8]]) -> io::Result<(Version, Bytes)> {
        let (mut client, mut server) = tokio::io::duplex(1);
        let write = async move {
            for piece in pieces {
                client.write_all(piece).await.ok();
            }
        };
        let read = async move { sniff(&mut server).await };
        tokio::join!(write, read).1
    }

    #[tokio::test]
    async fn the_preface_means_http2_however_it_is_cut() {
        for at in 1..PREFACE.len() {
            let (head, tail) = PREFACE.split_at(at);
            let (version, first) = told_by(&[head, tail]).await.unwrap();
            assert_eq!((version, &first[..]), (Version::Http2, PREFACE));
        }
    }

    #[tokio::test]
    async fn anything_else_means_http1_and_is_kept() {
        for text in [&b"GET / HTTP/1.1"[..], b"PRI / HTTP/1.1", b"PUT", b"\0\0"] {
            let (version, first) = told_by(&[text]).await.unwrap();
            assert_eq!(version, Version::Http1);
            assert!(text.starts_with(&first) && !first.is_empty());
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_an_error() {
        for text in [&b""[..], b"PRI * HT"] {
            assert_eq!(
                told_by(&[text]).await.unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof
            );
        }
    }
}
