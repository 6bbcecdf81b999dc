//! Logs of guests.

use thiserror::Error;

use crate::{
    abi::{Level, Status},
    memory::{Cx, Outcome, read, text, write_u32},
};

/// The most bytes of one line; the rest of it is cut off.
const LONGEST: u32 = 1 << 16;

pub(super) fn log(cx: &mut Cx<'_>, level: u32, ptr: u32, len: u32) -> Outcome {
    crate::memory::check(cx, ptr, len as usize)?;
    let text = text(cx, ptr, len.min(LONGEST))?;
    let level = Level::of(level).ok_or(Status::BadArgument)?;
    let guest = cx.data();
    if level >= guest.facts.host.log_level() {
        guest.facts.host.log(&guest.asker.function, level, &text);
    }
    Ok(())
}

pub(super) fn level(cx: &mut Cx<'_>, level: u32) -> Outcome {
    let now = cx.data().facts.host.log_level();
    write_u32(cx, level, now as u32)
}

/// AssemblyScript's `abort`.
#[derive(Debug, Error)]
#[error("abort: {message} at {file}:{line}:{column}")]
struct Aborted {
    message: String,
    file: String,
    line: u32,
    column: u32,
}

pub(super) fn abort(mut cx: Cx<'_>, message: u32, file: u32, line: u32, column: u32) -> wasmtime::Result<()> {
    Err(wasmtime::Error::new(Aborted {
        message: utf16(&mut cx, message),
        file: utf16(&mut cx, file),
        line,
        column,
    }))
}

/// A string of AssemblyScript: its length in bytes stands before it.
fn utf16(cx: &mut Cx<'_>, ptr: u32) -> String {
    let found = read(cx, ptr.wrapping_sub(4), 4).and_then(|length| {
        let length = length
            .first_chunk::<4>()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes));
        read(cx, ptr, length.min(LONGEST))
    });
    let units: Vec<u16> = found
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}
