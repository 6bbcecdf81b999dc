//! Buffers: bodies, configurations, Layotto's call data.

use bytes::Bytes;

use crate::{
    abi::{Buffer, Status},
    guest::Guest,
    memory::{Cx, Outcome, give, read, write_u32},
};

pub(super) async fn get(cx: &mut Cx<'_>, kind: u32, start: u32, max: u32, ptr: u32, len: u32) -> Outcome {
    let buffer = find(cx.data_mut(), Buffer::of(kind)?)?;
    let bytes = part(&buffer, start, max)?;
    give(cx, &bytes, ptr, len).await
}

pub(super) async fn configuration(cx: &mut Cx<'_>, ptr: u32, len: u32) -> Outcome {
    let bytes = cx.data().facts.configuration.clone();
    give(cx, &bytes, ptr, len).await
}

pub(super) fn status(cx: &mut Cx<'_>, kind: u32, len: u32, flags: u32) -> Outcome {
    let length = find(cx.data_mut(), Buffer::of(kind)?)?.len();
    write_u32(cx, len, u32::try_from(length).unwrap_or(u32::MAX))?;
    write_u32(cx, flags, 0)
}

pub(super) fn set(cx: &mut Cx<'_>, kind: u32, start: u32, size: u32, ptr: u32, len: u32) -> Outcome {
    let bytes = read(cx, ptr, len)?;
    let guest = cx.data_mut();
    let most = guest.facts.limits.memory;
    let kind = Buffer::of(kind)?;
    match kind {
        Buffer::CallData => {
            guest.call_data = replaced(&guest.call_data, start, size, &bytes, most)?.into();
        }
        Buffer::RequestBody => {
            let stream = guest.stream().ok_or(Status::NotFound)?;
            stream.request.body = replaced(&stream.request.body, start, size, &bytes, most)?.into();
        }
        Buffer::ResponseBody => {
            let stream = guest.stream().ok_or(Status::NotFound)?;
            stream.response_body = replaced(&stream.response_body, start, size, &bytes, most)?.into();
        }
        _ => {
            find(guest, kind)?;
            return Err(Status::BadArgument.into());
        }
    }
    Ok(())
}

fn find(guest: &mut Guest, buffer: Buffer) -> Result<Bytes, Status> {
    let found = match buffer {
        Buffer::VmConfiguration => Some(guest.facts.vm_configuration.clone()),
        Buffer::PluginConfiguration => Some(guest.facts.configuration.clone()),
        Buffer::CallData => Some(guest.call_data.clone()),
        Buffer::RequestBody => guest.stream().map(|stream| stream.request.body.clone()),
        Buffer::ResponseBody => guest.stream().map(|stream| stream.response_body.clone()),
        Buffer::CallBody => guest.reply.as_ref().map(|reply| reply.body.clone()),
        Buffer::GrpcMessage => guest.message().cloned(),
        Buffer::Downstream | Buffer::Upstream => None,
    };
    found.ok_or(Status::NotFound)
}

/// At most `max` bytes from `start` on; there is nothing behind the end.
fn part(buffer: &Bytes, start: u32, max: u32) -> Result<Bytes, Status> {
    start.checked_add(max).ok_or(Status::BadArgument)?;
    let start = (start as usize).min(buffer.len());
    let end = start.saturating_add(max as usize).min(buffer.len());
    Ok(buffer.slice(start..end))
}

/// What `proxy_set_buffer_bytes` makes: `size` bytes from `start` on give way to `bytes`; behind the
/// end these are appended.
fn replaced(old: &[u8], start: u32, size: u32, bytes: &[u8], most: usize) -> Result<Vec<u8>, Status> {
    let start = (start as usize).min(old.len());
    let end = start.saturating_add(size as usize).min(old.len());
    let (head, tail) = (
        old.get(..start).unwrap_or_default(),
        old.get(end..).unwrap_or_default(),
    );
    match head.len() + bytes.len() + tail.len() <= most {
        true => Ok([head, bytes, tail].concat()),
        false => Err(Status::InternalFailure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(start: u32, size: u32) -> String {
        String::from_utf8(replaced(b"0123", start, size, b"ab", 100).unwrap()).unwrap()
    }

    #[test]
    fn nothing_replaced_at_the_start_prepends() {
        assert_eq!(set(0, 0), "ab0123");
    }

    #[test]
    fn a_start_at_or_behind_the_end_appends() {
        assert_eq!(set(4, 0), "0123ab");
        assert_eq!(set(u32::MAX, u32::MAX), "0123ab");
    }

    #[test]
    fn a_range_is_replaced_and_may_reach_beyond_the_end() {
        assert_eq!(set(1, 2), "0ab3");
        assert_eq!(set(0, u32::MAX), "ab");
        assert_eq!(set(2, 100), "01ab");
    }

    #[test]
    fn a_buffer_is_bounded() {
        assert_eq!(replaced(b"0123", 0, 0, b"ab", 5), Err(Status::InternalFailure));
    }
}
