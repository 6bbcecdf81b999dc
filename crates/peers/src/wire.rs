//! HTTP/2 frames written byte by byte, also where they break the rules (RFC 9113, RFC 7541).

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use bytes::{Buf, BufMut, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Kinds of frames.
pub mod kind {
    /// Content.
    pub const DATA: u8 = 0;
    /// Header fields.
    pub const HEADERS: u8 = 1;
    /// The end of a stream by force.
    pub const RST_STREAM: u8 = 3;
    /// Settings.
    pub const SETTINGS: u8 = 4;
    /// A ping.
    pub const PING: u8 = 6;
    /// The end of a connection.
    pub const GOAWAY: u8 = 7;
    /// More room.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More header fields.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// The last frame of a stream.
    pub const END_STREAM: u8 = 1;
    /// An answer to SETTINGS or PING.
    pub const ACK: u8 = 1;
    /// The last of a block of header fields.
    pub const END_HEADERS: u8 = 4;
}

/// Error code by which a server says that it is asked for too much.
pub const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

/// A frame that was received.
#[derive(Debug, Clone)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// The stream.
    pub stream: u32,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn error_code(&self) -> Option<u32> {
        let skip = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        let bytes = self.payload.get(skip..skip + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

/// Appends a frame.
pub fn frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.put_slice(&length[1..]);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.put_slice(payload);
}

/// Appends SETTINGS.
pub fn settings(out: &mut BytesMut, settings: &[(u16, u32)]) {
    let mut payload = BytesMut::new();
    for (name, value) in settings {
        payload.put_u16(*name);
        payload.put_u32(*value);
    }
    frame(out, kind::SETTINGS, 0, 0, &payload);
}

/// How a field is kept in the table of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indexing {
    /// It is not.
    None,
    /// It is.
    Incremental,
}

/// Appends a field with a literal name, without Huffman coding.
pub fn literal(out: &mut BytesMut, indexing: Indexing, name: &[u8], value: &[u8]) {
    out.put_u8(match indexing {
        Indexing::None => 0,
        Indexing::Incremental => 0x40,
    });
    for text in [name, value] {
        integer(out, 7, text.len());
        out.put_slice(text);
    }
}

/// Appends an integer with a prefix of `bits` bits (RFC 7541 §5.1), other bits zero.
fn integer(out: &mut BytesMut, bits: u32, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        out.put_u8(value as u8);
        return;
    }
    out.put_u8(most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.put_u8((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    out.put_u8(rest as u8);
}

/// A block that asks for `path`; `:method` GET and `:scheme` http come from the static table.
pub fn request(authority: &str, path: &str) -> BytesMut {
    let mut block = BytesMut::new();
    block.put_slice(&[0x82, 0x86]);
    literal(&mut block, Indexing::None, b":path", path.as_bytes());
    literal(&mut block, Indexing::None, b":authority", authority.as_bytes());
    block
}

/// A connection that sends what it is told to.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    received: BytesMut,
    /// What is sent with the next flush.
    pub out: BytesMut,
}

impl Wire {
    /// Connects and sends preface and `settings`.
    ///
    /// # Errors
    /// Where nothing listens.
    pub async fn connect(address: SocketAddr, with: &[(u16, u32)]) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut wire = Self {
            stream,
            received: BytesMut::new(),
            out: BytesMut::new(),
        };
        wire.out.put_slice(PREFACE);
        settings(&mut wire.out, with);
        frame(&mut wire.out, kind::SETTINGS, flag::ACK, 0, &[]);
        wire.flush(Duration::from_secs(5)).await?;
        Ok(wire)
    }

    /// Sends what was appended; bytes that the other side does not take within `limit` stay.
    ///
    /// # Errors
    /// Where the connection is closed. What was received before can still be read.
    pub async fn flush(&mut self, limit: Duration) -> Result<()> {
        let sending = async {
            while self.out.has_remaining() {
                self.stream.write_buf(&mut self.out).await?;
            }
            std::io::Result::Ok(())
        };
        match timeout(limit, sending).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Ok(()),
        }
    }

    /// The next frame; `None` where none comes within `limit`.
    ///
    /// # Errors
    /// Where the connection is closed.
    pub async fn next(&mut self, limit: Duration) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.parse() {
                return Ok(Some(frame));
            }
            match timeout(limit, self.stream.read_buf(&mut self.received)).await {
                Ok(Ok(0)) => anyhow::bail!("closed"),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Ok(None),
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let head = self.received.get(..HEAD)?;
        let mut fields = head;
        let length = fields.get_uint(3) as usize;
        let (kind, flags, stream) = (fields.get_u8(), fields.get_u8(), fields.get_u32());
        if self.received.len() < HEAD + length {
            return None;
        }
        self.received.advance(HEAD);
        Some(Frame {
            kind,
            flags,
            stream,
            payload: self.received.split_to(length).to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_the_rfc() {
        let encode = |bits, value| {
            let mut out = BytesMut::new();
            integer(&mut out, bits, value);
            out.to_vec()
        };
        // RFC 7541, C.1.
        assert_eq!(encode(5, 10), [10]);
        assert_eq!(encode(5, 1337), [31, 154, 10]);
        assert_eq!(encode(8, 42), [42]);
    }

    #[tokio::test]
    async fn a_request_gets_an_answer() {
        let origin = crate::origin::Origin::start().await.unwrap();
        let mut wire = Wire::connect(origin.address, &[]).await.unwrap();
        let block = request("a", "/bytes/3");
        frame(
            &mut wire.out,
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            1,
            &block,
        );
        wire.flush(Duration::from_secs(5)).await.unwrap();
        let data = loop {
            let frame = wire.next(Duration::from_secs(5)).await.unwrap().unwrap();
            if frame.kind == kind::DATA {
                break frame;
            }
        };
        assert_eq!((data.stream, data.payload.as_slice()), (1, &b"xxx"[..]));
    }
}
