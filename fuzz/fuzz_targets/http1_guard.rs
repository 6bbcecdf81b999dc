//! Guards the framing of an HTTP/1 connection: what passes is the same requests to the parser
//! behind, however the bytes are cut, and little of it is kept.
//!
//! The first byte of an input says how the rest, the connection, is cut into reads.

#![no_main]

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use layotto_mesh::connection::fuzzing::Guard;
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
};

/// What a listener puts in place of a line that is refused.
const POISON: &[u8] = b"\0\r\n\r\n";
/// The longest head.
const MAX_HEAD: usize = 512;
/// The longest line of a chunked body.
const MAX_CHUNK_LINE: usize = 4096;
const MAX_INPUT: usize = 16 << 10;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
}

/// What becomes of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    bytes: Vec<u8>,
    refused: bool,
    heads: usize,
    between: bool,
    in_body: bool,
    /// What is in the bodies, whether or not they have ended.
    bodies: Vec<Vec<u8>>,
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, bytes)) = input.split_first() else {
        return;
    };
    if bytes.len() > MAX_INPUT {
        return;
    }
    let guarded = guard_each_byte(bytes);
    let cut = guard_cut(bytes, u32::from(*cuts));
    // Of a line that is too long the parser refuses the head.
    let is_kept = |line: &[u8]| line.len() < MAX_HEAD;
    let kept = bytes.split(|byte| *byte == b'\n').all(is_kept);
    assert!(
        cut.refused == guarded.refused || !kept,
        "the verdict depends on how bytes are cut"
    );
    if !cut.refused && kept {
        assert_eq!((cut.heads, cut.between), (guarded.heads, guarded.between));
    }
    let (bodies, broken, answers) = parsed(&cut.bytes);
    assert!(bodies.len() <= cut.heads, "more requests than heads: {answers}");
    for (parsed, guarded) in bodies.iter().zip(&guarded.bodies) {
        assert_eq!(parsed, guarded, "another body");
    }
    let ended = broken
        || answers.contains("HTTP/1.1 4")
        || answers.contains("connection: close")
        || contains(bytes, b"HTTP/1.0")
        // A listener tells HTTP/2 before; the parser has no answer to it.
        || contains(bytes, b"PRI * HTTP/2.0");
    if !cut.refused && cut.between && !ended {
        assert_eq!(bodies.len(), cut.heads, "fewer requests than heads: {answers}");
    }
    // What breaks within a body has no answer but the end of the connection.
    assert!(!cut.refused || cut.in_body || ended, "no answer: {answers}");
});

/// One byte at a time, which tells which bytes are a body's.
fn guard_each_byte(bytes: &[u8]) -> Passed {
    let mut guard = Guard::new(MAX_HEAD);
    let mut passed = Passed::default();
    for byte in bytes {
        if guard.is_in_data() {
            passed.bodies.last_mut().expect("a head goes before").push(*byte);
        }
        passed.refused = guard.check(&[*byte]).is_err();
        if passed.refused {
            break;
        }
        passed.bodies.resize(guard.heads(), Vec::new());
        assert!(guard.kept() <= 2 * MAX_HEAD.max(MAX_CHUNK_LINE));
    }
    passed.heads = guard.heads();
    passed.between = guard.is_between();
    passed.in_body = guard.is_in_body();
    passed
}

/// In reads of all sizes, as a listener passes them on.
fn guard_cut(bytes: &[u8], mut seed: u32) -> Passed {
    let mut guard = Guard::new(MAX_HEAD);
    let mut passed = Passed::default();
    let mut rest = bytes;
    while !rest.is_empty() && !passed.refused {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = rest.len().min(1 + (seed >> 24) as usize % 96);
        let (read, behind) = rest.split_at(length);
        let until = guard.check(read).err();
        passed.refused = until.is_some();
        passed.bytes.extend_from_slice(&read[..until.unwrap_or(length)]);
        rest = behind;
    }
    if passed.refused {
        passed.bytes.extend_from_slice(POISON);
    }
    passed.heads = guard.heads();
    passed.between = guard.is_between();
    passed.in_body = guard.is_in_body();
    passed
}

/// The bodies that the parser makes of a connection's bytes, whether one was none to it, and its
/// answers.
fn parsed(bytes: &[u8]) -> (Vec<Vec<u8>>, bool, String) {
    let bodies = Rc::new(RefCell::new(Vec::new()));
    let broken = Rc::new(Cell::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        let (bodies, broken) = (bodies.clone(), broken.clone());
        async move {
            let mut response = Response::new(String::new());
            if request.method() == Method::CONNECT {
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            }
            let body = request.into_body().collect().await;
            broken.set(broken.get() || body.is_err());
            let body = body?.to_bytes();
            bodies.borrow_mut().push(body.to_vec());
            Ok::<_, hyper::Error>(response)
        }
    });
    let answers = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut client, server) = duplex(4 << 20);
            client.write_all(bytes).await.expect("there is room");
            client.shutdown().await.expect("open");
            let mut builder = http1::Builder::new();
            let connection = builder
                .half_close(true)
                .max_header_size(MAX_HEAD)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(server), service);
            connection.await.ok();
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).await.expect("there is an end");
            String::from_utf8_lossy(&answers).into_owned()
        })
    });
    (bodies.take(), broken.get(), answers)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
