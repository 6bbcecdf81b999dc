//! What of a connection's bytes may be written down: all of it but the values of hidden headers.
//! HTTP/1 and HTTP/2 have headers that can be found; bytes of other protocols are withheld unless
//! nothing is hidden.

mod http1;
mod http2;

use super::{hpack::HiddenNames, http2::PREFACE};

/// Follows one connection.
#[derive(Debug)]
pub(super) struct Redactor {
    hidden: HiddenNames,
    protocol: Protocol,
}

#[derive(Debug)]
enum Protocol {
    /// So many bytes were seen, all as HTTP/2 begins.
    Unknown(usize),
    Http1(http1::Lines),
    Http2(Box<http2::Frames>),
    Other,
}

impl Redactor {
    pub(super) fn new(hidden: HiddenNames) -> Self {
        Self {
            hidden,
            protocol: Protocol::Unknown(0),
        }
    }

    /// Follows bytes that are not written down.
    pub(super) fn skip(&mut self, bytes: &[u8]) {
        self.tell(bytes);
        match &mut self.protocol {
            Protocol::Unknown(_) | Protocol::Other => {}
            Protocol::Http1(lines) => lines.skip(),
            Protocol::Http2(frames) => frames.read(bytes, None),
        }
    }

    /// What of `bytes` may be written down; may be empty.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let held = self.tell(bytes);
        let mut copy = Vec::with_capacity(bytes.len() + held);
        match &mut self.protocol {
            Protocol::Unknown(_) => {}
            Protocol::Http1(lines) => {
                copy.extend_from_slice(&PREFACE[..held]);
                lines.copy(bytes, &mut copy);
            }
            Protocol::Http2(frames) => {
                copy.extend_from_slice(&PREFACE[..held]);
                frames.read(bytes, Some(&mut copy));
            }
            Protocol::Other if self.hidden.is_empty() => copy.extend_from_slice(bytes),
            Protocol::Other => {}
        }
        copy
    }

    /// Tells the protocol by the first bytes. Returns how many bytes of earlier reads the protocol
    /// was told by: the first ones of HTTP/2's preface, whatever it became.
    fn tell(&mut self, bytes: &[u8]) -> usize {
        let Protocol::Unknown(seen) = self.protocol else {
            return 0;
        };
        let rest = &PREFACE[seen..];
        let same = rest
            .iter()
            .zip(bytes)
            .take_while(|(ours, theirs)| ours == theirs)
            .count();
        self.protocol = if same == rest.len() {
            Protocol::Http2(Box::new(http2::Frames::new(self.hidden.clone(), rest.len())))
        } else if same == bytes.len() {
            Protocol::Unknown(seen + same)
        } else if begins_http1(&PREFACE[..seen], bytes) {
            Protocol::Http1(http1::Lines::new(self.hidden.clone()))
        } else {
            Protocol::Other
        };
        seen
    }
}

/// Whether a connection begins as HTTP/1 does: with a method and a space, as far as it is there.
fn begins_http1(seen: &[u8], bytes: &[u8]) -> bool {
    const LONGEST_METHOD: usize = 20;
    let mut first = seen.iter().chain(bytes).take(LONGEST_METHOD + 1);
    let letters = first
        .by_ref()
        .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-');
    let (read, length) = (seen.len() + bytes.len(), letters.count());
    let ended_by = seen.iter().chain(bytes).nth(length);
    length > 0 && (ended_by == Some(&b' ') || (ended_by.is_none() && read <= LONGEST_METHOD))
}

#[cfg(test)]
mod tests;
