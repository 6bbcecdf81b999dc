//! Shared data and queues. The virtual machine of every plug-in is called "", as in Layotto, whose
//! configuration has no name for it: all functions share them.

use std::{mem, sync::Arc};

use bytes::Bytes;

use crate::{
    abi::Status,
    memory::{Cx, Outcome, check, give, read, write_u32},
    shared::Shared,
};

pub(super) async fn get(cx: &mut Cx<'_>, kp: u32, kn: u32, ptr: u32, len: u32, cas: u32) -> Outcome {
    let key = read(cx, kp, kn)?;
    let (value, version) = cx.data().facts.shared.get(&key).ok_or(Status::NotFound)?;
    write_u32(cx, cas, version)?;
    give(cx, &value, ptr, len).await
}

pub(super) fn set(cx: &mut Cx<'_>, kp: u32, kn: u32, vp: u32, vn: u32, cas: u32) -> Outcome {
    let (key, value) = (read(cx, kp, kn)?, read(cx, vp, vn)?);
    Ok(cx.data().facts.shared.set(key, value, cas)?)
}

pub(super) fn register(cx: &mut Cx<'_>, ptr: u32, len: u32, token: u32) -> Outcome {
    let name = read(cx, ptr, len)?;
    check(cx, token, 4)?;
    let guest = cx.data();
    let number = guest
        .facts
        .shared
        .register(Bytes::new(), name, guest.signals.as_ref())?;
    write_u32(cx, token, number)
}

pub(super) fn resolve(cx: &mut Cx<'_>, vp: u32, vn: u32, ptr: u32, len: u32, token: u32) -> Outcome {
    let (vm, name) = (read(cx, vp, vn)?, read(cx, ptr, len)?);
    let number = cx.data().facts.shared.resolve(vm, name)?;
    write_u32(cx, token, number)
}

pub(super) fn enqueue(cx: &mut Cx<'_>, token: u32, ptr: u32, len: u32) -> Outcome {
    let item = read(cx, ptr, len)?;
    Ok(cx.data().facts.shared.enqueue(token, item)?)
}

pub(super) async fn dequeue(cx: &mut Cx<'_>, token: u32, ptr: u32, len: u32) -> Outcome {
    // Before the item is taken.
    check(cx, ptr, 4)?;
    check(cx, len, 4)?;
    let shared = cx.data().facts.shared.clone();
    let mut taken = Taken {
        item: shared.dequeue(token)?,
        is_given: false,
        shared,
        token,
    };
    give(cx, &taken.item, ptr, len).await?;
    taken.is_given = true;
    Ok(())
}

/// An item that goes back unless it is given, also when the call is given up meanwhile.
struct Taken {
    item: Bytes,
    is_given: bool,
    shared: Arc<Shared>,
    token: u32,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.is_given {
            self.shared.put_back(self.token, mem::take(&mut self.item));
        }
    }
}
