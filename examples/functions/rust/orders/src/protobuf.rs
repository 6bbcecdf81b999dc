//! As much of protobuf as this function needs.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// A field with bytes, a text or a message.
pub fn field(tag: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, tag << 3 | BYTES);
    put(&mut out, value.len() as u64);
    out.extend_from_slice(value);
    out
}

/// A field with a number.
pub fn number(tag: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, tag << 3 | VARINT);
    put(&mut out, value);
    out
}

/// The first field of that tag with bytes.
pub fn find_bytes(message: &[u8], tag: u64) -> Option<&[u8]> {
    fields(message).find_map(|(found, value)| match value {
        Value::Bytes(bytes) if found == tag => Some(bytes),
        _ => None,
    })
}

/// The first field of that tag with a number.
pub fn find_number(message: &[u8], tag: u64) -> Option<u64> {
    fields(message).find_map(|(found, value)| match value {
        Value::Number(number) if found == tag => Some(number),
        _ => None,
    })
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Ends where the message does, or where it is none.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let key = take(&mut message)?;
        let value = match key & 7 {
            VARINT => Value::Number(take(&mut message)?),
            FIXED64 => skip(&mut message, 8)?,
            FIXED32 => skip(&mut message, 4)?,
            BYTES => {
                let length = usize::try_from(take(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(length)?;
                message = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    })
}

fn skip<'a>(message: &mut &'a [u8], length: usize) -> Option<Value<'a>> {
    *message = message.get(length..)?;
    Some(Value::Other)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
