//! HPACK (RFC 7541) for someone who looks on: the decoder may start in the middle of a
//! connection. What was sent before it began it does not know, and says so instead of guessing.

mod huffman;
mod table;

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use self::table::STATIC;

/// What stands for a value that must not be shown.
pub const HIDDEN: &[u8] = b"***";

/// The size of a dynamic table unless the peer says otherwise, and what an entry adds to it
/// (RFC 7541, sections 4.1 and 6.5.2 of RFC 9113).
const DEFAULT_LIMIT: usize = 4096;
const ENTRY_OVERHEAD: usize = 32;

/// No more is remembered of one connection, whatever table the peers agreed on.
const MAX_LIMIT: usize = 64 * 1024;

/// Header names, in lower case, whose values must not be shown.
#[derive(Debug, Clone, Default)]
pub struct HiddenNames(Arc<[Box<[u8]>]>);

impl HiddenNames {
    /// Hides the values of `names`, in whatever case they come.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let lower = |name: N| name.as_ref().trim().to_ascii_lowercase().into_bytes().into();
        Self(names.into_iter().map(lower).collect())
    }

    /// Whether the value of `name` must not be shown.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.0.iter().any(|hidden| hidden.eq_ignore_ascii_case(name))
    }

    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The length of the longest name.
    pub fn longest(&self) -> usize {
        self.0.iter().map(|name| name.len()).max().unwrap_or(0)
    }
}

/// One field of a block. A part is `None` where it refers to what was sent before the decoder
/// began; the value of a field without a name is never told, as it might be a hidden one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name.
    pub name: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// A block breaks the rules of HPACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed header block")]
pub struct Malformed;

/// Decodes the header blocks of one direction of a connection. Hidden values never enter it.
#[derive(Debug)]
pub struct Decoder {
    hidden: HiddenNames,
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    name: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    size: usize,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    pub fn new(hidden: HiddenNames) -> Self {
        Self {
            hidden,
            entries: VecDeque::new(),
            size: 0,
            limit: DEFAULT_LIMIT,
        }
    }

    /// Says that blocks were missed: indices no longer tell what they did.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.size = 0;
        self.limit = MAX_LIMIT;
    }

    /// Tells `each` the fields of a block, in order. After an error the decoder is of no use.
    pub fn decode(&mut self, block: &[u8], each: &mut dyn FnMut(Field<'_>)) -> Result<(), Malformed> {
        let mut input = Input(block);
        while let Some(first) = input.0.first().copied() {
            match first {
                0x80.. => self.indexed(input.integer(7)?, each)?,
                0x40.. => self.literal(input.integer(6)?, &mut input, true, each)?,
                0x20.. => self.resize(input.integer(5)?),
                _ => self.literal(input.integer(4)?, &mut input, false, each)?,
            }
        }
        Ok(())
    }

    fn indexed(&self, index: usize, each: &mut dyn FnMut(Field<'_>)) -> Result<(), Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC.get(place) {
            let hidden = !value.is_empty() && self.hidden.contains(name.as_bytes());
            let value = if hidden { HIDDEN } else { value.as_bytes() };
            each(known(name.as_bytes(), value));
            return Ok(());
        }
        let entry = self.entries.get(place - STATIC.len());
        each(Field {
            name: entry.and_then(|entry| entry.name.as_deref()),
            value: entry.and_then(|entry| entry.value.as_deref()),
        });
        Ok(())
    }

    fn literal(
        &mut self,
        index: usize,
        input: &mut Input<'_>,
        remember: bool,
        each: &mut dyn FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let name = match index {
            0 => Some(input.string()?),
            _ => self.name(index - 1).map(|name| Cow::Owned(name.to_vec())),
        };
        let value = input.string()?;
        let size = name.as_ref().map_or(0, |name| name.len()) + value.len() + ENTRY_OVERHEAD;
        let value = match &name {
            None => None,
            Some(name) if self.hidden.contains(name) => Some(Cow::Borrowed(HIDDEN)),
            Some(_) => Some(value),
        };
        each(Field {
            name: name.as_deref(),
            value: value.as_deref(),
        });
        if remember {
            self.insert(Entry {
                name: name.map(|name| name.into_owned().into()),
                value: value.map(|value| value.into_owned().into()),
                size,
            });
        }
        Ok(())
    }

    fn name(&self, place: usize) -> Option<&[u8]> {
        match STATIC.get(place) {
            Some((name, _)) => Some(name.as_bytes()),
            None => self.entries.get(place - STATIC.len())?.name.as_deref(),
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.size += entry.size;
        self.entries.push_front(entry);
        self.evict();
    }

    fn resize(&mut self, limit: usize) {
        self.limit = limit.min(MAX_LIMIT);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.limit
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size;
        }
    }
}

fn known<'a>(name: &'a [u8], value: &'a [u8]) -> Field<'a> {
    Field {
        name: Some(name),
        value: Some(value),
    }
}

/// Appends a field that any decoder understands, whatever it saw before: not indexed, not coded.
pub fn encode(name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    block.push(0);
    for text in [name, value] {
        encode_length(text.len(), block);
        block.extend_from_slice(text);
    }
}

fn encode_length(length: usize, block: &mut Vec<u8>) {
    const FULL: usize = 0x7f;
    if length < FULL {
        return block.push(length as u8);
    }
    block.push(FULL as u8);
    let mut rest = length - FULL;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer whose first byte has `bits` bits for it (RFC 7541, section 5.1).
    fn integer(&mut self, bits: u32) -> Result<usize, Malformed> {
        let full = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & full;
        if value < full {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let coded = self.0.first().ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        match coded {
            true => huffman::decode(text).map(Cow::Owned).ok_or(Malformed),
            false => Ok(Cow::Borrowed(text)),
        }
    }
}

#[cfg(test)]
mod tests;
