//! What a broker says about a topic, asked past any front: a client would follow the address that
//! the broker tells.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::server::Server;

/// The key of the request for metadata, and the version of it that is used.
const METADATA: [u8; 4] = [0, 3, 0, 4];
/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(500);

/// Whether `topic` is there, which asking brings about, and all its partitions have leaders.
#[must_use]
pub fn leads(server: &Server, topic: &str) -> bool {
    let answer = ask(server, topic);
    let well = answer.and_then(|answer| Fields(&answer).all_well());
    well.unwrap_or_default()
}

/// The answer of the broker about one topic.
fn ask(server: &Server, topic: &str) -> Option<Vec<u8>> {
    let mut request = METADATA.to_vec();
    // The number of the request, and no name of the client.
    request.extend([0, 0, 0, 1, 0xff, 0xff]);
    request.extend(1_i32.to_be_bytes());
    request.extend(i16::try_from(topic.len()).ok()?.to_be_bytes());
    request.extend(topic.as_bytes());
    // A topic that is missing is to be made.
    request.push(1);
    let mut stream = TcpStream::connect(server.address()).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    let length = i32::try_from(request.len()).ok()?.to_be_bytes();
    stream.write_all(&[&length[..], &request].concat()).ok()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).ok()?];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

/// What of an answer is still to be read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// Whether the answer has no error, neither of the topic nor of a partition.
    fn all_well(&mut self) -> Option<bool> {
        // Its number, and for how long the broker holds this client back.
        self.skip(4 + 4)?;
        for _ in 0..self.int()? {
            self.skip(4)?;
            self.text()?;
            self.skip(4)?;
            self.text()?;
        }
        // The cluster and its controller.
        self.text()?;
        self.skip(4)?;
        let mut well = self.int()? == 1 && self.short()? == 0;
        self.text()?;
        self.skip(1)?;
        let partitions = self.int()?;
        well &= partitions > 0;
        for _ in 0..partitions {
            well &= self.short()? == 0;
            // Its number and its leader, then all replicas and those in sync.
            self.skip(4 + 4)?;
            for _ in 0..2 {
                let replicas = usize::try_from(self.int()?).ok()?;
                self.skip(4 * replicas)?;
            }
        }
        Some(well)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn short(&mut self) -> Option<i16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i16::from_be_bytes(*bytes))
    }

    fn int(&mut self) -> Option<i32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*bytes))
    }

    /// Skips a text, which may be absent.
    fn text(&mut self) -> Option<()> {
        let length = self.short()?;
        self.skip(usize::try_from(length).unwrap_or_default())
    }
}
