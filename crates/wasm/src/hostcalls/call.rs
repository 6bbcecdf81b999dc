//! Requests over the network.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::timeout;

use super::map;
use crate::{
    abi::Status,
    calls::{Kind, What},
    guest::{Guest, allows},
    host::{Failure, HttpCall},
    memory::{Cx, Outcome, check, read, text, write_u32},
};

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
        headers: map::list(cx, headers, headers_len, Status::BadArgument)?,
        body: read(cx, body, body_len)?,
        trailers: map::list(cx, trailers, trailers_len, Status::BadArgument)?,
        timeout: wait(timeout),
    };
    let bytes = [headers_len, body_len, trailers_len];
    let bytes = bytes.map(|length| length as usize).iter().sum();
    let number = start(cx.data_mut(), call, bytes)?;
    write_u32(cx, token, number)
}

/// How long a guest waits that says so many milliseconds.
pub(super) fn wait(ms: u32) -> Duration {
    match ms {
        0 => LONGEST,
        ms => Duration::from_millis(ms.into()).min(LONGEST),
    }
}

fn start(guest: &mut Guest, call: HttpCall, bytes: usize) -> Result<u32, Status> {
    let required: [&[u8]; 3] = [b":method", b":path", b":authority"];
    let complete = required.iter().all(|name| call.headers.get(name).is_some());
    let allowed = allows(&guest.facts.allowed.clusters, &call.cluster);
    if !complete || !allowed || !guest.facts.host.has_cluster(&call.cluster) {
        return Err(Status::BadArgument);
    }
    let held = guest.calls.room(bytes, guest.facts.limits.memory);
    let held = held.ok_or(Status::InternalFailure)?;
    let (host, asker) = (guest.facts.host.clone(), guest.asker.clone());
    let answered = async move {
        let _held = held;
        let waited = timeout(call.timeout, host.http_call(&asker, call)).await;
        What::Http(waited.unwrap_or_else(|_| Err(Failure::Failed("timed out".to_owned()))))
    };
    let news = stream::once(answered).boxed();
    Ok(guest.calls.begin(guest.effective, Kind::Http, news))
}
