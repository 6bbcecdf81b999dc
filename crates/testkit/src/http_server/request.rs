//! Reads HTTP/1.1 requests as they are on the wire: names keep their case, fields their order.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest head that is read.
const MAX_HEAD: usize = 1 << 20;

/// A request as the service received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// The fields in the order sent, with names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Bytes,
    /// The bytes that it was read from, head and body.
    pub raw: Bytes,
}

impl Received {
    /// The first value of a field, whose name is looked up whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All values of a field.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        let found = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// What came over a connection.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A request.
    Request(Received),
    /// Something that is no HTTP/1.1 request.
    Malformed,
    /// The peer closed.
    Closed,
}

/// One connection's reading side.
#[derive(Debug)]
pub(crate) struct RequestReader<R> {
    io: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> RequestReader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Incoming {
        let Some(head_end) = self.fill_until(b"\r\n\r\n", 0).await else {
            return if self.buffer.is_empty() {
                Incoming::Closed
            } else {
                Incoming::Malformed
            };
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).into_owned();
        let Some((method, target, headers)) = parse_head(&head) else {
            return Incoming::Malformed;
        };
        match self.body(head_end, &headers).await {
            Some((body, end)) => Incoming::Request(Received {
                method,
                target,
                headers,
                body,
                raw: self.buffer.split_to(end).freeze(),
            }),
            None => Incoming::Malformed,
        }
    }

    /// The body, and where in the buffer the request ends.
    async fn body(&mut self, start: usize, headers: &[(String, String)]) -> Option<(Bytes, usize)> {
        let field = |name: &str| {
            let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned())
        };
        if field("transfer-encoding").is_some_and(|coding| coding.to_lowercase().contains("chunked")) {
            return self.chunked(start).await;
        }
        let length = match field("content-length") {
            Some(length) => length.parse::<usize>().ok()?,
            None => 0,
        };
        self.fill(start + length).await?;
        let body = Bytes::copy_from_slice(&self.buffer[start..start + length]);
        Some((body, start + length))
    }

    async fn chunked(&mut self, start: usize) -> Option<(Bytes, usize)> {
        let mut body = BytesMut::new();
        let mut at = start;
        loop {
            let line_end = self.fill_until(b"\r\n", at).await?;
            let line = std::str::from_utf8(&self.buffer[at..line_end]).ok()?;
            let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
            self.fill(line_end + size + 2).await?;
            body.extend_from_slice(&self.buffer[line_end..line_end + size]);
            at = line_end + size + 2;
            if size == 0 {
                return Some((body.freeze(), at));
            }
        }
    }

    /// Reads until the buffer holds `mark` at or after `from`; the index after it.
    async fn fill_until(&mut self, mark: &[u8], from: usize) -> Option<usize> {
        loop {
            let found = self.buffer.get(from..).unwrap_or_default();
            if let Some(at) = found.windows(mark.len()).position(|window| window == mark) {
                return Some(from + at + mark.len());
            }
            if self.buffer.len() > from + MAX_HEAD {
                return None;
            }
            self.read_more().await?;
        }
    }

    async fn fill(&mut self, length: usize) -> Option<()> {
        while self.buffer.len() < length {
            self.read_more().await?;
        }
        Some(())
    }

    async fn read_more(&mut self) -> Option<()> {
        match self.io.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }
}

type Head = (String, String, Vec<(String, String)>);

fn parse_head(head: &str) -> Option<Head> {
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let mut start = lines.next()?.split(' ');
    let (method, target, version) = (start.next()?, start.next()?, start.next()?);
    if start.next().is_some() || !version.starts_with("HTTP/1.") || method.is_empty() {
        return None;
    }
    let headers = lines.map(field).collect::<Option<Vec<_>>>()?;
    Some((method.to_owned(), target.to_owned(), headers))
}

fn field(line: &str) -> Option<(String, String)> {
    // A name may start with a colon: Go Layotto sends `:authority` to HTTP/1.1 services.
    let colon = line.char_indices().skip(1).find(|(_, c)| *c == ':')?.0;
    let (name, value) = line.split_at(colon);
    Some((name.to_owned(), value.trim_start_matches(':').trim().to_owned()))
}
