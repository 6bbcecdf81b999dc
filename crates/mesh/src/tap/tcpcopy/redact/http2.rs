//! HTTP/2: header blocks are decoded and written anew, without the hidden values and in a form
//! that needs no table. All other frames stay as they are.
//!
//! Frames are followed even where nothing is copied, so that it is known where one begins; header
//! blocks are not, so that fields which refer to a block that was missed are left out, and counted
//! in a field of their own.

use crate::tap::tcpcopy::{
    hpack::{self, Decoder, Field, HiddenNames},
    http2::{END_HEADERS, END_STREAM, HEAD, Head, Kind, PREFACE},
};

/// The longest header block that is looked at; a longer one is left out.
const MAX_BLOCK: usize = 64 * 1024;

/// The longest block that is written; further fields are left out.
const MAX_WRITTEN: usize = 256 * 1024;

/// The header that counts fields which are not in the dump.
const OMITTED: &[u8] = b"layotto-dump-omitted";

/// What stands for each byte of a frame whose meaning is not known.
const BLANK: u8 = b'*';

/// Follows the frames of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface that are still to come.
    preface: usize,
    /// The part of a frame's head that was read.
    head: [u8; HEAD],
    filled: usize,
    frame: Head,
    /// Bytes of the payload that are still to come.
    left: usize,
    fate: Fate,
    /// The block that is being collected.
    block: Option<Block>,
    decoder: Decoder,
    /// A block broke the rules: nothing after it can be trusted.
    broken: bool,
}

/// What becomes of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Copied,
    Blanked,
    Collected,
    Skipped,
}

#[derive(Debug)]
struct Block {
    /// Of the HEADERS frame.
    head: Head,
    /// The payload of the frame that is being read.
    payload: Vec<u8>,
    /// The fragments of the frames before.
    fragments: Vec<u8>,
}

impl Frames {
    /// The frames behind the last `preface` bytes of the preface.
    pub(super) fn new(hidden: HiddenNames, preface: usize) -> Self {
        Self {
            preface,
            head: [0; HEAD],
            filled: 0,
            frame: Head::read([0; HEAD]),
            left: 0,
            fate: Fate::Skipped,
            block: None,
            decoder: Decoder::new(hidden),
            broken: false,
        }
    }

    /// Follows `bytes`; appends what may be shown of them to `copy`, where there is one.
    pub(super) fn read(&mut self, bytes: &[u8], mut copy: Option<&mut Vec<u8>>) {
        let preface;
        (preface, _) = bytes.split_at(self.preface.min(bytes.len()));
        let mut bytes = bytes.get(preface.len()..).unwrap_or_default();
        if let Some(copy) = &mut copy {
            copy.extend_from_slice(preface);
        }
        self.preface -= preface.len();
        if copy.is_none() {
            // The rest of a frame is skipped too: what is written begins with a frame.
            self.fate = Fate::Skipped;
            self.miss_block();
        }
        while !bytes.is_empty() {
            bytes = match self.left {
                0 => self.read_head(bytes, &mut copy),
                _ => self.read_payload(bytes, &mut copy),
            };
        }
    }

    fn read_head<'a>(&mut self, bytes: &'a [u8], copy: &mut Option<&mut Vec<u8>>) -> &'a [u8] {
        let (part, rest) = bytes.split_at(bytes.len().min(HEAD - self.filled));
        self.head[self.filled..self.filled + part.len()].copy_from_slice(part);
        self.filled += part.len();
        if self.filled == HEAD {
            self.filled = 0;
            self.frame = Head::read(self.head);
            self.left = self.frame.length;
            self.begin(copy);
            if self.left == 0 {
                self.end(copy);
            }
        }
        rest
    }

    fn read_payload<'a>(&mut self, bytes: &'a [u8], copy: &mut Option<&mut Vec<u8>>) -> &'a [u8] {
        let (part, rest) = bytes.split_at(bytes.len().min(self.left));
        self.left -= part.len();
        match (self.fate, copy.as_deref_mut(), &mut self.block) {
            (Fate::Copied, Some(copy), _) => copy.extend_from_slice(part),
            (Fate::Blanked, Some(copy), _) => copy.resize(copy.len() + part.len(), BLANK),
            (Fate::Collected, _, Some(block)) => block.payload.extend_from_slice(part),
            _ => {}
        }
        if self.left == 0 {
            self.end(copy);
        }
        rest
    }

    /// Decides what becomes of the frame.
    fn begin(&mut self, copy: &mut Option<&mut Vec<u8>>) {
        let kind = self.frame.kind;
        let follows_block = kind == Kind::Continuation && self.block.is_some();
        if !follows_block {
            self.miss_block();
        }
        let Some(copy) = copy.as_deref_mut().filter(|_| !self.broken) else {
            self.fate = Fate::Skipped;
            if matches!(kind, Kind::Headers | Kind::Continuation | Kind::PushPromise) {
                self.decoder.forget();
            }
            return;
        };
        self.fate = match kind {
            Kind::Headers => {
                self.block = Some(Block::begin(self.frame));
                Fate::Collected
            }
            Kind::Continuation if follows_block => Fate::Collected,
            // The beginning of the block was missed, or a client pushes: either is left out.
            Kind::Continuation | Kind::PushPromise => {
                self.decoder.forget();
                Fate::Skipped
            }
            Kind::Other(_) => Fate::Blanked,
            _ => Fate::Copied,
        };
        if matches!(self.fate, Fate::Copied | Fate::Blanked) {
            copy.extend_from_slice(&self.head);
        }
        if self
            .block
            .as_ref()
            .is_some_and(|block| block.fragments.len() + self.frame.length > MAX_BLOCK)
        {
            self.fate = Fate::Skipped;
            self.miss_block();
        }
    }

    /// Drops the block that is being collected, if there is one.
    fn miss_block(&mut self) {
        if self.block.take().is_some() {
            self.decoder.forget();
        }
    }

    /// Ends the frame, and the block with its last one.
    fn end(&mut self, copy: &mut Option<&mut Vec<u8>>) {
        if self.fate != Fate::Collected {
            return;
        }
        let Some(mut block) = self.block.take() else {
            return;
        };
        self.broken |= !block.add_fragment(self.frame);
        match copy {
            _ if self.broken => {}
            Some(copy) if self.frame.has(END_HEADERS) => self.broken |= !block.write(&mut self.decoder, copy),
            _ => self.block = Some(block),
        }
    }
}

impl Block {
    fn begin(head: Head) -> Self {
        Self {
            head,
            payload: Vec::with_capacity(head.length.min(MAX_BLOCK)),
            fragments: Vec::new(),
        }
    }

    /// Takes the payload of a frame that was read as a whole; `false` if it is malformed.
    fn add_fragment(&mut self, frame: Head) -> bool {
        let fragment = match frame.kind {
            Kind::Headers => frame.content(&self.payload),
            _ => Some(self.payload.as_slice()),
        };
        let sound = fragment
            .map(|fragment| self.fragments.extend_from_slice(fragment))
            .is_some();
        self.payload.clear();
        sound
    }

    /// Writes the block as one HEADERS frame; `false` if it is malformed.
    fn write(&self, decoder: &mut Decoder, copy: &mut Vec<u8>) -> bool {
        let mut fields = Vec::with_capacity(self.fragments.len() * 2);
        let mut omitted = 0;
        let decoded = decoder.decode(&self.fragments, &mut |field| match field {
            Field {
                name: Some(name),
                value: Some(value),
            } if fields.len() + name.len() + value.len() < MAX_WRITTEN => {
                hpack::encode(name, value, &mut fields)
            }
            _ => omitted += 1,
        });
        if omitted > 0 {
            hpack::encode(OMITTED, omitted.to_string().as_bytes(), &mut fields);
        }
        if decoded.is_err() {
            return false;
        }
        let head = Head {
            length: fields.len(),
            flags: self.head.flags & END_STREAM | END_HEADERS,
            ..self.head
        };
        head.write(copy);
        copy.extend_from_slice(&fields);
        true
    }
}

const _: () = assert!(PREFACE.len() > HEAD);
