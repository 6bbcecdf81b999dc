//! Slots of a cluster: which a key belongs to.

/// How many there are.
const COUNT: u16 = 16_384;

/// The slot of a key: that of its tag, the text within its first braces, where it has one.
pub(crate) fn of(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % COUNT
}

/// The text between the first `{` and the `}` after it, if there is any.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|byte| *byte == b'}')?;
    rest.get(..close).filter(|tag| !tag.is_empty())
}

/// CRC-16/XMODEM, of each byte.
const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (crc << 8) ^ CRC[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

/// The name of a key that goes with `key`: `<key><suffix>`, on a cluster in such a form that it is
/// in the same slot.
pub(crate) fn beside(key: &str, suffix: &str, clustered: bool) -> String {
    let plain = format!("{key}{suffix}");
    if !clustered {
        return plain;
    }
    let slot = of(key.as_bytes());
    let tagged = format!("{{{key}}}{suffix}");
    // Neither fits a key with a brace of its own that makes no tag: then a number is looked for.
    let numbered = (0_u32..).map(|number| format!("{plain}|{number}"));
    [plain.clone(), tagged]
        .into_iter()
        .chain(numbered)
        .find(|name| of(name.as_bytes()) == slot)
        .unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` answers.
        for (key, slot) in [
            ("", 0),
            ("123456789", 12739),
            ("foo", 12182),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
        ] {
            assert_eq!(of(key.as_bytes()), slot, "{key}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_key_beside_another_is_in_its_slot(key in "[a{}|]{0,8}", plain in "[a-z|/{}]{0,12}") {
            for key in [key, plain] {
                let name = beside(&key, "|||fence", true);
                proptest::prop_assert_eq!(of(name.as_bytes()), of(key.as_bytes()), "{}", name);
            }
        }
    }
}
