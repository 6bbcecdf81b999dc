//! gRPC over the network, to the clusters that `proxy_http_call` may go to, too.

mod upstream;

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{call::wait, map};
use crate::{
    Headers,
    abi::Status,
    calls::{Held, Kind, What},
    grpc::{self, Messages, SILENCE},
    guest::{Guest, ROOT, allows},
    memory::{Cx, Outcome, check, read, text, write_u32},
};

/// Where a call or stream goes, as the ABI has it: address and length of each.
struct To {
    upstream: [u32; 2],
    service: [u32; 2],
    method: [u32; 2],
    metadata: [u32; 2],
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn call(
    cx: &mut Cx<'_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    message: u32,
    message_len: u32,
    timeout: u32,
    token: u32,
) -> Outcome {
    check(cx, token, 4)?;
    let to = To {
        upstream: [upstream, upstream_len],
        service: [service, service_len],
        method: [method, method_len],
        metadata: [metadata, metadata_len],
    };
    let call = to.read(cx)?;
    let message = read(cx, message, message_len)?;
    let number = begin_call(cx.data_mut(), call, message, wait(timeout))?;
    write_u32(cx, token, number)
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn stream(
    cx: &mut Cx<'_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    token: u32,
) -> Outcome {
    check(cx, token, 4)?;
    let to = To {
        upstream: [upstream, upstream_len],
        service: [service, service_len],
        method: [method, method_len],
        metadata: [metadata, metadata_len],
    };
    let call = to.read(cx)?;
    let number = begin_stream(cx.data_mut(), call)?;
    write_u32(cx, token, number)
}

/// Nothing at address 0 at the end is no message: so a guest ends a stream without another one.
pub(super) fn send(cx: &mut Cx<'_>, token: u32, ptr: u32, len: u32, end: u32) -> Outcome {
    let (message, last) = (read(cx, ptr, len)?, end != 0);
    let message = Some(message).filter(|message| !(last && ptr == 0 && message.is_empty()));
    let guest = cx.data_mut();
    let most = guest.facts.limits.memory;
    Ok(guest.calls.send(token, message, last, most)?)
}

pub(super) fn cancel(cx: &mut Cx<'_>, token: u32) -> Outcome {
    Ok(cx.data_mut().calls.cancel(token)?)
}

pub(super) fn close(cx: &mut Cx<'_>, token: u32) -> Outcome {
    Ok(cx.data_mut().calls.close(token)?)
}

/// What a guest asks for, and may.
struct Asked {
    cluster: String,
    service: String,
    method: String,
    metadata: Headers,
    bytes: usize,
}

impl To {
    fn read(&self, cx: &mut Cx<'_>) -> Outcome<Asked> {
        let cluster = cluster(cx, self.upstream)?;
        let mut name = |[ptr, len]: [u32; 2]| text(cx, ptr, len);
        let (service, method) = (name(self.service)?, name(self.method)?);
        let [ptr, len] = self.metadata;
        let metadata = map::list(cx, ptr, len, Status::ParseFailure)?;
        let guest = cx.data();
        let allowed = allows(&guest.facts.allowed.clusters, &cluster);
        let named = is_name(&service) && is_name(&method);
        if !named || !allowed || !guest.facts.host.has_cluster(&cluster) {
            return Err(Status::ParseFailure.into());
        }
        Ok(Asked {
            cluster,
            service,
            method,
            metadata,
            bytes: len as usize,
        })
    }
}

/// The cluster that is named, by its name or as Envoy does.
fn cluster(cx: &mut Cx<'_>, [ptr, len]: [u32; 2]) -> Outcome<String> {
    let bytes = read(cx, ptr, len)?;
    let name = text(cx, ptr, len)?;
    if cx.data().facts.host.has_cluster(&name) {
        return Ok(name);
    }
    Ok(upstream::of_envoy(&bytes).map_or(name, str::to_owned))
}

/// Whether it can be a part of a path.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

impl Asked {
    fn with(self, messages: Messages, timeout: Option<Duration>) -> grpc::Call {
        grpc::Call {
            cluster: self.cluster,
            service: self.service,
            method: self.method,
            metadata: self.metadata,
            messages,
            timeout,
        }
    }
}

fn begin_call(guest: &mut Guest, asked: Asked, message: Bytes, limit: Duration) -> Result<u32, Status> {
    let held = room(guest, asked.bytes + message.len())?;
    let call = asked.with(Messages::one(message, held), Some(limit));
    let events = guest.facts.host.grpc(&guest.asker, call);
    let answer = grpc::unary(events, limit);
    let news = stream::once(async move { What::Grpc(answer.await) });
    Ok(guest.calls.begin(guest.effective, Kind::Unary, news.boxed()))
}

fn begin_stream(guest: &mut Guest, asked: Asked) -> Result<u32, Status> {
    let held = room(guest, asked.bytes)?;
    let (way, messages) = Messages::channel();
    let events = guest.facts.host.grpc(&guest.asker, asked.with(messages, None));
    let silence = Some(SILENCE).filter(|_| guest.effective != ROOT);
    let news = grpc::all(events, silence).map(move |event| {
        // What it was begun with counts as long as it lives.
        let _held = &held;
        What::Grpc(event)
    });
    let kind = Kind::Stream(Some(way));
    Ok(guest.calls.begin(guest.effective, kind, news.boxed()))
}

fn room(guest: &Guest, bytes: usize) -> Result<Held, Status> {
    let room = guest.calls.room(bytes, guest.facts.limits.memory);
    room.ok_or(Status::InternalFailure)
}
