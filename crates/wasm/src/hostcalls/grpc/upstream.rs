//! How guests say where a call goes: by the name of a cluster, or by Envoy's message `GrpcService`,
//! which has the name in the first field of its first field.

/// The cluster that a message names; `None`: it is no such message, or names none.
pub(super) fn of_envoy(message: &[u8]) -> Option<&str> {
    let envoy_grpc = field(message, 1)?;
    let name = std::str::from_utf8(field(envoy_grpc, 1)?).ok()?;
    Some(name).filter(|name| !name.is_empty())
}

/// The bytes of a field of a message of protobuf, the last if there are several.
fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = match tag & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => varint(&mut message)?,
            5 => 4,
            // Groups, which nobody writes any more.
            _ => return None,
        };
        let (bytes, rest) = message.split_at_checked(usize::try_from(length).ok()?)?;
        message = rest;
        if tag == number << 3 | 2 {
            found = Some(bytes);
        }
    }
    found
}

/// Seven bits in each byte, the lowest first.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn the_name_is_found_beside_other_fields() {
        // envoy_grpc { cluster_name: "up", authority: "a" }, timeout { seconds: 1 }
        let message = b"\x0a\x07\x0a\x02up\x12\x01a\x1a\x02\x08\x01";
        assert_eq!(of_envoy(message), Some("up"));
        // A number of 64 bits and one of 32 before it.
        let message = b"\x39\0\0\0\0\0\0\0\0\x45\0\0\0\0\x0a\x04\x0a\x02up";
        assert_eq!(of_envoy(message), Some("up"));
    }

    #[test]
    fn what_is_no_such_message_names_nothing() {
        for bytes in [
            &b""[..],
            b"up",
            // google_grpc
            b"\x12\x04\x0a\x02up",
            b"\x0a\x02\x0a\0",
            b"\x0a\x05\x0a\x02up",
            b"\x0a\x04\x0a\x02\xff\xff",
            b"\x0b",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(of_envoy(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in vec(prop_oneof![0u8..32, any::<u8>()], 0..40)) {
            if let Some(name) = of_envoy(&bytes) {
                prop_assert!(name.len() < bytes.len());
            }
        }
    }
}
