//! The ABI's encoding of a list of names and values: their number, all lengths, then every name and
//! value with a NUL behind it. Numbers are 32 bits, little endian.

use bytes::{BufMut, Bytes};
use thiserror::Error;

/// A list of names and values, in order; a name may occur more than once.
pub type Pairs = Vec<(Bytes, Bytes)>;

/// Bytes that are no such list, or one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a list of names and values")]
pub struct Malformed;

/// Encodes `pairs`. An empty list is no bytes at all.
pub fn encode<K: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(K, V)]) -> Vec<u8> {
    if pairs.is_empty() {
        return Vec::new();
    }
    let size = |(name, value): &(K, V)| name.as_ref().len() + value.as_ref().len() + 10;
    // Its capacity is its length: guests free what they were given by its length.
    let mut out = Vec::with_capacity(4 + pairs.iter().map(size).sum::<usize>());
    out.put_u32_le(length(pairs.len()));
    for (name, value) in pairs {
        out.put_u32_le(length(name.as_ref().len()));
        out.put_u32_le(length(value.as_ref().len()));
    }
    for (name, value) in pairs {
        for text in [name.as_ref(), value.as_ref()] {
            out.put_slice(text);
            out.put_u8(0);
        }
    }
    out
}

/// Decodes what [`encode`] made of `most` pairs at most, and the single zero byte that some guests send
/// for an empty list.
pub fn decode(bytes: &[u8], most: usize) -> Result<Pairs, Malformed> {
    if matches!(bytes, [] | [0]) {
        return Ok(Pairs::new());
    }
    let mut rest = bytes;
    let count = number(&mut rest)?;
    // Each pair takes at least its two lengths and two NULs: no count makes this reserve more
    // than the input is long.
    if count > most || rest.len() / 10 < count {
        return Err(Malformed);
    }
    let lengths: Vec<(usize, usize)> = (0..count)
        .map(|_| Ok((number(&mut rest)?, number(&mut rest)?)))
        .collect::<Result<_, _>>()?;
    let pairs = lengths
        .into_iter()
        .map(|(name, value)| Ok((text(&mut rest, name)?, text(&mut rest, value)?)))
        .collect::<Result<_, _>>()?;
    if rest.is_empty() {
        Ok(pairs)
    } else {
        Err(Malformed)
    }
}

/// Nothing in a guest's memory is longer than 32 bits can say.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn number(rest: &mut &[u8]) -> Result<usize, Malformed> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
    *rest = tail;
    Ok(u32::from_le_bytes(*head) as usize)
}

fn text(rest: &mut &[u8], len: usize) -> Result<Bytes, Malformed> {
    let (text, tail) = rest.split_at_checked(len).ok_or(Malformed)?;
    let (nul, tail) = tail.split_first().ok_or(Malformed)?;
    *rest = tail;
    match nul {
        0 => Ok(Bytes::copy_from_slice(text)),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MOST: usize = 10;

    #[test]
    fn the_layout_is_that_of_the_abi() {
        assert_eq!(
            encode(&[("a", "bc"), ("", "d")]),
            b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0a\0bc\0\0d\0"
        );
    }

    #[test]
    fn an_empty_list_is_nothing_or_one_zero() {
        assert_eq!(encode::<&str, &str>(&[]), b"");
        assert_eq!(decode(b"", MOST), Ok(vec![]));
        assert_eq!(decode(b"\0", MOST), Ok(vec![]));
        assert_eq!(decode(b"\0\0\0\0", MOST), Ok(vec![]));
    }

    #[test]
    fn a_count_beyond_the_input_is_refused() {
        assert_eq!(decode(b"\xff\xff\xff\xff", usize::MAX), Err(Malformed));
        let long = b"\x01\0\0\0\xff\xff\xff\xff\0\0\0\0a\0";
        assert_eq!(decode(long, MOST), Err(Malformed));
    }

    #[test]
    fn more_than_may_be_is_refused() {
        let two = encode(&[("a", "b"), ("c", "d")]);
        assert_eq!(decode(&two, 2).unwrap().len(), 2);
        assert_eq!(decode(&two, 1), Err(Malformed));
    }

    #[test]
    fn a_missing_nul_and_bytes_left_over_are_refused() {
        let good = encode(&[("a", "b")]);
        assert!(decode(&good, MOST).is_ok());
        assert_eq!(decode(&[good.as_slice(), b"x"].concat(), MOST), Err(Malformed));
        let mut other = good.clone();
        *other.last_mut().unwrap() = b'0';
        assert_eq!(decode(&other, MOST), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(pairs in vec((vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..20)), 0..10)) {
            let encoded = encode(&pairs);
            prop_assert_eq!(encoded.capacity(), encoded.len());
            let decoded = decode(&encoded, MOST).unwrap();
            let decoded: Vec<_> = decoded.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(decoded, pairs);
        }

        #[test]
        fn what_is_decoded_encodes_to_the_same(bytes in vec(prop_oneof![0u8..4, any::<u8>()], 0..64)) {
            if let Ok(pairs) = decode(&bytes, MOST) && !pairs.is_empty() {
                prop_assert_eq!(encode(&pairs), bytes);
            }
        }
    }
}
