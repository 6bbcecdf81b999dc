//! Messages of gRPC in the body of a request or reply: each stands behind five bytes, which say
//! whether it is compressed and how long it is.

use std::iter;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// The most of a message that is sent at a time.
const PIECE: usize = 64 << 10;

/// What stands before a message.
pub const PREFIX: usize = 5;

/// A message that cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Wrong {
    /// It is compressed, though nobody asked for that.
    #[error("a message of the reply is compressed")]
    Compressed,
    /// It is longer than it may be.
    #[error("a message of the reply is larger than {0} bytes")]
    TooLong(usize),
}

/// A message with what stands before it; `None`: it is longer than gRPC can say.
pub fn framed(message: &[u8]) -> Option<Bytes> {
    framed_part(message, message.len())
}

/// Likewise, in pieces of which all but the first are parts of the message.
pub fn pieces(mut message: Bytes) -> Option<impl Iterator<Item = Bytes>> {
    let length = message.len();
    let mut next = move || message.split_to(PIECE.min(message.len()));
    let first = framed_part(&next(), length)?;
    let rest = iter::from_fn(move || Some(next()).filter(|piece| !piece.is_empty()));
    Some(iter::once(first).chain(rest))
}

fn framed_part(start: &[u8], length: usize) -> Option<Bytes> {
    let length = u32::try_from(length).ok()?;
    let mut frame = BytesMut::with_capacity(PREFIX + start.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(start);
    Some(frame.freeze())
}

/// Messages in the making, out of the pieces of a body.
#[derive(Debug, Default)]
pub struct Frames(BytesMut);

impl Frames {
    /// Takes another piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next message that is whole, of `most` bytes at most.
    pub fn next(&mut self, most: usize) -> Result<Option<Bytes>, Wrong> {
        let Some((&[compressed, a, b, c, d], rest)) = self.0.split_first_chunk() else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(Wrong::Compressed);
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > most {
            return Err(Wrong::TooLong(most));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.0.advance(PREFIX);
        Ok(Some(self.0.split_to(length).freeze()))
    }

    /// Whether no message has begun.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_the_body_is_cut() {
        let texts = ["one", "", "three"];
        let body: Vec<u8> = texts
            .iter()
            .flat_map(|text| framed(text.as_bytes()).unwrap())
            .collect();
        for size in 1..=body.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in body.chunks(size) {
                frames.push(piece);
                while let Some(message) = frames.next(5).unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, texts, "in pieces of {size}");
            assert!(frames.is_empty());
        }
    }

    #[test]
    fn a_long_message_goes_in_pieces() {
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE] {
            let message = Bytes::from(vec![7; length]);
            let pieces: Vec<_> = pieces(message.clone()).unwrap().collect();
            assert!(pieces.iter().all(|piece| piece.len() <= PREFIX + PIECE));
            assert_eq!(pieces.concat(), framed(&message).unwrap());
        }
    }

    #[test]
    fn a_message_that_is_too_long_or_compressed_is_refused_by_what_stands_before_it() {
        let next = |head: [u8; PREFIX]| {
            let mut frames = Frames::default();
            frames.push(&head);
            frames.next(5)
        };
        assert_eq!(next([0, 0, 0, 0, 5]), Ok(None));
        assert_eq!(next([0, 0, 0, 0, 6]), Err(Wrong::TooLong(5)));
        assert_eq!(next([0, 0xff, 0xff, 0xff, 0xff]), Err(Wrong::TooLong(5)));
        assert_eq!(next([1, 0, 0, 0, 1]), Err(Wrong::Compressed));
    }
}
