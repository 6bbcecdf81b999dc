//! Headers and trailers.

use bytes::Bytes;

use crate::{
    Headers,
    abi::{Map, Status},
    grpc::Event,
    guest::Guest,
    memory::{Cx, Outcome, check, give, read, write_u32},
    pairs,
};

/// The most headers in a map.
const MOST: usize = 1_000;

/// The most bytes of names and values in a map.
const MOST_BYTES: usize = 1 << 20;

pub(super) fn size(cx: &mut Cx<'_>, map: u32, size: u32) -> Outcome {
    let bytes = pairs::encode(&find(cx.data_mut(), map)?.0).len();
    write_u32(cx, size, u32::try_from(bytes).unwrap_or(u32::MAX))
}

pub(super) async fn pairs(cx: &mut Cx<'_>, map: u32, ptr: u32, len: u32) -> Outcome {
    let bytes = pairs::encode(&find(cx.data_mut(), map)?.0);
    give(cx, &bytes, ptr, len).await
}

pub(super) async fn value(cx: &mut Cx<'_>, map: u32, kp: u32, kn: u32, ptr: u32, len: u32) -> Outcome {
    let name = read(cx, kp, kn)?;
    let value = find(cx.data_mut(), map)?
        .get(&name)
        .cloned()
        .ok_or(Status::NotFound)?;
    give(cx, &value, ptr, len).await
}

pub(super) fn set_pairs(cx: &mut Cx<'_>, map: u32, ptr: u32, len: u32) -> Outcome {
    let list = list(cx, ptr, len, Status::BadArgument)?;
    *writable(cx, map)? = list;
    Ok(())
}

/// A list that the guest hands over; it gets `wrong` for bytes that are none, or one that is too large.
pub(super) fn list(cx: &mut Cx<'_>, ptr: u32, len: u32, wrong: Status) -> Outcome<Headers> {
    check(cx, ptr, len as usize)?;
    if len as usize > MOST_BYTES {
        return Err(wrong.into());
    }
    let bytes = read(cx, ptr, len)?;
    Ok(Headers(pairs::decode(&bytes, MOST).map_err(|_| wrong)?))
}

pub(super) fn add(cx: &mut Cx<'_>, map: u32, kp: u32, kn: u32, vp: u32, vn: u32) -> Outcome {
    let (name, value) = (name(cx, kp, kn)?, read(cx, vp, vn)?);
    room(writable(cx, map)?, &name, &value, |_| true)?.add(name, value);
    Ok(())
}

pub(super) fn replace(cx: &mut Cx<'_>, map: u32, kp: u32, kn: u32, vp: u32, vn: u32) -> Outcome {
    let (name, value) = (name(cx, kp, kn)?, read(cx, vp, vn)?);
    let stays = |other: &Bytes| !other.eq_ignore_ascii_case(&name);
    room(writable(cx, map)?, &name, &value, stays)?.replace(name, value);
    Ok(())
}

pub(super) fn remove(cx: &mut Cx<'_>, map: u32, kp: u32, kn: u32) -> Outcome {
    let name = read(cx, kp, kn)?;
    writable(cx, map)?.remove(&name);
    Ok(())
}

fn name(cx: &mut Cx<'_>, ptr: u32, len: u32) -> Outcome<Bytes> {
    let name = read(cx, ptr, len)?;
    match name.is_empty() {
        true => Err(Status::BadArgument.into()),
        false => Ok(name),
    }
}

/// The map, if it has room for a value beside those of the names that stay.
fn room<'a>(
    map: &'a mut Headers,
    name: &Bytes,
    value: &Bytes,
    stays: impl Fn(&Bytes) -> bool,
) -> Result<&'a mut Headers, Status> {
    let (mut count, mut bytes) = (1, name.len() + value.len());
    for (name, value) in map.0.iter().filter(|(name, _)| stays(name)) {
        count += 1;
        bytes += name.len() + value.len();
    }
    match count <= MOST && bytes <= MOST_BYTES {
        true => Ok(map),
        false => Err(Status::BadArgument),
    }
}

/// Replies to calls are read only.
fn writable<'a>(cx: &'a mut Cx<'_>, map: u32) -> Result<&'a mut Headers, Status> {
    match Map::of(map)? {
        Map::CallHeaders | Map::CallTrailers | Map::GrpcInitial | Map::GrpcTrailing => {
            Err(Status::BadArgument)
        }
        _ => find(cx.data_mut(), map),
    }
}

/// A map that is not there now is a wrong argument.
fn find(guest: &mut Guest, map: u32) -> Result<&mut Headers, Status> {
    let found = match Map::of(map)? {
        Map::RequestHeaders => guest.stream().map(|stream| &mut stream.request.headers),
        Map::RequestTrailers => guest.stream().and_then(|stream| stream.request.trailers.as_mut()),
        Map::ResponseHeaders => guest.stream().map(|stream| &mut stream.response_headers),
        Map::CallHeaders => guest.reply.as_mut().map(|reply| &mut reply.headers),
        Map::CallTrailers => guest.trailers_of_reply(),
        Map::ResponseTrailers => guest
            .stream()
            .and_then(|stream| stream.response_trailers.as_mut()),
        Map::GrpcInitial => match &mut guest.event {
            Some(Event::Initial(headers)) => Some(headers),
            _ => None,
        },
        Map::GrpcTrailing => match &mut guest.event {
            Some(Event::Trailing(trailers)) => Some(trailers),
            _ => None,
        },
    };
    found.ok_or(Status::BadArgument)
}
