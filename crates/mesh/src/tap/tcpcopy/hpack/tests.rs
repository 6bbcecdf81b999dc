use proptest::prelude::*;

use super::{Decoder, Field, HiddenNames, Malformed, encode};

type Pair = (String, String);

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Pair>, Malformed> {
    let mut fields = Vec::new();
    let text =
        |part: Option<&[u8]>| part.map_or("?".into(), |part| String::from_utf8_lossy(part).into_owned());
    decoder.decode(block, &mut |Field { name, value }| {
        fields.push((text(name), text(value)))
    })?;
    Ok(fields)
}

fn pairs(fields: &[(&str, &str)]) -> Vec<Pair> {
    fields
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let pair = |at| u8::from_str_radix(digits.get(at..at + 2).unwrap(), 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

const FIRST: &str = "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff";
const SECOND: &str = "8286 84be 5886 a8eb 1064 9cbf";
const THIRD: &str = "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf";

/// RFC 7541, appendix C.4.
#[test]
fn decodes_the_requests_of_the_rfc() {
    let mut decoder = Decoder::new(HiddenNames::default());
    assert_eq!(
        decode(&mut decoder, &hex(FIRST)).unwrap(),
        pairs(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com")
        ])
    );
    assert_eq!(
        decode(&mut decoder, &hex(SECOND)).unwrap().last(),
        pairs(&[("cache-control", "no-cache")]).last()
    );
    assert_eq!(
        decode(&mut decoder, &hex(THIRD)).unwrap()[3..],
        pairs(&[(":authority", "www.example.com"), ("custom-key", "custom-value")])
    );
    assert_eq!(decoder.size, 164, "as the RFC tells");
}

/// RFC 7541, appendix C.6: responses, with a table of 256 bytes that evicts.
#[test]
fn evicts_as_the_rfc_tells() {
    let mut decoder = Decoder::new(HiddenNames::default());
    let block = hex(
        "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
         919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    );
    assert_eq!(decode(&mut decoder, &block).unwrap().len(), 4);
    assert_eq!(decoder.size, 222);
    assert_eq!(
        decode(&mut decoder, &hex("4883 640e ffc1 c0bf")).unwrap()[0].1,
        "307"
    );
    assert_eq!(decoder.size, 222, "one entry came, one went");
}

#[test]
fn says_what_it_does_not_know_after_a_gap() {
    let mut decoder = Decoder::new(HiddenNames::default());
    let fields = decode(&mut decoder, &hex(SECOND)).unwrap();
    assert_eq!(fields[3], ("?".into(), "?".into()), "sent in the first request");
    assert_eq!(fields[4], ("cache-control".into(), "no-cache".into()));

    decoder.forget();
    // Name by an unknown index, value literal: 0x7f 0x00 is index 63.
    let fields = decode(&mut decoder, &[0x7f, 0x00, 0x03, b'k', b'e', b'y', 0xbe]).unwrap();
    assert_eq!(fields, pairs(&[("?", "?"), ("?", "?")]), "it might be a secret");
}

#[test]
fn hidden_values_do_not_enter_the_table() {
    let mut decoder = Decoder::new(HiddenNames::new(["Authorization"]));
    // Literal with indexing of static name 23, authorization; then the entry itself.
    let fields = decode(&mut decoder, b"\x57\x06secret\xbe").unwrap();
    assert_eq!(
        fields,
        pairs(&[("authorization", "***"), ("authorization", "***")])
    );
    assert!(!format!("{decoder:?}").contains(&format!("{:?}", b"secret")));
}

#[test]
fn refuses_what_is_no_block() {
    for block in [
        &[0x80][..],
        &[0x00, 0x05, b'a'],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x40],
    ] {
        let mut decoder = Decoder::new(HiddenNames::default());
        assert_eq!(decode(&mut decoder, block), Err(Malformed), "{block:?}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(fields in prop::collection::vec(("[a-z-]{1,20}", ".{0,300}"), 0..8)) {
        let mut block = Vec::new();
        for (name, value) in &fields {
            encode(name.as_bytes(), value.as_bytes(), &mut block);
        }
        let mut decoder = Decoder::new(HiddenNames::default());
        prop_assert_eq!(decode(&mut decoder, &block).unwrap(), fields);
    }

    #[test]
    fn any_bytes_do_no_harm(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
        let mut decoder = Decoder::new(HiddenNames::new(["cookie"]));
        for block in blocks {
            drop(decode(&mut decoder, &block));
            prop_assert!(decoder.size <= decoder.limit);
        }
    }
}
