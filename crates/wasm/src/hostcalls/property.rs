//! Properties: what a guest can ask about itself and its request, by a path whose parts are divided
//! by NUL. Numbers are 64 bits, little endian.

use std::net::SocketAddr;

use bytes::Bytes;

use super::control::nanoseconds;
use crate::{
    abi::Status,
    guest::Guest,
    memory::{Cx, Outcome, give, read},
    shared::LONGEST_NAME,
    stream::{Request, Stream},
};

/// The most properties that a guest sets for one request.
const MOST: usize = 100;

/// The most bytes of their paths and values together.
const MOST_BYTES: usize = 1 << 20;

pub(super) async fn get(cx: &mut Cx<'_>, pp: u32, pn: u32, ptr: u32, len: u32) -> Outcome {
    let path = read(cx, pp, pn)?;
    let value = find(cx.data_mut(), &path).ok_or(Status::NotFound)?;
    give(cx, &value, ptr, len).await
}

/// Only names of the guest's own; what the host knows cannot be set.
pub(super) fn set(cx: &mut Cx<'_>, pp: u32, pn: u32, vp: u32, vn: u32) -> Outcome {
    let (path, value) = (read(cx, pp, pn)?, read(cx, vp, vn)?);
    let guest = cx.data_mut();
    let own = guest.stream().and_then(|stream| own(stream, &path)).is_some();
    if !own && find(guest, &path).is_some() {
        return Err(Status::NotFound.into());
    }
    let stream = guest.stream().ok_or(Status::NotFound)?;
    let others = stream.properties.iter().filter(|(name, _)| *name != path);
    let lengths = others.map(|(name, value)| name.len() + value.len());
    let (count, bytes) = lengths.fold((1, path.len() + value.len()), |(count, bytes), length| {
        (count + 1, bytes + length)
    });
    if count > MOST || bytes > MOST_BYTES || path.len() > LONGEST_NAME {
        return Err(Status::InternalFailure.into());
    }
    stream.properties.retain(|(name, _)| *name != path);
    stream.properties.push((path, value));
    Ok(())
}

fn own<'a>(stream: &'a Stream, path: &[u8]) -> Option<&'a Bytes> {
    let found = stream.properties.iter().find(|(name, _)| name == path);
    found.map(|(_, value)| value)
}

fn find(guest: &mut Guest, path: &[u8]) -> Option<Bytes> {
    // Some guests end the path with a NUL, too.
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let parts: Vec<&[u8]> = path.split(|byte| *byte == 0).collect();
    match parts[..] {
        [b"plugin_name"] => Some(guest.facts.name.as_bytes().to_vec().into()),
        [b"plugin_root_id" | b"plugin_vm_id"] => Some(Bytes::new()),
        [b"request", name] => request(guest.stream()?, name),
        [b"request", b"headers", name] => guest.stream()?.request.headers.get(name).cloned(),
        [b"response", b"headers", name] => guest.stream()?.response_headers.get(name).cloned(),
        [b"response", b"code"] => code(guest.stream()?).map(integer),
        [b"source", name] => source(guest.stream()?.request.source, name),
        _ => own(guest.stream()?, path).cloned(),
    }
}

fn code(stream: &Stream) -> Option<u64> {
    if let Some(local) = &stream.local {
        return Some(local.status.into());
    }
    std::str::from_utf8(stream.response_headers.get(b":status")?)
        .ok()?
        .parse()
        .ok()
}

fn request(stream: &Stream, name: &[u8]) -> Option<Bytes> {
    let request = &stream.request;
    let header = |name: &[u8]| request.headers.get(name).cloned();
    match name {
        b"path" => header(b":path"),
        b"url_path" => split_path(request).map(|(path, _)| path),
        b"query" => split_path(request).map(|(_, query)| query),
        b"host" => header(b":authority"),
        b"method" => header(b":method"),
        b"scheme" => header(b":scheme"),
        b"referer" => header(b"referer"),
        b"useragent" => header(b"user-agent"),
        b"id" => header(b"x-request-id"),
        b"protocol" => Some(Bytes::from_static(request.protocol.as_bytes())),
        b"time" => Some(integer(nanoseconds(stream.begun?))),
        b"duration" => {
            let elapsed = stream.begun?.elapsed().unwrap_or_default();
            Some(integer(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)))
        }
        b"size" => Some(integer(request.body.len() as u64)),
        b"total_size" => {
            let headers: usize = request
                .headers
                .0
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum();
            Some(integer((headers + request.body.len()) as u64))
        }
        _ => None,
    }
}

fn split_path(request: &Request) -> Option<(Bytes, Bytes)> {
    let path = request.headers.get(b":path")?;
    match path.iter().position(|byte| *byte == b'?') {
        Some(at) => Some((path.slice(..at), path.slice(at + 1..))),
        None => Some((path.clone(), Bytes::new())),
    }
}

/// The address of a request from inside the process is "".
fn source(source: Option<SocketAddr>, name: &[u8]) -> Option<Bytes> {
    match name {
        b"address" => Some(
            source
                .map_or_else(String::new, |source| source.to_string())
                .into(),
        ),
        b"port" => Some(integer(source?.port().into())),
        _ => None,
    }
}

fn integer(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}
