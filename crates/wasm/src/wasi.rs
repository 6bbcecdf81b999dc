//! The part of WASI preview 1 that guests need to start: clocks, random numbers, their two output
//! streams, which are the log. No files, no environment, no arguments; what else there is answers
//! "not supported".

use std::time::{Duration, Instant, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use wasmtime::{ExternType, FuncType, Linker, Module, Val, ValType};

use crate::{
    abi::Level,
    guest::Guest,
    hostcalls::control::nanoseconds,
    memory::{Cx, Fail, Outcome, check, read, write, write_u32},
};

/// The names by which guests know it.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// The most bytes of a line; what is longer is logged in parts.
const LONGEST: usize = 1 << 16;

/// So many random bytes are made at a time.
const RANDOM: u32 = 1 << 16;

/// The most pieces of one `fd_write`.
const PIECES: u32 = 1024;

// The numbers are WASI's.
const SUCCESS: u32 = 0;
const BAD_DESCRIPTOR: u32 = 8;
const FAULT: u32 = 21;
const INVALID: u32 = 28;
const IO: u32 = 29;
const NOT_SUPPORTED: i32 = 58;
const SEEK_IN_PIPE: u32 = 70;

/// A guest ended itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the function ended itself by proc_exit({0})")]
pub struct Exited(pub u32);

/// Defines it, under both names.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in MODULES {
        for name in ["args_sizes_get", "environ_sizes_get"] {
            linker.func_wrap(module, name, |mut cx: Cx<'_>, count: u32, bytes: u32| {
                number(write_u32(&mut cx, count, 0).and_then(|()| write_u32(&mut cx, bytes, 0)))
            })?;
        }
        for name in ["args_get", "environ_get"] {
            linker.func_wrap(module, name, |_: Cx<'_>, _: u32, _: u32| SUCCESS)?;
        }
        linker.func_wrap(module, "clock_res_get", |mut cx: Cx<'_>, _: u32, to: u32| {
            number(write(&mut cx, to, &1_u64.to_le_bytes()))
        })?;
        linker.func_wrap(module, "clock_time_get", clock_time_get)?;
        linker.func_wrap_async(module, "random_get", |mut cx: Cx<'_>, (ptr, len)| {
            Box::new(async move { random_get(&mut cx, ptr, len).await })
        })?;
        linker.func_wrap(module, "fd_write", fd_write)?;
        linker.func_wrap(
            module,
            "fd_read",
            |mut cx: Cx<'_>, fd: u32, _: u32, _: u32, read: u32| match fd {
                0 => number(write_u32(&mut cx, read, 0)),
                _ => Ok(BAD_DESCRIPTOR),
            },
        )?;
        linker.func_wrap(module, "fd_close", |_: Cx<'_>, fd: u32| stdio(fd, SUCCESS))?;
        linker.func_wrap(module, "fd_seek", |_: Cx<'_>, fd: u32, _: i64, _: u32, _: u32| {
            stdio(fd, SEEK_IN_PIPE)
        })?;
        linker.func_wrap(module, "fd_fdstat_get", fd_fdstat_get)?;
        linker.func_wrap(module, "fd_fdstat_set_flags", |_: Cx<'_>, fd: u32, _: u32| {
            stdio(fd, SUCCESS)
        })?;
        linker.func_wrap(module, "fd_prestat_get", |_: Cx<'_>, _: u32, _: u32| {
            BAD_DESCRIPTOR
        })?;
        linker.func_wrap(
            module,
            "fd_prestat_dir_name",
            |_: Cx<'_>, _: u32, _: u32, _: u32| BAD_DESCRIPTOR,
        )?;
        linker.func_wrap(module, "sched_yield", |_: Cx<'_>| SUCCESS)?;
        linker.func_wrap_async(
            module,
            "poll_oneoff",
            |mut cx: Cx<'_>, (from, to, count, events)| {
                Box::new(async move { number(poll_oneoff(&mut cx, from, to, count, events).await) })
            },
        )?;
        linker.func_wrap(
            module,
            "proc_exit",
            |_: Cx<'_>, code: u32| -> wasmtime::Result<()> { Err(wasmtime::Error::new(Exited(code))) },
        )?;
    }
    Ok(())
}

/// What else a module imports of WASI answers that it is not supported.
pub(crate) fn link_rest(linker: &mut Linker<Guest>, module: &Module) -> wasmtime::Result<()> {
    for import in module.imports() {
        let ExternType::Func(signature) = import.ty() else {
            continue;
        };
        if MODULES.contains(&import.module()) && answers_a_number(&signature) {
            let answer = |_: Cx<'_>, _: &[Val], results: &mut [Val]| {
                results.fill(Val::I32(NOT_SUPPORTED));
                Ok(())
            };
            // One that is there already stays.
            drop(linker.func_new(import.module(), import.name(), signature, answer));
        }
    }
    Ok(())
}

fn answers_a_number(signature: &FuncType) -> bool {
    matches!(signature.results().collect::<Vec<_>>()[..], [ValType::I32])
}

fn number(outcome: Outcome) -> wasmtime::Result<u32> {
    match outcome {
        Ok(()) => Ok(SUCCESS),
        Err(Fail::Status(_)) => Ok(FAULT),
        Err(Fail::Trap(error)) => Err(error),
    }
}

fn stdio(fd: u32, answer: u32) -> u32 {
    if fd <= 2 { answer } else { BAD_DESCRIPTOR }
}

fn clock_time_get(mut cx: Cx<'_>, clock: u32, _precision: u64, to: u32) -> wasmtime::Result<u32> {
    let time = match clock {
        0 => nanoseconds(SystemTime::now()),
        1..=3 => monotonic(cx.data()),
        _ => return Ok(INVALID),
    };
    number(write(&mut cx, to, &time.to_le_bytes()))
}

/// Nanoseconds since the instance began.
fn monotonic(guest: &Guest) -> u64 {
    u64::try_from(guest.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Others have their turn while there are more to be made.
async fn random_get(cx: &mut Cx<'_>, ptr: u32, len: u32) -> wasmtime::Result<u32> {
    if check(cx, ptr, len as usize).is_err() {
        return Ok(FAULT);
    }
    let mut bytes = vec![0; RANDOM.min(len) as usize];
    let (mut at, mut left) = (ptr, len);
    loop {
        let next = RANDOM.min(left);
        let part = &mut bytes[..next as usize];
        if SystemRandom::new().fill(part).is_err() {
            return Ok(IO);
        }
        if write(cx, at, part).is_err() {
            return Ok(FAULT);
        }
        left -= next;
        if left == 0 {
            return Ok(SUCCESS);
        }
        at += next;
        let turn = cx.data().clock.turn();
        turn.await;
        cx.data().clock.check().map_err(wasmtime::Error::new)?;
    }
}

fn fd_write(mut cx: Cx<'_>, fd: u32, pieces: u32, count: u32, written: u32) -> wasmtime::Result<u32> {
    let level = match fd {
        1 => Level::Info,
        2 => Level::Error,
        _ => return Ok(BAD_DESCRIPTOR),
    };
    match gather(&mut cx, pieces, count) {
        Ok(bytes) => {
            lines(cx.data_mut(), fd as usize - 1, level, &bytes);
            number(write_u32(
                &mut cx,
                written,
                u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            ))
        }
        Err(_) => Ok(FAULT),
    }
}

fn gather(cx: &mut Cx<'_>, pieces: u32, count: u32) -> Outcome<Vec<u8>> {
    let list = read(cx, pieces, count.min(PIECES) * 8)?;
    let mut bytes = Vec::new();
    for piece in list.chunks_exact(8) {
        let (ptr, len) = piece.split_at(4);
        let word = |half: &[u8]| {
            half.first_chunk::<4>()
                .map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let room = LONGEST.saturating_sub(bytes.len());
        let len = word(len).min(u32::try_from(room).unwrap_or(u32::MAX));
        bytes.extend_from_slice(&read(cx, word(ptr), len)?);
    }
    Ok(bytes)
}

/// Logs whole lines, and keeps the rest for the next time.
fn lines(guest: &mut Guest, stream: usize, level: Level, bytes: &[u8]) {
    let kept = &mut guest.lines[stream];
    kept.extend_from_slice(bytes);
    let end = match kept.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end,
        None if kept.len() >= LONGEST => kept.len(),
        None => return,
    };
    let rest = kept.split_off((end + 1).min(kept.len()));
    let whole = std::mem::replace(kept, rest);
    for line in String::from_utf8_lossy(&whole).lines() {
        guest.facts.host.log(&guest.asker.function, level, line);
    }
}

/// The three streams are devices that can be written.
fn fd_fdstat_get(mut cx: Cx<'_>, fd: u32, to: u32) -> wasmtime::Result<u32> {
    const CHARACTER_DEVICE: u8 = 2;
    if fd > 2 {
        return Ok(BAD_DESCRIPTOR);
    }
    let mut stat = [0; 24];
    stat[0] = CHARACTER_DEVICE;
    stat[8..].fill(0xff);
    number(write(&mut cx, to, &stat))
}

/// Sleeps until the first of the clocks; whatever else is waited for counts as come.
async fn poll_oneoff(cx: &mut Cx<'_>, from: u32, to: u32, count: u32, events: u32) -> Outcome {
    const SUBSCRIPTION: u32 = 48;
    const EVENT: usize = 32;
    let list = read(cx, from, count.min(PIECES) * SUBSCRIPTION)?;
    check(cx, to, count.min(PIECES) as usize * EVENT)?;
    let subscriptions: Vec<&[u8]> = list.chunks_exact(SUBSCRIPTION as usize).collect();
    let waits: Vec<Duration> = subscriptions
        .iter()
        .map(|subscription| wait_of(cx.data(), subscription))
        .collect();
    let shortest = waits.iter().min().copied().unwrap_or_default();
    // A guest that sleeps longer than it may run is ended when its time is up.
    let slept = shortest.min(cx.data().clock.left());
    let begun = Instant::now();
    tokio::time::sleep(slept).await;
    cx.data()
        .clock
        .check()
        .map_err(|over| Fail::Trap(wasmtime::Error::new(over)))?;
    let elapsed = begun.elapsed().max(slept);
    let mut out = Vec::new();
    for (subscription, _) in subscriptions
        .iter()
        .zip(waits)
        .filter(|(_, wait)| *wait <= elapsed)
    {
        let mut event = [0; EVENT];
        event[..8].copy_from_slice(&subscription[..8]);
        event[10] = subscription[8];
        out.extend_from_slice(&event);
    }
    write(cx, to, &out)?;
    write_u32(cx, events, u32::try_from(out.len() / EVENT).unwrap_or_default())
}

/// How long one subscription waits from now on; nothing, if it is no clock.
fn wait_of(guest: &Guest, subscription: &[u8]) -> Duration {
    const CLOCK: u8 = 0;
    const ABSOLUTE: u8 = 1;
    let long = |at: usize| {
        let bytes = subscription.get(at..).and_then(|bytes| bytes.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    if subscription[8] != CLOCK {
        return Duration::ZERO;
    }
    let now = match subscription[16] {
        0 => nanoseconds(SystemTime::now()),
        _ => monotonic(guest),
    };
    match subscription[40] & ABSOLUTE {
        0 => Duration::from_nanos(long(24)),
        _ => Duration::from_nanos(long(24).saturating_sub(now)),
    }
}
