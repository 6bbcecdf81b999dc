//! Calls over the network. They go on while the guest is not running; it is told of their end.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use crate::{
    Headers,
    abi::Status,
    guest::{Ended, Guest, allows},
    host::{Failure, HttpCall},
    memory::{Cx, Outcome, check, read, text, write_u32},
    pairs,
};

/// The most calls that a guest has under way at a time. What they send is no more than it has memory.
const MOST: usize = 64;

/// The longest that a guest can wait for a reply; 0 stands for it, too.
const LONGEST: Duration = Duration::from_secs(60);

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn http_call(
    cx: &mut Cx<'_>,
    upstream: u32,
    upstream_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    trailers: u32,
    trailers_len: u32,
    timeout: u32,
    token: u32,
) -> Outcome {
    check(cx, token, 4)?;
    let call = HttpCall {
        cluster: text(cx, upstream, upstream_len)?,
        headers: list(cx, headers, headers_len)?,
        body: read(cx, body, body_len)?,
        trailers: list(cx, trailers, trailers_len)?,
        timeout: match timeout {
            0 => LONGEST,
            ms => Duration::from_millis(ms.into()).min(LONGEST),
        },
    };
    let bytes = [headers_len, body_len, trailers_len];
    let bytes = bytes.map(|length| length as usize).iter().sum();
    let number = start(cx.data_mut(), call, bytes)?;
    write_u32(cx, token, number)
}

fn list(cx: &mut Cx<'_>, ptr: u32, len: u32) -> Outcome<Headers> {
    let bytes = read(cx, ptr, len)?;
    Ok(Headers(pairs::decode(&bytes).map_err(|_| Status::BadArgument)?))
}

fn start(guest: &mut Guest, call: HttpCall, bytes: usize) -> Result<u32, Status> {
    let required: [&[u8]; 3] = [b":method", b":path", b":authority"];
    let complete = required.iter().all(|name| call.headers.get(name).is_some());
    let allowed = allows(&guest.facts.allowed.clusters, &call.cluster);
    if !complete || !allowed || !guest.facts.host.has_cluster(&call.cluster) {
        return Err(Status::BadArgument);
    }
    let calling = guest.calling + bytes;
    if guest.calls.len() >= MOST || calling > guest.facts.limits.memory {
        return Err(Status::InternalFailure);
    }
    guest.calling = calling;
    guest.last_token += 1;
    let (context, token) = (guest.effective, guest.last_token);
    let (host, asker) = (guest.facts.host.clone(), guest.asker.clone());
    let answered = async move {
        let waited = timeout(call.timeout, host.http_call(&asker, call)).await;
        Ended {
            context,
            token,
            bytes,
            result: waited.unwrap_or_else(|_| Err(Failure::Failed("timed out".to_owned()))),
        }
    };
    guest.calls.push(answered.boxed());
    Ok(token)
}

/// There is no gRPC for guests; `layotto.<Method>` is how they reach the runtime.
#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn grpc_call(
    cx: &mut Cx<'_>,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    token: u32,
) -> Outcome {
    check(cx, token, 4)?;
    Err(Status::InternalFailure.into())
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn grpc_stream(
    cx: &mut Cx<'_>,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    token: u32,
) -> Outcome {
    check(cx, token, 4)?;
    Err(Status::InternalFailure.into())
}

pub(super) fn grpc_send(cx: &mut Cx<'_>, _token: u32, ptr: u32, len: u32, _end: u32) -> Outcome {
    check(cx, ptr, len as usize)?;
    Err(Status::NotFound.into())
}

pub(super) fn grpc_end(_: &mut Cx<'_>, _token: u32) -> Outcome {
    Err(Status::NotFound.into())
}
