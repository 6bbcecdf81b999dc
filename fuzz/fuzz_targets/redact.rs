//! Writes down what clients send: no value of a hidden header is in it, over HTTP/1 or HTTP/2, nor
//! is it out of proportion.
//!
//! The first byte of an input says what the rest is: the bytes of a connection, or how to make an
//! HTTP/2 client whose header blocks use all of HPACK but the Huffman code. The second byte says how
//! the connection is cut into reads, and which of them are missed.

#![no_main]

use std::collections::VecDeque;

use layotto_mesh::tap::tcpcopy::{
    fuzzing::Redactor,
    hpack::{Decoder, Field, HIDDEN, HiddenNames},
    http2::{END_HEADERS, HEAD, Head, Kind, PADDED, PREFACE, PRIORITY},
};
use libfuzzer_sys::fuzz_target;

const HIDDEN_NAMES: [&str; 2] = ["authorization", "cookie"];
/// The value of hidden headers.
const SECRET: &[u8] = b"s3cr3t!";
/// The longest header block that is written, with a count of what is left out.
const MAX_BLOCK: usize = (256 << 10) + 64;
/// The names of HPACK's static table that are used, with their indices.
const STATIC: [(usize, &[u8]); 3] = [(4, b":path"), (23, b"authorization"), (32, b"cookie")];
const STATIC_LENGTH: usize = 61;

/// So that no block is longer than is looked at.
const MAX_ORDERS: usize = 512;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fuzz_target!(|input: &[u8]| {
    let [kind, cuts, rest @ ..] = input else {
        return;
    };
    let cuts = Cuts::new(*cuts);
    match kind {
        b'2' => {
            let client = Client::of(rest);
            check_client(&client, cuts);
        }
        _ if rest.starts_with(PREFACE) => drop(fields(&copies(rest, cuts))),
        _ => copies(rest, cuts).iter().for_each(|part| check_lines(part)),
    }
});

/// How a connection is cut.
#[derive(Debug, Clone, Copy)]
struct Cuts {
    seed: u32,
    misses: bool,
}

impl Cuts {
    fn new(byte: u8) -> Self {
        Self {
            seed: u32::from(byte),
            misses: byte >= 128,
        }
    }

    fn next(&mut self) -> usize {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.seed >> 16) as usize
    }
}

/// What is written down of a connection, in parts with gaps between.
fn copies(bytes: &[u8], mut cuts: Cuts) -> Vec<Vec<u8>> {
    let mut redactor = Redactor::new(HiddenNames::new(HIDDEN_NAMES));
    let mut parts = vec![Vec::new()];
    let mut rest = bytes;
    while !rest.is_empty() {
        let (read, behind) = rest.split_at(rest.len().min(1 + cuts.next() % 64));
        let begun = bytes.len() - rest.len() >= PREFACE.len() || !bytes.starts_with(PREFACE);
        rest = behind;
        if begun && cuts.misses && cuts.next() % 8 == 0 {
            redactor.skip(read);
            parts.push(Vec::new());
            continue;
        }
        let copy = redactor.copy(read);
        let blocks = 1 + read.len() / HEAD;
        assert!(copy.len() <= PREFACE.len() + HEAD + read.len() + blocks * MAX_BLOCK);
        parts.last_mut().expect("there is a first").extend(copy);
    }
    parts
}

/// No line is a hidden header with a value that can be read.
fn check_lines(part: &[u8]) {
    let mut hidden = false;
    for line in part.split(|byte| *byte == b'\n') {
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        let mut value = line;
        if !(hidden && folded) {
            let colon = line.iter().position(|byte| *byte == b':');
            let (name, behind) = line.split_at(colon.map_or(0, |colon| colon + 1));
            hidden = is_hidden(without_spaces(name.strip_suffix(b":").unwrap_or_default()));
            value = behind;
        }
        let blank = |byte: &u8| matches!(byte, b'*' | b' ' | b'\t' | b'\r');
        assert!(!hidden || value.iter().all(blank), "{}", line.escape_ascii());
    }
}

/// Without spaces at its end, as some servers read names.
fn without_spaces(mut name: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = name {
        name = rest;
    }
    name
}

/// All fields of frames that need no table; none is a hidden header with its value.
fn fields(parts: &[Vec<u8>]) -> Fields {
    let mut fields = Fields::new();
    for part in parts {
        let mut rest = part.strip_prefix(PREFACE).unwrap_or(part);
        while let Some(head) = Head::first(rest) {
            let payload = rest.get(HEAD..).unwrap_or_default();
            let (payload, behind) = payload.split_at(payload.len().min(head.length));
            assert!(head.kind != Kind::Continuation && head.kind != Kind::PushPromise);
            if head.kind == Kind::Headers {
                assert!(head.has(END_HEADERS) && !head.has(PADDED | PRIORITY));
                assert_eq!(payload.len(), head.length, "a block is written as a whole");
                fields.extend(block(payload));
            }
            rest = behind;
        }
    }
    fields
}

fn block(payload: &[u8]) -> Fields {
    let mut fields = Fields::new();
    let mut each = |field: Field<'_>| {
        let (name, value) = (field.name.expect("a name"), field.value.expect("a value"));
        // The static table has names without a value.
        assert!(
            !is_hidden(name) || value == HIDDEN || value.is_empty(),
            "{}",
            value.escape_ascii()
        );
        fields.push((name.to_vec(), value.to_vec()));
    };
    let decoded = Decoder::new(HiddenNames::default()).decode(payload, &mut each);
    decoded.expect("what was written can be read");
    fields
}

fn check_client(client: &Client, cuts: Cuts) {
    let parts = copies(&client.bytes, cuts);
    for part in &parts {
        let shows = part.windows(SECRET.len()).any(|window| window == SECRET);
        assert!(!shows, "{}", part.escape_ascii());
    }
    let fields = fields(&parts);
    if !cuts.misses {
        assert_eq!(fields, client.fields);
    }
}

/// A client of HTTP/2.
#[derive(Debug)]
struct Client {
    bytes: Vec<u8>,
    /// What should be written down of its headers.
    fields: Fields,
    /// The dynamic table, the newest entry first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    limit: usize,
    block: Vec<u8>,
}

impl Client {
    /// Does what the bytes say, two by two.
    fn of(orders: &[u8]) -> Self {
        let mut client = Self {
            bytes: PREFACE.to_vec(),
            fields: Fields::new(),
            table: VecDeque::new(),
            limit: 4096,
            block: Vec::new(),
        };
        for order in orders.chunks_exact(2).take(MAX_ORDERS) {
            client.order(order[0], order[1]);
        }
        client.end_block(0);
        client
    }

    fn order(&mut self, order: u8, how: u8) {
        match order % 8 {
            0..=3 => self.literal(order, how),
            4 | 5 => self.indexed(how),
            6 => self.end_block(how),
            // A block may begin with another size of the table.
            _ if self.block.is_empty() => {
                self.limit = usize::from(how) * 16;
                integer(self.limit, 5, 0x20, &mut self.block);
                self.evict();
            }
            _ => {}
        }
    }

    fn literal(&mut self, order: u8, how: u8) {
        let (prefix, bits) = [(0x40, 6), (0x40, 6), (0x00, 4), (0x10, 4)][usize::from(order % 4)];
        let which = usize::from(how % 8);
        let name: Vec<u8> = match which {
            0..3 => {
                let (index, name) = STATIC[which];
                integer(index, bits, prefix, &mut self.block);
                name.to_vec()
            }
            3 if !self.table.is_empty() => {
                let index = usize::from(how) % self.table.len();
                integer(STATIC_LENGTH + 1 + index, bits, prefix, &mut self.block);
                self.table[index].0.clone()
            }
            _ => {
                let names = ["x-a", "Cookie", "AUTHORIZATION", "x-longer-name", "cookie"];
                let name = names[which - 3].as_bytes();
                self.block.push(prefix);
                text(name, &mut self.block);
                name.to_vec()
            }
        };
        let value = match is_hidden(&name) {
            true => SECRET.to_vec(),
            false => vec![b'v'; usize::from(how / 4)],
        };
        text(&value, &mut self.block);
        if prefix == 0x40 {
            self.table.push_front((name.clone(), value.clone()));
            self.evict();
        }
        self.expect(name, value);
    }

    fn indexed(&mut self, how: u8) {
        let Some(count) = Some(self.table.len()).filter(|count| *count > 0) else {
            return;
        };
        let index = usize::from(how) % count;
        integer(STATIC_LENGTH + 1 + index, 7, 0x80, &mut self.block);
        let (name, value) = self.table[index].clone();
        self.expect(name, value);
    }

    fn expect(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let value = if is_hidden(&name) { HIDDEN.to_vec() } else { value };
        self.fields.push((name, value));
    }

    fn evict(&mut self) {
        let size = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 32;
        while self.table.iter().map(size).sum::<usize>() > self.limit {
            self.table.pop_back();
        }
    }

    /// Sends the block in one frame or two, padded or not, and some data.
    fn end_block(&mut self, how: u8) {
        let block = std::mem::take(&mut self.block);
        let cut = match how % 2 {
            0 => block.len(),
            _ => usize::from(how) % (block.len() + 1),
        };
        let (first, second) = block.split_at(cut);
        let mut flags = if second.is_empty() { END_HEADERS } else { 0 };
        let mut payload = Vec::new();
        if how & 2 > 0 {
            flags |= PADDED;
            payload.push(how % 7);
        }
        if how & 4 > 0 {
            flags |= PRIORITY;
            payload.extend([0; 5]);
        }
        payload.extend(first);
        if how & 2 > 0 {
            payload.extend(vec![0; usize::from(how % 7)]);
        }
        self.frame(Kind::Headers, flags, &payload);
        if !second.is_empty() {
            self.frame(Kind::Continuation, END_HEADERS, second);
        }
        self.frame(Kind::Data, 0, &vec![b'd'; usize::from(how)]);
    }

    fn frame(&mut self, kind: Kind, flags: u8, payload: &[u8]) {
        let head = Head {
            length: payload.len(),
            kind,
            flags,
            stream: 1,
        };
        head.write(&mut self.bytes);
        self.bytes.extend(payload);
    }
}

fn is_hidden(name: &[u8]) -> bool {
    HIDDEN_NAMES
        .iter()
        .any(|hidden| hidden.as_bytes().eq_ignore_ascii_case(name))
}

/// RFC 7541, section 5.1.
fn integer(value: usize, bits: u32, prefix: u8, to: &mut Vec<u8>) {
    let full = (1_usize << bits) - 1;
    if value < full {
        to.push(prefix | value as u8);
        return;
    }
    to.push(prefix | full as u8);
    let mut rest = value - full;
    while rest >= 128 {
        to.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    to.push(rest as u8);
}

fn text(text: &[u8], to: &mut Vec<u8>) {
    integer(text.len(), 7, 0, to);
    to.extend(text);
}
