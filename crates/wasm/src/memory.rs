//! The guest's memory: everything a guest points to is checked and copied here, and what the guest is
//! given lies in memory that it allocated itself.

use bytes::Bytes;
use wasmtime::{Caller, Extern, Memory};

use crate::{abi::Status, guest::Guest};

/// A host function's view of its caller.
pub(crate) type Cx<'a> = Caller<'a, Guest>;

/// How a host function ends other than well.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The guest gets this number.
    Status(Status),
    /// The guest ends.
    Trap(wasmtime::Error),
}

/// What a host function comes to.
pub(crate) type Outcome<T = ()> = Result<T, Fail>;

impl From<Status> for Fail {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

const OUTSIDE: Fail = Fail::Status(Status::InvalidMemoryAccess);

/// A copy of `len` bytes at `ptr`.
pub(crate) fn read(cx: &mut Cx<'_>, ptr: u32, len: u32) -> Outcome<Bytes> {
    let memory = memory(cx)?;
    let all = memory.data(&*cx);
    let from = all.get(ptr as usize..).ok_or(OUTSIDE)?;
    let found = from.get(..len as usize).ok_or(OUTSIDE)?;
    Ok(Bytes::copy_from_slice(found))
}

/// Text of `len` bytes at `ptr`; a byte that is not UTF-8 becomes a replacement character.
pub(crate) fn text(cx: &mut Cx<'_>, ptr: u32, len: u32) -> Outcome<String> {
    Ok(String::from_utf8_lossy(&read(cx, ptr, len)?).into_owned())
}

/// Writes `bytes` at `ptr`.
pub(crate) fn write(cx: &mut Cx<'_>, ptr: u32, bytes: &[u8]) -> Outcome {
    let memory = memory(cx)?;
    let all = memory.data_mut(&mut *cx);
    let from = all.get_mut(ptr as usize..).ok_or(OUTSIDE)?;
    from.get_mut(..bytes.len()).ok_or(OUTSIDE)?.copy_from_slice(bytes);
    Ok(())
}

/// Writes a number of 32 bits at `ptr`.
pub(crate) fn write_u32(cx: &mut Cx<'_>, ptr: u32, number: u32) -> Outcome {
    write(cx, ptr, &number.to_le_bytes())
}

/// Whether `len` bytes at `ptr` are inside.
pub(crate) fn check(cx: &mut Cx<'_>, ptr: u32, len: usize) -> Outcome {
    let size = memory(cx)?.data_size(&*cx);
    match (ptr as usize).checked_add(len).is_some_and(|end| end <= size) {
        true => Ok(()),
        false => Err(OUTSIDE),
    }
}

/// Gives `bytes` to the guest: copies them to memory that it allocates, and writes address and length
/// to the places at `ptr` and `len`. No bytes have the address 0.
pub(crate) async fn give(cx: &mut Cx<'_>, bytes: &[u8], ptr: u32, len: u32) -> Outcome {
    // Before the guest allocates what it could never free.
    check(cx, ptr, 4)?;
    check(cx, len, 4)?;
    let address = match bytes.is_empty() {
        true => 0,
        false => put(cx, bytes).await?,
    };
    write_u32(cx, ptr, address)?;
    write_u32(cx, len, length(bytes)?)
}

async fn put(cx: &mut Cx<'_>, bytes: &[u8]) -> Outcome<u32> {
    let address = allocate(cx, length(bytes)?).await?;
    write(cx, address, bytes)?;
    Ok(address)
}

async fn allocate(cx: &mut Cx<'_>, size: u32) -> Outcome<u32> {
    let allocate = match &cx.data().allocate {
        Some(found) => found.clone(),
        None => allocator(cx).ok_or(OUTSIDE)?,
    };
    cx.data_mut().allocating = true;
    let address = allocate.call_async(&mut *cx, size).await;
    cx.data_mut().allocating = false;
    match address.map_err(Fail::Trap)? {
        0 => Err(OUTSIDE),
        address => Ok(address),
    }
}

fn allocator(cx: &mut Cx<'_>) -> Option<wasmtime::TypedFunc<u32, u32>> {
    let found = ["proxy_on_memory_allocate", "malloc"]
        .into_iter()
        .find_map(|name| {
            let function = cx.get_export(name)?.into_func()?;
            function.typed(&*cx).ok()
        });
    cx.data_mut().allocate.clone_from(&found);
    found
}

fn memory(cx: &mut Cx<'_>) -> Outcome<Memory> {
    if let Some(memory) = cx.data().memory {
        return Ok(memory);
    }
    let Some(Extern::Memory(memory)) = cx.get_export("memory") else {
        return Err(OUTSIDE);
    };
    cx.data_mut().memory = Some(memory);
    Ok(memory)
}

fn length(bytes: &[u8]) -> Outcome<u32> {
    u32::try_from(bytes.len()).map_err(|_| OUTSIDE)
}
