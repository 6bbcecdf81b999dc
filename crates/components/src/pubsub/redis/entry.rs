//! Entries of streams, as the server answers them.

use bytes::Bytes;
use layotto_core::Result;
use redis::Value;

use crate::client::redis::unexpected;

/// The field of an entry that holds the event.
pub(super) const DATA: &str = "data";

/// What an entry holds.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    /// An event.
    Event(Bytes),
    /// Something else that is in the stream: the fields.
    Other(Vec<Bytes>),
}

impl Body {
    fn read(fields: Vec<Value>) -> Result<Self> {
        let mut fields: Vec<Bytes> = fields.into_iter().map(bytes).collect::<Result<_>>()?;
        let data = fields.chunks(2).position(|pair| pair[0] == DATA);
        match data.map(|at| 2 * at + 1).filter(|at| *at < fields.len()) {
            Some(at) => Ok(Self::Event(fields.swap_remove(at))),
            None => Ok(Self::Other(fields)),
        }
    }

    /// Names and values of the fields.
    pub(super) fn fields(&self) -> Vec<&[u8]> {
        match self {
            Self::Event(data) => vec![DATA.as_bytes(), data],
            Self::Other(fields) => fields.iter().map(|field| &**field).collect(),
        }
    }

    /// How many bytes it has.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Event(data) => data.len(),
            Self::Other(fields) => fields.iter().map(Bytes::len).sum(),
        }
    }
}

/// An entry of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) body: Body,
    /// Deliveries begun, as far as the server knows.
    pub(super) attempts: u32,
}

/// What `XREADGROUP` and `XREAD` of one stream brought: nothing where the wait was in vain.
pub(super) fn read(reply: Value) -> Result<Vec<Entry>> {
    let mut streams = match reply {
        Value::Nil => return Ok(Vec::new()),
        reply => list(reply)?,
    };
    let Some(stream) = streams.pop() else {
        return Ok(Vec::new());
    };
    let [_, entries] = parts(stream)?;
    let entries = list(entries)?.into_iter().map(|entry| {
        let [id, fields] = parts(entry)?;
        Ok(Entry {
            id: text(id)?,
            body: Body::read(list(fields)?)?,
            attempts: 0,
        })
    });
    entries.collect()
}

/// Entries that were taken over, and where to look on; `None` at the end.
pub(super) struct Claimed {
    pub(super) entries: Vec<Entry>,
    pub(super) next: Option<String>,
}

/// What the script answered that takes up to `count` entries over.
pub(super) fn claimed(reply: Value, count: usize) -> Result<Claimed> {
    let [seen, last, taken] = parts(reply)?;
    let is_more = number(&seen)? >= count as u64;
    let last = text(last)?;
    let entries = list(taken)?.into_iter().map(|entry| {
        let [id, attempts, fields] = parts(entry)?;
        Ok(Entry {
            id: text(id)?,
            body: Body::read(list(fields)?)?,
            attempts: u32::try_from(number(&attempts)?).unwrap_or(u32::MAX),
        })
    });
    Ok(Claimed {
        entries: entries.collect::<Result<_>>()?,
        next: is_more.then(|| format!("({last}")),
    })
}

/// The elements of a list of texts.
pub(super) fn texts(reply: Value) -> Result<Vec<String>> {
    list(reply)?.into_iter().map(text).collect()
}

pub(super) fn text(value: Value) -> Result<String> {
    let bytes = bytes(value)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into()),
        other => Err(unexpected(&other)),
    }
}

fn number(value: &Value) -> Result<u64> {
    match value {
        Value::Int(number) => Ok(u64::try_from(*number).unwrap_or(0)),
        other => Err(unexpected(other)),
    }
}

fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(unexpected(&other)),
    }
}

fn parts<const N: usize>(value: Value) -> Result<[Value; N]> {
    list(value)?
        .try_into()
        .map_err(|list| unexpected(&Value::Array(list)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn words(texts: &[&str]) -> Value {
        Value::Array(texts.iter().map(|text| word(text)).collect())
    }

    fn replied(entries: Vec<Value>) -> Value {
        Value::Array(vec![Value::Array(vec![word("topic"), Value::Array(entries)])])
    }

    #[test]
    fn the_event_is_the_field_data_wherever_it_stands() {
        for fields in [&["data", "x"][..], &["a", "data", "data", "x", "b", "c"]] {
            let entries = read(replied(vec![Value::Array(vec![word("1-0"), words(fields)])])).unwrap();
            assert_eq!(entries[0].body, Body::Event("x".into()), "{fields:?}");
            assert_eq!(entries[0].id, "1-0");
        }
    }

    #[test]
    fn fields_without_an_event_are_kept_as_they_are() {
        let entries = read(replied(vec![Value::Array(vec![
            word("1-0"),
            words(&["a", "data"]),
        ])]))
        .unwrap();
        assert_eq!(entries[0].body.fields(), [b"a", &b"data"[..]]);
    }

    #[test]
    fn waiting_in_vain_brings_nothing_and_nonsense_is_an_error() {
        assert_eq!(read(Value::Nil).unwrap(), []);
        for nonsense in [
            Value::Int(1),
            Value::Array(vec![Value::Nil]),
            replied(vec![Value::Nil]),
            replied(vec![Value::Array(vec![word("1-0"), Value::Nil])]),
            replied(vec![Value::Array(vec![Value::Int(1), words(&["data", "x"])])]),
        ] {
            assert!(read(nonsense.clone()).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn more_is_to_be_taken_over_where_as_much_was_seen_as_asked() {
        let reply = |seen| Value::Array(vec![Value::Int(seen), word("2-0"), Value::Array(Vec::new())]);
        assert_eq!(claimed(reply(10), 10).unwrap().next.as_deref(), Some("(2-0"));
        assert_eq!(claimed(reply(9), 10).unwrap().next, None);
    }
}
