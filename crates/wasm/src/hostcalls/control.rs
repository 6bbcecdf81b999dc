//! Streams, contexts, timers.

use std::time::{Duration, SystemTime};

use super::map;
use crate::{
    abi::Status,
    guest::{Done, ROOT},
    memory::{Cx, Outcome, give, read, write, write_u32},
    stream::Reply,
};

pub(super) fn continue_stream(cx: &mut Cx<'_>, stream: u32) -> Outcome {
    match stream {
        0 => continue_request(cx),
        1 => continue_response(cx),
        // There are no TCP streams.
        2 | 3 => Err(Status::Unimplemented.into()),
        _ => Err(Status::BadArgument.into()),
    }
}

pub(super) fn close_stream(cx: &mut Cx<'_>, stream: u32) -> Outcome {
    match (stream, cx.data_mut().stream()) {
        (0 | 1, Some(found)) => found.closed = true,
        _ => return Err(Status::BadArgument.into()),
    }
    Ok(())
}

pub(super) fn continue_request(cx: &mut Cx<'_>) -> Outcome {
    cx.data_mut().stream().ok_or(Status::BadArgument)?.continued = true;
    Ok(())
}

/// Only the replies of others are held back; a function's own is not.
pub(super) fn continue_response(cx: &mut Cx<'_>) -> Outcome {
    cx.data_mut()
        .stream()
        .ok_or(Status::BadArgument)?
        .response_continued = true;
    Ok(())
}

/// The route was chosen before the guest was asked.
pub(super) fn clear_route_cache(_: &mut Cx<'_>) -> Outcome {
    Ok(())
}

pub(super) async fn status(cx: &mut Cx<'_>, code: u32, ptr: u32, len: u32) -> Outcome {
    let (number, message) = cx.data().status.clone();
    write_u32(cx, code, number)?;
    give(cx, message.as_bytes(), ptr, len).await
}

pub(super) fn done(cx: &mut Cx<'_>) -> Outcome {
    let guest = cx.data_mut();
    match guest.done {
        Done::Pending => guest.done = Done::Finished,
        _ => return Err(Status::NotFound.into()),
    }
    Ok(())
}

pub(super) fn set_effective_context(cx: &mut Cx<'_>, context: u32) -> Outcome {
    let guest = cx.data_mut();
    let known = context == ROOT || guest.stream.as_ref().is_some_and(|stream| stream.id == context);
    if !known {
        return Err(Status::BadArgument.into());
    }
    guest.effective = context;
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn send_local_response(
    cx: &mut Cx<'_>,
    status: u32,
    details: u32,
    details_len: u32,
    body: u32,
    body_len: u32,
    headers: u32,
    headers_len: u32,
    grpc_status: u32,
) -> Outcome {
    read(cx, details, details_len)?;
    let body = read(cx, body, body_len)?;
    let headers = map::list(cx, headers, headers_len, Status::BadArgument)?;
    if !(200..1000).contains(&status) {
        return Err(Status::BadArgument.into());
    }
    let stream = cx.data_mut().stream().filter(|stream| !stream.answered);
    let stream = stream.ok_or(Status::BadArgument)?;
    // The first one counts: it may be on its way.
    stream.local.get_or_insert(Reply {
        status,
        headers,
        body,
        // -1: the host may choose.
        grpc_status: (grpc_status != u32::MAX).then_some(grpc_status),
    });
    Ok(())
}

pub(super) fn set_tick_period(cx: &mut Cx<'_>, ms: u32) -> Outcome {
    cx.data_mut().tick = match ms {
        0 => None,
        ms => Some(Duration::from_millis(ms.into())),
    };
    Ok(())
}

pub(super) fn current_time(cx: &mut Cx<'_>, time: u32) -> Outcome {
    write(cx, time, &nanoseconds(SystemTime::now()).to_le_bytes())
}

/// Since 1970.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
