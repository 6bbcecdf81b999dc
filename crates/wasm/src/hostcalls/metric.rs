//! Metrics of guests.

use crate::{
    abi::Status,
    memory::{Cx, Outcome, check, text, write, write_u32},
    shared::Kind,
};

/// The longest name, in bytes.
const LONGEST: usize = 256;

pub(super) fn define(cx: &mut Cx<'_>, kind: u32, ptr: u32, len: u32, id: u32) -> Outcome {
    let name = text(cx, ptr, len)?;
    check(cx, id, 4)?;
    let kind = Kind::of(kind)?;
    if name.is_empty() || name.len() > LONGEST {
        return Err(Status::BadArgument.into());
    }
    let number = cx.data().facts.shared.metrics.define(kind, name)?;
    write_u32(cx, id, number)
}

pub(super) fn increment(cx: &mut Cx<'_>, id: u32, by: i64) -> Outcome {
    Ok(cx.data().facts.shared.metrics.increment(id, by)?)
}

pub(super) fn record(cx: &mut Cx<'_>, id: u32, value: u64) -> Outcome {
    Ok(cx.data().facts.shared.metrics.record(id, value)?)
}

pub(super) fn get(cx: &mut Cx<'_>, id: u32, value: u32) -> Outcome {
    let number = cx.data().facts.shared.metrics.get(id)?;
    write(cx, value, &number.to_le_bytes())
}
